// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/conformance/backend_access_facts.h
//
// Of tests/conformance/backend_conformance.h: how the CPU gets at memory, by mappings and by the
// scopes in which it reads and writes.

#ifndef ION_TESTS_CONFORMANCE_BACKEND_ACCESS_FACTS_H_
#define ION_TESTS_CONFORMANCE_BACKEND_ACCESS_FACTS_H_

#include <signal.h>
#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/platforms/heaps.h"
#include "tests/support/backend_suite.h"
#include "tests/support/child.h"
#include "tests/support/open_files.h"

namespace ion::testing {

// ---- Mapping ----

ION_SUITE_FACT(two_mappings, "what is written through one mapping is seen through another") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    for (const uint64_t bytes : {uint64_t{4_KiB}, uint64_t{115'200}, LargestOf(backend, heap)}) {
      const Memory memory(backend, heap, bytes);
      const uint64_t whole = memory.block.bytes;
      const auto one = backend.Map(memory.block, 0, whole, MapMode::kWritable);
      const auto two = backend.Map(memory.block, 0, whole, MapMode::kReadOnly);
      REQUIRE(one.ok());
      REQUIRE(two.ok());
      CHECK(*one != *two);
      FillPages({*one, whole}, 3);
      CHECK(LookAtPages({*two, whole}, 3) == "ok");
      CHECK(Kind(backend.Unmap(*one, whole)) == "ok");
      CHECK(LookAtPages({*two, whole}, 3) == "ok");
      CHECK(Kind(backend.Unmap(*two, whole)) == "ok");
    }
  });
}

ION_SUITE_FACT(parts, "a part that is mapped is that part of the whole") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const uint64_t page = PageBytes(), pages = 64;
    const Memory memory(backend, heap, pages * page);
    const auto whole = backend.Map(memory.block, 0, pages * page, MapMode::kReadOnly);
    REQUIRE(whole.ok());
    uint8_t seed = 0;
    for (const MapRange& in_pages : {MapRange{0, 1}, {1, 1}, {63, 1}, {1, 63}, {0, 64}, {17, 30}}) {
      const uint64_t offset = in_pages.offset * page, bytes = in_pages.bytes * page;
      CAPTURE(offset);
      CAPTURE(bytes);
      const auto part = backend.Map(memory.block, offset, bytes, MapMode::kWritable);
      REQUIRE(part.ok());
      FillPages({*part, bytes}, ++seed);
      CHECK(LookAtPages({*whole + offset, bytes}, seed) == "ok");
      CHECK(Kind(backend.Unmap(*part, bytes)) == "ok");
    }
    CHECK(Kind(backend.Unmap(*whole, pages * page)) == "ok");
  });
}

// Makes a block that begins inside its descriptor, as a carveout's do, and maps parts of it. Returns
// "ok" if each mapping shows the pages of its part.
template <class B>
std::string LookAtRange(B& backend, uint32_t heap) {
  constexpr uint64_t kFirst = 16, kPages = 32;  // arbitrary: neither begins nor ends with the whole
  const uint64_t page = PageBytes();
  const Memory memory(backend, heap, 64 * page);
  if (std::string filled = Fill(backend, memory.block, 5); filled != "ok") return filled;
  Block range;  // never released: its memory is `memory`'s
  range.TakeMemoryOf(memory.block);
  range.offset += kFirst * page;
  range.bytes = kPages * page;
  const auto look = [&](const Result<std::byte*>& at, uint64_t first, uint64_t pages) {
    if (!at.ok()) return Told(at.error());
    std::string answer = Kind(backend.BeginCpuAccess(range, Direction::kRead));
    if (answer == "ok") answer = LookAtPages({*at, pages * page}, 5, kFirst + first);
    const std::string ended = Kind(backend.EndCpuAccess(range, Direction::kRead));
    const std::string unmapped = Kind(backend.Unmap(*at, pages * page));
    return answer != "ok" ? answer : ended != "ok" ? ended : unmapped;
  };
  for (const MapRange& part : {MapRange{0, kPages}, {0, 1}, {kPages - 1, 1}, {7, 9}}) {
    for (const MapMode mode : {MapMode::kReadOnly, MapMode::kWritable}) {
      const std::string seen = look(backend.Map(range, part.offset * page, part.bytes * page, mode),
                                    part.offset, part.bytes);
      if (seen != "ok") return "Map: " + seen;
    }
  }
  const std::string seen = look(backend.MapToKeep(range), 0, kPages);
  if (seen != "ok") return "MapToKeep: " + seen;
  // The descriptor goes on after the block; its neighbour's bytes are no business of a mapping.
  const auto past = backend.Map(range, (kPages - 1) * page, 2 * page, MapMode::kReadOnly);
  return Kind(past.error()) == "EINVAL map" ? "ok" : "it maps past the block";
}

