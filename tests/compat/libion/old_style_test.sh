#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: old_style_test.sh
# Programs in ION's old style print the same on every machine, line by line: with the kernel's /dev/ion, and without. Their
# output stands in old_style.*.expected; a kernel with ION speaks one interface only, and there the other is not run.
set -euo pipefail

here=tests/compat/libion
passed=0 failed=0 skipped=0

# expect WHAT ABI CMD…: the program's output is that of the interface.
expect() {
  local what="$1, $2" abi=$2
  shift 2
  if diff -u "$here/old_style.$abi.expected" <(ION_COMPAT_ABI=$abi "$@" "$abi" 2>&1); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "failed: $what: differs from $here/old_style.$abi.expected, as above"
  fi
}

preload=$PWD/compat/preload/libion_preload.so
for abi in legacy modern; do
  if [[ -e /dev/ion && $abi == legacy ]]; then
    skipped=$((skipped + 3))
    echo "skipped: the interface with handles: this kernel's /dev/ion has the other"
    continue
  fi
  expect 'libion' "$abi" "$here/old_style_libion"
  expect 'ioctls under the preload' "$abi" env LD_PRELOAD="$preload" "$here/old_style_raw"
  expect 'libion under the preload' "$abi" env LD_PRELOAD="$preload" "$here/old_style_libion"
done
if [[ -e /dev/ion ]]; then
  expect 'ioctls of the kernel' modern "$here/old_style_raw"
fi
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0 && passed > 0))
