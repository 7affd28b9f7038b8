// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/pixel_format.h
//
// PixelFormat: the linear formats of images that cameras, codecs, GPUs and displays exchange, with
// their names in the kernel's two vocabularies (DRM's fourcc codes, V4L2's for one buffer and for a
// buffer for each plane) and the facts that a layout needs: planes, bytes of a group of pixels, and
// subsampling. The names are DRM's, which list components from the highest bit of a little-endian
// word to the lowest. V4L2 lists bytes in memory, so DRM's RGB888 is V4L2's BGR24, and DRM's AYUV
// is V4L2's VUYA32. DRM has no code for the mosaic of a camera's sensor (Bayer): those formats have
// V4L2 names alone, and the order of their colours is a field beside the format.
//
// Not for tiled or compressed images: those are a format and a modifier, and their exporter tells
// the layout.
//
// Example:
//   static_assert(ion::DrmCodeOf(ion::PixelFormat::kNv12) == ion::FourccOf("NV12"));
//   const auto raw = ion::FromV4l2(ion::FourccOf("pBAA"));  // V4L2_PIX_FMT_SBGGR10P
//   if (raw.has_value() && ion::InfoOf(raw->format).bayer()) UseAsIs();
//
// Sources: drm_fourcc.h of libdrm 2.4.114, videodev2.h and the V4L2 documentation of Linux 6.1 and
// (for codes that are newer) 6.18; a test compares the codes with the headers of the machine.
//
// Cost: constants; a lookup by a code reads up to 70 rows, some 50 to 100 ns. Thread-safe.
#ifndef ION_ION_PIXEL_FORMAT_H_
#define ION_ION_PIXEL_FORMAT_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ion {

// A format. The numbers are not stable: store or send a fourcc code.
enum class PixelFormat : uint8_t {
  kNone,
  // RGB in one plane.
  kRgb332,
  kRgb565,
  kBgr565,
  kXrgb4444,
  kArgb4444,
  kXrgb1555,
  kArgb1555,
  kRgb888,
  kBgr888,
  kXrgb8888,
  kArgb8888,
  kXbgr8888,
  kAbgr8888,
  kRgbx8888,
  kRgba8888,
  kBgrx8888,
  kBgra8888,
  kXrgb2101010,
  kArgb2101010,
  kXbgr2101010,
  kAbgr2101010,
  kRgbx1010102,
  kRgba1010102,
  kArgb16161616,
  kAbgr16161616,
  kAbgr16161616F,
  // YCbCr in one plane.
  kYuyv,
  kYvyu,
  kUyvy,
  kVyuy,
  kY210,
  kY212,
  kY216,
  kAyuv,
  kXyuv8888,
  kVuy888,
  kY410,
  // A plane of Y, and one of Cb and Cr.
  kNv12,
  kNv21,
  kNv16,
  kNv61,
  kNv24,
  kNv42,
  kNv15,
  kP010,
  kP012,
  kP016,
  kP210,
  // Three planes.
  kYuv410,
  kYvu410,
  kYuv411,
  kYvu411,
  kYuv420,
  kYvu420,
  kYuv422,
  kYvu422,
  kYuv444,
  kYvu444,
  // One or two components without a colour: grey, depth, statistics.
  kR8,
  kR10,
  kR12,
  kR16,
  kGr88,
  // The mosaic of a sensor, by the bits of a sample. The packed ones are MIPI's RAW10 and RAW12;
  // the others have one or two bytes for a sample.
  kBayer8,
  kBayer10,
  kBayer10Packed,
  kBayer12,
  kBayer12Packed,
  kBayer16,
};
// The formats, without kNone.
inline constexpr size_t kPixelFormats = static_cast<size_t>(PixelFormat::kBayer16);

// The colours of a mosaic's first two rows, from the left: BGGR has a row of B and G, then one of G
// and R. kNone of a format that is no mosaic.
enum class BayerOrder : uint8_t { kNone, kBggr, kGbrg, kGrbg, kRggb };

