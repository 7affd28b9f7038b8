// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Moves from libdmabufheap: the same frame, filled and summed, first by the code that a program has,
// then by ion::Client. The first half needs no change, the second adds pools, a quota and a report.

#include <BufferAllocator/BufferAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/status.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/platforms/pooled.h"
#include "ion/report.h"
#include "ion/shared_buffer.h"

namespace {

constexpr size_t kBytes = 1 << 20;

// The program as it was.
int Before() {
  BufferAllocator allocator;
  const int fd = allocator.Alloc(kDmabufSystemHeapName, kBytes);
  if (fd < 0) return fd;
  void* const at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return ::close(fd), -1;
  allocator.CpuSyncStart(static_cast<unsigned>(fd), kSyncWrite);
  std::memset(at, 1, kBytes);
  allocator.CpuSyncEnd(static_cast<unsigned>(fd), kSyncWrite);
  allocator.CpuSyncStart(static_cast<unsigned>(fd), kSyncRead);
  int sum = 0;
  for (size_t i = 0; i < kBytes; ++i) sum += static_cast<const char*>(at)[i];
  allocator.CpuSyncEnd(static_cast<unsigned>(fd), kSyncRead);
  ::munmap(at, kBytes);
  ::close(fd);
  std::printf("before: the sum is %d\n", sum);
  return 0;
}

// The same with what the library adds.
absl::Status After() {
  auto manager = ion::platforms::PooledAny::Open();
  if (!manager.ok()) return manager.status();
  auto client = manager->CreateClient({.name = "camera", .quota_bytes = 8 * kBytes});
  if (!client.ok()) return client.status();
  const absl::StatusOr<ion::SharedBuffer> frame = client->AllocateShared({.bytes = kBytes});
  if (!frame.ok()) return frame.status();
  const auto mapping = ion::WritableMapping::Of(*frame);
  if (!mapping.ok()) return mapping.status();
  {
    const auto cpu = ion::CpuWrite::Begin(*mapping);
    if (!cpu.ok()) return cpu.status();
    std::ranges::fill(cpu->bytes(), std::byte{1});
  }
  int sum = 0;
  {
    const auto cpu = ion::CpuRead::Begin(*mapping);
    if (!cpu.ok()) return cpu.status();
    for (const std::byte byte : cpu->bytes()) sum += static_cast<int>(byte);
  }
  std::printf("after: the sum is %d\n", sum);
  std::fputs(ion::HeapText(manager->MakeReport(), ion::HeapId{0}).c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

int main() {
  if (const int answer = Before(); answer != 0) {
    std::fprintf(stderr, "from_libdmabufheap: %s\n", std::strerror(-answer));
    return 1;
  }
  if (const absl::Status status = After(); !status.ok()) {
    std::fprintf(stderr, "from_libdmabufheap: %s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
