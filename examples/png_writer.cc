// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/png_writer.h"

#include "absl/strings/str_cat.h"

#if ION_HAVE_PNG
#include <png.h>
#endif

namespace ion::demo {

#if ION_HAVE_PNG

absl::Status CanWritePng() { return absl::OkStatus(); }

absl::Status WritePng(const std::string& path, const FrameFormat& format,
                      std::span<const std::byte> frame) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = format.width;
  image.height = format.height;
  image.format = PNG_FORMAT_RGB;
  const auto stride = static_cast<png_int_32>(format.stride);
  if (png_image_write_to_file(&image, path.c_str(), 0, frame.data(), stride, nullptr) == 0) {
    return absl::UnknownError(absl::StrCat(path, ": libpng: ", image.message));
  }
  return absl::OkStatus();
}

#else

absl::Status CanWritePng() {
  return absl::UnimplementedError(
      "built without libpng: install the Debian package `libpng-dev` and build again, or leave "
      "--png out");
}

absl::Status WritePng(const std::string&, const FrameFormat&, std::span<const std::byte>) {
  return CanWritePng();
}

#endif

}  // namespace ion::demo
