// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: third_party/ion_uapi/drm.h
//
// The words of a program and the kernel to each other about the dumb buffers of a DRM card, about
// export and import of dma-bufs (PRIME), and about framebuffers: the part of <drm/drm.h> and
// <drm/drm_mode.h> that we use. Those headers are in a package of their own (libdrm-dev), and in different folders. Names of
// structs are the kernel's, in a namespace, so that a program may include those headers as well.
//
// The layout is the same for 32-bit and 64-bit programs, but for drm_version.
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

// Each text: room for so many bytes, at most as many as the kernel has, and no 0 at the end.
struct drm_version {
  int version_major;
  int version_minor;
  int version_patchlevel;
  size_t name_len;  // in and out, as the next two
  char* name;
  size_t date_len;
  char* date;
  size_t desc_len;
  char* desc;
};
inline constexpr unsigned long kDrmIoctlVersion = _IOWR('d', 0x00, drm_version);

struct drm_gem_close {
  uint32_t handle;
  uint32_t pad;
};
inline constexpr unsigned long kDrmIoctlGemClose = _IOW('d', 0x09, drm_gem_close);

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
inline constexpr unsigned long kDrmIoctlPrimeFdToHandle = _IOWR('d', 0x2e, drm_prime_handle);

// Linux 3.3; modifiers since 4.1.
struct drm_mode_fb_cmd2 {
  uint32_t fb_id;  // out
  uint32_t width;
  uint32_t height;
  uint32_t pixel_format;  // a fourcc code of DRM
  uint32_t flags;
  uint32_t handles[4];
  uint32_t pitches[4];  // bytes
  uint32_t offsets[4];  // bytes
  uint64_t modifier[4];
};
inline constexpr uint32_t kDrmModeFbModifiers = 1u << 1;
inline constexpr unsigned long kDrmIoctlModeAddFb2 = _IOWR('d', 0xb8, drm_mode_fb_cmd2);
// Takes a framebuffer's id. Linux 2.6.29.
inline constexpr unsigned long kDrmIoctlModeRmFb = _IOWR('d', 0xaf, uint32_t);

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
static_assert(sizeof(drm_mode_destroy_dumb) == 4 && sizeof(drm_gem_close) == 8);
// On i386 a word of 64 bits is aligned to 4 bytes; the kernel's driver knows both.
static_assert(offsetof(drm_mode_fb_cmd2, modifier) == (alignof(drm_mode_fb_cmd2) == 8 ? 72 : 68) &&
              sizeof(drm_mode_fb_cmd2) == offsetof(drm_mode_fb_cmd2, modifier) + 32);

}  // namespace ion_uapi

#endif  // ION_THIRD_PARTY_ION_UAPI_DRM_H_
