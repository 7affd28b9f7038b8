// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: devices/node_file.h
//
// NodeFile: the open file of a driver's node, which a device has for itself. Nothing but a node of
// the wanted major number gets an ioctl. The file can be closed before the device goes: the kernel
// then drops all that the file has, such as imported memory.
//
// Example:
//   auto file = ion::NodeFile<>::Open({}, std::make_shared<ion::ErrorSink>(),
//                                     {"codec", ion::Operation::kOpen, "/dev/video0"},
//                                     "/dev/video0", O_RDWR | O_NONBLOCK,
//                                     {.major = 81, .other = "fstat: no node of V4L2"});
//
// Cost: two system calls to open, one for each ioctl. Thread-compatible.
#ifndef ION_DEVICES_NODE_FILE_H_
#define ION_DEVICES_NODE_FILE_H_

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/node_hint.h"
#include "ion/base/syscalls.h"

namespace ion {

// A kind of node. All texts are static.
struct NodeKind {
  unsigned major = 0;
  const char* other = "";              // the sentence for a file that is none
  const NodeAdvice* advice = nullptr;  // nullptr: there is none
};

template <Syscalls Sys = LinuxSyscalls>
class [[nodiscard]] NodeFile {
 public:
  // Opens `path`, close-on-exec. `origin` is the place of its errors. ENODEV: it is no node of the
  // kind.
  static Result<NodeFile> Open(const Sys& sys, std::shared_ptr<ErrorSink> errors,
                               const Origin& origin, const char* path, int flags,
                               const NodeKind& kind) noexcept {
    const long opened = OpenRetrying(sys, path, flags);
    if (Failed(opened)) {
      return Error(
          ErrnoFrom(opened), "open", origin,
          kind.advice != nullptr ? NodeHint(sys, path, opened, flags, *kind.advice) : nullptr);
    }
    NodeFile file(static_cast<int>(opened), sys, std::move(errors), origin.backend);
    struct stat status {};
    if (const long told = sys.Fstat(file.fd_, &status); Failed(told)) {
      return Error(ErrnoFrom(told), "fstat", origin);
    }
    if (!S_ISCHR(status.st_mode) || major(status.st_rdev) != kind.major) {
      return Error(ENODEV, kind.other, origin);
    }
    return file;
  }

  // Takes a descriptor. `device` is static text: the name of the device, for errors.
  NodeFile(int fd, const Sys& sys, std::shared_ptr<ErrorSink> errors, const char* device) noexcept
      : fd_(fd), sys_(sys), errors_(std::move(errors)), device_(device) {}
  NodeFile(NodeFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        sys_(other.sys_),
        errors_(std::move(other.errors_)),
        device_(other.device_) {}
  NodeFile& operator=(NodeFile&&) = delete;
  ~NodeFile() { Close(); }

  // The descriptor; -1 after Close.
  int get() const noexcept { return fd_; }
  const Sys& sys() const noexcept { return sys_; }
  ErrorSink& errors() const noexcept { return *errors_; }
  const std::shared_ptr<ErrorSink>& shared_errors() const noexcept { return errors_; }

  // Closes the file. A failed close is reported.
  void Close() noexcept {
    if (fd_ >= 0) CloseOther(std::exchange(fd_, -1));
  }
  // The answer of the driver to an ioctl; -ENODEV after Close.
  long Ask(unsigned long request, void* argument) const noexcept {
    return fd_ < 0 ? -ENODEV : IoctlRetrying(sys_, fd_, request, argument);
  }
  // Returns another number of a descriptor of the caller's, close-on-exec, or the errno as in
  // Syscalls; CloseOther closes it.
  long Duplicate(int fd) const noexcept { return sys_.Fcntl(fd, F_DUPFD_CLOEXEC, 0); }
  void CloseOther(int fd) const noexcept {
    // Never tried again: Linux has released the number, whatever close answers.
    if (const long answer = sys_.Close(fd); Failed(answer)) {
      errors_->Report(Error(ErrnoFrom(answer), "close", {device_, Operation::kRelease}));
    }
  }

 private:
  int fd_;
  [[no_unique_address]] Sys sys_;
  std::shared_ptr<ErrorSink> errors_;
  const char* device_;
};

}  // namespace ion

#endif  // ION_DEVICES_NODE_FILE_H_
