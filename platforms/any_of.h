// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/any_of.h
//
// AnyOf: one backend that is, from Open on, one of several: the first that opens, in an order that
// the caller may change. For one program on machines whose kernels differ; where the machine is
// known when the program is built, take its backend itself.
//
// Example:
//   using Mine = ion::AnyOf<ion::DmaHeapBackend<>, ion::MemfdBackend<>>;
//   Mine::Options options{.order = {"memfd", "dma_heap"}};
//   std::get<ion::DmaHeapBackend<>::Options>(options.each).directory = "/dev/heaps";
//   auto backend = Mine::Open(options);
//   std::puts(backend.ok() ? backend->name() : ion::DescribeEach(backend.refusals()).c_str());
//
// What a hook needs that some of the backends lack, those answer: IsUnshared ENOTSUP,
// Custom ENOTTY. Compose has no such answer, and is not there.
//
// Cost: one switch on what was opened in each call of the backend, and no virtual call; no pool
// calls a backend on its hot path. Thread-safe but for Open.
#ifndef ION_PLATFORMS_ANY_OF_H_
#define ION_PLATFORMS_ANY_OF_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ion/backend.h"
#include "ion/block.h"
#include "ion/budget.h"
#include "ion/error.h"
#include "ion/error_sink.h"
#include "ion/fd.h"
#include "ion/request.h"
#include "ion/status.h"

namespace ion {

// A line for each refusal: the backend and its node, what failed, the errno, and what to do.
[[nodiscard]] inline std::string DescribeEach(std::span<const Error> refusals) {
  std::string lines;
  for (const Error& refusal : refusals) {
    absl::StrAppend(&lines, lines.empty() ? "" : "\n", Describe(refusal));
  }
  return lines;
}

// A backend, or why none of several opened. Its error is the last one's; its Status has them all.
template <class B>
class FirstOf : public Result<B> {
 public:
  explicit FirstOf(B backend) noexcept : Result<B>(std::move(backend)) {}
  // Requires: there is one.
  explicit FirstOf(std::vector<Error> refusals) noexcept
      : Result<B>(refusals.back()), refusals_(std::move(refusals)) {}

  // Empty where ok().
  std::span<const Error> refusals() const noexcept { return refusals_; }

 private:
  std::vector<Error> refusals_;
};
template <class B>
[[nodiscard]] absl::Status ToStatus(const FirstOf<B>& first) {
  return first.ok() ? absl::OkStatus()
                    : MakeStatus(first.error().code(), DescribeEach(first.refusals()));
}

// Requires: Options of the kind that backends/ has, over one Syscalls policy.
template <Backend... Bs>
class AnyOf {
  using Opened = std::variant<Bs...>;
  using Sys = decltype(std::variant_alternative_t<0, Opened>::Options::sys);

 public:
  static constexpr const char* kName = "any";
  static constexpr BackendCaps kCaps = {.customs = (Bs::kCaps.customs || ...),
                                        .proves_unshared = (Bs::kCaps.proves_unshared || ...)};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;              // half of RAM where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;           // one that only counts
    std::vector<std::string_view> order = {Bs::kName...};  // those that are tried
    std::tuple<typename Bs::Options...> each = {};  // beside the first three, which are for all
  };

  // The first of `order` that opens. EINVAL: a name in it is of no backend here, or it is empty.
  static FirstOf<AnyOf> Open(const Options& options) noexcept {
    std::vector<Error> refusals;
    for (const std::string_view name : options.order) {
      std::optional<Opened> opened;
      const bool known = ((name == Bs::kName && Try<Bs>(options, opened, refusals)) || ...);
      if (!known) {
        refusals.push_back(Error(EINVAL, "no backend here has this name",
                                 {kName, Operation::kOpen, name}, "name those of Options().order"));
        return FirstOf<AnyOf>(std::move(refusals));
      }
      if (opened.has_value()) {
        return FirstOf<AnyOf>(AnyOf(*std::move(opened), std::move(refusals)));
      }
    }
    if (refusals.empty()) {
      refusals.push_back(Error(EINVAL, "the order names no backend", {kName, Operation::kOpen}));
    }
    return FirstOf<AnyOf>(std::move(refusals));
  }

  // That of the backend that was opened.
  const char* name() const noexcept {
    return Visit(*this, [](const auto& b) { return b.name(); });
  }
  // Why those before it were not.
  std::span<const Error> refusals() const noexcept { return refusals_; }

  std::span<const KernelHeap> heaps() const noexcept {
    return Visit(*this, [](const auto& b) { return b.heaps(); });
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
  Budget& budget() const noexcept {
    return Visit(*this, [](const auto& b) -> Budget& { return b.budget(); });
  }
  ErrorSink& errors() const noexcept {
    return Visit(*this, [](const auto& b) -> ErrorSink& { return b.errors(); });
  }
  size_t kept_mappings() const noexcept {
    return Visit(*this, [](const auto& b) { return b.kept_mappings(); });
  }

  Result<bool> IsUnshared(const Block& block) noexcept requires(kCaps.proves_unshared) {
    return Visit(*this, [&]<class B>(B& b) -> Result<bool> {
      if constexpr (B::kCaps.proves_unshared) return b.IsUnshared(block);
      return Error(ENOTSUP, "this backend cannot tell who holds its memory",
                   {B::kName, Operation::kProve, {}, block.bytes});
    });
  }
  Error Custom(uint32_t command, uint64_t argument) noexcept requires(kCaps.customs) {
    return Visit(*this, [&]<class B>(B& b) {
      if constexpr (B::kCaps.customs) return b.Custom(command, argument);
      return Error(ENOTTY, "this backend has no commands of its own",
                   {B::kName, Operation::kCustom});
    });
  }

 private:
  AnyOf(Opened opened, std::vector<Error> refusals) noexcept
      : opened_(std::move(opened)), refusals_(std::move(refusals)) {}

  // True: it was tried.
  template <class B>
  static bool Try(const Options& all, std::optional<Opened>& opened,
                  std::vector<Error>& refusals) noexcept {
    typename B::Options options = std::get<typename B::Options>(all.each);
    options.sys = all.sys;
    options.budget = all.budget;
    options.errors = all.errors;
    Result<B> backend = B::Open(options);
    if (backend.ok()) {
      opened.emplace(std::in_place_type<B>, *std::move(backend));
    } else {
      refusals.push_back(backend.error());
    }
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

#endif  // ION_PLATFORMS_ANY_OF_H_
