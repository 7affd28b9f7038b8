// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/conformance/dma_buf_conformance.h
//
// What backends that make dma-bufs have in common beyond tests/conformance/backend_conformance.h:
// the kernel's dma-buf interface itself, and memory of other exporters.

#ifndef ION_TESTS_CONFORMANCE_DMA_BUF_CONFORMANCE_H_
#define ION_TESTS_CONFORMANCE_DMA_BUF_CONFORMANCE_H_

#include <linux/dma-buf.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/platforms/heaps.h"
#include "tests/conformance/backend_conformance.h"
#include "tests/support/backend_suite.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/skip.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {

ION_SUITE_FACT(is_dma_buf, "its memory is a dma-buf, with its name in fdinfo") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB, "front");
    const typename T::Sys sys;
    struct statfs fs {};
    REQUIRE(sys.Fstatfs(memory.block.fd, &fs) == 0);
    CHECK(static_cast<uint32_t>(fs.f_type) == (T::kOwnInodes ? kDmaBufMagic : kAnonymousFileMagic));
    const std::string info = FdInfoOf(sys, memory.block.range().fd);
    CHECK((info.find("\nname:\tfront\n") != std::string::npos) == T::kOwnInodes);
  });
}

ION_SUITE_FACT(renames, "a buffer can be renamed") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB, "first");
    for (const std::string& name : {std::string("second"), std::string(), std::string(40, 'x')}) {
      CHECK(Kind(backend.SetName(memory.block, name)) == (T::kOwnInodes ? "ok" : "ENOTTY name"));
      if (!T::kOwnInodes) continue;
      CHECK(NameOf<T>(memory.block.range().fd) == name.substr(0, 31));
    }
  });
}

// A name may have lines of its own.
ION_SUITE_FACT(proves, "whether others hold a buffer is told, unless pages of it could be lent") {
  const auto on_each = [](auto& backend, uint32_t heap) {
    using B = std::remove_reference_t<decltype(backend)>;
    if constexpr (B::kCaps.proves_unshared) {
      Memory memory(backend, heap, 8_KiB, "x\ncount:\t2\n");
      CHECK(Kind(backend.IsUnshared(memory.block).error()) == "EOPNOTSUPP prove unshared");
      const Result<std::byte*> at = backend.MapToKeep(memory.block);
      REQUIRE(at.ok());
      memory.block.mapping = *at;
      const typename T::Sys sys;
      const bool lends = sys.Madvise(*at, 4_KiB, MADV_DONTNEED) == 0;
      const Result<bool> alone = backend.IsUnshared(memory.block);
      if (lends) {
        CHECK(Kind(alone.error()) == "EOPNOTSUPP prove unshared");
      } else {
        REQUIRE(alone.ok());
        CHECK(*alone);
      }
      Result<UniqueFd> other = backend.Share(memory.block);
      REQUIRE(other.ok());
      const Result<bool> shared = backend.IsUnshared(memory.block);
      REQUIRE(shared.ok());
      CHECK(!*shared);
    }
  };
  OnEachHeap<T>(on_each);
}

ION_SUITE_FACT(name_refused, "a buffer that the kernel does not name is a buffer all the same") {
  if (!T::kOwnInodes) return Skip("the kernel does not name its memory");
  const auto errors = std::make_shared<ErrorSink>();
  Watch watch{.refuse_names = true};
  const auto on_each = [&](auto& backend, uint32_t heap) {
    using B = std::remove_reference_t<decltype(backend)>;
    typename B::Options options;
    options.sys = WatchedSyscalls<typename T::Sys>(&watch);
    options.errors = errors;
    Result<B> unnaming = B::Open(options);
    REQUIRE(unnaming.ok());
    const uint64_t reported = errors->count();
    const Memory memory(*unnaming, heap, 4_KiB, "nobody");
    CHECK(NameOf<T>(memory.block.range().fd) == "");
    CHECK(Fill(*unnaming, memory.block, 8) == "ok");
    CHECK(errors->count() == reported + 1);
    CHECK(Kind(unnaming->SetName(memory.block, "nobody")) == "EPERM name");
  };
  OnEachHeap<T>(on_each, WatchedSyscalls<typename T::Sys>(&watch));
}

