# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/newer.bash
#
# ./dev test newer: this library as a Bazel module, under Bazel 7 in a root of Debian forky (roots.bash), with Debian's sources of
# Abseil, Google Benchmark and doctest. Sourced by `dev`.

readonly newer_suite=forky
readonly newer_packages=(bazel-bootstrap bazel-rules-shell g++)

# Unpacks each into a directory of $scratch/sources: the suite's, and doctest as the machine's own, which is one header.
newer_sources() {
  local source
  for source in "abseil $root_cache/sources-$newer_suite $newer_suite" "benchmark $root_cache/sources-$newer_suite $newer_suite" \
    "doctest $root_cache"; do
    mkdir -p "$scratch/sources/${source%% *}" || return
    # shellcheck disable=SC2086  # Words.
    (cd "$scratch/sources/${source%% *}" && bash "$root/third_party/debian_source.sh" $source) || return
  done
}

test_newer() {
  local log=$scratch/sources.log
  need_root "$newer_suite" "${newer_packages[@]}" || {
    skip_part newer "$root_refusal"
    return
  }
  phase 'newer: sources' "$log" newer_sources || {
    skip_part newer "$(grep '^debian_source: ' "$log" | tail -n 1)"
    return
  }
  mkdir -p "$root_cache/bazel-$newer_suite"
  root_shares+=("$root_cache/bazel-$newer_suite:/mnt/cache:rw")
  count_program newer 'build and test it under Bazel 7' in_root "$newer_suite" tests/newer/run /mnt/scratch/sources /mnt/cache
  sed -n 's/^\(bazel 7.*\)$/    \1/p' "$scratch/newer.log" | sort -u
}
