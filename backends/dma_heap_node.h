// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/dma_heap_node.h
//
// Resolves an entry of /dev/dma_heap to the kernel's name of its heap. The properties of a heap's
// memory follow from the name that the kernel gives its device number, never from a link's name:
// distributions make links such as `vidbuf_cached`, which lead to contiguous memory on one board
// and to `system` on another.
//
// Example:
//   ion::Result<std::string> name = ion::DmaHeapNameOf(sys, errors, "dma_heap", path, st_rdev);
//
// Cost: three system calls for a device; up to nine where there is no sysfs. Thread-safe.
#ifndef ION_BACKENDS_DMA_HEAP_NODE_H_
#define ION_BACKENDS_DMA_HEAP_NODE_H_

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ion/backends/scoped_fd.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/kernel_text.h"
#include "ion/base/syscalls.h"

namespace ion {

namespace internal {

inline std::string_view LastComponent(std::string_view path) noexcept {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

// Follows the links of `path` and returns the last component of its target. Empty if that cannot be
// read.
template <Syscalls Sys>
std::string NameBehindLinks(const Sys& sys, std::string path) {
  constexpr int kMostLinks = 8;
  char target[4096];
  for (int links = 0; links <= kMostLinks; ++links) {
    const long got = sys.Readlink(path.c_str(), target, sizeof(target));
    if (got == -EINVAL) return std::string(LastComponent(path));  // no link
    if (Failed(got) || got == 0 || static_cast<size_t>(got) == sizeof(target)) return {};
    const std::string_view to(target, static_cast<size_t>(got));
    if (to[0] == '/') {
      path = to;
    } else {
      path.resize(path.size() - LastComponent(path).size());
      path += to;
    }
  }
  return {};
}

// Returns sysfs's name of a device of the dma-heaps' class, an empty name for a device of another
// class, and nothing if this process sees no sysfs.
template <Syscalls Sys>
Result<std::optional<std::string>> DmaHeapNameInSysfs(const Sys& sys, ErrorSink& errors,
                                                      const char* backend, dev_t device) {
  const std::string path = "/sys/dev/char/" + std::to_string(major(device)) + ":" +
                           std::to_string(minor(device)) + "/uevent";
  const Origin origin{backend, Operation::kOpen, path};
  const long opened = OpenRetrying(sys, path.c_str(), O_RDONLY);
  if (opened == -ENOENT || opened == -EACCES || opened == -EPERM) {
    return std::optional<std::string>();
  }
  if (Failed(opened)) return Error(ErrnoFrom(opened), "open", origin);
  const ScopedFd<Sys> file(static_cast<int>(opened), sys, errors, backend);
  char text[1024];
  const long got = sys.Read(file.get(), text, sizeof(text));
  if (Failed(got)) return Error(ErrnoFrom(got), "read", origin);
  constexpr std::string_view kPrefix = "DEVNAME=dma_heap/";
  std::string_view rest(text, static_cast<size_t>(got));
  while (!rest.empty()) {
    const std::string_view line = TakeUntil(rest, '\n');
    if (line.starts_with(kPrefix)) {
      return std::optional(std::string(line.substr(kPrefix.size())));
    }
  }
  return std::optional<std::string>("");
}

}  // namespace internal

// The kernel's name of the heap that `path` leads to: sysfs's name of the device number, or without
// sysfs the name of the links' target. Empty: no dma-heap, or it cannot be told. `device` is 0 if
// there is none.
template <Syscalls Sys>
Result<std::string> DmaHeapNameOf(const Sys& sys, ErrorSink& errors, const char* backend,
                                  const std::string& path, dev_t device) {
  if (device != 0) {
    auto name = internal::DmaHeapNameInSysfs(sys, errors, backend, device);
    if (!name.ok()) return name.error();
    if (name->has_value()) return **std::move(name);
  }
  return internal::NameBehindLinks(sys, path);
}

}  // namespace ion

#endif  // ION_BACKENDS_DMA_HEAP_NODE_H_
