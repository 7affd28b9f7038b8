// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/backend_conformance.h
//
// What ion/backend.h asks of every backend, one fact per test case, on every heap that the backend
// lists. A backend runs it with a file of a few lines (tests/memfd_conformance.cc); one that
// makes dma-bufs adds tests/dma_buf_conformance.h.
//
// Every case ends with no bytes held, no error in the sink, and the descriptors and mappings that
// it began with (OnEachHeap).

#ifndef ION_TESTS_BACKEND_CONFORMANCE_H_
#define ION_TESTS_BACKEND_CONFORMANCE_H_

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/bytes.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/fd.h"
#include "ion/status.h"
#include "platforms/heaps.h"
#include "tests/support/backend_suite.h"
#include "tests/support/byte_socket.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {

// ---- Opening ----

ION_SUITE_FACT(lists_heaps, "it lists heaps that have names, and keeps the list when it is moved") {
  std::string names;
  OnEachHeap<T>([&](auto& backend, uint32_t heap) {
    using B = std::remove_reference_t<decltype(backend)>;
    Result<B> other = B::Open({});
    REQUIRE(other.ok());
    const KernelHeap* const listed = other->heaps().data();
    const B moved = *std::move(other);
    CHECK(moved.heaps().data() == listed);
    CHECK(moved.heaps()[heap].name == backend.heaps()[heap].name);
    CHECK(moved.heaps()[heap].name != "");
    names += " " + moved.heaps()[heap].name;
  });
  std::printf("heaps of %s:%s\n", T::template Backend<>::kName, names.c_str());
}

ION_SUITE_FACT(default_budget, "without a budget of the user's its bound is half of the RAM") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    using B = std::remove_reference_t<decltype(backend)>;
    Result<B> plain = B::Open({});
    REQUIRE(plain.ok());
    struct sysinfo info {};
    REQUIRE(typename T::Sys().Sysinfo(&info) == 0);
    CHECK(plain->budget().limit() == uint64_t{info.totalram} * info.mem_unit / 2);
  });
}

// ---- Allocating ----

ION_SUITE_FACT(sizes, "bytes are rounded up to pages, and the descriptor says the same") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const typename T::Sys sys;
    for (const uint64_t bytes : SizesFor(backend.heaps()[heap])) {
      CAPTURE(bytes);
      const Memory memory(backend, heap, bytes);
      const uint64_t page = PageBytes();
      CHECK(memory.block.bytes == (bytes + page - 1) / page * page);
      const long end = sys.Lseek(memory.block.fd, 0, SEEK_END);
      CHECK(static_cast<uint64_t>(end) == memory.block.bytes);
      struct stat status {};
      REQUIRE(sys.Fstat(memory.block.fd, &status) == 0);
      CHECK(static_cast<uint64_t>(status.st_size) == (T::kOwnInodes ? memory.block.bytes : 0));
    }
  });
}

ION_SUITE_FACT(block_facts, "a block says of itself what its heap promises") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB);
    const Block& block = memory.block;
    CHECK(block.filled());
    CHECK_FALSE(block.reserved());
    CHECK(block.properties() == backend.heaps()[heap].properties);
    CHECK(block.kernel_heap == heap);
    CHECK(block.offset == 0);
    CHECK(block.mapping == nullptr);
    CHECK(block.writable);
    CHECK_FALSE(block.foreign);
  });
}

ION_SUITE_FACT(zeroed, "memory of a heap that promises it reads as zero") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    if (!backend.heaps()[heap].properties.zeroed) return Skip("the heap does not promise it");
    for (const uint64_t bytes : SizesFor(backend.heaps()[heap])) {
      CAPTURE(bytes);
      const Memory memory(backend, heap, bytes);
      CHECK(LookForZeros(backend, memory.block) == "ok");
    }
  });
}

ION_SUITE_FACT(zeroed_again, "memory that was written and given back reads as zero again") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    if (!backend.heaps()[heap].properties.zeroed) return Skip("the heap does not promise it");
    for (int round = 0; round < 4; ++round) {
      const Memory memory(backend, heap, LargestOf(backend.heaps()[heap]));
      CHECK(LookForZeros(backend, memory.block) == "ok");
      CHECK(Fill(backend, memory.block, 0xff) == "ok");
    }
  });
}

