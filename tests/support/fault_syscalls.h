// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fault_syscalls.h
//
// FaultSyscalls: a Syscalls policy that makes the kernel's calls, writes down which, and makes a
// chosen one fail. Its copies share one Faults, which the test holds.
//
// A call that is made to fail does not reach the kernel, so an munmap leaves its mapping where it
// is. The exceptions are close, as on Linux (the descriptor is gone whatever close answers), and
// ION_IOC_FREE and DRM_IOCTL_MODE_DESTROY_DUMB, which nothing could do again.
//
// Example:
//   auto faults = std::make_shared<Faults>();
//   auto manager = Heaps<MemfdBackend<FaultSyscalls>>::Open({.sys = FaultSyscalls(faults)});
//   faults->Begin({.n = 1, .code = ENOSPC});   // the second call from here
//   auto buffer = manager->Allocate({.bytes = 4096});
//   faults->End();
//
// Calls may come from several threads; Begin, End and what tells of calls are one thread's, while
// no call is under way.
#ifndef ION_TESTS_SUPPORT_FAULT_SYSCALLS_H_
#define ION_TESTS_SUPPORT_FAULT_SYSCALLS_H_

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/base/syscalls.h"
#include "third_party/ion_uapi/drm.h"
#include "third_party/ion_uapi/ion.h"
#include "third_party/ion_uapi/ion_legacy.h"
#include "third_party/ion_uapi/sync_file.h"

namespace ion::testing {

// A system call as it was made.
struct Step {
  std::string_view call;    // "openat", "ioctl DMA_HEAP_IOCTL_ALLOC", "madvise MADV_DONTFORK"
  std::string path = {};    // what was opened, or is read or closed
  uint64_t sync_flags = 0;  // of a DMA_BUF_IOCTL_SYNC
  bool of_region = false;   // an allocation from a carveout or a heap of chunks, by the handle ABI
};

class Faults {
 public:
  struct Plan {
    size_t n = SIZE_MAX;         // the call that fails, counted from 0 since Begin…
    std::string_view call = {};  // …among those of this name, or among all
    int code = 0;
    unsigned times = 1;       // how often in a row; a call that is retried counts as the same
    unsigned interrupts = 0;  // EINTR that every call that is retried gets before the kernel has it
  };

  // From here to End calls are written down, and fail as planned.
  void Begin(const Plan& plan) {
    plan_ = plan;
    on_ = true;
    trace_.clear();
    failed_.reset();
    matching_ = 0;
    interrupted_ = 0;
  }
  void End() { on_ = false; }

  const std::vector<Step>& trace() const { return trace_; }
  size_t Count(std::string_view call) const {
    size_t count = 0;
    for (const Step& step : trace_) count += step.call == call;
    return count;
  }
  // The call that was made to fail, if it was reached.
  const std::optional<Step>& failed() const { return failed_; }

  // What the call shall fail with, or 0. For a policy with more calls.
  int Next(Step step) {
    std::lock_guard lock(mutex_);
    if (!on_) return 0;
    const bool interruptible =
        step.call == "openat" || step.call == "poll" || step.call.starts_with("ioctl ");
    const bool matches = plan_.call.empty() || step.call == plan_.call;
    const size_t n = matching_;
    if (matches) ++matching_;
    trace_.push_back(step);
    if (matches && n >= plan_.n && n - plan_.n < plan_.times) {
      failed_ = std::move(step);
      return plan_.code;
    }
    if (interruptible && interrupted_ < plan_.interrupts) {
      ++interrupted_;
      return EINTR;
    }
    if (interruptible) interrupted_ = 0;
    return 0;
  }

 private:
  template <Syscalls Kernel>
  friend class FaultSyscallsOver;

  void Opened(long fd, const char* path) {
    std::lock_guard lock(mutex_);
    if (!Failed(fd)) paths_[static_cast<int>(fd)] = path;
  }
  std::string PathOf(int fd) {
    std::lock_guard lock(mutex_);
    const auto at = paths_.find(fd);
    return at == paths_.end() ? "" : at->second;
  }
  // Another file may be of this number from here on.
  std::string Closed(int fd) {
    std::string path = PathOf(fd);
    std::lock_guard lock(mutex_);
    paths_.erase(fd);
    return path;
  }

