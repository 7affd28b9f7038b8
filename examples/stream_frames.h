// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/stream_frames.h
//
// Frames of a camera through the buffers of a stream. The CPU paints each buffer before the camera
// has it, and looks at each frame after: a row that still has the paint was not written, or was
// written elsewhere (a copy that the kernel made for a device which cannot reach the memory).

#ifndef ION_EXAMPLES_STREAM_FRAMES_H_
#define ION_EXAMPLES_STREAM_FRAMES_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/device.h"
#include "ion/devices/v4l2_queue.h"
#include "ion/image_layout.h"
#include "ion/plane_view.h"
#include "ion/stream.h"

namespace ion::demo {

struct FrameTally {
  uint32_t frames = 0;
  uint32_t mismatches = 0;
};

inline constexpr std::byte kPaint{0xa5};

inline absl::Status PaintBuffer(Stream& stream, uint32_t buffer) {
  absl::StatusOr<MovableMapping> mapping = stream.Map(buffer);
  if (!mapping.ok()) return mapping.status();
  auto cpu = mapping->Write();
  if (!cpu.ok()) return cpu.status();
  std::ranges::fill(cpu->bytes(), kPaint);
  return std::move(*cpu).End();
}

// True if each row of each plane has been written.
inline absl::StatusOr<bool> IsWritten(Stream& stream, uint32_t buffer) {
  absl::StatusOr<MovableMapping> mapping = stream.Map(buffer);
  if (!mapping.ok()) return mapping.status();
  auto cpu = mapping->Read();
  if (!cpu.ok()) return cpu.status();
  for (unsigned plane = 0; plane < stream.image()->planes; ++plane) {
    const absl::StatusOr<ConstPlaneView> rows = PlaneOf(cpu->bytes(), *stream.image(), plane);
    if (!rows.ok()) return rows.status();
    for (uint64_t y = 0; y < rows->rows(); ++y) {
      if (std::ranges::all_of(rows->row(y), [](std::byte b) { return b == kPaint; })) return false;
    }
  }
  return true;
}

// A sum of the content of all buffers.
inline absl::StatusOr<uint64_t> ContentOf(Stream& stream) {
  uint64_t sum = 0xcbf29ce484222325;  // FNV-1a
  for (uint32_t buffer = 0; buffer < stream.buffers(); ++buffer) {
    absl::StatusOr<MovableMapping> mapping = stream.Map(buffer);
    if (!mapping.ok()) return mapping.status();
    auto cpu = mapping->Read();
    if (!cpu.ok()) return cpu.status();
    const auto bytes = cpu->bytes().first(static_cast<size_t>(stream.bytes()));
    for (const std::byte one : bytes) sum = (sum ^ static_cast<uint64_t>(one)) * 0x100000001b3;
  }
  return sum;
}

// `frames` frames of the queue, each read by the CPU and by the other attached devices.
inline absl::Status RunFrames(Stream& stream, V4l2Queue<>& queue, Attachment& camera,
                              std::span<Attachment* const> readers, uint32_t frames,
                              FrameTally& tally) {
  std::vector<DeviceMapping> slots;
  for (uint32_t buffer = 0; buffer < stream.buffers(); ++buffer) {
    absl::StatusOr<DeviceMapping> mapping = camera.Map(buffer);
    if (!mapping.ok()) return mapping.status();
    slots.push_back(*std::move(mapping));
  }
  const auto give = [&](uint32_t buffer) -> absl::Status {
    if (absl::Status status = PaintBuffer(stream, buffer); !status.ok()) return status;
    if (absl::Status status = slots[buffer].BeginUse(Direction::kWrite); !status.ok()) {
      return status;
    }
    const absl::StatusOr<Imported> slot = slots[buffer].imported();
    return slot.ok() ? ToStatus(queue.Queue(*slot)) : slot.status();
  };
  const auto take = [&](uint32_t buffer) -> absl::Status {
    if (absl::Status status = slots[buffer].EndUse(); !status.ok()) return status;
    const absl::StatusOr<bool> written = IsWritten(stream, buffer);
    if (!written.ok()) return written.status();
    for (Attachment* const reader : readers) {
      absl::StatusOr<DeviceMapping> mapping = reader->Map(buffer);
      if (!mapping.ok()) return mapping.status();
      if (absl::Status status = mapping->BeginUse(Direction::kRead); !status.ok()) return status;
      if (absl::Status status = mapping->EndUse(); !status.ok()) return status;
    }
    ++tally.frames;
    if (!*written) ++tally.mismatches;
    return absl::OkStatus();
  };
  const auto run = [&]() -> absl::Status {
    for (uint32_t buffer = 0; buffer < stream.buffers(); ++buffer) {
      if (absl::Status status = give(buffer); !status.ok()) return status;
    }
    if (Error error = queue.Start(); !error.ok()) return ToStatus(error);
    for (uint32_t frame = 0; frame < frames; ++frame) {
      const auto patience = std::chrono::seconds(20);
      const Result<V4l2Done> done = queue.Dequeue(std::chrono::steady_clock::now() + patience);
      if (!done.ok()) return ToStatus(done.error());
      for (uint32_t buffer = 0; buffer < stream.buffers(); ++buffer) {
        const absl::StatusOr<Imported> slot = slots[buffer].imported();
        if (!slot.ok()) return slot.status();
        if (*slot != done->slot) continue;
        if (absl::Status status = take(buffer); !status.ok()) return status;
        if (absl::Status status = give(buffer); !status.ok()) return status;
        break;
      }
    }
    return absl::OkStatus();
  };
  const absl::Status status = run();
  // The uses that are open end with their mappings.
  const Error stopped = queue.Stop();
  return status.ok() ? ToStatus(stopped) : status;
}

}  // namespace ion::demo

#endif  // ION_EXAMPLES_STREAM_FRAMES_H_