ION_SUITE_FACT(ranges, "a block that begins inside its descriptor is mapped from its own start") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) { CHECK(LookAtRange(backend, heap) == "ok"); });
}

ION_SUITE_FACT(bad_ranges, "a range that is empty, not whole pages, or past the end is EINVAL") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 16 * PageBytes());
    const uint64_t page = PageBytes(), end = memory.block.bytes;
    const MapRange ranges[] = {{0, 0},
                               {page, 0},
                               {end, 0},
                               {0, 1},
                               {0, page - 1},
                               {0, page + 1},
                               {1, page},
                               {page - 1, page},
                               {page / 2, end},
                               {0, end + 1},
                               {0, end + page},
                               {page, end},
                               {end, page},
                               {end + page, 1},
                               {end - page, 2 * page},
                               {0, SIZE_MAX},
                               {SIZE_MAX, page},
                               {SIZE_MAX, 1},
                               {page, SIZE_MAX},
                               {SIZE_MAX - page + 1, page},
                               {page, SIZE_MAX - page + 1},
                               {uint64_t{1} << 63, page},
                               {uint64_t{1} << 63, uint64_t{1} << 63}};
    const std::string before = DeviceMappings();
    for (const MapRange& range : ranges) {
      CAPTURE(range.offset);
      CAPTURE(range.bytes);
      for (const MapMode mode : {MapMode::kReadOnly, MapMode::kWritable}) {
        const auto at = backend.Map(memory.block, range.offset, range.bytes, mode);
        CHECK(Kind(at.error()) == "EINVAL map");
      }
    }
    CHECK(DeviceMappings() == before);
  });
}

ION_SUITE_FACT(map_nothing, "a block without memory, empty or reserved, cannot be mapped") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    Block block;
    CHECK_FALSE(block.reserved());
    CHECK(Kind(backend.Map(block, 0, 4_KiB, MapMode::kReadOnly).error()) == "EINVAL map");
    block.bytes = 1_MiB;
    CHECK(block.reserved());
    CHECK_FALSE(block.filled());
    CHECK(Kind(backend.Map(block, 0, 4_KiB, MapMode::kReadOnly).error()) == "EINVAL map");
  });
}

ION_SUITE_FACT(map_modes, "a read-only mapping cannot be written, a writable one can") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB, "modes");
    const uint64_t bytes = memory.block.bytes;
    const auto read_only = backend.Map(memory.block, 0, bytes, MapMode::kReadOnly);
    REQUIRE(read_only.ok());
    CHECK(DeviceMappings().find(" r--s ") != std::string::npos);
    CHECK(DeviceMappings().find(" rw-s ") == std::string::npos);
    const ChildEnd end = RunInChild([&] {
      *const_cast<volatile std::byte*>(*read_only) = std::byte{1};
      return "it was written";
    });
    CHECK(end.signal == SIGSEGV);
    const auto writable = backend.Map(memory.block, 0, bytes, MapMode::kWritable);
    REQUIRE(writable.ok());
    CHECK(DeviceMappings().find(" rw-s ") != std::string::npos);
    **writable = std::byte{1};
    CHECK(Kind(backend.Unmap(*writable, bytes)) == "ok");
    CHECK(Kind(backend.Unmap(*read_only, bytes)) == "ok");
  });
}