  std::mutex mutex_;
  Plan plan_;
  bool on_ = false;
  std::vector<Step> trace_;
  std::map<int, std::string> paths_;  // of what is open
  std::optional<Step> failed_;
  size_t matching_ = 0;
  unsigned interrupted_ = 0;
};

// Over a kernel, real or fake.
template <Syscalls Kernel>
class FaultSyscallsOver {
 public:
  // One that never fails.
  FaultSyscallsOver() : faults_(std::make_shared<Faults>()) {}
  explicit FaultSyscallsOver(std::shared_ptr<Faults> faults) : faults_(std::move(faults)) {}

  long Open(const char* path, int flags) const noexcept {
    const int code = faults_->Next({.call = "openat", .path = path});
    if (code != 0) return -code;
    const long fd = kernel_.Open(path, flags);
    faults_->Opened(fd, path);
    return fd;
  }
  long OpenAt(int fd, const char* name, int flags) const noexcept {
    const int code = faults_->Next({.call = "openat", .path = name});
    return code != 0 ? -code : kernel_.OpenAt(fd, name, flags);
  }
  long Readlink(const char* path, char* to, size_t bytes) const noexcept {
    const int code = faults_->Next({.call = "readlink", .path = path});
    return code != 0 ? -code : kernel_.Readlink(path, to, bytes);
  }
  long Close(int fd) const noexcept {
    const int code = faults_->Next({.call = "close", .path = faults_->Closed(fd)});
    const long answer = kernel_.Close(fd);
    return code != 0 ? -code : answer;
  }
  long Read(int fd, void* to, size_t bytes) const noexcept {
    const int code = faults_->Next({.call = "read", .path = faults_->PathOf(fd)});
    return code != 0 ? -code : kernel_.Read(fd, to, bytes);
  }
  long Pread(int fd, void* to, size_t bytes, off_t offset) const noexcept {
    const int code = faults_->Next({.call = "pread", .path = faults_->PathOf(fd)});
    return code != 0 ? -code : kernel_.Pread(fd, to, bytes, offset);
  }
  long Write(int fd, const void* from, size_t bytes) const noexcept {
    const int code = faults_->Next({.call = "write"});
    return code != 0 ? -code : kernel_.Write(fd, from, bytes);
  }
  long Getdents(int fd, void* to, size_t bytes) const noexcept {
    const int code = faults_->Next({.call = "getdents64"});
    return code != 0 ? -code : kernel_.Getdents(fd, to, bytes);
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    Step step{.call = IoctlName(request)};
    const bool frees = request == ion_uapi::kIocFree;
    if (frees && static_cast<ion_uapi::ion_handle_data*>(argument)->handle == 0) {
      step.call = "ioctl ION_IOC_FREE of no handle";
    }
    if (request == Handles::kAlloc) {
      constexpr uint32_t kRegions =
          1u << ion_uapi::kHeapTypeCarveout | 1u << ion_uapi::kHeapTypeChunk;
      const auto* const data = static_cast<const HandleAbi::ion_allocation_data*>(argument);
      step.of_region = (data->heap_id_mask & kRegions) != 0;
    }
    if (request == DMA_BUF_IOCTL_SYNC)
      step.sync_flags = static_cast<dma_buf_sync*>(argument)->flags;
    const int code = faults_->Next(std::move(step));
    if (code == 0) return kernel_.Ioctl(fd, request, argument);
    const bool gone = frees || request == ion_uapi::kDrmIoctlModeDestroyDumb;
    if (gone && code != EINTR) (void)kernel_.Ioctl(fd, request, argument);
    return -code;
  }
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    const int code = faults_->Next({.call = "mmap"});
    return code != 0 ? -code : kernel_.Mmap(bytes, protection, fd, offset);
  }
  long MmapPrivate(size_t bytes, int fd, off_t offset) const noexcept {
    const int code = faults_->Next({.call = "mmap MAP_PRIVATE"});
    return code != 0 ? -code : kernel_.MmapPrivate(bytes, fd, offset);
  }
  long MmapOver(void* at, size_t bytes, int protection, int fd, off_t offset) const noexcept {
    const int code = faults_->Next({.call = "mmap MAP_FIXED"});
    return code != 0 ? -code : kernel_.MmapOver(at, bytes, protection, fd, offset);
  }
  long Munmap(void* at, size_t bytes) const noexcept {
    const int code = faults_->Next({.call = "munmap"});
    return code != 0 ? -code : kernel_.Munmap(at, bytes);
  }
  long Eventfd() const noexcept {
    const int code = faults_->Next({.call = "eventfd2"});
    return code != 0 ? -code : kernel_.Eventfd();
  }
  long Madvise(void* at, size_t bytes, int advice) const noexcept {
    const int code = faults_->Next({.call = AdviceName(advice)});
    return code != 0 ? -code : kernel_.Madvise(at, bytes, advice);
  }
  long MemfdCreate(const char* name, unsigned flags) const noexcept {
    const bool noexec = (flags & kNoexecSeal) != 0;
    const int code =
        faults_->Next({.call = noexec ? "memfd_create MFD_NOEXEC_SEAL" : "memfd_create"});
    return code != 0 ? -code : kernel_.MemfdCreate(name, flags);
  }
  long Ftruncate(int fd, off_t bytes) const noexcept {
    const int code = faults_->Next({.call = "ftruncate"});
    return code != 0 ? -code : kernel_.Ftruncate(fd, bytes);
  }
  long Fallocate(int fd, off_t offset, off_t bytes) const noexcept {
    const int code = faults_->Next({.call = "fallocate"});
    return code != 0 ? -code : kernel_.Fallocate(fd, offset, bytes);
  }
  long Fcntl(int fd, int command, long argument) const noexcept {
    const int code = faults_->Next({.call = FcntlName(command)});
    return code != 0 ? -code : kernel_.Fcntl(fd, command, argument);
  }
  long Lseek(int fd, off_t offset, int whence) const noexcept {
    const int code = faults_->Next({.call = "lseek"});
    return code != 0 ? -code : kernel_.Lseek(fd, offset, whence);
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    const int code = faults_->Next({.call = "fstat"});
    return code != 0 ? -code : kernel_.Fstat(fd, to);
  }
  long Fstatfs(int fd, struct statfs* to) const noexcept {
    const int code = faults_->Next({.call = "fstatfs"});
    return code != 0 ? -code : kernel_.Fstatfs(fd, to);
  }
  long Poll(struct pollfd* polled, unsigned count, int milliseconds) const noexcept {
    const int code = faults_->Next({.call = "poll"});
    return code != 0 ? -code : kernel_.Poll(polled, count, milliseconds);
  }
  long SameInode(int a, int b) const noexcept {
    const int code = faults_->Next({.call = "kcmp"});
    return code != 0 ? -code : kernel_.SameInode(a, b);
  }
  long Sysinfo(struct sysinfo* to) const noexcept {
    const int code = faults_->Next({.call = "sysinfo"});
    return code != 0 ? -code : kernel_.Sysinfo(to);
  }
  long Uname(struct utsname* to) const noexcept {
    const int code = faults_->Next({.call = "uname"});
    return code != 0 ? -code : kernel_.Uname(to);
  }
  // These two cannot fail.
  long Geteuid() const noexcept { return kernel_.Geteuid(); }
  long Getegid() const noexcept { return kernel_.Getegid(); }
  long Getgroups(int most, gid_t* to) const noexcept {
    const int code = faults_->Next({.call = "getgroups"});
    return code != 0 ? -code : kernel_.Getgroups(most, to);
  }

