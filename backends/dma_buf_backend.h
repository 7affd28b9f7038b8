// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/dma_buf_backend.h
//
// DmaBufBackend: what every backend that makes dma-bufs does with them: begin and end CPU access,
// name, import. A backend derives from it and adds how a dma-buf is made.
//
// Cost: one ioctl each; an import is four system calls. Thread-safe.
#ifndef ION_BACKENDS_DMA_BUF_BACKEND_H_
#define ION_BACKENDS_DMA_BUF_BACKEND_H_

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

#include "backends/backend_base.h"
#include "ion/backend.h"
#include "ion/block.h"
#include "ion/bytes.h"
#include "ion/cpu_sync.h"
#include "ion/dma_buf_holders.h"
#include "ion/error.h"
#include "ion/fd.h"
#include "ion/syscalls.h"

namespace ion {

// statfs.f_type of a dma-buf since Linux 5.3 (the kernel's DMA_BUF_MAGIC, "DMAB"), and of one
// before: it was one of the anonymous files, with eventfds, epolls and the like.
inline constexpr uint32_t kDmaBufMagic = 0x444d4142;
inline constexpr uint32_t kAnonymousFileMagic = ANON_INODE_FS_MAGIC;

template <Syscalls Sys>
class DmaBufBackend : public BackendBase<Sys> {
 public:
  Error BeginCpuAccess(const Block& block, Direction direction) noexcept {
    return Sync(block, direction, DMA_BUF_SYNC_START, Operation::kBeginAccess);
  }
  Error EndCpuAccess(const Block& block, Direction direction) noexcept {
    return Sync(block, direction, DMA_BUF_SYNC_END, Operation::kEndAccess);
  }

  // Unknown where it is no dma-buf, or the kernel has one inode for all of them (before Linux 5.3).
  Result<BufferIdentity> Identify(FdRef fd, Operation operation) noexcept {
    struct statfs fs {};
    if (const long answer = this->sys().Fstatfs(fd.get(), &fs); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstatfs", From(operation, 0));
    }
    if (static_cast<uint32_t>(fs.f_type) != kDmaBufMagic) return BufferIdentity();
    return BackendBase<Sys>::Identify(fd, operation);
  }

  // Linux 5.3. Shown in /proc/*/maps, fdinfo and debugfs; cut at 31 bytes.
  Error SetName(const Block& block, std::string_view name) noexcept {
    char text[DMA_BUF_NAME_LEN] = {};
    name.copy(text, sizeof(text) - 1);
    const long answer = IoctlRetrying(this->sys(), block.fd, DMA_BUF_SET_NAME, text);
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "DMA_BUF_SET_NAME", From(Operation::kName, block.bytes));
  }

  // EBADF: not open. EINVAL: not a dma-buf.
  Error Import(FdRef fd, Block& block) noexcept {
    const Origin origin = From(Operation::kImport, 0);
    Result<ScopedFd<Sys>> copy = this->Duplicate(fd, origin);
    if (!copy.ok()) return copy.error();
    const Result<bool> is_dma_buf = IsDmaBuf(copy->get(), origin);
    if (!is_dma_buf.ok()) return is_dma_buf.error();
    if (!*is_dma_buf) {
      return Error(EINVAL, "fstatfs: not a dma-buf", origin,
                   "this backend imports dma-bufs only; a memfd wants the memfd backend");
    }
    const long mode = this->sys().Fcntl(copy->get(), F_GETFL, 0);
    if (Failed(mode)) return Error(ErrnoFrom(mode), "F_GETFL", origin);
    const long bytes = this->sys().Lseek(copy->get(), 0, SEEK_END);
    if (Failed(bytes)) return Error(ErrnoFrom(bytes), "lseek", origin);
    if (bytes == 0) return Error(EINVAL, "lseek: the dma-buf is empty", origin);
    this->FillForeign(block, *std::move(copy), static_cast<uint64_t>(bytes),
                      (mode & O_ACCMODE) == O_RDWR);
    return {};
  }

 protected:
  using BackendBase<Sys>::BackendBase;

