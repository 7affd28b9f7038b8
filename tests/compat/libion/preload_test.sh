#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: preload_test.sh
# A program under the preload, on a kernel without ION. Prints the preload's price: to open and to ask other files, and the start of
# a program, with it and without it. No price fails the test.
set -euo pipefail

program=tests/compat/libion/preload_program
preload=$PWD/compat/preload/libion_preload.so
summary() { sed -n 's/^\([0-9]* passed, [0-9]* failed, [0-9]* skipped\)$/\1/p' "$1"; }

if [[ -e /dev/ion ]]; then
  echo "skipped: the preload's own work: this kernel has /dev/ion"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi

log=$(mktemp "${TEST_TMPDIR:-${TMPDIR:-/tmp}}/preload.XXXXXX")
status=0
[[ -e /dev/dma_heap ]] || argument=without_dma_heaps
LD_PRELOAD=$preload "$program" ${argument:+"$argument"} >"$log" 2>&1 || status=$?
grep -vE ' passed, .* skipped$' "$log" || :
read -r passed _ failed _ < <(summary "$log"; echo "0 0 1 0")
((status == 0)) || { echo "failed: the program exited with $status" && failed=$((failed + 1)); }

# A guest's processor is emulated, and its times tell nothing.
if [[ -n ${ION_RESERVED_BASE:-} ]]; then
  echo "skipped: the preload's price: this is a guest"
  echo "$passed passed, $failed failed, 1 skipped"
  ((failed == 0))
  exit
fi

# The least of some, in turn, because the machine has other work.
least=(- - - -) least_without=(- - - -)
lower() { [[ $2 != - ]] && (($2 <= $1)) && echo "$2" || echo "$1"; }
for _ in 1 2 3; do
  read -ra without < <("$program" cost)
  read -ra with < <(LD_PRELOAD=$preload "$program" cost)
  for i in 0 1 2 3; do
    least_without[i]=$(lower "${without[i]}" "${least_without[i]}")
    least[i]=$(lower "${with[i]}" "${least[i]}")
  done
done
names=('open of a file' 'open of no file' 'an ioctl of another letter' 'the start of a program')
for i in 0 1 2 3; do echo "${names[i]}: ${least_without[i]} ns, under the preload ${least[i]} ns"; done
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
