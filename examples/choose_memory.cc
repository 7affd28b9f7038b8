// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Chooses memory for the devices that are named on the command line, among the heaps of this
// machine, and prints the reason for each heap and the source of each number of the image's layout.
//
//   choose_memory camera encoder "vivid dma-contig"
//   choose_memory --format=NV12 --size=1920x1080 camera "intel gpu" scan-out

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "absl/status/statusor.h"
#include "ion/allocate_chosen.h"
#include "ion/base/memory_top.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/constraints.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/layout.h"
#include "ion/pixel_format.h"
#include "ion/platforms/device_table.h"
#include "ion/platforms/linux.h"
#include "ion/request.h"

namespace {

struct Arguments {
  ion::ImageSpec image{.format = ion::PixelFormat::kNv12, .width = 1920, .height = 1080};
  std::vector<ion::Party> parties;
};

int Usage(const std::string& wrong) {
  std::fprintf(stderr, "%s\nusage: choose_memory [--format=NAME] [--size=WxH] PARTY...\nparties:",
               wrong.c_str());
  for (const ion::Party& party : ion::platforms::kDevices) {
    std::fprintf(stderr, " \"%s\"", std::string(party.name.view()).c_str());
  }
  std::fputs("\n", stderr);
  return 2;
}

bool ReadNumber(std::string_view text, uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

// The sentence for what is wrong; nothing if all is right.
std::optional<std::string> Read(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("--format=")) {
      const std::optional<ion::PixelFormat> format = ion::FromName(word.substr(9));
      if (!format.has_value()) return "no format has the name " + std::string(word.substr(9));
      arguments.image.format = *format;
    } else if (word.starts_with("--size=")) {
      const std::string_view size = word.substr(7);
      const size_t cross = size.find('x');
      if (cross == size.npos || !ReadNumber(size.substr(0, cross), arguments.image.width) ||
          !ReadNumber(size.substr(cross + 1), arguments.image.height)) {
        return "no size: " + std::string(size);
      }
    } else if (const ion::Party* party = ion::platforms::FindDevice(word); party != nullptr) {
      arguments.parties.push_back(*party);
    } else {
      return "no device and no use has the name " + std::string(word);
    }
  }
  if (arguments.parties.empty()) return "name the devices that will use the memory";
  return std::nullopt;
}

int Fail(const absl::Status& status) {
  std::printf("%s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (const auto wrong = Read(argc, argv, arguments); wrong.has_value()) return Usage(*wrong);

  absl::StatusOr<ion::platforms::Any> manager = ion::platforms::Any::Open();
  if (!manager.ok()) return Fail(manager.status());
  auto client = manager->CreateClient({.name = "choose_memory"});
  if (!client.ok()) return Fail(client.status());

  const ion::HeapOffers offers = ion::OffersOf(*manager, ion::ReadMemoryTops());
  const ion::Choice choice = ion::Choose(arguments.parties, offers.span());
  if (!choice.ok()) return Fail(ion::ToStatus(choice, arguments.parties, offers.span()));
  std::printf("heaps\n%s\n", ion::Describe(choice, arguments.parties, offers.span()).c_str());

  arguments.image.limits = choice.merged.image();
  const absl::StatusOr<ion::ImageLayout> layout = ion::MakeLayout(arguments.image);
  if (!layout.ok()) return Fail(layout.status());
  std::puts("layout");
  for (unsigned plane = 0; plane < layout->planes; ++plane) {
    for (const ion::LayoutNumber number :
         {ion::LayoutNumber::kStride, ion::LayoutNumber::kOffset}) {
      std::printf("%s\n", ion::Explain(*layout, number, plane).c_str());
    }
  }
  std::printf("%s\n", ion::Explain(*layout, ion::LayoutNumber::kTotal).c_str());
  for (const ion::Field field : {ion::Field::kStrideMultiple, ion::Field::kHeightMultiple}) {
    std::printf("%s\n", ion::DescribeOrigin(choice, field, arguments.parties).c_str());
  }

  const absl::StatusOr<ion::Buffer> frame =
      ion::AllocateChosen(*client, choice, ion::FrameRequest(*layout));
  if (!frame.ok()) return Fail(frame.status());
  std::printf("a frame of %llu bytes from heap %s\n",
              static_cast<unsigned long long>(frame->bytes()),
              std::string(manager->HeapName(*manager->HeapOf(*frame))).c_str());
  return 0;
}