// The most planes that a format of the table has.
inline constexpr unsigned kMostPlanes = 3;

// A plane of a format. A group is the fewest pixels that fill whole bytes in it, or that share a
// sample: `bytes` for `width` pixels of the image in a row. A row of the plane is for `height` rows
// of the image. Widths and heights are powers of two.
struct PlaneFormat {
  uint8_t bytes = 0;
  uint8_t width = 1;
  uint8_t height = 1;
};

// DRM's and V4L2's code of four characters: the first one is the lowest byte.
constexpr uint32_t FourccOf(const char (&text)[5]) noexcept {
  uint32_t code = 0;
  for (unsigned i = 0; i < 4; ++i) {
    code |= static_cast<uint32_t>(static_cast<unsigned char>(text[i])) << (8 * i);
  }
  return code;
}

// The facts of a format. A code is 0 if that vocabulary has no name for it.
struct PixelFormatInfo {
  PixelFormat format = PixelFormat::kNone;
  std::string_view name = "none";
  uint32_t drm = 0;
  uint32_t v4l2 = 0;         // planes that follow each other in one buffer; of BGGR for a mosaic
  uint32_t v4l2_planar = 0;  // V4L2's ...M formats: each plane may have a buffer of its own
  uint8_t planes = 0;
  std::array<PlaneFormat, kMostPlanes> plane = {};

  // The pixels in a row that make whole groups of each plane, and the rows likewise: 2 and 2 of
  // NV12, 4 and 1 of Bayer10Packed.
  uint8_t width_unit = 1;
  uint8_t height_unit = 1;
  // The stride of each plane in proportion to that of plane 0, as a power of two: -1 if it has half
  // of it.
  std::array<int, kMostPlanes> stride_shift = {};

  // The number of which plane 0's stride is a multiple, so that each stride is a whole number: 2 of
  // YUV420.
  constexpr uint64_t stride_unit() const noexcept {
    return uint64_t{1} << -std::min({stride_shift[0], stride_shift[1], stride_shift[2]});
  }
  // True for the mosaic of a sensor.
  constexpr bool bayer() const noexcept { return format >= PixelFormat::kBayer8; }
};