  // What the kernel counts of a dma-buf in /proc/self/fdinfo, in the one state in which it can be
  // compared: our descriptor and our one mapping, and not one reference more; and no fence pending.
  // ENOTSUP: the kernel counts nothing there (before Linux 5.3), or not who was lent a page of it
  // (dma-heaps and udmabuf of Linux 5.10). Requires: the memory is of a heap of ours, and
  // whatever it was made from never left us. (A queue of a driver that exported its own buffer
  // holds it without a reference.)
  Result<bool> ProveUnshared(const Block& block) noexcept {
    const Origin origin = From(Operation::kProve, block.bytes);
    char path[32] = "/proc/self/fdinfo/";
    *std::to_chars(path + std::strlen(path), std::end(path), block.fd).ptr = 0;
    const long opened = OpenRetrying(this->sys(), path, O_RDONLY);
    if (Failed(opened)) return Error(ErrnoFrom(opened), "open: fdinfo", origin);
    const ScopedFd<Sys> file = this->Own(opened);
    char text[512];
    const long got = this->sys().Read(file.get(), text, sizeof(text));
    if (Failed(got)) return Error(ErrnoFrom(got), "read: fdinfo", origin);
    const Result<uint64_t> count = DmaBufCountIn({text, static_cast<size_t>(got)}, origin);
    if (!count.ok()) return count.error();
    if (*count != (block.mapping != nullptr ? 2 : 1)) return false;
    // Only told of what we have mapped.
    const bool mapped = block.mapping != nullptr;
    const Result<bool> lends =
        mapped ? MayLendPages(this->sys(), block.mapping, origin) : block.cpu_mappable;
    if (!lends.ok()) return lends.error();
    if (*lends) {
      return Error(ENOTSUP, "madvise: a pipe may hold pages of it, which nobody counts", origin);
    }
    pollfd fences{.fd = block.fd, .events = POLLIN | POLLOUT, .revents = 0};
    long answer;
    do answer = this->sys().Poll(&fences, 1, 0);
    while (answer == -EINTR);
    if (Failed(answer)) return Error(ErrnoFrom(answer), "poll", origin);
    return fences.revents == (POLLIN | POLLOUT);
  }

  // Asked of the file system, never by an ioctl: on a heap's node any ioctl number 0 allocates.
  // Among anonymous files a dma-buf is the one that seeks to its end and start, and nowhere else.
  Result<bool> IsDmaBuf(int fd, const Origin& origin) noexcept {
    struct statfs fs {};
    if (const long answer = this->sys().Fstatfs(fd, &fs); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstatfs", origin);
    }
    const auto type = static_cast<uint32_t>(fs.f_type);
    if (type != kAnonymousFileMagic) return type == kDmaBufMagic;
    const long here = this->sys().Lseek(fd, 0, SEEK_CUR);
    if (here == -EINVAL) return true;
    if (!Failed(here) || here == -ESPIPE) return false;
    return Error(ErrnoFrom(here), "lseek", origin);
  }

  // A new buffer that could not be named is a buffer all the same.
  void NameOrReport(const Block& block, std::string_view name) noexcept {
    if (!name.empty()) this->errors().Report(SetName(block, name));
  }

 private:
  Origin From(Operation operation, uint64_t bytes) const noexcept {
    return {this->name(), operation, {}, bytes};
  }

  // Memory that no CPU caches (only ION makes it: flag 0, mapped write-combining) needs no word of
  // ours: there is nothing to clean or to invalidate. The kernel's documentation asks to try again
  // on EAGAIN as on EINTR.
  Error Sync(const Block& block, Direction direction, uint64_t phase,
             Operation operation) noexcept {
    if (!block.cached) return {};
    dma_buf_sync sync{.flags = phase | static_cast<uint64_t>(direction)};
    long answer;
    do answer = IoctlRetrying(this->sys(), block.fd, DMA_BUF_IOCTL_SYNC, &sync);
    while (answer == -EAGAIN);
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "DMA_BUF_IOCTL_SYNC", From(operation, block.bytes));
  }
};
static_assert(static_cast<int>(Direction::kRead) == DMA_BUF_SYNC_READ &&
              static_cast<int>(Direction::kWrite) == DMA_BUF_SYNC_WRITE);

}  // namespace ion

#endif  // ION_BACKENDS_DMA_BUF_BACKEND_H_
