// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/image_constraints.h
//
// ImageConstraints: the limits of an image's layout that all parties share, as plain values. A
// merge of constraints gives it (ion/merge.h), and the computation of a layout takes it. The
// defaults limit nothing. For the origin of a value, ask the merge.
//
// Cost: plain data, 88 bytes. Thread-compatible.
#ifndef ION_ION_IMAGE_CONSTRAINTS_H_
#define ION_ION_IMAGE_CONSTRAINTS_H_

#include <cstdint>

namespace ion {

struct ImageConstraints {
  uint64_t stride_multiple = 1;        // bytes; each plane's stride is a multiple of it
  uint64_t stride_min = 0;             // bytes
  uint64_t stride_max = UINT64_MAX;    // bytes
  uint64_t stride_exact = 0;           // bytes; 0: none is prescribed
  uint64_t width_multiple = 1;         // pixels, of the allocated width
  uint64_t height_multiple = 1;        // rows, of the allocated height
  uint64_t plane_offset_multiple = 1;  // bytes, of each plane's start in the buffer
  uint64_t base_align = 1;             // bytes, of the buffer's start
  uint64_t tail_bytes = 0;             // bytes that have to follow the image
  uint64_t tail_rows = 0;              // rows that have to follow the image
  uint64_t size_multiple = 1;          // bytes, of the whole buffer

  friend constexpr bool operator==(const ImageConstraints&, const ImageConstraints&) = default;
};

}  // namespace ion

#endif  // ION_ION_IMAGE_CONSTRAINTS_H_
