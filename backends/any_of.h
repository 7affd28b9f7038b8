// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/any_of.h
//
// AnyOf: one backend that is, from Open on, one of several: the first that opens, in an order that
// the caller may change. A Manager takes the first that serves it: in which at least one of its
// heaps binds, and, if it has heaps of scattered memory, one for requests without a mask. For one
// program on machines whose kernels differ; if the machine is known when the program is built, take
// its backend itself.
//
// Example:
//   using Mine = ion::AnyOf<ion::DmaHeapBackend<>, ion::MemfdBackend<>>;
//   Mine::Options options{.order = {"memfd", "dma_heap"}};
//   std::get<ion::DmaHeapBackend<>::Options>(options.each).directory = "/dev/heaps";
//   auto backend = Mine::Open(options);
//   std::puts(backend.ok() ? backend->name() : ion::DescribeEach(backend.refusals()).c_str());
//
// If the opened backend lacks an optional hook, AnyOf returns ENOTSUP (IsUnshared) or ENOTTY
// (Custom). Compose has no such answer, and is not there.
//
// Cost: one switch on the opened backend in each of its calls, and no virtual call; no pool calls a
// backend on its hot path. Thread-safe but for Open.
#ifndef ION_BACKENDS_ANY_OF_H_
#define ION_BACKENDS_ANY_OF_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "ion/backend.h"
#include "ion/base/budget.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/linux_release.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/frame_shape.h"
#include "ion/request.h"

namespace ion {

namespace internal {

// True if the descriptors of a backend's memory are dma-bufs, as it says itself.
template <class B>
constexpr bool MakesDmaBufs() {
  if constexpr (requires { B::kMakesDmaBufs; }) return B::kMakesDmaBufs;
  return false;
}

}  // namespace internal

// A backend, or why none of several opened. Its error is the last one's; its Status has them all.
template <class B>
class FirstOf : public Result<B> {
 public:
  explicit FirstOf(B backend) noexcept : Result<B>(std::move(backend)) {}
  // There was no memory to open any.
  explicit FirstOf(const Error& error) noexcept : Result<B>(error) {}
  // Requires: there is one.
  explicit FirstOf(std::vector<Error> refusals) noexcept
      : Result<B>(refusals.back()), refusals_(std::move(refusals)) {}

  // Empty where ok().
  std::span<const Error> refusals() const noexcept { return refusals_; }

 private:
  std::vector<Error> refusals_;
};
template <class B>
[[nodiscard]] absl::Status ToStatus(const FirstOf<B>& first) noexcept {
  if (first.refusals().empty()) return ToStatus(first.error());
  return internal::WithMemory(
      [&] { return MakeStatus(first.error().code(), DescribeEach(first.refusals())); },
      [&] { return internal::CodeAlone(first.error().code()); });
}

// Requires: Options of the kind that backends/ has, over one Syscalls policy.
template <Backend... Bs>
class AnyOf {
  using Opened = std::variant<Bs...>;
  using Sys = decltype(std::variant_alternative_t<0, Opened>::Options::sys);

 public:
  static constexpr const char* kName = "any";
  static constexpr BackendCaps kCaps = {.customs = (Bs::kCaps.customs || ...),
                                        .proves_unshared = (Bs::kCaps.proves_unshared || ...),
                                        .fences = (Bs::kCaps.fences || ...),
                                        .compares = true,
                                        .relists = (Bs::kCaps.relists || ...),
                                        .inspects = (Bs::kCaps.inspects && ...),
                                        .frames = (Bs::kCaps.frames || ...)};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::vector<std::string_view> order = {Bs::kName...};  // those that are tried
    std::tuple<typename Bs::Options...> each = {};  // beside the first three, which are for all
    // For memory that drivers shall take: a backend whose descriptors are no dma-bufs is refused.
    bool require_dma_buf = false;
  };

  // The first of `order` that opens. EINVAL: a name in it is of no backend here, or it is empty.
  static FirstOf<AnyOf> Open(const Options& options) noexcept {
    return internal::WithMemory(
        [&] { return OpenOrThrow(options); },
        [] {
          return FirstOf<AnyOf>(Error(ENOMEM, "operator new", {kName, Operation::kOpen}));
        });
  }
  // Not for users: Open, which may throw bad_alloc.
  static FirstOf<AnyOf> OpenOrThrow(const Options& options) {
    std::optional<AnyOf> taken;
    std::vector<Error> refusals = OpenFirst(options, [&](AnyOf&& any) {
      taken.emplace(std::move(any));
      return Error();
    });
    return taken.has_value() ? FirstOf<AnyOf>(*std::move(taken))
                             : FirstOf<AnyOf>(std::move(refusals));
  }

