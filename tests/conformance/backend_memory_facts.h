// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/conformance/backend_memory_facts.h
//
// Of tests/conformance/backend_conformance.h: the heaps that a backend lists, the memory that it
// takes from them and gives back, and the requests that it refuses.

#ifndef ION_TESTS_CONFORMANCE_BACKEND_MEMORY_FACTS_H_
#define ION_TESTS_CONFORMANCE_BACKEND_MEMORY_FACTS_H_

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/memory_limit.h"
#include "ion/base/status.h"
#include "tests/support/backend_suite.h"
#include "tests/support/child.h"
#include "tests/support/open_files.h"
#include "tests/support/skip.h"
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

ION_SUITE_FACT(default_budget,
               "without a budget of the user's its bound is half of what the process can have: of "
               "the RAM, or of the smallest memory limit of its cgroups") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    using B = std::remove_reference_t<decltype(backend)>;
    Result<B> plain = B::Open({});
    REQUIRE(plain.ok());
    struct sysinfo info {};
    REQUIRE(typename T::Sys().Sysinfo(&info) == 0);
    const Result<MemoryLimit> limit = MemoryLimit::Read("test", typename T::Sys());
    REQUIRE(limit.ok());
    CHECK(limit->bytes <= uint64_t{info.totalram} * info.mem_unit);
    CHECK(plain->budget().limit() == limit->bytes / 2);
  });
}

// ---- Allocating ----

ION_SUITE_FACT(sizes,
               "bytes are rounded up to pages, or further by a driver that is known to, and the "
               "descriptor says the same") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const typename T::Sys sys;
    for (const uint64_t bytes : SizesFor(backend, heap)) {
      CAPTURE(bytes);
      const Memory memory(backend, heap, bytes);
      if (T::kRoundsUp) {
        CHECK(memory.block.bytes >= bytes);
        CHECK(IsPageAligned(memory.block.bytes));
      } else {
        CHECK(memory.block.bytes == RoundUpToPages(bytes));
      }
      CHECK(backend.budget().held() == memory.block.bytes);
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
    if (!backend.heaps()[heap].properties.zeroed.yes()) return Skip("the heap does not promise it");
    for (const uint64_t bytes : SizesFor(backend, heap)) {
      CAPTURE(bytes);
      const Memory memory(backend, heap, bytes);
      CHECK(LookForZeros(backend, memory.block) == "ok");
    }
  });
}

ION_SUITE_FACT(zeroed_again, "memory that was written and given back reads as zero again") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    if (!backend.heaps()[heap].properties.zeroed.yes()) return Skip("the heap does not promise it");
    const uint64_t bytes = LargestOf(backend, heap);
    for (int round = 0; round < 4; ++round) {
      const Memory memory(backend, heap, bytes);
      CHECK(LookForZeros(backend, memory.block) == "ok");
      CHECK(Fill(backend, memory.block, 0xff) == "ok");
    }
  });
}

ION_SUITE_FACT(holds, "each block holds what was written to it, at every size") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    for (const uint64_t bytes : SizesFor(backend, heap, 2)) {
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
      const std::string_view interface = backend.heaps()[heap].interface;
      CHECK(error.backend() == (interface.empty() ? backend.name() : interface));
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

    // Powers of two: few drivers round them up.
    Memory most(backend, heap, 512_KiB);
    CHECK(backend.budget().held() == 512_KiB);
    const Error error = backend.Allocate(heap, 512_KiB + 1, Flags::kNone, {}, block);
    CHECK(Kind(error) == "ENOMEM allocate");
    CHECK(std::string(error.hint()).find("Budget") != std::string::npos);
    CHECK(backend.budget().held() == 512_KiB);
    const Memory rest(backend, heap, 512_KiB);
    CHECK(backend.budget().held() == 1_MiB);

    most.Release();
    CHECK(backend.budget().held() == 512_KiB);
    const Memory again(backend, heap, 512_KiB);
  };
  OnEachHeap<T>(on_each, typename T::Sys(), 1_MiB);
}

ION_SUITE_FACT(rounded_budget, "the bound counts what is taken, not what is asked for") {
  const auto on_each = [](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 1);
    CHECK(memory.block.bytes >= PageBytes());
    CHECK(backend.budget().held() == memory.block.bytes);
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
    Memory memory(backend, heap, 2 * PageBytes());
    const uint64_t held = memory.block.bytes;
    CHECK(Fill(backend, memory.block, 3) == "ok");
    const ChildEnd end = RunInChild([&]() -> std::string {
      const int fd = memory.block.fd;
      const uint32_t generation = memory.block.generation;
      watch.ioctls = 0;
      if (Error error = backend.Abandon(memory.block); !error.ok()) return Describe(error);
      if (watch.ioctls != 0) return "it told the kernel more";
      if (::fcntl(fd, F_GETFD) != -1) return "the descriptor is open still";
      if (memory.block.filled() || memory.block.generation != generation) return "another block";
      return backend.budget().held() == held ? "" : "bytes were given";
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
    CHECK(backend.budget().held() == memory.block.bytes);
  });
}

ION_SUITE_FACT(release_reserved, "the release of a reserved block is EBADF and gives no bytes") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB);
    Block block;
    block.bytes = 1_MiB;
    CHECK(Kind(backend.Release(block)) == "EBADF release");
    CHECK_FALSE(block.reserved());
    CHECK(backend.budget().held() == memory.block.bytes);
  });
}

}  // namespace ion::testing

#endif  // ION_TESTS_CONFORMANCE_BACKEND_MEMORY_FACTS_H_
