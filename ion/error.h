// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/error.h
//
// What went wrong, as plain data: the errno as the kernel gave it (or the one that the kernel would
// have given, where we refuse first), the operation of ours, the system call or the rule, the node
// and the bytes. Result<T> is a T or an Error. Inside the library only; the public edge makes an
// absl::Status from it once (ion/status.h).
//
// Cost: trivially copyable, 104 bytes, no heap memory; of a longer path than 42 bytes the end is
// told. Thread-compatible.
#ifndef ION_ION_ERROR_H_
#define ION_ION_ERROR_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace ion {

// The act of ours that failed.
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
  }
  return "?";
}

// Where an error happened. The pointers are to text of static storage duration.
struct Origin {
  constexpr Origin(const char* backend_name, Operation act, std::string_view at = {},
                   uint64_t wanted_bytes = 0) noexcept
      : backend(backend_name), operation(act), node(at), bytes(wanted_bytes) {}

  const char* backend;  // a backend's kName
  Operation operation;
  std::string_view node;  // a device's path, a heap's name, or empty
  uint64_t bytes;         // what was asked for, or 0
};

// What there was when there was not enough, in bytes.
struct Room {
  uint64_t free = 0;
  uint64_t largest_hole = 0;  // the most that lies in one piece
};

// Example: return Error(ENOMEM, "DMA_HEAP_IOCTL_ALLOC", {kName, Operation::kAllocate, path,
// bytes});
class [[nodiscard]] Error {
 public:
  // No error.
  constexpr Error() = default;
  // `errno_code` is positive. `what` (static text) is the system call that failed, or the rule that
  // was broken; `hint` (static text) says what to do, where only the caller of this can know.
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
    }
    std::copy_n(end.data(), end.size(), to);
  }

  // The same, with the figures.
  constexpr Error With(const Room& room) const noexcept {
    Error error = *this;
    error.room_ = room;
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
  constexpr const std::optional<Room>& room() const noexcept { return room_; }

 private:
  int32_t code_ = 0;
  Operation operation_ = Operation::kOpen;
  char node_[43] = {};
  const char* backend_ = "";
  const char* what_ = "";
  const char* hint_ = nullptr;
  uint64_t bytes_ = 0;
  std::optional<Room> room_;
};
static_assert(std::is_trivially_copyable_v<Error>);

// A T, or the Error that prevented it. Reading the one that is not there is undefined: ask ok().
template <class T>
class [[nodiscard]] Result {
 public:
  // Both implicit, so that a function can return either.
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(T value) noexcept : state_(std::in_place_index<1>, std::move(value)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(const Error& error) noexcept : state_(std::in_place_index<0>, error) {}

  bool ok() const noexcept { return state_.index() == 1; }
  // No error where ok().
  Error error() const noexcept { return ok() ? Error() : *std::get_if<0>(&state_); }
  T& operator*() & noexcept { return Get(state_); }
  const T& operator*() const& noexcept { return Get(state_); }
  T&& operator*() && noexcept { return std::move(Get(state_)); }
  T* operator->() noexcept { return &Get(state_); }
  const T* operator->() const noexcept { return &Get(state_); }

 private:
  // Without a test of what the caller promises.
  template <class State>
  static auto& Get(State& state) noexcept {
    auto* value = std::get_if<1>(&state);
    if (value == nullptr) __builtin_unreachable();
    return *value;
  }

  std::variant<Error, T> state_;
};

}  // namespace ion

#endif  // ION_ION_ERROR_H_
