// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Layouts of linear images: numbers that are known from drivers, the origin of each number, and
// input of which each field is refused by its name.

#include "ion/layout.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/base/status.h"
#include "ion/heap_id.h"
#include "ion/image_constraints.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "ion/plane_view.h"
#include "ion/request.h"
#include "tests/support/fault_new.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

using enum PixelFormat;

using Rule = LayoutRule;

constexpr ImageSpec Spec(PixelFormat format, uint64_t width, uint64_t height,
                         ImageConstraints limits = {}) {
  return {.format = format, .width = width, .height = height, .limits = limits};
}
constexpr LayoutProblem ProblemOf(const ImageSpec& spec) {
  ImageLayout layout;
  return ComputeLayout(spec, layout);
}
constexpr bool Refused(const ImageSpec& spec, LayoutField field, LayoutRule rule) {
  const LayoutProblem problem = ProblemOf(spec);
  return problem.field == field && problem.rule == rule;
}

// Known at compile time: an image without a limit is packed.
constexpr ImageLayout kPlain = LayoutOf<Spec(kNv12, 1920, 1080)>();
static_assert(kPlain.planes == 2 && kPlain.plane[0].stride == 1920 &&
              kPlain.plane[1].stride == 1920);
static_assert(kPlain.plane[1].offset == 1920 * 1080 && kPlain.plane[1].rows == 540);
static_assert(kPlain.total_bytes == 1920 * 1080 * 3 / 2);
// 1920 is a multiple of 64; of 256 it is not.
static_assert(LayoutOf<Spec(kNv12, 1920, 1080, {.stride_multiple = 64})>().plane == kPlain.plane);
constexpr ImageLayout kWide = LayoutOf<Spec(kNv12, 1920, 1080, {.stride_multiple = 256})>();
static_assert(kWide.plane[0].stride == 2048 && kWide.plane[1].offset == 2048 * 1080);
static_assert(kWide.plane[0].stride_reason == LayoutField::kStrideMultiple);
// The camera's 48 and the GPU's 64.
static_assert(LayoutOf<Spec(kRgb888, 640, 480, {.stride_multiple = 192})>().plane[0].stride ==
              1920);
static_assert(LayoutOf<Spec(kRgb888, 650, 480, {.stride_multiple = 192})>().plane[0].stride ==
              2112);
// Each of three planes has a stride that is a multiple of 64, and the planes stay in proportion.
constexpr ImageLayout kThree = LayoutOf<Spec(kYuv420, 1920, 1080, {.stride_multiple = 64})>();
static_assert(kThree.plane[0].stride == 1920 && kThree.plane[1].stride == 960);
static_assert(LayoutOf<Spec(kYuv420, 1984, 1080, {.stride_multiple = 64})>().plane[0].stride ==
              2048);
static_assert(LayoutOf<Spec(kYuv410, 640, 480, {.stride_multiple = 64})>().plane[2].stride == 192);
static_assert(LayoutOf<Spec(kNv24, 640, 480, {.stride_multiple = 64})>().plane[1].stride == 1280);
// A decoder with macroblocks of 16 x 16: 1088 rows.
constexpr ImageLayout kCoded =
    LayoutOf<Spec(kNv12, 1920, 1080, {.width_multiple = 16, .height_multiple = 16})>();
static_assert(kCoded.height == 1088 && kCoded.plane[1].rows == 544);
static_assert(kCoded.total_bytes == 1920 * 1088 * 3 / 2);
// Qualcomm's venus: a stride of 128, Y in 32 rows, Cb and Cr in 16, the whole in pages.
constexpr ImageLayout kVenus = LayoutOf<Spec(
    kNv12, 1280, 720, {.stride_multiple = 128, .height_multiple = 32, .size_multiple = 4096})>();
static_assert(kVenus.plane[0].rows == 736 && kVenus.plane[1].rows == 368);
static_assert(kVenus.total_bytes == (1280 * 736 * 3 / 2 + 4095) / 4096 * 4096);
// Four samples in five bytes.
static_assert(LayoutOf<Spec(kBayer10Packed, 3280, 2464)>().plane[0].stride == 4100);
static_assert(LayoutOf<Spec(kNv15, 1920, 1080)>().plane[1].stride == 2400);
static_assert(LayoutOf<Spec(kBayer12Packed, 4056, 3040)>().total_bytes == 6084ull * 3040);
static_assert(LayoutOf<Spec(kP010, 1920, 1080)>().plane[1].stride == 3840);

