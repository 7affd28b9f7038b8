#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: test_main_test.sh CONTROL
# Runs test_main_control and compares its last lines and its exit code.
set -euo pipefail

control=$1
passed=0
failed=0

# Arguments: the wanted exit code, the wanted last lines, then the control's own arguments.
expect() {
  local want_code=$1 want=$2 code=0 output got
  shift 2
  output=$("$control" "$@" 2>&1) || code=$?
  got=$(tail -n "$(wc -l <<<"$want")" <<<"$output")
  if [[ $code == "$want_code" && $got == "$want" ]]; then
    passed=$((passed + 1))
    return
  fi
  failed=$((failed + 1))
  printf 'failed: %s\nwant exit code %s and last lines:\n%s\ngot exit code %s and:\n%s\n' \
    "$*" "$want_code" "$want" "$code" "$output"
}

skip_line='skipped: a case that is skipped -- no heap; no device
skipped: a case of which a part is skipped, one, 8 MiB -- no room
skipped: a case of which a part is skipped, two -- no access
skipped: a case of which each part is skipped -- one: no access; two: no access'

expect 1 "$skip_line"$'\n''2 passed, 2 failed, 4 skipped'
expect 0 "$skip_line"$'\n''2 passed, 0 failed, 4 skipped' '--dt-test-case-exclude=*fails'
expect 0 $'[doctest] Status: SUCCESS!\n1 passed, 0 failed, 0 skipped' '--dt-test-case=a case that passes'
expect 1 $'no test case ran: check the filters, and that the test\'s sources are linked\n0 passed, 0 failed, 0 skipped' \
  '--dt-test-case=no such case'
echo "$passed passed, $failed failed, 0 skipped"
[[ $failed -eq 0 ]]
