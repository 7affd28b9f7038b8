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
//   using Camera = ion::Manager<ion::DmaHeapBackend<>, ion::System, ion::Dma>;
//
//   absl::StatusOr<Camera> manager = Camera::Open();
//   auto client = manager->CreateClient({.name = "camera"});
//   absl::StatusOr<ion::Buffer> buffer = client->Allocate({.bytes = 8_MiB, .name = "preview"});
//
// If the backend has no memory for a heap, the Manager opens without it; requests that name it fail
// with the reason. If that memory comes later (a module, a udev rule), such a request binds it.
//
// The end of a Manager with living buffers reports EBUSY to the error sink and prints a line for
// each buffer to the standard error. The memory stays valid until its buffer is released. Clients
// may outlive it, too.
//
// A child made by fork cannot use its parent's Manager: it is given nothing (EPERM), and its report
// is empty. Inherited objects can only be destroyed; that closes the child's descriptors and
// nothing else.
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
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/backend.h"
#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/core/heap_order.h"
#include "ion/core/keeper.h"
#include "ion/core/manager_core.h"
#include "ion/core/manager_report.h"
#include "ion/core/pool_bounds.h"
#include "ion/core/reasons.h"
#include "ion/core/reclaimer.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/recycler.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "ion/request.h"
#include "ion/slab.h"

namespace ion {

// Settings of a Manager that do not concern its backend.
struct ManagerOptions {
  // Bounds of idle memory that are smaller than those of the heaps' PoolSpecs, at most one element
  // for each heap. Heaps that are not named keep those of their PoolSpecs.
  std::vector<HeapPools> pools = {};
};

// In which order the heaps of a mask are tried. ION's kernel: the highest id first. Its overview
// says the opposite.
struct HighestFirst {
  static constexpr bool Before(HeapId a, HeapId b) { return a > b; }
};
struct LowestFirst {
  static constexpr bool Before(HeapId a, HeapId b) { return a < b; }
};

// Each of `Elements` is a heap over B, or describes one (ion/heap_list.h).
template <class Order, Backend B, class... Elements>
class ManagerWith {
  static_assert(sizeof...(Elements) > 0, "ion: a Manager needs at least one heap");
  static_assert((internal::CheckElement<internal::BoundTo<Elements, B>, B>() && ...));
  static_assert(internal::AllDiffer(std::array<HeapId, sizeof...(Elements)>{
                    internal::HeapPart<internal::BoundTo<Elements, B>>::kId...}),
                "ion: two heaps of a Manager have the same id; give one of them another, as in "
                "SystemOf<HeapSpec{.id = 1}>");
  using Core = internal::ManagerCore<Order, B, internal::BoundTo<Elements, B>...>;
  using Bounds = internal::PoolBoundsOf<internal::BoundTo<Elements, B>...>;

 public:
  using Client = ion::Client<Core>;
  static constexpr const char* kBackendName = B::kName;

  // Opens the backend and binds the heaps. Fails if the backend does not open, or if no heap can be
  // bound: the Status then lists the reason of each, with the errno of the last. A backend that
  // chooses among several (backends/any_of.h) takes the next one if none binds, or none for
  // requests without a mask though some are for those. INVALID_ARGUMENT (EINVAL):
  // ManagerOptions::pools names a heap that has no pools, or twice the same, or has a bound above
  // that of the heap's PoolSpec, or watermarks that are not low <= high <= capacity.
  static absl::StatusOr<ManagerWith> Open(const typename B::Options& options = {},
                                          const ManagerOptions& settings = {}) noexcept {
    const auto bounds =
        internal::LowerBounds<internal::BoundTo<Elements, B>...>(B::kName, settings.pools);
    if (!bounds.ok()) return bounds.status();
    if constexpr (internal::ChoosesByUse<B>) return OpenFirst<B>(options, *bounds);
    auto backend = B::Open(options);
    if (!backend.ok()) return ToStatus(backend);
    Core* core = new (std::nothrow) Core(*std::move(backend), *bounds);
    if (core == nullptr)
      return ToStatus(Error(ENOMEM, "operator new", {B::kName, Operation::kOpen}));
    ManagerWith manager(core);
    if (core->heaps().bound().empty()) return internal::NothingBound(*core);
    return manager;
  }

