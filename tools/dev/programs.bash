# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/programs.bash
#
# The commands that build one program and run it: demo, guest, check. Sourced by `dev`.

readonly check_packages=(blueprint-tools clang clang-format-16 clang-tidy git)

# Takes --guest VERSION out of a command's arguments; leaves kernel and the array remaining.
take_guest() {
  kernel=''
  remaining=()
  while (($#)) && [[ $1 != -- ]]; do
    if [[ $1 == --guest ]]; then
      (($# > 1)) || die "$status_usage" "which kernel? ./dev guest --list names them"
      kernel=$2
      shift
    else
      remaining+=("$1")
    fi
    shift
  done
  [[ ${1:-} != -- ]] || shift
  remaining+=("$@")
}

# need_for_programs [PACKAGE…]: installs the packages of a build, those of the guest, and these.
need_for_programs() {
  local needed=("${build_packages[@]}" "$@")
  [[ -z $kernel ]] || mapfile -t -O "${#needed[@]}" needed < <(guest_packages)
  need_packages "${needed[@]}" || exit
}

# Prints the path of a label's optimised program; build_options are those of its build.
program_of() { echo "$(ask_bazel info "${build_options[@]}" bazel-bin)/$(tr : / <<<"${1#//}")"; }

# The root that a guest sees is read-only: the file of --png is written through a directory that it shares.
share_png() {
  local i file
  for ((i = 0; i < ${#remaining[@]}; i++)); do
    case ${remaining[i]} in
      --png=?*) file=${remaining[i]#--png=} ;;
      --png) file=${remaining[i + 1]:-} && unset 'remaining[i + 1]' ;;
      *) continue ;;
    esac
    [[ -n $file ]] || die "$status_usage" "--png wants a file"
    ION_GUEST_OUT=$(dirname -- "$file")
    export ION_GUEST_OUT
    remaining[i]=--png=/mnt/out/$(basename -- "$file")
    remaining=("${remaining[@]}")
    say "in the guest, the directory of $file is /mnt/out"
  done
}

demo_command() {
  local kernel remaining build_options=(--config=opt) program
  take_guest "$@"
  need_for_programs
  build 'build the demo' //examples:demo
  program=$(program_of //examples:demo)
  if [[ -z $kernel ]]; then
    "$program" "${remaining[@]}"
  else
    share_png
    "$root/tests/guest/guest" "$kernel" -- "$program" "${remaining[@]}"
  fi
}

guest_command() {
  local needed
  case ${1:-} in
    --list | --help) ;;
    *)
      mapfile -t needed < <(guest_packages)
      need_packages "${needed[@]}" || exit
      ;;
  esac
  "$root/tests/guest/guest" "$@"
}

check_command() {
  # The headers of contenders are looked at, too.
  need_packages "${build_packages[@]}" "${check_packages[@]}" "${bench_packages[@]}" "${peer_packages[@]}" || exit
  "$root/tools/check" "$@"
}
