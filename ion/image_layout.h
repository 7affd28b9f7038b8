// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/image_layout.h
//
// ComputeLayout: the place of each plane of a linear image in a buffer, from a format, a size and
// the limits that all parties share (ion/image_constraints.h), as plain data and at compile time.
// ion/layout.h has the same with an absl::Status, and the sentences.
//
// Example:
//   constexpr ion::ImageLayout kFrame =
//       ion::LayoutOf<ion::ImageSpec{.format = ion::PixelFormat::kNv12, .width = 1920,
//                                    .height = 1080}>();
//   static_assert(kFrame.plane[1].offset == 1920 * 1080);
//
// The rules:
//   - The allocated width and height are the image's, rounded up to width_multiple and
//     height_multiple.
//   - The stride of plane 0 is the bytes of a row, raised to stride_min and rounded up, so that the
//     stride of each plane is a multiple of stride_multiple; stride_exact is taken as it is.
//     stride_min and stride_exact are those of plane 0, as V4L2's bytesperline; stride_max binds
//     each plane. It need not be a whole number of pixels (RGB888 with a stride of 64).
//   - The strides of the other planes stay in proportion to plane 0's (NV12: equal, YUV420: half,
//     NV24: twice), because V4L2 tells one stride for a format in one buffer and derives the
//     others.
//   - A plane begins at the end of the one before, rounded up to plane_offset_multiple.
//   - After the image follow tail_bytes, or tail_rows of the largest stride, if those are more: two
//     devices that read past the image read the same bytes.
//   - The whole is raised to stated_bytes (V4L2's sizeimage) and rounded up to size_multiple.
//
// Odd sizes: an allocated size that is no whole number of the format's groups (an odd width of
// YUYV, an odd height of NV12) is refused by default. The sizes of cameras and codecs are even, so
// an odd one is nearly always the visible size in place of the coded size; and the libraries
// disagree on it: libavutil, V4L2 and DRM round up the planes of Cb and Cr alone, GStreamer all of
// them. OddSize::kCover is the former; a width_multiple and height_multiple of the group's size are
// the latter.
//
// Not for tiled or compressed images (a modifier other than 0): their exporter tells the layout.
//
// Cost: some 500 instructions (50 to 120 ns at -O2 on a slow machine), no heap memory; an
// ImageLayout is 312 bytes of plain data.
// Thread-safe.
#ifndef ION_ION_IMAGE_LAYOUT_H_
#define ION_ION_IMAGE_LAYOUT_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>

#include "ion/base/multiple.h"
#include "ion/image_constraints.h"
#include "ion/pixel_format.h"

namespace ion {

// DRM_FORMAT_MOD_LINEAR: rows of pixels, one after the other.
inline constexpr uint64_t kLinearModifier = 0;

// The treatment of a size that is no whole number of groups.
enum class OddSize : uint8_t {
  kRefuse,
  kCover,  // the last group of a row, the last row of Cb and Cr are for fewer pixels
};

// The input of a layout.
struct ImageSpec {
  PixelFormat format = PixelFormat::kNone;
  uint64_t width = 0;   // pixels, 1 to 2^32 - 1
  uint64_t height = 0;  // rows, 1 to 2^32 - 1
  ImageConstraints limits = {};
  uint64_t stated_bytes = 0;  // the size that a device states, as V4L2's sizeimage; 0: none
  uint64_t modifier = kLinearModifier;
  OddSize odd = OddSize::kRefuse;

