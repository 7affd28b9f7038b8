// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/pixel_check.h
//
// PixelCheck: a look at the pixels before memory is taken for good. A device may take a buffer and
// not reach it: the kernel makes a copy of it (swiotlb), and the device writes there. Only the bytes
// tell that. The check has the device write, or read, a pattern, and looks at the other side.
//
// Example:
//   auto check = [&](ion::DeviceRef device, const ion::DeviceMemory& memory,
//                    const ion::Buffer& buffer) noexcept {
//     return device == ion::DeviceRef(camera) ? CaptureOne(memory, buffer) : ion::Error();
//   };
//   auto stream = ion::Stream::Reserve(client, offers, {.bytes = 1_MiB, .pixels = check});
//
// Cost: two words. The callable is borrowed: it lives as long as the stream.
#ifndef ION_ION_PIXEL_CHECK_H_
#define ION_ION_PIXEL_CHECK_H_

#include <concepts>
#include <type_traits>

#include "ion/base/error.h"
#include "ion/buffer.h"
#include "ion/device.h"

namespace ion {

// A reference to a callable, or none. It is asked of each device and each buffer; the device has
// said that it takes the buffer, or cannot be asked. An error: the device cannot use the memory, and
// the next heap is tried.
class PixelCheck {
 public:
  constexpr PixelCheck() = default;
  template <class F>
    requires(!std::same_as<F, PixelCheck> &&
             std::is_nothrow_invocable_r_v<Error, F&, DeviceRef, const DeviceMemory&,
                                           const Buffer&>)
  constexpr PixelCheck(F& check) noexcept  // NOLINT: {.pixels = check}
      : check_(&check),
        call_([](void* to, DeviceRef device, const DeviceMemory& memory,
                 const Buffer& buffer) noexcept -> Error {
          return (*static_cast<F*>(to))(device, memory, buffer);
        }) {}

  // True if there is a callable.
  constexpr bool set() const noexcept { return call_ != nullptr; }
  // Requires: set().
  Error operator()(DeviceRef device, const DeviceMemory& memory,
                   const Buffer& buffer) const noexcept {
    return call_(check_, device, memory, buffer);
  }

 private:
  void* check_ = nullptr;
  Error (*call_)(void*, DeviceRef, const DeviceMemory&, const Buffer&) noexcept = nullptr;
};

}  // namespace ion

#endif  // ION_ION_PIXEL_CHECK_H_