namespace internal {

inline constexpr const char kNoCode[5] = {};

constexpr PixelFormatInfo FormatRow(PixelFormat format, std::string_view name, const char (&drm)[5],
                                    const char (&v4l2)[5], const char (&v4l2_planar)[5],
                                    PlaneFormat first, PlaneFormat second = {},
                                    PlaneFormat third = {}) noexcept {
  PixelFormatInfo row{.format = format,
                      .name = name,
                      .drm = FourccOf(drm),
                      .v4l2 = FourccOf(v4l2),
                      .v4l2_planar = FourccOf(v4l2_planar),
                      .plane = {first, second, third}};
  for (unsigned i = 0; i < kMostPlanes && row.plane[i].bytes != 0; ++i) {
    const PlaneFormat& plane = row.plane[i];
    ++row.planes;
    row.width_unit = std::max(row.width_unit, plane.width);
    row.height_unit = std::max(row.height_unit, plane.height);
    // The ratio is a power of two: the odd parts are equal (checked below).
    row.stride_shift[i] = std::countr_zero(unsigned{plane.bytes} * first.width) -
                          std::countr_zero(unsigned{first.bytes} * plane.width);
  }
  return row;
}

inline constexpr std::array<PixelFormatInfo, kPixelFormats + 1> kFormatTable = [] {
  using enum PixelFormat;
  constexpr auto& no = kNoCode;
  constexpr PlaneFormat y1{1}, y2{2};                  // one sample for each pixel
  constexpr PlaneFormat c420{1, 2, 2}, c422{1, 2, 1};  // a sample of Cb or of Cr
  return std::array<PixelFormatInfo, kPixelFormats + 1>{{
      {},
      FormatRow(kRgb332, "RGB332", "RGB8", "RGB1", no, {1}),
      FormatRow(kRgb565, "RGB565", "RG16", "RGBP", no, {2}),
      FormatRow(kBgr565, "BGR565", "BG16", no, no, {2}),
      FormatRow(kXrgb4444, "XRGB4444", "XR12", "XR12", no, {2}),
      FormatRow(kArgb4444, "ARGB4444", "AR12", "AR12", no, {2}),
      FormatRow(kXrgb1555, "XRGB1555", "XR15", "XR15", no, {2}),
      FormatRow(kArgb1555, "ARGB1555", "AR15", "AR15", no, {2}),
      FormatRow(kRgb888, "RGB888", "RG24", "BGR3", no, {3}),
      FormatRow(kBgr888, "BGR888", "BG24", "RGB3", no, {3}),
      FormatRow(kXrgb8888, "XRGB8888", "XR24", "XR24", no, {4}),
      FormatRow(kArgb8888, "ARGB8888", "AR24", "AR24", no, {4}),
      FormatRow(kXbgr8888, "XBGR8888", "XB24", "XB24", no, {4}),
      FormatRow(kAbgr8888, "ABGR8888", "AB24", "AB24", no, {4}),
      FormatRow(kRgbx8888, "RGBX8888", "RX24", "RX24", no, {4}),
      FormatRow(kRgba8888, "RGBA8888", "RA24", "RA24", no, {4}),
      FormatRow(kBgrx8888, "BGRX8888", "BX24", "BX24", no, {4}),
      FormatRow(kBgra8888, "BGRA8888", "BA24", "BA24", no, {4}),
      FormatRow(kXrgb2101010, "XRGB2101010", "XR30", no, no, {4}),
      FormatRow(kArgb2101010, "ARGB2101010", "AR30", "AR30", no, {4}),
      FormatRow(kXbgr2101010, "XBGR2101010", "XB30", no, no, {4}),
      FormatRow(kAbgr2101010, "ABGR2101010", "AB30", no, no, {4}),
      FormatRow(kRgbx1010102, "RGBX1010102", "RX30", "RX30", no, {4}),
      FormatRow(kRgba1010102, "RGBA1010102", "RA30", "RA30", no, {4}),
      FormatRow(kArgb16161616, "ARGB16161616", "AR48", no, no, {8}),
      FormatRow(kAbgr16161616, "ABGR16161616", "AB48", no, no, {8}),
      FormatRow(kAbgr16161616F, "ABGR16161616F", "AB4H", no, no, {8}),
      FormatRow(kYuyv, "YUYV", "YUYV", "YUYV", no, {4, 2}),
      FormatRow(kYvyu, "YVYU", "YVYU", "YVYU", no, {4, 2}),
      FormatRow(kUyvy, "UYVY", "UYVY", "UYVY", no, {4, 2}),
      FormatRow(kVyuy, "VYUY", "VYUY", "VYUY", no, {4, 2}),
      FormatRow(kY210, "Y210", "Y210", "Y210", no, {8, 2}),
      FormatRow(kY212, "Y212", "Y212", "Y212", no, {8, 2}),
      FormatRow(kY216, "Y216", "Y216", "Y216", no, {8, 2}),
      FormatRow(kAyuv, "AYUV", "AYUV", "VUYA", no, {4}),
      FormatRow(kXyuv8888, "XYUV8888", "XYUV", "VUYX", no, {4}),
      FormatRow(kVuy888, "VUY888", "VU24", "YUV3", no, {3}),
      FormatRow(kY410, "Y410", "Y410", no, no, {4}),
      FormatRow(kNv12, "NV12", "NV12", "NV12", "NM12", y1, {2, 2, 2}),
      FormatRow(kNv21, "NV21", "NV21", "NV21", "NM21", y1, {2, 2, 2}),
      FormatRow(kNv16, "NV16", "NV16", "NV16", "NM16", y1, {2, 2, 1}),
      FormatRow(kNv61, "NV61", "NV61", "NV61", "NM61", y1, {2, 2, 1}),
      FormatRow(kNv24, "NV24", "NV24", "NV24", no, y1, {2}),
      FormatRow(kNv42, "NV42", "NV42", "NV42", no, y1, {2}),
      // Ten bits of each sample, without a gap: four samples are five bytes.
      FormatRow(kNv15, "NV15", "NV15", "NV15", no, {5, 4, 1}, {5, 4, 2}),
      FormatRow(kP010, "P010", "P010", "P010", no, y2, {4, 2, 2}),
      FormatRow(kP012, "P012", "P012", "P012", "PM12", y2, {4, 2, 2}),
      FormatRow(kP016, "P016", "P016", no, no, y2, {4, 2, 2}),
      FormatRow(kP210, "P210", "P210", no, no, y2, {4, 2, 1}),
      FormatRow(kYuv410, "YUV410", "YUV9", "YUV9", no, y1, {1, 4, 4}, {1, 4, 4}),
      FormatRow(kYvu410, "YVU410", "YVU9", "YVU9", no, y1, {1, 4, 4}, {1, 4, 4}),
      FormatRow(kYuv411, "YUV411", "YU11", "411P", no, y1, {1, 4, 1}, {1, 4, 1}),
      FormatRow(kYvu411, "YVU411", "YV11", no, no, y1, {1, 4, 1}, {1, 4, 1}),
      FormatRow(kYuv420, "YUV420", "YU12", "YU12", "YM12", y1, c420, c420),
      FormatRow(kYvu420, "YVU420", "YV12", "YV12", "YM21", y1, c420, c420),
      FormatRow(kYuv422, "YUV422", "YU16", "422P", "YM16", y1, c422, c422),
      FormatRow(kYvu422, "YVU422", "YV16", no, "YM61", y1, c422, c422),
      FormatRow(kYuv444, "YUV444", "YU24", no, "YM24", y1, y1, y1),
      FormatRow(kYvu444, "YVU444", "YV24", no, "YM42", y1, y1, y1),
      FormatRow(kR8, "R8", "R8  ", "GREY", no, y1),
      FormatRow(kR10, "R10", "R10 ", "Y10 ", no, y2),
      FormatRow(kR12, "R12", "R12 ", "Y12 ", no, y2),
      FormatRow(kR16, "R16", "R16 ", "Y16 ", no, y2),
      FormatRow(kGr88, "GR88", "GR88", no, no, {2}),
      FormatRow(kBayer8, "Bayer8", no, "BA81", no, {1}),
      FormatRow(kBayer10, "Bayer10", no, "BG10", no, {2}),
      FormatRow(kBayer10Packed, "Bayer10Packed", no, "pBAA", no, {5, 4}),
      FormatRow(kBayer12, "Bayer12", no, "BG12", no, {2}),
      FormatRow(kBayer12Packed, "Bayer12Packed", no, "pBCC", no, {3, 2}),
      FormatRow(kBayer16, "Bayer16", no, "BYR2", no, {2}),
  }};
}();

// A row stands in its format's place, and a layout may shift instead of dividing.
constexpr bool FormatTableIsSound() noexcept {
  for (size_t i = 0; i < kFormatTable.size(); ++i) {
    const PixelFormatInfo& row = kFormatTable[i];
    if (static_cast<size_t>(row.format) != i || (i != 0 && row.planes == 0)) return false;
    for (unsigned p = 0; p < row.planes; ++p) {
      const PlaneFormat& plane = row.plane[p];
      if (!std::has_single_bit(plane.width) || !std::has_single_bit(plane.height)) return false;
      const unsigned of_plane = unsigned{plane.bytes} * row.plane[0].width;
      const unsigned of_first = unsigned{row.plane[0].bytes} * plane.width;
      const int shift = row.stride_shift[p];
      if (shift >= 0 ? of_plane != of_first << shift : of_plane << -shift != of_first) return false;
    }
  }
  return true;
}
static_assert(FormatTableIsSound());

// V4L2's codes of the mosaics, from kBayer8 on, in the order of BayerOrder from kBggr on.
inline constexpr uint32_t kBayerCodes[6][4] = {
    {FourccOf("BA81"), FourccOf("GBRG"), FourccOf("GRBG"), FourccOf("RGGB")},
    {FourccOf("BG10"), FourccOf("GB10"), FourccOf("BA10"), FourccOf("RG10")},
    {FourccOf("pBAA"), FourccOf("pGAA"), FourccOf("pgAA"), FourccOf("pRAA")},
    {FourccOf("BG12"), FourccOf("GB12"), FourccOf("BA12"), FourccOf("RG12")},
    {FourccOf("pBCC"), FourccOf("pGCC"), FourccOf("pgCC"), FourccOf("pRCC")},
    {FourccOf("BYR2"), FourccOf("GB16"), FourccOf("GR16"), FourccOf("RG16")},
};

constexpr size_t BayerRow(PixelFormat format) noexcept {
  return static_cast<size_t>(format) - static_cast<size_t>(PixelFormat::kBayer8);
}

}  // namespace internal