ION_SUITE_FACT(holds, "each block holds what was written to it, at every size") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    for (const uint64_t bytes : SizesFor(backend.heaps()[heap])) {
      CAPTURE(bytes);
      const Memory one(backend, heap, bytes);
      const Memory two(backend, heap, bytes);
      CHECK(Fill(backend, one.block, 1) == "ok");
      CHECK(Fill(backend, two.block, 2) == "ok");
      CHECK(Look(backend, one.block, 1) == "ok");
      CHECK(Look(backend, two.block, 2) == "ok");
    }
  });
}

ION_SUITE_FACT(close_on_exec, "every descriptor that it makes is close-on-exec") {
  const std::map<int, std::string> before = OpenDescriptors();
  OnEachHeap<T>([&](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB, "cloexec");
    const Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    const auto imported = decltype(memory)::Imported(backend, shared->borrow());
    size_t made = 0;
    for (const auto& open : OpenDescriptors()) {
      if (before.contains(open.first)) continue;
      CAPTURE(open.second);
      CHECK((::fcntl(open.first, F_GETFD) & FD_CLOEXEC) != 0);
      ++made;
    }
    CHECK(made >= 3);
  });
}

// ---- Requests that are refused ----

ION_SUITE_FACT(refused_sizes, "0 bytes, and more than there are addresses, are EINVAL") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    for (const uint64_t bytes : {uint64_t{0}, uint64_t{SIZE_MAX}, UINT64_MAX - 4094}) {
      CAPTURE(bytes);
      Block block;
      const Error error = backend.Allocate(heap, bytes, Flags::kNone, {}, block);
      CHECK(Kind(error) == "EINVAL allocate");
      CHECK(error.bytes() == bytes);
      CHECK(std::string(error.backend()) == backend.name());
      CHECK_FALSE(block.filled());
      CHECK(block.bytes == 0);
      CHECK(backend.budget().held() == 0);
    }
  });
}

ION_SUITE_FACT(budget, "past the bound is ENOMEM, for one request and for the sum held") {
  const auto on_each = [](auto& backend, uint32_t heap) {
    Block block;
    CHECK(Kind(backend.Allocate(heap, 1_MiB + 1, Flags::kNone, {}, block)) == "ENOMEM allocate");
    CHECK_FALSE(block.filled());
    CHECK(backend.budget().held() == 0);

    Memory most(backend, heap, 768_KiB);
    CHECK(backend.budget().held() == 768_KiB);
    const Error error = backend.Allocate(heap, 512_KiB, Flags::kNone, {}, block);
    CHECK(Kind(error) == "ENOMEM allocate");
    CHECK(std::string(error.hint()).find("Budget") != std::string::npos);
    CHECK(backend.budget().held() == 768_KiB);
    const Memory rest(backend, heap, 256_KiB);
    CHECK(backend.budget().held() == 1_MiB);

    most.Release();
    CHECK(backend.budget().held() == 256_KiB);
    const Memory again(backend, heap, 768_KiB);
  };
  OnEachHeap<T>(on_each, typename T::Sys(), 1_MiB);
}

ION_SUITE_FACT(rounded_budget, "the bound counts what is taken, not what is asked for") {
  const auto on_each = [](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 1);
    CHECK(backend.budget().held() == PageBytes());
  };
  OnEachHeap<T>(on_each);
}

ION_SUITE_FACT(private_flags, "a heap-private flag that the kernel does not have is EINVAL") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    for (const Flags flags : {HeapPrivate(0), HeapPrivate(15), Flags::kCached | HeapPrivate(7)}) {
      Block block;
      CHECK(Kind(backend.Allocate(heap, 4_KiB, flags, {}, block)) == "EINVAL allocate");
      CHECK_FALSE(block.filled());
    }
  });
}

ION_SUITE_FACT(caching, "a heap that leaves it to the request gives the caching that it names") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    if (!backend.heaps()[heap].either_caching) return Skip("the heap does not leave it");
    for (const Flags flags : {Flags::kCached, Flags::kUncached}) {
      Memory memory(backend);
      REQUIRE(Told(backend.Allocate(heap, 64_KiB, flags, {}, memory.block)) == "ok");
      CHECK(memory.block.properties().cached == Has(flags, Flags::kCached));
      CHECK(LookForZeros(backend, memory.block) == "ok");
      CHECK(Fill(backend, memory.block, 4) == "ok");
      CHECK(Look(backend, memory.block, 4) == "ok");
    }
    Block block;
    const Flags both = Flags::kCached | Flags::kUncached;
    CHECK(Kind(backend.Allocate(heap, 4_KiB, both, {}, block)) == "EINVAL allocate");
    CHECK_FALSE(block.filled());
  });
}

