# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/run_with_ion.bash
#
# The command run-with-ion: a program that opens /dev/ion itself, on a kernel without it (docs/libion.md). Sourced by `dev`.

run_with_ion_command() {
  local abi=legacy library build_options=(--config=opt)
  while (($#)) && [[ $1 != -- ]]; do
    case $1 in
      --abi=*) abi=${1#--abi=} ;;
      --abi)
        (($# > 1)) || die "$status_usage" "--abi wants legacy or modern"
        abi=$2
        shift
        ;;
      *) die "$status_usage" "'$1' is no option of run-with-ion; the program stands behind --" ;;
    esac
    shift
  done
  [[ $abi == legacy || $abi == modern ]] || die "$status_usage" "--abi is '$abi': legacy or modern"
  (($# > 1)) || die "$status_usage" "which program? ./dev run-with-ion [--abi legacy|modern] -- PROGRAM…"
  shift
  need_packages "${build_packages[@]}" || exit
  build 'build the preload' //compat/preload:libion_preload.so //compat/preload:libion_preload_served.so
  library=$(program_of //compat/preload:libion_preload.so)
  env ION_COMPAT_ABI="$abi" LD_PRELOAD="$library${LD_PRELOAD:+:$LD_PRELOAD}" "$@"
}
