// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Layouts against those of libavutil and GStreamer, for each format that they know, and the table of
// the differences with their reasons. A library that is not installed is skipped.

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "doctest/doctest.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "tests/support/skip.h"

#if ION_HAVE_LIBAVUTIL
extern "C" {
#include <libavutil/imgutils.h>
#include <libavutil/pixfmt.h>
}
#endif
#if ION_HAVE_GSTREAMER_VIDEO
#include <gst/video/video.h>
#endif

namespace ion::testing {
namespace {

using enum PixelFormat;

struct Size {
  uint64_t width;
  uint64_t height;
};

// The usual sizes, and 200 of any width and height.
[[maybe_unused]] std::vector<Size> Sizes() {
  std::vector<Size> sizes = {{1, 1},       {2, 2},       {3, 5},       {16, 16},     {176, 144},
                             {320, 240},   {640, 480},   {720, 576},   {1000, 562},  {1280, 720},
                             {1366, 768},  {1440, 1080}, {1600, 1200}, {1920, 1080}, {1920, 1088},
                             {2592, 1944}, {3280, 2464}, {3840, 2160}, {4056, 3040}, {4096, 2304}};
  std::mt19937 random(42);
  for (int i = 0; i < 200; ++i) sizes.push_back({1 + random() % 4500, 1 + random() % 3000});
  return sizes;
}

[[maybe_unused]] std::string Name(PixelFormat format, const Size& size) {
  return std::string(InfoOf(format).name) + " " + std::to_string(size.width) + "x" +
         std::to_string(size.height);
}

#if ION_HAVE_LIBAVUTIL

struct AvRow {
  PixelFormat format;
  AVPixelFormat av;
};
constexpr AvRow kAvRows[] = {
    {kRgb332, AV_PIX_FMT_RGB8},
    {kRgb565, AV_PIX_FMT_RGB565LE},
    {kBgr565, AV_PIX_FMT_BGR565LE},
    {kXrgb4444, AV_PIX_FMT_RGB444LE},
    {kXrgb1555, AV_PIX_FMT_RGB555LE},
    {kRgb888, AV_PIX_FMT_BGR24},
    {kBgr888, AV_PIX_FMT_RGB24},
    {kXrgb8888, AV_PIX_FMT_BGR0},
    {kArgb8888, AV_PIX_FMT_BGRA},
    {kXbgr8888, AV_PIX_FMT_RGB0},
    {kAbgr8888, AV_PIX_FMT_RGBA},
    {kRgbx8888, AV_PIX_FMT_0BGR},
    {kRgba8888, AV_PIX_FMT_ABGR},
    {kBgrx8888, AV_PIX_FMT_0RGB},
    {kBgra8888, AV_PIX_FMT_ARGB},
    {kXrgb2101010, AV_PIX_FMT_X2RGB10LE},
    {kXbgr2101010, AV_PIX_FMT_X2BGR10LE},
    {kArgb16161616, AV_PIX_FMT_BGRA64LE},
    {kAbgr16161616, AV_PIX_FMT_RGBA64LE},
    {kYuyv, AV_PIX_FMT_YUYV422},
    {kYvyu, AV_PIX_FMT_YVYU422},
    {kUyvy, AV_PIX_FMT_UYVY422},
    {kY210, AV_PIX_FMT_Y210LE},
    {kNv12, AV_PIX_FMT_NV12},
    {kNv21, AV_PIX_FMT_NV21},
    {kNv16, AV_PIX_FMT_NV16},
    {kNv24, AV_PIX_FMT_NV24},
    {kNv42, AV_PIX_FMT_NV42},
    {kP010, AV_PIX_FMT_P010LE},
    {kP016, AV_PIX_FMT_P016LE},
    {kP210, AV_PIX_FMT_P210LE},
    {kYuv410, AV_PIX_FMT_YUV410P},
    {kYuv411, AV_PIX_FMT_YUV411P},
    {kYuv420, AV_PIX_FMT_YUV420P},
    {kYuv422, AV_PIX_FMT_YUV422P},
    {kYuv444, AV_PIX_FMT_YUV444P},
    {kR8, AV_PIX_FMT_GRAY8},
    {kR10, AV_PIX_FMT_GRAY10LE},
    {kR12, AV_PIX_FMT_GRAY12LE},
    {kR16, AV_PIX_FMT_GRAY16LE},
    {kBayer8, AV_PIX_FMT_BAYER_BGGR8},
    {kBayer16, AV_PIX_FMT_BAYER_BGGR16LE},
};

TEST_CASE("ImageLayout: with our strides, libavutil computes the same plane sizes and offsets") {
  constexpr ImageConstraints kLimits[] = {
      {},
      {.stride_multiple = 16},
      {.stride_multiple = 64},
      {.stride_multiple = 192},
      {.stride_multiple = 256, .height_multiple = 16},
      {.stride_min = 5000, .width_multiple = 32, .height_multiple = 32},
  };
  const std::vector<Size> sizes = Sizes();
  for (const AvRow& row : kAvRows) {
    for (const Size& size : sizes) {
      for (const ImageConstraints& limits : kLimits) {
        ImageLayout layout;
        REQUIRE(ComputeLayout({.format = row.format,
                               .width = size.width,
                               .height = size.height,
                               .limits = limits,
                               .odd = OddSize::kCover},
                              layout)
                    .ok());
        ptrdiff_t strides[4] = {};
        for (unsigned i = 0; i < layout.planes; ++i) {
          strides[i] = static_cast<ptrdiff_t>(layout.plane[i].stride);
        }
        size_t bytes[4] = {};
        REQUIRE(av_image_fill_plane_sizes(bytes, row.av, static_cast<int>(layout.height),
                                          strides) >= 0);
        bool same = true;
        uint64_t offset = 0;
        for (unsigned i = 0; i < 4; ++i) {
          same = same && bytes[i] == (i < layout.planes ? layout.plane[i].bytes() : 0);
          if (i < layout.planes) same = same && layout.plane[i].offset == offset;
          offset += bytes[i];
        }
        CAPTURE(Name(row.format, size));
        REQUIRE(same);
        REQUIRE(layout.total_bytes == offset);
      }
    }
  }
}

TEST_CASE("ImageLayout: a size of whole groups has libavutil's packed strides") {
  for (const AvRow& row : kAvRows) {
    for (const Size& any : Sizes()) {
      const uint64_t unit = InfoOf(row.format).width_unit;
      const Size size{(any.width + unit - 1) / unit * unit, any.height};
      ImageLayout layout;
      REQUIRE(ComputeLayout({.format = row.format,
                             .width = size.width,
                             .height = size.height,
                             .odd = OddSize::kCover},
                            layout)
                  .ok());
      int strides[4] = {};
      REQUIRE(av_image_fill_linesizes(strides, row.av, static_cast<int>(size.width)) >= 0);
      bool same = true;
      for (unsigned i = 0; i < layout.planes; ++i) {
        same = same && static_cast<uint64_t>(strides[i]) == layout.plane[i].stride;
      }
      CAPTURE(Name(row.format, size));
      REQUIRE(same);
    }
  }
}

TEST_CASE("ImageLayout: of an odd width libavutil's strides are out of proportion, ours are not") {
  int strides[4] = {};
  REQUIRE(av_image_fill_linesizes(strides, AV_PIX_FMT_YUV420P, 5) >= 0);
  CHECK(strides[0] == 5);
  CHECK(strides[1] == 3);
  ImageLayout layout;
  REQUIRE(
      ComputeLayout({.format = kYuv420, .width = 5, .height = 5, .odd = OddSize::kCover}, layout)
          .ok());
  CHECK(layout.plane[0].stride == 6);
  CHECK(layout.plane[1].stride == 3);
}

#else

TEST_CASE("ImageLayout: with our strides, libavutil computes the same plane sizes and offsets") {
  Skip("there is no libavutil: install libavutil-dev");
}

#endif  // ION_HAVE_LIBAVUTIL

#if ION_HAVE_GSTREAMER_VIDEO

struct GstRow {
  PixelFormat format;
  GstVideoFormat gst;
};
constexpr GstRow kGstRows[] = {
    {kRgb565, GST_VIDEO_FORMAT_RGB16},
    {kBgr565, GST_VIDEO_FORMAT_BGR16},
    {kXrgb1555, GST_VIDEO_FORMAT_RGB15},
    {kRgb888, GST_VIDEO_FORMAT_BGR},
    {kBgr888, GST_VIDEO_FORMAT_RGB},
    {kXrgb8888, GST_VIDEO_FORMAT_BGRx},
    {kArgb8888, GST_VIDEO_FORMAT_BGRA},
    {kXbgr8888, GST_VIDEO_FORMAT_RGBx},
    {kAbgr8888, GST_VIDEO_FORMAT_RGBA},
    {kRgbx8888, GST_VIDEO_FORMAT_xBGR},
    {kRgba8888, GST_VIDEO_FORMAT_ABGR},
    {kBgrx8888, GST_VIDEO_FORMAT_xRGB},
    {kBgra8888, GST_VIDEO_FORMAT_ARGB},
    {kArgb2101010, GST_VIDEO_FORMAT_BGR10A2_LE},
    {kAbgr2101010, GST_VIDEO_FORMAT_RGB10A2_LE},
    {kArgb16161616, GST_VIDEO_FORMAT_BGRA64_LE},
    {kAbgr16161616, GST_VIDEO_FORMAT_RGBA64_LE},
    {kYuyv, GST_VIDEO_FORMAT_YUY2},
    {kYvyu, GST_VIDEO_FORMAT_YVYU},
    {kUyvy, GST_VIDEO_FORMAT_UYVY},
    {kVyuy, GST_VIDEO_FORMAT_VYUY},
    {kY210, GST_VIDEO_FORMAT_Y210},
    {kY212, GST_VIDEO_FORMAT_Y212_LE},
    {kAyuv, GST_VIDEO_FORMAT_VUYA},
    {kVuy888, GST_VIDEO_FORMAT_v308},
    {kY410, GST_VIDEO_FORMAT_Y410},
    {kNv12, GST_VIDEO_FORMAT_NV12},
    {kNv21, GST_VIDEO_FORMAT_NV21},
    {kNv16, GST_VIDEO_FORMAT_NV16},
    {kNv61, GST_VIDEO_FORMAT_NV61},
    {kNv24, GST_VIDEO_FORMAT_NV24},
    {kNv15, GST_VIDEO_FORMAT_NV12_10LE40},
    {kP010, GST_VIDEO_FORMAT_P010_10LE},
    {kP012, GST_VIDEO_FORMAT_P012_LE},
    {kP016, GST_VIDEO_FORMAT_P016_LE},
    {kYuv410, GST_VIDEO_FORMAT_YUV9},
    {kYvu410, GST_VIDEO_FORMAT_YVU9},
    {kYuv411, GST_VIDEO_FORMAT_Y41B},
    {kYuv420, GST_VIDEO_FORMAT_I420},
    {kYvu420, GST_VIDEO_FORMAT_YV12},
    {kYuv422, GST_VIDEO_FORMAT_Y42B},
    {kYuv444, GST_VIDEO_FORMAT_Y444},
    {kR8, GST_VIDEO_FORMAT_GRAY8},
    {kR16, GST_VIDEO_FORMAT_GRAY16_LE},
};

// The formats of which GStreamer makes another layout.
struct Difference {
  enum class Kind : uint8_t { kStride, kRows };
  PixelFormat format;
  Kind kind;
  std::string_view reason;
};
constexpr std::string_view kWholePixels =
    "GStreamer widens the image until its strides are aligned, and a group of 3 or 5 bytes seldom "
    "ends there. Ours is the next multiple of the alignment, which need not be whole pixels, as "
    "the "
    "pitch of DRM and V4L2's bytesperline.";
constexpr std::string_view kRowsAsTheyAre =
    "GStreamer rounds up the rows of plane 0 of each format but 4:1:0. Ours are rounded up by "
    "height_multiple alone; OddSize::kCover leaves them as they are.";
constexpr Difference kDifferences[] = {
    {kRgb888, Difference::Kind::kStride, kWholePixels},
    {kBgr888, Difference::Kind::kStride, kWholePixels},
    {kVuy888, Difference::Kind::kStride, kWholePixels},
    {kNv15, Difference::Kind::kStride, kWholePixels},
    {kYuv410, Difference::Kind::kRows, kRowsAsTheyAre},
    {kYvu410, Difference::Kind::kRows, kRowsAsTheyAre},
};

// GStreamer's layout of an image with `right` and `bottom` padding, as ours.
struct GstLayout {
  GstVideoInfo info;
  gsize bytes[GST_VIDEO_MAX_PLANES] = {};
};
GstLayout GstAligned(GstVideoFormat format, const Size& size, uint64_t right, uint64_t bottom,
                     const PixelFormatInfo& info, uint64_t stride_multiple) {
  GstLayout made;
  gst_video_info_init(&made.info);
  REQUIRE(gst_video_info_set_format(&made.info, format, static_cast<guint>(size.width),
                                    static_cast<guint>(size.height)));
  GstVideoAlignment align;
  gst_video_alignment_reset(&align);
  align.padding_right = static_cast<guint>(right);
  align.padding_bottom = static_cast<guint>(bottom);
  // Masks in the proportion of the planes.
  for (unsigned i = 0; i < info.planes; ++i) {
    align.stride_align[i] = static_cast<guint>(
        internal::Proportional(stride_multiple * info.stride_unit(), info.stride_shift[i]) - 1);
  }
  REQUIRE(gst_video_info_align_full(&made.info, &align, made.bytes));
  return made;
}

// `height` is the image's with its padding. If it is odd, GStreamer's offsets have room for one row
// more, as ours do by height_multiple, and the size that it tells for plane 0 is without that row.
bool Same(const ImageLayout& ours, const GstLayout& theirs, uint64_t height) {
  if (GST_VIDEO_INFO_N_PLANES(&theirs.info) != ours.planes) return false;
  for (unsigned i = 0; i < ours.planes; ++i) {
    const PlaneLayout& plane = ours.plane[i];
    const uint64_t rows = i == 0 ? height : plane.rows;
    if (static_cast<uint64_t>(theirs.info.stride[i]) != plane.stride ||
        theirs.info.offset[i] != plane.offset || theirs.bytes[i] != plane.stride * rows) {
      return false;
    }
  }
  return theirs.info.size == ours.total_bytes;
}

std::string Text(const ImageLayout& ours, const GstLayout& theirs) {
  std::string text;
  for (unsigned i = 0; i < ours.planes; ++i) {
    text += "plane " + std::to_string(i) + ": stride " + std::to_string(ours.plane[i].stride) +
            " and " + std::to_string(theirs.info.stride[i]) + ", offset " +
            std::to_string(ours.plane[i].offset) + " and " + std::to_string(theirs.info.offset[i]) +
            ", bytes " + std::to_string(ours.plane[i].bytes()) + " and " +
            std::to_string(theirs.bytes[i]) + "; ";
  }
  return text;
}

uint64_t RoundedUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

TEST_CASE("ImageLayout: GStreamer aligns as we do, but for a table of differences") {
  const std::vector<Size> sizes = Sizes();
  for (const GstRow& row : kGstRows) {
    const PixelFormatInfo& info = InfoOf(row.format);
    const Difference* difference = nullptr;
    for (const Difference& d : kDifferences) {
      if (d.format == row.format) difference = &d;
    }
    size_t differing = 0;
    for (const Size& size : sizes) {
      // GStreamer rounds an odd size up to whole groups, of each plane.
      for (const uint64_t block : {uint64_t{1}, uint64_t{16}, uint64_t{64}}) {
        for (const uint64_t align : {uint64_t{4}, uint64_t{32}, uint64_t{256}}) {
          ImageSpec spec{.format = row.format, .width = size.width, .height = size.height};
          spec.limits.stride_multiple = align;
          spec.limits.width_multiple = std::max<uint64_t>(block, info.width_unit);
          spec.limits.height_multiple = std::max<uint64_t>(block, info.height_unit);
          const GstLayout theirs =
              GstAligned(row.gst, size, RoundedUp(size.width, block) - size.width,
                         RoundedUp(size.height, block) - size.height, info, align);
          ImageLayout ours;
          REQUIRE(ComputeLayout(spec, ours).ok());
          if (difference != nullptr && difference->kind == Difference::Kind::kStride) {
            // Their stride is larger at times; with it, the rest is the same.
            const auto stride = static_cast<uint64_t>(theirs.info.stride[0]);
            REQUIRE(ours.plane[0].stride <= stride);
            differing += ours.plane[0].stride != stride;
            spec.limits.stride_exact = stride;
            REQUIRE(ComputeLayout(spec, ours).ok());
          }
          if (difference != nullptr && difference->kind == Difference::Kind::kRows) {
            differing += ours.plane[1].offset != theirs.info.offset[1];
            spec.limits.height_multiple = block;
            spec.odd = OddSize::kCover;
            REQUIRE(ComputeLayout(spec, ours).ok());
          }
          CAPTURE(Name(row.format, size));
          CAPTURE(block);
          CAPTURE(align);
          CAPTURE(Text(ours, theirs));
          REQUIRE(Same(ours, theirs, RoundedUp(size.height, block)));
        }
      }
    }
    if (difference != nullptr) {
      CAPTURE(std::string(difference->reason));
      CHECK(differing > 0);
    }
  }
}

TEST_CASE("ImageLayout: without an alignment GStreamer's strides are multiples of 4, ours packed") {
  const PixelFormatInfo& info = InfoOf(kYuv420);
  const GstLayout theirs = GstAligned(GST_VIDEO_FORMAT_I420, {6, 2}, 0, 0, info, 1);
  CHECK(theirs.info.stride[0] == 8);
  CHECK(theirs.info.stride[1] == 4);
  ImageLayout ours;
  REQUIRE(ComputeLayout({.format = kYuv420, .width = 6, .height = 2}, ours).ok());
  CHECK(ours.plane[0].stride == 6);
  CHECK(ours.plane[1].stride == 3);
}

#else

TEST_CASE("ImageLayout: GStreamer aligns as we do, but for a table of differences") {
  Skip("there is no GStreamer: install libgstreamer-plugins-base1.0-dev");
}

#endif  // ION_HAVE_GSTREAMER_VIDEO

}  // namespace
}  // namespace ion::testing
