# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/bench.bash
#
# ./dev bench: runs benchmarks, keeps their JSON in the cache, prints what //bench:report makes of it. Sourced by `dev`.

readonly check_runs=3
readonly report=//bench:report
readonly charted=(//bench:pool //bench:pool_path //bench:frame_path)
readonly goal_programs=(
  //bench:pool //bench:client_path //bench:frame_path //bench:pool_path //bench:placement //bench:tails //bench:choice
  //bench:include_cost
)

benchmarks() { ask_bazel query "kind(cc_binary, //bench:all) except $report"; }

# Bazel looks for the contenders when it loads the workspace; after an installation of packages it looks again.
need_for_benchmarks() {
  local missing
  missing=$(missing_packages "${bench_packages[@]}")
  need_for_programs "${bench_packages[@]}"
  [[ -z $missing ]] || ask_bazel sync --configure >/dev/null
}

results_directory() {
  local directory=$root_cache/bench
  mkdir -p "$directory" || die "$status_failed" "$directory cannot be made: set ION_CACHE to a directory that can be written"
  echo "$directory"
}

# run_benchmark LABEL JSON ARG…: the program's own output goes into the log of phase(), and is shown if it fails.
run_benchmark() {
  local label=$1 json=$2 log=$scratch/bench.log status=0 program
  shift 2
  program=$(program_of "$label")
  if [[ -z $kernel ]]; then
    phase "run $label" "$log" "$program" --benchmark_out="$json" --benchmark_out_format=json "$@" || status=$?
  else
    ION_GUEST_OUT=$(dirname -- "$json") ION_GUEST_TIMEOUT=${ION_GUEST_TIMEOUT:-3600} \
      phase "run $label in the guest $kernel" "$log" "$root/tests/guest/guest" "$kernel" -- "$program" \
      --benchmark_out="/mnt/out/$(basename -- "$json")" --benchmark_out_format=json "$@" || status=$?
  fi
  if ((status)) || [[ ! -s $json ]]; then
    cat "$log"
    exit "$status"
  fi
}

# One line for each goal, of the medians of three runs of each program that has some.
check_goals() {
  local reporter directory stamp filter run program status=0 runs=()
  (($# == 0)) && [[ -z $kernel ]] || die "$status_usage" "--check goes alone: the goals are for this machine"
  build 'build the benchmarks' "${goal_programs[@]}" "$report"
  reporter=$(program_of "$report")
  filter=$("$reporter" filter)
  directory=$(results_directory)
  stamp=$(date +%Y%m%d-%H%M%S)
  for ((run = 1; run <= check_runs; run++)); do
    for program in "${goal_programs[@]}"; do
      runs+=("$directory/check-${program#//bench:}-$stamp-$run.json")
      run_benchmark "$program" "${runs[-1]}" --benchmark_filter="$filter"
    done
  done
  "$reporter" goals "${runs[@]}" || status=$?
  printf 'json: %s\n' "${runs[@]}"
  return "$status"
}

# Takes --svg FILE out of a command's arguments; leaves svg and the array remaining.
take_svg() {
  svg=''
  remaining=()
  while (($#)); do
    if [[ $1 == --svg ]]; then
      (($# > 1)) || die "$status_usage" "--svg FILE: which file?"
      svg=$2
      shift
    else
      remaining+=("$1")
    fi
    shift
  done
}

bench_command() {
  local kernel svg remaining build_options=(--config=opt) labels label reporter json
  take_guest "$@"
  need_for_benchmarks
  take_svg "${remaining[@]}"
  set -- "${remaining[@]}"
  if [[ ${1:-} == --check ]]; then
    shift
    check_goals "$@"
    return
  fi
  labels=$(benchmarks)
  case ${1:-} in
    --list)
      sed 's,^//bench:,,' <<<"$labels"
      return
      ;;
    -* | '') ;;
    *)
      grep -qx "//bench:$1" <<<"$labels" || die "$status_usage" "there is no benchmark '$1'; ./dev bench --list names them"
      labels=//bench:$1
      shift
      ;;
  esac
  [[ -z $svg || " ${charted[*]} " == *" $labels "* ]] ||
    die "$status_usage" "--svg goes with one of: ${charted[*]#//bench:}"
  # shellcheck disable=SC2086 # One label a line.
  build 'build the benchmarks' $labels "$report"
  reporter=$(program_of "$report")
  for label in $labels; do
    json=$(results_directory)/${label#//bench:}${kernel:+-$kernel}-$(date +%Y%m%d-%H%M%S).json
    run_benchmark "$label" "$json" "$@"
    echo "$label${kernel:+ in the guest $kernel}"
    "$reporter" table "$json"
    echo "json: $json"
  done
  [[ -z $svg ]] || "$reporter" chart "$json" >"$svg"
}
