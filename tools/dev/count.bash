# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/count.bash
#
# Counts test cases in the output of test programs: `N passed, N failed, N skipped` as the last line, and before it, for each
# case that was skipped, `skipped: CASE -- REASON`. A program without that line, or whose exit status does not go with it,
# counts as one failed case. Sourced by `dev` and `.ci/run`.
#
#   begin_part; count_test LABEL STATUS LOG…; end_part NAME; print_total

passed=0 failed=0 skipped=0
total_passed=0 total_failed=0 total_skipped=0
part_logs=()
part_began=0

begin_part() {
  passed=0 failed=0 skipped=0
  part_logs=()
}

summary_of() { tail -n 1 "$1" 2>/dev/null | grep -xE '[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped'; }

add() {
  passed=$((passed + $1))
  failed=$((failed + $2))
  skipped=$((skipped + $3))
}

# count_failure LABEL WHY [LOG]
count_failure() {
  add 0 1 0
  echo "FAILED $1: $2"
  [[ ! -s ${3:-} ]] || tail -n 40 "$3" | sed 's/^/    /'
}

# count_test LABEL STATUS LOG: STATUS is `passed`, or a word for any other end.
count_test() {
  local label=$1 status=$2 log=$3 p f s
  if ! read -r p _ f _ s _ < <(summary_of "$log"); then
    count_failure "$label" "$status, without its last line 'N passed, N failed, N skipped'; its output ends:" "$log"
  elif ((p + f + s == 0)); then
    count_failure "$label" "$status, without one test case; its output ends:" "$log"
  elif ((f == 0)) && [[ $status != passed ]]; then
    count_failure "$label" "$status, though no test case failed; its output ends:" "$log"
  elif ((f > 0)) && [[ $status == passed ]]; then
    count_failure "$label" "exited with 0, though $f test cases failed; its output ends:" "$log"
  else
    add "$p" "$f" "$s"
    part_logs+=("$log")
    ((f == 0)) || {
      echo "FAILED $label: $f test cases; its output ends:"
      tail -n 40 "$log" | sed 's/^/    /'
    }
  fi
}

# One line per reason, the most frequent first.
skip_reasons() {
  ((${#part_logs[@]})) || return 0
  awk '/^skipped: / { sub(/^skipped: /, ""); at = index($0, " -- "); print at ? substr($0, at + 4) : $0 }' "${part_logs[@]}" |
    LC_ALL=C sort | uniq -c | LC_ALL=C sort -k 1,1nr -k 2 | sed -E 's/^ *([0-9]+) /    skipped, \1×: /'
}

add_to_total() {
  total_passed=$((total_passed + passed))
  total_failed=$((total_failed + failed))
  total_skipped=$((total_skipped + skipped))
}

# A part has taken the time since the one before.
end_part() {
  echo "$1: $passed passed, $failed failed, $skipped skipped ($(((SECONDS - part_began) / 60)) min $(((SECONDS - part_began) % 60)) s)"
  part_began=$SECONDS
  skip_reasons
  add_to_total
}

# A part that cannot run here.
skip_part() {
  begin_part
  add 0 0 1
  end_part "$1"
  echo "    skipped, 1×: $2"
}

# The last line; fails when a case failed or none ran.
print_total() {
  echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
  ((total_failed == 0 && total_passed > 0))
}
