// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_ion.h
//
// /dev/ion, of the descriptor ABI (UAPI.md section 2) and of the handle ABI (sections 1 and 7).
//
// What it does not do: align memory (an alignment past what a heap has is refused, and any other
// taken), write-combining, caches, fragmentation, CUSTOM (there is no handler), debugfs; frees are
// as late as FakeMachine says.

#ifndef ION_TESTS_SUPPORT_FAKE_ION_H_
#define ION_TESTS_SUPPORT_FAKE_ION_H_

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "tests/support/fake_dma_buf.h"
#include "tests/support/fake_files.h"
#include "tests/support/fake_machine.h"
#include "third_party/ion_uapi/ion.h"
#include "third_party/ion_uapi/ion_legacy.h"

namespace ion::testing {

// What both ABIs have: the heaps, highest id first, and the walk over them.
class FakeIon : public FakeNode {
 public:
  FakeIon(FakeFiles& files, unsigned linux, uint64_t ram, std::vector<FakeHeapMemory*> heaps)
      : FakeNode(10, 60), files_(files), linux_(linux), ram_(ram), heaps_(std::move(heaps)) {
    std::ranges::stable_sort(heaps_, std::greater(),
                             [](const FakeHeapMemory* heap) { return heap->heap().id; });
  }

 protected:
  struct Allocation {
    long answer = -ENODEV;
    uint64_t bytes = 0;
    std::shared_ptr<FakeBuffer> memory = nullptr;
    size_t segments = 1;
  };

  // The first heap of the mask that gives memory, or what the last one answered.
  Allocation Allocate(uint64_t len, uint64_t align, uint32_t mask, uint32_t flags) {
    Allocation made{.bytes = RoundUpToPages(len).value_or(0)};
    if (made.bytes == 0) {
      made.answer = -EINVAL;
      return made;
    }
    files_.Collect();
    for (FakeHeapMemory* heap : heaps_) {
      if (heap->heap().id >= ion_uapi::kHeapIds || (mask >> heap->heap().id & 1) == 0) continue;
      made.answer = Take(*heap, made.bytes, align, flags, made.memory);
      if (made.answer != 0) continue;
      made.segments = SegmentsOf(heap->heap().type, made.bytes);
      break;
    }
    return made;
  }

  long QueryHeaps(void* argument) {
    ion_uapi::ion_heap_query query;
    if (const long answer = CopyIn(&query, argument, sizeof(query)); answer != 0) return answer;
    if ((query.reserved0 | query.reserved1 | query.reserved2) != 0) return -EINVAL;
    auto* const to = reinterpret_cast<ion_uapi::ion_heap_data*>(query.heaps);
    if (to != nullptr && query.cnt == 0) return -EINVAL;
    if (to != nullptr) heaps_listed_ = std::min<size_t>(query.cnt, heaps_.size());
    for (size_t i = 0; to != nullptr && i < heaps_listed_; ++i) {
      ion_uapi::ion_heap_data data{};
      const FakeHeap& heap = heaps_[i]->heap();
      heap.name.copy(data.name, sizeof(data.name) - 1);
      data.type = heap.type;
      data.heap_id = heap.id;
      if (const long answer = CopyOut(to + i, &data, sizeof(data)); answer != 0) return answer;
    }
    query.cnt = static_cast<uint32_t>(to != nullptr ? heaps_listed_ : heaps_.size());
    const long answer = CopyOut(argument, &query, sizeof(query));
    // Linux 4.9 has filled it by then.
    return answer == 0 && to != nullptr && linux_ < Linux(4, 12) ? -EINVAL : answer;
  }

  long Share(UniqueFd memfd, uint64_t bytes, const std::shared_ptr<FakeBuffer>& memory,
             bool takes_private = false) {
    return OpenDmaBuf(files_, std::move(memfd), bytes,
                      {linux_, FakeExporter::kIon, "ion", memory, takes_private});
  }
  FakeFiles& files() { return files_; }
  unsigned linux() const { return linux_; }

 private:
  static uint64_t Chunk() {
    return std::max(uint64_t{16} << 10, PageBytes());
  }  // the dummy driver's

  static size_t SegmentsOf(uint32_t type, uint64_t bytes) {
    if (type == ion_uapi::kHeapTypeChunk) return (bytes + Chunk() - 1) / Chunk();
    if (type != ion_uapi::kHeapTypeSystem) return 1;
    size_t segments = 0;
    for (const unsigned order : {8, 4, 0}) {
      segments += bytes / (PageBytes() << order);
      bytes %= PageBytes() << order;
    }
    return segments;
  }

