// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/all_of.h
//
// AllOf: one backend over several, all that open: the heaps of dma-heap, ION, udmabuf and memfd in
// one Manager, with one Budget and one error sink. A block goes back to the interface that it came
// from. If a request names several heaps, it falls from one interface to the next in one call.
//
// A board that uses its CMA heap, ordinary pages as dma-bufs, and memory of the CPU's own. If one
// interface is enough, take its backend itself; if the first that opens is enough, AnyOf
// (backends/any_of.h).
//
// Example:
//   // Tried from the highest id: a request for both kinds of memory gets contiguous memory first.
//   static constexpr ion::HeapSpec kLadder[] = {
//       {.type = ion::HeapType::kDma, .id = 4},
//       {.type = ion::HeapType::kSystem, .id = 2, .interface = "dma_heap"},
//       {.type = ion::HeapType::kSystem, .id = 1, .interface = "udmabuf"},
//       {.type = ion::HeapType::kSystem, .id = 0, .interface = "memfd"}};
//   using Several = ion::AllOf<ion::DmaHeapBackend<>, ion::UdmabufBackend<>, ion::MemfdBackend<>>;
//   auto manager = ion::platforms::TableManager<Several, kLadder>::Open();
//   auto frame = manager->Allocate(
//       {.bytes = 8 << 20, .heaps = ion::HeapId{4} | manager->default_heaps()});
//   for (const ion::Error& error : manager->backend().open_errors()) Log(error);
//
// Heaps. heaps() lists those of each interface in the order of the interfaces. A HeapSpec without
// an interface takes the first heap that fits; two interfaces may have heaps of one name.
//
// Memory that no device takes. If an interface that makes dma-bufs is open, the heaps of one that
// makes none (memfd) serve only requests that name them in their mask.
//
// Import and Identify ask the kernel once if a descriptor is a memfd. A memfd is for the first
// interface that makes no dma-bufs, all else is for the first one that makes them.
//
// Later. LookAgain, which a Manager calls if a request names a heap that has no memory, also opens
// the interfaces that did not open before.
//
// If a block's interface lacks an optional hook, AllOf answers for it: ENOTSUP (IsUnshared), idle
// (IsIdle). Compose and Custom are those of the first open interface that has them; if none is
// open, Compose returns why, and Custom ENOTTY.
//
// Cost: one load and one switch in each call, and no virtual call; no pool calls a backend on its
// hot path. One more system call for an Import or Identify if both kinds of interface are open. Some
// 56 KiB, of which most is room for 256 heaps that is not touched. Thread-safe but for Open.
#ifndef ION_BACKENDS_ALL_OF_H_
#define ION_BACKENDS_ALL_OF_H_

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/backends/any_of.h"
#include "ion/base/budget.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/linux_release.h"
#include "ion/base/memory_limit.h"
#include "ion/base/poll_until.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/frame_shape.h"
#include "ion/request.h"

namespace ion {

namespace internal {

// It tells which of its mappings only its own Unmap can end, and tries again what munmap refused.
template <class B>
concept SharesItsCalls = requires(B& b, const B& c, const std::byte* at) {
  { c.HasPart(at) } noexcept -> std::same_as<bool>;
  { c.kept_mappings() } noexcept -> std::same_as<size_t>;
  { b.RetryUnmaps() } noexcept;
};

}  // namespace internal

// Requires: Options of the kind that backends/ has, over one Syscalls policy.
template <Backend... Bs>
class AllOf {
  static_assert((internal::SharesItsCalls<Bs> && ...),
                "ion: AllOf takes backends that are derived from BackendBase "
                "(backends/backend_base.h)");
  static_assert(sizeof...(Bs) <= 32, "ion: AllOf takes up to 32 backends");

  static constexpr size_t kCount = sizeof...(Bs);
  using Sys = decltype(std::tuple_element_t<0, std::tuple<Bs...>>::Options::sys);
  template <size_t kAt>
  using At = std::tuple_element_t<kAt, std::tuple<Bs...>>;

 public:
  static constexpr const char* kName = "all";
  static constexpr BackendCaps kCaps = {.composes = (Bs::kCaps.composes || ...),
                                        .customs = (Bs::kCaps.customs || ...),
                                        .proves_unshared = (Bs::kCaps.proves_unshared || ...),
                                        .fences = (Bs::kCaps.fences || ...),
                                        .compares = true,
                                        .relists = true,
                                        .frames = (Bs::kCaps.frames || ...)};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::vector<std::string_view> order = {Bs::kName...};  // those that are used, and their order
    std::tuple<typename Bs::Options...> each = {};  // beside the first three, which are for all
    // For memory that drivers shall take: a backend whose descriptors are no dma-bufs is refused.
    bool require_dma_buf = false;
  };

