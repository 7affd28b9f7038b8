// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A carveout: 16 MiB are set aside when the Manager opens, and requests that name the heap are served
// from them, whatever others take meanwhile. Runs on any Linux: the region is a memfd; a board with
// a CMA dma-heap takes DmaHeapBackend<> and the name "linux,cma".
#include <cinttypes>
#include <cstdio>
#include <string>

#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/system_heap.h"

int main() {
  using ion::literals::operator""_MiB;
  constexpr ion::HeapSpec kNpu{
      .type = ion::HeapType::kCarveout, .id = 2, .name = "memfd", .bytes = 16_MiB};
  constexpr ion::HeapId kNpuHeap{2};
  auto manager = ion::Manager<ion::MemfdBackend<>, ion::System, ion::Carveout<kNpu>>::Open();
  if (!manager.ok()) return 1;
  auto client = manager->CreateClient({.name = "npu"});
  if (!client.ok()) return 1;
  const auto weights = client->Allocate({.bytes = 12_MiB, .heaps = kNpuHeap, .name = "weights"});
  if (!weights.ok()) return 1;
  // The region has no room for these; with another heap in the mask they would come from there.
  const auto too_much = client->Allocate({.bytes = 8_MiB, .heaps = kNpuHeap});
  if (too_much.ok()) return 1;
  std::printf("%s\n", std::string(too_much.status().message()).c_str());
  const auto second = client->Allocate({.bytes = 8_MiB, .heaps = kNpuHeap | ion::HeapId{0}});
  if (!second.ok()) return 1;
  std::printf("%" PRIu64 " bytes from the system heap\n", second->bytes());
}
