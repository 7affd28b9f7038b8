// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/backend.h
//
// The contract of a backend: one kernel interface that makes memory with a file descriptor. Small
// named concepts, and their conjunction, Backend. backends/PORTING.md tells how to write one.
//
// Example:
//   static_assert(ion::BackendCheck<MyBackend>::kOk);   // a sentence for each rule that is broken
//
// What a compiler cannot see (each has a case in tests/backend_conformance.h):
//   Ensures: every descriptor made is close-on-exec; nothing is leaked on an error; an Error
//   carries
//     the errno that the kernel gave; bytes come back rounded up to pages and read as zero.
//   Requires: all calls but Open may come from several threads at once.
#ifndef ION_ION_BACKEND_H_
#define ION_ION_BACKEND_H_

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ion/block.h"
#include "ion/budget.h"
#include "ion/error.h"
#include "ion/error_sink.h"
#include "ion/fd.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion {

// A heap that the kernel offers through a backend.
struct KernelHeap {
  std::string name;  // as the kernel has it: "system", "linux,cma"
  HeapType type = HeapType::kCustom;
  Properties properties;  // of every buffer it gives
  Error unusable;         // why it cannot be used; no error where it can
  // Names of the same memory on other kernels, of static storage duration.
  std::span<const std::string_view> aliases = {};
  // Whether its memory is cached, a request chooses; properties.cached is what one that does not
  // choose gets.
  bool either_caching = false;
};

// What a backend can do beyond the contract. A bit without its hook, or a hook without its bit,
// does not compile.
struct BackendCaps {
  bool composes = false;         // Compose: one dma-buf from ranges of sealed memfds
  bool customs = false;          // Custom: commands of an architecture (ION_IOC_CUSTOM)
  bool proves_unshared = false;  // IsUnshared: nobody else holds a buffer

  friend constexpr bool operator==(const BackendCaps&, const BackendCaps&) = default;
};

// What tells one buffer from another in the kernel, whichever descriptor leads there: its inode.
// The kernel never gives it to another while the buffer lives. Unknown (inode 0) where the kernel
// has one inode for all of them (dma-bufs before Linux 5.3).
struct BufferIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;

  bool known() const noexcept { return inode != 0; }
  friend constexpr bool operator==(const BufferIdentity&, const BufferIdentity&) = default;
};

