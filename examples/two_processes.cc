// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Two processes: one writes a buffer and sends its descriptor over a socket, the other imports it
// and reads it. A child opens a Manager of its own: it has none of its parent's.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <span>

#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/block.h"
#include "ion/cpu_access.h"
#include "ion/cpu_copy.h"
#include "ion/cpu_mapping.h"
#include "ion/platforms/pooled.h"

namespace {

constexpr char kText[] = "written by the parent";
constexpr char kMessage[] = "a frame";

int Send(int socket) {
  using ion::literals::operator""_MiB;
  auto manager = ion::platforms::PooledMemfd::Open();
  if (!manager.ok()) return 1;
  auto client = manager->CreateClient({.name = "parent"});
  if (!client.ok()) return 1;
  const auto frame = client->AllocateShared({.bytes = 1_MiB, .name = "frame"});
  if (!frame.ok()) return 1;
  if (!ion::CopyTo(*frame, std::as_bytes(std::span(kText))).ok()) return 1;
  const std::array fds = {frame->fd()};
  return ion::SendFds(ion::FdRef(socket), std::as_bytes(std::span(kMessage)), fds).ok() ? 0 : 1;
}

int Receive(int socket) {
  auto manager = ion::platforms::PooledMemfd::Open();
  if (!manager.ok()) return 1;
  auto client = manager->CreateClient({.name = "child"});
  if (!client.ok()) return 1;
  std::array<std::byte, sizeof(kMessage)> message;
  auto received = ion::ReceiveFds(ion::FdRef(socket), message);
  if (!received.ok() || received->size() != 1) return 1;
  const auto frame = client->Import((*received)[0].borrow());
  if (!frame.ok()) return 1;
  const auto mapping = client->Map<ion::MapMode::kReadOnly>(*frame);
  if (!mapping.ok()) return 1;
  const auto cpu = ion::CpuRead::Begin(*mapping);
  if (!cpu.ok()) return 1;
  std::printf("the child reads: %s\n", reinterpret_cast<const char*>(cpu->bytes().data()));
  return 0;
}

}  // namespace

int main() {
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) return 1;
  const pid_t child = ::fork();
  if (child < 0) return 1;
  if (child == 0) {
    ::close(sockets[0]);  // so that the end of the parent ends the wait
    return Receive(sockets[1]);
  }
  ::close(sockets[1]);
  const int sent = Send(sockets[0]);
  ::close(sockets[0]);
  int status = 0;
  return ::waitpid(child, &status, 0) == child && status == 0 ? sent : 1;
}