  // What a heap answers. `align` is the handle ABI's.
  long Take(FakeHeapMemory& heap, uint64_t bytes, uint64_t align, uint32_t flags,
            std::shared_ptr<FakeBuffer>& memory) const {
    const uint64_t page = PageBytes();
    const bool handles = linux_ < Linux(4, 12);
    uint64_t taken = bytes;
    long exhausted = -ENOMEM;
    switch (heap.heap().type) {
      case ion_uapi::kHeapTypeSystem:
        if (align > page) return -EINVAL;
        if (bytes / page > ram_ / page / 2) return -ENOMEM;
        break;
      case ion_uapi::kHeapTypeSystemContig:
        if (align > std::bit_ceil(bytes)) return -EINVAL;
        if (bytes > page << 10) return -ENOMEM;  // the largest order of the page allocator
        break;
      case ion_uapi::kHeapTypeChunk:
        if (align > Chunk()) return -EINVAL;
        taken = (bytes + Chunk() - 1) / Chunk() * Chunk();
        break;
      case ion_uapi::kHeapTypeDma:
        if (handles && (flags & ion_uapi::kFlagCached) != 0) return -EINVAL;
        if (handles) exhausted = -1;
        [[fallthrough]];
      default:
        if (align > page) return -EINVAL;
    }
    memory = heap.Take(taken);
    return memory == nullptr ? exhausted : 0;
  }

  FakeFiles& files_;
  const unsigned linux_;
  const uint64_t ram_;
  std::vector<FakeHeapMemory*> heaps_;
  size_t heaps_listed_ = 0;
};

// Linux 4.12 to 5.10.
class FakeModernIon : public FakeIon {
 public:
  using FakeIon::FakeIon;

  long Ioctl(int /*fd*/, unsigned long request, void* argument) override {
    // Before anything else the argument is copied, whatever the request.
    char all[sizeof(ion_uapi::ion_allocation_data)];
    if (_IOC_SIZE(request) > sizeof(all)) return -EINVAL;
    if (_IOC_SIZE(request) != 0) {
      if (const long answer = CopyIn(all, argument, _IOC_SIZE(request)); answer != 0) {
        return answer;
      }
    }
    if (request == ion_uapi::kIocHeapQuery) return QueryHeaps(argument);
    if (request != ion_uapi::kIocAlloc) return -ENOTTY;
    ion_uapi::ion_allocation_data data;
    std::memcpy(&data, all, sizeof(data));
    const Allocation made = Allocate(data.len, 0, data.heap_id_mask, data.flags);
    if (made.answer != 0) return made.answer;
    const long fd = Share(NewMemory("dmabuf", made.bytes), made.bytes, made.memory);
    if (fd < 0) return fd;
    data.fd = static_cast<uint32_t>(fd);
    return CopyOut(argument, &data, sizeof(data));
  }
};

// By which door a program comes to the handle ABI: that of programs like the kernel, or that of
// 32-bit programs on a 64-bit kernel.
enum class IonDoor : uint8_t { kNative, kCompat };

// Linux 3.10 to 4.11. An open file is a client, with the handles that are its own. Word: unsigned
// long of the program.
template <class Word = unsigned long>
class FakeLegacyIon : public FakeIon {
 public:
  FakeLegacyIon(FakeFiles& files, unsigned linux, uint64_t ram, std::vector<FakeHeapMemory*> heaps,
                IonDoor door = IonDoor::kNative)
      : FakeIon(files, linux, ram, std::move(heaps)), door_(door) {}

  long Ioctl(int /*fd*/, unsigned long request, void* argument) override {
    const bool compat = door_ == IonDoor::kCompat;
    if (compat && !IsOfHandles(request)) return -ENOTTY;
    const bool queries = linux() >= Linux(4, 9) && !compat;
    const size_t largest =
        std::max(sizeof(AllocationData), queries ? sizeof(ion_uapi::ion_heap_query) : 0);
    if (_IOC_SIZE(request) > largest) return -EINVAL;
    // Before anything else the argument is copied, whatever the request.
    std::array<std::byte, 64> all;
    if ((_IOC_DIR(request) & _IOC_WRITE) != 0) {
      const long answer = CopyIn(all.data(), argument, _IOC_SIZE(request));
      if (answer != 0) return answer;
    }
    const auto on = [&]<class Data>(long (FakeLegacyIon::*f)(Data&), bool copies_back = true) {
      Data data;
      std::memcpy(&data, all.data(), sizeof(data));
      const long answer = (this->*f)(data);
      return answer != 0 || !copies_back ? answer : CopyOut(argument, &data, sizeof(data));
    };
    if (queries && request == ion_uapi::kIocHeapQuery) return QueryHeaps(argument);
    switch (request) {
      case Ioctls::kAlloc:
        return on(&FakeLegacyIon::Allocate);
      case Ioctls::kFree:
        return on(&FakeLegacyIon::Free, false);
      case Ioctls::kShare:
      case Ioctls::kMap:
        return on(&FakeLegacyIon::Share);
      case Ioctls::kImport:
        return on(&FakeLegacyIon::Import);
      case Ioctls::kSync:
        return on(&FakeLegacyIon::Sync, false);
    }
    return -ENOTTY;
  }

