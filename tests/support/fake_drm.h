// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_drm.h
//
// FakeDrm: a DRM driver that imports any file as a dma-buf, and the kernel around it: each file of
// the node has handles and framebuffers of its own, the same memory twice has one handle, and all
// go when the file is closed. For one thread.

#ifndef ION_TESTS_SUPPORT_FAKE_DRM_H_
#define ION_TESTS_SUPPORT_FAKE_DRM_H_

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ion/base/syscalls.h"
#include "third_party/ion_uapi/drm.h"

namespace ion::testing {

struct FakeDrm {
  struct File {
    std::map<uint32_t, uint64_t> handles = {};  // and the inode of each
    std::map<uint32_t, std::set<uint32_t>> framebuffers = {};
  };

  // The driver's ways.
  std::string path = {};
  unsigned major = ion_uapi::kDrmMajor;
  mode_t type = S_IFCHR;
  std::string driver = "fake";
  long maps = 0;     // its answer to memory
  long dropped = 0;  // and to DRM_IOCTL_DROP_MASTER
  bool vanished = false;
  std::map<unsigned long, long> fails = {};  // an error, of an ioctl by its number
  // From there the call of this number fails, once.
  size_t fails_at = SIZE_MAX;
  int fails_with = 0;
  std::string failed = {};  // that call

  // Its state.
  std::vector<std::pair<int, File>> files = {};  // by descriptor
  ion_uapi::drm_mode_fb_cmd2 added = {};
  uint32_t last_framebuffer = 100;
  std::vector<unsigned long> requests = {};
  size_t calls = 0;
  size_t most_files = 0;

  // To open a node it then allocates nothing.
  FakeDrm() {
    files.reserve(16);
    requests.reserve(4096);
  }

  size_t handles() const {
    size_t count = 0;
    for (const auto& [fd, file] : files) count += file.handles.size();
    return count;
  }
  size_t framebuffers() const {
    size_t count = 0;
    for (const auto& [fd, file] : files) count += file.framebuffers.size();
    return count;
  }

  // The error of this call, or 0.
  long Next(const char* call) {
    const size_t n = calls++;
    if (n != fails_at) return 0;
    failed = call;
    return -fails_with;
  }

  long Import(File& file, ion_uapi::drm_prime_handle& prime) const {
    struct stat memory {};
    if (::fstat(prime.fd, &memory) != 0) return -EBADF;
    for (const auto& [handle, inode] : file.handles) {
      if (inode == memory.st_ino) {
        prime.handle = handle;
        return 0;
      }
    }
    if (maps != 0) return maps;
    prime.handle = file.handles.empty() ? 1 : file.handles.rbegin()->first + 1;
    file.handles[prime.handle] = memory.st_ino;
    return 0;
  }
  long Add(File& file, ion_uapi::drm_mode_fb_cmd2& add) {
    added = add;
    if (add.width == 0 || add.height == 0 || add.pitches[0] < add.width) return -EINVAL;
    std::set<uint32_t> handles;
    for (const uint32_t handle : add.handles) {
      if (handle != 0 && !file.handles.contains(handle)) return -ENOENT;
      if (handle != 0) handles.insert(handle);
    }
    add.fb_id = ++last_framebuffer;
    file.framebuffers[add.fb_id] = handles;
    return 0;
  }
  long Version(ion_uapi::drm_version& told) const {
    if (told.name_len != 0)
      std::copy_n(driver.data(), std::min(told.name_len, driver.size()), told.name);
    told.name_len = driver.size();
    return 0;
  }

  long Ioctl(File& file, unsigned long request, void* argument) {
    requests.push_back(request);
    if (vanished) return -ENODEV;
    if (const auto at = fails.find(request); at != fails.end()) return at->second;
    switch (request) {
      case ion_uapi::kDrmIoctlVersion:
        return Version(*static_cast<ion_uapi::drm_version*>(argument));
      case ion_uapi::kDrmIoctlDropMaster:
        return dropped;
      case ion_uapi::kDrmIoctlPrimeFdToHandle:
        return Import(file, *static_cast<ion_uapi::drm_prime_handle*>(argument));
      case ion_uapi::kDrmIoctlModeAddFb2:
        return Add(file, *static_cast<ion_uapi::drm_mode_fb_cmd2*>(argument));
      case ion_uapi::kDrmIoctlModeRmFb:
        return file.framebuffers.erase(*static_cast<uint32_t*>(argument)) == 1 ? 0 : -ENOENT;
      case ion_uapi::kDrmIoctlGemClose:
        return file.handles.erase(static_cast<ion_uapi::drm_gem_close*>(argument)->handle) == 1
                   ? 0
                   : -EINVAL;
    }
    return -ENOTTY;
  }
};

// The kernel of a FakeDrm.
class FakeDrmSyscalls : public LinuxSyscalls {
 public:
  FakeDrmSyscalls() = default;
  explicit FakeDrmSyscalls(FakeDrm* node) noexcept : node_(node) {}

  long Open(const char* path, int flags) const noexcept {
    if (const long fails = node_->Next("open"); fails != 0) return fails;
    const long fd = LinuxSyscalls::Open(path, flags);
    if (fd >= 0 && node_->path == path && (flags & O_PATH) == 0) {
      node_->files.emplace_back(static_cast<int>(fd), FakeDrm::File());
      node_->most_files = std::max(node_->most_files, node_->files.size());
    }
    return fd;
  }
  long Close(int fd) const noexcept {
    std::erase_if(node_->files, [&](const auto& file) { return file.first == fd; });
    const long fails = node_->Next("close");
    const long answer = LinuxSyscalls::Close(fd);
    return fails != 0 ? fails : answer;
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    if (const long fails = node_->Next("fstat"); fails != 0) return fails;
    const long answer = LinuxSyscalls::Fstat(fd, to);
    if (answer == 0 && FileOf(fd) != nullptr) {
      to->st_mode = node_->type | 0600;
      to->st_rdev = makedev(node_->major, 0);
    }
    return answer;
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    FakeDrm::File* const file = FileOf(fd);
    if (file == nullptr) return LinuxSyscalls::Ioctl(fd, request, argument);
    const bool drop = request == ion_uapi::kDrmIoctlDropMaster;
    if (const long fails = node_->Next(drop ? "drop master" : "ioctl"); fails != 0) return fails;
    return node_->Ioctl(*file, request, argument);
  }

 private:
  FakeDrm::File* FileOf(int fd) const {
    for (auto& [number, file] : node_->files) {
      if (number == fd) return &file;
    }
    return nullptr;
  }

  FakeDrm* node_ = nullptr;
};
static_assert(Syscalls<FakeDrmSyscalls>);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_DRM_H_
