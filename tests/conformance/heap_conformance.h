// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/conformance/heap_conformance.h
//
// What ion/heap.h asks of every heap policy, one fact per test case, over a backend. A backend runs
// it over all heaps with a file of a few lines (tests/conformance/memfd_heaps.cc). Where the
// platform has no memory for a heap, the case is skipped with the heap's own reason.
//
// A heap under test is a type with
//   using Backend = …;
//   using Heap = …;                        // over it
//   static constexpr uint64_t kLargest;    // what it has to give at once
// if it refuses small requests,
//   static constexpr uint64_t kSmallest;   // the fewest bytes it gives, at most kLargest / 4
// and, if DeviceMappingNames (tests/support/open_files.h) does not have it,
//   static constexpr const char* kMappings;  // the name of its mappings in /proc/self/maps
//
// Every case ends with as many bytes held as the heap had when it was bound, no error in the sink,
// and the descriptors and mappings that it began with (OnHeap).

#ifndef ION_TESTS_CONFORMANCE_HEAP_CONFORMANCE_H_
#define ION_TESTS_CONFORMANCE_HEAP_CONFORMANCE_H_

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/backend_suite.h"
#include "tests/support/leak_check.h"
#include "tests/support/open_files.h"
#include "tests/support/skip.h"

#define ION_HEAP_FACT(id, sentence) ION_SUITE_FACT_OF("Heap: ", id, sentence)

namespace ion::testing {

// The four heaps over a backend.
template <class B>
struct SystemUnderTest {
  using Backend = B;
  using Heap = SystemHeap<B>;
  static constexpr uint64_t kLargest = 8_MiB;
};
template <class B>
struct SystemContigUnderTest {
  using Backend = B;
  using Heap = SystemContigHeap<B>;
  static constexpr uint64_t kLargest = 4_KiB;
};
inline constexpr HeapSpec kCarveoutUnderTest{.type = HeapType::kCarveout, .id = 2, .bytes = 8_MiB};
template <class B>
struct CarveoutUnderTest {
  using Backend = B;
  using Heap = CarveoutHeap<B, kCarveoutUnderTest>;
  static constexpr uint64_t kLargest = 2_MiB;
};
template <class B>
struct DmaUnderTest {
  using Backend = B;
  using Heap = DmaHeap<B>;
  static constexpr uint64_t kLargest = 2_MiB;
};

// Calls f(rig) with the heap bound: rig.heap, rig.backend, and the calls below. Skips where there
// is no such backend, or no memory of it for this heap.
template <class T>
class HeapRig {
 public:
  using Heap = typename T::Heap;

  HeapRig(typename T::Backend& over, Heap& bound) : backend(over), heap(bound) {}

  // As a backend, for the helpers that fill a block and look at it.
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes, MapMode mode) {
    return heap.Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) { return heap.Unmap(at, bytes); }
  Error BeginCpuAccess(const Block& block, Direction direction) {
    if constexpr (Heap::kCaps.syncs) return heap.BeginCpuAccess(block, direction);
    return backend.BeginCpuAccess(block, direction);
  }
  Error EndCpuAccess(const Block& block, Direction direction) {
    if constexpr (Heap::kCaps.syncs) return heap.EndCpuAccess(block, direction);
    return backend.EndCpuAccess(block, direction);
  }

  typename T::Backend& backend;
  Heap& heap;
};

template <class T, class F>
void OnHeap(F f) {
  using B = typename T::Backend;
  if constexpr (requires { T::kMappings; }) AddDeviceMappingName(T::kMappings);
  const LeakCheck leaks;
  const auto errors = std::make_shared<ErrorSink>();
  typename B::Options options;
  options.errors = errors;
  Result<B> backend = B::Open(options);
  if (backend.error().code() == ENOENT) return Skip(Describe(backend.error()));
  REQUIRE(Told(backend.error()) == "ok");
  {
    Result<typename T::Heap> heap = T::Heap::Bind(*backend);
    if (heap.error().code() == ENODEV) return Skip(Describe(heap.error()));
    REQUIRE(Told(heap.error()) == "ok");
    const uint64_t held = backend->budget().held();
    HeapRig<T> rig(*backend, *heap);
    f(rig);
    CHECK(backend->budget().held() == held);
  }
  CHECK(backend->budget().held() == 0);
  CHECK(backend->kept_mappings() == 0);
  CHECK(errors->count() == 0);
}

