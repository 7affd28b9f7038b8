// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/manager.h
//
// Manager: a backend and the heaps that take their memory from it. It opens the backend, binds each
// heap, and walks the heaps of a request's mask, highest id first (as ION's kernel did), until one
// gives memory.
//
// Example:
//   template <ion::Backend B>
//   using Camera = ion::Manager<B, ion::SystemHeap<B>, ion::DmaHeap<B>>;
//
//   absl::StatusOr<Camera<ion::DmaHeapBackend<>>> manager = Camera<ion::DmaHeapBackend<>>::Open();
//   absl::StatusOr<ion::Buffer> buffer = manager->Allocate({.bytes = 8_MiB, .name = "preview"});
//
// A heap for which the backend has no memory stays away: the Manager works without it, and a
// request that names it is told why.
//
// A Manager may end while buffers are out: that is reported to the error sink, and what they stand
// for lives until the last is released.
//
// Cost: the walk is a fold over the heaps; an allocation is one call of the backend. Thread-safe
// but for Open, moving and destruction.
#ifndef ION_ION_MANAGER_H_
#define ION_ION_MANAGER_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/backend.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/check.h"
#include "ion/error.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/request.h"
#include "ion/slab.h"
#include "ion/status.h"

namespace ion {
namespace internal {

template <size_t kCount>
consteval bool AllDiffer(const std::array<HeapId, kCount>& ids) {
  for (size_t i = 0; i < kCount; ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (ids[i] == ids[j]) return false;
    }
  }
  return true;
}

// The places of `ids`, highest id first.
template <size_t kCount>
consteval std::array<size_t, kCount> HighestFirst(const std::array<HeapId, kCount>& ids) {
  std::array<size_t, kCount> order{};
  for (size_t i = 0; i < kCount; ++i) order[i] = i;
  std::ranges::sort(order, [&](size_t a, size_t b) { return ids[a] > ids[b]; });
  return order;
}

}  // namespace internal

template <Backend B, class... Hs>
class Manager {
  static_assert(sizeof...(Hs) > 0, "ion: a Manager needs at least one heap");
  static_assert((HeapCheck<Hs, B>::kOk && ...));
  static_assert(internal::AllDiffer(std::array<HeapId, sizeof...(Hs)>{Hs::kId...}),
                "ion: two heaps of a Manager have the same id; give one of them another, as in "
                "SystemHeap<B, HeapId{1}>");

 public:
  static constexpr const char* kBackendName = B::kName;

  // Opens the backend and binds the heaps. Fails where the backend does not open, or where no heap
  // can be bound: the Status then says why for each, with the errno of the last.
  static absl::StatusOr<Manager> Open(const typename B::Options& options = {}) noexcept {
    Result<B> backend = B::Open(options);
    if (!backend.ok()) return ToStatus(backend.error());
    Core* core = new (std::nothrow) Core(*std::move(backend));
    if (core == nullptr)
      return ToStatus(Error(ENOMEM, "operator new", {B::kName, Operation::kOpen}));
    Manager manager(core);
    if (manager.heaps().empty()) return manager.core_->NothingBound();
    return manager;
  }

  Manager(Manager&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  Manager& operator=(Manager&& other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }
  ~Manager() {
    if (core_ != nullptr) core_->Abandon();
  }

  // Memory from the first heap of the request's mask that has some. INVALID_ARGUMENT (EINVAL): 0
  // bytes, or a flag that has no name. ENODEV: the mask is empty, or names no heap of this Manager.
  // Otherwise the Status lists each heap that was tried and carries the errno of the last.
  absl::StatusOr<Buffer> Allocate(const Request& request) noexcept {
    return core().Allocate(request);
  }

  // A lease of somebody else's memory; the descriptor is copied, `fd` stays the caller's. What a
  // backend takes, and what it refuses, stands with its Import. The memory is not charged to the
  // budget: look at bytes() before you read what a stranger sent (pages of a memfd are made as they
  // are read).
  absl::StatusOr<Buffer> Import(FdRef fd) noexcept { return core().Import(fd); }

  // A descriptor of the buffer's memory for somebody else. The memory lives as long as any of its
  // descriptors and mappings do, in whatever process.
  absl::StatusOr<UniqueFd> Share(const Buffer& buffer) noexcept {
    const Block& block = LeaseAccess::BlockOf(buffer);
    if (!Owns(block)) return ToStatus(Stranger(Operation::kShare, block));
    Result<UniqueFd> fd = core().backend.Share(block);
    if (!fd.ok()) return ToStatus(fd.error());
    return *std::move(fd);
  }

  // Renames a buffer for the kernel's reports. ENOTSUP: the backend's memory keeps its first name.
  absl::Status SetName(const Buffer& buffer, std::string_view name) noexcept {
    const Block& block = LeaseAccess::BlockOf(buffer);
    return ToStatus(Owns(block) ? core().backend.SetName(block, name)
                                : Stranger(Operation::kName, block));
  }

  // The heaps that have memory.
  HeapMask heaps() const noexcept { return core().Bound(); }
  // Where a request without a mask is served from: heaps that do not declare contiguous memory.
  HeapMask default_heaps() const noexcept { return core().Default(); }
  // The name of the kernel heap behind `id`, or empty.
  std::string_view HeapName(HeapId id) const noexcept { return core().NameOf(id); }
  // The id of the heap that a buffer came from; none for an imported one, or another Manager's.
  std::optional<HeapId> HeapOf(const Buffer& buffer) const noexcept {
    const Block& block = LeaseAccess::BlockOf(buffer);
    if (!Owns(block) || block.heap == kImported) return std::nullopt;
    return kIds[block.heap];
  }
  // What is sure of memory from any of these heaps, whichever gives it.
  Properties Guarantees(HeapMask mask) const noexcept { return core().Guarantees(mask); }

  B& backend() noexcept { return core().backend; }
  ErrorSink& errors() noexcept { return core().backend.errors(); }

 private:
  static constexpr std::array<HeapId, sizeof...(Hs)> kIds{Hs::kId...};
  static constexpr std::array<size_t, sizeof...(Hs)> kOrder = internal::HighestFirst(kIds);
  static constexpr uint8_t kImported = 0xff;

  // What leases point to. Lives until the Manager and the last lease have gone.
  struct Core {
    explicit Core(B&& opened) noexcept
        : backend(std::move(opened)), heaps(Hs::Bind(backend)...), blocks(&kOps, this) {}

    // What stands for a heap where memory came from somebody else.
    struct Imports {
      B& backend;
      Error Free(Block& block) noexcept { return backend.Release(block); }
      Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                             MapMode mode) noexcept {
        return backend.Map(block, offset, bytes, mode);
      }
      Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend.Unmap(at, bytes); }
    };

