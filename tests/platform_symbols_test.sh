#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: platform_symbols_test.sh BACKEND PROGRAM
# A program that was built for one backend has code of that one, and of no other; built for any, it has code of all.
set -euo pipefail

backend=$1 program=$2
declare -A class=([dma_heap]=DmaHeapBackend [ion]=IonBackend [ion_legacy]=IonLegacyBackend [udmabuf]=UdmabufBackend [memfd]=MemfdBackend)

symbols=$(nm -C "$program")
failed=0
for name in "${!class[@]}"; do
  expected=none
  [[ $backend != any && $backend != "$name" ]] || expected=some
  found=none
  [[ $symbols != *"ion::${class[$name]}<"* ]] || found=some
  if [[ $found != "$expected" ]]; then
    echo "built for $backend: $found symbols of ${class[$name]}, not $expected"
    failed=1
  fi
done
echo "$((1 - failed)) passed, $failed failed, 0 skipped"
exit "$failed"
