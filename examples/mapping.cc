// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A mapping: the CPU writes a buffer in a CpuWrite scope and reads it in a CpuRead scope. The
// kernel is told of both ends of a scope, so that caches and devices agree.
#include <algorithm>
#include <cstddef>
#include <cstdio>

#include "ion/base/bytes.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/platforms/pooled.h"

int main() {
  using ion::literals::operator""_MiB;
  constexpr std::byte kGrey{0x80};
  auto manager = ion::platforms::PooledMemfd::Open();
  if (!manager.ok()) return 1;
  auto client = manager->CreateClient({.name = "painter"});
  if (!client.ok()) return 1;
  const auto frame = client->Allocate({.bytes = 1_MiB, .name = "frame"});
  if (!frame.ok()) return 1;
  auto mapping = ion::WritableMapping::Of(*frame);  // ends before the buffer
  if (!mapping.ok()) return 1;
  {
    auto cpu = ion::CpuWrite::Begin(*mapping);
    if (!cpu.ok()) return 1;
    std::ranges::fill(cpu->bytes(), kGrey);
  }
  const auto cpu = ion::CpuRead::Begin(*mapping);
  if (!cpu.ok()) return 1;
  const auto grey = std::ranges::count(cpu->bytes(), kGrey);
  std::printf("%td grey bytes\n", grey);
  return grey == 1 << 20 ? 0 : 1;
}