// Pages of a memfd, in bytes; offset and bytes are whole pages.
struct PageRange {
  FdRef memfd;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// It has a name, and says what it can do; it is moved into a Manager. Its errors have the name that
// it has when it is open: one that chooses among several interfaces has that of the one it took.
template <class B>
concept BackendIdentity = std::is_nothrow_move_constructible_v<B> && requires(const B& b) {
  { B::kName } -> std::same_as<const char* const&>;
  { B::kCaps } -> std::same_as<const BackendCaps&>;
  { b.name() }
  noexcept->std::same_as<const char*>;
};

// It opens from Options that have defaults, or says why it cannot, in a Result or in what derives
// from it, with a ToStatus of its own, because it has more to say.
template <class B>
concept BackendOpen = std::default_initializable<typename B::Options> &&
    requires(const typename B::Options& options) {
  { B::Open(options) }
  noexcept->std::derived_from<Result<B>>;
};

// It lists the kernel's heaps; the list stays as it is for the backend's life.
template <class B>
concept BackendHeaps = requires(const B& b) {
  { b.heaps() }
  noexcept->std::same_as<std::span<const KernelHeap>>;
};

// It fills an empty block with `bytes` from its heap number `kernel_heap`, and gives it back:
// mapping, descriptor and bytes. Release empties the block whatever it answers.
template <class B>
concept BackendAllocate = requires(B& b, uint32_t kernel_heap, uint64_t bytes, Flags flags,
                                   std::string_view name, Block& block) {
  { b.Allocate(kernel_heap, bytes, flags, name, block) }
  noexcept->std::same_as<Error>;
  { b.Release(block) }
  noexcept->std::same_as<Error>;
};

// It maps pages of a filled block, and unmaps them. Offsets count from the block's start.
template <class B>
concept BackendMap = requires(B& b, const Block& block, uint64_t offset, uint64_t bytes,
                              MapMode mode, std::byte* at) {
  { b.Map(block, offset, bytes, mode) }
  noexcept->std::same_as<Result<std::byte*>>;
  { b.Unmap(at, bytes) }
  noexcept->std::same_as<Error>;
};

// It maps the whole of a filled block for as long as it lives, with its pages in place, where the
// kernel has a way to; a forked child does not get the mapping. Abandon is what such a child does
// with a block that it inherited: it closes its own descriptor, and no more. The block is empty
// then.
template <class B>
concept BackendKeep = requires(B& b, Block& block) {
  { b.MapToKeep(std::as_const(block)) }
  noexcept->std::same_as<Result<std::byte*>>;
  { b.Abandon(block) }
  noexcept->std::same_as<Error>;
};

// It tells the kernel that the CPU begins and ends to use a block.
template <class B>
concept BackendCpuSync = requires(B& b, const Block& block, Direction direction) {
  { b.BeginCpuAccess(block, direction) }
  noexcept->std::same_as<Error>;
  { b.EndCpuAccess(block, direction) }
  noexcept->std::same_as<Error>;
};

// It gives a block a name that the kernel's reports show.
template <class B>
concept BackendSetName = requires(B& b, const Block& block, std::string_view name) {
  { b.SetName(block, name) }
  noexcept->std::same_as<Error>;
};

// It makes a descriptor of a block for somebody else, and takes one from somebody else (of whom it
// believes nothing: the size, the seals and the mode are read from the kernel). It tells which
// buffer a descriptor leads to; an error of that is the operation's.
template <class B>
concept BackendShare = requires(B& b, const Block& block, FdRef fd, Operation operation,
                                Block& imported) {
  { b.Share(block) }
  noexcept->std::same_as<Result<UniqueFd>>;
  { b.Identify(fd, operation) }
  noexcept->std::same_as<Result<BufferIdentity>>;
  { b.Import(fd, imported) }
  noexcept->std::same_as<Error>;
};

// It has a bound, and a place for errors that nobody is there to take.
template <class B>
concept BackendBounds = requires(const B& b) {
  { b.budget() }
  noexcept->std::same_as<Budget&>;
  { b.errors() }
  noexcept->std::same_as<ErrorSink&>;
};

namespace internal {

template <class B>
concept HasCompose = requires(B& b, std::span<const PageRange> ranges, Block& block) {
  { b.Compose(ranges, block) }
  noexcept->std::same_as<Error>;
};
template <class B>
concept NamesCompose = requires {
  &B::Compose;
};
template <class B>
concept HasCustom = requires(B& b, uint32_t command, uint64_t argument) {
  { b.Custom(command, argument) }
  noexcept->std::same_as<Error>;
};
template <class B>
concept NamesCustom = requires {
  &B::Custom;
};
// Whether a filled block that this backend allocated, and whose mapping is that of MapToKeep, is
// held by nobody else: no descriptor, no mapping, no device, no pending fence. True is a proof.
// ENOTSUP: of this memory it can never be told.
template <class B>
concept HasIsUnshared = requires(B& b, const Block& block) {
  { b.IsUnshared(block) }
  noexcept->std::same_as<Result<bool>>;
};
template <class B>
concept NamesIsUnshared = requires {
  &B::IsUnshared;
};

}  // namespace internal

// Its optional hooks and its kCaps say the same.
template <class B>
concept BackendHooks = internal::HasCompose<B>
== B::kCaps.composes&& internal::NamesCompose<B> == B::kCaps.composes&& internal::HasCustom<B> ==
    B::kCaps.customs&& internal::NamesCustom<B> == B::kCaps.customs&& internal::HasIsUnshared<B> ==
    B::kCaps.proves_unshared&& internal::NamesIsUnshared<B> == B::kCaps.proves_unshared;

template <class B>
concept Backend = BackendIdentity<B> && BackendOpen<B> && BackendHeaps<B> && BackendAllocate<B> &&
    BackendMap<B> && BackendKeep<B> && BackendCpuSync<B> && BackendSetName<B> && BackendShare<B> &&
    BackendBounds<B> && BackendHooks<B>;

// One sentence per rule. Put `static_assert(BackendCheck<B>::kOk);` under a backend.
template <class B>
struct BackendCheck {
  static_assert(BackendIdentity<B>,
                "ion: a backend needs `static constexpr const char* kName`, `const char* name() "
                "const noexcept`, `static constexpr BackendCaps kCaps`, and a noexcept move "
                "constructor");
  static_assert(BackendOpen<B>,
                "ion: a backend needs a default constructible `Options` and "
                "`static Result<B> Open(const Options&) noexcept`");
  static_assert(BackendHeaps<B>,
                "ion: a backend needs `std::span<const KernelHeap> heaps() const noexcept`");
  static_assert(BackendAllocate<B>,
                "ion: a backend needs `Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags, "
                "std::string_view name, Block&) noexcept` and `Error Release(Block&) noexcept`");
  static_assert(
      BackendMap<B>,
      "ion: a backend needs `Result<std::byte*> Map(const Block&, uint64_t offset, "
      "uint64_t bytes, MapMode) noexcept` and `Error Unmap(std::byte*, uint64_t) noexcept`");
  static_assert(BackendKeep<B>,
                "ion: a backend needs `Result<std::byte*> MapToKeep(const Block&) noexcept` and "
                "`Error Abandon(Block&) noexcept`");
  static_assert(BackendCpuSync<B>,
                "ion: a backend needs `Error BeginCpuAccess(const Block&, Direction) noexcept` and "
                "`Error EndCpuAccess(const Block&, Direction) noexcept`");
  static_assert(BackendSetName<B>,
                "ion: a backend needs `Error SetName(const Block&, std::string_view) noexcept`");
  static_assert(
      BackendShare<B>,
      "ion: a backend needs `Result<UniqueFd> Share(const Block&) noexcept`, `Error "
      "Import(FdRef, Block&) noexcept` and `Result<BufferIdentity> Identify(FdRef, Operation) "
      "noexcept`");
  static_assert(BackendBounds<B>,
                "ion: a backend needs `Budget& budget() const noexcept` and "
                "`ErrorSink& errors() const noexcept`");
  static_assert(!BackendIdentity<B> || BackendHooks<B>,
                "ion: kCaps.composes and `Error Compose(std::span<const PageRange>, Block&) "
                "noexcept` go together, and so do kCaps.customs and `Error Custom(uint32_t "
                "command, uint64_t argument) noexcept`, and kCaps.proves_unshared and "
                "`Result<bool> IsUnshared(const Block&) noexcept`: declare both or neither");
  static constexpr bool kOk = Backend<B>;
};

}  // namespace ion

#endif  // ION_ION_BACKEND_H_
