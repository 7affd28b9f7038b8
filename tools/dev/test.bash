# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/test.bash
#
# ./dev test: each part counted by count.bash. Sourced by `dev`.

# For one test program in a guest: emulation is slow, and a hang is a failure either way.
readonly guest_test_seconds=600

# The exit statuses of tests/guest/guest if no kernel can be had, and if packages are missing.
readonly guest_source=248 guest_packages_missing=249

test_config=''

test_usage() { die "$status_usage" "$*; see ./dev help"; }

# The kernels that are tested when none is named: a name with a dash is a variant for debugging, others are there on demand.
kernels() { "$root/tests/guest/guest" --list | grep -v $'\ton demand' | cut -f 1 | grep -v -- -; }

# Those that ./dev test all adds.
kernels_on_demand() { "$root/tests/guest/guest" --list | { grep $'\ton demand' || :; } | cut -f 1; }

# A test with the tag any_config is the same whatever the configuration, and has run without one. A static program is a matter of
# those that are tagged so; no_tsan has what never has a second thread, no_sanitizer what is never compiled with one.
config_options() {
  local filter=-any_config
  case $test_config in
    '') return ;;
    static) filter=static ;;
    arm64 | armhf | riscv64) filter=cross ;;
    asan) filter+=,-no_sanitizer ;;
    tsan) filter+=,-no_sanitizer,-no_tsan ;;
  esac
  printf '%s\n' "--config=$test_config" --build_tests_only "--test_tag_filters=$filter"
}

# One line per test program from Bazel's summary: label, tab, result.
bazel_results() { sed -nE 's,^(//[^ ]+) +(\(cached\) )?([A-Z][A-Z ]*[A-Z])( .*)?$,\1\t\3,p' "$1"; }

log_of() { tr : / <<<"$2/${1#//}/test.log"; }

test_host() {
  local name=${1:-${test_config:-host}} log=$scratch/host.log status=0 options label result logs
  mapfile -t options < <(config_options)
  bazel_phase "$name: build and run the tests" "$log" test "${options[@]}" --keep_going \
    --test_output=summary --test_summary=short //... || status=$?
  logs=$(ask_bazel info "${options[@]}" bazel-testlogs)

  begin_part
  while IFS=$'\t' read -r label result; do
    case $result in
      PASSED) count_test "$label" passed "$(log_of "$label" "$logs")" ;;
      'FAILED TO BUILD' | 'NO STATUS') count_failure "$label" "did not build or was not run" ;;
      *) count_test "$label" "Bazel says $result" "$(log_of "$label" "$logs")" ;;
    esac
  done < <(bazel_results "$log")
  # 0: all passed; 3: built, and a test failed. Anything else may have stopped tests that the summary does not name.
  case $status in
    0 | 3) ;;
    *)
      bazel_errors "$log" >"$scratch/errors"
      count_failure "bazel test" "exit status $status:"
      indent <"$scratch/errors"
      ;;
  esac
  end_part "$name"
}

# The tests with the tag cross, as programs of another machine.
test_cross() {
  local test_config=$1 name="cross $1"
  need_packages "$(cross_compiler "$1")" qemu-user-static || {
    skip_part "$name" "packages are missing: $(cross_compiler "$1") qemu-user-static"
    return 0
  }
  test_host "$name"
}

# count_program NAME WHAT CMD…: a part that is one program, which prints the summary line itself.
count_program() {
  local name=$1 log=$scratch/$1.log status=passed
  shift
  phase "$name: $1" "$log" "${@:2}" || status="exited with $?"
  begin_part
  count_test "$name" "$status" "$log"
  end_part "$name"
}

test_embedding() { count_program embedding 'build and test projects that embed this one' "$root/tests/embedding/run"; }

# have_kernel NAME KERNEL: boots the kernel once, which builds it if it is not cached. If it does not boot, counts the part NAME
# as skipped or failed, and returns 1.
have_kernel() {
  local name=$1 kernel=$2 log=$scratch/kernel.log status=0
  phase "$name: kernel" "$log" "$root/tests/guest/guest" "$kernel" -- true || status=$?
  case $status in
    0) return ;;
    "$guest_source" | "$guest_packages_missing") skip_part "$name" "$(grep '^guest' "$log" | tail -n 1)" ;;
    *)
      begin_part
      count_failure "$name" "the kernel was not built or did not boot (status $status):" "$log"
      end_part "$name"
      ;;
  esac
  return 1
}

test_harness() {
  local kernel
  kernel=$(kernels | head -n 1)
  have_kernel 'guest harness' "$kernel" || return 0
  count_program 'guest harness' "test it under $kernel" "$root/tests/guest/self_test" "$kernel"
}

