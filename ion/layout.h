// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/layout.h
//
// Layouts of linear images at the public edge: MakeLayout, the request of a frame, and the sentence
// that explains a number of a layout. The rules, and the same at compile time without a Status, are
// in ion/image_layout.h; the bytes of a plane in a mapping are a PlaneView (ion/plane_view.h).
//
// Example:
//   const absl::StatusOr<ion::ImageLayout> layout = ion::MakeLayout({
//       .format = ion::PixelFormat::kNv12,
//       .width = 1920,
//       .height = 1080,
//       .limits = {.stride_multiple = 256},
//   });
//   if (!layout.ok()) return layout.status();
//   // "stride of plane 0 2048: width 1920 × 1 byte, rounded up to a multiple of 256"
//   const std::string why = ion::Explain(*layout, ion::LayoutNumber::kStride, 0);
//   return manager.Allocate(ion::FrameRequest(*layout));
//
// Cost: MakeLayout is ComputeLayout and a copy of the layout, without heap memory unless it fails;
// a sentence allocates. Thread-safe.
#ifndef ION_ION_LAYOUT_H_
#define ION_ION_LAYOUT_H_

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/frame_shape.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "ion/request.h"

namespace ion {

// The name of a field, as it is written in ImageSpec or ImageConstraints.
constexpr std::string_view LayoutFieldName(LayoutField field) noexcept {
  switch (field) {
    case LayoutField::kNone:
      return "none";
    case LayoutField::kFormat:
      return "format";
    case LayoutField::kModifier:
      return "modifier";
    case LayoutField::kWidth:
      return "width";
    case LayoutField::kHeight:
      return "height";
    case LayoutField::kStrideMultiple:
      return "stride_multiple";
    case LayoutField::kStrideMin:
      return "stride_min";
    case LayoutField::kStrideMax:
      return "stride_max";
    case LayoutField::kStrideExact:
      return "stride_exact";
    case LayoutField::kWidthMultiple:
      return "width_multiple";
    case LayoutField::kHeightMultiple:
      return "height_multiple";
    case LayoutField::kPlaneOffsetMultiple:
      return "plane_offset_multiple";
    case LayoutField::kBaseAlign:
      return "base_align";
    case LayoutField::kTailBytes:
      return "tail_bytes";
    case LayoutField::kTailRows:
      return "tail_rows";
    case LayoutField::kSizeMultiple:
      return "size_multiple";
    case LayoutField::kStatedBytes:
      return "stated_bytes";
  }
  return "?";
}

// A number of a layout.
enum class LayoutNumber : uint8_t {
  kWidth,     // allocated
  kHeight,    // allocated
  kStride,    // of a plane
  kOffset,    // of a plane
  kRows,      // of a plane
  kRowBytes,  // of a plane
  kTail,      // bytes after the image
  kTotal,     // bytes of the buffer
};

namespace internal {

inline std::string LayoutProblemText(const ImageSpec& spec, const LayoutProblem& problem) {
  const absl::string_view field = View(LayoutFieldName(problem.field));
  std::string text = absl::StrCat("layout of ", View(InfoOf(spec.format).name), " ", spec.width,
                                  "x", spec.height, ": ", field, " ");
  if (problem.field == LayoutField::kModifier) {
    absl::StrAppend(&text, "0x", absl::Hex(problem.value));
  } else {
    absl::StrAppend(&text, problem.value);
  }
  switch (problem.rule) {
    case LayoutRule::kNone:
      break;
    case LayoutRule::kUnknown:
      absl::StrAppend(&text,
                      " is none of the table's: EINVAL: name one of ion/pixel_format.h, or "
                      "take the layout from the device that exports the buffer");
      break;
    case LayoutRule::kTiled:
      absl::StrAppend(&text,
                      " is not linear: ENOTSUP: the layout of a tiled image is not computed; "
                      "it comes from the exporter of the buffer");
      break;
    case LayoutRule::kZero:
      absl::StrAppend(&text, ": EINVAL: it is at least 1");
      break;
    case LayoutRule::kTooLarge:
      absl::StrAppend(&text,
                      " leads to 2^32 pixels or more: EINVAL: the kernel's interfaces count "
                      "them in 32 bits");
      break;
    case LayoutRule::kPartialGroup: {
      const bool across =
          problem.field == LayoutField::kWidth || problem.field == LayoutField::kWidthMultiple;
      absl::StrAppend(&text, " leads to a size that is no whole number of the format's groups of ",
                      problem.other, ": EINVAL: state the coded size, ask for a multiple of ",
                      problem.other, " in ", across ? "width_multiple" : "height_multiple",
                      ", or take OddSize::kCover");
      break;
    }
    case LayoutRule::kNotPowerOfTwo:
      absl::StrAppend(&text, " is no power of two: EINVAL: no memory promises such an address");
      break;
    case LayoutRule::kTooSmall:
      absl::StrAppend(&text, " is too small: EINVAL: ",
                      problem.field == LayoutField::kStatedBytes ? "the image"
                      : problem.other == spec.limits.stride_min  ? "stride_min"
                                                                 : "a row",
                      " needs ", problem.other, " bytes");
      break;
    case LayoutRule::kNotMultiple:
      absl::StrAppend(&text, " is no multiple of ", problem.other, ": EINVAL: ");
      if (problem.other == spec.limits.stride_multiple) {
        absl::StrAppend(&text, "that is stride_multiple");
      } else {
        absl::StrAppend(&text, "a plane has 1/", problem.other / spec.limits.stride_multiple,
                        " of it, in multiples of stride_multiple ", spec.limits.stride_multiple);
      }
      break;
    case LayoutRule::kAboveMax:
      absl::StrAppend(&text, " is less than the stride of plane ", unsigned{problem.plane}, ", ",
                      problem.other, " bytes: EINVAL: ask for a smaller image");
      break;
    case LayoutRule::kOverflow:
      absl::StrAppend(&text, " leads to more bytes than 64 bits count: EOVERFLOW: ask for less");
      break;
  }
  return text;
}

constexpr int ErrnoOfRule(LayoutRule rule) noexcept {
  switch (rule) {
    case LayoutRule::kTiled:
      return ENOTSUP;
    case LayoutRule::kOverflow:
      return EOVERFLOW;
    default:
      return EINVAL;
  }
}

}  // namespace internal

// A Status of a refusal of `spec`: `layout of <format> <size>: <field> <value> <rule>: <errno>:
// <advice>`. EINVAL; EOVERFLOW for a result of more than 64 bits; ENOTSUP for a tiled image.
[[nodiscard]] inline absl::Status ToStatus(const ImageSpec& spec,
                                           const LayoutProblem& problem) noexcept {
  if (problem.ok()) return absl::OkStatus();
  const int code = internal::ErrnoOfRule(problem.rule);
  return internal::WithMemory(
      [&] { return MakeStatus(code, internal::LayoutProblemText(spec, problem)); },
      [&] { return internal::CodeAlone(code); });
}

// The layout of `spec` (ion/image_layout.h has the rules). Errors: those of ToStatus above.
[[nodiscard]] inline absl::StatusOr<ImageLayout> MakeLayout(const ImageSpec& spec) noexcept {
  absl::StatusOr<ImageLayout> layout{ImageLayout{}};
  const LayoutProblem problem = ComputeLayout(spec, *layout);
  if (!problem.ok()) return ToStatus(spec, problem);
  return layout;
}

// A request for a frame: `like` with the layout's bytes and its image, and at least the alignment of
// base_align. Requires: MakeLayout made the layout.
[[nodiscard]] constexpr Request FrameRequest(const ImageLayout& layout,
                                             Request like = {}) noexcept {
  like.bytes = layout.total_bytes;
  like.frame = {.format = layout.spec.format,
                .width = static_cast<uint32_t>(layout.spec.width),
                .height = static_cast<uint32_t>(layout.spec.height),
                .stride = layout.plane[0].stride};
  like.alignment = std::max(like.alignment, layout.spec.limits.base_align);
  return like;
}

namespace internal {

inline std::string Counted(uint64_t n, absl::string_view one) {
  return absl::StrCat(n, " ", one, n == 1 ? "" : "s");
}

inline void AppendRoundUp(std::string* text, uint64_t multiple) {
  absl::StrAppend(text, ", rounded up to a multiple of ", multiple);
}

// "width 1920 × 1 byte", "width 1920 × 5 bytes for 4 pixels".
inline std::string RowText(const ImageLayout& layout, unsigned plane) {
  const PlaneFormat& format = InfoOf(layout.spec.format).plane[plane];
  std::string text = absl::StrCat("width ", layout.width, " × ", Counted(format.bytes, "byte"));
  if (format.width > 1) absl::StrAppend(&text, " for ", unsigned{format.width}, " pixels");
  return text;
}

inline std::string StrideText(const ImageLayout& layout, unsigned plane) {
  const PixelFormatInfo& info = InfoOf(layout.spec.format);
  const ImageConstraints& limits = layout.spec.limits;
  if (const int shift = info.stride_shift[plane]; plane != 0) {
    return absl::StrCat(shift > 0 ? absl::StrCat(1 << shift, " × ") : std::string(),
                        "the stride of plane 0, ", layout.plane[0].stride,
                        shift < 0 ? absl::StrCat(" / ", 1 << -shift) : std::string());
  }
  std::string row = RowText(layout, 0);
  if (limits.stride_exact != 0) return absl::StrCat("stride_exact, and a row has ", row);
  std::string text = limits.stride_min > layout.plane[0].row_bytes
                         ? absl::StrCat("stride_min ", limits.stride_min, ", above a row's ", row)
                         : std::move(row);
  const uint64_t whole = info.stride_unit();
  const uint64_t multiple = limits.stride_multiple * whole;
  if (layout.width % info.width_unit != 0) {
    absl::StrAppend(&text, ", for whole groups of ", unsigned{info.width_unit}, " pixels");
  }
  if (multiple != 1) {
    AppendRoundUp(&text, multiple);
    if (whole != 1) {
      absl::StrAppend(&text, " (stride_multiple ", limits.stride_multiple, " × ", whole,
                      ", for a plane with 1/", whole, " of the stride)");
    }
  }
  return text;
}

inline std::string OffsetText(const ImageLayout& layout, unsigned plane) {
  if (plane == 0) return "the start of the buffer";
  const PlaneLayout& before = layout.plane[plane - 1];
  std::string text = absl::StrCat("the end of plane ", plane - 1, ": offset ", before.offset, " + ",
                                  before.rows, " rows × ", before.stride, " bytes");
  if (layout.spec.limits.plane_offset_multiple != 1) {
    AppendRoundUp(&text, layout.spec.limits.plane_offset_multiple);
  }
  return text;
}

inline std::string TailText(const ImageLayout& layout) {
  switch (layout.tail_reason) {
    case LayoutField::kTailBytes:
      return "tail_bytes";
    case LayoutField::kTailRows:
      return absl::StrCat("tail_rows ", layout.spec.limits.tail_rows,
                          " × the largest stride of the planes");
    default:
      return "no device reads past the image";
  }
}

inline std::string TotalText(const ImageLayout& layout) {
  const uint64_t stated = layout.spec.stated_bytes;
  const uint64_t needed = layout.image_bytes + layout.tail_bytes;
  std::string text;
  if (stated != 0 && stated >= needed) {
    absl::StrAppend(&text, "stated_bytes ", stated, "; the image has ", layout.image_bytes);
  } else {
    absl::StrAppend(&text, "the image's ", layout.image_bytes, " bytes");
  }
  if (layout.tail_bytes != 0) {
    absl::StrAppend(&text, " and a tail of ", layout.tail_bytes, " (", TailText(layout), ")");
  }
  if (layout.spec.limits.size_multiple != 1) {
    AppendRoundUp(&text, layout.spec.limits.size_multiple);
  }
  return text;
}

}  // namespace internal

// Returns the origin of a number of a layout as a sentence: "stride of plane 1 1024: the stride of
// plane 0, 2048 / 2". `plane` is for the numbers of a plane; for one that the format lacks the
// sentence says so.
[[nodiscard]] inline std::string Explain(const ImageLayout& layout, LayoutNumber number,
                                         unsigned plane = 0) {
  if (plane >= layout.planes) {
    return absl::StrCat("plane ", plane, ": ", internal::View(InfoOf(layout.spec.format).name),
                        " has ", internal::Counted(layout.planes, "plane"));
  }
  const PlaneLayout& at = layout.plane[plane];
  const ImageConstraints& limits = layout.spec.limits;
  const auto size = [&](absl::string_view name, uint64_t value, uint64_t stated,
                        uint64_t multiple) {
    std::string text = absl::StrCat(name, " ", value, ": the image's ", stated);
    if (multiple != 1) internal::AppendRoundUp(&text, multiple);
    return text;
  };
  switch (number) {
    case LayoutNumber::kWidth:
      return size("width", layout.width, layout.spec.width, limits.width_multiple);
    case LayoutNumber::kHeight:
      return size("height", layout.height, layout.spec.height, limits.height_multiple);
    case LayoutNumber::kStride:
      return absl::StrCat("stride of plane ", plane, " ", at.stride, ": ",
                          internal::StrideText(layout, plane));
    case LayoutNumber::kOffset:
      return absl::StrCat("offset of plane ", plane, " ", at.offset, ": ",
                          internal::OffsetText(layout, plane));
    case LayoutNumber::kRows: {
      const unsigned each = InfoOf(layout.spec.format).plane[plane].height;
      return absl::StrCat("rows of plane ", plane, " ", at.rows, ": height ", layout.height,
                          each > 1 ? absl::StrCat(" / ", each) : std::string());
    }
    case LayoutNumber::kRowBytes:
      return absl::StrCat("bytes of a row of plane ", plane, " ", at.row_bytes, ": ",
                          internal::RowText(layout, plane));
    case LayoutNumber::kTail:
      return absl::StrCat("tail ", layout.tail_bytes, ": ", internal::TailText(layout));
    case LayoutNumber::kTotal:
      return absl::StrCat("total ", layout.total_bytes, ": ", internal::TotalText(layout));
  }
  return {};
}

}  // namespace ion

#endif  // ION_ION_LAYOUT_H_
