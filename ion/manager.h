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
//   auto client = manager->CreateClient({.name = "camera"});
//   absl::StatusOr<ion::Buffer> buffer = client->Allocate({.bytes = 8_MiB, .name = "preview"});
//
// A heap for which the backend has no memory stays away: the Manager works without it, and a
// request that names it is told why.
//
// A Manager may end while buffers are out: that is reported to the error sink, each of them is told
// of on the standard error, and what they stand for lives until the last is released. Clients may
// outlive it, too.
//
// A child made by fork cannot use its parent's Manager: it is given nothing (EPERM), and its report
// is empty. What it inherited it can only let go of, by destroying it.
//
// Cost: the walk is a fold over the heaps; an allocation is one call of the backend. Thread-safe
// but for Open, moving and destruction. Over heaps that recycle, no thread may release a lease
// while the Manager is being destroyed; before and after, any may.
#ifndef ION_ION_MANAGER_H_
#define ION_ION_MANAGER_H_

#include <array>
#include <cerrno>
#include <cstddef>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/backend.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/check.h"
#include "ion/client.h"
#include "ion/error.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_order.h"
#include "ion/keeper.h"
#include "ion/manager_core.h"
#include "ion/manager_report.h"
#include "ion/recycling.h"
#include "ion/refusals.h"
#include "ion/report.h"
#include "ion/request.h"
#include "ion/slab.h"
#include "ion/status.h"

namespace ion {

// In which order the heaps of a mask are tried. ION's kernel: the highest id first. Its overview
// says the opposite.
struct HighestFirst {
  static constexpr bool Before(HeapId a, HeapId b) { return a > b; }
};
struct LowestFirst {
  static constexpr bool Before(HeapId a, HeapId b) { return a < b; }
};

template <class Order, Backend B, class... Hs>
class ManagerWith {
  static_assert(sizeof...(Hs) > 0, "ion: a Manager needs at least one heap");
  static_assert((HeapCheck<Hs, B>::kOk && ...));
  static_assert(internal::AllDiffer(std::array<HeapId, sizeof...(Hs)>{Hs::kId...}),
                "ion: two heaps of a Manager have the same id; give one of them another, as in "
                "SystemHeap<B, HeapSpec{.id = 1}>");
  using Core = internal::ManagerCore<Order, B, Hs...>;

 public:
  using Client = ion::Client<Core>;
  static constexpr const char* kBackendName = B::kName;

  // Opens the backend and binds the heaps. Fails where the backend does not open, or where no heap
  // can be bound: the Status then says why for each, with the errno of the last.
  static absl::StatusOr<ManagerWith> Open(const typename B::Options& options = {}) noexcept {
    auto backend = B::Open(options);
    if (!backend.ok()) return ToStatus(backend);
    Core* core = new (std::nothrow) Core(*std::move(backend));
    if (core == nullptr)
      return ToStatus(Error(ENOMEM, "operator new", {B::kName, Operation::kOpen}));
    ManagerWith manager(core);
    if (core->bound.empty()) return internal::NothingBound(*core);
    return manager;
  }

  ManagerWith(ManagerWith&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  ManagerWith& operator=(ManagerWith&& other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }
  ~ManagerWith() {
    if (core_ != nullptr) core_->Abandon();
  }

  // A user of this Manager. ENOSPC: 1023 clients are open in this process.
  absl::StatusOr<Client> CreateClient(const ClientOptions& options) noexcept {
    return Client::Create(core(), options);
  }

  // Memory on nobody's account, from the first heap of the request's mask that has some.
  // INVALID_ARGUMENT (EINVAL): 0 bytes, or a flag that has no name. ENODEV: the mask is empty, or
  // names no heap of this Manager. Otherwise the Status lists each heap that was tried and carries
  // the errno of the last.
  absl::StatusOr<Buffer> Allocate(const Request& request,
                                  CallSite where = CallSite::Here()) noexcept {
    return core().Allocate(request, core().nobody, where);
  }

  // Renames a buffer for the kernel's reports. ENOTSUP: the backend's memory keeps its first name.
  absl::Status SetName(const Buffer& buffer, std::string_view name) noexcept {
    const Block& block = LeaseAccess::BlockOf(buffer);
    if (!Owns(block)) {
      return ToStatus(Error(EINVAL, "the buffer is another Manager's",
                            {B::kName, Operation::kName, {}, block.bytes},
                            "ask the Manager that it came from"));
    }
    return ToStatus(core().SetName(block, name));
  }

  // The heaps that have memory.
  HeapMask heaps() const noexcept { return core().bound; }
  // Where a request without a mask is served from: heaps that do not declare contiguous memory.
  HeapMask default_heaps() const noexcept { return core().usual; }
  // The name of the kernel heap behind `id`, or empty.
  std::string_view HeapName(HeapId id) const noexcept { return core().NameOf(id); }
  // The id of the heap that a buffer came from; none for another Manager's.
  std::optional<HeapId> HeapOf(const Buffer& buffer) const noexcept {
    const Block& block = LeaseAccess::BlockOf(buffer);
    if (!Owns(block)) return std::nullopt;
    return core().HeapOf(block);
  }
  // What is sure of memory from any of these heaps, whichever gives it.
  Properties Guarantees(HeapMask mask) const noexcept { return core().Guarantees(mask); }

  // Gives idle memory of pools back to the kernel: at least `bytes`, where so many lie idle.
  // Returns how many.
  uint64_t Trim(uint64_t bytes = UINT64_MAX) noexcept {
    return core().Trim(bytes, GiveBack::kTrim);
  }
  // Time goes on for the pools: what was not needed for some ticks goes back to the kernel
  // (policies/pool_spec.h). For who has no Keeper.
  void Tick() noexcept { core().Tick(); }
  // Starts a thread of this Manager that ticks, and gives idle memory back when the machine runs
  // short (ion/keeper.h). Where that cannot be watched the Status says why, and the thread ticks
  // all the same. FAILED_PRECONDITION (EALREADY): there is one. PERMISSION_DENIED (EPERM): we are a
  // forked child, and the Manager is the parent's.
  absl::Status StartKeeper(const KeeperOptions& options = {}) noexcept {
    return ToStatus(core().StartKeeper(options));
  }

  // Who holds what, at this moment (ion/report.h).
  Report MakeReport() const { return internal::MakeReport(core()); }

  B& backend() noexcept { return core().backend; }
  ErrorSink& errors() noexcept { return core().backend.errors(); }

 private:
  explicit ManagerWith(Core* core) noexcept : core_(core) {}

  Core& core() const noexcept {
    ION_CHECK(core_ != nullptr, "a Manager was used after it was moved from");
    return *core_;
  }
  bool Owns(const Block& block) const noexcept { return core().Owns(block); }

  Core* core_;
};

template <Backend B, class... Hs>
using Manager = ManagerWith<HighestFirst, B, Hs...>;

}  // namespace ion

#endif  // ION_ION_MANAGER_H_
