#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: dmabufheap_abi_test.sh LIBRARY SOURCE
#
# LIBRARY exports libdmabufheap's functions, without versions, and nothing else. SOURCE, a user of the class, compiles with
# libc++, where the class has its original's size, and needs the symbols of Android's library.
set -euo pipefail
export LC_ALL=C

library=$1 source=$2
passed=0 failed=0 skipped=0

# check NAME EXPECTED FOUND
check() {
  if [[ $2 == "$3" ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'failed: %s\n--- expected\n%s\n--- found\n%s\n' "$1" "$2" "$3"
  fi
}

exported="BufferAllocator::Alloc
BufferAllocator::AllocSystem
BufferAllocator::BufferAllocator
BufferAllocator::BufferAllocator
BufferAllocator::CheckIonSupport
BufferAllocator::CpuSyncEnd
BufferAllocator::CpuSyncStart
BufferAllocator::GetDmabufHeapList
BufferAllocator::MapNameToIonHeap
CheckIonSupport
CreateDmabufHeapBufferAllocator
DmabufHeapAlloc
DmabufHeapAllocSystem
DmabufHeapCpuSyncEnd
DmabufHeapCpuSyncStart
FreeDmabufHeapBufferAllocator
MapDmabufHeapNameToIonHeap"
check "the exported functions" "$exported" \
  "$(nm -DCg --defined-only "$library" | sed -E -e 's/^[0-9a-f]+ . //' -e 's/\[abi:cxx11\]//' -e 's/\(.*//' | sort)"

symbols="_ZN15BufferAllocator10CpuSyncEndEj8SyncTypeRKNSt3__18functionIFiiiPvEEES3_
_ZN15BufferAllocator11AllocSystemEbmjm
_ZN15BufferAllocator12CpuSyncStartEj8SyncTypeRKNSt3__18functionIFiiiPvEEES3_
_ZN15BufferAllocator15CheckIonSupportEv
_ZN15BufferAllocator16MapNameToIonHeapERKNSt3__112basic_stringIcNS0_11char_traitsIcEENS0_9allocatorIcEEEES8_jjj
_ZN15BufferAllocator17GetDmabufHeapListEv
_ZN15BufferAllocator5AllocERKNSt3__112basic_stringIcNS0_11char_traitsIcEENS0_9allocatorIcEEEEmjm
_ZN15BufferAllocatorC1Ev"
libcxx=$(compgen -G '/usr/lib/llvm-*/include/c++/v1' | sort -V | tail -n 1) || libcxx=
if [[ -z $libcxx ]] || ! command -v clang++ >/dev/null; then
  echo "skipped: the class with libc++ -- clang, or a package libc++-*-dev, is not installed"
  skipped=1
elif [[ $(getconf LONG_BIT) != 64 ]]; then
  echo "skipped: the class with libc++ -- the listed symbols are of 64 bits"
  skipped=1
else
  scratch=$(mktemp -d "${TEST_TMPDIR:-/tmp}/abi.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  if clang++ -std=c++20 -nostdinc++ -isystem "$libcxx" -I. -Icompat/include -Wall -Wextra -Werror -c "$source" -o "$scratch/user.o"; then
    check "the symbols of the class" "$symbols" "$(nm --undefined-only "$scratch/user.o" | awk '/BufferAllocator/ { print $2 }' | sort)"
  else
    check "the class with libc++" "compiles" "does not"
  fi
fi

echo "$passed passed, $failed failed, $skipped skipped"
exit "$((failed > 0))"