TEST_CASE("ImageLayout: rows that a device reads past the image follow it") {
  // V3D reads up to 64 rows past a linear image that it imports.
  constexpr ImageLayout kRows = LayoutOf<Spec(kXrgb8888, 640, 480, {.tail_rows = 64})>();
  CHECK(kRows.image_bytes == 2560 * 480);
  CHECK(kRows.tail_bytes == 2560 * 64);
  CHECK(kRows.total_bytes == 2560 * 544);
  CHECK(kRows.total_reason == LayoutField::kTailRows);
  // Of two tails the larger one: both devices read the same bytes.
  constexpr ImageLayout kBoth =
      LayoutOf<Spec(kXrgb8888, 640, 480, {.tail_bytes = 200'000, .tail_rows = 64})>();
  CHECK(kBoth.tail_bytes == 200'000);
  CHECK(kBoth.tail_reason == LayoutField::kTailBytes);
  // Of planes with several strides the largest.
  CHECK(LayoutOf<Spec(kNv24, 640, 480, {.tail_rows = 2})>().tail_bytes == 2560);
  CHECK(LayoutOf<Spec(kYuv420, 640, 480, {.tail_rows = 2})>().tail_bytes == 1280);
}

TEST_CASE("ImageLayout: a stride and a size that a device states are taken as stated") {
  constexpr ImageLayout kStride = LayoutOf<Spec(kYuyv, 640, 480, {.stride_exact = 1300})>();
  CHECK(kStride.plane[0].stride == 1300);
  CHECK(kStride.plane[0].row_bytes == 1280);
  CHECK(kStride.plane[0].stride_reason == LayoutField::kStrideExact);
  // Intel's media driver wants 618496 bytes for a YUYV image of 614400.
  ImageSpec spec = Spec(kYuyv, 640, 480);
  spec.stated_bytes = 618'496;
  absl::StatusOr<ImageLayout> layout = MakeLayout(spec);
  REQUIRE(layout.ok());
  CHECK(layout->image_bytes == 614'400);
  CHECK(layout->total_bytes == 618'496);
  CHECK(layout->total_reason == LayoutField::kStatedBytes);
  // Others may need more than one device states.
  spec.limits.tail_bytes = 8192;
  layout = MakeLayout(spec);
  REQUIRE(layout.ok());
  CHECK(layout->total_bytes == 614'400 + 8192);
  spec.limits.size_multiple = 65'536;
  layout = MakeLayout(spec);
  REQUIRE(layout.ok());
  CHECK(layout->total_bytes == 655'360);
  CHECK(layout->total_reason == LayoutField::kSizeMultiple);
}

TEST_CASE("ImageLayout: each plane begins at a multiple of plane_offset_multiple") {
  const ImageLayout layout = LayoutOf<Spec(kYuv420, 100, 50, {.plane_offset_multiple = 4096})>();
  CHECK(layout.plane[0].offset == 0);
  CHECK(layout.plane[1].offset == 8192);
  CHECK(layout.plane[2].offset == 12'288);
  CHECK(layout.plane[2].offset_reason == LayoutField::kPlaneOffsetMultiple);
  CHECK(layout.total_bytes == 12'288 + 50 * 25);
}

TEST_CASE(
    "ImageLayout: an odd size is refused, unless the allocated size or kCover has room for it") {
  using enum LayoutField;
  static_assert(Refused(Spec(kNv12, 1919, 1080), kWidth, Rule::kPartialGroup));
  static_assert(Refused(Spec(kNv12, 1920, 1079), kHeight, Rule::kPartialGroup));
  static_assert(Refused(Spec(kYuyv, 641, 480), kWidth, Rule::kPartialGroup));
  static_assert(Refused(Spec(kBayer10Packed, 1366, 768), kWidth, Rule::kPartialGroup));
  static_assert(Refused(Spec(kNv12, 1920, 1080, {.width_multiple = 641}), kWidthMultiple,
                        Rule::kPartialGroup));
  CHECK(ProblemOf(Spec(kNv16, 1920, 1079)).ok());
  CHECK(ProblemOf(Spec(kXrgb8888, 1919, 1079)).ok());
  CHECK(ProblemOf(Spec(kBayer8, 1919, 1079)).ok());
  CHECK(ProblemOf(Spec(kNv12, 1919, 1079, {.width_multiple = 2, .height_multiple = 2})).ok());
  ImageSpec spec = Spec(kYuv420, 5, 5);
  spec.odd = OddSize::kCover;
  const absl::StatusOr<ImageLayout> layout = MakeLayout(spec);
  REQUIRE(layout.ok());
  CHECK(layout->plane[0].stride == 6);  // twice the three samples of Cb
  CHECK(layout->plane[0].row_bytes == 5);
  CHECK(layout->plane[0].rows == 5);
  CHECK(layout->plane[1].stride == 3);
  CHECK(layout->plane[1].rows == 3);
  spec = Spec(kBayer10Packed, 1366, 2);
  spec.odd = OddSize::kCover;
  CHECK(MakeLayout(spec)->plane[0].stride == 1710);
}

TEST_CASE("ImageLayout: each field of bad input is refused by its name") {
  using enum LayoutField;
  constexpr uint64_t k2p32 = uint64_t{1} << 32;
  struct Row {
    ImageSpec spec;
    LayoutField field;
    LayoutRule rule;
    int code;
    std::string_view text;
  };
  const auto tiled = [] {
    ImageSpec spec = Spec(kNv12, 64, 64);
    spec.modifier = 0x0100000000000002;  // I915_FORMAT_MOD_Y_TILED
    return spec;
  }();
  const auto small = [] {
    ImageSpec spec = Spec(kNv12, 64, 64);
    spec.stated_bytes = 64 * 96 - 1;
    return spec;
  }();
  const Row rows[] = {
      {Spec(PixelFormat::kNone, 64, 64), kFormat, Rule::kUnknown, EINVAL,
       "format 0 is none of the table's"},
      {Spec(static_cast<PixelFormat>(200), 64, 64), kFormat, Rule::kUnknown, EINVAL,
       "format 200 is none of the table's"},
      {tiled, kModifier, Rule::kTiled, ENOTSUP,
       "layout of NV12 64x64: modifier 0x100000000000002 is not linear: ENOTSUP: the layout of a "
       "tiled "
       "image is not computed; it comes from the exporter of the buffer"},
      {Spec(kNv12, 0, 64), kWidth, Rule::kZero, EINVAL, "width 0: EINVAL: it is at least 1"},
      {Spec(kNv12, 64, 0), kHeight, Rule::kZero, EINVAL, "height 0"},
      {Spec(kNv12, k2p32, 64), kWidth, Rule::kTooLarge, EINVAL,
       "width 4294967296 leads to 2^32 pixels"},
      {Spec(kNv12, 64, UINT64_MAX), kHeight, Rule::kTooLarge, EINVAL,
       "height 18446744073709551615"},
      {Spec(kNv12, 63, 64), kWidth, Rule::kPartialGroup, EINVAL,
       "width 63 leads to a size that is no whole number of the format's groups of 2: EINVAL: "
       "state "
       "the coded size, ask for a multiple of 2 in width_multiple, or take OddSize::kCover"},
      {Spec(kNv12, 64, 64, {.stride_multiple = 0}), kStrideMultiple, Rule::kZero, EINVAL,
       "stride_multiple 0"},
      {Spec(kNv12, 64, 64, {.stride_max = 0}), kStrideMax, Rule::kZero, EINVAL, "stride_max 0"},
      {Spec(kNv12, 64, 64, {.width_multiple = 0}), kWidthMultiple, Rule::kZero, EINVAL,
       "width_multiple 0"},
      {Spec(kNv12, 64, 64, {.height_multiple = 0}), kHeightMultiple, Rule::kZero, EINVAL,
       "height_multiple 0"},
      {Spec(kNv12, 64, 64, {.plane_offset_multiple = 0}), kPlaneOffsetMultiple, Rule::kZero, EINVAL,
       "plane_offset_multiple 0"},
      {Spec(kNv12, 64, 64, {.base_align = 0}), kBaseAlign, Rule::kZero, EINVAL, "base_align 0"},
      {Spec(kNv12, 64, 64, {.size_multiple = 0}), kSizeMultiple, Rule::kZero, EINVAL,
       "size_multiple 0"},
      {Spec(kNv12, 64, 64, {.base_align = 48}), kBaseAlign, Rule::kNotPowerOfTwo, EINVAL,
       "base_align 48 is no power of two"},
      {Spec(kNv12, 64, 64, {.width_multiple = k2p32}), kWidthMultiple, Rule::kTooLarge, EINVAL,
       "width_multiple 4294967296 leads to 2^32 pixels"},
      {Spec(kNv12, 64, 64, {.height_multiple = UINT64_MAX}), kHeightMultiple, Rule::kTooLarge,
       EINVAL, "height_multiple 18446744073709551615"},
      {Spec(kNv12, 1920, 64, {.stride_exact = 1919}), kStrideExact, Rule::kTooSmall, EINVAL,
       "stride_exact 1919 is too small: EINVAL: a row needs 1920 bytes"},
      {Spec(kNv12, 1920, 64, {.stride_min = 4000, .stride_exact = 2048}), kStrideExact,
       Rule::kTooSmall, EINVAL,
       "stride_exact 2048 is too small: EINVAL: stride_min needs 4000 bytes"},
      {Spec(kNv12, 1920, 64, {.stride_multiple = 64, .stride_exact = 2000}), kStrideExact,
       Rule::kNotMultiple, EINVAL,
       "stride_exact 2000 is no multiple of 64: EINVAL: that is stride_multiple"},
      {Spec(kYuv420, 1920, 64, {.stride_multiple = 64, .stride_exact = 1984}), kStrideExact,
       Rule::kNotMultiple, EINVAL,
       "stride_exact 1984 is no multiple of 128: EINVAL: a plane has 1/2 of it, in multiples of "
       "stride_multiple 64"},
      {Spec(kYuv420, 1920, 64, {.stride_exact = 1921}), kStrideExact, Rule::kNotMultiple, EINVAL,
       "stride_exact 1921 is no multiple of 2"},
      {Spec(kNv12, 1920, 64, {.stride_max = 1919}), kStrideMax, Rule::kAboveMax, EINVAL,
       "stride_max 1919 is less than the stride of plane 0, 1920 bytes"},
      {Spec(kNv24, 1920, 64, {.stride_max = 2048}), kStrideMax, Rule::kAboveMax, EINVAL,
       "stride_max 2048 is less than the stride of plane 1, 3840 bytes"},
      {Spec(kYuv420, 64, 64, {.stride_multiple = UINT64_MAX / 2 + 1}), kStrideMultiple,
       Rule::kOverflow, EOVERFLOW,
       "stride_multiple 9223372036854775808 leads to more bytes than 64 bits count"},
      {Spec(kNv12, 64, 64, {.stride_multiple = 3, .stride_min = UINT64_MAX - 1}), kStrideMin,
       Rule::kOverflow, EOVERFLOW, "stride_min 18446744073709551614 leads to more"},
      {Spec(kNv12, 64, 64, {.stride_multiple = 4, .stride_min = UINT64_MAX - 1}), kStrideMin,
       Rule::kOverflow, EOVERFLOW, "stride_min 18446744073709551614 leads to more"},
      {Spec(kNv24, 64, 64, {.stride_min = UINT64_MAX / 2 + 1}), kStrideMin, Rule::kOverflow,
       EOVERFLOW, "stride_min 9223372036854775808 leads to more"},
      {Spec(kNv12, 64, 64, {.stride_exact = UINT64_MAX / 2}), kStrideExact, Rule::kOverflow,
       EOVERFLOW, "stride_exact 9223372036854775807 leads to more"},
      {Spec(kAbgr16161616, k2p32 - 1, k2p32 - 1), kHeight, Rule::kOverflow, EOVERFLOW,
       "height 4294967295 leads to more"},
      {Spec(kNv12, 64, 64, {.plane_offset_multiple = UINT64_MAX}), kPlaneOffsetMultiple,
       Rule::kOverflow, EOVERFLOW, "plane_offset_multiple 18446744073709551615 leads to more"},
      {Spec(kYuv420, 64, 64, {.plane_offset_multiple = UINT64_MAX / 2 + 2}), kPlaneOffsetMultiple,
       Rule::kOverflow, EOVERFLOW, "plane_offset_multiple 9223372036854775809 leads to more"},
      {Spec(kNv12, 64, 64, {.tail_rows = UINT64_MAX / 8}), kTailRows, Rule::kOverflow, EOVERFLOW,
       "tail_rows 2305843009213693951 leads to more"},
      {Spec(kNv12, 64, 64, {.tail_bytes = UINT64_MAX}), kTailBytes, Rule::kOverflow, EOVERFLOW,
       "tail_bytes 18446744073709551615 leads to more"},
      {Spec(kNv12, 64, 64, {.tail_bytes = UINT64_MAX / 2 + 9, .size_multiple = UINT64_MAX / 2 + 9}),
       kSizeMultiple, Rule::kOverflow, EOVERFLOW,
       "size_multiple 9223372036854775816 leads to more"},
      {small, kStatedBytes, Rule::kTooSmall, EINVAL,
       "stated_bytes 6143 is too small: EINVAL: the image needs 6144 bytes"},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.text));
    const LayoutProblem problem = ProblemOf(row.spec);
    CHECK(LayoutFieldName(problem.field) == LayoutFieldName(row.field));
    CHECK(static_cast<int>(problem.rule) == static_cast<int>(row.rule));
    const absl::Status status = MakeLayout(row.spec).status();
    CHECK(ErrnoOf(status) == row.code);
    const std::string text(status.message());
    CAPTURE(text);
    CHECK(text.find(row.text) != std::string::npos);
    CHECK(text.starts_with("layout of "));
  }
}

TEST_CASE("ImageLayout: each number has an origin, as a sentence") {
  using enum LayoutNumber;
  CHECK(Explain(kWide, kStride) ==
        "stride of plane 0 2048: width 1920 × 1 byte, rounded up to a multiple of 256");
  CHECK(Explain(kWide, kStride, 1) == "stride of plane 1 2048: the stride of plane 0, 2048");
  CHECK(Explain(kWide, kOffset) == "offset of plane 0 0: the start of the buffer");
  CHECK(Explain(kWide, kOffset, 1) ==
        "offset of plane 1 2211840: the end of plane 0: offset 0 + 1080 rows × 2048 bytes");
  CHECK(Explain(kWide, kRows, 1) == "rows of plane 1 540: height 1080 / 2");
  CHECK(Explain(kWide, kRowBytes, 1) ==
        "bytes of a row of plane 1 1920: width 1920 × 2 bytes for 2 pixels");
  CHECK(Explain(kWide, kTotal) == "total 3317760: the image's 3317760 bytes");
  CHECK(Explain(kWide, kTail) == "tail 0: no device reads past the image");
  CHECK(Explain(kWide, kStride, 2) == "plane 2: NV12 has 2 planes");
  CHECK(Explain(kCoded, kHeight) ==
        "height 1088: the image's 1080, rounded up to a multiple of 16");
  CHECK(Explain(kPlain, kWidth) == "width 1920: the image's 1920");

  ImageSpec spec = Spec(kYuv420, 1920, 1080,
                        {.stride_multiple = 64,
                         .stride_min = 2000,
                         .plane_offset_multiple = 4096,
                         .tail_rows = 64,
                         .size_multiple = 65'536});
  absl::StatusOr<ImageLayout> layout = MakeLayout(spec);
  REQUIRE(layout.ok());
  CHECK(Explain(*layout, kStride) ==
        "stride of plane 0 2048: stride_min 2000, above a row's width 1920 × 1 byte, rounded up to "
        "a multiple of 128 (stride_multiple 64 × 2, for a plane with 1/2 of the stride)");
  CHECK(Explain(*layout, kStride, 2) == "stride of plane 2 1024: the stride of plane 0, 2048 / 2");
  CHECK(Explain(*layout, kOffset, 2) ==
        "offset of plane 2 2764800: the end of plane 1: offset 2211840 + 540 rows × 1024 bytes, "
        "rounded up to a multiple of 4096");
  CHECK(Explain(*layout, kTail) == "tail 131072: tail_rows 64 × the largest stride of the planes");
  CHECK(Explain(*layout, kTotal) ==
        "total 3473408: the image's 3317760 bytes and a tail of 131072 (tail_rows 64 × the largest "
        "stride of the planes), rounded up to a multiple of 65536");
  spec = Spec(kNv12, 5, 4);
  spec.odd = OddSize::kCover;
  layout = MakeLayout(spec);
  REQUIRE(layout.ok());
  CHECK(Explain(*layout, kStride) ==
        "stride of plane 0 6: width 5 × 1 byte, for whole groups of 2 pixels");
  spec = Spec(kNv24, 64, 64, {.stride_exact = 100});
  spec.stated_bytes = 20'000;
  layout = MakeLayout(spec);
  REQUIRE(layout.ok());
  CHECK(Explain(*layout, kStride) ==
        "stride of plane 0 100: stride_exact, and a row has width 64 × 1 byte");
  CHECK(Explain(*layout, kStride, 1) == "stride of plane 1 200: 2 × the stride of plane 0, 100");
  CHECK(Explain(*layout, kTotal) == "total 20000: stated_bytes 20000; the image has 19200");
}

// A random limit, often none, sometimes a hostile one.
[[maybe_unused]] uint64_t Limit(std::mt19937_64& random, uint64_t none) {
  switch (random() % 8) {
    case 0:
      return uint64_t{1} << random() % 64;
    case 1:
      return random() % 300;
    case 2:
      return UINT64_MAX - random() % 4;
    default:
      return none;
  }
}

TEST_CASE("ImageLayout: of any input, a layout that is not refused keeps each limit") {
#ifndef __SIZEOF_INT128__
  Skip("the compiler has no integer of 128 bits for this machine");
#else
  std::mt19937_64 random(1);
  size_t made = 0;
  for (int i = 0; i < 200'000; ++i) {
    ImageSpec spec = Spec(static_cast<PixelFormat>(random() % (kPixelFormats + 2)),
                          Limit(random, random() % 5000), Limit(random, random() % 5000),
                          {.stride_multiple = Limit(random, 1),
                           .stride_min = Limit(random, 0),
                           .stride_max = Limit(random, UINT64_MAX),
                           .stride_exact = Limit(random, 0),
                           .width_multiple = Limit(random, 2),
                           .height_multiple = Limit(random, 2),
                           .plane_offset_multiple = Limit(random, 1),
                           .base_align = Limit(random, 1),
                           .tail_bytes = Limit(random, 0),
                           .tail_rows = Limit(random, 0),
                           .size_multiple = Limit(random, 1)});
    spec.stated_bytes = Limit(random, 0);
    if (random() % 2 == 0) spec.odd = OddSize::kCover;
    ImageLayout layout;
    const LayoutProblem problem = ComputeLayout(spec, layout);
    if (!problem.ok()) {
      REQUIRE(problem.field != LayoutField::kNone);
      REQUIRE(!ToStatus(spec, problem).ok());
      continue;
    }
    ++made;
    const ImageConstraints& limits = spec.limits;
    const PixelFormatInfo& info = InfoOf(spec.format);
    unsigned __int128 end = 0;
    bool ok = layout.planes == info.planes && layout.width >= spec.width &&
              layout.height >= spec.height && layout.width % limits.width_multiple == 0 &&
              layout.height % limits.height_multiple == 0;
    for (unsigned p = 0; p < layout.planes; ++p) {
      const PlaneLayout& plane = layout.plane[p];
      const PlaneFormat& format = info.plane[p];
      ok = ok && plane.stride % limits.stride_multiple == 0 && plane.stride <= limits.stride_max &&
           plane.stride >= plane.row_bytes && plane.offset >= end &&
           plane.offset % limits.plane_offset_multiple == 0 &&
           plane.row_bytes * format.width >= layout.width * format.bytes &&
           plane.rows * format.height >= layout.height;
      // Stride in proportion: bytes for the same pixels.
      ok =
          ok && static_cast<unsigned __int128>(plane.stride) * format.width * info.plane[0].bytes ==
                    static_cast<unsigned __int128>(layout.plane[0].stride) * info.plane[0].width *
                        format.bytes;
      end = static_cast<unsigned __int128>(plane.stride) * plane.rows + plane.offset;
    }
    ok = ok && layout.plane[0].stride >= limits.stride_min && layout.image_bytes == end &&
         layout.total_bytes >= end + limits.tail_bytes &&
         layout.total_bytes >=
             end + static_cast<unsigned __int128>(limits.tail_rows) * layout.plane[0].stride &&
         layout.total_bytes % limits.size_multiple == 0 && layout.total_bytes >= spec.stated_bytes;
    if (limits.stride_exact != 0) ok = ok && layout.plane[0].stride == limits.stride_exact;
    REQUIRE(ok);
  }
  CHECK(made > 2000);
#endif
}

TEST_CASE("MakeLayout: it takes no heap memory, and a refusal without memory keeps its code") {
  const ImageSpec spec = Spec(kNv12, 1920, 1080, {.stride_multiple = 64, .tail_rows = 64});
  FaultNew::Begin();
  const absl::StatusOr<ImageLayout> layout = MakeLayout(spec);
  const size_t calls = FaultNew::calls();
  FaultNew::End();
  CHECK(layout.ok());
  CHECK(calls == 0);
  FaultNew::Begin(0);
  const absl::Status refused = MakeLayout(Spec(kNv12, 0, 1080)).status();
  CHECK(FaultNew::End());
  CHECK(absl::IsInvalidArgument(refused));
  CHECK(ErrnoOf(refused) == EINVAL);
}

TEST_CASE("FrameRequest: a frame's request is one call") {
  ImageLayout layout =
      LayoutOf<Spec(kNv12, 1920, 1080, {.base_align = 256, .size_multiple = 4096})>();
  const Request request = FrameRequest(layout, {.heaps = HeapMask(HeapId{4}), .name = "preview"});
  CHECK(request.bytes == layout.total_bytes);
  CHECK(request.alignment == 256);
  CHECK(request.name == "preview");
  CHECK(request.heaps.has_value());
  CHECK(FrameRequest(layout, {.alignment = 4096}).alignment == 4096);
}

TEST_CASE("PlaneView: a row has its place and its pixels, and writes reach the buffer") {
  const ImageLayout layout = LayoutOf<Spec(kNv12, 6, 4, {.stride_multiple = 8})>();
  std::vector<std::byte> buffer(layout.total_bytes);
  const absl::StatusOr<PlaneView> chroma = PlaneOf(std::span(buffer), layout, 1);
  REQUIRE(chroma.ok());
  CHECK(chroma->rows() == 2);
  CHECK(chroma->stride() == 8);
  CHECK(chroma->row_bytes() == 6);
  CHECK(chroma->row(1).size() == 6);
  CHECK(chroma->row(1).data() == buffer.data() + 32 + 8);
  CHECK(chroma->bytes().size() == 14);
  chroma->row(1)[5] = std::byte{7};
  CHECK(buffer[45] == std::byte{7});
  const ConstPlaneView read = *chroma;
  CHECK(read.row(1)[5] == std::byte{7});
  const absl::StatusOr<ConstPlaneView> luma =
      PlaneOf(std::span<const std::byte>(buffer), layout, 0);
  REQUIRE(luma.ok());
  CHECK(luma->rows() == 4);
}

TEST_CASE(
    "PlaneView: bytes that end before the plane's last pixel, or no such plane, are an error") {
  const ImageLayout layout = LayoutOf<Spec(kNv12, 6, 4, {.stride_multiple = 8})>();
  std::vector<std::byte> buffer(layout.total_bytes);
  const std::span<std::byte> all(buffer);
  // The last row's padding is not needed.
  CHECK(PlaneOf(all.first(46), layout, 1).ok());
  const absl::Status shorter = PlaneOf(all.first(45), layout, 1).status();
  CHECK(ErrnoOf(shorter) == EINVAL);
  CHECK(shorter.message().find("plane 1: offset 32 and 2 rows of 6 bytes with a stride of 8 are no "
                               "part of 45 bytes") != absl::string_view::npos);
  CHECK(ErrnoOf(PlaneOf(all, layout, 2).status()) == EINVAL);
  CHECK(ErrnoOf(PlaneOf(all, ImageLayout{}, 0).status()) == EINVAL);
  // A layout that somebody else sent.
  ImageLayout hostile = layout;
  hostile.plane[1].rows = UINT64_MAX;
  CHECK(ErrnoOf(PlaneOf(all, hostile, 1).status()) == EINVAL);
  hostile = layout;
  hostile.plane[1].offset = UINT64_MAX - 2;
  CHECK(ErrnoOf(PlaneOf(all, hostile, 1).status()) == EINVAL);
  hostile = layout;
  hostile.plane[1].row_bytes = 9;
  CHECK(ErrnoOf(PlaneOf(all, hostile, 1).status()) == EINVAL);
  hostile = layout;
  hostile.planes = 9;
  CHECK(ErrnoOf(PlaneOf(all, hostile, 5).status()) == EINVAL);
}

}  // namespace
}  // namespace ion::testing
