# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/packages.bash
#
# The Debian packages that each command needs, and how they come. Sourced by `dev`.

readonly build_packages=(
  bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto bazel-skylib
  dpkg-dev g++ libc6-dev libpng-dev linux-libc-dev nlohmann-json3-dev
)
# Clang's sanitizers link the runtime, which clang only recommends.
readonly clang_packages=(clang libclang-rt-14-dev)

# For tests/builds, which compiles our headers with another C library, with another C++ library, and for 32 bits.
readonly compile_packages=(g++-12-multilib libc++-16-dev musl-dev)

# The libraries with which tests/unit/ion compares codes of formats and layouts; a test skips one that is not there.
readonly peer_packages=(libavutil-dev libdrm-dev libgstreamer-plugins-base1.0-dev pkg-config)

# The machines of ./dev test cross: configurations of .bazelrc.
readonly cross_machines=(arm64 armhf riscv64)

cross_compiler() {
  case $1 in
    arm64) echo g++-aarch64-linux-gnu ;;
    armhf) echo g++-arm-linux-gnueabihf ;;
    *) echo "g++-$1-linux-gnu" ;;
  esac
}

# The contenders of the benchmarks.
readonly bench_packages=(libboost-dev libconcurrentqueue-dev libdpdk-dev libgstreamer1.0-dev pkg-config)

# The other build systems of tests/embedding.
readonly embedding_packages=(cmake libabsl-dev meson ninja-build pkg-config)

no_install=no

# Takes --no-install out of a command's arguments, and leaves the array remaining; arguments after -- are not ours.
take_no_install() {
  remaining=()
  while (($#)) && [[ $1 != -- ]]; do
    if [[ $1 == --no-install ]]; then no_install=yes; else remaining+=("$1"); fi
    shift
  done
  remaining+=("$@")
}

# The same for every kernel.
guest_packages() { "$root/tests/guest/guest" --packages "$(kernels | head -n 1)"; }

missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done | sort -u
}

# Prints the words that make the next ones root's; none for root. A password is asked for only on a terminal.
as_root() {
  ((EUID == 0)) || if [[ -t 0 ]]; then echo sudo; else echo sudo -n; fi
}

apt_as_root() {
  local prefix
  read -ra prefix <<<"$(as_root)"
  "${prefix[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@"
}

install_packages() { apt_as_root update && apt_as_root -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"; }

# need_packages PACKAGE…: installs them. Returns status_packages, with a sentence, if it cannot.
need_packages() {
  local missing line log=$scratch/apt.log
  type dpkg-query >/dev/null 2>&1 || {
    say "this machine has no dpkg-query: these commands are made for Debian 12"
    return "$status_packages"
  }
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  line="apt-get install --no-install-recommends ${missing[*]}"
  if [[ $no_install == yes ]]; then
    echo "$line"
    return "$status_packages"
  fi
  if ((EUID != 0)) && ! type sudo >/dev/null 2>&1; then
    say "packages are missing, and there is no sudo; as root, run: apt-get update; $line"
    return "$status_packages"
  fi
  say "packages are missing: ${missing[*]}"
  # Here, and not in a job of the background, sudo may ask.
  ((EUID == 0)) || [[ ! -t 0 ]] || sudo -v || return "$status_packages"
  phase "install ${#missing[@]} packages and their dependencies" "$log" install_packages "${missing[@]}" || {
    tail -n 15 "$log" | indent >&2
    say "the packages could not be installed (above); when that is mended, as root: apt-get update; $line"
    return "$status_packages"
  }
}