 private:
  using HandleAbi = ion_uapi::LegacyAbi<size_t>;
  using Handles = ion_uapi::LegacyIoctls<HandleAbi>;
  static constexpr unsigned kNoexecSeal = 8;  // MFD_NOEXEC_SEAL: Linux 6.3

  static std::string_view IoctlName(unsigned long request) {
    switch (request) {
      case FIOQSIZE:
        return "ioctl FIOQSIZE";
      case DMA_HEAP_IOCTL_ALLOC:
        return "ioctl DMA_HEAP_IOCTL_ALLOC";
      case DMA_BUF_IOCTL_SYNC:
        return "ioctl DMA_BUF_IOCTL_SYNC";
      case DMA_BUF_SET_NAME:
        return "ioctl DMA_BUF_SET_NAME";
      case DMA_BUF_IOCTL_EXPORT_SYNC_FILE:
        return "ioctl DMA_BUF_IOCTL_EXPORT_SYNC_FILE";
      case DMA_BUF_IOCTL_IMPORT_SYNC_FILE:
        return "ioctl DMA_BUF_IOCTL_IMPORT_SYNC_FILE";
      case ion_uapi::kSyncIocMerge:
        return "ioctl SYNC_IOC_MERGE";
      case ion_uapi::kIocFree:
        return "ioctl ION_IOC_FREE";
      case ion_uapi::kIocHeapQuery:
        return "ioctl ION_IOC_HEAP_QUERY";
      case ion_uapi::kIocAbiVersion:
        return "ioctl ION_IOC_ABI_VERSION";
      case ion_uapi::kIocAlloc:
      case Handles::kAlloc:
        return "ioctl ION_IOC_ALLOC";
      case Handles::kShare:
        return "ioctl ION_IOC_SHARE";
      case Handles::kImport:
        return "ioctl ION_IOC_IMPORT";
      case Handles::kSync:
        return "ioctl ION_IOC_SYNC";
      case UDMABUF_CREATE:
        return "ioctl UDMABUF_CREATE";
      case UDMABUF_CREATE_LIST:
        return "ioctl UDMABUF_CREATE_LIST";
      case ion_uapi::kDrmIoctlGetCap:
        return "ioctl DRM_IOCTL_GET_CAP";
      case ion_uapi::kDrmIoctlDropMaster:
        return "ioctl DRM_IOCTL_DROP_MASTER";
      case ion_uapi::kDrmIoctlPrimeHandleToFd:
        return "ioctl DRM_IOCTL_PRIME_HANDLE_TO_FD";
      case ion_uapi::kDrmIoctlModeCreateDumb:
        return "ioctl DRM_IOCTL_MODE_CREATE_DUMB";
      case ion_uapi::kDrmIoctlModeDestroyDumb:
        return "ioctl DRM_IOCTL_MODE_DESTROY_DUMB";
    }
    return "ioctl ?";
  }
  static std::string_view FcntlName(int command) {
    switch (command) {
      case F_DUPFD_CLOEXEC:
        return "fcntl F_DUPFD_CLOEXEC";
      case F_GETFD:
        return "fcntl F_GETFD";
      case F_GETFL:
        return "fcntl F_GETFL";
      case F_GETPIPE_SZ:
        return "fcntl F_GETPIPE_SZ";
      case F_ADD_SEALS:
        return "fcntl F_ADD_SEALS";
      case F_GET_SEALS:
        return "fcntl F_GET_SEALS";
    }
    return "fcntl ?";
  }
  static std::string_view AdviceName(int advice) {
    constexpr int kPopulateWrite = 23;  // Linux 5.14
    switch (advice) {
      case MADV_DONTFORK:
        return "madvise MADV_DONTFORK";
      case kPopulateWrite:
        return "madvise MADV_POPULATE_WRITE";
      case MADV_DONTNEED:
        return "madvise MADV_DONTNEED";
      case MADV_DODUMP:
        return "madvise MADV_DODUMP";
    }
    return "madvise ?";
  }

  Kernel kernel_;
  std::shared_ptr<Faults> faults_;
};
using FaultSyscalls = FaultSyscallsOver<LinuxSyscalls>;
static_assert(Syscalls<FaultSyscalls>);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAULT_SYSCALLS_H_
