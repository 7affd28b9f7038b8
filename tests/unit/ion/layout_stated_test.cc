// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What a V4L2 driver states of its formats (TRY_FMT of the test driver vivid) is taken as stated,
// and it is what the rules of ion/image_layout.h give.

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/ioctl.h>

#include <cstdint>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/fd.h"
#include "ion/image_layout.h"
#include "ion/layout.h"
#include "ion/pixel_format.h"
#include "tests/support/frames_as_bytes.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

struct Size {
  uint32_t width, height;
};
constexpr Size kSizes[] = {{1, 1},      {320, 180},   {640, 360},   {640, 480},
                           {1280, 720}, {1920, 1080}, {3840, 2160}, {65535, 65535}};
// Bytes by which a row is longer than its pixels.
constexpr uint32_t kPaddings[] = {0, 16, 64, 4096};

// The format as the driver would set it; nothing: it refuses it.
std::optional<v4l2_pix_format> Try(const UniqueFd& node, uint32_t code, Size size,
                                   uint32_t stride) {
  v4l2_format format{};
  format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  format.fmt.pix.pixelformat = code;
  format.fmt.pix.width = size.width;
  format.fmt.pix.height = size.height;
  format.fmt.pix.bytesperline = stride;
  format.fmt.pix.field = V4L2_FIELD_ANY;
  if (::ioctl(node.get(), VIDIOC_TRY_FMT, &format) != 0) return std::nullopt;
  return format.fmt.pix;
}

std::string Told(const ImageSpec& spec, const LayoutProblem& problem) {
  return problem.ok() ? "ok" : internal::LayoutProblemText(spec, problem);
}

TEST_CASE("Layouts: the stride and the size that vivid states are taken as stated") {
  const std::vector<std::string> nodes = VideoNodesOf("vivid");
  if (nodes.empty()) return Skip("no device of the test driver vivid");
  const UniqueFd node(::open(nodes.front().c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(node.valid());
  std::set<PixelFormat> known;
  unsigned compared = 0;
  v4l2_fmtdesc description{};
  description.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  for (; ::ioctl(node.get(), VIDIOC_ENUM_FMT, &description) == 0; ++description.index) {
    const std::optional<V4l2Format> named = FromV4l2(description.pixelformat);
    if (!named.has_value() || named->planar) continue;
    known.insert(named->format);
    for (const Size& size : kSizes) {
      const auto tight = Try(node, description.pixelformat, size, 0);
      REQUIRE(tight.has_value());
      for (const uint32_t padding : kPaddings) {
        const auto stated = Try(node, description.pixelformat, size, tight->bytesperline + padding);
        REQUIRE(stated.has_value());
        CAPTURE(InfoOf(named->format).name);
        CAPTURE(stated->width);
        CAPTURE(stated->height);
        CAPTURE(stated->bytesperline);
        REQUIRE(stated->pixelformat == description.pixelformat);
        // The driver takes a longer stride.
        CHECK(stated->bytesperline == tight->bytesperline + padding);
        ImageSpec spec{.format = named->format,
                       .width = stated->width,
                       .height = stated->height,
                       .limits = {.stride_exact = stated->bytesperline}};
        ImageLayout layout;
        // Ours, of the stride alone.
        LayoutProblem problem = ComputeLayout(spec, layout);
        CHECK(Told(spec, problem) == "ok");
        CHECK(layout.plane[0].stride == stated->bytesperline);
        CHECK(layout.total_bytes == stated->sizeimage);
        // As stated, the size as well; and a size that is more than the image.
        for (const uint64_t more : {0, 12345}) {
          spec.stated_bytes = uint64_t{stated->sizeimage} + more;
          problem = ComputeLayout(spec, layout);
          CHECK(Told(spec, problem) == "ok");
          CHECK(layout.plane[0].stride == stated->bytesperline);
          CHECK(layout.total_bytes == spec.stated_bytes);
          CHECK(layout.image_bytes == stated->sizeimage);
        }
        // Without padding it is what the format and the size alone give.
        if (padding == 0) {
          spec.limits.stride_exact = spec.stated_bytes = 0;
          problem = ComputeLayout(spec, layout);
          CHECK(Told(spec, problem) == "ok");
          CHECK(layout.plane[0].stride == stated->bytesperline);
          CHECK(layout.total_bytes == stated->sizeimage);
        }
        // Less than the driver states holds no image.
        spec.limits.stride_exact = stated->bytesperline;
        spec.stated_bytes = stated->sizeimage - 1;
        CHECK(ComputeLayout(spec, layout).field == LayoutField::kStatedBytes);
        ++compared;
      }
    }
  }
  MESSAGE(known.size() << " formats, " << compared << " layouts");
  // vivid of Linux 6.12 has some 50 formats in one buffer, a mosaic in four orders each.
  CHECK(known.size() >= 25);
  CHECK(compared >= 25 * std::size(kSizes) * std::size(kPaddings));
}

}  // namespace
}  // namespace ion::testing
