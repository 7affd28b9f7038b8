// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/error.h
//
// Error: a failure as plain data: the errno that the kernel gave (or would have given, if we refuse
// first), our operation, the system call or the rule, the node and the bytes. Result<T> is a T or
// an Error. Inside the library only; the public edge makes an absl::Status from it once
// (ion/base/status.h).
//
// Cost: trivially copyable, 120 bytes, no heap memory; of a longer path than 42 bytes the end is
// told. Thread-compatible.
#ifndef ION_ION_BASE_ERROR_H_
#define ION_ION_BASE_ERROR_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace ion {

// The operation that failed.
enum class Operation : uint8_t {
  kOpen,         // open a backend: list its heaps, read its limits
  kAllocate,     // take memory from the kernel
  kMap,          // make a mapping for the CPU
  kUnmap,        // drop one
  kBeginAccess,  // begin CPU access
  kEndAccess,    // end it
  kName,         // give a buffer a name
  kShare,        // make a descriptor for somebody else
  kImport,       // take somebody else's descriptor
  kRelease,      // give memory back to the kernel
  kKeep,         // make a handle of a lease
  kUseHandle,    // look up a handle
  kClient,       // make a client
  kCustom,       // a backend's own command
  kProve,        // prove that nobody else holds memory
  kAttach,       // have a device use a buffer
  kDetach,       // end that
  kMove,         // give a buffer other memory
  kFence,        // make, merge or attach a sync file, or wait for a fence
  kStream,       // give a device a mapped buffer to work on, or take it back
};

constexpr std::string_view OperationName(Operation operation) noexcept {
  switch (operation) {
    case Operation::kOpen:
      return "open";
    case Operation::kAllocate:
      return "allocate";
    case Operation::kMap:
      return "map";
    case Operation::kUnmap:
      return "unmap";
    case Operation::kBeginAccess:
      return "begin CPU access";
    case Operation::kEndAccess:
      return "end CPU access";
    case Operation::kName:
      return "name";
    case Operation::kShare:
      return "share";
    case Operation::kImport:
      return "import";
    case Operation::kRelease:
      return "release";
    case Operation::kKeep:
      return "keep";
    case Operation::kUseHandle:
      return "use a handle";
    case Operation::kClient:
      return "make a client";
    case Operation::kProve:
      return "prove unshared";
    case Operation::kCustom:
      return "custom command";
    case Operation::kAttach:
      return "attach";
    case Operation::kDetach:
      return "detach";
    case Operation::kMove:
      return "move";
    case Operation::kFence:
      return "use a fence";
    case Operation::kStream:
      return "stream";
  }
  return "?";
}

// The place of an error: backend, operation, node, bytes. The pointers are to text of static
// storage duration.
struct Origin {
  constexpr Origin(const char* backend_name, Operation act, std::string_view at = {},
                   uint64_t wanted_bytes = 0) noexcept
      : backend(backend_name), operation(act), node(at), bytes(wanted_bytes) {}

  const char* backend;  // a backend's kName
  Operation operation;
  std::string_view node;  // a device's path, a heap's name, or empty
  uint64_t bytes;         // what was asked for, or 0
};

// The free space at a refusal for lack of it, in bytes.
struct Room {
  uint64_t free = 0;
  uint64_t largest_hole = 0;  // the most that lies in one piece; 0 beside a total: not known
  uint64_t total = 0;         // of the whole region; 0: not told
  uint64_t enough = 0;        // of a region that had room; 0: it cannot be enlarged
};

// The largest request that could be served: a limit, or an alignment that is promised.
struct Limit {
  uint64_t bytes = 0;
};

// Example:
//   return Error(ENOMEM, "DMA_HEAP_IOCTL_ALLOC", {kName, Operation::kAllocate, path, bytes});
class [[nodiscard]] Error {
 public:
  // No error.
  constexpr Error() = default;
  // `errno_code` is positive. `what` (static text) is the system call that failed, or the rule that
  // was broken; `hint` (static text) is advice that only the caller of this constructor can give.
  constexpr Error(int errno_code, const char* what, const Origin& origin,
                  const char* hint = nullptr) noexcept
      : code_(errno_code),
        operation_(origin.operation),
        backend_(origin.backend),
        what_(what),
        hint_(hint),
        bytes_(origin.bytes) {
    constexpr size_t kMost = sizeof(node_) - 1;
    constexpr std::string_view kCut = "...";
    // The end of a path tells more than its beginning.
    std::string_view end = origin.node;
    char* to = node_;
    if (end.size() > kMost) {
      to = std::copy_n(kCut.data(), kCut.size(), to);
      end.remove_prefix(end.size() - (kMost - kCut.size()));
      // Not within a character of UTF-8.
      for (int i = 0; i < 3 && (static_cast<unsigned char>(end[0]) & 0xc0) == 0x80; ++i) {
        end.remove_prefix(1);
      }
    }
    std::copy_n(end.data(), end.size(), to);
  }

