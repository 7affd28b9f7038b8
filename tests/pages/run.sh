#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: run.sh LIBRARY PROGRAM, from the workspace's runfiles. Runs PROGRAM, a test, as on machines with pages of 16 and 64 KiB.
set -euo pipefail

library=$PWD/$1 program=$2
passed=0 failed=0 skipped=0 status=0
for bytes in 16384 65536; do
  log=$TEST_TMPDIR/$bytes.log
  LD_PRELOAD=$library ION_TEST_PAGE_BYTES=$bytes "$program" >"$log" 2>&1 || status=$?
  sed '$d' "$log"
  if read -r p _ f _ s _ < <(tail -n 1 "$log" | grep -xE '[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped'); then
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  else
    tail -n 1 "$log"
    echo "failed: pages of $bytes bytes: $program ended without its last line"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed, $skipped skipped"
exit $((status != 0 || failed != 0))
