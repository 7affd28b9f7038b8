#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: compile_test.sh BUILD SOURCE FLAGS, from the workspace's runfiles. FLAGS is a file, one compiler flag a line.
#
# Compiles every public header and SOURCE as one translation unit, in the way of BUILD, which is a function below. One that this
# machine lacks a package for is skipped with its name.
set -euo pipefail
export LC_ALL=C

build=$1 source=$2
# Abseil as a system's headers: its warnings are not ours.
mapfile -t flags < <(sed 's,^-iquote\.\./,-isystem../,' "$3")
flags+=(-I.)

readonly strict=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Werror)
scratch=$(mktemp -d "${TEST_TMPDIR:-/tmp}/builds.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
unit=$scratch/unit.cc

end() {
  echo "$1 passed, $2 failed, $3 skipped"
  exit "$2"
}

skip() {
  echo "skipped: $build -- $*"
  end 0 0 1
}

need() { command -v "$1" >/dev/null || skip "$1 is not installed"; }

# Twice: what has no guard fails.
make_unit() {
  local headers
  headers=$(find -L ion -name '*.h' | sort)
  [[ $(wc -l <<<"$headers") -gt 50 ]] || { echo "failed: $build: where are the headers?"; end 0 1 0; }
  {
    sed 's/.*/#include "&"/' <<<"$headers"
    sed 's/.*/#include "&"/' <<<"$headers"
    cat "$source"
  } >"$unit"
}

compile() {
  local compiler=$1
  shift
  need "$compiler"
  if ! "$compiler" -std=c++20 -fsyntax-only -fmessage-length=0 "${flags[@]}" "$@" "$unit" >"$scratch/log" 2>&1; then
    echo "failed: $build: $compiler $*"
    grep -E -A4 'error:|warning:' "$scratch/log" | head -n 60
    end 0 1 0
  fi
}

strict_gcc() { compile g++ "${strict[@]}"; }

strict_clang() { compile clang++ "${strict[@]}"; }

# In the compiler's own dialect, which CMake takes by default, `linux` is a macro.
late_gcc() { compile g++ -std=gnu++2b -fno-exceptions -fno-rtti "${strict[@]}"; }

late_clang() { compile clang++ -std=gnu++2b -fno-exceptions -fno-rtti "${strict[@]}"; }

# A template of Abseil's with a constraint has another symbol with clang 18 and newer than with g++, whose Abseil then lacks it.
linked_gcc() {
  need g++
  printf '%s\n' '#include "ion/base/status.h"' 'absl::Status Made() { return ion::MakeStatus(1, ""); }' >"$unit"
  g++ -std=c++20 "${flags[@]}" -c -o "$scratch/unit.o" "$unit"
  local lacking
  lacking=$(nm -C --undefined-only "$scratch/unit.o" | grep -E 'absl::.*Cord::Cord<' || :)
  [[ -z $lacking ]] || { echo "failed: $build: an Abseil that another compiler built may lack:$lacking"; end 0 1 0; }
}

bits_32() {
  echo '#include <vector>' | g++ -m32 -xc++ -fsyntax-only - 2>/dev/null || skip "the package g++-12-multilib is not installed"
  ln -s "/usr/include/$(gcc -print-multiarch)/asm" "$scratch"
  compile g++ -m32 -D_FILE_OFFSET_BITS=64 -isystem "$scratch" "${strict[@]}"
}

# The newest libc++ that is installed, with the headers of musl and of Linux in place of the machine's.
musl() {
  local musl libcxx dir
  musl=$(compgen -G '/usr/include/*-linux-musl' | head -n 1) || skip "the package musl-dev is not installed"
  libcxx=$(compgen -G '/usr/lib/llvm-*/include/c++/v1' | sort -V | tail -n 1) || skip "no package libc++-*-dev is installed"
  for dir in /usr/include/linux /usr/include/asm-generic /usr/include/"$(gcc -print-multiarch)"/asm; do ln -s "$dir" "$scratch"; done
  # Debian's libc++ is set up for glibc.
  compile clang++ "--target=$(basename "$musl")" -D_LIBCPP_HAS_MUSL_LIBC -nostdinc++ -nostdlibinc \
    -isystem "$libcxx" -isystem "$musl" -isystem "$scratch"
}

# Kernel headers that do not know what came after Linux 4.9: /usr/include without some of them.
old_sdk() {
  need g++
  local dir entry dirs
  mkdir "$scratch/include" "$scratch/include/linux"
  for entry in /usr/include/*; do [[ $entry == */linux ]] || ln -s "$entry" "$scratch/include"; done
  for entry in /usr/include/linux/*; do
    case ${entry##*/} in
      dma-buf.h | dma-heap.h | udmabuf.h | membarrier.h) ;;
      *) ln -s "$entry" "$scratch/include/linux" ;;
    esac
  done
  mapfile -t dirs < <(g++ -xc++ -E -v /dev/null 2>&1 | sed -n '/^#include </,/^End/s/^ //p')
  for dir in "${dirs[@]}"; do
    [[ $dir != /usr/include ]] || dir=$scratch/include
    flags+=(-isystem "$dir")
  done
  compile g++ -nostdinc -nostdinc++
}

make_unit
"$build"
end 1 0 0
