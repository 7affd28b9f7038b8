# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/stress.bash
#
# ./dev stress: tests/stress/pool_stress in three builds. Sourced by `dev`.

readonly stress_label=//tests/stress:pool_stress
readonly stress_builds=(opt tsan asan)
readonly stress_controls=3

# The three numbers of the last line; fails where there is none.
stress_numbers() { tail -n 1 "$1" | sed -nE 's/^stress: ([0-9]+) operations, ([0-9]+) errors, controls caught: ([0-9]+)$/\1 \2 \3/p' | grep .; }

# What a build's program said: all of it where it failed, else its controls and how it ended.
show_stress() {
  local name=$1 status=$2 log=$3
  echo "$name:"
  if ((status == 0)); then { grep '^control ' "$log" && tail -n 1 "$log"; } | indent; else indent <"$log"; fi
}

stress_command() {
  local seconds=${1:-60} build_options build bin log status operations=0 errors=0 caught=$stress_controls n e c
  (($# <= 1)) && [[ $seconds =~ ^[1-9][0-9]*$ ]] || die "$status_usage" "how many seconds? ./dev stress 60"
  ((seconds >= ${#stress_builds[@]})) || die "$status_usage" "at least ${#stress_builds[@]} seconds: one for each build"
  need_packages "${build_packages[@]}" "${clang_packages[@]}" || exit
  for build in "${stress_builds[@]}"; do
    build_options=("--config=$build") log=$scratch/stress-$build.log status=0
    build "$build: build the stress" "$stress_label"
    bin=$(program_of "$stress_label")
    phase "$build: stress" "$log" "$bin" "$((seconds / ${#stress_builds[@]}))" || status=$?
    show_stress "$build" "$status" "$log"
    # A program without its last line has failed, and has caught nothing.
    read -r n e c < <(stress_numbers "$log") || read -r n e c <<<'0 1 0'
    ((status == 0 || e > 0 || c < stress_controls)) || e=1
    operations=$((operations + n)) errors=$((errors + e)) caught=$((c < caught ? c : caught))
  done
  echo "stress: $operations operations, $errors errors, controls caught: $caught"
  ((errors == 0 && caught == stress_controls)) || exit "$status_failed"
}