ION_SUITE_FACT(no_such_heap, "a kernel heap that is not in its list is ENODEV") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    const auto heaps = static_cast<uint32_t>(backend.heaps().size());
    for (const uint32_t heap : {heaps, heaps + 255, UINT32_MAX}) {
      Block block;
      CHECK(Kind(backend.Allocate(heap, 4_KiB, Flags::kNone, {}, block)) == "ENODEV allocate");
      CHECK_FALSE(block.filled());
    }
  });
}

// ---- Mapping ----

ION_SUITE_FACT(two_mappings, "what is written through one mapping is seen through another") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    for (const uint64_t bytes :
         {uint64_t{4_KiB}, uint64_t{115'200}, LargestOf(backend.heaps()[heap])}) {
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

// ---- Releasing ----

ION_SUITE_FACT(release, "a release takes the mapping along and empties the block") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const std::string fds = DescriptorLines(), mappings = DeviceMappings();
    Block block;
    REQUIRE(backend.Allocate(heap, 1_MiB, Flags::kNone, "kept", block).ok());
    const auto at = backend.Map(block, 0, block.bytes, MapMode::kWritable);
    REQUIRE(at.ok());
    block.mapping = *at;
    CHECK(Kind(backend.Release(block)) == "ok");
    CHECK(block.fd == -1);
    CHECK(block.bytes == 0);
    CHECK(block.mapping == nullptr);
    CHECK(DescriptorLines() == fds);
    CHECK(DeviceMappings() == mappings);
  });
}

ION_SUITE_FACT(abandon, "a child abandons its descriptor, and nothing of its parent's") {
  Watch watch;
  const auto on_each = [&](auto& backend, uint32_t heap) {
    Memory memory(backend, heap, 8_KiB);
    CHECK(Fill(backend, memory.block, 3) == "ok");
    const ChildEnd end = RunInChild([&]() -> std::string {
      const int fd = memory.block.fd;
      const uint32_t generation = memory.block.generation;
      watch.ioctls = 0;
      if (Error error = backend.Abandon(memory.block); !error.ok()) return Describe(error);
      if (watch.ioctls != 0) return "it told the kernel more";
      if (::fcntl(fd, F_GETFD) != -1) return "the descriptor is open still";
      if (memory.block.filled() || memory.block.generation != generation) return "another block";
      return backend.budget().held() == 8_KiB ? "" : "bytes were given";
    });
    CHECK(end.text == "");
    CHECK(Look(backend, memory.block, 3) == "ok");
  };
  OnEachHeap<T>(on_each, WatchedSyscalls<typename T::Sys>(&watch));
}

ION_SUITE_FACT(release_nothing, "the release of an empty block is EBADF and changes nothing") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB);
    Block block;
    CHECK(Kind(backend.Release(block)) == "EBADF release");
    CHECK_FALSE(block.filled());
    CHECK(backend.budget().held() == PageBytes());
  });
}

ION_SUITE_FACT(release_reserved, "the release of a reserved block is EBADF and gives no bytes") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB);
    Block block;
    block.bytes = 1_MiB;
    CHECK(Kind(backend.Release(block)) == "EBADF release");
    CHECK_FALSE(block.reserved());
    CHECK(backend.budget().held() == PageBytes());
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

// ---- Names ----

ION_SUITE_FACT(names, "a buffer has its name in the kernel's reports, cut at 31 bytes") {
  if (!T::kOwnInodes) return Skip("the kernel does not name its memory");
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const std::string whole(300, 'n');
    for (const size_t bytes : {0, 1, 30, 31, 32, 249, 250, 300}) {
      CAPTURE(bytes);
      const Memory memory(backend, heap, 4_KiB, std::string_view(whole).substr(0, bytes));
      CHECK(NameOf<T>(memory.block.range().fd) == whole.substr(0, std::min<size_t>(bytes, 31)));
    }
    const Memory odd(backend, heap, 4_KiB, "preview #1/left ü");
    CHECK(NameOf<T>(odd.block.range().fd) == "preview #1/left ü");
  });
}

