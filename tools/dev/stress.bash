# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/stress.bash
#
# ./dev stress: the programs of tests/stress in three builds. Sourced by `dev`.

readonly stress_builds=(opt tsan asan)
# A program, and how many controls it has to catch.
readonly -A stress_controls=([pool_stress]=3 [manager_stress]=4)

# Prints the three numbers of the last line; fails if there is none.
stress_numbers() { tail -n 1 "$1" | sed -nE 's/^stress: ([0-9]+) operations, ([0-9]+) errors, controls caught: ([0-9]+)$/\1 \2 \3/p' | grep .; }

# Prints a program's output: all of it if it failed, else its controls and its last line.
show_stress() {
  local name=$1 status=$2 log=$3
  echo "$name:"
  if ((status == 0)); then { grep '^control ' "$log" && tail -n 1 "$log"; } | indent; else indent <"$log"; fi
}

stress_command() {
  local seconds=${1:-60} runs=$((${#stress_builds[@]} * ${#stress_controls[@]})) all=0 build build_options program label bin log status
  local operations=0 errors=0 caught in_build n e c
  (($# <= 1)) && [[ $seconds =~ ^[1-9][0-9]*$ ]] || die "$status_usage" "how many seconds? ./dev stress 60"
  ((seconds >= runs)) || die "$status_usage" "at least $runs seconds: one for each program in each build"
  need_packages "${build_packages[@]}" "${clang_packages[@]}" || exit
  for program in "${!stress_controls[@]}"; do all=$((all + stress_controls[$program])); done
  caught=$all
  for build in "${stress_builds[@]}"; do
    build_options=("--config=$build") in_build=0
    # Without optimization a control's race is too slow to be seen.
    [[ $build != asan ]] || build_options+=(--copt=-O1)
    for program in "${!stress_controls[@]}"; do
      label=//tests/stress:$program log=$scratch/$program-$build.log status=0
      build "$build: build $program" "$label"
      bin=$(program_of "$label")
      phase "$build: $program" "$log" "$bin" "$((seconds / runs))" || status=$?
      show_stress "$build: $program" "$status" "$log"
      # A program without its last line has failed, and has caught nothing.
      read -r n e c < <(stress_numbers "$log") || read -r n e c <<<'0 1 0'
      ((status == 0 || e > 0 || c < stress_controls[$program])) || e=1
      operations=$((operations + n)) errors=$((errors + e)) in_build=$((in_build + c))
    done
    caught=$((in_build < caught ? in_build : caught))
  done
  echo "stress: $operations operations, $errors errors, controls caught: $caught"
  ((errors == 0 && caught == all)) || exit "$status_failed"
}
