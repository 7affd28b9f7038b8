# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tests/guest/kernel.bash
#
# The kernels of kernels.tsv: looked up, built once from Debian's source package, and kept in a cache outside the checkout; and
# our modules for them. Sourced by `guest`, which provides here, cache, on_exit, the statuses, say and die.
#
# An entry of the cache is named after the source package, its version and a hash of the wanted options and of what is made,
# and holds bzImage, the complete configuration, and what modules are built against: headers, tools, symbols. It appears by one
# rename: what is there is whole. Our modules come into the entry when they are first wanted, as a directory named after a hash of
# their sources, by a rename, too: two checkouts with different sources can share a kernel.
#
# A cached kernel is used without asking apt whether there is a newer source: a run must work with no network and no package
# lists, and must not change kernels behind the back of whoever compares two runs. --build-only --update is how one asks.

# shellcheck source-path=SCRIPTDIR source=../../third_party/private_apt.bash
. "$here/../../third_party/private_apt.bash"

readonly run_packages=(qemu-system-x86 busybox-static cpio)
readonly build_packages=(gcc make bc flex bison libelf-dev libssl-dev xz-utils)
readonly kernels=$cache/kernels
# With `modules` come the tables that modules are linked by; the kernel itself has none.
readonly kernel_targets=(bzImage modules)
readonly build_tree=build-tree.tar.gz
readonly heartbeat_seconds=15

table() { grep -v '^#' "$here/kernels.tsv"; }

versions() { table | cut -f 1 | paste -sd ' '; }

# Sets kernel_source (a package), kernel_suite and kernel_options (a file name per element).
look_up() {
  local row files
  row=$(table | awk -F '\t' -v version="$1" '$1 == version')
  [[ -n $row ]] || die "$status_usage" "there is no kernel '$1'; the table has: $(versions)"
  IFS=$'\t' read -r _ kernel_source kernel_suite files _ <<<"$row"
  IFS=, read -ra kernel_options <<<"$files"
}

# The wanted options, one line per symbol: of two lines for one symbol the last wins.
wanted_options() {
  (cd "$here" && cat "${kernel_options[@]}") |
    awk '/^CONFIG_/ { split($0, part, "="); symbol = part[1] }
         /^# CONFIG_.* is not set$/ { symbol = $2 }
         symbol { if (!(symbol in line)) order[++n] = symbol; line[symbol] = $0; symbol = "" }
         END { for (i = 1; i <= n; i++) print line[order[i]] }'
}

short_hash() { sha256sum | cut -c 1-12; }

entry_name() { echo "${kernel_source}_$1_$({ echo "${kernel_targets[*]}" && wanted_options; } | short_hash)"; }

# The directory of our modules for an entry, whether it is there or not.
modules_of() { echo "$1/modules-$(cat "$here"/probe/* | short_hash)"; }

