// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/include/BufferAllocator/BufferAllocator.h
//
// The class of Android's libdmabufheap (Android 12 to 14) over this library. Memory comes from the
// dma-heap of the name, else from /dev/ion, and on a machine that has neither, for the heap
// `system`, from udmabuf or a memfd. Each descriptor that is returned is a real one: mmap, close,
// and, of a dma-buf, DMA_BUF_IOCTL_SYNC work on it.
//
// An int that is negative is the negative number of an errno: that of the first interface that has
// the heap and fails.
//
// Heap flags are those of ION: bit 0 (ION_FLAG_CACHED) and bit 1 (ION_FLAG_CACHED_NEEDS_SYNC), and
// bits 16 to 31, which only ION's heaps have. Others are -EINVAL, as is bit 0 for memory that is
// not cached.
//
// Example:
//   BufferAllocator allocator;
//   int fd = allocator.Alloc(kDmabufSystemHeapName, 1 << 20);
//   allocator.CpuSyncStart(fd, kSyncWrite);
//
// Recycling: memory of the dma-heap `system`, and of udmabuf, may be given out again after its last
// descriptor and mapping have gone, zeroed, if the kernel proves that (docs/moving/libdmabufheap.md
// has the bounds). Memory of a memfd never is.
//
// Cost: an allocation opens its heap's node and closes it, but for `system`. Thread-safe. A child
// made by fork may go on with its copy.
#ifndef ION_COMPAT_INCLUDE_BUFFERALLOCATOR_BUFFERALLOCATOR_H_
#define ION_COMPAT_INCLUDE_BUFFERALLOCATOR_BUFFERALLOCATOR_H_

#include <BufferAllocator/dmabufheap-defs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

class BufferAllocator {
 public:
  BufferAllocator();
  ~BufferAllocator() {}
  BufferAllocator(const BufferAllocator&) = delete;
  BufferAllocator& operator=(const BufferAllocator&) = delete;

  // Says which heap and flags of ION stand for a dma-heap. No effect, and 0, if there is a dma-heap
  // of this name, or no ION. Else, with `ion_heap_name`, that heap and `ion_heap_flags`; if it is
  // empty, or the kernel has the ION of handles (before Linux 4.12), the mask and its flags.
  // -EINVAL: no heap of ION has this name, the mask is 0, or a flag has no name.
  int MapNameToIonHeap(const std::string& heap_name, const std::string& ion_heap_name,
                       unsigned int ion_heap_flags = 0, unsigned int legacy_ion_heap_mask = 0,
                       unsigned int legacy_ion_heap_flags = 0);

  // Returns a new descriptor of `len` bytes, rounded up to pages, of zeroed memory of the heap.
  // `legacy_align` is for the ION of handles only. -ENOENT: no interface has such a heap. -ENOMEM:
  // the kernel has no memory, or `len` is past half of the memory that the process can have.
  int Alloc(const std::string& heap_name, size_t len, unsigned int heap_flags = 0,
            size_t legacy_align = 0);

  // The same of the heap `system`; without `cpu_access` of `system-uncached`, if there is one.
  int AllocSystem(bool cpu_access, size_t len, unsigned int heap_flags = 0,
                  size_t legacy_align = 0);

  // Called for the ION of handles in place of ION_IOC_SYNC, with a descriptor of /dev/ion that is
  // open during the call, the buffer's descriptor, and the data. Its answer is returned.
  typedef std::function<int(int, int, void*)> CustomCpuSyncLegacyIon;

  // Begins CPU access to a buffer. -EBADF: not open. -ENOTTY: no memory of a heap. -EINVAL: a type
  // that is none.
  int CpuSyncStart(unsigned int dmabuf_fd, SyncType sync_type = kSyncRead,
                   const CustomCpuSyncLegacyIon& legacy_ion_cpu_sync = nullptr,
                   void* legacy_ion_custom_data = nullptr);
  // Ends it. Errors: as CpuSyncStart.
  int CpuSyncEnd(unsigned int dmabuf_fd, SyncType sync_type = kSyncRead,
                 const CustomCpuSyncLegacyIon& legacy_ion_cpu_sync = nullptr,
                 void* legacy_ion_custom_data = nullptr);

  // The names in /dev/dma_heap; on a machine that has neither heaps nor ION, `system`.
  static std::unordered_set<std::string> GetDmabufHeapList();
  // True if /dev/ion can be opened for reading, at this moment.
  static bool CheckIonSupport();

 private:
  struct IonHeapConfig {
    unsigned int mask;
    unsigned int flags;
  };
  struct IonHeapData {
    char name[32];
    uint32_t words[5];
  };
  int Sync(unsigned int dmabuf_fd, bool start, SyncType sync_type,
           const CustomCpuSyncLegacyIon& legacy_ion_cpu_sync, void* legacy_ion_custom_data);

  // The members that the original has, in its order: a program that was built with its header, and
  // with libc++, reserves the size of these, and destroys them. Those that are not used stay empty.
  [[maybe_unused]] std::unordered_map<std::string, int> dmabuf_heap_fds_;
  [[maybe_unused]] std::shared_mutex dmabuf_heap_fd_mutex_;
  [[maybe_unused]] int ion_fd_ = -1;
  bool uses_legacy_ion_iface_ = false;
  [[maybe_unused]] std::vector<IonHeapData> ion_heap_info_;
  std::unordered_map<std::string, IonHeapConfig> heap_name_to_config_;
  std::shared_mutex heap_name_to_config_mutex_;
};

#endif  // ION_COMPAT_INCLUDE_BUFFERALLOCATOR_BUFFERALLOCATOR_H_