  friend constexpr bool operator==(const ImageSpec&, const ImageSpec&) = default;
};

// A field of an ImageSpec: the one that is refused, or the one that decided a number.
enum class LayoutField : uint8_t {
  kNone,
  kFormat,
  kModifier,
  kWidth,
  kHeight,
  kStrideMultiple,
  kStrideMin,
  kStrideMax,
  kStrideExact,
  kWidthMultiple,
  kHeightMultiple,
  kPlaneOffsetMultiple,
  kBaseAlign,
  kTailBytes,
  kTailRows,
  kSizeMultiple,
  kStatedBytes,
};

// The rule that a field breaks.
enum class LayoutRule : uint8_t {
  kNone,
  kUnknown,        // the format is none of the table
  kTiled,          // the modifier is not linear
  kZero,           // it is 0
  kTooLarge,       // it is, or leads to, 2^32 pixels or more
  kPartialGroup,   // the allocated size is no multiple of `other`, the group's
  kNotPowerOfTwo,  // no address of memory keeps it
  kTooSmall,       // it is less than `other`, which is needed
  kNotMultiple,    // it is no multiple of `other`
  kAboveMax,       // the stride `other` is more
  kOverflow,       // the result has more than 64 bits
};

// A refusal as data; rule kNone: there is none. ion/layout.h makes a Status of it.
struct [[nodiscard]] LayoutProblem {
  LayoutField field = LayoutField::kNone;
  LayoutRule rule = LayoutRule::kNone;
  uint8_t plane = 0;   // of a stride or an offset
  uint64_t value = 0;  // the field's
  uint64_t other = 0;  // see LayoutRule

  constexpr bool ok() const noexcept { return rule == LayoutRule::kNone; }
  friend constexpr bool operator==(const LayoutProblem&, const LayoutProblem&) = default;
};

// A plane in a buffer. The three reasons are the fields that decided the number: kFormat if the
// size and the format alone did.
struct PlaneLayout {
  uint64_t offset = 0;     // bytes, from the start of the buffer
  uint64_t stride = 0;     // bytes, from the start of a row to that of the next
  uint64_t rows = 0;       // allocated
  uint64_t row_bytes = 0;  // the pixels of a row, of the allocated width
  LayoutField offset_reason = LayoutField::kNone;
  LayoutField stride_reason = LayoutField::kNone;
  LayoutField rows_reason = LayoutField::kNone;

  // The bytes of all rows with their strides.
  constexpr uint64_t bytes() const noexcept { return stride * rows; }
  friend constexpr bool operator==(const PlaneLayout&, const PlaneLayout&) = default;
};

// A layout, and the input from which it was made, so that each number can be explained later.
struct ImageLayout {
  ImageSpec spec;
  unsigned planes = 0;
  uint64_t width = 0;   // allocated, in pixels
  uint64_t height = 0;  // allocated, in rows
  std::array<PlaneLayout, kMostPlanes> plane = {};
  uint64_t image_bytes = 0;  // to the end of the last plane's last stride
  uint64_t tail_bytes = 0;   // after the image, for devices that read past it
  uint64_t total_bytes = 0;  // of the buffer
  LayoutField width_reason = LayoutField::kNone;
  LayoutField height_reason = LayoutField::kNone;
  LayoutField tail_reason = LayoutField::kNone;
  LayoutField total_reason = LayoutField::kNone;

  friend constexpr bool operator==(const ImageLayout&, const ImageLayout&) = default;
};

// The value of a field of a spec; 0 of kNone.
constexpr uint64_t ValueOf(const ImageSpec& spec, LayoutField field) noexcept {
  switch (field) {
    case LayoutField::kNone:
      return 0;
    case LayoutField::kFormat:
      return static_cast<uint64_t>(spec.format);
    case LayoutField::kModifier:
      return spec.modifier;
    case LayoutField::kWidth:
      return spec.width;
    case LayoutField::kHeight:
      return spec.height;
    case LayoutField::kStrideMultiple:
      return spec.limits.stride_multiple;
    case LayoutField::kStrideMin:
      return spec.limits.stride_min;
    case LayoutField::kStrideMax:
      return spec.limits.stride_max;
    case LayoutField::kStrideExact:
      return spec.limits.stride_exact;
    case LayoutField::kWidthMultiple:
      return spec.limits.width_multiple;
    case LayoutField::kHeightMultiple:
      return spec.limits.height_multiple;
    case LayoutField::kPlaneOffsetMultiple:
      return spec.limits.plane_offset_multiple;
    case LayoutField::kBaseAlign:
      return spec.limits.base_align;
    case LayoutField::kTailBytes:
      return spec.limits.tail_bytes;
    case LayoutField::kTailRows:
      return spec.limits.tail_rows;
    case LayoutField::kSizeMultiple:
      return spec.limits.size_multiple;
    case LayoutField::kStatedBytes:
      return spec.stated_bytes;
  }
  return 0;
}

namespace internal {

inline constexpr uint64_t kPixelsEnd = uint64_t{1} << 32;

// A stride in proportion, by PixelFormatInfo::stride_shift.
constexpr uint64_t Proportional(uint64_t stride, int shift) noexcept {
  return shift >= 0 ? stride << shift : stride >> -shift;
}

class LayoutMaker {
 public:
  constexpr LayoutMaker(const ImageSpec& spec, ImageLayout& to) noexcept
      : limits_(spec.limits), info_(InfoOf(spec.format)), to_(to) {}

