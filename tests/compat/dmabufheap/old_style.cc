// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A program written for libdmabufheap's headers alone: the class, then the C wrapper. The lines are
// the same on each machine.

#include "tests/compat/dmabufheap/old_style.h"

#include <BufferAllocator/BufferAllocator.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace {

constexpr size_t kLen = 256 << 10;

const char* Word(int answer) { return answer >= 0 ? "ok" : std::strerror(-answer); }

// Sends a descriptor to a child, which reads the memory by its own mapping.
void ShareWithChild(int fd) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return;
  char byte = 'x';
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::recvmsg(ends[1], &message, 0) != 1) ::_exit(2);
    int got;
    std::memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(got));
    const void* at = ::mmap(nullptr, kLen, PROT_READ, MAP_SHARED, got, 0);
    BufferAllocator own;  // a child goes on
    const int synced = own.CpuSyncStart(got, kSyncRead);
    const bool same = at != MAP_FAILED && static_cast<const char*>(at)[kLen - 1] == 'c';
    const int fresh = own.Alloc(kDmabufSystemHeapName, kLen);
    ::_exit(same && synced == 0 && fresh >= 0 ? 0 : 1);
  }
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  ::sendmsg(ends[0], &message, 0);
  int status = -1;
  ::waitpid(child, &status, 0);
  std::printf("the child ended with %d\n", WEXITSTATUS(status));
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace

int main() {
  auto allocator = std::make_unique<BufferAllocator>();
  const auto heaps = BufferAllocator::GetDmabufHeapList();
  std::printf("heaps or ION: %d\n", !heaps.empty() || BufferAllocator::CheckIonSupport());
  std::printf("map: %s\n", Word(allocator->MapNameToIonHeap(kDmabufSystemHeapName, "", 0, ~0u, 1)));
  const int fd = allocator->Alloc(kDmabufSystemHeapName, kLen);
  std::printf("alloc: %s\n", Word(fd));
  void* at = ::mmap(nullptr, kLen, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  std::printf("mmap: %d\n", at != MAP_FAILED);
  for (const SyncType type : {kSyncRead, kSyncWrite, kSyncReadWrite}) {
    std::printf("start: %s", Word(allocator->CpuSyncStart(fd, type)));
    if (type != kSyncRead) std::memset(at, 'c', kLen);
    std::printf(", end: %s\n", Word(allocator->CpuSyncEnd(fd, type)));
  }
  int calls = 0;
  const auto custom = [&calls](int, int, void* data) { return ++calls, *static_cast<int*>(data); };
  int seven = 7;
  const int answer = allocator->CpuSyncStart(fd, kSyncRead, custom, &seven);
  std::printf("a callback that is not called, or whose answer is returned: %d\n",
              (calls == 0 && answer == 0) || (calls == 1 && answer == 7));
  std::printf("end: %s\n", Word(allocator->CpuSyncEnd(fd)));
  ShareWithChild(fd);
  ::munmap(at, kLen);
  ::close(fd);

  std::printf("0 bytes: %s\n", Word(allocator->Alloc(kDmabufSystemHeapName, 0)));
  std::printf("all bytes: %d\n", allocator->Alloc(kDmabufSystemHeapName, SIZE_MAX) < 0);
  std::printf("no such heap: %s\n", Word(allocator->Alloc("no such heap", kLen)));
  std::printf("a path: %s\n", Word(allocator->Alloc("../null", kLen)));
  std::printf("no name: %s\n", Word(allocator->Alloc("", kLen)));
  std::printf("an unknown flag: %s\n", Word(allocator->Alloc(kDmabufSystemHeapName, kLen, 4)));
  std::printf("sync of -1: %s\n", Word(allocator->CpuSyncStart(static_cast<unsigned>(-1))));
  std::printf("sync of a terminal, or a file: %d\n", allocator->CpuSyncStart(0) < 0);
  std::printf("sync of no type: %s\n", Word(allocator->CpuSyncStart(0, static_cast<SyncType>(0))));
  allocator.reset();
  return OldStyleC();
}
