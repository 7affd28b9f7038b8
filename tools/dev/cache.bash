# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/cache.bash
#
# The disk cache of .bazelrc, into which Bazel puts what it builds and never takes anything out. Sourced by `dev`.

readonly build_cache=${HOME:-}/.cache/ion/bazel build_cache_mib=${ION_BUILD_CACHE_MIB:-10240}

# Takes out what was not used for longest, until the rest is small enough. A Bazel that runs meanwhile keeps what it has opened,
# puts in more, and builds what it misses. Most file systems note a reading once a day: the last one that is known may be a day too old.
bound_build_cache() {
  [[ -d $build_cache ]] || return 0
  { find "$build_cache" -type f -printf '%A@ %T@ %s %p\n' 2>/dev/null || :; } |
    awk '{ print ($1 > $2 ? $1 : $2), $3, $4 }' |
    LC_ALL=C sort -rn |
    awk -v most="$((build_cache_mib * 1048576))" '(sum += $2) > most { print $3 }' |
    xargs -r -d '\n' rm -f --
}
