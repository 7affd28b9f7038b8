// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/device.h
//
// The contract of a device: something that uses memory, such as a V4L2 queue, a DRM node or the
// CPU. It states its constraints, says if it takes a buffer, and maps it. devices/ has some;
// devices/README.md tells how to write one.
//
// A device is attached to a stream of buffers (ion/stream.h), which makes no call of it but party()
// and traits(): Accepts and Map are called once there is memory. Map is the kernel's attach and map
// at once, as VIDIOC_PREPARE_BUF and DRM_IOCTL_PRIME_FD_TO_HANDLE are.
//
// Example, a sentence for each broken rule:
//   static_assert(ion::DeviceCheck<MyCodec>::kOk);
//
// Rules that a compiler cannot see:
//   Ensures: Accepts leaves nothing behind: no queued slot, no handle, no descriptor.
//   Ensures: after Unmap, also of a device that has vanished, the device holds nothing of it.
//   Ensures: traits() answers the same as long as the device is attached.
//   Requires: the device lives, and stays in its place, as long as it is attached; no function of it
//     calls the stream.
//
// Cost: a DeviceRef is two words, and one indirect call for each of its functions.
// Thread-compatible.
#ifndef ION_ION_DEVICE_H_
#define ION_ION_DEVICE_H_

#include <concepts>
#include <cstdint>
#include <string_view>

#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/block.h"
#include "ion/constraints.h"
#include "ion/image_layout.h"

namespace ion {

// The traits of a device, beside its constraints: its own word. Unknown is no promise.
struct DeviceTraits {
  Known coherent = {};    // it sees the CPU's caches: CPU access needs no begin or end for it
  Known translated = {};  // an IOMMU of its own translates its addresses
  // An import maps the memory for the device, so that its yes is evidence. No: a yes says nothing.
  Known maps_at_import = {};
  Fences fences = Fences::kNone;  // the best ones that it takes and gives
  bool kernel_cpu_writes =
      false;  // its driver's CPU writes: a UVC camera, a queue of vmalloc memory

