#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Tests ./dev, from the workspace's runfiles: what it counts, what it refuses, what it asks to be installed. Bazel, apt and
# dpkg are fakes on PATH.
set -euo pipefail

dev=$PWD/dev
tmp=$TEST_TMPDIR/dev_test
passed=0
failed=0
mkdir -p "$tmp/bin" "$tmp/home" "$tmp/tmp" "$tmp/logs"
export HOME=$tmp/home TMPDIR=$tmp/tmp
export PATH=$tmp/bin:$PATH

# Runs CMD; leaves $status, $tmp/stdout and $tmp/stderr.
run() {
  status=0
  "$@" </dev/null >"$tmp/stdout" 2>"$tmp/stderr" || status=$?
}

# check WHAT TEST…: the test is a command.
check() {
  local what=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "failed: $what; the status was $status; stdout and stderr:"
    head -n 40 "$tmp/stdout" "$tmp/stderr" | sed 's/^/    /'
  fi
}

exited() { [[ $status == "$1" ]]; }
says() { exited "$1" && grep -qF -- "$2" "$tmp/stdout"; }
complains() { exited "$1" && grep -qF -- "$2" "$tmp/stderr"; }
ends() { exited "$1" && [[ $(tail -n 1 "$tmp/stdout") == "$2" ]]; }
printed() { exited "$1" && [[ $(<"$tmp/stdout") == "$2" ]]; }

ended() { ! kill -0 "$1" 2>/dev/null; }

fake() {
  cat >"$tmp/bin/$1"
  chmod +x "$tmp/bin/$1"
}

all_packages_installed() { fake dpkg-query <<<$'#!/bin/sh\necho installed'; }

# fake_bazel STATUS SUMMARY: what `bazel test` prints and exits with; the logs are below $tmp/logs.
fake_bazel() {
  printf '%s\n' "$2" >"$tmp/summary"
  fake bazel <<END
#!/bin/sh
case \$1 in
  info) echo $tmp/logs ;;
  test) echo "\$*" >$tmp/asked; cat $tmp/summary; exit $1 ;;
  *) exit 9 ;;
esac
END
}

# log NAME LINE…: the log of //tests:NAME.
log() {
  local name=$1
  shift
  mkdir -p "$tmp/logs/tests/$name"
  printf '%s\n' "$@" >"$tmp/logs/tests/$name/test.log"
}

test_usage() {
  run "$dev"
  check 'no command gives the help' complains 2 './dev demo'
  run "$dev" frobnicate
  check 'an unknown command is named' complains 2 "there is no command 'frobnicate'"
  check 'and gives the help' complains 2 './dev demo'
  run "$dev" run-with-ion --abi modern
  check 'run-with-ion wants a program' complains 2 'which program?'
  run "$dev" run-with-ion --abi new -- true
  check 'and one of two interfaces' complains 2 "--abi is 'new'"
  run "$dev" help
  check 'help goes to stdout' says 0 './dev demo'
  check 'and fits on a screen' [ "$(wc -l <"$tmp/stdout")" -le 24 ]
  run "$dev" test hots
  check 'an unknown part is named' complains 2 "there is no part 'hots'"
  run "$dev" test host 6.12
  check 'a kernel goes with guest only' complains 2 "'6.12' is one word too many"
  run "$dev" test cross x86
  check 'an unknown machine is named' complains 2 "there is no machine 'x86'; there are: arm64 armhf riscv64"
  run "$dev" test --config=clang
  check 'a configuration goes with host only' complains 2 '--config goes with'
  run "$dev" test host --conifg=clang
  check 'an unknown option is named' complains 2 "unknown option '--conifg=clang'"
  HOME='' run "$dev" test host
  check 'without HOME it says so' complains 2 "HOME is ''"
}