# What lies in the cache is run: it has to be ours alone. Kbuild takes no blank and no colon in a path.
check_cache() {
  [[ $cache == /* && $cache != *[[:space:]:]* ]] ||
    die "$status_harness" "ION_CACHE has to be an absolute path without blanks and colons, not '$cache'"
  [[ ! -e $cache || (-O $cache && -z $(find "$cache" -maxdepth 0 -perm /022)) ]] ||
    die "$status_harness" "others may write to $cache: chown it to yourself and chmod go-w it"
}

# The newest cached entry with these options, or nothing.
cached_entry() {
  [[ ! -d $kernels ]] || find "$kernels" -mindepth 1 -maxdepth 1 -name "$(entry_name '*')" | sort -V | tail -n 1
}

missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
}

require_packages() {
  local missing
  missing=$(missing_packages "$@" | paste -sd ' ')
  [[ -z $missing ]] || die "$status_packages" "packages are missing; run: apt-get install --no-install-recommends $missing"
}

kernel_repositories() {
  if [[ $kernel_suite == - ]]; then machine_repositories deb; else suite_repository "$kernel_suite"; fi
}

kernel_apt() { LC_ALL=C private_apt "$kernels/apt" "$@"; }

# no_source WHAT FILE: ends the run; FILE is what apt said.
no_source() { die "$status_source" "$1: $(grep -m 1 '^[EW]: ' "$2" || echo 'apt gives no reason')"; }

# Sets source_version. A list that does not come may be one that is not needed: the candidate decides.
find_source() {
  local log=$kernels/apt/log
  mkdir -p "$kernels/apt"
  kernel_repositories >"$kernels/apt/sources.list" && [[ -s $kernels/apt/sources.list ]] ||
    die "$status_source" "no source of this machine's apt is Debian's; $kernel_source comes from there"
  kernel_apt apt-get update >"$log" 2>&1 || :
  source_version=$(kernel_apt apt-cache policy "$kernel_source" 2>>"$log" | awk '$1 == "Candidate:" { print $2 }') || source_version=''
  [[ -n $source_version && $source_version != '(none)' ]] || no_source "apt knows no package $kernel_source" "$log"
}

phase() { say "$(printf '%4d s  %s' $((SECONDS - build_start)) "$*")"; }

fetch_source() {
  (cd "$build" && kernel_apt apt-get download "$kernel_source=$source_version") >"$build/log" 2>&1 ||
    no_source "cannot download $kernel_source $source_version" "$build/log"
}

# No build for x86 reads these files, and to write and to remove them takes time. Each Kconfig stays: one that another names must
# be there, whatever the condition.
readonly not_unpacked=(
  '*/arch/[a-w]*/*.[chS]' '*/arch/[a-w]*/*.dts*' '*/Documentation/*/*.rst' '*/Documentation/*/*.yaml' '*/Documentation/*/*.txt'
  '*/drivers/gpu/drm/amd/include/*.h' '*/tools/testing/*.[chS]'
)

unpack_source() {
  mkdir "$build/source"
  dpkg-deb --fsys-tarfile "$build"/*.deb | tar -xO "./usr/src/$kernel_source.tar.xz" |
    LC_ALL=C tar -xJ -C "$build/source" --strip-components=1 "${not_unpacked[@]/#/--exclude=}"
  rm "$build"/*.deb
}

# Ends the shell it is called in: as a background job it then is make itself, which can be stopped, and which stops when the
# harness is killed.
run_make() { exec setpriv --pdeathsig TERM env -u MAKEFLAGS -u MAKELEVEL LC_ALL=C make ARCH=x86_64 "$@"; }

kernel_make() { run_make -C "$build/source" O="$build/objects" "$@"; }

configure() {
  mkdir "$build/objects"
  wanted_options >"$build/wanted"
  (kernel_make KCONFIG_ALLCONFIG="$build/wanted" allnoconfig) >"$build/log" 2>&1 || build_failed
  local lost
  lost=$(lost_options "$build/wanted" "$build/objects/.config")
  [[ -z $lost ]] || die "$status_harness" "the kernel's configuration did not keep these options (a dependency is missing or the name is wrong):"$'\n'"$lost"
}

# Kconfig drops, without a word, an option whose dependencies do not hold.
lost_options() {
  awk 'NR == FNR { if (/^CONFIG_/) { split($0, part, "="); has[part[1]] = $0 } next }
       /^CONFIG_/ { split($0, part, "="); if (has[part[1]] != $0) print "  " $0 }
       /^#/ { if ($2 in has) print "  " $0 }' "$2" "$1"
}

stop_make() { [[ -z $make_pid ]] || { kill "$make_pid" && wait "$make_pid"; }; }

compile() {
  local beat=$SECONDS
  kernel_make -j"$(nproc)" "${kernel_targets[@]}" >>"$build/log" 2>&1 &
  make_pid=$!
  on_exit+=(stop_make)
  while kill -0 "$make_pid" 2>/dev/null; do
    sleep 1
    if ((SECONDS - beat >= heartbeat_seconds)); then
      beat=$SECONDS
      phase "compile: $(grep -cE '^  (CC|AS) ' "$build/log") objects"
    fi
  done
  wait "$make_pid" || build_failed
  make_pid=''
}

build_failed() {
  make_pid=''
  cp "$build/log" "$kernels/failed-build.log"
  tail -n 20 "$build/log" >&2
  die "$status_harness" "${1:-the kernel} did not build; the whole log is $kernels/failed-build.log"
}

# What modules are built against; 5.10 has no script of its own for that.
pack_build_tree() {
  local sources objects=(.config Module.symvers arch/x86/include include scripts tools/objtool/objtool)
  mapfile -t sources < <(cd "$build/source" && printf '%s\n' Makefile arch/x86/Makefile* arch/x86/include include scripts)
  tar -czf "$1" --exclude='*.o' -C "$build/source" "${sources[@]}" -C "$build/objects" "${objects[@]}"
}

store() {
  local entry=$build/entry
  mkdir "$entry"
  cp "$build/objects/arch/x86/boot/bzImage" "$entry/bzImage"
  cp "$build/objects/.config" "$entry/config"
  pack_build_tree "$entry/$build_tree"
  mv -T "$entry" "$kernels/$(entry_name "$source_version")"
}

remove_build() { rm -rf "$build"; }

# One build at a time, whatever it makes: two would take as long and twice the disk.
lock_builds() {
  require_packages "${run_packages[@]}" "${build_packages[@]}"
  (umask 077 && mkdir -p "$kernels")
  exec {lock}>"$kernels/lock"
  flock --nonblock "$lock" || { say "another build is running; waiting for it"; flock "$lock"; }
}

unlock_builds() { exec {lock}>&-; }

# Sets build. The lock is ours, and a make whose harness was killed would still hold it: what lies there nobody builds in.
begin_build() {
  rm -rf "$kernels"/build.*
  build=$(mktemp -d "$kernels/build.XXXXXX")
  on_exit+=(remove_build)
  build_start=$SECONDS
}

build_kernel() {
  local source_version
  lock_builds
  find_source
  if [[ ! -d $kernels/$(entry_name "$source_version") ]]; then
    begin_build
    phase "fetch: $kernel_source $source_version"
    fetch_source
    phase "unpack"
    unpack_source
    phase "configure: ${kernel_options[*]}"
    configure
    phase "compile: on $(nproc) processors"
    compile
    store
    remove_build
    phase "built: $kernels/$(entry_name "$source_version")"
  fi
  unlock_builds
}

# Builds our modules for an entry, if they are not there.
build_modules() {
  local modules
  modules=$(modules_of "$1")
  [[ ! -e $modules ]] || return 0
  lock_builds
  if [[ ! -e $modules ]]; then
    begin_build
    phase "compile: our modules"
    mkdir "$build/tree" "$build/modules"
    tar -xzf "$1/$build_tree" -C "$build/tree"
    cp -r "$here/probe" "$build/probe"
    (run_make -C "$build/tree" M="$build/probe" KCFLAGS=-Werror modules) >"$build/log" 2>&1 || build_failed 'our modules'
    mv "$build"/probe/*.ko "$build/modules"
    mv -T "$build/modules" "$modules"
    remove_build
  fi
  unlock_builds
}
