// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/phys_region.h
//
// PhysRegion: a range of physical memory that was kept from the kernel (`memmap=16M$0x30000000` on
// its command line, or a device tree's reserved-memory with `no-map`), through /dev/mem, as with
// ION's ion_physmem. Its addresses are known.
//
// The spec's base and bytes are believed: a range that is not reserved is the kernel's own memory
// or another driver's. No descriptor of it ever leaves the process, as it would show all of memory.
//
// It is mapped O_SYNC, uncached, so that CPU access needs no begin and end; and zeroed in aligned
// words, as memset may use instructions (arm64: dc zva) that fault on device memory.
//
// Cost: three system calls to open. Thread-safe.
#ifndef ION_POLICIES_CARVEOUT_PHYS_REGION_H_
#define ION_POLICIES_CARVEOUT_PHYS_REGION_H_

#include <fcntl.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/heap_spec.h"
#include "ion/policies/carveout/region.h"

namespace ion {

template <Backend B, Syscalls Sys = LinuxSyscalls>
class PhysRegion {
 public:
  static constexpr RegionCaps kCaps = {.knows_phys = true, .syncs = false};
  static constexpr const char* kNode = "/dev/mem";

  // EINVAL: the range is not whole pages. EACCES, ENOENT: no /dev/mem for us. EPERM: the kernel
  // does not let this range be mapped.
  static Result<PhysRegion> Open(B& backend, const HeapSpec& spec) noexcept {
    const Origin origin{B::kName, Operation::kOpen, kNode, spec.bytes};
    if (spec.bytes == 0 || !IsPageAligned(spec.base) || !IsPageAligned(spec.bytes) ||
        spec.base > PTRDIFF_MAX - spec.bytes) {
      return Error(EINVAL, "the spec's base and bytes are not whole pages", origin);
    }
    const long opened = OpenRetrying(Sys(), kNode, O_RDWR | O_SYNC);
    if (Failed(opened)) {
      // The kernel itself wants the capability.
      return Error(
          ErrnoFrom(opened), "open", origin,
          opened == -EPERM ? kAdvice.rule : NodeHint(Sys(), kNode, opened, O_RDWR, kAdvice));
    }
    PhysRegion region(UniqueFd(static_cast<int>(opened)), spec);
    const Block& whole = region.whole_;
    const Result<std::byte*> at = backend.Map(whole, 0, whole.bytes, MapMode::kWritable);
    if (!at.ok()) {
      return Error(at.error().code(), "mmap", origin,
                   "the range must be kept from the kernel (memmap=, or reserved-memory with "
                   "no-map), and CONFIG_STRICT_DEVMEM must allow it");
    }
    if (Error error = backend.Unmap(*at, whole.bytes); !error.ok()) return error;
    return region;
  }

  const Block& whole() const noexcept { return whole_; }

  void Scrub(std::byte* at, uint64_t bytes) const noexcept {
    auto* word = reinterpret_cast<volatile uint64_t*>(at);
    for (uint64_t i = 0; i < bytes / sizeof(*word); ++i) word[i] = 0;
  }

 private:
  PhysRegion(UniqueFd memory, const HeapSpec& spec) noexcept : memory_(std::move(memory)) {
    whole_.fd = memory_.get();
    whole_.offset = spec.base;
    whole_.bytes = spec.bytes;
    whole_.writable = true;
    whole_.cpu_mappable = true;
    whole_.cached = false;
    whole_.contiguous = true;
    whole_.alignment_log2 =
        static_cast<uint8_t>(std::countr_zero(spec.base | uint64_t{1} << 62)) & 63;
  }

  static constexpr NodeAdvice kAdvice = {
      .absent = [](const LinuxRelease&) -> const char* {
        return "the kernel needs CONFIG_DEVMEM=y";
      },
      .rule = "/dev/mem wants root, with CAP_SYS_RAWIO, and a container that has the device",
      .sysfs = "/sys/class/mem/mem"};

  UniqueFd memory_;
  Block whole_;
};
static_assert(RegionCheck<PhysRegion<BackendArchetype>, BackendArchetype>::kOk);

// PhysRegion, described without a backend.
struct Physical {
  template <Backend B>
  using On = PhysRegion<B>;
};

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_PHYS_REGION_H_
