// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/scripted_node.h
//
// A device whose ioctls a test answers: for what no kernel says, fake or real. Its node is a memfd;
// all that is not asked of the node goes to the kernel. For one thread.
//
// Example:
//   ScriptedNode node{.ioctl = [](unsigned long, void*) { return -ENOTTY; }};
//   IonBackend<ScriptedSyscalls>::Open({.sys = ScriptedSyscalls(&node)});

#ifndef ION_TESTS_SUPPORT_SCRIPTED_NODE_H_
#define ION_TESTS_SUPPORT_SCRIPTED_NODE_H_

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <functional>
#include <string_view>
#include <vector>

#include "ion/base/syscalls.h"

namespace ion::testing {

struct ScriptedNode {
  std::function<long(unsigned long request, void* argument)> ioctl = {};
  std::string_view path = "/dev/ion";
  long open_error = 0;
  dev_t device = makedev(10, 60);
  std::vector<unsigned long> requests = {};  // each ioctl, of the node or of what it gave
  int fd = -1;                               // the node's, once it was opened

  auto Asked(unsigned long request) const { return std::ranges::count(requests, request); }
};

class ScriptedSyscalls : public LinuxSyscalls {
 public:
  ScriptedSyscalls() = default;
  explicit ScriptedSyscalls(ScriptedNode* node) noexcept : node_(node) {}

  long Open(const char* path, int flags) const noexcept {
    if (node_->path != path) return LinuxSyscalls::Open(path, flags);
    if (node_->open_error != 0) return node_->open_error;
    const long opened = LinuxSyscalls::MemfdCreate("node", MFD_CLOEXEC);
    node_->fd = static_cast<int>(opened);
    return opened;
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    const long answer = LinuxSyscalls::Fstat(fd, to);
    if (fd == node_->fd) {
      to->st_mode = S_IFCHR;
      to->st_rdev = node_->device;
    }
    return answer;
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    node_->requests.push_back(request);
    return fd == node_->fd ? node_->ioctl(request, argument)
                           : LinuxSyscalls::Ioctl(fd, request, argument);
  }

 private:
  ScriptedNode* node_ = nullptr;
};
static_assert(Syscalls<ScriptedSyscalls>);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SCRIPTED_NODE_H_