    B backend;
    Imports imports{backend};
    std::tuple<Result<Hs>...> heaps;
    BlockTable blocks;
    std::atomic<size_t> owners{1};  // the Manager, and each lease

    static Core& Of(void* core) noexcept { return *static_cast<Core*>(core); }
    static constexpr LeaseOps kOps = {
        .release = [](void* core, Block& block) noexcept { Of(core).Release(block); },
        .map = [](void* core, Block& block, uint64_t offset, uint64_t bytes,
                  MapMode mode) noexcept { return Of(core).Map(block, offset, bytes, mode); },
        .unmap = [](void* core, Block& block, std::byte* at,
                    uint64_t bytes) noexcept { Of(core).Unmap(block, at, bytes); },
        .begin_access =
            [](void* core, Block& block, Direction direction) noexcept {
              return Of(core).backend.BeginCpuAccess(block, direction);
            },
        .end_access =
            [](void* core, Block& block, Direction direction) noexcept {
              return Of(core).backend.EndCpuAccess(block, direction);
            },
        .report = [](void* core,
                     const Error& error) noexcept { Of(core).backend.errors().Report(error); },
    };

    // Calls f(heap's Result, its place) for each heap, highest id first, until f says true.
    template <class Self, class F>
    static bool Walk(Self& self, F f) noexcept {
      return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
        return (f(std::get<kOrder[kAt]>(self.heaps), kOrder[kAt]) || ...);
      }
      (std::index_sequence_for<Hs...>{});
    }
    // f(the heap that a block came from).
    template <class F>
    auto WithHeapOf(const Block& block, F f) noexcept {
      if (block.heap == kImported) return f(imports);
      decltype(f(imports)) answer =
          Error(EINVAL, "the block is of no heap", {B::kName, Operation::kRelease});
      Walk(*this, [&](auto& heap, size_t at) {
        if (at != block.heap) return false;
        answer = f(*heap);
        return true;
      });
      return answer;
    }

    absl::StatusOr<Buffer> Allocate(const Request& request) noexcept {
      const Origin origin{B::kName, Operation::kAllocate, {}, request.bytes};
      if (request.bytes == 0) return ToStatus(Error(EINVAL, "a request of 0 bytes", origin));
      if (HasUnknownBits(request.flags)) {
        return ToStatus(Error(EINVAL, "a flag that has no name", origin));
      }
      const HeapMask mask = request.heaps.value_or(Default());
      Block* block = blocks.New();
      if (block == nullptr) return ToStatus(Error(ENOMEM, "operator new: a block", origin));
      int code = ENODEV;
      std::string tried;
      const bool found = Walk(*this, [&](auto& heap, size_t at) {
        if (!mask.contains(kIds[at])) return false;
        const Error error = heap.ok() ? heap->Allocate(request, *block) : heap.error();
        if (error.ok()) {
          block->heap = static_cast<uint8_t>(at);
          return true;
        }
        code = error.code();
        absl::StrAppend(&tried, tried.empty() ? "" : "; ", "heap ", kIds[at].value(), ": ",
                        Describe(error));
        return false;
      });
      if (found) return Lease(block);
      blocks.Delete(block);
      if (tried.empty()) return ToStatus(NoHeap(request, origin));
      return MakeStatus(code, tried);
    }

    absl::StatusOr<Buffer> Import(FdRef fd) noexcept {
      Block* block = blocks.New();
      if (block == nullptr) {
        return ToStatus(Error(ENOMEM, "operator new: a block", {B::kName, Operation::kImport}));
      }
      if (Error error = backend.Import(fd, *block); !error.ok()) {
        blocks.Delete(block);
        return ToStatus(error);
      }
      block->heap = kImported;
      return Lease(block);
    }

    Buffer Lease(Block* block) noexcept {
      owners.fetch_add(1, std::memory_order_relaxed);
      return LeaseAccess::Make(block);
    }

    void Release(Block& block) noexcept {
      backend.errors().Report(WithHeapOf(block, [&](auto& heap) { return heap.Free(block); }));
      blocks.Delete(&block);
      Drop();
    }

    // The mapping of a whole block is made once, as far-reaching as its descriptor allows, and
    // kept. Where its owner has forbidden writing since we looked, who only reads gets a mapping of
    // his own.
    Result<std::byte*> Map(Block& block, uint64_t offset, uint64_t bytes, MapMode mode) noexcept {
      const auto map = [&](MapMode how) {
        return WithHeapOf(block, [&](auto& heap) { return heap.Map(block, offset, bytes, how); });
      };
      const bool whole = offset == 0 && bytes == block.bytes;
      if (!whole || (mode == MapMode::kWritable && !block.writable)) return map(mode);
      if (block.mapping != nullptr) return block.mapping;
      Result<std::byte*> at = map(block.writable ? MapMode::kWritable : MapMode::kReadOnly);
      if (at.ok()) {
        block.mapping = *at;
      } else if (mode == MapMode::kReadOnly && at.error().code() == EPERM) {
        return map(MapMode::kReadOnly);
      }
      return at;
    }
    void Unmap(Block& block, std::byte* at, uint64_t bytes) noexcept {
      if (at == block.mapping) return;
      backend.errors().Report(WithHeapOf(block, [&](auto& heap) { return heap.Unmap(at, bytes); }));
    }

    void Abandon() noexcept {
      if (owners.load(std::memory_order_relaxed) > 1) {
        backend.errors().Report(Error(EBUSY, "buffers outlive their Manager",
                                      {B::kName, Operation::kRelease},
                                      "release them first; their memory lives until then"));
      }
      Drop();
    }
    void Drop() noexcept {
      if (owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    HeapMask Bound() const noexcept {
      HeapMask mask;
      Walk(*this, [&](const auto& heap, size_t at) {
        if (heap.ok()) mask = mask | kIds[at];
        return false;
      });
      return mask;
    }
    HeapMask Default() const noexcept {
      HeapMask mask;
      Walk(*this, [&](const auto& heap, size_t at) {
        if (heap.ok() && !heap->properties().contiguous) mask = mask | kIds[at];
        return false;
      });
      return mask;
    }
    std::string_view NameOf(HeapId id) const noexcept {
      std::string_view name;
      Walk(*this, [&](const auto& heap, size_t at) {
        if (kIds[at] == id && heap.ok()) name = heap->name();
        return kIds[at] == id;
      });
      return name;
    }
    Properties Guarantees(HeapMask mask) const noexcept {
      std::optional<Properties> sure;
      Walk(*this, [&](const auto& heap, size_t at) {
        if (!heap.ok() || !mask.contains(kIds[at])) return false;
        sure = sure.has_value() ? Common(*sure, heap->properties()) : heap->properties();
        return false;
      });
      return sure.value_or(Properties{});
    }

    absl::Status NothingBound() const noexcept {
      int code = ENODEV;
      std::string reasons;
      Walk(*this, [&](const auto& heap, size_t at) {
        code = heap.error().code();
        absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", "heap ", kIds[at].value(), ": ",
                        Describe(heap.error()));
        return false;
      });
      return MakeStatus(code, reasons);
    }
    Error NoHeap(const Request& request, const Origin& origin) const noexcept {
      if (request.heaps.has_value() && request.heaps->empty()) {
        return Error(ENODEV, "the mask of heaps is empty", origin,
                     "name a heap, or leave the mask out");
      }
      if (request.heaps.has_value()) {
        return Error(ENODEV, "no heap of this Manager is in the mask", origin,
                     "Manager::heaps() has those that are");
      }
      return Error(ENODEV, "only contiguous heaps are bound", origin,
                   "contiguous memory is scarce: name the heap in the request's mask");
    }
  };

  explicit Manager(Core* core) noexcept : core_(core) {}

  Core& core() const noexcept {
    ION_CHECK(core_ != nullptr, "a Manager was used after it was moved from");
    return *core_;
  }
  bool Owns(const Block& block) const noexcept { return internal::SlabOf(block).owner == core_; }
  static Error Stranger(Operation operation, const Block& block) noexcept {
    return Error(EINVAL, "the buffer is another Manager's", {B::kName, operation, {}, block.bytes},
                 "ask the Manager that it came from");
  }

  Core* core_;
};

}  // namespace ion

#endif  // ION_ION_MANAGER_H_
