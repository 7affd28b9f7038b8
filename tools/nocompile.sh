#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: nocompile.sh SOURCE FLAGS, from the workspace's runfiles. FLAGS is a file, one compiler flag a line.
#
# SOURCE holds lines
#   // EXPECT two_ids: ion: two heaps have the same id
# and for each a block guarded by `#if defined(CASE_two_ids)`. SOURCE has to compile as it is; with one CASE_ defined
# it has to fail, and the compiler has to print the sentence. Both compilers are asked.
set -euo pipefail
export LC_ALL=C

source=$1
mapfile -t flags <"$2"
passed=0
failed=0
skipped=0
scratch=$(mktemp -d "${TEST_TMPDIR:-/tmp}/nocompile.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

pass() { passed=$((passed + 1)); }

fail() {
  failed=$((failed + 1))
  echo "failed: $source: $*"
}

expected_cases() { sed -nE 's|^[[:space:]]*// EXPECT ([A-Za-z0-9_]+): .+|\1|p' "$source" | sort; }

guarded_cases() { sed -nE 's|^#if defined\(CASE_([A-Za-z0-9_]+)\)$|\1|p' "$source" | sort; }

sentence_of() { sed -nE "s|^[[:space:]]*// EXPECT $1: (.+)|\\1|p" "$source"; }

# The headers that SOURCE includes at its top are read once for each compiler: most of the time of a case would go there.
precompile() {
  local header=$scratch/$1.h
  sed -nE -e '/^(#if|namespace)/q' -e '/^#include/p' "$source" >"$header"
  "$1" -std=c++20 -fmessage-length=0 "${flags[@]}" -x c++-header -o "$header.gch" "$header" 2>&1
}

# -fmessage-length=0 keeps each sentence on one line.
compiles() {
  local compiler=$1
  shift
  "$compiler" -std=c++20 -fsyntax-only -fmessage-length=0 "${flags[@]}" -include "$scratch/$compiler.h" "$@" "$source" 2>&1
}

check_case() {
  local compiler=$1 name=$2 sentence output
  sentence=$(sentence_of "$name")
  if output=$(compiles "$compiler" "-DCASE_$name"); then
    fail "$name: $compiler compiles it"
  elif ! grep -qF -- "$sentence" <<<"$output"; then
    fail "$name: $compiler does not say '$sentence' but:"
    head -n 20 <<<"$output"
  else
    pass
  fi
}

check_compiler() {
  local compiler=$1 output name
  if ! command -v "$compiler" >/dev/null; then
    skipped=$((skipped + 1 + ${#cases[@]}))
    echo "skipped: $source -- $compiler is not installed"
    return
  fi
  if ! output=$(precompile "$compiler" && compiles "$compiler"); then
    fail "$compiler refuses it without any case:"
    head -n 20 <<<"$output"
    return
  fi
  pass
  for name in "${cases[@]}"; do
    check_case "$compiler" "$name"
  done
}

mapfile -t cases < <(expected_cases)
if [[ ${#cases[@]} -eq 0 ]]; then
  fail "it has no line '// EXPECT case: sentence'"
elif [[ $(guarded_cases) != "$(expected_cases)" ]]; then
  fail "each '// EXPECT case:' needs one '#if defined(CASE_case)', and the other way round:"
  diff <(expected_cases) <(guarded_cases) || true
else
  check_compiler g++
  check_compiler clang++
fi
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 ]]
