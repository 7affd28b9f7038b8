// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/named_device.h
//
// A device by a word of the command line: `cpu`, `drm:NODE`, `drm:DRIVER`, `v4l2:NODE`,
// `v4l2:vivid-vmalloc`, `v4l2:vivid-contig`, or the name of a description in
// platforms/device_table.h. The two queues of the test driver vivid have no name of their own: they
// are found by the memory that they take.

#ifndef ION_EXAMPLES_NAMED_DEVICE_H_
#define ION_EXAMPLES_NAMED_DEVICE_H_

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/backends/page_memory.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/client_ref.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/devices/cpu.h"
#include "ion/devices/declared.h"
#include "ion/devices/drm_node.h"
#include "ion/devices/v4l2_queue.h"
#include "ion/heap_id.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "ion/platforms/device_table.h"
#include "ion/probe.h"
#include "ion/probe_heaps.h"

namespace ion::demo {

// The memory with which devices are probed.
struct ProbeKit {
  std::optional<PageMemory<>> pages;     // none: this machine has no udmabuf
  std::optional<HeapMemory> contiguous;  // none: no heap has it
};

// One line of the table: what the device said of each kind of memory, and what that proves.
inline void Print(std::string_view name, const ProbeResult& result) {
  std::printf("probe %s, %llu bytes:", std::string(name).c_str(),
              static_cast<unsigned long long>(result.bytes));
  for (size_t i = 0; i < kQuestions; ++i) {
    const ProbeAnswer& answer = result.answers[i];
    if (answer.kind == ProbeAnswer::Kind::kNotAsked) continue;
    std::printf(" %s %s", std::string(QuestionName(static_cast<Question>(i))).c_str(),
                std::string(AnswerName(answer.kind)).c_str());
    if (answer.code != 0) std::printf(" (%s)", ErrnoName(answer.code).c_str());
    std::printf(",");
  }
  std::printf(" so: %s\n", std::string(VerdictName(result.verdict)).c_str());
}

class NamedDevice {
 public:
  NamedDevice(CpuDevice device) : device_(device) {}               // NOLINT: a device
  NamedDevice(DeclaredDevice device) : device_(device) {}          // NOLINT
  NamedDevice(DrmNode<> device) : device_(std::move(device)) {}    // NOLINT
  NamedDevice(V4l2Queue<> device) : device_(std::move(device)) {}  // NOLINT

  DeviceRef ref() {
    return std::visit([](auto& device) { return DeviceRef(device); }, device_);
  }
  V4l2Queue<>* queue() { return std::get_if<V4l2Queue<>>(&device_); }
  bool imports() const { return !std::holds_alternative<CpuDevice>(device_); }

 private:
  std::variant<CpuDevice, DeclaredDevice, DrmNode<>, V4l2Queue<>> device_;
};

inline ProbeResult ProbeWithKit(DeviceRef device, uint64_t bytes, ProbeKit& kit) {
  const ProbeTarget target{.bytes = bytes};
  if (kit.pages.has_value() && kit.contiguous.has_value()) {
    return Probe(device, target, *kit.pages, *kit.contiguous);
  }
  if (kit.pages.has_value()) return Probe(device, target, *kit.pages);
  if (kit.contiguous.has_value()) return Probe(device, target, *kit.contiguous);
  return Probe(device, target);
}

// The queue, with what a probe proves of it among its constraints.
inline absl::StatusOr<V4l2Queue<>> OpenQueue(const std::string& node, std::string_view name,
                                             const ImageSpec& image, ProbeKit& kit,
                                             ProbeResult* told = nullptr) {
  V4l2Queue<>::Options options{.node = node,
                               .format = InfoOf(image.format).v4l2,
                               .width = static_cast<uint32_t>(image.width),
                               .height = static_cast<uint32_t>(image.height),
                               .name = PartyName::From(name)};
  ProbeResult result;
  {
    auto first = V4l2Queue<>::Open(options);
    if (!first.ok()) return ToStatus(first.error());
    result = ProbeWithKit(*first, first->frame_bytes(), kit);
  }
  if (told != nullptr) *told = result;
  AddProbed(result, options.constraints);
  options.traits.kernel_cpu_writes = result.needs_vmap.yes();
  auto queue = V4l2Queue<>::Open(options);
  if (!queue.ok()) return ToStatus(queue.error());
  return *std::move(queue);
}

// The first queue of vivid that the probe calls so.
inline absl::StatusOr<V4l2Queue<>> FindVivid(std::string_view name, ProbeVerdict wanted,
                                             const ImageSpec& image, ProbeKit& kit) {
  absl::Status last = absl::NotFoundError("no capture device of the driver vivid: modprobe vivid");
  for (int number = 0; number < 64; ++number) {
    const std::string node = absl::StrCat("/dev/video", number);
    auto plain = V4l2Queue<>::Open({.node = node});
    if (!plain.ok() || plain->driver() != "vivid") continue;
    ProbeResult result;
    auto queue = OpenQueue(node, name, image, kit, &result);
    if (!queue.ok()) {
      last = queue.status();
    } else if (result.verdict == wanted) {
      Print(name, result);
      return queue;
    }
  }
  return last;
}

inline absl::StatusOr<NamedDevice> OpenDevice(std::string_view word, const ImageSpec& image,
                                              ProbeKit& kit) {
  if (word == "cpu") {
    return NamedDevice(CpuDevice({.read = CpuUse::kOften, .write = CpuUse::kOften}));
  }
  if (word == "v4l2:vivid-vmalloc" || word == "v4l2:vivid-contig") {
    const auto wanted =
        word == "v4l2:vivid-contig" ? ProbeVerdict::kContiguousOnly : ProbeVerdict::kScatteredOk;
    auto queue = FindVivid(word, wanted, image, kit);
    if (!queue.ok()) return queue.status();
    return NamedDevice(*std::move(queue));
  }
  if (word.starts_with("v4l2:")) {
    ProbeResult result;
    auto queue = OpenQueue(std::string(word.substr(5)), word, image, kit, &result);
    if (!queue.ok()) return queue.status();
    Print(word, result);
    return NamedDevice(*std::move(queue));
  }
  if (word.starts_with("drm:")) {
    const std::string_view which = word.substr(4);
    Error last(ENOENT, "no card of this driver", {"drm", Operation::kOpen, which});
    for (int number = 0; number < 16; ++number) {
      const bool path = which.starts_with('/');
      const std::string node = path ? std::string(which) : absl::StrCat("/dev/dri/card", number);
      auto card = DrmNode<>::Open({.node = node, .name = PartyName::From(word)});
      if (card.ok() && (path || card->driver() == which)) return NamedDevice(*std::move(card));
      if (path) return ToStatus(card.error());
    }
    return ToStatus(last);
  }
  if (const Party* party = platforms::FindDevice(word); party != nullptr) {
    return NamedDevice(DeclaredDevice(*party));
  }
  return absl::NotFoundError(absl::StrCat("no device and no use has the name ", std::string(word)));
}

}  // namespace ion::demo

#endif  // ION_EXAMPLES_NAMED_DEVICE_H_