// The facts of `format`; those of kNone for a number that is no format.
constexpr const PixelFormatInfo& InfoOf(PixelFormat format) noexcept {
  const auto i = static_cast<size_t>(format);
  return internal::kFormatTable[i <= kPixelFormats ? i : 0];
}

// The format of this name, as "NV12".
constexpr std::optional<PixelFormat> FromName(std::string_view name) noexcept {
  for (const PixelFormatInfo& row : internal::kFormatTable) {
    if (row.format != PixelFormat::kNone && row.name == name) return row.format;
  }
  return std::nullopt;
}

// DRM's code, 0 if it has none.
constexpr uint32_t DrmCodeOf(PixelFormat format) noexcept { return InfoOf(format).drm; }

// The format of a DRM code; none for a code that the table lacks, also for a big-endian one.
constexpr std::optional<PixelFormat> FromDrm(uint32_t code) noexcept {
  if (code == 0) return std::nullopt;
  for (const PixelFormatInfo& row : internal::kFormatTable) {
    if (row.drm == code) return row.format;
  }
  return std::nullopt;
}

// A format as V4L2 names it.
struct V4l2Format {
  PixelFormat format = PixelFormat::kNone;
  BayerOrder order = BayerOrder::kNone;
  bool planar = false;  // a buffer for each plane: one of V4L2's ...M formats