test_packages() {
  fake dpkg-query <<<$'#!/bin/sh\nfor last; do :; done\n[ "$last" != dpkg-dev ] && [ "$last" != g++ ] && echo installed'
  fake apt-get <<<$'#!/bin/sh\necho "apt-get $*" >>'"$tmp/apt"$'\necho the archive is away\nexit 100'
  fake sudo <<<$'#!/bin/sh\nwhile [ "$1" = -n ]; do shift; done\nexec "$@"'
  run "$dev" test host --no-install
  check '--no-install prints the line to type, and only that' printed 3 'apt-get install --no-install-recommends dpkg-dev g++'
  check 'and installs nothing' [ ! -e "$tmp/apt" ]
  run "$dev" test host
  check 'a failing apt is shown' complains 3 'the archive is away'
  check 'with the packages' complains 3 'packages are missing: dpkg-dev g++'
  check 'and the lists were to be updated first' [ "$(<"$tmp/apt")" = 'apt-get update' ]
}

# fake_stress STATUS LINE…: what each program of the stress prints and exits with. ALL: all of its controls.
fake_stress() {
  local status=$1 program
  local -A controls=([pool_stress]=3 [manager_stress]=4)
  shift
  fake bazel <<END
#!/bin/sh
case \$1 in
  info) echo $tmp ;;
  build) ;;
  *) exit 9 ;;
esac
END
  mkdir -p "$tmp/tests/stress"
  for program in "${!controls[@]}"; do
    printf '%s\n' "${@//ALL/${controls[$program]}}" >"$tmp/said-$program"
    printf '#!/bin/sh\necho "$1" >>%q\ncat %q\nexit %d\n' "$tmp/seconds" "$tmp/said-$program" "$status" >"$tmp/tests/stress/$program"
    chmod +x "$tmp/tests/stress/$program"
  done
}

test_stress() {
  all_packages_installed
  fake_stress 0 'control no tag: caught by its errors' 'stress: 20 operations, 0 errors, controls caught: ALL'
  run "$dev" stress 60
  check 'the stress adds up its programs and builds' ends 0 'stress: 120 operations, 0 errors, controls caught: 7'
  check 'which share the time' [ "$(paste -sd ' ' "$tmp/seconds")" = '10 10 10 10 10 10' ]
  fake_stress 1 'control no tag: NOT CAUGHT' 'stress: 20 operations, 0 errors, controls caught: 2'
  run "$dev" stress
  check 'a control that was missed fails it' ends 1 'stress: 120 operations, 0 errors, controls caught: 4'
  fake_stress 1 'error: an object is lost' 'stress: 20 operations, 1 errors, controls caught: ALL'
  run "$dev" stress
  check 'an error fails it' ends 1 'stress: 120 operations, 6 errors, controls caught: 7'
  check 'and is shown' says 1 'error: an object is lost'
  fake_stress 66 'data race'
  run "$dev" stress
  check 'a program without its last line fails it' ends 1 'stress: 0 operations, 6 errors, controls caught: 0'
  fake_stress 134 'stress: 20 operations, 0 errors, controls caught: ALL'
  run "$dev" stress
  check 'and so does one that fails without saying why' ends 1 'stress: 120 operations, 6 errors, controls caught: 7'
  run "$dev" stress long
  check 'it wants a number' complains 2 'how many seconds?'
}