 private:
  using Abi = ion_uapi::LegacyAbi<Word>;
  using Ioctls = ion_uapi::LegacyIoctls<Abi>;
  using AllocationData = typename Abi::ion_allocation_data;
  using FdData = typename Abi::ion_fd_data;
  using HandleData = typename Abi::ion_handle_data;

  // A reference to a buffer. The memfd is open as long as the handle is, as it alone may hold it.
  struct Handle {
    UniqueFd memfd;
    uint64_t bytes;
    std::shared_ptr<FakeBuffer> memory;
    bool takes_private;
    unsigned references = 1;
  };

  // What the door for 32-bit programs knows: all but HEAP_QUERY.
  static bool IsOfHandles(unsigned long request) {
    for (const unsigned long known : {Ioctls::kAlloc, Ioctls::kFree, Ioctls::kShare, Ioctls::kMap,
                                      Ioctls::kImport, Ioctls::kSync, Ioctls::kCustom}) {
      if (request == known) return true;
    }
    return false;
  }

  long Allocate(AllocationData& data) {
    const bool wraps = door_ == IonDoor::kNative &&
                       static_cast<Word>(data.len + static_cast<Word>(PageBytes() - 1)) < data.len;
    if (wraps) return -EINVAL;
    const Allocation made = FakeIon::Allocate(data.len, data.align, data.heap_id_mask, data.flags);
    if (made.answer != 0) return made.answer;
    constexpr uint32_t kBoth = ion_uapi::kFlagCached | ion_uapi::kFlagCachedNeedsSync;
    const bool faults = (data.flags & kBoth) == ion_uapi::kFlagCached;  // page by page
    UniqueFd memfd = NewMemory("ion buffer", made.bytes);
    if (!memfd.valid()) return -errno;
    data.handle = Add({std::move(memfd), made.bytes, made.memory, faults || made.segments == 1});
    return 0;
  }
  long Free(HandleData& data) {
    const auto found = handles_.find(data.handle);
    if (found == handles_.end()) return -EINVAL;
    if (--found->second.references == 0) handles_.erase(found);
    return 0;
  }
  // A new dma-buf each time, of the same pages.
  long Share(FdData& data) {
    const auto found = handles_.find(data.handle);
    if (found == handles_.end()) return -EINVAL;
    const Handle& handle = found->second;
    const long fd = FakeIon::Share(OpenAgain(handle.memfd.get(), O_RDWR | O_CLOEXEC), handle.bytes,
                                   handle.memory, handle.takes_private);
    if (fd < 0) return fd;
    data.fd = static_cast<int>(fd);
    return 0;
  }
  long Import(FdData& data) {
    const auto [answer, dma_buf] = FindOwn(data.fd);
    if (answer != 0) return answer;
    const ino_t inode = InodeOf(data.fd);
    for (auto& [id, handle] : handles_) {
      if (InodeOf(handle.memfd.get()) != inode) continue;
      ++handle.references;
      data.handle = id;
      return 0;
    }
    UniqueFd memfd = OpenAgain(data.fd, O_RDWR | O_CLOEXEC);
    if (!memfd.valid()) return -errno;
    data.handle =
        Add({std::move(memfd), dma_buf->bytes(), dma_buf->memory(), dma_buf->takes_private()});
    return 0;
  }
  long Sync(FdData& data) { return FindOwn(data.fd).first; }
  // The dma-buf of this device behind a descriptor.
  std::pair<long, std::shared_ptr<FakeDmaBuf>> FindOwn(int fd) {
    if (::fcntl(fd, F_GETFD) < 0) return {-EBADF, nullptr};
    auto dma_buf = std::dynamic_pointer_cast<FakeDmaBuf>(files().Of(fd));
    const bool own = dma_buf != nullptr && dma_buf->exporter() == FakeExporter::kIon;
    return {own ? 0 : -EINVAL, std::move(dma_buf)};
  }

  // The lowest free id, from 1.
  int Add(Handle handle) {
    int id = 1;
    while (handles_.contains(id)) ++id;
    handles_.emplace(id, std::move(handle));
    return id;
  }
  static ino_t InodeOf(int fd) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 ? status.st_ino : 0;
  }

  const IonDoor door_;
  std::map<int, Handle> handles_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_ION_H_
