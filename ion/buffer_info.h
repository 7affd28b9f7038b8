// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/buffer_info.h
//
// BufferInfo and SharedRange: a client's answers about the memory behind a handle (Client::Info,
// Client::ShareRange).
//
// Cost: plain data. Thread-compatible.
#ifndef ION_ION_BUFFER_INFO_H_
#define ION_ION_BUFFER_INFO_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "ion/base/fd.h"
#include "ion/frame_shape.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion {

// A range of a descriptor that leads to more.
struct SharedRange {
  UniqueFd fd;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// The memory behind a handle.
struct BufferInfo {
  uint64_t bytes = 0;
  Properties properties;
  std::optional<HeapId> heap;  // none: imported
  uint32_t count = 0;          // Frees that it takes
  // The name of the kernel heap, or empty. Valid while the Manager or the client lives.
  std::string_view heap_name = {};
  StatedFrame stated = {};  // as Buffer::stated
};

}  // namespace ion

#endif  // ION_ION_BUFFER_INFO_H_