  constexpr LayoutProblem Make() noexcept {
    LayoutProblem problem = CheckFields();
    if (problem.ok()) problem = MakeSize();
    if (problem.ok()) problem = MakeStrides();
    if (problem.ok()) problem = MakePlanes();
    if (problem.ok()) problem = MakeTotal();
    return problem;
  }

 private:
  constexpr LayoutProblem Refuse(LayoutField field, LayoutRule rule, uint64_t other = 0,
                                 unsigned plane = 0) const noexcept {
    return {.field = field,
            .rule = rule,
            .plane = static_cast<uint8_t>(plane),
            .value = ValueOf(to_.spec, field),
            .other = other};
  }
  // The field to blame for planes of more than 64 bits: the height, if no limit made the stride.
  constexpr LayoutProblem RefuseBytes(LayoutField stride_reason, unsigned plane) const noexcept {
    using enum LayoutField;
    LayoutField field = kHeight;
    if (stride_reason == kStrideExact || stride_reason == kStrideMin) field = stride_reason;
    if (stride_reason == kStrideMultiple) {
      field = limits_.stride_min > limits_.stride_multiple ? kStrideMin : kStrideMultiple;
    }
    return Refuse(field, LayoutRule::kOverflow, 0, plane);
  }

  constexpr LayoutProblem CheckFields() const noexcept {
    using enum LayoutField;
    const ImageSpec& spec = to_.spec;
    if (info_.planes == 0) {
      return Refuse(kFormat, LayoutRule::kUnknown);
    }
    if (spec.modifier != kLinearModifier) {
      return Refuse(kModifier, LayoutRule::kTiled);
    }
    if (spec.width == 0 || spec.height == 0 || limits_.stride_multiple == 0 ||
        limits_.stride_max == 0 || limits_.width_multiple == 0 || limits_.height_multiple == 0 ||
        limits_.plane_offset_multiple == 0 || limits_.base_align == 0 ||
        limits_.size_multiple == 0) {
      for (const LayoutField field :
           {kWidth, kHeight, kStrideMultiple, kStrideMax, kWidthMultiple, kHeightMultiple,
            kPlaneOffsetMultiple, kBaseAlign, kSizeMultiple}) {
        if (ValueOf(spec, field) == 0) return Refuse(field, LayoutRule::kZero);
      }
    }
    if (spec.width >= kPixelsEnd) return Refuse(kWidth, LayoutRule::kTooLarge);
    if (spec.height >= kPixelsEnd) return Refuse(kHeight, LayoutRule::kTooLarge);
    if ((limits_.base_align & (limits_.base_align - 1)) != 0) {
      return Refuse(kBaseAlign, LayoutRule::kNotPowerOfTwo);
    }
    return {};
  }