ION_SUITE_FACT(no_name_no_ioctl, "a request without a name costs no ioctl for it") {
  Watch watch;
  const auto on_each = [&](auto& backend, uint32_t heap) {
    watch.ioctls = 0;
    const Memory memory(backend, heap, 4_KiB);
    CHECK(watch.ioctls == T::kAllocationIoctls);
    const Memory named(backend, heap, 4_KiB, "named");
    CHECK(watch.ioctls == 2 * T::kAllocationIoctls + (T::kOwnInodes ? 1 : 0));
  };
  OnEachHeap<T>(on_each, WatchedSyscalls<typename T::Sys>(&watch));
}

constexpr uint64_t kStart = DMA_BUF_SYNC_START, kEnd = DMA_BUF_SYNC_END;
constexpr uint64_t kR = DMA_BUF_SYNC_READ, kW = DMA_BUF_SYNC_WRITE, kRW = DMA_BUF_SYNC_RW;

ION_SUITE_FACT(
    syncs,
    "each begin and end of CPU access tells its direction, unless memory is known to be uncached") {
  if (!T::kSyncs) return Skip("its memory is not synced by DMA_BUF_IOCTL_SYNC");
  Watch watch;
  const auto on_each = [&](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB);
    for (const Direction direction : {Direction::kRead, Direction::kWrite, Direction::kReadWrite}) {
      const auto bits = static_cast<uint64_t>(direction);
      watch.syncs.clear();
      CHECK(Kind(backend.BeginCpuAccess(memory.block, direction)) == "ok");
      CHECK(Kind(backend.EndCpuAccess(memory.block, direction)) == "ok");
      CHECK(watch.syncs == (memory.block.cached.no() ? std::vector<uint64_t>()
                                                     : std::vector{kStart | bits, kEnd | bits}));
    }
  };
  OnEachHeap<T>(on_each, WatchedSyscalls<typename T::Sys>(&watch));
}

ION_SUITE_FACT(nested_syncs,
               "nested CPU scopes tell the kernel what ion/cpu_sync.h says, and no more") {
  if (!T::kSyncs) return Skip("its memory is not synced by DMA_BUF_IOCTL_SYNC");
  Watch watch;
  const auto on_each = [&](auto& backend, uint32_t) {
    using B = std::remove_reference_t<decltype(backend)>;
    typename B::Options options;
    options.sys = WatchedSyscalls<typename T::Sys>(&watch);
    auto manager = platforms::Heaps<B>::Open(options);
    REQUIRE(manager.ok());
    const absl::StatusOr<Buffer> buffer = manager->Allocate({.bytes = 4_KiB});
    REQUIRE(buffer.ok());
    const absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(*buffer);
    REQUIRE(mapping.ok());
    if (buffer->properties().cached.no()) return;
    watch.syncs.clear();
    {
      const auto read = CpuRead::Begin(*mapping);
      const auto again = CpuRead::Begin(*mapping);
      const auto write = CpuWrite::Begin(*mapping);
    }
    CHECK((watch.syncs == std::vector{kStart | kR, kStart | kW, kEnd | kW, kEnd | kR}));
    watch.syncs.clear();
    {
      // Reading inside a write: its bytes are made safe first.
      auto write = CpuWrite::Begin(*mapping);
      const auto read = CpuRead::Begin(*mapping);
      REQUIRE(write.ok());
      CHECK(std::move(*write).End().ok());
    }
    CHECK((watch.syncs == std::vector{kStart | kW, kEnd | kW, kStart | kRW, kEnd | kW, kEnd | kR}));
    watch.syncs.clear();
    {
      // An end for reading waits while a write is open.
      auto read = CpuRead::Begin(*mapping);
      const auto write = CpuWrite::Begin(*mapping);
      REQUIRE(read.ok());
      CHECK(std::move(*read).End().ok());
      CHECK((watch.syncs == std::vector{kStart | kR, kStart | kW}));
    }
    CHECK((watch.syncs == std::vector{kStart | kR, kStart | kW, kEnd | kRW}));
    watch.syncs.clear();
    {
      const auto both = CpuReadWrite::Begin(*mapping);
      const auto read = CpuRead::Begin(*mapping);
      const auto write = CpuWrite::Begin(*mapping);
    }
    CHECK((watch.syncs == std::vector{kStart | kRW, kEnd | kRW}));
  };
  OnEachHeap<T>(on_each, WatchedSyscalls<typename T::Sys>(&watch));
}

