#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: examples_test.sh PROGRAM…
#
# Each program of examples/README.md ends well, and prints something.
set -euo pipefail

passed=0 failed=0
for program in "$@"; do
  status=0
  text=$("$program" 2>&1) || status=$?
  if ((status == 0)) && [[ -n $text ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "failed: $program: status $status: $text"
  fi
done
((passed + failed)) || { echo "failed: no program was named"; failed=1; }
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
