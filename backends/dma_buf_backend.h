// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/dma_buf_backend.h
//
// DmaBufBackend: the common part of all backends that make dma-bufs: CPU access, names, import. A
// backend derives from it and adds the allocation.
//
// Cost: one ioctl each; an import is four system calls. Thread-safe.
#ifndef ION_BACKENDS_DMA_BUF_BACKEND_H_
#define ION_BACKENDS_DMA_BUF_BACKEND_H_

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "ion/backend.h"
#include "ion/backends/backend_base.h"
#include "ion/backends/local_file.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/poll_until.h"
#include "ion/base/sync_file.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/cpu_sync.h"
#include "ion/dma_buf_holders.h"
#include "ion/uapi/dma_buf.h"

namespace ion {

// statfs.f_type of a dma-buf since Linux 5.3 (the kernel's DMA_BUF_MAGIC, "DMAB"), and of one
// before: it was one of the anonymous files, with eventfds, epolls and the like.
inline constexpr uint32_t kDmaBufMagic = 0x444d4142;
inline constexpr uint32_t kAnonymousFileMagic = ANON_INODE_FS_MAGIC;

template <Syscalls Sys>
class DmaBufBackend : public BackendBase<Sys> {
 public:
  static constexpr bool kMakesDmaBufs = true;

  Error BeginCpuAccess(const Block& block, Direction direction) noexcept {
    return Sync(block, direction, ion_uapi::kDmaBufSyncStart, Operation::kBeginAccess);
  }
  Error EndCpuAccess(const Block& block, Direction direction) noexcept {
    return Sync(block, direction, ion_uapi::kDmaBufSyncEnd, Operation::kEndAccess);
  }

  // Unknown where it is no dma-buf, or the kernel has one inode for all of them (before Linux 5.3).
  Result<BufferIdentity> Identify(FdRef fd, Operation operation) noexcept {
    const Result<bool> may_be =
        MayBeDmaBuf(this->sys(), this->errors(), fd.get(), From(operation, 0));
    if (!may_be.ok()) return may_be.error();
    if (!*may_be) return BufferIdentity();
    struct statfs fs {};
    if (const long answer = this->sys().Fstatfs(fd.get(), &fs); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstatfs", From(operation, 0));
    }
    if (static_cast<uint32_t>(fs.f_type) != kDmaBufMagic) return BufferIdentity();
    return BackendBase<Sys>::Identify(fd, operation);
  }

  // Linux 5.3. Shown in /proc/*/maps, fdinfo and debugfs; cut at 31 bytes.
  Error SetName(const Block& block, std::string_view name) noexcept {
    char text[ion_uapi::kDmaBufNameBytes] = {};
    name.copy(text, sizeof(text) - 1);
    const long answer = IoctlRetrying(this->sys(), block.fd, ion_uapi::kDmaBufSetName, text);
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "DMA_BUF_SET_NAME", From(Operation::kName, block.bytes));
  }

