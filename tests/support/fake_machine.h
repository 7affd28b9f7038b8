// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_machine.h
//
// What a fake kernel is like: its version, by which its quirks go, its devices, and their memory.
//
// Example:
//   FakeMachine board = Linux42Machine();
//   board.ion.push_back({.name = "camera", .type = ion_uapi::kHeapTypeDma, .id = 9});

#ifndef ION_TESTS_SUPPORT_FAKE_MACHINE_H_
#define ION_TESTS_SUPPORT_FAKE_MACHINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ion/base/bytes.h"
#include "third_party/ion_uapi/ion.h"

namespace ion::testing {

// 6.12 is Linux(6, 12).
constexpr unsigned Linux(unsigned major, unsigned minor) { return major * 1000 + minor; }

// A heap of the kernel's.
struct FakeHeap {
  std::string name;
  uint32_t type = ion_uapi::kHeapTypeSystem;
  uint32_t id = 0;                     // ION's
  uint64_t bytes = uint64_t{4} << 20;  // that it has; the system's heaps have the machine's
  std::string region = {};             // heaps that name the same one have its memory between them
};

// An entry of /dev/dma_heap that leads to another one.
struct FakeLink {
  std::string name;
  std::string target;
};

struct FakeMachine {
  unsigned linux = Linux(6, 12);
  bool door_32_bit = false;  // its programs are 32-bit ones, on a 64-bit kernel
  unsigned late_frees = 0;   // of a region of /dev/ion: requests that are refused until then
  uint64_t ram = uint64_t{1} << 30;
  std::vector<FakeHeap> ion = {};        // /dev/ion, of the handle ABI before Linux 4.12
  std::vector<FakeHeap> dma_heaps = {};  // /dev/dma_heap
  bool udmabuf = false;                  // /dev/udmabuf
  std::vector<FakeLink> links = {};      // in /dev/dma_heap
  bool sysfs = true;                     // /sys, which containers may lack
};

// The kernels of UAPI.md section 7 and of the guests (tests/guest).
inline FakeMachine Linux42Machine() {
  return {.linux = Linux(4, 2),
          .ion = {{.name = "system", .type = ion_uapi::kHeapTypeSystem, .id = 0},
                  {.name = "system contig", .type = ion_uapi::kHeapTypeSystemContig, .id = 1},
                  {.name = "carveout", .type = ion_uapi::kHeapTypeCarveout, .id = 2},
                  {.name = "chunk", .type = ion_uapi::kHeapTypeChunk, .id = 3}}};
}
// The last of the handle ABI: with HEAP_QUERY, and DMA_BUF_IOCTL_SYNC.
inline FakeMachine Linux49Machine() {
  FakeMachine machine = Linux42Machine();
  machine.linux = Linux(4, 9);
  return machine;
}
inline FakeMachine Linux510Machine() {
  constexpr uint64_t kCma = uint64_t{64} << 20;
  return {
      .linux = Linux(5, 10),
      .ion = {{.name = "ion_system_heap", .type = ion_uapi::kHeapTypeSystem, .id = 0},
              {.name = "ion_system_contig_heap", .type = ion_uapi::kHeapTypeSystemContig, .id = 1},
              {.name = "reserved", .type = ion_uapi::kHeapTypeDma, .id = 2, .bytes = kCma}},
      .dma_heaps = {{.name = "system"},
                    {.name = "reserved", .type = ion_uapi::kHeapTypeDma, .bytes = kCma}},
      .udmabuf = true};
}
inline FakeMachine Linux612Machine() {
  FakeMachine machine = Linux510Machine();
  machine.linux = Linux(6, 12);
  machine.ion.clear();
  return machine;
}

// The memory of a heap, of which a buffer takes a part for as long as it lives.
struct FakeMemory {
  uint64_t left;
  uint64_t late = 0;      // of it, given back and not yet to be had
  unsigned refusals = 0;  // until it is
};
class FakeBuffer {
 public:
  FakeBuffer(std::shared_ptr<FakeMemory> memory, uint64_t bytes, unsigned late_frees)
      : memory_(std::move(memory)), bytes_(bytes), late_frees_(late_frees) {
    memory_->left -= bytes_;
  }
  FakeBuffer(const FakeBuffer&) = delete;
  FakeBuffer& operator=(const FakeBuffer&) = delete;
  ~FakeBuffer() {
    memory_->left += bytes_;
    if (late_frees_ == 0) return;
    memory_->late += bytes_;
    memory_->refusals = late_frees_;
  }

 private:
  std::shared_ptr<FakeMemory> memory_;
  uint64_t bytes_;
  unsigned late_frees_;
};

// A heap at work. Fragmentation it has none: it gives what is left.
class FakeHeapMemory {
 public:
  FakeHeapMemory(FakeHeap heap, uint64_t ram, unsigned late_frees = 0)
      : heap_(std::move(heap)),
        memory_(std::make_shared<FakeMemory>(FakeMemory{.left = OfRam() ? ram : heap_.bytes})),
        late_frees_(FreesLate() ? late_frees : 0) {}

  const FakeHeap& heap() const { return heap_; }
  uint64_t left() const { return memory_->left; }
  bool OfRam() const {
    return heap_.type == ion_uapi::kHeapTypeSystem || heap_.type == ion_uapi::kHeapTypeSystemContig;
  }
  // From now on both take from the same memory.
  void ShareWith(const FakeHeapMemory& other) { memory_ = other.memory_; }
  // None: there is not as much left, or not yet.
  std::shared_ptr<FakeBuffer> Take(uint64_t bytes) {
    FakeMemory& memory = *memory_;
    if (memory.refusals == 0) memory.late = 0;
    if (bytes > memory.left - memory.late) {
      if (memory.refusals > 0) --memory.refusals;
      return nullptr;
    }
    return std::make_shared<FakeBuffer>(memory_, bytes, late_frees_);
  }

 private:
  bool FreesLate() const {
    return heap_.type == ion_uapi::kHeapTypeCarveout || heap_.type == ion_uapi::kHeapTypeChunk;
  }

  FakeHeap heap_;
  std::shared_ptr<FakeMemory> memory_;
  unsigned late_frees_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_MACHINE_H_