  // The allocated size.
  constexpr LayoutProblem MakeSize() noexcept {
    using enum LayoutField;
    const ImageSpec& spec = to_.spec;
    to_.width = spec.width;
    if (!RoundUpInPlace(to_.width, limits_.width_multiple) || to_.width >= kPixelsEnd) {
      return Refuse(kWidthMultiple, LayoutRule::kTooLarge);
    }
    to_.height = spec.height;
    if (!RoundUpInPlace(to_.height, limits_.height_multiple) || to_.height >= kPixelsEnd) {
      return Refuse(kHeightMultiple, LayoutRule::kTooLarge);
    }
    to_.width_reason = to_.width == spec.width ? kWidth : kWidthMultiple;
    to_.height_reason = to_.height == spec.height ? kHeight : kHeightMultiple;
    if (spec.odd == OddSize::kCover) return {};
    if (const uint32_t unit = info_.width_unit; (to_.width & (unit - 1)) != 0) {
      return Refuse(to_.width_reason, LayoutRule::kPartialGroup, unit);
    }
    if (const uint32_t unit = info_.height_unit; (to_.height & (unit - 1)) != 0) {
      return Refuse(to_.height_reason, LayoutRule::kPartialGroup, unit);
    }
    return {};
  }

  // The stride of plane 0, from which the others follow.
  constexpr LayoutProblem MakeStrides() noexcept {
    using enum LayoutField;
    // The stride of plane 0 at which each plane's row fits, and its multiple at which each plane's
    // stride is a whole number and a multiple of the one that is asked for.
    uint64_t needed = 0;
    int most_shift = 0;
    for (unsigned i = 0; i < info_.planes; ++i) {
      const PlaneFormat& plane = info_.plane[i];
      const uint64_t groups = (to_.width + plane.width - 1) >> std::countr_zero(plane.width);
      to_.plane[i].row_bytes = groups * plane.bytes;
      const int shift = info_.stride_shift[i];
      most_shift = std::max(most_shift, shift);
      // A plane of twice the stride has an even row.
      needed = std::max(needed, Proportional(to_.plane[i].row_bytes, -shift));
    }
    uint64_t multiple = 0;
    if (__builtin_mul_overflow(limits_.stride_multiple, info_.stride_unit(), &multiple)) {
      return Refuse(kStrideMultiple, LayoutRule::kOverflow);
    }
    uint64_t stride = needed;
    LayoutField reason = to_.width_reason == kWidth ? kFormat : kWidthMultiple;
    if (limits_.stride_min > stride) {
      stride = limits_.stride_min;
      reason = kStrideMin;
    }
    if (limits_.stride_exact != 0) {
      if (limits_.stride_exact < stride) {
        return Refuse(kStrideExact, LayoutRule::kTooSmall, stride);
      }
      if (limits_.stride_exact % multiple != 0) {
        return Refuse(kStrideExact, LayoutRule::kNotMultiple, multiple);
      }
      stride = limits_.stride_exact;
      reason = kStrideExact;
    } else {
      const uint64_t before = stride;
      if (!RoundUpInPlace(stride, multiple)) {
        return Refuse(reason == kStrideMin ? kStrideMin : kStrideMultiple, LayoutRule::kOverflow);
      }
      if (stride != before && limits_.stride_multiple != 1) reason = kStrideMultiple;
    }
    if (stride > UINT64_MAX >> most_shift) return RefuseBytes(reason, 0);
    for (unsigned i = 0; i < info_.planes; ++i) {
      PlaneLayout& plane = to_.plane[i];
      plane.stride = Proportional(stride, info_.stride_shift[i]);
      plane.stride_reason = reason;
      if (plane.stride > limits_.stride_max) {
        return Refuse(kStrideMax, LayoutRule::kAboveMax, plane.stride, i);
      }
    }
    return {};
  }