// ---- Sharing ----

ION_SUITE_FACT(share, "a share is another descriptor of the same memory") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 115'200);
    const Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    CHECK(shared->get() != memory.block.fd);
    const auto imported = decltype(memory)::Imported(backend, shared->borrow());
    CHECK(Fill(backend, memory.block, 4) == "ok");
    CHECK(Look(backend, imported.block, 4) == "ok");
    CHECK(Fill(backend, imported.block, 5) == "ok");
    CHECK(Look(backend, memory.block, 5) == "ok");
  });
}

ION_SUITE_FACT(share_nothing, "the share of a block without memory is EBADF") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    CHECK(Kind(backend.Share(Block()).error()) == "EBADF share");
  });
}

ION_SUITE_FACT(share_outlives, "memory lives as long as a share of it, whoever made it") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    Memory memory(backend, heap, 1_MiB);
    CHECK(Fill(backend, memory.block, 6) == "ok");
    const Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    memory.Release();
    const auto imported = decltype(memory)::Imported(backend, shared->borrow());
    CHECK(Look(backend, imported.block, 6) == "ok");
  });
}

// What a child does with memory that it is sent: imports it into a backend of its own, finds 1, and
// leaves 2.
template <class B>
std::string UseInChild(FdRef socket, const typename B::Options& options) {
  if (ReceiveByte(socket) != 'b') return "it was not told to begin";
  UniqueFd received;
  if (ReceiveByte(socket, &received) != 'm' || !received.valid()) return "no descriptor came";
  Result<B> backend = B::Open(options);
  if (!backend.ok()) return Describe(backend.error());
  Block block;
  if (Error error = backend->Import(received.borrow(), block); !error.ok()) {
    return Describe(error);
  }
  if (block.bytes != 115'200 / PageBytes() * PageBytes() + PageBytes()) return "other bytes";
  std::string answer = Look(*backend, block, 1);
  if (answer == "ok") answer = Fill(*backend, block, 2);
  if (answer == "ok") answer = Kind(backend->Release(block));
  if (answer != "ok") return answer;
  return SendByte(socket, 'd') ? "" : "it could not answer";
}

ION_SUITE_FACT(other_process, "another process that gets a share sees and changes the memory") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    using B = std::remove_reference_t<decltype(backend)>;
    // Forked before the memory is made: only the socket brings it there.
    Child child([](FdRef socket) { return UseInChild<B>(socket, {}); });
    const Memory memory(backend, heap, 115'200);
    CHECK(Fill(backend, memory.block, 1) == "ok");
    Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    CHECK(SendByte(child.socket(), 'b'));
    CHECK(SendByte(child.socket(), 'm', shared->borrow()));
    shared->reset();
    CHECK(ReceiveByte(child.socket()) == 'd');
    const ChildEnd end = child.Join();
    CHECK(end.text == "");
    CHECK(end.exit_code == 0);
    CHECK(Look(backend, memory.block, 2) == "ok");
  });
}

// ---- Importing ----

ION_SUITE_FACT(import_own, "its own memory, imported, is foreign and costs no bytes") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    for (const uint64_t bytes : SizesFor(backend.heaps()[heap])) {
      CAPTURE(bytes);
      const Memory memory(backend, heap, bytes);
      const uint64_t held = backend.budget().held();
      const auto imported = decltype(memory)::Imported(backend, memory.block.range().fd);
      CHECK(imported.block.foreign);
      CHECK(imported.block.writable);
      CHECK(imported.block.bytes == memory.block.bytes);
      CHECK_FALSE(imported.block.contiguous);
      CHECK_FALSE(imported.block.zeroed);
      CHECK(imported.block.cached);
      CHECK(backend.budget().held() == held);
    }
  });
}

ION_SUITE_FACT(import_copies, "an import leaves the caller's descriptor to the caller") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB);
    CHECK(Fill(backend, memory.block, 7) == "ok");
    Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    auto imported = decltype(memory)::Imported(backend, shared->borrow());
    CHECK(imported.block.fd != shared->get());
    shared->reset();
    CHECK(Look(backend, imported.block, 7) == "ok");
    imported.Release();
    CHECK(Look(backend, memory.block, 7) == "ok");
  });
}

// A descriptor that no backend may take.
struct BadFd {
  std::string what;
  UniqueFd owned;
  int number;
  std::string expected = "EINVAL import";
};

