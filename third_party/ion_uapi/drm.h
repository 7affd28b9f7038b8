// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: third_party/ion_uapi/drm.h
//
// The words of a program and the kernel to each other about the dumb buffers of a DRM card, and
// about their export as dma-bufs (PRIME): the part of <drm/drm.h> and <drm/drm_mode.h> that we use.
// Those headers are in a package of their own (libdrm-dev), and in different folders. Names of
// structs are the kernel's, in a namespace, so that a program may include those headers as well.
//
// The layout is the same for 32-bit and 64-bit programs.
#ifndef ION_THIRD_PARTY_ION_UAPI_DRM_H_
#define ION_THIRD_PARTY_ION_UAPI_DRM_H_

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace ion_uapi {

// The major number of DRM's nodes. Minor numbers from 128 on, 64 of them, are render nodes'.
inline constexpr unsigned kDrmMajor = 226;
inline constexpr unsigned kDrmRenderMinor = 128;
inline constexpr unsigned kDrmRenderMinors = 64;

// Linux 2.6.38.
struct drm_get_cap {
  uint64_t capability;
  uint64_t value;  // out
};
inline constexpr uint64_t kDrmCapDumbBuffer = 1;
inline constexpr unsigned long kDrmIoctlGetCap = _IOWR('d', 0x0c, drm_get_cap);

// Linux 2.6.38.
inline constexpr unsigned long kDrmIoctlDropMaster = _IO('d', 0x1f);

// Linux 3.3. Its flags are those of open; kDrmRdwr since Linux 4.6.
struct drm_prime_handle {
  uint32_t handle;
  uint32_t flags;
  int32_t fd;  // out
};
inline constexpr uint32_t kDrmCloexec = O_CLOEXEC;
inline constexpr uint32_t kDrmRdwr = O_RDWR;
inline constexpr unsigned long kDrmIoctlPrimeHandleToFd = _IOWR('d', 0x2d, drm_prime_handle);

// Linux 2.6.39.
struct drm_mode_create_dumb {
  uint32_t height;
  uint32_t width;
  uint32_t bpp;     // bits
  uint32_t flags;   // none is defined
  uint32_t handle;  // out, as the next two
  uint32_t pitch;   // bytes
  uint64_t size;    // bytes
};
struct drm_mode_destroy_dumb {
  uint32_t handle;
};
inline constexpr unsigned long kDrmIoctlModeCreateDumb = _IOWR('d', 0xb2, drm_mode_create_dumb);
inline constexpr unsigned long kDrmIoctlModeDestroyDumb = _IOWR('d', 0xb4, drm_mode_destroy_dumb);

static_assert(sizeof(drm_get_cap) == 16 && sizeof(drm_prime_handle) == 12);
static_assert(sizeof(drm_mode_create_dumb) == 32 && offsetof(drm_mode_create_dumb, size) == 24);
static_assert(sizeof(drm_mode_destroy_dumb) == 4);

}  // namespace ion_uapi

#endif  // ION_THIRD_PARTY_ION_UAPI_DRM_H_
