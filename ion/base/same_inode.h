// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/same_inode.h
//
// SameInode: proves that two descriptors lead to one memfd or dma-buf. Inode numbers are no proof:
// those of dma-bufs (before Linux 5.19) and of memfds (before 5.9, and on 32 bits) have 32 bits,
// and come back.
//
// Not for users: a Syscalls policy has it.
//
// Cost: one system call where it is one open file, up to six where not. Thread-safe.
#ifndef ION_ION_BASE_SAME_INODE_H_
#define ION_ION_BASE_SAME_INODE_H_

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace ion::internal {

// The kernel's struct file_handle, which not each C library has. For a memfd it is the inode's
// number, all of it, and a random number.
struct FileHandle {
  uint32_t bytes = sizeof(data);
  int32_t type = 0;
  unsigned char data[128] = {};

  bool Read(int fd) noexcept {
    int mount = 0;
    return ::syscall(SYS_name_to_handle_at, fd, "", this, &mount, 0x1000 /* AT_EMPTY_PATH */) == 0;
  }
  bool operator==(const FileHandle& other) const noexcept {
    return bytes == other.bytes && type == other.type && std::memcmp(data, other.data, bytes) == 0;
  }
};

// 1: they do. 0: they do not, or nobody can tell. -EBADF: one is no descriptor. Any other -errno: a
// sandbox refuses the question, or the kernel does not know it. Requires: no file server is behind
// them.
inline long SameInode(int a, int b) noexcept {
  constexpr int kDupfdQuery = 1027;  // F_DUPFD_QUERY, Linux 6.10
  constexpr int kGetSeals = 1034;    // F_GET_SEALS: only memfds, and files of their kind
  long same = ::fcntl(a, kDupfdQuery, b);
  if (same < 0) {
    const int self = ::getpid();
    const long order = ::syscall(SYS_kcmp, self, self, 0 /* KCMP_FILE */,
                                 static_cast<unsigned long>(a), static_cast<unsigned long>(b));
    same = order < 0 ? -errno : static_cast<long>(order == 0);
  }
  if (same > 0 || same == -EBADF) return same;
  // A memfd can be opened again, by /proc.
  if (::fcntl(a, kGetSeals, 0) < 0 || ::fcntl(b, kGetSeals, 0) < 0) return same;
  FileHandle one, other;
  if (!one.Read(a) || !other.Read(b)) return same;
  return one == other ? 1 : 0;
}

}  // namespace ion::internal

#endif  // ION_ION_BASE_SAME_INODE_H_
