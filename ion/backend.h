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
// Rules that a compiler cannot see (each has a case in tests/conformance/backend_conformance.h):
//   Ensures: every descriptor made is close-on-exec; nothing is leaked on an error; an Error has
//     the errno that the kernel gave; bytes come back rounded up to pages, and read as zero if the
//     heap says so.
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
#include <vector>

#include "ion/base/budget.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/poll_until.h"
#include "ion/block.h"
#include "ion/buffer_identity.h"
#include "ion/frame_shape.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion {

// The frames that a kernel heap makes by its driver's own rules (BackendCaps::frames).
enum class MakesFrames : uint8_t {
  kNo,
  kAlso,  // and bytes
  kOnly,  // a request of bytes is refused (EINVAL)
};

// A heap that the kernel offers through a backend.
struct KernelHeap {
  std::string name;  // as the kernel has it: "system", "linux,cma"
  HeapType type = HeapType::kCustom;
  Properties properties;  // of every buffer it gives
  Error unusable;         // why it cannot be used; no error where it can
  // Names of the same memory on other kernels, of static storage duration.
  std::span<const std::string_view> aliases = {};
  // True if each request may select cached or uncached memory. A request that sets neither flag
  // gets properties.cached.
  bool either_caching = false;
  // The kName of the backend that has it, by which a HeapSpec may ask for it. Of static storage
  // duration; empty: the backend does not say.
  std::string_view interface = {};
  // True if a request gets its memory only by naming the heap in its mask, as contiguous memory.
  bool named_only = false;
  // The smallest and the largest buffer that it gives, in bytes, and the most of them at one time,
  // as far as the backend knows.
  uint64_t smallest = 1;
  uint64_t largest = UINT64_MAX;
  uint64_t most_buffers = UINT64_MAX;
  MakesFrames frames = MakesFrames::kNo;
};

// The abilities of a backend beyond the contract. A bit without its hook, or a hook without its
// bit, does not compile.
struct BackendCaps {
  bool composes = false;         // Compose: one dma-buf from ranges of sealed memfds
  bool customs = false;          // Custom: commands of an architecture (ION_IOC_CUSTOM)
  bool proves_unshared = false;  // IsUnshared: nobody else holds a buffer
  bool fences = false;           // IsIdle, AwaitFences: devices' fences are on its buffers
  bool compares = false;         // SameBuffer: two descriptors of one identity are one buffer's
  bool relists = false;          // LookAgain: heaps that have come since Open are appended
  bool inspects = false;         // Inspect and its kin: one look tells all that an import needs
  bool frames = false;           // AllocateFrame, StatedOf: a driver makes frames by its own rules

  friend constexpr bool operator==(const BackendCaps&, const BackendCaps&) = default;
};

