#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Tests tools/check, from the workspace's runfiles: when clang-tidy is asked again, and what a complaint does. Bazel and clang's
# programs are fakes on PATH.
set -euo pipefail

tmp=$TEST_TMPDIR/check_test
passed=0
failed=0
mkdir -p "$tmp/bin" "$tmp/root" "$tmp/base/external/ion_dpdk"
cp -rL tools "$tmp/root"
echo 0 >"$tmp/root/tools/clauses.txt"
echo 'defines = ["ION_HAVE_DPDK=1"]' >"$tmp/base/external/ion_dpdk/BUILD"
touch "$tmp/base/external/ion_dpdk/copts.bzl"
export ION_CACHE=$tmp/cache PATH=$tmp/bin:$PATH

fake() {
  cat >"$tmp/bin/$1"
  chmod +x "$tmp/bin/$1"
}

fake clang-format-16 <<<$'#!/bin/sh\nexit 0'
fake bazel <<<$'#!/bin/sh\n[ "$1" = build ] || echo '"$tmp/base"
# What is compiled includes tests/b.h.
fake clang++ <<'END'
#!/bin/sh
for file; do :; done
printf 'x.o: %s \\\n  tests/b.h\n' "$file"
END
# Of a unit that includes headers, `asked` gets their names, joined by +.
fake clang-tidy <<END
#!/bin/sh
case \$1 in --version) cat "$tmp/version"; exit ;; esac
for argument; do case \$argument in --config-file=*) echo "\${argument#*=}" >"$tmp/config" ;; esac; done
files=\$2
case \$2 in tests/*) ;; *) files=\$(sed 's/.*"\(.*\)"/\1/' "\$2") ;; esac
echo \$files | tr ' ' + >>"$tmp/asked"
status=0
for file in \$files; do
  ! grep -q broken "\$file" || { echo "\$file:1:1: error: it is broken [clang-diagnostic-error]" && exit 1; }
  ! grep -q bad "\$file" || { echo "\$file: it is bad" && status=1; }
done
exit \$status
END

# source_at PATH LINE…: a header, or a source file, with the lines beside its licence and its guard.
source_at() {
  local path=$1
  shift
  printf '%s\n' '// SPDX-License-Identifier: Apache-2.0' "#ifndef ION_$(tr a-z/. A-Z__ <<<"$path")_" "$@" >"$tmp/root/$path"
}
source_file() { source_at "tests/$1" "$2"; }

# run [FILE…]: of tests/, a.cc and c.cc by default. Leaves $status, the output in $tmp/stdout, and the files that clang-tidy was
# asked about in $asked.
run() {
  (($#)) || set -- a.cc c.cc
  : >"$tmp/asked"
  status=0
  "$tmp/root/tools/check" "${@/#/$tmp/root/tests/}" </dev/null >"$tmp/stdout" 2>&1 || status=$?
  asked=$(sort "$tmp/asked" | paste -sd ' ')
}

# check WHAT STATUS ASKED: of the last run.
check() {
  if [[ $status == "$2" && $asked == "$3" ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "failed: $1; it exited with $status, and asked about '$asked'; it said:"
    sed 's/^/    /' "$tmp/stdout"
  fi
}

mkdir -p "$tmp/root/tests" "$tmp/root/ion/base"
printf '    %s\n' 'ion/ → ion/base/' 'ion/base/ →' >"$tmp/root/ion/README.md"
source_file a.cc good
source_file c.cc good
source_file b.h good
echo 1 >"$tmp/version"
echo 'Checks: x' | tee "$tmp/root/.clang-tidy" >"$tmp/root/tests/.clang-tidy"
both='tests/a.cc tests/c.cc'
run
check 'each file is looked at' 0 "$both"
run
check 'a good one only once' 0 ''
source_file a.cc better
run
check 'again where it has changed' 0 tests/a.cc
source_file b.h better
run
check 'or what it includes' 0 "$both"
echo 'Checks: y' >"$tmp/root/.clang-tidy"
run
check 'or the configuration' 0 "$both"
echo 'Checks: y' >"$tmp/root/tests/.clang-tidy"
run
check 'or that of the tests' 0 "$both"
echo 2 >"$tmp/version"
run
check 'or clang-tidy' 0 "$both"
echo '"-msse2"' >"$tmp/base/external/ion_dpdk/copts.bzl"
run
check 'or a flag' 0 "$both"
mv "$tmp/base" "$tmp/elsewhere"
fake bazel <<<$'#!/bin/sh\n[ "$1" = build ] || echo '"$tmp/elsewhere"
run
check 'not where Bazel keeps what others wrote elsewhere' 0 ''
source_file c.cc bad
run
check 'a bad one fails it' 1 tests/c.cc
grep -qxF 'tests/c.cc: it is bad' "$tmp/stdout" || status='silence'
check 'and is shown' 1 tests/c.cc
run
check 'each time' 1 tests/c.cc
source_file c.cc good
run
check 'what is good again was good before' 0 ''

source_file d.h good
source_file e.h good
run d.h e.h c.cc
check 'the headers of a folder are looked at together' 0 'tests/d.h+tests/e.h'
[[ $(<"$tmp/config") == tests/.clang-tidy ]] || status='another configuration'
check 'by the configuration of their folder' 0 'tests/d.h+tests/e.h'
run d.h e.h
check 'each of them only once' 0 ''
source_file b.h changed
source_file d.h bad
source_file e.h good
run d.h e.h
check 'a bad header fails it, looked at alone' 1 'tests/d.h tests/d.h+tests/e.h'
run d.h e.h
check 'the good one beside it is good' 1 'tests/d.h'
source_file b.h 'changed again'
source_file e.h broken
run d.h e.h
check 'one that the compiler refuses hides no other' 1 'tests/d.h tests/d.h+tests/e.h tests/e.h'
grep -qxF 'tests/d.h: it is bad' "$tmp/stdout" || status='silence'
check 'whose finding is shown' 1 'tests/d.h tests/d.h+tests/e.h tests/e.h'
sed -i 's/TESTS_E_H/TESTS_D_H/' "$tmp/root/tests/e.h"
run e.h
grep -qF 'tests/e.h: guard it with #ifndef ION_TESTS_E_H_' "$tmp/stdout" || status='silence'
check "a header with another one's guard fails it" 1 'tests/e.h'

source_file e.h good
run e.h
printf '%s\n' '// It lies where it lay in a pool,' '// where others find it.' >"$tmp/root/ion/x.h"
run e.h
grep -qF 'ion/x.h:2: where others find it.' "$tmp/stdout" || status='silence'
check 'one more clause that opens with such a word fails it' 1 ''
echo 1 >"$tmp/root/tools/clauses.txt"
run e.h
check 'not where it was there before' 0 ''
printf '// By %s gets it.\nint who;\nError(EIO, "%s the caller left");\n' who what >"$tmp/root/ion/x.h"
run e.h
grep -qF 'ion/x.h:3: what the caller left' "$tmp/stdout" || status='silence'
check 'texts count, too' 1 ''
echo 3 >"$tmp/root/tools/clauses.txt"
run e.h
grep -qF 'tools/clauses.txt: 2 clauses are left: lower the number' "$tmp/stdout" || status='silence'
check 'fewer ask for a lower number' 1 ''
rm "$tmp/root/ion/x.h"
echo 0 >"$tmp/root/tools/clauses.txt"

# The change is that of the file `changed`.
fake git <<END
#!/bin/sh
case "\$*" in
  'merge-base HEAD main') echo base ;;
  'diff --name-only --diff-filter=d base') cat "$tmp/changed" ;;
  *--cached*) ls tests/*.h tests/*.cc ;;
  *) exit 0 ;;
esac
END
run_changed() {
  printf '%s' "${@/%/$'\n'}" >"$tmp/changed"
  : >"$tmp/asked"
  status=0
  "$tmp/root/tools/check" --changed </dev/null >"$tmp/stdout" 2>&1 || status=$?
  asked=$(sort "$tmp/asked" | paste -sd ' ')
}
source_file b.h 'changed for --changed'
source_file d.h '#include "tests/b.h"'
source_at tests/a.cc '#include "tests/d.h"'
run_changed tests/b.h
check 'of a change all that includes it is looked at, and nothing else' 0 'tests/a.cc tests/b.h+tests/d.h'
run_changed
grep -qF 'nothing differs from main' "$tmp/stdout" || status='silence'
check 'without a change there is nothing to do' 0 ''

fake clang++ <<<$'#!/bin/sh\nexit 1'
run
check 'where the compiler does not tell what is included, all are looked at' 0 "$both"
run
check 'each time, too' 0 "$both"

# layer WHAT STATUS FILE LINE: tools/check of FILE, which has LINE beside its licence.
layer() {
  source_at "$3" "$4"
  status=0
  asked=
  "$tmp/root/tools/check" "$tmp/root/$3" </dev/null >"$tmp/stdout" 2>&1 || status=$?
  check "$1" "$2" ''
}
layer 'an include along an arrow is well' 0 ion/a.h '#include "ion/base/b.h"'
layer 'one that no arrow allows is not' 1 ion/base/b.h '#include "ion/a.h"'
layer 'nor is a name that does not begin with ion/' 1 ion/a.h '#include "policies/p.h"'

# The tree has two headers, one of which a link leads to, and an old path; Bazel has both headers, and a part of Abseil.
fake git <<<$'#!/bin/sh\ncase "$*" in *ion/*) echo ion/base/one.h ;; *) echo policies/two.h policies/old.h | tr " " "\\n" ;; esac'
fake bazel <<<$'#!/bin/sh
case "$*" in
  *hdrs*) printf "//ion:base/one.h\\n//ion:policies/two.h\\n//policies:old.h\\n" ;;
  *) printf "//ion:one\\n@com_google_absl//absl/status:statusor\\n" ;;
esac'
mkdir "$tmp/root/policies"
echo '// Deprecated: include "ion/policies/two.h". Until 0.3.' >"$tmp/root/policies/old.h"
echo >"$tmp/root/policies/two.h"

# lists WHAT WANTED OWN LINKED ABSEIL: what list_differences says of these lists, with ; for the ends of lines.
lists() {
  printf '%s = [\n    "%s",\n]\n' OWN "$3" LINKED "$4" ABSEIL "$5" >"$tmp/root/ion/linked.bzl"
  status=0
  asked=
  (cd "$tmp/root" && bash -euo pipefail -c '. tools/lists.bash; list_differences') 2>&1 | sed 's|^ion/linked.bzl: ||' >"$tmp/stdout"
  [[ $(paste -sd ';' "$tmp/stdout") == "$2" ]] || status=differs
  check "$1" 0 ''
}
lists 'lists that agree with the tree and with Bazel are well' '' base/one.h policies/two.h status:statusor
lists 'a header that is not listed is told' \
  "OWN lacks base/one.h, which is in the tree;OWN has base/zero.h, which is not in the tree;OWN or LINKED lacks base/one.h, which is in Bazel's targets;OWN or LINKED has base/zero.h, which is not in Bazel's targets" \
  base/zero.h policies/two.h status:statusor
lists 'and one that is an old path' \
  "LINKED has policies/old.h, which is not in the tree;LINKED lacks policies/two.h, which is in the tree;OWN or LINKED has policies/old.h, which is not in Bazel's targets;OWN or LINKED lacks policies/two.h, which is in Bazel's targets" \
  base/one.h policies/old.h status:statusor
lists 'so is a part of Abseil' \
  "ABSEIL has status:status, which is not in Bazel's targets;ABSEIL lacks status:statusor, which is in Bazel's targets" \
  base/one.h policies/two.h status:status
fake bazel <<<$'#!/bin/sh\nexit 7'
lists 'a Bazel that loads nothing is told' 'Bazel does not load the targets of the library: run bazel query //ion:all' \
  base/one.h policies/two.h status:statusor
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
