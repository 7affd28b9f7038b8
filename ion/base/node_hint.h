// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/node_hint.h
//
// NodeHint: one sentence of advice where the node of a device does not open. It looks at the
// kernel's version, at sysfs and at the node's mode, so that it does not recommend a udev rule
// where a container or a security module refuses.
//
// Example:
//   static constexpr NodeAdvice kAdvice = {.absent = Absent, .rule = "add a udev rule: …"};
//   return Error(ErrnoFrom(opened), "open", origin, NodeHint(sys, path, opened, O_RDWR, kAdvice));
//
// Cost: up to eight system calls, after a failure only. Thread-safe.
#ifndef ION_ION_BASE_NODE_HINT_H_
#define ION_ION_BASE_NODE_HINT_H_

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "ion/base/linux_release.h"
#include "ion/base/syscalls.h"

namespace ion {

// The advice of one kernel interface. All texts are static.
struct NodeAdvice {
  const char* (*absent)(const LinuxRelease& running);  // the kernel does not have the interface
  const char* rule;                                    // the node's mode forbids it
  const char* sysfs = nullptr;  // a path that is there if the kernel has the interface
};

namespace internal {

#ifdef __ANDROID__
inline constexpr bool kAndroid = true;
#else
inline constexpr bool kAndroid = false;
#endif

// The advice for EACCES. Android has no udev: its ueventd gives nodes their modes.
constexpr const char* ForbiddenHint(bool mode_allows, bool android,
                                    const NodeAdvice& advice) noexcept {
  if (android) {
    return mode_allows
               ? "the node's mode allows it, so SELinux forbids it: add an allow rule to the "
                 "device's sepolicy (logcat has the denial)"
               : "give the node a mode or group of this process in ueventd.rc, and an allow "
                 "rule in the device's sepolicy";
  }
  return mode_allows ? "the node's mode allows it, so a security module (SELinux, AppArmor) or a "
                       "nodev mount forbids it: the audit log (dmesg) has the denial"
                     : advice.rule;
}

// True if a process with these ids may open a file of this owner and mode, as far as the mode says.
inline bool ModeAllows(const struct stat& file, int flags, uid_t user, gid_t group,
                       std::span<const gid_t> groups) noexcept {
  const unsigned wanted = (flags & O_ACCMODE) == O_RDONLY ? 4 : 6;
  unsigned granted = file.st_mode & 7;
  if (file.st_uid == user) {
    granted = file.st_mode >> 6 & 7;
  } else if (file.st_gid == group || std::ranges::find(groups, file.st_gid) != groups.end()) {
    granted = file.st_mode >> 3 & 7;
  }
  return (granted & wanted) == wanted;
}

// The same of this process and the file at `path`. False where that cannot be told.
template <Syscalls Sys>
bool ModeAllows(const Sys& sys, const char* path, int flags) noexcept {
  const long opened = OpenRetrying(sys, path, O_PATH);
  if (Failed(opened)) return false;
  struct stat file {};
  const long told = sys.Fstat(static_cast<int>(opened), &file);
  (void)sys.Close(static_cast<int>(opened));
  gid_t groups[256];
  const long count = sys.Getgroups(static_cast<int>(std::size(groups)), groups);
  if (Failed(told) || Failed(count)) return false;
  return ModeAllows(file, flags, static_cast<uid_t>(sys.Geteuid()),
                    static_cast<gid_t>(sys.Getegid()),
                    std::span(groups, static_cast<size_t>(count)));
}

template <Syscalls Sys>
bool IsThere(const Sys& sys, const char* path) noexcept {
  const long opened = path == nullptr ? -ENOENT : OpenRetrying(sys, path, O_PATH);
  if (Failed(opened)) return false;
  (void)sys.Close(static_cast<int>(opened));
  return true;
}

}  // namespace internal

// Returns advice about `path`, whose open for `flags` failed with `answer`; nullptr if there is
// none that is specific to a node.
template <Syscalls Sys>
const char* NodeHint(const Sys& sys, const char* path, long answer, int flags,
                     const NodeAdvice& advice) noexcept {
  switch (-answer) {
    case ENOENT:
      if (!internal::IsThere(sys, advice.sysfs)) return advice.absent(LinuxRelease::Read(sys));
      return "the kernel has the device, but its node is not here: let udev make it, or give it to "
             "the container (docker run --device)";
    case ENXIO:
    case ENODEV:
      return "the node is here, but its driver is not: load the module";
    case EACCES:
      return internal::ForbiddenHint(internal::ModeAllows(sys, path, flags), internal::kAndroid,
                                     advice);
    case EPERM:
      return "a device cgroup (a container's) or a sandbox forbids the node: allow it there "
             "(docker "
             "run --device, systemd's DeviceAllow=)";
    default:
      return nullptr;
  }
}

}  // namespace ion

#endif  // ION_ION_BASE_NODE_HINT_H_