inline std::vector<BadFd> BadFds() {
  std::vector<BadFd> bad;
  const auto add = [&](const char* what, int fd) {
    INFO(what);
    REQUIRE(fd >= 0);
    bad.push_back({what, UniqueFd(fd), fd});
  };
  const auto add_number = [&](const char* what, int fd) {
    bad.push_back({what, UniqueFd(), fd, "EBADF import"});
  };
  int pipe[2];
  REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
  add("a pipe's reading end", pipe[0]);
  add("a pipe's writing end", pipe[1]);
  add("a socket", ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  add("/dev/null", ::open("/dev/null", O_RDWR | O_CLOEXEC));
  add("/dev/zero", ::open("/dev/zero", O_RDWR | O_CLOEXEC));
  add("a directory", ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  add("a file of /proc", ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  add("a program's file", ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  add("an eventfd", ::eventfd(0, EFD_CLOEXEC));
  add("an epoll", ::epoll_create1(EPOLL_CLOEXEC));
  add("a memfd without the shrink seal", Memfd(64_KiB, 0).release());
  add("a memfd with another seal only", Memfd(64_KiB, F_SEAL_GROW).release());
  add("an empty memfd", Memfd(0).release());
  const TempDir dir;
  add("a regular file", ::open(dir.File("file").c_str(), O_RDWR | O_CLOEXEC));
  std::error_code none;
  for (const auto& node : std::filesystem::directory_iterator("/dev/dma_heap", none)) {
    add("the node of a dma-heap", ::open(node.path().c_str(), O_RDONLY | O_CLOEXEC));
  }
  add_number("-1", -1);
  add_number("INT_MIN", INT32_MIN);
  add_number("a number that is not open", 1 << 20);
  const int closed = ::fcntl(2, F_DUPFD_CLOEXEC, 500);  // so high that nothing takes it again
  ::close(closed);
  add_number("a number that is not open any more", closed);
  return bad;
}

ION_SUITE_FACT(import_refuses, "what is not its kind of memory is refused, and never by an ioctl") {
  Watch watch;
  const auto on_each = [&](auto& backend, uint32_t) {
    std::vector<BadFd> bad = BadFds();
    // The other kind of memory.
    UniqueFd other = T::kMakesDmaBufs ? Memfd(64_KiB) : HeapDmaBuf(64_KiB);
    const int number = other.get();
    if (other.valid()) bad.push_back({"memory of another kind", std::move(other), number});
    const std::string fds = DescriptorLines();
    watch.ioctls = 0;
    for (const BadFd& fd : bad) {
      CAPTURE(fd.what);
      Block block;
      const Error error = backend.Import(FdRef(fd.number), block);
      CHECK(Kind(error) == fd.expected);
      CHECK(std::string(error.what()) != "");
      CHECK_FALSE(block.filled());
      CHECK(block.bytes == 0);
    }
    CHECK(watch.ioctls == 0);
    CHECK(DescriptorLines() == fds);
  };
  OnEachHeap<T>(on_each, WatchedSyscalls<typename T::Sys>(&watch));
}

ION_SUITE_FACT(import_read_only, "what came read-only can be read, and not written") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    UniqueFd fd;
    if constexpr (T::kMakesDmaBufs) {
      fd = HeapDmaBuf(64_KiB, O_RDONLY);
      if (!fd.valid()) fd = VgemDmaBuf(64_KiB, O_RDONLY);
    } else {
      fd = ReadOnly(Memfd(64_KiB));
    }
    if (!fd.valid()) return Skip("no read-only memory here: " + ErrnoName(errno));
    using M = Memory<std::remove_reference_t<decltype(backend)>>;
    const auto imported = M::Imported(backend, fd.borrow());
    CHECK_FALSE(imported.block.writable);
    CHECK(LookForZeros(backend, imported.block) == "ok");
    const uint64_t bytes = imported.block.bytes;
    CHECK(Kind(backend.Map(imported.block, 0, bytes, MapMode::kWritable).error()) == "EACCES map");
    const Result<UniqueFd> shared = backend.Share(imported.block);
    REQUIRE(shared.ok());
    const auto again = M::Imported(backend, shared->borrow());
    CHECK_FALSE(again.block.writable);
  });
}

// ---- Threads ----

ION_SUITE_FACT(threads, "several threads allocate, write, share, import and release at once") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    std::atomic<int> rounds{0};
    const auto use = [&](uint8_t seed) {
      for (int i = 0; i < 25; ++i) {
        Block block, imported;
        const uint64_t bytes = (uint64_t{1} + static_cast<uint64_t>(i % 5)) * 12_KiB;
        if (!backend.Allocate(heap, bytes, Flags::kNone, "threads", block).ok()) return;
        if (Fill(backend, block, seed) != "ok") return;
        const Result<UniqueFd> shared = backend.Share(block);
        if (!shared.ok() || !backend.Import(shared->borrow(), imported).ok()) return;
        if (!backend.Release(block).ok()) return;
        if (Look(backend, imported, seed) != "ok") return;
        if (!backend.Release(imported).ok()) return;
        ++rounds;
      }
    };
    {
      std::vector<std::jthread> threads;
      for (uint8_t seed = 1; seed <= 4; ++seed) threads.emplace_back(use, seed);
    }
    CHECK(rounds == 4 * 25);
  });
}

}  // namespace ion::testing

