// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: devices/cpu.h
//
// CpuDevice: the program's CPU as a device, so that a stream that it reads or writes gets memory
// that it can map, and cached memory if it does so often. It is asked nothing and maps nothing:
// a mapping is CpuMapping's business (ion/cpu_mapping.h).
//
// Example:
//   ion::CpuDevice reader({.read = ion::CpuUse::kOften});
//   const ion::Party parties[] = {camera.party(), reader.party()};
//   const ion::Choice choice = ion::Choose(parties, offers.span());
//
// Cost: no system call. Thread-compatible.
#ifndef ION_DEVICES_CPU_H_
#define ION_DEVICES_CPU_H_

#include <cerrno>

#include "ion/base/error.h"
#include "ion/constraints.h"
#include "ion/device.h"

namespace ion {

class CpuDevice {
 public:
  static constexpr const char* kName = "cpu";

  struct Options {
    CpuUse read = CpuUse::kNone;
    CpuUse write = CpuUse::kNone;
    PartyName name = "cpu";
    Party::Kind need = Party::Kind::kNeeded;
  };

  explicit constexpr CpuDevice(const Options& options) noexcept
      : name_(options.name),
        need_(options.need),
        constraints_{.cpu_read = options.read, .cpu_write = options.write} {}

  Party party() const noexcept { return Party(name_, constraints_, need_); }
  // It sees its own caches. Its import is no evidence, because there is none.
  DeviceTraits traits() const noexcept { return {.coherent = true, .maps_at_import = false}; }
  Acceptance Accepts(const DeviceMemory& memory) noexcept {
    return {Acceptance::Verdict::kCannotAsk,
            Error(ENOTSUP, "a CPU imports nothing: map the buffer",
                  {kName, Operation::kAttach, name_.view(), memory.range.bytes})};
  }
  Result<Imported> Map(const DeviceMemory&) noexcept { return Imported{}; }
  Error Unmap(const Imported&) noexcept { return {}; }
  bool InUse(const Imported&) const noexcept { return false; }

 private:
  PartyName name_;
  Party::Kind need_;
  Constraints constraints_;
};
static_assert(DeviceCheck<CpuDevice>::kOk);

}  // namespace ion

#endif  // ION_DEVICES_CPU_H_
