// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/scripted_device.h
//
// ScriptedDevice: a device that takes, refuses or fails as a test says, and counts what it is asked
// and holds.

#ifndef ION_TESTS_SUPPORT_SCRIPTED_DEVICE_H_
#define ION_TESTS_SUPPORT_SCRIPTED_DEVICE_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>

#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/constraints.h"
#include "ion/device.h"

namespace ion::testing {

class ScriptedDevice {
 public:
  explicit ScriptedDevice(const PartyName& name, const Constraints& needs = {}) noexcept
      : name_(name), needs_(needs) {}
  ScriptedDevice(const ScriptedDevice&) = delete;
  ScriptedDevice& operator=(const ScriptedDevice&) = delete;

  Party party() const noexcept { return {name_, needs_}; }
  DeviceTraits traits() const noexcept { return told; }
  Acceptance Accepts(const DeviceMemory& memory) noexcept {
    ++asked;
    if (at_kernel) at_kernel();
    if (refuses && refuses(memory)) {
      return {Acceptance::Verdict::kRefuses,
              Error(EFAULT, "the script refuses the memory",
                    {"scripted", Operation::kAttach, name_.view(), memory.range.bytes})};
    }
    return {verdict, {}};
  }
  Result<Imported> Map(const DeviceMemory& memory) noexcept {
    if (map_errno != 0) {
      return Error(map_errno, "the script fails",
                   {"scripted", Operation::kAttach, name_.view(), memory.range.bytes});
    }
    held.insert(++last);
    return Imported{Imported::Kind::kOwn, last};
  }
  Error Unmap(const Imported& mapped) noexcept {
    if (at_kernel) at_kernel();
    held.erase(mapped.number);
    if (unmap_errno == 0) return {};
    return Error(unmap_errno, "the script fails", {"scripted", Operation::kDetach, name_.view()});
  }
  bool InUse(const Imported& mapped) const noexcept { return busy.contains(mapped.number); }

  // The script.
  DeviceTraits told = {};
  Acceptance::Verdict verdict = Acceptance::Verdict::kTakes;
  std::function<bool(const DeviceMemory&)> refuses;
  std::function<void()> at_kernel;  // before it lets go of memory, or is asked for it
  int map_errno = 0;
  int unmap_errno = 0;
  std::set<uint64_t> busy;

  // The record.
  size_t asked = 0;
  uint64_t last = 0;
  std::set<uint64_t> held;

 private:
  PartyName name_;
  Constraints needs_;
};
static_assert(DeviceCheck<ScriptedDevice>::kOk);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SCRIPTED_DEVICE_H_