// Pages of a memfd, in bytes; offset and bytes are whole pages.
struct PageRange {
  FdRef memfd;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// The facts of a descriptor from elsewhere that Identify and Import ask for, by one look.
struct Inspected {
  BufferIdentity identity;
  uint64_t bytes = 0;
  bool writable = false;
};

// It has a name, and says what it can do; it is moved into a Manager. Its errors have the name that
// it has when it is open: one that chooses among several interfaces has that of the one it took. An
// error of one that has several open at once has the name of the interface that failed.
template <class B>
concept BackendIdentity = std::is_nothrow_move_constructible_v<B> && requires(const B& b) {
  { B::kName } -> std::same_as<const char* const&>;
  { B::kCaps } -> std::same_as<const BackendCaps&>;
  { b.name() } noexcept -> std::same_as<const char*>;
};

// It opens from Options that have defaults, or returns the reason in a Result. A backend with
// several reasons returns a class derived from Result, with a ToStatus of its own.
template <class B>
concept BackendOpen = std::default_initializable<typename B::Options> &&
                      requires(const typename B::Options& options) {
                        { B::Open(options) } noexcept -> std::derived_from<Result<B>>;
                      };

namespace internal {

// It chooses among several interfaces. `OpenFirst(options, take)` gives each one that opens to
// `take`, which answers with an Error where it will not have it, and returns why each was refused;
// no Error: one was taken.
template <class B>
concept ChoosesByUse = requires(const typename B::Options& options, Error (*take)(B&&)) {
  { B::OpenFirst(options, take) } -> std::same_as<std::vector<Error>>;
};

}  // namespace internal

// It lists the kernel's heaps. An entry stays where and as it is for the backend's life, so that
// threads may read it at any time; LookAgain may append others. A heap that could not be used and
// can be used later is appended as another entry.
template <class B>
concept BackendHeaps = requires(const B& b) {
  { b.heaps() } noexcept -> std::same_as<std::span<const KernelHeap>>;
};

// It fills an empty block with `bytes` from its heap number `kernel_heap`, and gives it back:
// mapping, descriptor and bytes. Release empties the block whatever it answers.
template <class B>
concept BackendAllocate = requires(B& b, uint32_t kernel_heap, uint64_t bytes, Flags flags,
                                   std::string_view name, Block& block) {
  { b.Allocate(kernel_heap, bytes, flags, name, block) } noexcept -> std::same_as<Error>;
  { b.Release(block) } noexcept -> std::same_as<Error>;
};

// It maps pages of a filled block, and unmaps them. Offsets count from the block's start.
template <class B>
concept BackendMap = requires(B& b, const Block& block, uint64_t offset, uint64_t bytes,
                              MapMode mode, std::byte* at) {
  { b.Map(block, offset, bytes, mode) } noexcept -> std::same_as<Result<std::byte*>>;
  { b.Unmap(at, bytes) } noexcept -> std::same_as<Error>;
};

// MapToKeep maps the whole of a filled block for as long as the block lives, with its pages in
// place if the kernel can do that; a forked child does not inherit the mapping. If the kernel has
// no pages for it, the error is one of ion/base/lacks_pages.h. Abandon is called in a forked child: it
// closes the child's copy of the descriptor, empties the block, and tells the kernel nothing else.
template <class B>
concept BackendKeep = requires(B& b, Block& block) {
  { b.MapToKeep(std::as_const(block)) } noexcept -> std::same_as<Result<std::byte*>>;
  { b.Abandon(block) } noexcept -> std::same_as<Error>;
};

// It tells the kernel that the CPU begins and ends to use a block.
template <class B>
concept BackendCpuSync = requires(B& b, const Block& block, Direction direction) {
  { b.BeginCpuAccess(block, direction) } noexcept -> std::same_as<Error>;
  { b.EndCpuAccess(block, direction) } noexcept -> std::same_as<Error>;
};

// It gives a block a name that the kernel's reports show.
template <class B>
concept BackendSetName = requires(B& b, const Block& block, std::string_view name) {
  { b.SetName(block, name) } noexcept -> std::same_as<Error>;
};

// Share returns a new descriptor of a block for another process or driver. Import trusts only the
// kernel: it reads size, seals and access mode from the descriptor itself. Identify returns the
// buffer that a descriptor leads to; its errors name the operation that it is given. Neither asks
// anything of a file that a program may serve, nor closes a copy of its descriptor: both could wait
// for ever.
template <class B>
concept BackendShare =
    requires(B& b, const Block& block, FdRef fd, Operation operation, Block& imported) {
      { b.Share(block) } noexcept -> std::same_as<Result<UniqueFd>>;
      { b.Identify(fd, operation) } noexcept -> std::same_as<Result<BufferIdentity>>;
      { b.Import(fd, imported) } noexcept -> std::same_as<Error>;
    };

// It has a bound, and a place for errors that nobody is there to take.
template <class B>
concept BackendBounds = requires(const B& b) {
  { b.budget() } noexcept -> std::same_as<Budget&>;
  { b.errors() } noexcept -> std::same_as<ErrorSink&>;
};

namespace internal {

// The rule of an optional hook: a declared hook exists as specified, and an undeclared one is not
// even named. `kNamed` finds a hook of another signature; it does not see an overload set, which
// `kFits` does.
template <bool kDeclared, bool kFits, bool kNamed>
concept HookRule = (kDeclared && kFits) || (!kDeclared && !kFits && !kNamed);

template <class B>
concept HasCompose = requires(B& b, std::span<const PageRange> ranges, Block& block) {
  { b.Compose(ranges, block) } noexcept -> std::same_as<Error>;
};
template <class B>
concept NamesCompose = requires { &B::Compose; };
template <class B>
concept HasCustom = requires(B& b, uint32_t command, uint64_t argument) {
  { b.Custom(command, argument) } noexcept -> std::same_as<Error>;
};
template <class B>
concept NamesCustom = requires { &B::Custom; };
// Returns true if only this process holds a filled block that this backend allocated and mapped by
// MapToKeep: no other descriptor, mapping or device holds it, and no fence is pending. True is a
// proof. ENOTSUP: for this memory there is never a proof.
template <class B>
concept HasIsUnshared = requires(B& b, const Block& block) {
  { b.IsUnshared(block) } noexcept -> std::same_as<Result<bool>>;
};
template <class B>
concept NamesIsUnshared = requires { &B::IsUnshared; };
// Returns true if two descriptors with equal identities certainly lead to one buffer.
template <class B>
concept HasSameBuffer = requires(const B& b, FdRef fd) {
  { b.SameBuffer(fd, fd) } noexcept -> std::same_as<bool>;
};
// Inspect takes a descriptor as Import does, with the same errors, and neither copies nor fills.
// TakeOver fills an empty block with an inspected descriptor, and asks the kernel nothing.
// ImportKnown is an Import of a descriptor to which Identify gave a known identity; it returns that
// of the copy. IsSameFile: two descriptors certainly lead to one buffer, whatever they are.
template <class B>
concept HasInspect =
    requires(B& b, const B& c, FdRef fd, UniqueFd own, const Inspected& seen, Block& block) {
      { b.Inspect(fd) } noexcept -> std::same_as<Result<Inspected>>;
      { b.TakeOver(std::move(own), seen, block) } noexcept -> std::same_as<void>;
      { b.ImportKnown(fd, block) } noexcept -> std::same_as<Result<BufferIdentity>>;
      { c.IsSameFile(fd, fd) } noexcept -> std::same_as<bool>;
    };
// Returns true if all fences of a filled block are signalled, so that CPU access to it begins
// without a wait. Never waits.
template <class B>
concept HasIsIdle = requires(B& b, const Block& block) {
  { b.IsIdle(block) } noexcept -> std::same_as<Result<bool>>;
};
template <class B>
concept NamesIsIdle = requires { &B::IsIdle; };
// Waits until no fence of a filled block conflicts with the access: reading conflicts with devices
// that write, writing with all. ETIMEDOUT: the deadline came first.
template <class B>
concept HasAwaitFences =
    requires(B& b, const Block& block, Direction direction, Deadline deadline) {
      { b.AwaitFences(block, direction, deadline) } noexcept -> std::same_as<Error>;
    };
template <class B>
concept NamesAwaitFences = requires { &B::AwaitFences; };
// Appends the heaps that appeared, or became usable, after the list was made. Returns true if it
// appended any. Thread-safe, as all calls; an entry that cannot be read now stays as it is.
template <class B>
concept HasLookAgain = requires(B& b) {
  { b.LookAgain() } noexcept -> std::same_as<bool>;
};
template <class B>
concept NamesLookAgain = requires { &B::LookAgain; };
// AllocateFrame is Allocate of request.frame, which is not empty, from a kernel heap that makes
// frames: at least request.bytes. EINVAL: the driver makes no such frame. StatedOf returns what the
// driver stated of a filled block; an empty StatedFrame of any other memory.
template <class B>
concept HasFrames =
    requires(B& b, const B& c, uint32_t kernel_heap, const Request& request, Block& block) {
      { b.AllocateFrame(kernel_heap, request, block) } noexcept -> std::same_as<Error>;
      { c.StatedOf(std::as_const(block)) } noexcept -> std::same_as<StatedFrame>;
    };
template <class B>
concept NamesAllocateFrame = requires { &B::AllocateFrame; };

}  // namespace internal

// Its optional hooks and its kCaps say the same.
template <class B>
concept BackendComposeHook =
    internal::HookRule<B::kCaps.composes, internal::HasCompose<B>, internal::NamesCompose<B>>;
template <class B>
concept BackendCustomHook =
    internal::HookRule<B::kCaps.customs, internal::HasCustom<B>, internal::NamesCustom<B>>;
template <class B>
concept BackendProofHook = internal::HookRule<B::kCaps.proves_unshared, internal::HasIsUnshared<B>,
                                              internal::NamesIsUnshared<B>>;
template <class B>
concept BackendFenceHook =
    internal::HookRule<B::kCaps.fences, internal::HasIsIdle<B>, internal::NamesIsIdle<B>> &&
    internal::HookRule<B::kCaps.fences, internal::HasAwaitFences<B>, internal::NamesAwaitFences<B>>;
template <class B>
concept BackendCompareHook = !B::kCaps.compares || internal::HasSameBuffer<B>;
template <class B>
concept BackendInspectHook = !B::kCaps.inspects || internal::HasInspect<B>;
template <class B>
concept BackendRelistHook =
    internal::HookRule<B::kCaps.relists, internal::HasLookAgain<B>, internal::NamesLookAgain<B>>;
template <class B>
concept BackendFrameHook =
    internal::HookRule<B::kCaps.frames, internal::HasFrames<B>, internal::NamesAllocateFrame<B>>;
template <class B>
concept BackendHooks =
    BackendComposeHook<B> && BackendCustomHook<B> && BackendProofHook<B> && BackendFenceHook<B> &&
    BackendCompareHook<B> && BackendRelistHook<B> && BackendInspectHook<B> && BackendFrameHook<B>;

template <class B>
concept Backend = BackendIdentity<B> && BackendOpen<B> && BackendHeaps<B> && BackendAllocate<B> &&
                  BackendMap<B> && BackendKeep<B> && BackendCpuSync<B> && BackendSetName<B> &&
                  BackendShare<B> && BackendBounds<B> && BackendHooks<B>;

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
  static_assert(!BackendIdentity<B> || BackendComposeHook<B>,
                "ion: kCaps.composes and `Error Compose(std::span<const PageRange>, Block&) "
                "noexcept` go together: declare both, or neither; a hook that is private or has "
                "another signature looks like a missing one");
  static_assert(!BackendIdentity<B> || BackendCustomHook<B>,
                "ion: kCaps.customs and `Error Custom(uint32_t command, uint64_t argument) "
                "noexcept` go together: declare both, or neither; a hook that is private or has "
                "another signature looks like a missing one");
  static_assert(!BackendIdentity<B> || BackendProofHook<B>,
                "ion: kCaps.proves_unshared and `Result<bool> IsUnshared(const Block&) noexcept` "
                "go together: declare both, or neither; a hook that is private or has another "
                "signature looks like a missing one");
  static_assert(!BackendIdentity<B> || BackendFenceHook<B>,
                "ion: kCaps.fences and `Result<bool> IsIdle(const Block&) noexcept` go together, "
                "and `Error AwaitFences(const Block&, Direction, Deadline) noexcept` with them: "
                "declare all, or none; a hook that is private or has another signature looks like "
                "a missing one");
  static_assert(!BackendIdentity<B> || BackendCompareHook<B>,
                "ion: kCaps.compares needs a public `bool SameBuffer(FdRef, FdRef) const "
                "noexcept`: it is missing, private, or has another signature");
  static_assert(!BackendIdentity<B> || BackendInspectHook<B>,
                "ion: kCaps.inspects needs `Result<Inspected> Inspect(FdRef) noexcept`, `void "
                "TakeOver(UniqueFd, const Inspected&, Block&) noexcept`, `Result<BufferIdentity> "
                "ImportKnown(FdRef, Block&) noexcept` and `bool IsSameFile(FdRef, FdRef) const "
                "noexcept`: one is missing, private, or has another signature");
  static_assert(
      !BackendIdentity<B> || BackendRelistHook<B>,
      "ion: kCaps.relists and `bool LookAgain() noexcept` go together: declare both, or neither; a "
      "hook that is private or has another signature looks like a missing one");
  static_assert(!BackendIdentity<B> || BackendFrameHook<B>,
                "ion: kCaps.frames and `Error AllocateFrame(uint32_t kernel_heap, const Request&, "
                "Block&) noexcept` go together, and `StatedFrame StatedOf(const Block&) const "
                "noexcept` with them: declare all, or none; a hook that is private or has another "
                "signature looks like a missing one");
  static constexpr bool kOk = Backend<B>;
};

}  // namespace ion

#endif  // ION_ION_BACKEND_H_