  constexpr LayoutProblem MakePlanes() noexcept {
    using enum LayoutField;
    to_.planes = info_.planes;
    uint64_t end = 0;
    for (unsigned i = 0; i < info_.planes; ++i) {
      PlaneLayout& plane = to_.plane[i];
      const uint8_t rows_each = info_.plane[i].height;
      plane.rows = (to_.height + rows_each - 1) >> std::countr_zero(rows_each);
      plane.rows_reason = to_.height_reason == kHeight ? kFormat : kHeightMultiple;
      plane.offset = end;
      if (!RoundUpInPlace(plane.offset, limits_.plane_offset_multiple)) {
        return Refuse(kPlaneOffsetMultiple, LayoutRule::kOverflow, 0, i);
      }
      plane.offset_reason = plane.offset == end ? kFormat : kPlaneOffsetMultiple;
      uint64_t bytes = 0;
      if (__builtin_mul_overflow(plane.stride, plane.rows, &bytes) ||
          __builtin_add_overflow(plane.offset, bytes, &end)) {
        return plane.offset_reason == kPlaneOffsetMultiple
                   ? Refuse(kPlaneOffsetMultiple, LayoutRule::kOverflow, 0, i)
                   : RefuseBytes(plane.stride_reason, i);
      }
    }
    to_.image_bytes = end;
    return {};
  }

  constexpr LayoutProblem MakeTotal() noexcept {
    using enum LayoutField;
    uint64_t largest_stride = 0;
    for (const PlaneLayout& plane : to_.plane) {
      largest_stride = std::max(largest_stride, plane.stride);
    }
    uint64_t rows_bytes = 0;
    if (__builtin_mul_overflow(limits_.tail_rows, largest_stride, &rows_bytes)) {
      return Refuse(kTailRows, LayoutRule::kOverflow);
    }
    to_.tail_bytes = std::max(limits_.tail_bytes, rows_bytes);
    to_.tail_reason = to_.tail_bytes == 0               ? kNone
                      : rows_bytes > limits_.tail_bytes ? kTailRows
                                                        : kTailBytes;
    if (__builtin_add_overflow(to_.image_bytes, to_.tail_bytes, &to_.total_bytes)) {
      return Refuse(to_.tail_reason, LayoutRule::kOverflow);
    }
    to_.total_reason = to_.tail_reason == kNone ? kFormat : to_.tail_reason;
    if (const uint64_t stated = to_.spec.stated_bytes; stated != 0) {
      if (stated < to_.image_bytes) {
        return Refuse(kStatedBytes, LayoutRule::kTooSmall, to_.image_bytes);
      }
      if (stated >= to_.total_bytes) {
        to_.total_bytes = stated;
        to_.total_reason = kStatedBytes;
      }
    }
    const uint64_t before = to_.total_bytes;
    if (!RoundUpInPlace(to_.total_bytes, limits_.size_multiple)) {
      return Refuse(kSizeMultiple, LayoutRule::kOverflow);
    }
    if (to_.total_bytes != before) to_.total_reason = kSizeMultiple;
    return {};
  }

  const ImageConstraints& limits_;
  const PixelFormatInfo& info_;
  ImageLayout& to_;
};

}  // namespace internal

// Computes the layout of `spec` into `layout`. After a problem `layout` has no meaning.
constexpr LayoutProblem ComputeLayout(const ImageSpec& spec, ImageLayout& layout) noexcept {
  // The maker writes all of the rest.
  layout.spec = spec;
  layout.plane = {};
  return internal::LayoutMaker(layout.spec, layout).Make();
}

// The layout of a spec that is known at compile time. A spec that ComputeLayout refuses does not
// compile. The spec is an argument of a template: clang 14 at times returns a large object of a
// consteval function with its bytes out of place.
template <ImageSpec kSpec>
constexpr ImageLayout LayoutOf() noexcept {
  constexpr auto kMade = [] {
    std::pair<ImageLayout, LayoutProblem> made;
    made.second = ComputeLayout(kSpec, made.first);
    return made;
  }();
  static_assert(kMade.second.ok(), "this image has no layout: ComputeLayout names the problem");
  return kMade.first;
}

}  // namespace ion

#endif  // ION_ION_IMAGE_LAYOUT_H_
