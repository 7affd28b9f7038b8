// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Chooses memory for the devices on the command line, in the order in which they attach, and prints
// the reason for each heap and the source of each number of the image's layout. A V4L2 queue is
// probed, and streams frames as soon as it is attached; so the first one takes the memory, and a
// later device that cannot use it makes it move.
//
//   choose_memory camera encoder "vivid dma-contig"
//   choose_memory --format=NV12 --size=640x360 cpu v4l2:vivid-vmalloc drm:vgem v4l2:vivid-contig
//
// Its last line, of a run that did all: chosen: heap=NAME type=TYPE generation=G frames=F
// mismatches=M. Exits with 1 for an error or a mismatch, with 2 for wrong arguments.

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/named_device.h"
#include "examples/stream_frames.h"
#include "ion/backends/page_memory.h"
#include "ion/base/error.h"
#include "ion/base/memory_top.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/layout.h"
#include "ion/pixel_format.h"
#include "ion/platforms/device_table.h"
#include "ion/platforms/linux.h"
#include "ion/probe_heaps.h"
#include "ion/stream.h"

namespace {

struct Arguments {
  ion::ImageSpec image{.format = ion::PixelFormat::kNv12, .width = 1920, .height = 1080};
  uint32_t buffers = 4;
  uint32_t frames = 20;
  std::vector<std::string_view> devices;
};

int Usage(const std::string& wrong) {
  std::fprintf(stderr,
               "%s\nusage: choose_memory [--format=NAME] [--size=WxH] [--buffers=N] [--frames=N] "
               "DEVICE...\ndevices: cpu drm:NODE drm:DRIVER v4l2:NODE v4l2:vivid-vmalloc "
               "v4l2:vivid-contig, and by description:",
               wrong.c_str());
  for (const ion::Party& party : ion::platforms::kDevices) {
    std::fprintf(stderr, " \"%s\"", std::string(party.name.view()).c_str());
  }
  std::fputs("\n", stderr);
  return 2;
}

template <class T>
bool ReadNumber(std::string_view text, T& number) {
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
    } else if (word.starts_with("--buffers=")) {
      if (!ReadNumber(word.substr(10), arguments.buffers)) return std::string(word);
    } else if (word.starts_with("--frames=")) {
      if (!ReadNumber(word.substr(9), arguments.frames)) return std::string(word);
    } else if (word.starts_with("--")) {
      return "no such option: " + std::string(word);
    } else {
      arguments.devices.push_back(word);
    }
  }
  if (arguments.devices.empty()) return "name the devices that will use the memory";
  return std::nullopt;
}

int Fail(const absl::Status& status) {
  std::printf("%s\n", std::string(status.message()).c_str());
  return 1;
}

void PrintLayout(const ion::ImageLayout& layout) {
  std::puts("layout");
  for (unsigned plane = 0; plane < layout.planes; ++plane) {
    for (const ion::LayoutNumber number :
         {ion::LayoutNumber::kStride, ion::LayoutNumber::kOffset}) {
      std::printf("%s\n", ion::Explain(layout, number, plane).c_str());
    }
  }
  std::printf("%s\n", ion::Explain(layout, ion::LayoutNumber::kTotal).c_str());
}

// The devices, in the order in which they attach, and the stream that they share.
class Chooser {
 public:
  Chooser(ion::Stream stream, const ion::HeapOffers& offers, const Arguments& arguments)
      : stream_(std::move(stream)), offers_(offers), arguments_(arguments) {}

  absl::Status Add(ion::demo::NamedDevice device) {
    devices_.push_back(std::move(device));
    ion::demo::NamedDevice& added = devices_.back();
    std::optional<uint64_t> before;
    if (stream_.committed()) {
      absl::StatusOr<uint64_t> content = ion::demo::ContentOf(stream_);
      if (!content.ok()) return content.status();
      before = *content;
    }
    const uint64_t generation = stream_.generation();
    absl::StatusOr<ion::Attachment> attachment = stream_.Attach(added.ref());
    if (!attachment.ok()) return attachment.status();
    attachments_.push_back(*std::move(attachment));
    if (before.has_value() && stream_.generation() != generation) {
      const absl::StatusOr<uint64_t> content = ion::demo::ContentOf(stream_);
      if (!content.ok()) return content.status();
      if (*content != *before) ++tally_.mismatches;
      std::printf("moved to generation %llu for %s: %llu bytes copied, the content is %s\n",
                  static_cast<unsigned long long>(stream_.generation()),
                  std::string(added.ref().party().name.view()).c_str(),
                  static_cast<unsigned long long>(stream_.moves().bytes),
                  *content == *before ? "the same" : "another");
    }
    ion::V4l2Queue<>* const queue = added.queue();
    if (queue == nullptr) return absl::OkStatus();
    std::vector<ion::Attachment*> readers;
    for (size_t i = 0; i + 1 < devices_.size(); ++i) {
      if (devices_[i].queue() == nullptr && devices_[i].imports()) {
        readers.push_back(&attachments_[i]);
      }
    }
    return ion::demo::RunFrames(stream_, *queue, attachments_.back(), readers, arguments_.frames,
                                tally_);
  }