// A block of a heap, given back at the end.
template <class Rig>
class HeapMemory {
 public:
  HeapMemory(Rig& rig, const Request& request) : rig_(rig) {
    REQUIRE(Told(rig.heap.Allocate(request, block)) == "ok");
  }
  HeapMemory(Rig& rig, uint64_t bytes) : HeapMemory(rig, Request{.bytes = bytes}) {}
  HeapMemory(const HeapMemory&) = delete;
  HeapMemory& operator=(const HeapMemory&) = delete;
  ~HeapMemory() { CHECK(Told(rig_.heap.Free(block)) == "ok"); }

  Block block;

 private:
  Rig& rig_;
};

// Returns the fewest bytes that the heap has to give: 1 if it does not say.
template <class T>
constexpr uint64_t SmallestOf() {
  if constexpr (requires { T::kSmallest; }) {
    static_assert(T::kSmallest <= T::kLargest / 4, "four blocks are held at once");
    return T::kSmallest;
  } else {
    return 1;
  }
}

// Returns a part of kLargest in bytes, and no less than the heap gives.
template <class T>
constexpr uint64_t NoLessThanSmallest(uint64_t bytes) {
  return std::max(bytes, SmallestOf<T>());
}

// Returns sizes in bytes, from the fewest to the most that the heap has to give.
template <class T>
std::vector<uint64_t> SizesOf() {
  std::vector<uint64_t> sizes{SmallestOf<T>()};
  for (const uint64_t bytes : {4_KiB - 1, 4_KiB, 4_KiB + 1, 64_KiB, 1_MiB + 1, 2_MiB}) {
    if (bytes > SmallestOf<T>() && bytes <= T::kLargest) sizes.push_back(bytes);
  }
  return sizes;
}

// ---- Allocating ----

ION_HEAP_FACT(heap_blocks, "a block has room, whole pages, and what its heap promises") {
  OnHeap<T>([](auto& rig) {
    for (const uint64_t bytes : SizesOf<T>()) {
      CAPTURE(bytes);
      const HeapMemory memory(rig, bytes);
      CHECK(memory.block.filled());
      CHECK(memory.block.bytes >= bytes);
      CHECK(IsPageAligned(memory.block.bytes));
      CHECK(memory.block.properties() == rig.heap.properties());
      CHECK_FALSE(memory.block.foreign);
    }
  });
}

ION_HEAP_FACT(heap_zeroed,
              "memory of a heap that promises it reads as zero, written before or not") {
  OnHeap<T>([](auto& rig) {
    if (!rig.heap.properties().zeroed.yes()) return Skip("the heap does not promise it");
    for (int round = 0; round < 3; ++round) {
      const HeapMemory memory(rig, T::kLargest);
      CHECK(LookForZeros(rig, memory.block) == "ok");
      CHECK(Fill(rig, memory.block, 0xff) == "ok");
    }
  });
}

ION_HEAP_FACT(heap_apart, "blocks that live at the same time share no byte") {
  OnHeap<T>([](auto& rig) {
    const uint64_t bytes = NoLessThanSmallest<T>(T::kLargest / 4 + 1);
    const HeapMemory one(rig, bytes), two(rig, bytes), three(rig, bytes);
    CHECK(Fill(rig, one.block, 1) == "ok");
    CHECK(Fill(rig, two.block, 2) == "ok");
    CHECK(Fill(rig, three.block, 3) == "ok");
    CHECK(Look(rig, one.block, 1) == "ok");
    CHECK(Look(rig, two.block, 2) == "ok");
    CHECK(Look(rig, three.block, 3) == "ok");
  });
}

ION_HEAP_FACT(heap_freed, "Free leaves the block empty, and its memory for the next") {
  OnHeap<T>([](auto& rig) {
    for (int round = 0; round < 100; ++round) {
      Block block;
      REQUIRE(Told(rig.heap.Allocate({.bytes = T::kLargest}, block)) == "ok");
      REQUIRE(Told(rig.heap.Free(block)) == "ok");
      REQUIRE_FALSE(block.filled());
      REQUIRE_FALSE(block.reserved());
    }
  });
}