test_counting() {
  all_packages_installed
  log a_test 'noise' 'skipped: A: one fact -- no heap: none at all' 'skipped: A: two -- no heap: none at all' '3 passed, 0 failed, 2 skipped'
  log b_test 'skipped: B: a fact -- not root' '20 passed, 0 failed, 1 skipped'
  fake_bazel 0 $'INFO: noise\n//tests:a_test   (cached) PASSED in 0.0s\n//tests:b_test   PASSED in 0.1s'
  run "$dev" test host
  check 'summaries are added up' says 0 'host: 23 passed, 0 failed, 3 skipped'
  check 'the last line is the sum' ends 0 '23 passed, 0 failed, 3 skipped'
  check 'reasons are grouped' says 0 'skipped, 2×: no heap: none at all'
  check 'the rarer ones too' says 0 'skipped, 1×: not root'
  check 'a part tells how long it took' grep -qE '^host: .* skipped \([0-9]+ min [0-9]+ s\)$' "$tmp/stdout"
  run "$dev" test host --config=noexcept
  check 'a configuration gives the line its name' says 0 'noexcept: 23 passed, 0 failed, 3 skipped'
  check 'and leaves out what is the same in each' grep -q -- '--test_tag_filters=-any_config ' "$tmp/asked"
  run "$dev" test host --config=asan
  check 'a sanitizer also what is not compiled with it' grep -q -- '--test_tag_filters=-any_config,-no_sanitizer ' "$tmp/asked"

  run "$dev" test cross arm64
  check 'another machine gives the line its name' says 0 'cross arm64: 23 passed, 0 failed, 3 skipped'
  check 'and has the tests that are tagged so' grep -q -- '--config=arm64 --build_tests_only --test_tag_filters=cross ' "$tmp/asked"
  run "$dev" test cross
  check 'without a name, all machines' ends 0 '69 passed, 0 failed, 9 skipped'

  log c_test 'why it failed' '1 passed, 2 failed, 0 skipped'
  fake_bazel 3 $'//tests:a_test  PASSED in 0.1s\n//tests:c_test  FAILED in 0.1s\n  /somewhere/test.log'
  run "$dev" test host
  check 'failed cases are counted' ends 1 '4 passed, 2 failed, 2 skipped'
  check 'and their output shown' says 1 'why it failed'

  log c_test 'the last words'
  run "$dev" test host
  check 'a crash counts as one failure' ends 1 '3 passed, 1 failed, 2 skipped'
  check 'and is named' says 1 'FAILED //tests:c_test: Bazel says FAILED, without its last line'
  check 'with its last words' says 1 'the last words'

  log c_test '9 passed, 0 failed, 0 skipped'
  run "$dev" test host
  check 'a failure after a good summary counts as one failure' ends 1 '3 passed, 1 failed, 2 skipped'

  log c_test '1 passed, 1 failed, 0 skipped'
  fake_bazel 0 '//tests:c_test  PASSED in 0.1s'
  run "$dev" test host
  check 'failed cases count, though the program exits with 0' ends 1 '0 passed, 1 failed, 0 skipped'

  log c_test 'no summary'
  run "$dev" test host
  check 'a missing summary counts as one failure' ends 1 '0 passed, 1 failed, 0 skipped'
  rm -r "$tmp/logs/tests/c_test"
  run "$dev" test host
  check 'and so does a missing log' ends 1 '0 passed, 1 failed, 0 skipped'
  log c_test '0 passed, 0 failed, 0 skipped'
  run "$dev" test host
  check 'and a program that tests nothing' ends 1 '0 passed, 1 failed, 0 skipped'
  log c_test '1 passed, 0 failed, 0 skipped' '==1==ERROR: LeakSanitizer'
  run "$dev" test host
  check 'and words after the summary' ends 1 '0 passed, 1 failed, 0 skipped'

  fake_bazel 3 '//tests:c_test  TIMEOUT in 60.0s'
  run "$dev" test host
  check 'a time-out is named' says 1 'Bazel says TIMEOUT'
  log c_test '1 passed, 0 failed, 0 skipped'
  fake_bazel 1 $'ERROR: a.cc: a semicolon\n//tests:a_test  PASSED in 0.1s\n//tests:c_test  FAILED TO BUILD\n//tests:d_test  NO STATUS'
  run "$dev" test host
  check 'what did not build counts, whatever its old log says' ends 1 '3 passed, 3 failed, 2 skipped'
  check 'with the reason' says 1 'ERROR: a.cc: a semicolon'
  fake_bazel 1 $'ERROR: b.cc: a brace\n//tests:a_test  PASSED in 0.1s'
  run "$dev" test host
  check 'a build that fails beside the tests counts' ends 1 '3 passed, 1 failed, 2 skipped'
  fake_bazel 0 'INFO: nothing to do'
  run "$dev" test host
  check 'a run that tests nothing fails' ends 1 '0 passed, 0 failed, 0 skipped'
  log c_test 'skipped: C -- no device' '0 passed, 0 failed, 1 skipped'
  fake_bazel 0 '//tests:c_test  PASSED in 0.1s'
  run "$dev" test host
  check 'a run that skips everything fails' ends 1 '0 passed, 0 failed, 1 skipped'
}