  // Opens each of `order`. Fails if none opens: with the last one's error, and a Status that has
  // all. EINVAL: a name in the order is of no backend here, or it is empty.
  static FirstOf<AllOf> Open(const Options& options) noexcept {
    return internal::WithMemory(
        [&] { return OpenOrThrow(options); },
        [] {
          return FirstOf<AllOf>(Error(ENOMEM, "operator new", {kName, Operation::kOpen}));
        });
  }
  // Not for users: Open, which may throw bad_alloc.
  static FirstOf<AllOf> OpenOrThrow(const Options& options) {
    const Origin origin{kName, Operation::kOpen};
    auto state = std::make_unique<State>(options);
    for (const std::string_view name : options.order) {
      const size_t at = PlaceOf(name);
      if (at == kCount) {
        return FirstOf<AllOf>(
            std::vector{Error(EINVAL, "no backend here has this name",
                              {kName, Operation::kOpen, name}, "name those of Options().order")});
      }
      if (std::ranges::find(state->order, at) == state->order.end()) state->order.push_back(at);
    }
    if (state->order.empty()) {
      return FirstOf<AllOf>(std::vector{Error(EINVAL, "the order names no backend", origin)});
    }
    if (state->budget == nullptr) {
      const Result<MemoryLimit> limit = MemoryLimit::Read(kName, options.sys);
      if (!limit.ok()) return FirstOf<AllOf>(limit.error());
      state->budget = std::make_shared<Budget>(limit->bytes / 2);
    }
    if (state->errors == nullptr) state->errors = std::make_shared<ErrorSink>();
    for (const size_t at : state->order) {
      const Error error = OpenAt(*state, at);
      state->refusals[at] = error;
      if (!error.ok()) state->open_errors.push_back(error);
    }
    if (state->open.load(std::memory_order_relaxed) == 0) {
      return FirstOf<AllOf>(std::move(state->open_errors));
    }
    // A block that none of us made is the first one's.
    state->place_of.fill(static_cast<uint8_t>(First(*state, ~0u)));
    for (const size_t at : state->order) {
      state->place_of[Slot(at)] = static_cast<uint8_t>(at);
      List(*state, at);
    }
    return FirstOf<AllOf>(AllOf(std::move(state)));
  }

  // An error of a heap, or of a block, has the name of its interface.
  const char* name() const noexcept { return kName; }
  // Why the others did not open, in their order; as Open found it.
  std::span<const Error> open_errors() const noexcept { return state_->open_errors; }
  // Returns why the interface of this name is not open; no error: it is open. EINVAL: none here has
  // the name.
  Error OpenErrorOf(std::string_view interface) const noexcept {
    const Origin origin{kName, Operation::kOpen, interface};
    const size_t at = PlaceOf(interface);
    if (at == kCount) return Error(EINVAL, "no backend here has this name", origin);
    return IsOpen(at) ? Error() : RefusalOf(at);
  }

  std::span<const KernelHeap> heaps() const noexcept {
    return {state_->heaps.data(), state_->heap_count.load(std::memory_order_acquire)};
  }
  LinuxRelease linux_release() const noexcept { return LinuxRelease::Read(state_->sys); }