ION_HEAP_FACT(heap_refused, "what no heap can give is refused, and the block stays empty") {
  OnHeap<T>([](auto& rig) {
    const auto refused = [&](const Request& request) {
      Block block;
      const Error error = rig.heap.Allocate(request, block);
      CHECK_FALSE(block.filled());
      CHECK(*error.what() != '\0');
      return error.code();
    };
    CHECK(refused({.bytes = 0}) == EINVAL);
    for (const uint64_t bytes : {UINT64_MAX, UINT64_MAX - 4095, uint64_t{1} << 63}) {
      const int code = refused({.bytes = bytes});
      CHECK((code == EINVAL || code == ENOTSUP || code == ENOMEM));
    }
    for (const uint64_t alignment : {uint64_t{0}, uint64_t{3}, uint64_t{12288}}) {
      CHECK(refused({.bytes = SmallestOf<T>(), .alignment = alignment}) == EINVAL);
    }
    if (!T::Heap::kCaps.knows_phys) {  // one that does can place a block as it likes
      const uint64_t alignment = 2 * rig.heap.properties().alignment;
      CHECK(refused({.bytes = SmallestOf<T>(), .alignment = alignment}) == EINVAL);
    }
    CHECK(refused({.bytes = SmallestOf<T>(), .flags = HeapPrivate(15)}) == EINVAL);
    CHECK(refused({.bytes = SmallestOf<T>(), .flags = Flags::kCached | Flags::kUncached}) ==
          EINVAL);
  });
}

ION_HEAP_FACT(heap_small, "fewer bytes than its smallest size are refused, and change nothing") {
  OnHeap<T>([](auto& rig) {
    if (SmallestOf<T>() == 1) return Skip("the heap gives any size");
    for (const uint64_t bytes : {uint64_t{1}, SmallestOf<T>() - 1}) {
      CAPTURE(bytes);
      const uint64_t held = rig.backend.budget().held();
      Block block;
      const Error error = rig.heap.Allocate({.bytes = bytes}, block);
      CHECK((error.code() == EINVAL || error.code() == ENOTSUP || error.code() == ENOMEM));
      CHECK(*error.what() != '\0');
      CHECK(error.bytes() == bytes);
      CHECK_FALSE(block.filled());
      CHECK(rig.backend.budget().held() == held);
    }
  });
}

ION_HEAP_FACT(heap_caching, "a request gets the caching that it names, or is refused") {
  OnHeap<T>([](auto& rig) {
    for (const bool cached : {false, true}) {
      CAPTURE(cached);
      Block block;
      const Flags flags = cached ? Flags::kCached : Flags::kUncached;
      const Error error = rig.heap.Allocate({.bytes = SmallestOf<T>(), .flags = flags}, block);
      if (!error.ok()) {
        CHECK(Kind(error) == "EINVAL allocate");
        CHECK(rig.heap.properties().cached != cached);
        continue;
      }
      CHECK(block.properties().cached == cached);
      CHECK(Told(rig.heap.Free(block)) == "ok");
    }
  });
}

ION_HEAP_FACT(heap_alignment, "a request may name the alignment that its heap promises") {
  OnHeap<T>([](auto& rig) {
    const uint64_t alignment = rig.heap.properties().alignment;
    CHECK(std::has_single_bit(alignment));
    const HeapMemory memory(rig, Request{.bytes = SmallestOf<T>(), .alignment = alignment});
    CHECK(memory.block.properties().alignment >= alignment);
  });
}

// ---- Mapping ----

ION_HEAP_FACT(heap_parts,
              "a part of a block is mapped as its pages, and read-only where so asked") {
  OnHeap<T>([](auto& rig) {
    const HeapMemory memory(rig, T::kLargest);
    CHECK(Fill(rig, memory.block, 7) == "ok");
    const uint64_t page = PageBytes();
    for (uint64_t at = 0; at < memory.block.bytes;
         at += memory.block.bytes / 4 / page * page + page) {
      const Result<std::byte*> part = rig.heap.Map(memory.block, at, page, MapMode::kReadOnly);
      REQUIRE(Told(part.error()) == "ok");
      CHECK(Told(rig.BeginCpuAccess(memory.block, Direction::kRead)) == "ok");
      CHECK(LookAtPages({*part, page}, 7, at / page) == "ok");
      CHECK(Told(rig.EndCpuAccess(memory.block, Direction::kRead)) == "ok");
      CHECK(::mprotect(*part, page, PROT_READ) == 0);
      CHECK(Told(rig.heap.Unmap(*part, page)) == "ok");
    }
  });
}