# Three files of 1 MiB: one is old, one was read lately, one was written lately.
test_build_cache() {
  local cache=$HOME/.cache/ion/bazel/cas/00 file
  mkdir -p "$cache"
  for file in old read new; do head -c 1048576 /dev/zero >"$cache/$file"; done
  touch -d '3 days ago' "$cache/old" "$cache/read"
  touch -a "$cache/read"
  run "$dev" test host
  check 'the build cache may be large' [ "$(ls "$cache")" = $'new\nold\nread' ]
  ION_BUILD_CACHE_MIB=2 run "$dev" test host
  check 'where it is too large, what was not used for longest goes' [ "$(ls "$cache")" = $'new\nread' ]
  ION_BUILD_CACHE_MIB=0 run "$dev" test host
  check 'down to nothing' [ -z "$(ls "$cache")" ]
}

test_guest_runner() {
  local out=$tmp/out name
  mkdir "$out"
  fake good <<<$'#!/bin/sh\necho "1 passed, 0 failed, 0 skipped"'
  fake crash <<<$'#!/bin/sh\nkill -SEGV $$'
  fake hang <<<$'#!/bin/sh\nsleep 100'
  fake refuse <<<$'#!/bin/sh\nexit 7'
  run tests/guest/run_tests 3 "$out" //:good "$tmp/bin/good" //:crash "$tmp/bin/crash" //:hang "$tmp/bin/hang" \
    //:refuse "$tmp/bin/refuse" //:gone "$tmp/bin/gone"
  check 'each program is told with what became of it' says 0 '//:good: passed ('
  for name in passed 'killed by SIGSEGV' 'no end after 3 s' 'exited with 7' 'exited with 127'; do
    check "one of them: $name" grep -qxF "$name" "$out"/*.status
  done
  check 'what it printed is kept' grep -qxF '1 passed, 0 failed, 0 skipped' "$out/1.log"
}

# A copy of ./dev whose guest is the fake on stdin.
with_guest() {
  rm -rf "$tmp/root"
  mkdir -p "$tmp/root/tests/guest"
  cp -rL dev tools "$tmp/root"
  cat >"$tmp/root/tests/guest/guest"
  chmod +x "$tmp/root/tests/guest/guest"
}

test_guest() {
  all_packages_installed
  fake bazel <<END
#!/bin/sh
case \$1 in
  query) case \$2 in *guest_small* | *guest_large*) echo //tests:small_test ;; *) printf '//tests:%s_test\\n' a b c ;; esac ;;
  info) echo "$tmp/bin" ;;
  build) ;;
  *) exit 9 ;;
esac
END
  fake apt-get <<<$'#!/bin/sh\nexit 0'
  fake sudo <<<$'#!/bin/sh\nexit 0'
  with_guest <<<$'#!/bin/sh
case "$*" in --list) echo "1.0	source" ;; --packages*) echo cpio ;; *) echo "guest 1.0: apt knows no such kernel" >&2; exit 248 ;; esac'
  run "$tmp/root/dev" test guest
  check 'a kernel that is not to be had is skipped' says 1 'guest 1.0: 0 passed, 0 failed, 1 skipped'
  check 'with the reason' says 1 'skipped, 1×: guest 1.0: apt knows no such kernel'

  with_guest <<<$'#!/bin/sh
case "$*" in --list) printf "1.0\tsource\n2.0\tsource\tsuite\tfiles\ton demand: new\n" ;; --packages*) echo cpio ;; *) echo "guest $1: no such source" >&2; exit 248 ;; esac'
  run "$tmp/root/dev" test
  check 'the newest kernel is not in every test, and is counted' says 1 'guest 2.0: 0 passed, 0 failed, 1 skipped'
  check 'as are other machines' says 1 'cross riscv64: 0 passed, 0 failed, 1 skipped'
  check 'with the reason' says 1 'skipped, 1×: it is a part of ./dev test all'
  run "$tmp/root/dev" test all
  check 'of which it is a part' says 1 'skipped, 1×: guest 2.0: no such source'

  with_guest <<<$'#!/bin/sh
case "$*" in
  --list) echo "1.0	source"; echo "1.0-debug	source" ;;
  --packages*) echo cpio ;;
  "1.0 -- true") ;;
  "1.0 -- "*run_tests*)
    cd "$ION_GUEST_OUT"
    case $ION_GUEST_MEM in 256 | 6144)
      echo "1 passed, 0 failed, 0 skipped" >1.log
      echo passed >1.status
      exit 0 ;;
    esac
    echo "4 passed, 0 failed, 1 skipped" >1.log
    echo passed >1.status
    echo "about to crash" >2.log
    echo "guest 1.0: panicked: an example" >&2
    exit 250 ;;
  *) exit 9 ;;
esac'
  run "$tmp/root/dev" test guest
  check 'what a panic kept from running counts, and the panic itself' ends 1 '6 passed, 3 failed, 1 skipped'
  check 'the program that ran is named' says 1 'FAILED //tests:b_test: was running when the guest went down'
  check 'with its last words' says 1 'about to crash'
  check 'and the one that did not' says 1 'FAILED //tests:c_test: was not run'
  check 'and what the guest said' says 1 'panicked: an example'
}

# A list of three rows. The first compiler has its package and refuses 32 bits, the second has none, the third is good.
test_matrix() {
  local copy=$tmp/matrix n
  mkdir -p "$copy/ion" "$copy/tests/builds" "$tmp/cache"/root-{one,two}
  cp -rL dev tools "$copy"
  printf '%s\tsomelib\t%s\t%s\t%s\n' g++-1 one '20 20-m32' g++-1 clang-2 one 20 clang-2 g++-3 two '20-lto 23-bare' g++-3 >"$copy/tools/dev/matrix.tsv"
  for n in {1..60}; do echo '// A header.' >"$copy/ion/$n.h"; done
  echo 'int use;' >"$copy/tests/builds/use.cc"
  printf '%s\n' before '<!-- ./dev matrix fills this table -->' '| an old row |' '<!-- the end of that table -->' after >"$copy/README.md"
  fake dpkg-query <<'END'
#!/bin/sh
case $* in
  *Version*) echo 20991231.0-1 ;;
  *--admindir*) for package; do echo "installed $package"; done ;;
  *) echo installed ;;
esac
END
  fake sudo <<<$'#!/bin/sh\nwhile [ "$1" = -n ]; do shift; done\nexec "$@"'
  fake unshare <<'END'
#!/bin/sh
case $* in
  *'apt-cache policy clang-2') echo '  Candidate: (none)' ;;
  *'apt-cache policy '*) echo '  Candidate: 1' ;;
  *' g++-1 '*-m32*) echo 'a.h:1: error: too long' && exit 1 ;;
esac
echo "$*" >>"${0%/*}/../built"
END
  ION_CACHE=$tmp/cache run "$copy/dev" matrix
  check 'the matrix counts its builds' ends 1 'matrix: 3 ok, 1 failed, 1 skipped'
  check 'one that fails is named' says 1 'FAILED g++-1 somelib one 20-m32:'
  check 'with its errors' says 1 'a.h:1: error: too long'
  check 'a compiler that is not to be had is skipped, with the reason' says 1 "SKIPPED clang-2 somelib: Debian's one has no package clang-2"
  check 'a build without exceptions has the options of one' grep -q -- ' g++-3 -std=c++2b -Wall .* -fno-exceptions -fno-rtti ' "$tmp/built"
  check 'the table is in the README' grep -qxF '| g++-1 | somelib | one | 20991231 | ok |  | FAILED |  |  |  |  |  |' "$copy/README.md"
  check 'in place of the old one' [ "$(grep -c 'an old row' "$copy/README.md")" = 0 ]
  check 'between what was there' [ "$(sed -n '1p;$p' "$copy/README.md" | paste -sd ' ')" = 'before after' ]
  ION_CACHE=$tmp/cache run "$copy/dev" matrix --check
  check 'a failure in the table is found' complains 1 'README.md has another table'
  fake unshare <<<$'#!/bin/sh\necho "  Candidate: 1"'
  ION_CACHE=$tmp/cache run "$copy/dev" matrix 'g..-1 '
  check 'some rows can be built alone' ends 0 'matrix: 2 ok, 0 failed, 0 skipped'
  check 'and the others keep what they had' [ "$(grep -c '^| [cg].* somelib ' "$copy/README.md")" = 3 ]
  ION_CACHE=$tmp/cache run "$copy/dev" matrix --check
  check 'a table of the list is well' exited 0
  sed -i 's/20-lto/23-lto/' "$copy/tools/dev/matrix.tsv"
  ION_CACHE=$tmp/cache run "$copy/dev" matrix --check
  check 'one of another list is not' complains 1 'README.md has another table'
  run "$copy/dev" matrix nothing
  check 'a pattern that no row matches is told' complains 2 "no row matches 'nothing'"
  rm "$tmp/bin/unshare"
}

# A benchmark program that leaves the file it is asked for, and says what else it was given; a report that says how it was
# called, and that a goal is missed.
test_bench() {
  local bin=$tmp/bazel-bin/bench program
  all_packages_installed
  mkdir -p "$bin" "$tmp/cache"
  fake bazel <<END
#!/bin/sh
case \$1 in
  query) printf "//bench:%s\n" pool client_path frame_path pool_path placement tails choice include_cost ;;
  info) echo "$tmp/bazel-bin" ;;
  build) ;;
  *) exit 9 ;;
esac
END
  cat >"$bin/pool" <<'END'
#!/bin/sh
echo "$*" >>"$ION_CACHE/arguments"
for argument; do case $argument in --benchmark_out=*) echo figures >"${argument#*=}" ;; --fail) exit 5 ;; esac; done
END
  cat >"$bin/report" <<'END'
#!/bin/sh
case $1 in
  filter) echo '^BM_A$' ;;
  goals) shift; echo "goal a: of $# runs (wanted 0) missed"; exit 1 ;;
  *) echo "$1 of $(cat "$2")" ;;
esac
END
  chmod +x "$bin/pool" "$bin/report"
  for program in client_path frame_path pool_path placement tails choice include_cost; do cp "$bin/pool" "$bin/$program"; done
  export ION_CACHE=$tmp/cache

  run "$dev" bench --list
  check 'benchmarks are named' printed 0 $'pool\nclient_path\nframe_path\npool_path\nplacement\ntails\nchoice\ninclude_cost'
  run "$dev" bench polo
  check 'an unknown benchmark is named' complains 2 "there is no benchmark 'polo'"
  run "$dev" bench pool --benchmark_filter=X
  check 'what a benchmark leaves becomes a table' says 0 'table of figures'
  check 'the file is kept, and named' says 0 "json: $tmp/cache/bench/pool-"
  check 'arguments are handed on' grep -q -- '--benchmark_filter=X$' "$tmp/cache/arguments"
  run "$dev" bench pool --fail
  check 'a benchmark that fails is what it exits with' exited 5
  run "$dev" bench pool --svg "$tmp/chart.svg"
  check 'a chart is drawn' [ "$(cat "$tmp/chart.svg")" = 'chart of figures' ]
  run "$dev" bench pool_path --svg "$tmp/leases.svg" --benchmark_filter=Y
  check 'of leases as well' [ "$(cat "$tmp/leases.svg")" = 'chart of figures' ]
  run "$dev" bench placement --svg "$tmp/chart.svg"
  check 'of nothing else' complains 2 '--svg goes with one of: pool pool_path frame_path'
  run "$dev" bench --svg "$tmp/chart.svg"
  check 'nor of all at once' complains 2 '--svg goes with one of: pool pool_path frame_path'
  run "$dev" bench pool --svg
  check 'which needs a file' complains 2 'which file?'
  rm "$tmp/cache/arguments"
  run "$dev" bench --check
  check 'goals are judged, and a missed one is a failure' says 1 'goal a: of 24 runs (wanted 0) missed'
  check 'by three runs of each program of what they need' [ "$(grep -c -- '--benchmark_filter=^BM_A\$$' "$tmp/cache/arguments")" = 24 ]
  run "$dev" bench --check pool
  check 'which takes nothing else' complains 2 '--check goes alone'
  unset ION_CACHE
}

test_docs() {
  all_packages_installed
  rm -rf "$tmp/root"
  mkdir "$tmp/root"
  cp -rL dev docs tools "$tmp/root"
  export ION_CACHE=$tmp/cache
  fake doxygen <<<$'#!/bin/sh\nexec cp "$1" '"$tmp/asked"
  run "$tmp/root/dev" docs
  check 'the site is named' printed 0 "$tmp/cache/docs/html/index.html"
  check 'it is in the cache' grep -qxF "OUTPUT_DIRECTORY = \"$tmp/cache/docs\"" "$tmp/asked"
  check 'of the headers as Doxygen reads them' grep -q 'FILTER_PATTERNS .*doc_comments' "$tmp/asked"
  fake doxygen <<<$'#!/bin/sh\necho "'"$tmp"$'/root/ion/a.h:3: error: no such name"; exit 1'
  run "$tmp/root/dev" docs
  check 'a warning is a failure, and has its file' complains 1 'ion/a.h:3: error: no such name'
  run "$tmp/root/dev" docs now
  check 'it takes nothing else' complains 2 'docs takes no arguments'
  rm "$tmp/bin/doxygen"
  unset ION_CACHE
}

test_compdb() {
  all_packages_installed
  rm -rf "$tmp/root" "$tmp/base"
  mkdir -p "$tmp/root" "$tmp/base/external/ion_dpdk"
  touch "$tmp/base/external/ion_dpdk/copts.bzl"
  cp -rL dev tools "$tmp/root"
  fake bazel <<<$'#!/bin/sh\n[ "$1" = build ] || echo '"$tmp/base"
  fake git <<<$'#!/bin/sh\nprintf "ion/a.h\\ntests/b.cc\\n"'
  run "$tmp/root/dev" compdb
  check 'the commands of a header and a source file are written' printed 0 "$tmp/root/compile_commands.json"
  check 'one for each' [ "$(grep -c '"directory": "'"$tmp/root"'", "file": "' "$tmp/root/compile_commands.json")" = 2 ]
  check 'with the options, and the file' grep -qF '"-std=c++20", "-iquote.", "-Icompat/include", "-isystem'"$tmp/base"'/external/com_google_absl"' \
    "$tmp/root/compile_commands.json"
  check 'and ends as JSON does' [ "$(tail -n 1 "$tmp/root/compile_commands.json")" = ']' ]
  run "$tmp/root/dev" compdb now
  check 'it takes nothing else' complains 2 'compdb takes no arguments'
  fake bazel <<<$'#!/bin/sh\nexit 1'
  run "$tmp/root/dev" compdb
  check 'a workspace that does not load is told of' complains 1 'Bazel cannot load the workspace'
  rm "$tmp/bin/git"
}

test_links() {
  local checkout=$tmp/checkout
  mkdir -p "$checkout/ion" "$checkout/backends"
  cp -rL "$(dirname "$dev")/tools" "$checkout/tools"
  cp -L "$dev" "$checkout/dev"
  printf ../backends >"$checkout/ion/backends"
  ln -s ../policies "$checkout/ion/policies"
  fake dpkg-query <<<$'#!/bin/sh\nexit 1'
  run "$checkout/dev" test host --no-install
  check 'a link that is a file is told' complains 3 'ion/backends is a file'
  check 'and made a link' [ "$(readlink "$checkout/ion/backends")" = ../backends ]
  run "$checkout/dev" test host --no-install
  check 'once' [ "$(grep -c 'is a file' "$tmp/stderr")" = 0 ]
  printf 'something else' >"$checkout/ion/platforms"
  run "$checkout/dev" test host --no-install
  check 'a file that names no folder stays' complains 2 'ion/platforms has something else'
  check 'as it is' [ "$(<"$checkout/ion/platforms")" = 'something else' ]
}

test_interrupt() {
  local child
  all_packages_installed
  fake bazel <<<$'#!/bin/sh\necho $$ >'"$tmp/child"$'\nexec sleep 100'
  "$dev" test host </dev/null >"$tmp/stdout" 2>"$tmp/stderr" &
  until [[ -s $tmp/child ]]; do sleep 0.1; done
  child=$(<"$tmp/child")
  status=0
  kill "$!"
  wait "$!" || status=$?
  check 'an interrupt ends it' exited 143
  check 'and what it had started' ended "$child"
  check 'and leaves no file' [ -z "$(ls "$tmp/tmp")" ]
}

test_usage
test_packages
test_stress
test_counting
test_build_cache
test_guest_runner
test_guest
test_matrix
test_bench
test_docs
test_compdb
test_links
test_interrupt
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