  // The same, with the figures.
  constexpr Error With(const Room& room) const noexcept {
    Error error = *this;
    error.room_ = room;
    error.figures_ = Figures::kRoom;
    return error;
  }

  constexpr Error With(const Limit& limit) const noexcept {
    Error error = *this;
    error.room_ = {.free = limit.bytes};
    error.figures_ = Figures::kLimit;
    return error;
  }
  // Returns the same error with `hint` (static text) as its advice.
  constexpr Error Advised(const char* hint) const noexcept {
    Error error = *this;
    error.hint_ = hint;
    return error;
  }

  constexpr bool ok() const noexcept { return code_ == 0; }
  constexpr int code() const noexcept { return code_; }
  constexpr Operation operation() const noexcept { return operation_; }
  constexpr const char* backend() const noexcept { return backend_; }
  constexpr const char* what() const noexcept { return what_; }
  constexpr const char* hint() const noexcept { return hint_; }
  constexpr std::string_view node() const noexcept { return node_; }
  constexpr uint64_t bytes() const noexcept { return bytes_; }
  constexpr std::optional<Room> room() const noexcept {
    return figures_ == Figures::kRoom ? std::optional(room_) : std::nullopt;
  }
  constexpr std::optional<Limit> limit() const noexcept {
    return figures_ == Figures::kLimit ? std::optional(Limit{room_.free}) : std::nullopt;
  }

 private:
  enum class Figures : uint8_t { kNone, kRoom, kLimit };

  int32_t code_ = 0;
  Operation operation_ = Operation::kOpen;
  char node_[43] = {};
  const char* backend_ = "";
  const char* what_ = "";
  const char* hint_ = nullptr;
  uint64_t bytes_ = 0;
  Room room_;  // or the limit, as its free bytes
  Figures figures_ = Figures::kNone;
};
static_assert(std::is_trivially_copyable_v<Error>);

namespace internal {

// The state of a Result: a union and its mark, as compilers take several times as long for a
// std::variant. Trivially copyable if T is.
template <class T, bool = std::is_trivially_copyable_v<T>>
struct ResultState {
  explicit ResultState(T made) noexcept : value(std::move(made)), ok(true) {}
  explicit ResultState(const Error& failure) noexcept : error(failure), ok(false) {}

  union {
    T value;
    Error error;
  };
  bool ok;
};
template <class T>
struct ResultState<T, false> {
  explicit ResultState(T made) noexcept : value(std::move(made)), ok(true) {}
  explicit ResultState(const Error& failure) noexcept : error(failure), ok(false) {}
  ResultState(ResultState&& other) noexcept : ok(other.ok) { Take(std::move(other)); }
  ResultState(const ResultState& other)
    requires std::is_copy_constructible_v<T>
      : ok(other.ok) {
    Take(other);
  }
  ResultState& operator=(ResultState other) noexcept {
    if (ok) value.~T();
    ok = other.ok;
    Take(std::move(other));
    return *this;
  }
  ~ResultState() {
    if (ok) value.~T();
  }

  union {
    T value;
    Error error;
  };
  bool ok;

 private:
  // Requires: `ok` is the other's, and neither member is alive.
  template <class Other>
  void Take(Other&& other) {
    if (ok) {
      ::new (static_cast<void*>(std::addressof(value))) T(std::forward<Other>(other).value);
    } else {
      ::new (static_cast<void*>(std::addressof(error))) Error(other.error);
    }
  }
};

}  // namespace internal

// A T, or the Error that prevented it. Reading the one that is not there is undefined: ask ok().
template <class T>
class [[nodiscard]] Result {
 public:
  // Both implicit, so that a function can return either.
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(T value) noexcept : state_(std::move(value)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(const Error& error) noexcept : state_(error) {}

  // Returns true if the value is there.
  bool ok() const noexcept { return state_.ok; }
  // Returns the error; no error if ok().
  Error error() const noexcept { return ok() ? Error() : state_.error; }
  // The value. Requires: ok().
  T& operator*() & noexcept { return state_.value; }
  const T& operator*() const& noexcept { return state_.value; }
  T&& operator*() && noexcept { return std::move(state_.value); }
  T* operator->() noexcept { return std::addressof(state_.value); }
  const T* operator->() const noexcept { return std::addressof(state_.value); }

 private:
  internal::ResultState<T> state_;
};

}  // namespace ion

#endif  // ION_ION_BASE_ERROR_H_
