// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/message_socket.h
//
// One end of a Unix socket between two processes: messages of a fixed type, each with at most one
// descriptor (SCM_RIGHTS). The other end's death is an error (UNAVAILABLE), never a wait.
#ifndef ION_EXAMPLES_MESSAGE_SOCKET_H_
#define ION_EXAMPLES_MESSAGE_SOCKET_H_

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/fd.h"

namespace ion::demo {

template <class T>
struct Received {
  T message{};
  UniqueFd fd;  // close-on-exec; invalid where none came
};

class MessageSocket {
 public:
  // Two ends that are connected.
  static absl::StatusOr<std::pair<MessageSocket, MessageSocket>> Pair();

  template <class T>
  absl::Status Send(const T& message, FdRef fd = {}) {
    static_assert(std::is_trivially_copyable_v<T>);
    return SendBytes(std::as_bytes(std::span(&message, 1)), fd);
  }
  // Waits for a message. A message of another size is an error.
  template <class T>
  absl::StatusOr<Received<T>> Receive() {
    static_assert(std::is_trivially_copyable_v<T>);
    Received<T> received;
    absl::StatusOr<UniqueFd> fd =
        ReceiveBytes(std::as_writable_bytes(std::span(&received.message, 1)));
    if (!fd.ok()) return fd.status();
    received.fd = *std::move(fd);
    return received;
  }

  FdRef fd() const { return fd_.borrow(); }
  void Close() { fd_.reset(); }

 private:
  explicit MessageSocket(int fd) : fd_(fd) {}
  absl::Status SendBytes(std::span<const std::byte> message, FdRef fd);
  absl::StatusOr<UniqueFd> ReceiveBytes(std::span<std::byte> message);

  UniqueFd fd_;
};

}  // namespace ion::demo

#endif  // ION_EXAMPLES_MESSAGE_SOCKET_H_
