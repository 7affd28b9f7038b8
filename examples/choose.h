// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/choose.h
//
// Finds a source and memory that go together: of the heaps that suit the source and the CPU the
// least scarce comes first. A device that cannot follow its memory says EFAULT, and gets that of the
// next one.
#ifndef ION_EXAMPLES_CHOOSE_H_
#define ION_EXAMPLES_CHOOSE_H_

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/frame_source.h"
#include "examples/options.h"
#include "examples/pattern_source.h"
#include "examples/prime_source.h"
#include "examples/test_pattern.h"
#include "examples/v4l2_source.h"
#include "ion/base/memory_top.h"
#include "ion/base/status.h"
#include "ion/buffer_info.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/client_ref.h"
#include "ion/constraints.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/shared_buffer.h"

namespace ion::demo {

// A source at work in our buffers. The members end in the reverse order: the source lets go first.
struct Choice {
  std::vector<FrameBuffer> buffers;
  std::string heap;
  std::unique_ptr<FrameSource> source;
};

// Buffers from `heaps`, with the source started on them. The device keeps them, and the consumer
// will: shared memory.
inline absl::StatusOr<Choice> TryHeaps(ClientRef client, HeapMask heaps,
                                       std::unique_ptr<FrameSource>& source, uint32_t count) {
  Choice choice;
  absl::StatusOr<std::vector<SharedBuffer>> ring = client.AllocateShared(
      {.bytes = source->format().bytes, .heaps = heaps, .name = "demo"}, count);
  if (!ring.ok()) return ring.status();
  for (SharedBuffer& buffer : *ring) {
    const absl::StatusOr<BufferInfo> info = client.Info(buffer.handle());
    if (!info.ok()) return info.status();
    choice.heap = info->heap_name;
    absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(buffer);
    if (!mapping.ok()) return mapping.status();
    choice.buffers.push_back({std::move(buffer), *std::move(mapping)});
  }
  if (absl::Status status = source->Start(choice.buffers); !status.ok()) return status;
  choice.source = std::move(source);
  return choice;
}

// `source` with the first memory that it takes, of the heaps that suit it and the CPU, the least
// scarce first (ion/choice.h). Says what it did not take, and why.
template <class M>
absl::StatusOr<Choice> TrySource(M& manager, ClientRef client, std::unique_ptr<FrameSource> source,
                                 const Options& options) {
  if (options.prime) {
    absl::StatusOr<std::unique_ptr<FrameSource>> seen = PrimeSource::Around(std::move(source));
    if (!seen.ok()) return seen.status();
    source = *std::move(seen);
  }
  // What the source needs of memory, only the source itself can tell: it is asked.
  const Constraints frames{.size_min = source->format().bytes};
  constexpr Constraints kCpu{.cpu_read = CpuUse::kOften, .cpu_write = CpuUse::kOften};
  const Party parties[] = {{PartyName::From(source->name()), frames}, {"cpu", kCpu}};
  const HeapOffers offers = OffersOf(manager, ReadMemoryTops());
  const ion::Choice chosen = ion::Choose(parties, offers.span());
  if (!chosen.ok()) return ToStatus(chosen, parties, offers.span());
  absl::StatusOr<Choice> choice = absl::InternalError("no heap was tried");
  for (const HeapId heap : chosen.heaps()) {
    choice = TryHeaps(client, heap, source, options.buffers);
    if (choice.ok()) break;
    std::printf("demo: not taken: heap %s: %s\n", std::string(manager.HeapName(heap)).c_str(),
                std::string(choice.status().message()).c_str());
    if (ErrnoOf(choice.status()) != EFAULT) break;
  }
  return choice;
}

// The first source of those that the options allow that works with this manager's memory.
template <class M>
absl::StatusOr<Choice> Choose(M& manager, ClientRef client, const Options& options) {
  const bool named = !options.device.empty();
  std::vector<std::string> devices;
  if (named) {
    devices.push_back(options.device);
  } else if (options.source != SourceChoice::kPattern) {
    devices = FindVividNodes();
    if (devices.empty()) std::puts("demo: not taken: vivid: no such capture device under /dev");
  }
  absl::Status last = absl::NotFoundError(
      "no vivid capture device: load it (modprobe vivid), or say --source pattern");
  for (const std::string& device : devices) {
    absl::StatusOr<std::unique_ptr<V4l2Source>> source =
        V4l2Source::Open(device, options.width, options.height);
    if (!source.ok()) {
      last = source.status();
      std::printf("demo: not taken: %s\n", std::string(last.message()).c_str());
      continue;
    }
    absl::StatusOr<Choice> choice = TrySource(manager, client, *std::move(source), options);
    if (choice.ok()) return choice;
    last = choice.status();
    // The kernel cannot map this memory for vivid, which fills it by CPU. Another vivid, whose
    // queue does not try that at once, would bring the kernel down (Linux 5.10).
    if (ErrnoOf(last) == EFAULT) break;
  }
  if (named || options.source == SourceChoice::kVivid) return last;
  return TrySource(manager, client,
                   std::make_unique<PatternSource>(PatternFormat(options.width, options.height)),
                   options);
}

}  // namespace ion::demo

#endif  // ION_EXAMPLES_CHOOSE_H_
