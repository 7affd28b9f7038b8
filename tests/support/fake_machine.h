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

#include "ion/bytes.h"
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
};

struct FakeMachine {
  unsigned linux = Linux(6, 12);
  uint64_t ram = uint64_t{1} << 30;
  std::vector<FakeHeap> ion = {};        // /dev/ion, of the handle ABI before Linux 4.12
  std::vector<FakeHeap> dma_heaps = {};  // /dev/dma_heap
  bool udmabuf = false;                  // /dev/udmabuf
};

// The kernels of UAPI.md section 7 and of the guests (tests/guest).
inline FakeMachine Linux42Machine() {
  return {.linux = Linux(4, 2),
          .ion = {{.name = "system", .type = ion_uapi::kHeapTypeSystem, .id = 0},
                  {.name = "system contig", .type = ion_uapi::kHeapTypeSystemContig, .id = 1},
                  {.name = "carveout", .type = ion_uapi::kHeapTypeCarveout, .id = 2},
                  {.name = "chunk", .type = ion_uapi::kHeapTypeChunk, .id = 3}}};
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
class FakeBuffer {
 public:
  FakeBuffer(std::shared_ptr<uint64_t> left, uint64_t bytes)
      : left_(std::move(left)), bytes_(bytes) {
    *left_ -= bytes_;
  }
  FakeBuffer(const FakeBuffer&) = delete;
  FakeBuffer& operator=(const FakeBuffer&) = delete;
  ~FakeBuffer() { *left_ += bytes_; }

 private:
  std::shared_ptr<uint64_t> left_;
  uint64_t bytes_;
};

// A heap at work. Fragmentation it has none: it gives what is left.
class FakeHeapMemory {
 public:
  FakeHeapMemory(FakeHeap heap, uint64_t ram)
      : heap_(std::move(heap)), left_(std::make_shared<uint64_t>(OfRam() ? ram : heap_.bytes)) {}

  const FakeHeap& heap() const { return heap_; }
  uint64_t left() const { return *left_; }
  bool OfRam() const {
    return heap_.type == ion_uapi::kHeapTypeSystem || heap_.type == ion_uapi::kHeapTypeSystemContig;
  }
  // None: there is not as much left.
  std::shared_ptr<FakeBuffer> Take(uint64_t bytes) {
    return bytes > *left_ ? nullptr : std::make_shared<FakeBuffer>(left_, bytes);
  }

 private:
  FakeHeap heap_;
  std::shared_ptr<uint64_t> left_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_MACHINE_H_
