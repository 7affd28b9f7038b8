// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The table of formats: against the codes of the kernel's headers, and itself both ways.

#include "ion/pixel_format.h"

#include <linux/videodev2.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "doctest/doctest.h"
#include "tests/support/skip.h"

// /usr/include/drm comes with no kernel headers of Debian's; libdrm has the same file.
#if __has_include(<libdrm/drm_fourcc.h>)
#include <libdrm/drm_fourcc.h>
#elif __has_include(<drm/drm_fourcc.h>)
#include <drm/drm_fourcc.h>
#endif

namespace ion::testing {
namespace {

using enum PixelFormat;

static_assert(InfoOf(kNv12).planes == 2 && InfoOf(kNv12).stride_shift[1] == 0);
static_assert(InfoOf(kYuv420).stride_shift[2] == -1 && InfoOf(kYuv410).stride_shift[1] == -2);
static_assert(InfoOf(kNv24).stride_shift[1] == 1 && InfoOf(kNv15).stride_shift[1] == 0);
static_assert(InfoOf(kYuyv).width_unit == 2 && InfoOf(kYuyv).height_unit == 1);
static_assert(InfoOf(kBayer10Packed).width_unit == 4 && InfoOf(kYuv410).height_unit == 4);
static_assert(FromDrm(FourccOf("NV12")) == kNv12);

template <class F>
void EachFormat(F f) {
  for (size_t i = 1; i <= kPixelFormats; ++i) f(InfoOf(static_cast<PixelFormat>(i)));
}

std::string Text(uint32_t code) {
  std::string text;
  for (int i = 0; i < 4; ++i) text += static_cast<char>(code >> (8 * i) & 0xff);
  return text;
}

TEST_CASE("PixelFormat: each is found by its name, and no other name finds one") {
  for (size_t at = 1; at <= kPixelFormats; ++at) {
    const auto format = static_cast<PixelFormat>(at);
    CHECK(FromName(InfoOf(format).name) == format);
  }
  for (const char* name : {"", "none", "nv12 ", "NV"}) CHECK_FALSE(FromName(name).has_value());
}

TEST_CASE("PixelFormat: each code leads back to its format, and no two formats share one") {
  EachFormat([](const PixelFormatInfo& info) {
    CAPTURE(std::string(info.name));
    CHECK((info.drm != 0) != info.bayer());
    if (info.drm != 0) CHECK(FromDrm(info.drm) == info.format);
    const BayerOrder first = info.bayer() ? BayerOrder::kBggr : BayerOrder::kNone;
    if (info.v4l2 != 0) {
      CHECK(V4l2CodeOf({info.format, first}) == info.v4l2);
      CHECK(FromV4l2(info.v4l2) == V4l2Format{info.format, first, false});
    }
    if (info.v4l2_planar != 0) {
      CHECK(V4l2CodeOf({info.format, first, true}) == info.v4l2_planar);
      CHECK(FromV4l2(info.v4l2_planar) == V4l2Format{info.format, first, true});
    }
  });
}

TEST_CASE("PixelFormat: a mosaic has a code for each order, and none without an order") {
  for (const PixelFormat format :
       {kBayer8, kBayer10, kBayer10Packed, kBayer12, kBayer12Packed, kBayer16}) {
    CAPTURE(std::string(InfoOf(format).name));
    for (const BayerOrder order :
         {BayerOrder::kBggr, BayerOrder::kGbrg, BayerOrder::kGrbg, BayerOrder::kRggb}) {
      const uint32_t code = V4l2CodeOf({format, order});
      CHECK(code != 0);
      CHECK(FromV4l2(code) == V4l2Format{format, order, false});
      CHECK(V4l2CodeOf({format, order, true}) == 0);
    }
    CHECK(V4l2CodeOf({format}) == 0);
    CHECK(V4l2CodeOf({format, static_cast<BayerOrder>(9)}) == 0);
  }
  CHECK(V4l2CodeOf({kNv12, BayerOrder::kRggb}) == 0);
}

TEST_CASE("PixelFormat: the two vocabularies disagree where their words differ") {
  // The same four letters.
  CHECK(FromDrm(FourccOf("RG16")) == kRgb565);
  CHECK(FromV4l2(FourccOf("RG16")) == V4l2Format{kBayer16, BayerOrder::kRggb, false});
  CHECK(FromDrm(FourccOf("AYUV")) == kAyuv);
  CHECK(FromV4l2(FourccOf("AYUV")) == std::nullopt);
  // The same bytes.
  CHECK(V4l2CodeOf({kRgb888}) == FourccOf("BGR3"));
}

TEST_CASE(
    "PixelFormat: a code that is not in the table, and a number that is no format, are none") {
  CHECK(FromDrm(0) == std::nullopt);
  CHECK(FromV4l2(0) == std::nullopt);
  CHECK(FromDrm(FourccOf("MJPG")) == std::nullopt);
  CHECK(FromV4l2(FourccOf("MJPG")) == std::nullopt);
  CHECK(FromDrm(FourccOf("RG16") | 1u << 31) == std::nullopt);
  CHECK(InfoOf(static_cast<PixelFormat>(250)).format == kNone);
  CHECK(DrmCodeOf(kNone) == 0);
  CHECK(V4l2CodeOf({static_cast<PixelFormat>(250)}) == 0);
}

TEST_CASE("PixelFormat: DRM's codes are those of drm_fourcc.h") {
#if defined(DRM_FORMAT_NV12)
  struct Row {
    PixelFormat format;
    uint32_t code;
  };
  const Row rows[] = {
      {kRgb332, DRM_FORMAT_RGB332},
      {kRgb565, DRM_FORMAT_RGB565},
      {kBgr565, DRM_FORMAT_BGR565},
      {kXrgb4444, DRM_FORMAT_XRGB4444},
      {kArgb4444, DRM_FORMAT_ARGB4444},
      {kXrgb1555, DRM_FORMAT_XRGB1555},
      {kArgb1555, DRM_FORMAT_ARGB1555},
      {kRgb888, DRM_FORMAT_RGB888},
      {kBgr888, DRM_FORMAT_BGR888},
      {kXrgb8888, DRM_FORMAT_XRGB8888},
      {kArgb8888, DRM_FORMAT_ARGB8888},
      {kXbgr8888, DRM_FORMAT_XBGR8888},
      {kAbgr8888, DRM_FORMAT_ABGR8888},
      {kRgbx8888, DRM_FORMAT_RGBX8888},
      {kRgba8888, DRM_FORMAT_RGBA8888},
      {kBgrx8888, DRM_FORMAT_BGRX8888},
      {kBgra8888, DRM_FORMAT_BGRA8888},
      {kXrgb2101010, DRM_FORMAT_XRGB2101010},
      {kArgb2101010, DRM_FORMAT_ARGB2101010},
      {kXbgr2101010, DRM_FORMAT_XBGR2101010},
      {kAbgr2101010, DRM_FORMAT_ABGR2101010},
      {kRgbx1010102, DRM_FORMAT_RGBX1010102},
      {kRgba1010102, DRM_FORMAT_RGBA1010102},
      {kArgb16161616, DRM_FORMAT_ARGB16161616},
      {kAbgr16161616, DRM_FORMAT_ABGR16161616},
      {kAbgr16161616F, DRM_FORMAT_ABGR16161616F},
      {kYuyv, DRM_FORMAT_YUYV},
      {kYvyu, DRM_FORMAT_YVYU},
      {kUyvy, DRM_FORMAT_UYVY},
      {kVyuy, DRM_FORMAT_VYUY},
      {kY210, DRM_FORMAT_Y210},
      {kY212, DRM_FORMAT_Y212},
      {kY216, DRM_FORMAT_Y216},
      {kAyuv, DRM_FORMAT_AYUV},
      {kXyuv8888, DRM_FORMAT_XYUV8888},
      {kVuy888, DRM_FORMAT_VUY888},
      {kY410, DRM_FORMAT_Y410},
      {kNv12, DRM_FORMAT_NV12},
      {kNv21, DRM_FORMAT_NV21},
      {kNv16, DRM_FORMAT_NV16},
      {kNv61, DRM_FORMAT_NV61},
      {kNv24, DRM_FORMAT_NV24},
      {kNv42, DRM_FORMAT_NV42},
      {kNv15, DRM_FORMAT_NV15},
      {kP010, DRM_FORMAT_P010},
      {kP012, DRM_FORMAT_P012},
      {kP016, DRM_FORMAT_P016},
      {kP210, DRM_FORMAT_P210},
      {kYuv410, DRM_FORMAT_YUV410},
      {kYvu410, DRM_FORMAT_YVU410},
      {kYuv411, DRM_FORMAT_YUV411},
      {kYvu411, DRM_FORMAT_YVU411},
      {kYuv420, DRM_FORMAT_YUV420},
      {kYvu420, DRM_FORMAT_YVU420},
      {kYuv422, DRM_FORMAT_YUV422},
      {kYvu422, DRM_FORMAT_YVU422},
      {kYuv444, DRM_FORMAT_YUV444},
      {kYvu444, DRM_FORMAT_YVU444},
      {kR8, DRM_FORMAT_R8},
      {kR10, DRM_FORMAT_R10},
      {kR12, DRM_FORMAT_R12},
      {kR16, DRM_FORMAT_R16},
      {kGr88, DRM_FORMAT_GR88},
  };
  size_t compared = 0;
  for (const Row& row : rows) {
    CAPTURE(std::string(InfoOf(row.format).name));
    CHECK(Text(DrmCodeOf(row.format)) == Text(row.code));
    ++compared;
  }
  size_t named = 0;
  EachFormat([&](const PixelFormatInfo& info) { named += info.drm != 0; });
  CHECK(compared == named);
#else
  Skip("there is no drm_fourcc.h: install libdrm-dev");
#endif
}

TEST_CASE("PixelFormat: V4L2's codes are those of videodev2.h") {
  struct Row {
    V4l2Format named;
    uint32_t code;
  };
  const Row rows[] = {
    {{kRgb332}, V4L2_PIX_FMT_RGB332},
    {{kRgb565}, V4L2_PIX_FMT_RGB565},
    {{kXrgb4444}, V4L2_PIX_FMT_XRGB444},
    {{kArgb4444}, V4L2_PIX_FMT_ARGB444},
    {{kXrgb1555}, V4L2_PIX_FMT_XRGB555},
    {{kArgb1555}, V4L2_PIX_FMT_ARGB555},
    {{kRgb888}, V4L2_PIX_FMT_BGR24},
    {{kBgr888}, V4L2_PIX_FMT_RGB24},
    {{kXrgb8888}, V4L2_PIX_FMT_XBGR32},
    {{kArgb8888}, V4L2_PIX_FMT_ABGR32},
    {{kXbgr8888}, V4L2_PIX_FMT_RGBX32},
    {{kAbgr8888}, V4L2_PIX_FMT_RGBA32},
    {{kRgbx8888}, V4L2_PIX_FMT_BGRX32},
    {{kRgba8888}, V4L2_PIX_FMT_BGRA32},
    {{kBgrx8888}, V4L2_PIX_FMT_XRGB32},
    {{kBgra8888}, V4L2_PIX_FMT_ARGB32},
    {{kYuyv}, V4L2_PIX_FMT_YUYV},
    {{kYvyu}, V4L2_PIX_FMT_YVYU},
    {{kUyvy}, V4L2_PIX_FMT_UYVY},
    {{kVyuy}, V4L2_PIX_FMT_VYUY},
    {{kAyuv}, V4L2_PIX_FMT_VUYA32},
    {{kXyuv8888}, V4L2_PIX_FMT_VUYX32},
    {{kVuy888}, V4L2_PIX_FMT_YUV24},
    {{kNv12}, V4L2_PIX_FMT_NV12},
    {{kNv21}, V4L2_PIX_FMT_NV21},
    {{kNv16}, V4L2_PIX_FMT_NV16},
    {{kNv61}, V4L2_PIX_FMT_NV61},
    {{kNv24}, V4L2_PIX_FMT_NV24},
    {{kNv42}, V4L2_PIX_FMT_NV42},
    {{kNv12, BayerOrder::kNone, true}, V4L2_PIX_FMT_NV12M},
    {{kNv21, BayerOrder::kNone, true}, V4L2_PIX_FMT_NV21M},
    {{kNv16, BayerOrder::kNone, true}, V4L2_PIX_FMT_NV16M},
    {{kNv61, BayerOrder::kNone, true}, V4L2_PIX_FMT_NV61M},
    {{kYuv410}, V4L2_PIX_FMT_YUV410},
    {{kYvu410}, V4L2_PIX_FMT_YVU410},
    {{kYuv411}, V4L2_PIX_FMT_YUV411P},
    {{kYuv420}, V4L2_PIX_FMT_YUV420},
    {{kYvu420}, V4L2_PIX_FMT_YVU420},
    {{kYuv422}, V4L2_PIX_FMT_YUV422P},
    {{kYuv420, BayerOrder::kNone, true}, V4L2_PIX_FMT_YUV420M},
    {{kYvu420, BayerOrder::kNone, true}, V4L2_PIX_FMT_YVU420M},
    {{kYuv422, BayerOrder::kNone, true}, V4L2_PIX_FMT_YUV422M},
    {{kYvu422, BayerOrder::kNone, true}, V4L2_PIX_FMT_YVU422M},
    {{kYuv444, BayerOrder::kNone, true}, V4L2_PIX_FMT_YUV444M},
    {{kYvu444, BayerOrder::kNone, true}, V4L2_PIX_FMT_YVU444M},
    {{kR8}, V4L2_PIX_FMT_GREY},
    {{kR10}, V4L2_PIX_FMT_Y10},
    {{kR12}, V4L2_PIX_FMT_Y12},
    {{kR16}, V4L2_PIX_FMT_Y16},
    {{kBayer8, BayerOrder::kBggr}, V4L2_PIX_FMT_SBGGR8},
    {{kBayer8, BayerOrder::kGbrg}, V4L2_PIX_FMT_SGBRG8},
    {{kBayer8, BayerOrder::kGrbg}, V4L2_PIX_FMT_SGRBG8},
    {{kBayer8, BayerOrder::kRggb}, V4L2_PIX_FMT_SRGGB8},
    {{kBayer10, BayerOrder::kBggr}, V4L2_PIX_FMT_SBGGR10},
    {{kBayer10, BayerOrder::kGbrg}, V4L2_PIX_FMT_SGBRG10},
    {{kBayer10, BayerOrder::kGrbg}, V4L2_PIX_FMT_SGRBG10},
    {{kBayer10, BayerOrder::kRggb}, V4L2_PIX_FMT_SRGGB10},
    {{kBayer10Packed, BayerOrder::kBggr}, V4L2_PIX_FMT_SBGGR10P},
    {{kBayer10Packed, BayerOrder::kGbrg}, V4L2_PIX_FMT_SGBRG10P},
    {{kBayer10Packed, BayerOrder::kGrbg}, V4L2_PIX_FMT_SGRBG10P},
    {{kBayer10Packed, BayerOrder::kRggb}, V4L2_PIX_FMT_SRGGB10P},
    {{kBayer12, BayerOrder::kBggr}, V4L2_PIX_FMT_SBGGR12},
    {{kBayer12, BayerOrder::kGbrg}, V4L2_PIX_FMT_SGBRG12},
    {{kBayer12, BayerOrder::kGrbg}, V4L2_PIX_FMT_SGRBG12},
    {{kBayer12, BayerOrder::kRggb}, V4L2_PIX_FMT_SRGGB12},
    {{kBayer12Packed, BayerOrder::kBggr}, V4L2_PIX_FMT_SBGGR12P},
    {{kBayer12Packed, BayerOrder::kGbrg}, V4L2_PIX_FMT_SGBRG12P},
    {{kBayer12Packed, BayerOrder::kGrbg}, V4L2_PIX_FMT_SGRBG12P},
    {{kBayer12Packed, BayerOrder::kRggb}, V4L2_PIX_FMT_SRGGB12P},
    {{kBayer16, BayerOrder::kBggr}, V4L2_PIX_FMT_SBGGR16},
    {{kBayer16, BayerOrder::kGbrg}, V4L2_PIX_FMT_SGBRG16},
    {{kBayer16, BayerOrder::kGrbg}, V4L2_PIX_FMT_SGRBG16},
    {{kBayer16, BayerOrder::kRggb}, V4L2_PIX_FMT_SRGGB16},
  // Newer than the oldest headers with which this test is compiled.
#if defined(V4L2_PIX_FMT_P010)
    {{kP010}, V4L2_PIX_FMT_P010},
#endif
#if defined(V4L2_PIX_FMT_P012)
    {{kP012}, V4L2_PIX_FMT_P012},
    {{kP012, BayerOrder::kNone, true}, V4L2_PIX_FMT_P012M},
#endif
#if defined(V4L2_PIX_FMT_NV15)
    {{kNv15}, V4L2_PIX_FMT_NV15},
#endif
#if defined(V4L2_PIX_FMT_Y210)
    {{kY210}, V4L2_PIX_FMT_Y210},
    {{kY212}, V4L2_PIX_FMT_Y212},
    {{kY216}, V4L2_PIX_FMT_Y216},
#endif
#if defined(V4L2_PIX_FMT_ARGB2101010)
    {{kArgb2101010}, V4L2_PIX_FMT_ARGB2101010},
    {{kRgbx1010102}, V4L2_PIX_FMT_RGBX1010102},
    {{kRgba1010102}, V4L2_PIX_FMT_RGBA1010102},
#endif
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(InfoOf(row.named.format).name));
    CHECK(Text(V4l2CodeOf(row.named)) == Text(row.code));
  }
  // DRM's AYUV is another format than V4L2's.
  CHECK(V4L2_PIX_FMT_AYUV32 == FourccOf("AYUV"));
}

}  // namespace
}  // namespace ion::testing