ION_SUITE_FACT(unshared, "it proves that nobody else holds its memory, where it says it can") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    using B = std::remove_reference_t<decltype(backend)>;
    if constexpr (B::kCaps.proves_unshared) {
      const uint64_t page = PageBytes();
      Memory memory(backend, heap, 2 * page, "mine");
      Block& block = memory.block;
      const auto alone = [&] { return backend.IsUnshared(block); };
      const auto is = [](const Result<bool>& answer, bool wanted) {
        return answer.ok() && *answer == wanted;
      };
      const auto at = backend.MapToKeep(block);
      REQUIRE(at.ok());
      CHECK(is(alone(), false));  // whose mapping is it?
      block.mapping = *at;
      if (alone().error().code() == ENOTSUP) return Skip("pages of it could be lent");
      CHECK(is(alone(), true));
      {
        const Result<UniqueFd> shared = backend.Share(block);
        CHECK(is(alone(), false));
      }
      CHECK(is(alone(), true));
      const auto part = backend.Map(block, 0, page, MapMode::kReadOnly);
      REQUIRE(part.ok());
      CHECK(is(alone(), false));
      CHECK(Kind(backend.Unmap(*part, page)) == "ok");
      CHECK(is(alone(), true));
      CHECK(Kind(backend.IsUnshared(Block()).error()) == "ENOENT prove unshared");
    }
  });
}

// Imports a dma-buf of somebody else's, and looks whether it is the same memory.
template <class B>
void UseForeign(B& backend, const std::string& exporter, UniqueFd fd, uint64_t bytes) {
  CAPTURE(exporter);
  if (!fd.valid()) return Skip(exporter + ": " + ErrnoName(errno));
  const auto one = Memory<B>::Imported(backend, fd.borrow());
  const auto two = Memory<B>::Imported(backend, fd.borrow());
  fd.reset();
  CHECK(one.block.foreign);
  CHECK(one.block.writable);
  if (bytes != 0) CHECK(one.block.bytes == RoundUpToPages(bytes));
  CHECK(backend.budget().held() == 0);
  CHECK(Fill(backend, one.block, 9) == "ok");
  CHECK(Look(backend, two.block, 9) == "ok");
}

ION_SUITE_FACT(import_vgem, "it imports a dma-buf of a graphics driver (vgem)") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    UseForeign(backend, "vgem", VgemDmaBuf(116 * 1024), 116 * 1024);
  });
}

ION_SUITE_FACT(import_vivid, "it imports a dma-buf of a camera driver (vivid)") {
  OnEachHeap<T>([](auto& backend, uint32_t) { UseForeign(backend, "vivid", VividDmaBuf(), 0); });
}

// Memory of a backend, on its way out of it.
template <class B>
UniqueFd SharedBy(uint64_t bytes) {
  Result<B> backend = B::Open({});
  Block block;
  if (!backend.ok()) {
    errno = backend.error().code();
    return {};
  }
  REQUIRE(backend->Allocate(0, bytes, Flags::kNone, "shared", block).ok());
  Result<UniqueFd> shared = backend->Share(block);
  REQUIRE(shared.ok());
  REQUIRE(backend->Release(block).ok());
  return *std::move(shared);
}

ION_SUITE_FACT(import_backends, "it imports what the other backends for dma-bufs made") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    UseForeign(backend, "dma_heap", SharedBy<DmaHeapBackend<typename T::Sys>>(116 * 1024),
               116 * 1024);
    UseForeign(backend, "udmabuf", SharedBy<UdmabufBackend<typename T::Sys>>(116 * 1024),
               116 * 1024);
  });
}

}  // namespace ion::testing

// Runs both suites on backends under test.
#define ION_DMA_BUF_CONFORMANCE(...)               \
  ION_BACKEND_CONFORMANCE(__VA_ARGS__);            \
  namespace ion::testing {                         \
  ION_SUITE_INVOKE(is_dma_buf, __VA_ARGS__);       \
  ION_SUITE_INVOKE(renames, __VA_ARGS__);          \
  ION_SUITE_INVOKE(proves, __VA_ARGS__);           \
  ION_SUITE_INVOKE(name_refused, __VA_ARGS__);     \
  ION_SUITE_INVOKE(no_name_no_ioctl, __VA_ARGS__); \
  ION_SUITE_INVOKE(syncs, __VA_ARGS__);            \
  ION_SUITE_INVOKE(nested_syncs, __VA_ARGS__);     \
  ION_SUITE_INVOKE(unshared, __VA_ARGS__);         \
  ION_SUITE_INVOKE(import_vgem, __VA_ARGS__);      \
  ION_SUITE_INVOKE(import_vivid, __VA_ARGS__);     \
  ION_SUITE_INVOKE(import_backends, __VA_ARGS__);  \
  }                                                \
  static_assert(true)

#endif  // ION_TESTS_CONFORMANCE_DMA_BUF_CONFORMANCE_H_