ION_SUITE_FACT(map_to_keep, "a mapping that is kept is whole, in place, and not a child's") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const typename T::Sys sys;
    Memory memory(backend, heap, 64_KiB);
    const uint64_t bytes = memory.block.bytes;
    const auto plain = backend.Map(memory.block, 0, bytes, MapMode::kWritable);
    REQUIRE(plain.ok());
    constexpr int kPopulateWrite = 23;  // Linux 5.14, and only where the driver has faults
    const bool populates = sys.Madvise(*plain, bytes, kPopulateWrite) == 0;
    CHECK(Kind(backend.Unmap(*plain, bytes)) == "ok");
    const auto at = backend.MapToKeep(memory.block);
    REQUIRE(at.ok());
    memory.block.mapping = *at;
    rusage before{}, after{};
    CHECK(::getrusage(RUSAGE_SELF, &before) == 0);
    for (uint64_t i = 0; i < bytes; i += PageBytes()) (*at)[i] = std::byte{7};
    CHECK(::getrusage(RUSAGE_SELF, &after) == 0);
    if (populates) {
      CHECK(static_cast<uint64_t>(after.ru_minflt - before.ru_minflt) < bytes / PageBytes());
    }
    const ChildEnd end = RunInChild([&] {
      *const_cast<volatile std::byte*>(*at) = std::byte{1};
      return "it was written";
    });
    CHECK(end.signal == SIGSEGV);
    CHECK((*at)[0] == std::byte{7});
  });
}

// ---- CPU access ----

ION_SUITE_FACT(directions, "CPU access begins and ends in every direction, more than once") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 64_KiB);
    for (const Direction direction :
         {Direction::kRead, Direction::kWrite, Direction::kReadWrite, Direction::kRead}) {
      CHECK(Kind(backend.BeginCpuAccess(memory.block, direction)) == "ok");
      CHECK(Kind(backend.EndCpuAccess(memory.block, direction)) == "ok");
    }
  });
}

// Each order of nesting: what is written in a scope is there after it and in the others.
template <class M>
void NestScopes(M& manager, HeapId id) {
  absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 64_KiB, .heaps = id});
  REQUIRE(buffer.ok());
  absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(*buffer);
  REQUIRE(mapping.ok());
  uint8_t seed = 0;
  const auto write_in_read = [&] {
    absl::StatusOr<CpuRead> outer = CpuRead::Begin(*mapping);
    absl::StatusOr<CpuWrite> inner = CpuWrite::Begin(*mapping);
    REQUIRE((outer.ok() && inner.ok()));
    FillPages(inner->bytes(), ++seed);
    CHECK(std::move(*inner).End().ok());
    CHECK(LookAtPages(outer->bytes(), seed) == "ok");
    CHECK(std::move(*outer).End().ok());
  };
  const auto read_in_write = [&] {
    absl::StatusOr<CpuWrite> outer = CpuWrite::Begin(*mapping);
    REQUIRE(outer.ok());
    FillPages(outer->bytes(), ++seed);
    absl::StatusOr<CpuRead> inner = CpuRead::Begin(*mapping);
    REQUIRE(inner.ok());
    CHECK(LookAtPages(inner->bytes(), seed) == "ok");
    FillPages(outer->bytes(), ++seed);
    CHECK(std::move(*outer).End().ok());
    CHECK(LookAtPages(inner->bytes(), seed) == "ok");
    CHECK(std::move(*inner).End().ok());
  };
  const auto both_in_both = [&] {
    absl::StatusOr<CpuReadWrite> outer = CpuReadWrite::Begin(*mapping);
    absl::StatusOr<CpuReadWrite> inner = CpuReadWrite::Begin(*mapping);
    REQUIRE((outer.ok() && inner.ok()));
    FillPages(inner->bytes(), ++seed);
    CHECK(std::move(*inner).End().ok());
    CHECK(std::move(*outer).End().ok());
  };
  for (int round = 0; round < 2; ++round) {
    write_in_read();
    read_in_write();
    both_in_both();
    absl::StatusOr<CpuRead> alone = CpuRead::Begin(*mapping);
    REQUIRE(alone.ok());
    CHECK(LookAtPages(alone->bytes(), seed) == "ok");
  }
}

ION_SUITE_FACT(nested, "CPU scopes nest in every order") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    using B = std::remove_reference_t<decltype(backend)>;
    const auto errors = std::make_shared<ErrorSink>();
    typename B::Options options;
    options.errors = errors;
    auto manager = platforms::Heaps<B>::Open(options);
    REQUIRE(manager.ok());
    for (unsigned id = 0; id < HeapId::kCount; ++id) {
      const HeapId heap_id = *HeapId::From(id);
      const bool this_one = manager->HeapName(heap_id) == backend.heaps()[heap].name;
      if (manager->heaps().contains(heap_id) && this_one) NestScopes(*manager, heap_id);
    }
    CHECK(errors->count() == 0);
  });
}

}  // namespace ion::testing

#endif  // ION_TESTS_CONFORMANCE_BACKEND_ACCESS_FACTS_H_
