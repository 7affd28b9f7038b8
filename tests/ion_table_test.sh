#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Each row of the table of ION's names in ion/README.md names a test case that exists.
set -euo pipefail

readonly readme=$1
shift

rows=0 failed=0
while IFS='|' read -r _ name _ case _; do
  case=$(sed 's/^ *//; s/ *$//' <<<"$case")
  rows=$((rows + 1))
  if ! grep -qF -- "TEST_CASE(\"$case" "$@" && ! grep -qF -- "TEST_CASE_TEMPLATE(\"$case" "$@"; then
    echo "failed: $name: no test case begins with '$case'"
    failed=$((failed + 1))
  fi
done < <(sed -n '/^| ION.s name /,/^$/p' "$readme" | sed 1,2d | grep '^|')

if ((rows < 25)); then
  echo "failed: the table has $rows rows only"
  failed=$((failed + 1))
fi
echo "$((rows - failed < 0 ? 0 : rows - failed)) passed, $failed failed, 0 skipped"
((failed == 0))