// ---- What it declares ----

ION_HEAP_FACT(heap_layout,
              "its segments, where it knows them, are the block, and one where it is contiguous") {
  OnHeap<T>([](auto& rig) {
    using H = typename T::Heap;
    if constexpr (!H::kCaps.knows_layout) {
      Skip("the heap does not know how its memory lies");
    } else {
      const HeapMemory memory(rig, T::kLargest);
      std::vector<Segment> segments;
      ForEachSegment(rig.heap, memory.block, [&](const Segment& s) { segments.push_back(s); });
      uint64_t covered = 0;
      for (const Segment& segment : segments) {
        CHECK(segment.offset == covered);
        CHECK(segment.phys.has_value() == H::kCaps.knows_phys);
        covered += segment.bytes;
      }
      CHECK(covered == memory.block.bytes);
      if (rig.heap.properties().contiguous) CHECK(segments.size() == 1);
    }
  });
}

ION_HEAP_FACT(heap_spec, "its id, its type and its spec, if it has one, say the same") {
  using H = typename T::Heap;
  if constexpr (requires { H::kSpec; }) {
    static_assert(H::kSpec.id == H::kId && H::kSpec.type == H::kType);
  }
  OnHeap<T>([](auto& rig) {
    CHECK(rig.heap.name() != "");
    if (H::kType == HeapType::kDma || H::kType == HeapType::kSystemContig) {
      CHECK(rig.heap.properties().contiguous);
    }
  });
}

// ---- With others ----

ION_HEAP_FACT(heap_managed, "a Manager gives its memory to who names it") {
  OnHeap<T>([](auto&) {
    using H = typename T::Heap;
    absl::StatusOr<Manager<typename T::Backend, H>> manager =
        Manager<typename T::Backend, H>::Open();
    REQUIRE(manager.ok());
    const absl::StatusOr<Buffer> buffer =
        manager->Allocate({.bytes = SmallestOf<T>(), .heaps = H::kId});
    REQUIRE(buffer.ok());
    CHECK(manager->HeapOf(*buffer) == H::kId);
    CHECK(buffer->properties() == manager->Guarantees(H::kId));
    CHECK(manager->default_heaps().contains(H::kId) != buffer->properties().contiguous);
  });
}

ION_HEAP_FACT(heap_threads, "four threads allocate, write and free at once") {
  OnHeap<T>([](auto& rig) {
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (uint8_t seed = 1; seed <= 4; ++seed) {
      threads.emplace_back([&, seed] {
        for (int round = 0; round < 50; ++round) {
          Block block;
          const uint64_t bytes = NoLessThanSmallest<T>(T::kLargest / 16 * (1 + round % 3) + 1);
          const bool good = rig.heap.Allocate({.bytes = bytes}, block).ok() &&
                            Fill(rig, block, seed) == "ok" && Look(rig, block, seed) == "ok" &&
                            rig.heap.Free(block).ok();
          if (!good) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  });
}

}  // namespace ion::testing

#define ION_HEAP_CONFORMANCE(...)                \
  namespace ion::testing {                       \
  ION_SUITE_INVOKE(heap_blocks, __VA_ARGS__);    \
  ION_SUITE_INVOKE(heap_zeroed, __VA_ARGS__);    \
  ION_SUITE_INVOKE(heap_apart, __VA_ARGS__);     \
  ION_SUITE_INVOKE(heap_freed, __VA_ARGS__);     \
  ION_SUITE_INVOKE(heap_refused, __VA_ARGS__);   \
  ION_SUITE_INVOKE(heap_small, __VA_ARGS__);     \
  ION_SUITE_INVOKE(heap_caching, __VA_ARGS__);   \
  ION_SUITE_INVOKE(heap_alignment, __VA_ARGS__); \
  ION_SUITE_INVOKE(heap_parts, __VA_ARGS__);     \
  ION_SUITE_INVOKE(heap_layout, __VA_ARGS__);    \
  ION_SUITE_INVOKE(heap_spec, __VA_ARGS__);      \
  ION_SUITE_INVOKE(heap_managed, __VA_ARGS__);   \
  ION_SUITE_INVOKE(heap_threads, __VA_ARGS__);   \
  }                                              \
  static_assert(true)

#endif  // ION_TESTS_CONFORMANCE_HEAP_CONFORMANCE_H_
