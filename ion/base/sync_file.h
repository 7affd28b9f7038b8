// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/sync_file.h
//
// Fences of dma-bufs. A fence is the end of a device's work; a sync file is a descriptor of one or
// several. Drivers with explicit synchronisation take and give sync files; those with implicit
// synchronisation put fences on the dma-buf itself. ExportSyncFile and ImportSyncFile (Linux 6.0)
// lead from one to the other, MergeSyncFiles makes one of two, WaitForSyncFile and WaitForDevices
// wait with a deadline.
//
// Example:
//   absl::StatusOr<ion::UniqueFd> fence = ion::ExportSyncFile(dma_buf, ion::Direction::kRead);
//   if (ion::ErrnoOf(fence.status()) == ENOTTY) {  // before Linux 6.0: wait here instead
//     return ion::WaitForDevices(dma_buf, ion::Direction::kRead, deadline);
//   }
//   if (!fence.ok()) return fence.status();
//   return ion::WaitForSyncFile(fence->borrow(), deadline);  // or give it to a driver
//
// Each is written twice: the one that takes a Syscalls policy returns an Error, and its system calls
// can be made to fail; the other makes the kernel's calls, and returns a Status.
//
// Cost: a system call each; a wait has one more for each signal that interrupts it. A sync file is
// a descriptor, and most programs that run out of descriptors have forgotten some of these.
// Thread-safe.
#ifndef ION_ION_BASE_SYNC_FILE_H_
#define ION_ION_BASE_SYNC_FILE_H_

#include <poll.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/uapi/dma_buf.h"
#include "ion/uapi/sync_file.h"

namespace ion {
namespace internal {

inline constexpr Origin kOfDmaBuf{"dma_buf", Operation::kFence};
inline constexpr Origin kOfSyncFile{"sync_file", Operation::kFence};

template <Syscalls S>
Error SyncFileIoctl(const S& sys, FdRef dma_buf, unsigned long request, void* argument,
                    const char* what) noexcept {
  const long answer = IoctlRetrying(sys, dma_buf.get(), request, argument);
  if (!Failed(answer)) return {};
  const Error error(ErrnoFrom(answer), what, kOfDmaBuf);
  if (error.code() != ENOTTY) return error;
  return error.Advised(
      "the descriptor is no dma-buf, or the kernel is older than Linux 6.0 or lacks "
      "CONFIG_SYNC_FILE: wait for the dma-buf itself (WaitForDevices)");
}

}  // namespace internal

// Returns a sync file of the fences that an access of this direction has to wait for: reading for
// devices that write, writing for all. Fences that come later are not in it. ENOTTY: the kernel is
// older than Linux 6.0.
template <Syscalls S>
Result<UniqueFd> ExportSyncFile(const S& sys, FdRef dma_buf, Direction direction) noexcept {
  ion_uapi::dma_buf_sync_file data{.flags = static_cast<uint32_t>(direction), .fd = -1};
  if (Error error = internal::SyncFileIoctl(sys, dma_buf, ion_uapi::kDmaBufIoctlExportSyncFile,
                                            &data, "DMA_BUF_IOCTL_EXPORT_SYNC_FILE");
      !error.ok()) {
    return error;
  }
  return UniqueFd(data.fd);
}
[[nodiscard]] inline absl::StatusOr<UniqueFd> ExportSyncFile(FdRef dma_buf,
                                                             Direction direction) noexcept {
  Result<UniqueFd> made = ExportSyncFile(LinuxSyscalls(), dma_buf, direction);
  if (!made.ok()) return ToStatus(made);
  return *std::move(made);
}

// Puts the fences of `sync_file` on the dma-buf, as those of an access of this direction: each who
// waits for the dma-buf then waits for them. The sync file stays the caller's. ENOTTY: the kernel is
// older than Linux 6.0. EINVAL: `sync_file` is none.
template <Syscalls S>
Error ImportSyncFile(const S& sys, FdRef dma_buf, FdRef sync_file, Direction direction) noexcept {
  ion_uapi::dma_buf_sync_file data{.flags = static_cast<uint32_t>(direction),
                                   .fd = sync_file.get()};
  return internal::SyncFileIoctl(sys, dma_buf, ion_uapi::kDmaBufIoctlImportSyncFile, &data,
                                 "DMA_BUF_IOCTL_IMPORT_SYNC_FILE");
}
[[nodiscard]] inline absl::Status ImportSyncFile(FdRef dma_buf, FdRef sync_file,
                                                 Direction direction) noexcept {
  return ToStatus(ImportSyncFile(LinuxSyscalls(), dma_buf, sync_file, direction));
}

// Returns a sync file of the fences of both, which stay the caller's. ENOTTY: `a` is no sync file.
// ENOENT: `b` is none.
template <Syscalls S>
Result<UniqueFd> MergeSyncFiles(const S& sys, FdRef a, FdRef b) noexcept {
  ion_uapi::sync_merge_data data{.name = "ion", .fd2 = b.get(), .fence = -1, .flags = 0, .pad = 0};
  const long answer = IoctlRetrying(sys, a.get(), ion_uapi::kSyncIocMerge, &data);
  if (Failed(answer)) return Error(ErrnoFrom(answer), "SYNC_IOC_MERGE", internal::kOfSyncFile);
  return UniqueFd(data.fence);
}
[[nodiscard]] inline absl::StatusOr<UniqueFd> MergeSyncFiles(FdRef a, FdRef b) noexcept {
  Result<UniqueFd> made = MergeSyncFiles(LinuxSyscalls(), a, b);
  if (!made.ok()) return ToStatus(made);
  return *std::move(made);
}

// Waits until all fences of `sync_file` are signalled. DeadlineExceeded (ETIMEDOUT): the deadline
// came before. With a deadline in the past it only looks.
template <Syscalls S>
Error WaitForSyncFile(const S& sys, FdRef sync_file, Deadline deadline) noexcept {
  const long answer = PollUntil(sys, sync_file.get(), POLLIN, deadline);
  if (!Failed(answer)) return {};
  const Error error(ErrnoFrom(answer), "poll", internal::kOfSyncFile);
  return error.code() == ETIMEDOUT ? error.Advised("a fence was not signalled in time") : error;
}
[[nodiscard]] inline absl::Status WaitForSyncFile(FdRef sync_file, Deadline deadline) noexcept {
  return ToStatus(WaitForSyncFile(LinuxSyscalls(), sync_file, deadline));
}

// Waits for the fences that an access of this direction has to wait for, as the kernel's begin of
// CPU access does: reading for devices that write, writing for all. Works on every kernel: before
// Linux 3.17 a dma-buf has no poll, and no fences. Errors as WaitForSyncFile.
template <Syscalls S>
Error WaitForDevices(const S& sys, FdRef dma_buf, Direction direction, Deadline deadline,
                     const Origin& origin = internal::kOfDmaBuf) noexcept {
  const short events = Writes(direction) ? POLLOUT : POLLIN;
  const long answer = PollUntil(sys, dma_buf.get(), events, deadline);
  if (!Failed(answer)) return {};
  const Error error(ErrnoFrom(answer), "poll", origin);
  if (error.code() != ETIMEDOUT) return error;
  return error.Advised("a device still uses the buffer: its fence was not signalled in time");
}
[[nodiscard]] inline absl::Status WaitForDevices(FdRef dma_buf, Direction direction,
                                                 Deadline deadline) noexcept {
  return ToStatus(WaitForDevices(LinuxSyscalls(), dma_buf, direction, deadline));
}

}  // namespace ion

#endif  // ION_ION_BASE_SYNC_FILE_H_
