# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/roots.bash
#
# Small roots of Debian's suites, for compilers and libraries that this machine's own suite lacks. debootstrap makes each once,
# <cache>/root-SUITE, from the mirror of the machine's own apt; programs enter it by chroot. The machine itself stays as it is. A
# root takes about a minute, and 0.3 GiB and its packages. `rm -rf` takes it away. Sourced by `dev`.
#
#   need_root SUITE PACKAGE…   makes the root and installs what it lacks; if it cannot, returns 1 and sets root_refusal to the reason
#   in_root SUITE CMD…         runs CMD in the root; see there
#   root_offers SUITE PACKAGE  returns true if the suite has the package
#   root_of SUITE              prints the path

readonly root_packages=(debian-archive-keyring debootstrap)
readonly root_cache=${ION_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/ion}

root_refusal=''

root_of() { echo "$root_cache/root-$1"; }

# Runs CMD as root.
with_privilege() {
  local prefix
  read -ra prefix <<<"$(as_root)"
  "${prefix[@]}" "$@"
}

# enter DIRECTORY CMD…: chroot as root, with an environment of its own.
enter() {
  local directory=$1
  shift
  # Some packages, Java's among them, can be configured only with a /proc. It is this shell's own, and goes with it.
  # shellcheck disable=SC2016  # The inner shell expands these.
  with_privilege unshare --mount --propagation private -- bash -euc 'mount -t proc proc "$1/proc" && exec chroot "$@"' enter "$directory" \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive ${http_proxy:+"http_proxy=$http_proxy"} "$@"
}

mirror_of() (
  # shellcheck source-path=SCRIPTDIR source=../../third_party/private_apt.bash
  . "$root/third_party/private_apt.bash"
  suite_repository "$1" | awk '{ print $(NF - 2) }'
)

# A debootstrap that is older than the suite makes it as it makes sid.
script_of() {
  local scripts=/usr/share/debootstrap/scripts
  if [[ -e $scripts/$1 ]]; then echo "$scripts/$1"; else echo "$scripts/sid"; fi
}

# The root appears by a rename, so that it is whole if it is there.
make_root() {
  local suite=$1 mirror=$2 new
  new=$(root_of "$suite").new
  with_privilege rm -rf --one-file-system "$new" || return
  with_privilege debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    "$suite" "$new" "$mirror" "$(script_of "$suite")" || {
    with_privilege tail -n 5 "$new/debootstrap/debootstrap.log" 2>/dev/null
    return 1
  }
  with_privilege chmod 755 "$new"
  with_privilege mv -T "$new" "$(root_of "$suite")"
}

# Prints those of PACKAGE… that the root lacks.
missing_in_root() {
  local directory
  directory=$(root_of "$1")
  shift
  { dpkg-query --admindir="$directory/var/lib/dpkg" -W \
    -f '${db:Status-Status} ${binary:Package}\n${db:Status-Status} ${Package}:${Architecture}\n${db:Status-Status} ${Package}\n' "$@" \
    2>/dev/null || :; } |
    awk -v wanted="$*" '$1 == "installed" { has[$2] = 1 }
      END { n = split(wanted, list, " "); for (i = 1; i <= n; i++) if (!(list[i] in has)) print list[i] }'
}

# PACKAGE:ARCHITECTURE is one of a foreign architecture, which the root then knows.
install_in_root() {
  local directory package
  directory=$(root_of "$1")
  shift
  for package in "$@"; do
    [[ $package != *:* ]] || enter "$directory" dpkg --add-architecture "${package#*:}" || return
  done
  # A mirror may keep a suite for longer than its signed lists are dated; see suite_repository.
  enter "$directory" apt-get -qq -o Acquire::Check-Valid-Until=no update &&
    enter "$directory" apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" &&
    enter "$directory" apt-get clean
}

# Returns true if apt in the root knows a version of PACKAGE.
root_offers() { grep -qE '^  Candidate: [^(]' <<<"$(enter "$(root_of "$1")" apt-cache policy "$2")"; }

# The reason that a log of apt's or debootstrap's gives.
reason_in() { grep -m 1 -E '^[EW]: ' "$1" || tail -n 1 "$1"; }

# need_root, while nobody else changes the root.
complete_root() {
  local suite=$1 mirror missing log=$scratch/root-$1.log
  shift
  if [[ ! -d $(root_of "$suite") ]]; then
    mirror=$(mirror_of "$suite")
    [[ -n $mirror ]] || {
      root_refusal="no source of this machine's apt is Debian's; the root of $suite comes from there"
      return 1
    }
    phase "root of $suite: make it" "$log" make_root "$suite" "$mirror" || {
      root_refusal="the root of $suite cannot be made: $(reason_in "$log")"
      return 1
    }
  fi
  mapfile -t missing < <(missing_in_root "$suite" "$@")
  ((${#missing[@]} == 0)) ||
    phase "root of $suite: install ${#missing[@]} packages" "$log" install_in_root "$suite" "${missing[@]}" || {
    root_refusal="the root of $suite lacks ${missing[*]}: $(reason_in "$log")"
    return 1
  }
}

need_root() {
  local lock status=0
  need_packages "${root_packages[@]}" || {
    root_refusal="packages are missing: ${root_packages[*]}"
    return 1
  }
  (umask 077 && mkdir -p "$root_cache") || die "$status_failed" "$root_cache cannot be made: set ION_CACHE to a directory that can be written"
  exec {lock}>"$root_cache/root-$1.lock"
  flock --nonblock "$lock" || {
    say "somebody else changes the root of $1; waiting"
    flock "$lock"
  }
  complete_root "$@" || status=1
  exec {lock}>&-
  return "$status"
}

# More directories for CMD of in_root: FROM:TO, or FROM:TO:rw if CMD may write there. TO is below /mnt.
root_shares=()

# in_root SUITE CMD…: runs CMD in the root, as this user. CMD finds the checkout at /mnt/ion, read-only and its current
# directory, the scratch directory at /mnt/scratch, each of root_shares, a /proc and the root's own /dev. CMD may begin
# with NAME=VALUE for its environment, which is otherwise empty. The mounts are its own and go with it.
in_root() {
  local suite=$1
  shift
  # shellcheck disable=SC2016  # The inner shell expands these.
  with_privilege unshare --mount --propagation private -- bash -euc '
    directory=$1 user=$2 n=$3
    shift 3
    for share in "${@:1:n}"; do
      IFS=: read -r from to mode <<<"$share"
      mkdir -p "$directory$to"
      mount --bind "$from" "$directory$to"
      [[ $mode == rw ]] || mount -o remount,bind,ro "$directory$to"
    done
    shift "$n"
    mount -t proc proc "$directory/proc"
    exec chroot --userspec="$user" "$directory" env -i -C /mnt/ion PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt/scratch \
      TMPDIR=/mnt/scratch LC_ALL=C "$@"
  ' in_root "$(root_of "$suite")" "$EUID:$(id -g)" "$((${#root_shares[@]} + 2))" \
    "$root:/mnt/ion" "$scratch:/mnt/scratch:rw" "${root_shares[@]}" "$@"
}