  friend constexpr bool operator==(const DeviceTraits&, const DeviceTraits&) = default;
};

// Memory that a device is asked to use. Borrowed for the call.
struct DeviceMemory {
  BlockRange range;                    // whole pages
  const ImageLayout* image = nullptr;  // of the image in it; nullptr: bytes
};

// The answer of a device that was asked to take a buffer.
struct Acceptance {
  enum class Verdict : uint8_t {
    kTakes,       // it mapped the memory, and let go of it
    kRefuses,     // `error` is the call that said no
    kNoEvidence,  // it took a descriptor, and did not map the memory: this says nothing
    kCannotAsk,   // `error` says why: it is busy, or gone, or has no way to ask
  };
  Verdict verdict = Verdict::kNoEvidence;
  Error error = {};
};

constexpr std::string_view VerdictName(Acceptance::Verdict verdict) noexcept {
  switch (verdict) {
    case Acceptance::Verdict::kTakes:
      return "takes";
    case Acceptance::Verdict::kRefuses:
      return "refuses";
    case Acceptance::Verdict::kNoEvidence:
      return "no evidence";
    case Acceptance::Verdict::kCannotAsk:
      return "cannot ask";
  }
  return "?";
}

// The name by which a device knows a buffer that it mapped.
struct Imported {
  enum class Kind : uint8_t {
    kNothing,      // the CPU, or a device that is only declared
    kGemHandle,    // of the DRM node's file
    kFramebuffer,  // a KMS framebuffer's id
    kQueueSlot,    // the index of a V4L2 queue's buffer
    kOwn,          // a number of the device's own
  };
  Kind kind = Kind::kNothing;
  uint64_t number = 0;
  friend constexpr bool operator==(const Imported&, const Imported&) = default;
};

// Its name, constraints and traits. The party's sets live as long as the device.
template <class D>
concept DeviceParty = requires(const D& d) {
  { d.party() } noexcept -> std::same_as<Party>;
  { d.traits() } noexcept -> std::same_as<DeviceTraits>;
};

// Asks the device for its answer, for this memory and no other.
template <class D>
concept DeviceAccepts = requires(D& d, const DeviceMemory& memory) {
  { d.Accepts(memory) } noexcept -> std::same_as<Acceptance>;
};

// Map imports memory, which the device uses from then on until Unmap. InUse: the hardware may use
// it at this moment, or somebody took what Map gave (a queued slot, a framebuffer on the screen);
// Unmap is EBUSY then.
template <class D>
concept DeviceMap = requires(D& d, const D& c, const DeviceMemory& memory, const Imported& mapped) {
  { d.Map(memory) } noexcept -> std::same_as<Result<Imported>>;
  { d.Unmap(mapped) } noexcept -> std::same_as<Error>;
  { c.InUse(mapped) } noexcept -> std::same_as<bool>;
};

template <class D>
concept Device = DeviceParty<D> && DeviceAccepts<D> && DeviceMap<D>;

// One sentence per rule. Put `static_assert(DeviceCheck<D>::kOk);` under a device.
template <class D>
struct DeviceCheck {
  static_assert(DeviceParty<D>,
                "ion: a device needs `Party party() const noexcept` and `DeviceTraits traits() "
                "const noexcept`");
  static_assert(DeviceAccepts<D>,
                "ion: a device needs `Acceptance Accepts(const DeviceMemory&) noexcept`: "
                "Verdict::kCannotAsk if there is no way to ask it");
  static_assert(DeviceMap<D>,
                "ion: a device needs `Result<Imported> Map(const DeviceMemory&) noexcept`, `Error "
                "Unmap(const Imported&) noexcept` and `bool InUse(const Imported&) const "
                "noexcept`");
  static constexpr bool kOk = Device<D>;
};

// A reference to a device of any type. Two are equal if they refer to one device.
class DeviceRef {
 public:
  // A DeviceRef has a device's functions, and is none.
  template <Device D>
    requires(!std::same_as<D, DeviceRef>)
  DeviceRef(D& device) noexcept : device_(&device), ops_(&kOps<D>) {}  // NOLINT: Attach(queue)
  template <class D>
    requires(!std::same_as<D, DeviceRef>)
  DeviceRef(const D&&) = delete;

  Party party() const noexcept { return ops_->party(device_); }
  DeviceTraits traits() const noexcept { return ops_->traits(device_); }
  Acceptance Accepts(const DeviceMemory& memory) const noexcept {
    return ops_->accepts(device_, memory);
  }
  Result<Imported> Map(const DeviceMemory& memory) const noexcept {
    return ops_->map(device_, memory);
  }
  Error Unmap(const Imported& mapped) const noexcept { return ops_->unmap(device_, mapped); }
  bool InUse(const Imported& mapped) const noexcept { return ops_->in_use(device_, mapped); }

  friend bool operator==(const DeviceRef& a, const DeviceRef& b) noexcept {
    return a.device_ == b.device_;
  }

 private:
  struct Ops {
    Party (*party)(void*) noexcept;
    DeviceTraits (*traits)(void*) noexcept;
    Acceptance (*accepts)(void*, const DeviceMemory&) noexcept;
    Result<Imported> (*map)(void*, const DeviceMemory&) noexcept;
    Error (*unmap)(void*, const Imported&) noexcept;
    bool (*in_use)(void*, const Imported&) noexcept;
  };
  template <class D>
  static constexpr Ops kOps = {
      [](void* d) noexcept { return static_cast<const D*>(d)->party(); },
      [](void* d) noexcept { return static_cast<const D*>(d)->traits(); },
      [](void* d, const DeviceMemory& memory) noexcept {
        return static_cast<D*>(d)->Accepts(memory);
      },
      [](void* d, const DeviceMemory& memory) noexcept { return static_cast<D*>(d)->Map(memory); },
      [](void* d, const Imported& mapped) noexcept { return static_cast<D*>(d)->Unmap(mapped); },
      [](void* d, const Imported& mapped) noexcept {
        return static_cast<const D*>(d)->InUse(mapped);
      }};

  void* device_;
  const Ops* ops_;
};

}  // namespace ion

#endif  // ION_ION_DEVICE_H_
