#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: device_conformance_options_test.sh DEVICE_CONFORMANCE LINUX_3_10
# What device_conformance does with its options, and on a kernel that has little.
set -euo pipefail

program=$1 linux_3_10=$2
passed=0 failed=0 skipped=0

# expect EXIT_STATUS PATTERN WITHOUT COMMAND…: the output has lines that match PATTERN, and none that match WITHOUT.
expect() {
  local want=$1 pattern=$2 without=$3 status=0 output
  shift 3
  output=$("$@" 2>&1) || status=$?
  if ((status == want)) && grep -qE -- "$pattern" <<<"$output" && ! grep -qE -- "$without" <<<"$output"; then
    passed=$((passed + 1))
    return
  fi
  failed=$((failed + 1))
  printf 'failed: %s\nwant exit status %s, a line with %s and none with %s\ngot exit status %s and:\n%s\n' \
    "$*" "$want" "$pattern" "$without" "$status" "$output"
}

never='^no line$'
for wrong in --nonsense nonsense --backend --backend= --backend=nobody --dt-list-test-cases; do
  expect 2 '^usage: device_conformance' "$never" "$program" "$wrong"
done
expect 0 '^usage: device_conformance' '[0-9] passed, ' "$program" --help
for backend in dma_heap ion ion_legacy udmabuf memfd; do
  expect 0 "^$backend: (opens|does not open: .*: E[A-Z]+: )" '[0-9] passed, ' "$program" --list
done
expect 0 '^  heap memfd: system, cached, zeroed' '^(dma_heap|ion|ion_legacy|udmabuf): ' "$program" --list --backend=memfd
expect 0 '^Backend: .*<memfd>$' "$never" "$program" --backend=memfd
expect 0 '^[1-9][0-9]* passed, 0 failed, [0-9]+ skipped$' '(<|over )(dma_heap|ion|ion_legacy|udmabuf)' "$program" --backend=memfd

status=0
"$linux_3_10" "$program" --help >/dev/null 2>&1 || status=$?
if ((status == 77)); then
  skipped=1
  echo 'skipped: on Linux 3.10 -- its system calls cannot be told from newer ones here'
else
  expect 0 '^memfd: does not open: .* ENOSYS: .*seccomp' "$never" "$linux_3_10" "$program" --list
  expect 1 '^0 passed, 1 failed, 0 skipped$' '<memfd>' "$linux_3_10" "$program" --backend=memfd
fi
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
