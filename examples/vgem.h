// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/vgem.h
//
// The kernel's virtual GEM driver: a GPU's way of taking and giving dma-bufs (PRIME), on any
// machine. The part of <drm/drm.h> that this takes; that header is in a package of its own.
#ifndef ION_EXAMPLES_VGEM_H_
#define ION_EXAMPLES_VGEM_H_

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ion/base/fd.h"

namespace ion::drm {

struct Version {
  int major, minor, patch;
  size_t name_bytes;
  char* name;
  size_t date_bytes;
  char* date;
  size_t text_bytes;
  char* text;
};
struct GemClose {
  uint32_t handle, pad;
};
struct CreateDumb {
  uint32_t height, width, bits_per_pixel, flags;
  uint32_t handle, pitch;
  uint64_t bytes;
};
struct PrimeHandle {
  uint32_t handle, flags;
  int32_t fd;
};
inline constexpr unsigned long kVersion = _IOWR('d', 0x00, Version);
inline constexpr unsigned long kGemClose = _IOW('d', 0x09, GemClose);
inline constexpr unsigned long kPrimeHandleToFd = _IOWR('d', 0x2d, PrimeHandle);
inline constexpr unsigned long kPrimeFdToHandle = _IOWR('d', 0x2e, PrimeHandle);
inline constexpr unsigned long kCreateDumb = _IOWR('d', 0xb2, CreateDumb);

// The node of vgem; one that is not valid, with errno ENOENT, where there is none.
inline UniqueFd OpenVgem() {
  for (int card = 0; card < 16; ++card) {
    const std::string path = "/dev/dri/card" + std::to_string(card);
    UniqueFd node(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    char name[16] = {};
    Version version{};
    version.name = name;
    version.name_bytes = sizeof(name) - 1;
    if (node.valid() && ::ioctl(node.get(), kVersion, &version) == 0 &&
        std::string_view(name) == "vgem") {
      return node;
    }
  }
  errno = ENOENT;
  return {};
}

}  // namespace ion::drm

#endif  // ION_EXAMPLES_VGEM_H_