  ManagerWith(ManagerWith&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  ManagerWith& operator=(ManagerWith&& other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }
  ~ManagerWith() {
    if (core_ != nullptr) core_->home().abandon(*core_);
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
    return core().Allocate(request, core().nobody(), where);
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
  HeapMask heaps() const noexcept { return core().heaps().bound(); }
  // The heaps that serve a request without a mask: those that do not declare contiguous memory, but
  // for a memfd beside an interface that makes dma-bufs (backends/all_of.h).
  HeapMask default_heaps() const noexcept { return core().heaps().usual(); }
  // The name of the kernel heap behind `id`, or empty.
  std::string_view HeapName(HeapId id) const noexcept { return core().heaps().NameOf(id); }
  // The id of the heap that a buffer came from; none for another Manager's.
  std::optional<HeapId> HeapOf(const Buffer& buffer) const noexcept {
    const Block& block = LeaseAccess::BlockOf(buffer);
    if (!Owns(block)) return std::nullopt;
    return core().HeapOf(block);
  }
  // The properties that hold for every heap in `mask` (their intersection).
  Properties Guarantees(HeapMask mask) const noexcept { return core().heaps().Guarantees(mask); }

  // Gives idle memory of pools back to the kernel: at least `bytes`, or all of it. Returns the
  // number of bytes freed. 0 bytes: frees nothing, and moves the content of threads' magazines to
  // the depots, from which other domains may take it.
  uint64_t Trim(uint64_t bytes = UINT64_MAX) noexcept {
    return core().home().trim(core(), bytes, GiveBack::kTrim);
  }
  // Advances the pools' time: memory that was not needed for some ticks goes back to the kernel
  // (policies/recycling/pool_spec.h). For a program without a Reclaimer.
  void Tick() noexcept { core().home().tick(core()); }
  // Starts a thread of this Manager that ticks, and gives idle memory back when the machine runs
  // short (ion/core/reclaimer.h). OK: it runs; the ReclaimerStatus says which of its ways to see
  // that memory is short it cannot watch, and why. Otherwise nothing runs. FAILED_PRECONDITION
  // (EALREADY): one is running. PERMISSION_DENIED (EPERM): this is a forked child, and the Manager
  // is the parent's.
  absl::StatusOr<ReclaimerStatus> StartReclaimer(const ReclaimerOptions& options = {}) noexcept {
    const auto started = core().StartReclaimer(options);
    if (!started.ok()) return ToStatus(started.error());
    return ReclaimerStatus{.pressure = ToStatus(started->pressure),
                           .available = ToStatus(started->available)};
  }
  // The former StartReclaimer, until 0.3: it runs, and returns an error, if pressure or the
  // available memory cannot be watched.
  [[deprecated("ion: Manager::StartReclaimer")]] absl::Status StartKeeper(
      const KeeperOptions& options = {}) noexcept {
    const auto started = StartReclaimer({.interval = options.tick,
                                         .pressure = options.pressure,
                                         .min_available_percent = options.least_available_percent});
    if (!started.ok()) return started.status();
    return started->pressure.ok() ? started->available : started->pressure;
  }

  // Returns the memory that each client holds at this moment (ion/report.h).
  Report MakeReport() const noexcept {
    return internal::WithMemory([&] { return core().home().report(core()); },
                                [] {
                                  Report report;
                                  report.complete = false;
                                  return report;
                                });
  }

  // The backend, as long as the Manager lives.
  B& backend() noexcept { return core().backend(); }
  // The sink that gets errors which no call can return, such as those of destructors.
  ErrorSink& errors() noexcept { return core().backend().errors(); }

 private:
  explicit ManagerWith(Core* core) noexcept : core_(core) {}

  // A template, so that a Manager over any backend can be instantiated explicitly.
  template <class Chooser>
  static absl::StatusOr<ManagerWith> OpenFirst(const typename Chooser::Options& options,
                                               const Bounds& bounds) noexcept {
    const Origin origin{B::kName, Operation::kOpen};
    const auto open = [&]() -> absl::StatusOr<ManagerWith> {
      std::optional<ManagerWith> taken;
      const std::vector<Error> refusals = Chooser::OpenFirst(options, [&](B&& backend) {
        Core* core = new (std::nothrow) Core(std::move(backend), bounds);
        if (core == nullptr) return Error(ENOMEM, "operator new", origin);
        ManagerWith candidate(core);
        const Error unserved = internal::Unserved(*core);
        if (unserved.ok()) taken.emplace(std::move(candidate));
        return unserved;
      });
      if (taken.has_value()) return *std::move(taken);
      return ToStatus(refusals);
    };
    return internal::WithMemory(open, [&]() -> absl::StatusOr<ManagerWith> {
      return ToStatus(Error(ENOMEM, "operator new", origin));
    });
  }

  Core& core() const noexcept {
    ION_CHECK(core_ != nullptr, "a Manager was used after it was moved from");
    return *core_;
  }
  bool Owns(const Block& block) const noexcept { return core().Owns(block); }

  Core* core_;
};

template <Backend B, class... Elements>
using Manager = ManagerWith<HighestFirst, B, Elements...>;

}  // namespace ion

#endif  // ION_ION_MANAGER_H_
