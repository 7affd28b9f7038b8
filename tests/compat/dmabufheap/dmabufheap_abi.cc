// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Compiled with libc++: the class has the size of Android's, whose members these are, and its users
// need the symbols that dmabufheap_abi_test.sh lists.

#include <BufferAllocator/BufferAllocator.h>
#include <BufferAllocator/BufferAllocatorWrapper.h>

#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

// Android 12 to 14: a unique_fd is an int, ION's ion_heap_data 52 bytes.
struct Original {
  std::unordered_map<std::string, int> dmabuf_heap_fds;
  std::shared_mutex dmabuf_heap_fd_mutex;
  int ion_fd;
  bool uses_legacy_ion_iface;
  std::vector<char[52]> ion_heap_info;
  std::unordered_map<std::string, int> heap_name_to_config;
  std::shared_mutex heap_name_to_config_mutex;
};
static_assert(sizeof(BufferAllocator) == sizeof(Original));
static_assert(alignof(BufferAllocator) == alignof(Original));

}  // namespace

int Use(const std::string& name) {
  BufferAllocator allocator;
  return allocator.MapNameToIonHeap(name, name) + allocator.Alloc(name, 1) +
         allocator.AllocSystem(true, 1) + allocator.CpuSyncStart(1) + allocator.CpuSyncEnd(1) +
         static_cast<int>(BufferAllocator::GetDmabufHeapList().size()) +
         static_cast<int>(BufferAllocator::CheckIonSupport());
}
