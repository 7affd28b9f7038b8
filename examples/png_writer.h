// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/png_writer.h
//
// Writes a frame as a picture. Where this was built without libpng: UNIMPLEMENTED, and what to
// install.
#ifndef ION_EXAMPLES_PNG_WRITER_H_
#define ION_EXAMPLES_PNG_WRITER_H_

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "examples/frame.h"

namespace ion::demo {

// Ok where WritePng can write at all.
absl::Status CanWritePng();

absl::Status WritePng(const std::string& path, const FrameFormat& format,
                      std::span<const std::byte> frame);

}  // namespace ion::demo

#endif  // ION_EXAMPLES_PNG_WRITER_H_
