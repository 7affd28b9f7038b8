// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: devices/declared.h
//
// DeclaredDevice: a device of which only the constraints are known. It is asked nothing and maps
// nothing: for a device whose driver this program does not open, and for tables
// (platforms/device_table.h).
//
// Example:
//   static constexpr ion::Constraints kNpu{.address_limit = ion::AddressOfBits(32)};
//   ion::DeclaredDevice npu(ion::Party("npu", kNpu));
//
// Cost: no system call. Thread-compatible.
#ifndef ION_DEVICES_DECLARED_H_
#define ION_DEVICES_DECLARED_H_

#include <cerrno>

#include "ion/base/error.h"
#include "ion/constraints.h"
#include "ion/device.h"

namespace ion {

class DeclaredDevice {
 public:
  // The party's sets are borrowed: they outlive the device.
  explicit constexpr DeclaredDevice(const Party& party, const DeviceTraits& traits = {}) noexcept
      : party_(party), traits_(traits) {}

  Party party() const noexcept { return party_; }
  DeviceTraits traits() const noexcept { return traits_; }
  Acceptance Accepts(const DeviceMemory& memory) noexcept {
    return {Acceptance::Verdict::kCannotAsk,
            Error(ENOTSUP, "a device that is only declared cannot be asked",
                  {"declared", Operation::kAttach, party_.name.view(), memory.range.bytes})};
  }
  Result<Imported> Map(const DeviceMemory&) noexcept { return Imported{}; }
  Error Unmap(const Imported&) noexcept { return {}; }
  bool InUse(const Imported&) const noexcept { return false; }

 private:
  Party party_;
  DeviceTraits traits_;
};
static_assert(DeviceCheck<DeclaredDevice>::kOk);

}  // namespace ion

#endif  // ION_DEVICES_DECLARED_H_
