#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: c_example_test.sh PROGRAM LIBRARY HEADER
#
# The C example prints its sum and its report; LIBRARY exports each function of HEADER with a version, and nothing else.
set -euo pipefail
export LC_ALL=C

program=$1 library=$2 header=$3
passed=0 failed=0

# check NAME EXPECTED FOUND
check() {
  if [[ $2 == "$3" ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'failed: %s\n--- expected\n%s\n--- found\n%s\n' "$1" "$2" "$3"
  fi
}

output=$("$program" memfd)
check "the first line" "memfd: the sum of 1048576 bytes is 94371840" "$(head -n 1 <<<"$output")"
check "the lines of both clients" 2 "$(grep -cE '^ +(camera|viewer) +[0-9]+ +1 +[0-9]+$' <<<"$output")"
status=0
refusal=$("$program" nosuch 2>&1 >/dev/null) || status=$?
check "the status for an interface that is none" 1 "$status"
check "its sentence" "c_buffer: any nosuch: open (no backend here has this name): EINVAL: name those of Options().order" "$refusal"

declared=$(grep -oE '^int ion_c_[a-z_]+' "$header" | cut -d ' ' -f 2 | sed 's/$/@@ION_C_0.1/' | sort)
check "the exported functions" "$declared" "$(nm -Dg --defined-only "$library" | awk '$2 == "T" { print $3 }' | sort)"
check "what else is exported" "ION_C_0.1" "$(nm -Dg --defined-only "$library" | awk '$2 != "T" { print $3 }' | sort)"

echo "$passed passed, $failed failed, 0 skipped"
exit "$((failed > 0))"
