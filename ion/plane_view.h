// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/plane_view.h
//
// PlaneView and ConstPlaneView: a plane of an image in memory, as rows with a stride. PlaneOf makes
// one from bytes, which a CpuAccess to a mapping has, and a layout (ion/image_layout.h). It views
// the bytes and does not own them: it is valid as long as the span from which it was made.
//
// Example:
//   absl::StatusOr<ion::CpuWrite> cpu = ion::CpuWrite::Begin(mapping);
//   if (!cpu.ok()) return cpu.status();
//   const absl::StatusOr<ion::PlaneView> luma = ion::PlaneOf(cpu->bytes(), layout, 0);
//   if (!luma.ok()) return luma.status();
//   for (uint64_t y = 0; y < luma->rows(); ++y) {
//     std::ranges::fill(luma->row(y), std::byte{16});
//   }
//   return std::move(*cpu).End();
//
// Cost: four words; row() is one comparison and one multiplication. Thread-compatible.
#ifndef ION_ION_PLANE_VIEW_H_
#define ION_ION_PLANE_VIEW_H_

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/base/check.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/image_layout.h"

namespace ion {

// `Byte` is std::byte, or const std::byte.
template <class Byte>
  requires std::same_as<std::remove_const_t<Byte>, std::byte>
class BasicPlaneView {
 public:
  // No rows.
  constexpr BasicPlaneView() = default;
  // A view of writable bytes is one of bytes that are read.
  template <std::same_as<std::byte> Writable>
    requires std::is_const_v<Byte>
  constexpr BasicPlaneView(const BasicPlaneView<Writable>& other) noexcept  // NOLINT: as a span
      : bytes_(other.bytes()),
        stride_(static_cast<size_t>(other.stride())),
        rows_(static_cast<size_t>(other.rows())),
        row_bytes_(static_cast<size_t>(other.row_bytes())) {}

  // The plane `plane` of an image that lies at the start of `bytes`. EINVAL: the layout does not
  // have that plane, or `bytes` ends before the plane's last pixel.
  static absl::StatusOr<BasicPlaneView> Of(std::span<Byte> bytes, const ImageLayout& layout,
                                           unsigned plane) noexcept {
    if (plane >= layout.planes || plane >= layout.plane.size()) return NoPlane(layout, plane);
    const PlaneLayout& at = layout.plane[plane];
    // A layout may be the caller's own: nothing of it is taken for granted.
    uint64_t last = 0, end = 0;
    if (at.rows == 0 || at.row_bytes > at.stride ||
        __builtin_mul_overflow(at.rows - 1, at.stride, &last) ||
        __builtin_add_overflow(last, at.row_bytes, &last) ||
        __builtin_add_overflow(last, at.offset, &end) || end > bytes.size()) {
      return TooShort(layout, plane, bytes.size());
    }
    BasicPlaneView view;
    view.bytes_ = bytes.subspan(static_cast<size_t>(at.offset), static_cast<size_t>(last));
    view.stride_ = static_cast<size_t>(at.stride);
    view.rows_ = static_cast<size_t>(at.rows);
    view.row_bytes_ = static_cast<size_t>(at.row_bytes);
    return view;
  }

  // The number of rows.
  constexpr uint64_t rows() const noexcept { return rows_; }
  // Bytes from the start of a row to that of the next.
  constexpr uint64_t stride() const noexcept { return stride_; }
  // Bytes of pixels in a row.
  constexpr uint64_t row_bytes() const noexcept { return row_bytes_; }
  // From the first pixel to the end of the last one; the bytes between two rows are in it.
  constexpr std::span<Byte> bytes() const noexcept { return bytes_; }
  // The pixels of row `y`. Requires: y < rows() (checked).
  constexpr std::span<Byte> row(uint64_t y) const noexcept {
    ION_CHECK(y < rows_, "a PlaneView was asked for a row that its plane does not have");
    return bytes_.subspan(static_cast<size_t>(y) * stride_, row_bytes_);
  }

 private:
  static absl::Status NoPlane(const ImageLayout& layout, unsigned plane) noexcept {
    return internal::WithMemory(
        [&] {
          return MakeStatus(EINVAL, absl::StrCat("plane ", plane, ": the layout has ",
                                                 layout.planes, ": EINVAL: count from 0"));
        },
        [] { return internal::CodeAlone(EINVAL); });
  }
  static absl::Status TooShort(const ImageLayout& layout, unsigned plane, size_t bytes) noexcept {
    const PlaneLayout& at = layout.plane[plane];
    return internal::WithMemory(
        [&] {
          return MakeStatus(
              EINVAL,
              absl::StrCat("plane ", plane, ": offset ", at.offset, " and ", at.rows, " rows of ",
                           at.row_bytes, " bytes with a stride of ", at.stride, " are no part of ",
                           bytes, " bytes: EINVAL: map the whole image, and allocate total_bytes"));
        },
        [] { return internal::CodeAlone(EINVAL); });
  }

  std::span<Byte> bytes_;
  size_t stride_ = 0;
  size_t rows_ = 0;
  size_t row_bytes_ = 0;
};

using PlaneView = BasicPlaneView<std::byte>;
using ConstPlaneView = BasicPlaneView<const std::byte>;

// The plane `plane` of an image that lies at the start of `bytes`: a PlaneView of writable bytes,
// otherwise a ConstPlaneView. Errors: those of BasicPlaneView::Of.
inline absl::StatusOr<PlaneView> PlaneOf(std::span<std::byte> bytes, const ImageLayout& layout,
                                         unsigned plane) noexcept {
  return PlaneView::Of(bytes, layout, plane);
}
inline absl::StatusOr<ConstPlaneView> PlaneOf(std::span<const std::byte> bytes,
                                              const ImageLayout& layout, unsigned plane) noexcept {
  return ConstPlaneView::Of(bytes, layout, plane);
}

}  // namespace ion

#endif  // ION_ION_PLANE_VIEW_H_
