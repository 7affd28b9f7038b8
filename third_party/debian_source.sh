#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: debian_source.sh PACKAGE CACHE [SUITE]
# Unpacks Debian's source package PACKAGE into the current directory, that of the machine's own suite or of SUITE. The package
# itself is kept in CACHE/PACKAGE, so that only the first run needs the network.
#
# apt verifies the archive's signature and the sum of the .dsc when it fetches; dpkg-source verifies the sums that the
# .dsc states, each time. A kept package that fails the latter is fetched anew; of the former nothing is left, so a
# CACHE that somebody else may write to is refused.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=private_apt.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/private_apt.bash"

package=$1
cache=$2
suite=${3:-}

fail() {
  echo "debian_source: $*" >&2
  exit 1
}

need() {
  command -v "$1" >/dev/null || fail "$1 is missing: install the Debian package '$2'."
}

source_repositories() {
  if [[ -z $suite ]]; then machine_repositories deb-src; else suite_repository "$suite" | sed 's/^deb /deb-src /'; fi
}

fetch() {
  need apt-get apt
  local new="$cache/$package.new"
  rm -rf "$new"
  mkdir -p "$new" "$cache/apt"
  source_repositories >"$cache/apt/sources.list"
  [[ -s "$cache/apt/sources.list" ]] ||
    fail "apt knows no repository: add one to /etc/apt/sources.list.d, then run apt-get update."
  private_apt "$cache/apt" apt-get update >&2 || fail "apt-get update failed: check the network and the machine's apt sources (above)."
  (cd "$new" && private_apt "$cache/apt" apt-get source --download-only "$package" >&2) ||
    fail "apt cannot get the source package '$package': check the network and the machine's apt sources (above)."
  rm -rf "${cache:?}/$package"
  mv "$new" "$cache/$package"
}

unpack() {
  local dsc
  dsc=$(find "$cache/$package" -maxdepth 1 -name "*.dsc" 2>/dev/null | head -n 1)
  [[ -n $dsc ]] || return 1
  rm -rf unpacked
  dpkg-source --no-copy --require-strong-checksums --extract "$dsc" unpacked >&2
}

[[ $cache == /* ]] || fail "ION_CACHE has to be an absolute path, not '$cache'."
need dpkg-source dpkg-dev
(umask 077 && mkdir -p "$cache") || fail "cannot create $cache: set ION_CACHE to a directory that can be written."
[[ -O $cache && -z $(find "$cache" -maxdepth 0 -perm /022) ]] ||
  fail "others may write to $cache, and what lies there is compiled: chown it to yourself and chmod go-w it."
exec 9>"$cache/lock"
flock 9
unpack || { fetch && unpack; } || fail "the source package '$package' cannot be unpacked (above)."
shopt -s dotglob
mv unpacked/* .
rmdir unpacked