  // The first of `order` that opens and that `take` takes: `take(AnyOf&&)` answers with an Error
  // where it does not, and the next one is tried. Returns why each was refused; empty: one was
  // taken. EINVAL: as Open. May throw what operator new throws.
  template <class Take>
  static std::vector<Error> OpenFirst(const Options& options, Take take) {
    std::vector<Error> refusals;
    for (const std::string_view name : options.order) {
      bool taken = false;
      const bool known = ((name == Bs::kName && Try<Bs>(options, take, taken, refusals)) || ...);
      if (taken) return {};
      if (!known) {
        refusals.push_back(Error(EINVAL, "no backend here has this name",
                                 {kName, Operation::kOpen, name}, "name those of Options().order"));
        return refusals;
      }
    }
    if (refusals.empty()) {
      refusals.push_back(Error(EINVAL, "the order names no backend", {kName, Operation::kOpen}));
    }
    return refusals;
  }

  // That of the backend that was opened.
  const char* name() const noexcept {
    return Visit(*this, [](const auto& b) { return b.name(); });
  }
  // Why those before it were refused: in their order, but for backends of no dma-bufs where those
  // are required, which stand first.
  std::span<const Error> refusals() const noexcept { return refusals_; }

  std::span<const KernelHeap> heaps() const noexcept {
    return Visit(*this, [](const auto& b) { return b.heaps(); });
  }
  LinuxRelease linux_release() const noexcept {
    return Visit(*this, [](const auto& b) { return b.linux_release(); });
  }
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    return Visit(*this,
                 [&](auto& b) { return b.Allocate(kernel_heap, bytes, flags, name, block); });
  }
  Error Release(Block& block) noexcept {
    return Visit(*this, [&](auto& b) { return b.Release(block); });
  }
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return Visit(*this, [&](auto& b) { return b.Map(block, offset, bytes, mode); });
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept {
    return Visit(*this, [&](auto& b) { return b.Unmap(at, bytes); });
  }
  Result<std::byte*> MapToKeep(const Block& block) noexcept {
    return Visit(*this, [&](auto& b) { return b.MapToKeep(block); });
  }
  Error Abandon(Block& block) noexcept {
    return Visit(*this, [&](auto& b) { return b.Abandon(block); });
  }
  Error BeginCpuAccess(const Block& block, Direction direction) noexcept {
    return Visit(*this, [&](auto& b) { return b.BeginCpuAccess(block, direction); });
  }
  Error EndCpuAccess(const Block& block, Direction direction) noexcept {
    return Visit(*this, [&](auto& b) { return b.EndCpuAccess(block, direction); });
  }
  Error SetName(const Block& block, std::string_view name) noexcept {
    return Visit(*this, [&](auto& b) { return b.SetName(block, name); });
  }
  Result<UniqueFd> Share(const Block& block) noexcept {
    return Visit(*this, [&](auto& b) { return b.Share(block); });
  }
  Result<BufferIdentity> Identify(FdRef fd, Operation operation) noexcept {
    return Visit(*this, [&](auto& b) { return b.Identify(fd, operation); });
  }
  Error Import(FdRef fd, Block& block) noexcept {
    return Visit(*this, [&](auto& b) { return b.Import(fd, block); });
  }
  Result<Inspected> Inspect(FdRef fd) noexcept
    requires(kCaps.inspects)
  {
    return Visit(*this, [&](auto& b) { return b.Inspect(fd); });
  }
  void TakeOver(UniqueFd fd, const Inspected& seen, Block& block) noexcept
    requires(kCaps.inspects)
  {
    Visit(*this, [&](auto& b) { b.TakeOver(std::move(fd), seen, block); });
  }
  Result<BufferIdentity> ImportKnown(FdRef fd, Block& block) noexcept
    requires(kCaps.inspects)
  {
    return Visit(*this, [&](auto& b) { return b.ImportKnown(fd, block); });
  }
  bool IsSameFile(FdRef a, FdRef b) const noexcept
    requires(kCaps.inspects)
  {
    return Visit(*this, [&](const auto& backend) { return backend.IsSameFile(a, b); });
  }
  Budget& budget() const noexcept {
    return Visit(*this, [](const auto& b) -> Budget& { return b.budget(); });
  }
  ErrorSink& errors() const noexcept {
    return Visit(*this, [](const auto& b) -> ErrorSink& { return b.errors(); });
  }
  size_t kept_mappings() const noexcept {
    return Visit(*this, [](const auto& b) { return b.kept_mappings(); });
  }

  Result<bool> IsUnshared(const Block& block) noexcept
    requires(kCaps.proves_unshared)
  {
    return Visit(*this, [&]<class B>(B& b) -> Result<bool> {
      if constexpr (B::kCaps.proves_unshared) return b.IsUnshared(block);
      return Error(ENOTSUP, "this backend cannot tell who holds its memory",
                   {B::kName, Operation::kProve, {}, block.bytes});
    });
  }
  // One that does not compare has identities that need it not.
  bool SameBuffer(FdRef a, FdRef b) const noexcept {
    return Visit(*this, [&]<class B>(const B& backend) {
      if constexpr (B::kCaps.compares) return backend.SameBuffer(a, b);
      return true;
    });
  }
  Result<bool> IsIdle(const Block& block) noexcept
    requires(kCaps.fences)
  {
    return Visit(*this, [&]<class B>(B& b) -> Result<bool> {
      if constexpr (B::kCaps.fences) return b.IsIdle(block);
      return true;
    });
  }
  Error AwaitFences(const Block& block, Direction direction, Deadline deadline) noexcept
    requires(kCaps.fences)
  {
    return Visit(*this, [&]<class B>(B& b) -> Error {
      if constexpr (B::kCaps.fences) return b.AwaitFences(block, direction, deadline);
      return {};
    });
  }
  bool LookAgain() noexcept
    requires(kCaps.relists)
  {
    return Visit(*this, [&]<class B>(B& b) {
      if constexpr (B::kCaps.relists) return b.LookAgain();
      return false;
    });
  }
  Error Custom(uint32_t command, uint64_t argument) noexcept
    requires(kCaps.customs)
  {
    return Visit(*this, [&]<class B>(B& b) {
      if constexpr (B::kCaps.customs) return b.Custom(command, argument);
      return Error(ENOTTY, "this backend has no commands of its own",
                   {B::kName, Operation::kCustom});
    });
  }
  Error AllocateFrame(uint32_t kernel_heap, const Request& request, Block& block) noexcept
    requires(kCaps.frames)
  {
    return Visit(*this, [&]<class B>(B& b) {
      if constexpr (B::kCaps.frames) return b.AllocateFrame(kernel_heap, request, block);
      return Error(ENOTSUP, "this backend makes no frames",
                   {B::kName, Operation::kAllocate, {}, request.bytes});
    });
  }
  StatedFrame StatedOf(const Block& block) const noexcept
    requires(kCaps.frames)
  {
    return Visit(*this, [&]<class B>(const B& b) {
      if constexpr (B::kCaps.frames) return b.StatedOf(block);
      return StatedFrame();
    });
  }

 private:
  AnyOf(Opened opened, const std::vector<Error>& refusals)
      : opened_(std::move(opened)), refusals_(refusals) {}

  // Adds to `refusals` why it was not taken. Returns true: the name was known.
  template <class B, class Take>
  static bool Try(const Options& all, Take& take, bool& taken, std::vector<Error>& refusals) {
    if (all.require_dma_buf && !internal::MakesDmaBufs<B>()) {
      // First, so that the last, whose errno the Status has, is of one that was tried.
      refusals.insert(
          refusals.begin(),
          Error(ENOTSUP, "its memory is no dma-buf, and Options::require_dma_buf is set",
                {B::kName, Operation::kOpen}));
      return true;
    }
    typename B::Options options = std::get<typename B::Options>(all.each);
    options.sys = all.sys;
    options.budget = all.budget;
    options.errors = all.errors;
    Result<B> backend = B::Open(options);
    Error refusal = backend.error();
    if (backend.ok()) {
      refusal = take(AnyOf(Opened(std::in_place_type<B>, *std::move(backend)), refusals));
      taken = refusal.ok();
    }
    if (!refusal.ok()) refusals.push_back(refusal);
    return true;
  }

  // std::visit without its exception: an alternative is never absent, as none is ever assigned.
  template <size_t kIndex = 0, class Self, class F>
  static decltype(auto) Visit(Self& self, F f) noexcept {
    if constexpr (kIndex + 1 < sizeof...(Bs)) {
      if (self.opened_.index() != kIndex) return Visit<kIndex + 1>(self, f);
    }
    auto* backend = std::get_if<kIndex>(&self.opened_);
    if (backend == nullptr) __builtin_unreachable();
    return f(*backend);
  }

  Opened opened_;
  std::vector<Error> refusals_;
};

}  // namespace ion

#endif  // ION_BACKENDS_ANY_OF_H_
