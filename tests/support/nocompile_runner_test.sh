#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: nocompile_runner_test.sh RUNNER
# The runner of nocompile_test has to fail where a case compiles, says something else, or is not there.
set -euo pipefail

runner=$1
source=$TEST_TMPDIR/source.cc
flags=$TEST_TMPDIR/flags.txt
passed=0
failed=0
: >"$flags"

# Arguments: the wanted exit code, a line that has to be printed, the source.
expect() {
  local want_code=$1 want=$2 code=0 output
  printf '%s\n' "$3" >"$source"
  output=$("$runner" "$source" "$flags" 2>&1) || code=$?
  if [[ $code == "$want_code" ]] && grep -qF -- "$want" <<<"$output" &&
    tail -n 1 <<<"$output" | grep -qE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$'; then
    passed=$((passed + 1))
    return
  fi
  failed=$((failed + 1))
  printf 'failed:\n%s\nwant exit code %s and: %s\ngot exit code %s and:\n%s\n' "$3" "$want_code" "$want" "$code" "$output"
}

case_of() {
  printf '%s\n' "// EXPECT $1: $2" "#if defined(CASE_$1)" "$3" "#endif"
}

says='static_assert(sizeof(char) == 2, "ion: use two bytes");'
expect 0 " 0 failed, " "$(case_of narrow 'ion: use two bytes' "$says")"
expect 1 "narrow: g++ compiles it" "$(case_of narrow 'ion: use two bytes' 'int x;')"
expect 1 "narrow: g++ does not say 'ion: use three bytes'" "$(case_of narrow 'ion: use three bytes' "$says")"
expect 1 "g++ refuses it without any case" "$says"$'\n'"$(case_of narrow 'ion: use two bytes' "$says")"
expect 1 "needs one '#if defined(CASE_case)'" "// EXPECT narrow: ion: use two bytes"
expect 1 "needs one '#if defined(CASE_case)'" \
  "$(case_of narrow 'ion: use two bytes' "$says")"$'\n''#if defined(CASE_forgotten)'$'\n''#endif'
expect 1 "it has no line '// EXPECT case: sentence'" "int x;"
echo "$passed passed, $failed failed, 0 skipped"
[[ $failed -eq 0 ]]