// Runs the suite on backends under test (tests/support/backend_suite.h).
#define ION_BACKEND_CONFORMANCE(...)               \
  namespace ion::testing {                         \
  ION_SUITE_INVOKE(lists_heaps, __VA_ARGS__);      \
  ION_SUITE_INVOKE(default_budget, __VA_ARGS__);   \
  ION_SUITE_INVOKE(sizes, __VA_ARGS__);            \
  ION_SUITE_INVOKE(block_facts, __VA_ARGS__);      \
  ION_SUITE_INVOKE(zeroed, __VA_ARGS__);           \
  ION_SUITE_INVOKE(zeroed_again, __VA_ARGS__);     \
  ION_SUITE_INVOKE(holds, __VA_ARGS__);            \
  ION_SUITE_INVOKE(close_on_exec, __VA_ARGS__);    \
  ION_SUITE_INVOKE(refused_sizes, __VA_ARGS__);    \
  ION_SUITE_INVOKE(budget, __VA_ARGS__);           \
  ION_SUITE_INVOKE(rounded_budget, __VA_ARGS__);   \
  ION_SUITE_INVOKE(private_flags, __VA_ARGS__);    \
  ION_SUITE_INVOKE(caching, __VA_ARGS__);          \
  ION_SUITE_INVOKE(no_such_heap, __VA_ARGS__);     \
  ION_SUITE_INVOKE(two_mappings, __VA_ARGS__);     \
  ION_SUITE_INVOKE(parts, __VA_ARGS__);            \
  ION_SUITE_INVOKE(bad_ranges, __VA_ARGS__);       \
  ION_SUITE_INVOKE(map_nothing, __VA_ARGS__);      \
  ION_SUITE_INVOKE(map_modes, __VA_ARGS__);        \
  ION_SUITE_INVOKE(map_to_keep, __VA_ARGS__);      \
  ION_SUITE_INVOKE(abandon, __VA_ARGS__);          \
  ION_SUITE_INVOKE(release, __VA_ARGS__);          \
  ION_SUITE_INVOKE(release_nothing, __VA_ARGS__);  \
  ION_SUITE_INVOKE(release_reserved, __VA_ARGS__); \
  ION_SUITE_INVOKE(directions, __VA_ARGS__);       \
  ION_SUITE_INVOKE(nested, __VA_ARGS__);           \
  ION_SUITE_INVOKE(names, __VA_ARGS__);            \
  ION_SUITE_INVOKE(share, __VA_ARGS__);            \
  ION_SUITE_INVOKE(share_nothing, __VA_ARGS__);    \
  ION_SUITE_INVOKE(share_outlives, __VA_ARGS__);   \
  ION_SUITE_INVOKE(other_process, __VA_ARGS__);    \
  ION_SUITE_INVOKE(import_own, __VA_ARGS__);       \
  ION_SUITE_INVOKE(import_copies, __VA_ARGS__);    \
  ION_SUITE_INVOKE(import_refuses, __VA_ARGS__);   \
  ION_SUITE_INVOKE(import_read_only, __VA_ARGS__); \
  ION_SUITE_INVOKE(threads, __VA_ARGS__);          \
  }                                                \
  static_assert(true)

#endif  // ION_TESTS_BACKEND_CONFORMANCE_H_
