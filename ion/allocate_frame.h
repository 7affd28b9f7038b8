// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/allocate_frame.h
//
// AllocateFrame: the memory of an image, with its layout, in one call. If a driver makes the frame by
// its own rules (DrmDumbBackend, V4l2ExportBackend), the layout has the pitch and the size that it
// stated; else the layout is arithmetic (ion/layout.h).
//
// Example:
//   const absl::StatusOr<ion::Frame> frame =
//       ion::AllocateFrame(client, choice,
//                          {.format = ion::PixelFormat::kNv12, .width = 1920, .height = 1080});
//   if (!frame.ok()) return frame.status();
//   Program(frame->buffer.fd(), frame->layout.plane[0].stride, frame->layout.plane[1].offset);
//
// Cost: a layout, and an allocation of each heap that is tried. Thread-safe.
#ifndef ION_ION_ALLOCATE_FRAME_H_
#define ION_ION_ALLOCATE_FRAME_H_

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/allocate_chosen.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/client_ref.h"
#include "ion/constraints.h"
#include "ion/frame_shape.h"
#include "ion/image_layout.h"
#include "ion/layout.h"
#include "ion/pixel_format.h"
#include "ion/request.h"
#include "ion/slab.h"

namespace ion {

struct Frame {
  Buffer buffer;
  ImageLayout layout;
};

namespace internal {

// The layout of the image in memory for which a driver stated a pitch and a size, within the limits
// of `computed`.
inline absl::Status TakeStated(const Buffer& buffer, ImageLayout& computed) noexcept {
  const StatedFrame stated = buffer.stated();
  if (stated == StatedFrame()) return absl::OkStatus();
  ImageSpec spec = computed.spec;
  const Origin origin{"frame", Operation::kAllocate, {}, buffer.bytes()};
  if (spec.limits.stride_exact != 0 && spec.limits.stride_exact != stated.pitch) {
    return ToStatus(Error(EINVAL, "the driver stated another pitch than stride_exact", origin,
                          "let the devices take the driver's pitch (Buffer::stated), or name "
                          "another heap"));
  }
  spec.limits.stride_exact = stated.pitch;
  spec.stated_bytes = stated.bytes;
  const absl::StatusOr<ImageLayout> layout = MakeLayout(spec);
  if (!layout.ok()) return layout.status();
  if (layout->total_bytes > buffer.bytes()) {
    return ToStatus(Error(EINVAL, "the image with the driver's pitch needs more bytes than came",
                          origin, "name another heap"));
  }
  computed = *layout;
  return absl::OkStatus();
}

}  // namespace internal

// Allocates memory for the image of `spec`. `like`: the request's heaps, flags and name; its bytes
// and its frame are set. Errors: those of MakeLayout and of Client::Allocate. EINVAL also: a driver
// stated a layout that breaks spec.limits.
inline absl::StatusOr<Frame> AllocateFrame(ClientRef client, const ImageSpec& spec,
                                           Request like = {},
                                           CallSite where = CallSite::Here()) noexcept {
  absl::StatusOr<ImageLayout> layout = MakeLayout(spec);
  if (!layout.ok()) return layout.status();
  absl::StatusOr<Buffer> buffer = client.Allocate(FrameRequest(*layout, like), where);
  if (!buffer.ok()) return buffer.status();
  if (absl::Status taken = internal::TakeStated(*buffer, *layout); !taken.ok()) return taken;
  return Frame{*std::move(buffer), *layout};
}

// The same from the best heap of a choice that has some, within the limits of its parties, which
// replace spec.limits. Errors also: those of AllocateChosen. EINVAL: a party takes no image of that
// format and modifier, or wants its planes apart. A heap whose driver states a layout that breaks the
// limits is followed by the next one.
inline absl::StatusOr<Frame> AllocateFrame(ClientRef client, const Choice& choice, ImageSpec spec,
                                           Request like = {},
                                           CallSite where = CallSite::Here()) noexcept {
  const Merged& all = choice.merged;
  const Origin origin{"choice", Operation::kAllocate};
  if (choice.ok() && !all.formats().Takes({InfoOf(spec.format).drm, spec.modifier})) {
    return ToStatus(Error(EINVAL, "the parties have not this format and modifier in common", origin,
                          "DescribeOrigin of formats (ion/choice_text.h) names them"));
  }
  if (choice.ok() && all.planes() == PlaneFds::kSeparate && InfoOf(spec.format).planes > 1) {
    return ToStatus(Error(EINVAL, "a party wants each plane in a buffer of its own", origin,
                          "allocate a buffer for each plane (ImageLayout::plane)"));
  }
  spec.limits = all.image();
  absl::StatusOr<ImageLayout> layout = MakeLayout(spec);
  if (!layout.ok()) return layout.status();
  ImageLayout stated = *layout;
  absl::StatusOr<Buffer> buffer = internal::AllocateEach(
      client, choice, FrameRequest(*layout, like), where, [&](const Buffer& memory) noexcept {
        stated = *layout;
        return internal::TakeStated(memory, stated);
      });
  if (!buffer.ok()) return buffer.status();
  return Frame{*std::move(buffer), stated};
}

}  // namespace ion

#endif  // ION_ION_ALLOCATE_FRAME_H_