  friend constexpr bool operator==(const V4l2Format&, const V4l2Format&) = default;
};

// V4L2's code. 0: it has none; a mosaic without an order, or an order without a mosaic.
constexpr uint32_t V4l2CodeOf(const V4l2Format& named) noexcept {
  const PixelFormatInfo& info = InfoOf(named.format);
  if (info.bayer() != (named.order != BayerOrder::kNone)) return 0;
  if (named.planar) return info.v4l2_planar;
  if (!info.bayer()) return info.v4l2;
  const auto order = static_cast<size_t>(named.order) - 1;
  return order < 4 ? internal::kBayerCodes[internal::BayerRow(info.format)][order] : 0;
}

// The format of a V4L2 code; none for a code that the table lacks. A code means one thing to V4L2
// and may mean another to DRM: V4L2's RG16 is a mosaic, and DRM's is RGB565.
constexpr std::optional<V4l2Format> FromV4l2(uint32_t code) noexcept {
  if (code == 0) return std::nullopt;
  for (const PixelFormatInfo& row : internal::kFormatTable) {
    if (row.bayer()) {
      const auto& codes = internal::kBayerCodes[internal::BayerRow(row.format)];
      for (size_t order = 0; order < 4; ++order) {
        if (codes[order] == code) {
          return V4l2Format{row.format, static_cast<BayerOrder>(order + 1), false};
        }
      }
    } else if (row.v4l2 == code || row.v4l2_planar == code) {
      return V4l2Format{row.format, BayerOrder::kNone, row.v4l2 != code};
    }
  }
  return std::nullopt;
}

}  // namespace ion

#endif  // ION_ION_PIXEL_FORMAT_H_
