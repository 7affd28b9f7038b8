// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/options.h
//
// What the command line says.
#ifndef ION_EXAMPLES_OPTIONS_H_
#define ION_EXAMPLES_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace ion::demo {

enum class SourceChoice { kAuto, kVivid, kPattern };

struct Options {
  uint32_t frames = 120;
  uint32_t buffers = 4;
  uint32_t width = 640;
  uint32_t height = 360;
  std::string backend;  // empty: the first that opens
  SourceChoice source = SourceChoice::kAuto;
  std::string device;  // a V4L2 node; empty: those of vivid
  std::string png;     // empty: no picture
  bool prime = false;  // import each buffer into vgem as well
  bool help = false;
};

std::string Usage();

// INVALID_ARGUMENT: an option that there is not, or a value that it cannot have.
absl::StatusOr<Options> ParseOptions(int argc, char** argv);

}  // namespace ion::demo

#endif  // ION_EXAMPLES_OPTIONS_H_
