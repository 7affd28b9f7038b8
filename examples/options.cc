// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/options.h"

#include <getopt.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "examples/composition.h"
#include "examples/protocol.h"
#include "examples/test_pattern.h"

namespace ion::demo {
namespace {

absl::Status Number(const char* option, uint32_t least, uint32_t most, uint32_t& to) {
  if (absl::SimpleAtoi(optarg, &to) && to >= least && to <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", option, " is a number from ", least, " to ", most, ", not ", optarg));
}

absl::Status Source(SourceChoice& to) {
  const std::string_view word = optarg;
  if (word == "auto") {
    to = SourceChoice::kAuto;
  } else if (word == "vivid") {
    to = SourceChoice::kVivid;
  } else if (word == "pattern") {
    to = SourceChoice::kPattern;
  } else {
    return absl::InvalidArgumentError("--source is auto, vivid or pattern");
  }
  return absl::OkStatus();
}

absl::Status Backend(std::string& to) {
  to = optarg;
  const std::vector<std::string> known = BackendNames();
  if (std::ranges::find(known, to) != known.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--backend is ", absl::StrJoin(known, ", ")));
}

}  // namespace

std::string Usage() {
  const std::string backends = absl::StrJoin(BackendNames(), ", ");
  return "usage: demo [OPTION]...\n"
         "Fills frames into device memory, hands it to a second process, and checks them there.\n"
         "  --frames N      how many (120)\n"
         "  --buffers N     that go round, 2 to 32 (4)\n"
         "  --width N, --height N\n"
         "                  of a frame in pixels (640, 360); a device takes the nearest it has\n"
         "  --backend NAME  one of " +
         backends +
         "; the first that opens\n"
         "  --source NAME   vivid, pattern, or auto: vivid where it works, else the pattern\n"
         "  --device PATH   capture from this V4L2 device instead\n"
         "  --prime         import each buffer into vgem too (a GPU's way), and read each frame "
         "there\n"
         "  --png FILE      write the last frame as a picture\n"
         "  --help          this\n"
         "Exits 0 where every frame was right, 1 where not, 2 for a wrong option.\n";
}

absl::StatusOr<Options> ParseOptions(int argc, char** argv) {
  static constexpr option kOptions[] = {{"frames", required_argument, nullptr, 'f'},
                                        {"buffers", required_argument, nullptr, 'n'},
                                        {"width", required_argument, nullptr, 'w'},
                                        {"height", required_argument, nullptr, 'h'},
                                        {"backend", required_argument, nullptr, 'b'},
                                        {"source", required_argument, nullptr, 's'},
                                        {"device", required_argument, nullptr, 'd'},
                                        {"png", required_argument, nullptr, 'p'},
                                        {"prime", no_argument, nullptr, 'i'},
                                        {"help", no_argument, nullptr, 'u'},
                                        {}};
  constexpr uint32_t kMostFrames = 100'000'000, kMostPixels = 8192;
  Options options;
  opterr = 0;
  optind = 1;
  for (int found; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    absl::Status status;
    switch (found) {
      case 'f':
        status = Number("frames", 1, kMostFrames, options.frames);
        break;
      case 'n':
        status = Number("buffers", 2, kMostBuffers, options.buffers);
        break;
      case 'w':
        status = Number("width", kSmallestPattern, kMostPixels, options.width);
        break;
      case 'h':
        status = Number("height", kSmallestPattern, kMostPixels, options.height);
        break;
      case 'b':
        status = Backend(options.backend);
        break;
      case 's':
        status = Source(options.source);
        break;
      case 'd':
        options.device = optarg;
        break;
      case 'p':
        options.png = optarg;
        break;
      case 'i':
        options.prime = true;
        break;
      case 'u':
        options.help = true;
        break;
      default:
        status = absl::InvalidArgumentError(
            absl::StrCat(argv[optind - 1], ": no such option, or no value after it"));
    }
    if (!status.ok()) return status;
  }
  if (optind < argc) {
    return absl::InvalidArgumentError(absl::StrCat(argv[optind], ": not an option"));
  }
  return options;
}

}  // namespace ion::demo
