#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: symbols_test.sh
# The shared libraries export the functions that they stand for, and nothing else; the part that every program loads needs
# the C library alone.
set -euo pipefail

passed=0 failed=0

# exports LIBRARY SYMBOL…
exports() {
  local library=$1 found
  shift
  found=$(nm -D --defined-only --extern-only "$library" | awk '{ print $3 }' | sort)
  if [[ $found == "$(printf '%s\n' "$@" | sort)" ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "failed: $library exports others than it should:"
    diff <(printf '%s\n' "$@" | sort) - <<<"$found" || :
  fi
}

exports compat/libion/libion.so ion_open ion_close ion_alloc ion_alloc_fd ion_sync_fd ion_free ion_map ion_share ion_import \
  ion_query_heap_cnt ion_query_get_heaps ion_is_legacy ion_is_using_modular_heaps
exports compat/preload/libion_preload.so open open64 openat openat64 __open_2 __open64_2 __openat_2 __openat64_2 ioctl access \
  stat stat64 lstat lstat64 __xstat __xstat64 __lxstat __lxstat64
exports compat/preload/libion_preload_served.so ion_served_functions

# The shared libraries that it needs.
needed=$(readelf -d compat/preload/libion_preload.so | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
if grep -vE '^(libc|libdl|libpthread)\.so' <<<"$needed"; then
  failed=$((failed + 1))
  echo "failed: libion_preload.so needs more than the C library, as above"
else
  passed=$((passed + 1))
fi
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