  // As the heap's interface. ENODEV: there is no such heap.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    return FromHeap(kernel_heap, bytes, block, [&](auto& b, uint32_t inner) {
      return b.Allocate(inner, bytes, flags, name, block);
    });
  }
  Error Release(Block& block) noexcept {
    RetryUnmaps();
    return OnIts(block, [&](auto& b) { return b.Release(block); });
  }
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return OnIts(block, [&](auto& b) { return b.Map(block, offset, bytes, mode); });
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept {
    size_t place = First(*state_, ~0u);
    ForEachOpen([&](auto& b, size_t of) {
      if (b.HasPart(at)) place = of;
    });
    return Visit(*state_, place, [&](auto& b) { return b.Unmap(at, bytes); });
  }
  Result<std::byte*> MapToKeep(const Block& block) noexcept {
    return OnIts(block, [&](auto& b) { return b.MapToKeep(block); });
  }
  Error Abandon(Block& block) noexcept {
    return OnIts(block, [&](auto& b) { return b.Abandon(block); });
  }
  Error BeginCpuAccess(const Block& block, Direction direction) noexcept {
    return OnIts(block, [&](auto& b) { return b.BeginCpuAccess(block, direction); });
  }
  Error EndCpuAccess(const Block& block, Direction direction) noexcept {
    return OnIts(block, [&](auto& b) { return b.EndCpuAccess(block, direction); });
  }
  Error SetName(const Block& block, std::string_view name) noexcept {
    return OnIts(block, [&](auto& b) { return b.SetName(block, name); });
  }
  Result<UniqueFd> Share(const Block& block) noexcept {
    return OnIts(block, [&](auto& b) { return b.Share(block); });
  }

  // As the interface that takes the descriptor. EBADF: not open.
  Result<BufferIdentity> Identify(FdRef fd, Operation operation) noexcept {
    const Result<size_t> taker = TakerOf(fd, operation);
    if (!taker.ok()) return taker.error();
    return Visit(*state_, *taker, [&](auto& b) { return b.Identify(fd, operation); });
  }
  Error Import(FdRef fd, Block& block) noexcept {
    const Result<size_t> taker = TakerOf(fd, Operation::kImport);
    if (!taker.ok()) return taker.error();
    const Error error = Visit(*state_, *taker, [&](auto& b) { return b.Import(fd, block); });
    if (error.ok()) block.kernel_heap = Slot(*taker);
    return error;
  }
  // Those that compare ask the kernel for the same, so which of them is asked does not matter. One
  // that does not compare has identities that need it not.
  bool SameBuffer(FdRef a, FdRef b) const noexcept {
    constexpr uint32_t kComparing = MaskOf({Bs::kCaps.compares...});
    size_t at = First(*state_, kComparing);
    if (First(*state_, ~kComparing) != kCount) {
      const Result<size_t> taker = TakerOf(a, Operation::kImport);
      if (!taker.ok()) return false;
      at = *taker;
    }
    return Visit(*state_, at, [&]<class B>(const B& backend) {
      if constexpr (B::kCaps.compares) return backend.SameBuffer(a, b);
      return true;
    });
  }

  Budget& budget() const noexcept { return *state_->budget; }
  ErrorSink& errors() const noexcept { return *state_->errors; }
  // Of all of them.
  size_t kept_mappings() const noexcept {
    size_t count = 0;
    ForEachOpen([&](const auto& b, size_t) { count += b.kept_mappings(); });
    return count;
  }
  void RetryUnmaps() noexcept {
    ForEachOpen([](auto& b, size_t) { b.RetryUnmaps(); });
  }

  Error Compose(std::span<const PageRange> ranges, Block& block) noexcept
    requires(kCaps.composes)
  {
    constexpr uint32_t kComposing = MaskOf({Bs::kCaps.composes...});
    const size_t at = First(*state_, kComposing);
    if (at == kCount) return RefusalOf(std::countr_zero(kComposing));
    const Error error = Visit(*state_, at, [&]<class B>(B& b) {
      if constexpr (B::kCaps.composes) return b.Compose(ranges, block);
      return Error();
    });
    if (error.ok()) block.kernel_heap = Slot(at);
    return error;
  }
  Error Custom(uint32_t command, uint64_t argument) noexcept
    requires(kCaps.customs)
  {
    const size_t at = First(*state_, MaskOf({Bs::kCaps.customs...}));
    if (at != kCount) {
      return Visit(*state_, at, [&]<class B>(B& b) {
        if constexpr (B::kCaps.customs) return b.Custom(command, argument);
        return Error();
      });
    }
    return Error(ENOTTY, "no interface that is open has commands of its own",
                 {kName, Operation::kCustom});
  }
  Result<bool> IsUnshared(const Block& block) noexcept
    requires(kCaps.proves_unshared)
  {
    return OnIts(block, [&]<class B>(B& b) -> Result<bool> {
      if constexpr (B::kCaps.proves_unshared) return b.IsUnshared(block);
      return Error(ENOTSUP, "this backend cannot tell who holds its memory",
                   {B::kName, Operation::kProve, {}, block.bytes});
    });
  }
  Result<bool> IsIdle(const Block& block) noexcept
    requires(kCaps.fences)
  {
    return OnIts(block, [&]<class B>(B& b) -> Result<bool> {
      if constexpr (B::kCaps.fences) return b.IsIdle(block);
      return true;
    });
  }
  Error AwaitFences(const Block& block, Direction direction, Deadline deadline) noexcept
    requires(kCaps.fences)
  {
    return OnIts(block, [&]<class B>(B& b) -> Error {
      if constexpr (B::kCaps.fences) return b.AwaitFences(block, direction, deadline);
      return {};
    });
  }

  Error AllocateFrame(uint32_t kernel_heap, const Request& request, Block& block) noexcept
    requires(kCaps.frames)
  {
    return FromHeap(kernel_heap, request.bytes, block, [&]<class B>(B& b, uint32_t inner) {
      if constexpr (B::kCaps.frames) return b.AllocateFrame(inner, request, block);
      return Error(ENOTSUP, "this backend makes no frames",
                   {B::kName, Operation::kAllocate, {}, request.bytes});
    });
  }
  StatedFrame StatedOf(const Block& block) const noexcept
    requires(kCaps.frames)
  {
    return Visit(*state_, state_->place_of[block.kernel_heap], [&]<class B>(const B& b) {
      if constexpr (B::kCaps.frames) return b.StatedOf(block);
      return StatedFrame();
    });
  }

  // Opens what did not open before, and appends the heaps that have come since.
  bool LookAgain() noexcept {
    std::lock_guard lock(state_->mutex);
    const size_t before = heaps().size();
    // Without memory for it the list stays as it is, or gets the rest at the next look.
    (void)internal::TryWithMemory([&] {
      for (const size_t at : state_->order) {
        if (IsOpen(at)) {
          Visit(*state_, at, []<class B>(B& b) {
            if constexpr (B::kCaps.relists) (void)b.LookAgain();
          });
        } else {
          (void)OpenAt(*state_, at);
        }
        List(*state_, at);
      }
    });
    return heaps().size() != before;
  }

 private:
  // Numbers of heaps that a block can name (Block::kernel_heap). The last ones stand for memory of
  // an interface that is of none of its heaps: imported, or composed.
  static constexpr size_t kNumbers = 256;
  static constexpr size_t kMaxHeaps = kNumbers - kCount;
  static constexpr uint8_t Slot(size_t at) noexcept {
    return static_cast<uint8_t>(kNumbers - 1 - at);
  }

  struct State {
    explicit State(const Options& options)
        : sys(options.sys),
          budget(options.budget),
          errors(options.errors),
          each(options.each),
          require_dma_buf(options.require_dma_buf) {
      order.reserve(kCount);
      heaps.reserve(kMaxHeaps);
    }

    const Sys sys;
    std::shared_ptr<Budget> budget;
    std::shared_ptr<ErrorSink> errors;
    const std::tuple<typename Bs::Options...> each;
    const bool require_dma_buf;
    std::vector<size_t> order;           // the places of those that are used
    std::array<Error, kCount> refusals;  // by place; Open's
    std::vector<Error> open_errors;
    std::tuple<std::optional<Bs>...> backends;
    std::atomic<uint32_t> open{0};              // bit N: that at place N is there, from then on
    std::array<uint8_t, kNumbers> place_of{};   // whose the heap of this number is
    std::array<uint8_t, kNumbers> number_of{};  // and its number there
    std::vector<KernelHeap> heaps;              // never moved
    std::atomic<size_t> heap_count{0};          // those that are listed
    std::array<size_t, kCount> listed_count{};  // by place; under the mutex
    std::mutex mutex;                           // of LookAgain
  };

  explicit AllOf(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

  // The place of the backend of this name; kCount: there is none.
  static size_t PlaceOf(std::string_view name) noexcept {
    constexpr std::array<std::string_view, kCount> kNames = {Bs::kName...};
    return static_cast<size_t>(std::ranges::find(kNames, name) - kNames.begin());
  }
  static constexpr uint32_t MaskOf(const std::array<bool, kCount>& has) noexcept {
    uint32_t mask = 0;
    for (size_t at = 0; at < kCount; ++at) mask |= (has[at] ? 1u : 0u) << at;
    return mask;
  }
  static constexpr uint32_t kDmaBufs = MaskOf({internal::MakesDmaBufs<Bs>()...});

  bool IsOpen(size_t at) const noexcept {
    return (state_->open.load(std::memory_order_acquire) >> at & 1u) != 0;
  }
  // The first of `mask` that is open, in the order; kCount: none is.
  static size_t First(const State& state, uint32_t mask) noexcept {
    const uint32_t open = state.open.load(std::memory_order_acquire) & mask;
    for (const size_t at : state.order) {
      if ((open >> at & 1u) != 0) return at;
    }
    return kCount;
  }
  // Why that at a place, which is not open, is not.
  Error RefusalOf(size_t at) const noexcept {
    const Error& refusal = state_->refusals[at];
    if (!refusal.ok()) return refusal;
    return Error(ENODEV, "the order leaves it out",
                 {kName, Operation::kOpen, std::array<std::string_view, kCount>{Bs::kName...}[at]},
                 "name the interface in Options::order");
  }

  static Error OpenAt(State& state, size_t place) {
    Error error;
    const auto open = [&]<size_t kAt>(std::integral_constant<size_t, kAt>) {
      if (kAt != place) return false;
      using B = At<kAt>;
      if (state.require_dma_buf && !internal::MakesDmaBufs<B>()) {
        error = Error(ENOTSUP, "its memory is no dma-buf, and Options::require_dma_buf is set",
                      {B::kName, Operation::kOpen});
        return true;
      }
      typename B::Options options = std::get<kAt>(state.each);
      options.sys = state.sys;
      options.budget = state.budget;
      options.errors = state.errors;
      Result<B> opened = B::Open(options);
      error = opened.error();
      if (opened.ok()) {
        std::get<kAt>(state.backends).emplace(*std::move(opened));
        state.open.fetch_or(1u << kAt, std::memory_order_release);
      }
      return true;
    };
    [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      (void)(open(std::integral_constant<size_t, kAt>()) || ...);
    }(std::index_sequence_for<Bs...>());
    return error;
  }
  // Appends the heaps of one interface that are not listed yet. Under the mutex, or in Open.
  static void List(State& state, size_t at) {
    const uint32_t open = state.open.load(std::memory_order_relaxed);
    if ((open >> at & 1u) == 0) return;
    const bool no_device_takes_it = (kDmaBufs >> at & 1u) == 0 && (open & kDmaBufs) != 0;
    Visit(state, at, [&]<class B>(const B& b) {
      const std::span<const KernelHeap> all = b.heaps();
      for (size_t& count = state.listed_count[at]; count < all.size(); ++count) {
        const size_t number = state.heaps.size();
        if (number == kMaxHeaps) return;
        state.heaps.push_back(all[count]);
        if (state.heaps.back().interface.empty()) state.heaps.back().interface = B::kName;
        state.heaps.back().named_only |= no_device_takes_it;
        state.place_of[number] = static_cast<uint8_t>(at);
        state.number_of[number] = static_cast<uint8_t>(count);
        state.heap_count.store(number + 1, std::memory_order_release);
      }
    });
  }

  // The interface that takes a descriptor, by the kernel's word on its kind. It asks nothing of a file
  // that a program may serve.
  Result<size_t> TakerOf(FdRef fd, Operation operation) const noexcept {
    const size_t dma_bufs = First(*state_, kDmaBufs), others = First(*state_, ~kDmaBufs);
    if (dma_bufs == kCount || others == kCount) return std::min(dma_bufs, others);
    const long seals = state_->sys.Fcntl(fd.get(), F_GET_SEALS, 0);
    if (!Failed(seals)) return others;
    if (ErrnoFrom(seals) == EINVAL) return dma_bufs;
    return Error(ErrnoFrom(seals), "F_GET_SEALS", {kName, operation});
  }

  // f(the backend of a heap, the heap's number there), which fills the block with `bytes`.
  template <class F>
  Error FromHeap(uint32_t kernel_heap, uint64_t bytes, Block& block, F f) noexcept {
    if (kernel_heap >= heaps().size()) {
      return Error(ENODEV, "no such heap", {kName, Operation::kAllocate, {}, bytes});
    }
    RetryUnmaps();
    const uint32_t inner = state_->number_of[kernel_heap];
    const Error error =
        Visit(*state_, state_->place_of[kernel_heap], [&](auto& b) { return f(b, inner); });
    if (error.ok()) block.kernel_heap = static_cast<uint8_t>(kernel_heap);
    return error;
  }
  template <class F>
  auto OnIts(const Block& block, F f) noexcept {
    return Visit(*state_, state_->place_of[block.kernel_heap], f);
  }
  // f(the backend, its place).
  template <class F>
  void ForEachOpen(F f) const noexcept {
    const uint32_t open = state_->open.load(std::memory_order_acquire);
    [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      (((open >> kAt & 1u) != 0 ? f(*std::get<kAt>(state_->backends), kAt) : void()), ...);
    }(std::index_sequence_for<Bs...>());
  }
  // f(the backend at a place). Requires: it is open.
  template <size_t kAt = 0, class F>
  static auto Visit(State& state, size_t place, F f) noexcept {
    if constexpr (kAt + 1 < kCount) {
      if (place != kAt) return Visit<kAt + 1>(state, place, f);
    }
    return f(*std::get<kAt>(state.backends));
  }

  std::unique_ptr<State> state_;
};

}  // namespace ion

#endif  // ION_BACKENDS_ALL_OF_H_