# The kernel's own messages are a case of their own: all programs may have passed under a kernel that warned.
test_guest() {
  local name="guest $1"
  have_kernel "$name" "$1" || return 0
  begin_part
  run_in_guest "$1" guest 1024
  run_in_guest "$1" guest_small 256
  run_in_guest "$1" guest_large 6144
  end_part "$name"
}

# run_in_guest KERNEL TAG MIB: counts the tests that have the tag, run in one boot with so much memory.
run_in_guest() {
  local kernel=$1 tag=$2 memory=$3 name="guest $1" out=$scratch/$2-$1 log=$scratch/$2.log status=0 found labels label bin programs=() n=0
  found=$(ask_bazel query "attr(tags, '\b$tag\b', tests(//...))")
  mapfile -t labels <<<"${found:?"no test has the tag '$tag'"}"
  build "$name: build ${#labels[@]} test programs" "${labels[@]}"
  bin=$(ask_bazel info bazel-bin)
  for label in "${labels[@]}"; do programs+=("$label" "$(tr : / <<<"$bin/${label#//}")"); done
  mkdir "$out"
  ION_GUEST_MEM=$memory ION_GUEST_OUT=$out ION_GUEST_TIMEOUT=$((60 + ${#labels[@]} * guest_test_seconds)) \
    phase "$name: run them in one boot with $memory MiB" "$log" \
    "$root/tests/guest/guest" "$kernel" -- "$root/tests/guest/run_tests" "$guest_test_seconds" /mnt/out "${programs[@]}" || status=$?

  for label in "${labels[@]}"; do
    n=$((n + 1))
    if [[ -s $out/$n.status ]]; then
      count_test "$label" "$(<"$out/$n.status")" "$out/$n.log"
    elif [[ -e $out/$n.log ]]; then
      count_failure "$label" "was running when the guest went down; its output ends:" "$out/$n.log"
    else
      count_failure "$label" "was not run: the guest went down before"
    fi
  done
  ((status == 0)) || count_failure "$name" "the guest ended with $status:" "$log"
}

# All parts' packages are installed at once. A guest that lacks packages is a part that cannot run; without Bazel no part can.
test_packages() {
  local needed=("${build_packages[@]}") part
  case $test_config in clang | noexcept | asan | tsan) needed+=("${clang_packages[@]}") ;; esac
  [[ -n $test_config || " $* " != *' host '* ]] || needed+=("${compile_packages[@]}" "${peer_packages[@]}")
  for part in "$@"; do
    case $part in
      embedding) needed+=("${embedding_packages[@]}") ;;
      harness | guest | newest) mapfile -t -O "${#needed[@]}" needed < <(guest_packages) ;;
    esac
  done
  need_packages "${needed[@]}" || [[ $no_install == no && -z $(missing_packages "${build_packages[@]}") ]] || exit "$status_packages"
}

test_command() {
  local parts=(host embedding harness guest newer) words=() part each named kernel machine
  while (($#)); do
    case $1 in
      --config=?*) test_config=${1#--config=} ;;
      -*) test_usage "unknown option '$1'" ;;
      *) words+=("$1") ;;
    esac
    shift
  done
  part=${words[0]:-} named=${words[1]:-}
  case $part in
    '') ;;
    all) parts+=(newest cross) ;;
    host | embedding | harness | guest | newer | cross) parts=("$part") ;;
    *) test_usage "there is no part '$part'" ;;
  esac
  [[ -z $named || $part == guest || $part == cross ]] && ((${#words[@]} <= 2)) || test_usage "'${words[-1]}' is one word too many"
  [[ -z $test_config || $part == host ]] || test_usage "--config goes with ./dev test host"
  [[ $part != cross || -z $named || " ${cross_machines[*]} " == *" $named "* ]] ||
    test_usage "there is no machine '$named'; there are: ${cross_machines[*]}"
  test_packages "${parts[@]}"

  for each in "${parts[@]}"; do
    case $each in
      guest) for kernel in ${named:-$(kernels)}; do test_guest "$kernel"; done ;;
      newer) if [[ -n $part ]]; then test_newer; else skip_part newer 'it takes a root of another suite: ./dev test newer, or all'; fi ;;
      newest) for kernel in $(kernels_on_demand); do test_guest "$kernel"; done ;;
      cross) for machine in ${named:-"${cross_machines[@]}"}; do test_cross "$machine"; done ;;
      *) "test_$each" ;;
    esac
  done
  if [[ -z ${words[0]:-} ]]; then
    for kernel in $(kernels_on_demand); do skip_part "guest $kernel" "it is a part of ./dev test all"; done
    for machine in "${cross_machines[@]}"; do skip_part "cross $machine" "it is a part of ./dev test all"; done
  fi
  bound_build_cache
  print_total
}