  // As BackendBase. To map a part of an imported dma-buf it maps all of it: exporters of DRM shmem
  // memory (vgem, vkms, virtio-gpu; Linux 6.12) ignore the offset of mmap, and show the start. If
  // the exporter refuses the mapping, the error has advice for the exporter.
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    const Result<std::byte*> at = MapOwnOrWhole(block, offset, bytes, mode);
    if (at.ok()) return at;
    const Error error = at.error();
    if (std::string_view(error.what()) == "mmap") {
      return RefusesCpu(error.code())
                 ? error.Advised(
                       "its exporter lets no CPU map it (protected or device memory): "
                       "give it to a device, or have it exported from other memory")
                 : error;
    }
    if (error.code() != EACCES) return error;
    return error.Advised(
        "its exporter must give a descriptor that may write: O_RDWR (VIDIOC_EXPBUF, a dma-heap's "
        "fd_flags), DRM_RDWR (PRIME)");
  }

  // EBADF: not open. EINVAL: not a dma-buf.
  Error Import(FdRef fd, Block& block) noexcept {
    // Before there is a copy, which would have to be closed.
    const Result<bool> numbered = IsNumbered(fd.get(), From(Operation::kImport, 0));
    return numbered.ok() ? Copy(fd, block) : numbered.error();
  }
  // As Import.
  Result<Inspected> Inspect(FdRef fd) noexcept {
    const Result<bool> numbered = IsNumbered(fd.get(), From(Operation::kImport, 0));
    if (!numbered.ok()) return numbered.error();
    Result<Inspected> facts = FactsOf(fd.get());
    if (!facts.ok() || !*numbered) return facts;
    const Result<BufferIdentity> identity = BackendBase<Sys>::Identify(fd, Operation::kImport);
    if (!identity.ok()) return identity.error();
    facts->identity = *identity;
    return facts;
  }
  void TakeOver(UniqueFd fd, const Inspected& seen, Block& block) noexcept {
    this->FillForeign(block, this->Own(fd.release()), seen.bytes, seen.writable);
  }
  Result<BufferIdentity> ImportKnown(FdRef fd, Block& block) noexcept {
    if (Error error = Copy(fd, block); !error.ok()) return error;
    const Result<BufferIdentity> identity =
        BackendBase<Sys>::Identify(FdRef(block.fd), Operation::kImport);
    if (!identity.ok()) this->errors().Report(this->Release(block));
    return identity;
  }

 protected:
  using BackendBase<Sys>::BackendBase;

  // Returns true if the kernel's count of references in /proc/self/fdinfo is exactly our descriptor
  // and our one mapping, and no fence is pending. ENOTSUP: the kernel has no count (before Linux
  // 5.3), hides it from this process (no /proc, not dumpable), or leaves out borrowers of single
  // pages (dma-heaps and udmabuf of Linux 5.10); each is reported once. Requires: the memory is of
  // a heap of ours, and the memory it was made from never left us. (A queue of a driver that
  // exported its own buffer holds it without a reference.)
  Result<bool> ProveUnshared(const Block& block) noexcept {
    const Origin origin = From(Operation::kProve, block.bytes);
    const Result<FdInfo> info = this->FdInfoOf(block, origin);
    if (!info.ok()) {
      const char* const hint = HiddenHoldersHint(info.error().code());
      // Of a descriptor that is not open there is no such file either, which hides nothing.
      const bool hides = hint != nullptr && !Failed(this->sys().Fcntl(block.fd, F_GETFD, 0));
      return hides ? this->HidesHolders(info.error().Advised(hint)) : info.error();
    }
    const Result<uint64_t> count = DmaBufCountIn(info->view(), origin);
    if (!count.ok()) {
      return count.error().code() == ENOTSUP ? this->HidesHolders(count.error()) : count.error();
    }
    this->SeesHolders();
    if (*count != (block.mapping != nullptr ? 2 : 1)) return false;
    if (Error error = CheckNeverLends(block, origin); !error.ok()) return error;
    return PollFences(block, origin);
  }
  Result<bool> PollFences(const Block& block) noexcept {
    return PollFences(block, From(Operation::kBeginAccess, block.bytes));
  }

  // Returns true if no fence of a dma-buf is pending. Never waits. (Before Linux 3.17 a dma-buf has
  // no poll, and the kernel says that it is ready.)
  Result<bool> PollFences(const Block& block, const Origin& origin) noexcept {
    pollfd fences{.fd = block.fd, .events = POLLIN | POLLOUT, .revents = 0};
    long answer;
    do answer = this->sys().Poll(&fences, 1, 0);
    while (answer == -EINTR);
    if (Failed(answer)) return Error(ErrnoFrom(answer), "poll", origin);
    return fences.revents == (POLLIN | POLLOUT);
  }

  // Waits, as DMA_BUF_IOCTL_SYNC, for the fences that conflict with the access.
  Error PollFencesUntil(const Block& block, Direction direction, Deadline deadline) noexcept {
    return WaitForDevices(this->sys(), FdRef(block.fd), direction, deadline,
                          From(Operation::kBeginAccess, block.bytes));
  }

  // Returns true for a dma-buf whose inode is its own (Linux 5.3), false for an older kernel's.
  // EINVAL: it is no dma-buf. Nothing is asked of a file that a program may serve.
  Result<bool> IsNumbered(int fd, const Origin& origin) noexcept {
    bool numbered = false;
    Result<bool> is_dma_buf = MayBeDmaBuf(this->sys(), this->errors(), fd, origin);
    if (is_dma_buf.ok() && *is_dma_buf) is_dma_buf = IsDmaBuf(fd, origin, numbered);
    if (!is_dma_buf.ok()) return is_dma_buf.error();
    if (*is_dma_buf) return numbered;
    return Error(EINVAL, "FIOQSIZE, fstatfs: not a dma-buf", origin,
                 "this backend imports dma-bufs only; a memfd wants the memfd backend");
  }
  // Asked of the file system, never by an ioctl: on a heap's node any ioctl number 0 allocates.
  // Among anonymous files a dma-buf is the one that seeks to its end and start, and nowhere else.
  // `numbered`: as IsNumbered returns.
  Result<bool> IsDmaBuf(int fd, const Origin& origin, bool& numbered) noexcept {
    struct statfs fs {};
    if (const long answer = this->sys().Fstatfs(fd, &fs); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstatfs", origin);
    }
    const auto type = static_cast<uint32_t>(fs.f_type);
    numbered = type == kDmaBufMagic;
    if (type != kAnonymousFileMagic) return numbered;
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
  // Fills an empty block with a copy of a dma-buf's descriptor.
  Error Copy(FdRef fd, Block& block) noexcept {
    Result<ScopedFd<Sys>> copy = this->Duplicate(fd, From(Operation::kImport, 0));
    if (!copy.ok()) return copy.error();
    const Result<Inspected> facts = FactsOf(copy->get());
    if (!facts.ok()) return facts.error();
    TakeOver(UniqueFd(copy->release()), *facts, block);
    return {};
  }
  // The size and the mode of a dma-buf's descriptor, without its identity.
  Result<Inspected> FactsOf(int fd) noexcept {
    const Origin origin = From(Operation::kImport, 0);
    const long mode = this->sys().Fcntl(fd, F_GETFL, 0);
    if (Failed(mode)) return Error(ErrnoFrom(mode), "F_GETFL", origin);
    const long bytes = this->sys().Lseek(fd, 0, SEEK_END);
    if (Failed(bytes)) return Error(ErrnoFrom(bytes), "lseek", origin);
    if (bytes == 0) return Error(EINVAL, "lseek: the dma-buf is empty", origin);
    return Inspected{{}, static_cast<uint64_t>(bytes), (mode & O_ACCMODE) == O_RDWR};
  }
  // ENOTSUP: memory that another process can map can be lent.
  Error CheckNeverLends(const Block& block, const Origin& origin) noexcept {
    const bool mapped = block.mapping != nullptr;  // a question needs it
    const bool told = mapped && !block.foreign && this->NeverLends(block.kernel_heap);
    if (told || (!mapped && block.cpu_mappable.no())) return {};
    const Error error = LentPagesError(origin);
    if (!mapped) return error;  // it might not lend
    const Result<bool> lends = MayLendPages(this->sys(), block.mapping, origin);
    if (!lends.ok()) return lends.error();
    if (*lends) {
      this->TellOfLending(error);
      return error;
    }
    if (!block.foreign) this->NoteNeverLends(block.kernel_heap);
    return {};
  }
  Result<std::byte*> MapOwnOrWhole(const Block& block, uint64_t offset, uint64_t bytes,
                                   MapMode mode) noexcept {
    if (!block.foreign || bytes == block.bytes) {
      return BackendBase<Sys>::Map(block, offset, bytes, mode);
    }
    if (Error error = this->CheckMap(block, offset, bytes, mode); !error.ok()) return error;
    return this->MapPart(block, offset, mode);
  }
  // The errors by which exporters say that they have no mmap, or that it is forbidden: the range
  // was checked before.
  static bool RefusesCpu(int code) noexcept {
    return code == EINVAL || code == EPERM || code == EACCES || code == ENODEV || code == ENOTTY ||
           code == ENXIO || code == EOPNOTSUPP;
  }
  Origin From(Operation operation, uint64_t bytes) const noexcept {
    return {this->name(), operation, {}, bytes};
  }

  // Memory that is known to be uncached (ION's of flag 0, vendors' `-uncached` heaps) needs no word
  // of ours: there is nothing to clean or to invalidate. Memory whose caching is unknown gets one.
  // The kernel's documentation asks to try again on EAGAIN as on EINTR.
  Error Sync(const Block& block, Direction direction, uint64_t phase,
             Operation operation) noexcept {
    if (block.cached.no()) return {};
    ion_uapi::dma_buf_sync sync{.flags = phase | static_cast<uint64_t>(direction)};
    long answer;
    do answer = IoctlRetrying(this->sys(), block.fd, ion_uapi::kDmaBufIoctlSync, &sync);
    while (answer == -EAGAIN);
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "DMA_BUF_IOCTL_SYNC", From(operation, block.bytes));
  }
};
static_assert(static_cast<uint64_t>(Direction::kRead) == ion_uapi::kDmaBufSyncRead &&
              static_cast<uint64_t>(Direction::kWrite) == ion_uapi::kDmaBufSyncWrite);

}  // namespace ion

#endif  // ION_BACKENDS_DMA_BUF_BACKEND_H_