  // The reasons, and the memory, which is taken now if no frame was.
  absl::Status Finish() {
    if (absl::Status status = stream_.Commit(); !status.ok()) return status;
    std::vector<ion::Party> parties;
    for (ion::demo::NamedDevice& device : devices_) parties.push_back(device.ref().party());
    const ion::Constraints size{.size_min = stream_.bytes()};
    parties.push_back(ion::Party("stream", size));
    std::printf("heaps\n%s\n", ion::Describe(stream_.choice(), parties, offers_.span()).c_str());
    std::fputs(stream_.Describe().c_str(), stdout);
    PrintLayout(*stream_.image());
    for (const ion::Field field : {ion::Field::kStrideMultiple, ion::Field::kHeightMultiple}) {
      std::printf("%s\n", ion::DescribeOrigin(stream_.choice(), field, parties).c_str());
    }
    return absl::OkStatus();
  }

  const ion::Stream& stream() const { return stream_; }
  const ion::demo::FrameTally& tally() const { return tally_; }

 private:
  // In this order, so that attachments end before their devices.
  std::deque<ion::demo::NamedDevice> devices_;
  ion::Stream stream_;
  std::vector<ion::Attachment> attachments_;
  ion::demo::FrameTally tally_;
  const ion::HeapOffers& offers_;
  const Arguments& arguments_;
};

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (const auto wrong = Read(argc, argv, arguments); wrong.has_value()) return Usage(*wrong);

  absl::StatusOr<ion::platforms::Any> manager = ion::platforms::Any::Open();
  if (!manager.ok()) return Fail(manager.status());
  auto client = manager->CreateClient({.name = "choose_memory"});
  if (!client.ok()) return Fail(client.status());
  const ion::Result<ion::MemoryTops> tops = ion::ReadMemoryTops();
  const ion::HeapOffers offers = ion::OffersOf(*manager, tops);

  ion::demo::ProbeKit kit;
  if (auto pages = ion::PageMemory<>::Open(); pages.ok()) kit.pages.emplace(*std::move(pages));
  for (const ion::HeapOffer& offer : offers.span()) {
    if (offer.guarantees.segments == uint64_t{1}) kit.contiguous.emplace(*client, offer.id);
  }

  absl::StatusOr<ion::Stream> stream =
      ion::Stream::Reserve(*client, offers,
                           {.buffers = arguments.buffers,
                            .image = arguments.image,
                            .name = "choose_memory",
                            .memory_top = tops.ok() ? std::optional(tops->memory) : std::nullopt});
  if (!stream.ok()) return Fail(stream.status());
  Chooser chooser(*std::move(stream), offers, arguments);
  for (const std::string_view word : arguments.devices) {
    absl::StatusOr<ion::demo::NamedDevice> device =
        ion::demo::OpenDevice(word, arguments.image, kit);
    if (!device.ok()) return Fail(device.status());
    if (absl::Status status = chooser.Add(*std::move(device)); !status.ok()) return Fail(status);
  }
  if (absl::Status status = chooser.Finish(); !status.ok()) return Fail(status);

  const ion::HeapId heap = *chooser.stream().heap();
  const std::string_view name = manager->HeapName(heap);
  std::string_view type = "?";
  for (const ion::KernelHeap& kernel : manager->backend().heaps()) {
    if (kernel.name == name) type = ion::HeapTypeName(kernel.type);
  }
  const ion::demo::FrameTally& tally = chooser.tally();
  std::printf("chosen: heap=%s type=%s generation=%llu frames=%u mismatches=%u\n",
              std::string(name).c_str(), std::string(type).c_str(),
              static_cast<unsigned long long>(chooser.stream().generation()), tally.frames,
              tally.mismatches);
  return tally.mismatches == 0 ? 0 : 1;
}
