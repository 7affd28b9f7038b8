#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: sanitizer_control_test.sh CONTROL SANITIZER
# A sanitizer that is configured but not linked, or not told to stop, would let every test pass: each planted error has
# to be reported and to end the program with an error.
set -euo pipefail

control=$1
sanitizer=$2
passed=0
failed=0
skipped=0

# WANTED is the configuration in which ERROR has to be reported as REPORT.
expect() {
  local wanted=$1 error=$2 report=$3 output
  if [[ $sanitizer != "$wanted" ]]; then
    skipped=$((skipped + 1))
    echo "skipped: $error -- only the $wanted sanitizer catches it, and this build has '$sanitizer'"
  elif output=$("$control" "$error" 2>&1); then
    failed=$((failed + 1))
    echo "failed: $error: the program ended well:"
    echo "$output"
  elif ! grep -qF "$report" <<<"$output"; then
    failed=$((failed + 1))
    echo "failed: $error: no '$report' in:"
    echo "$output"
  else
    passed=$((passed + 1))
  fi
}

expect address use-after-free "heap-use-after-free"
expect address leak "detected memory leaks"
expect address signed-overflow "signed integer overflow"
expect thread data-race "data race"
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 ]]
