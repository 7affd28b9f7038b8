// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/picky_device.h
//
// A device whose limits the test sets, of the guest's module (tests/guest/probe): whether it takes
// the memory of a dma-buf, and if not, why.
//
// Example:
//   if (!PickyDevice::Here()) return Skip(PickyDevice::kAbsent);
//   const PickyDevice device;
//   REQUIRE(Told(device.Set(PickyLimits({.segments_max = 1}))) == "ok");
//   const Result<ion_picky_answer> answer = device.Try(fd.borrow());
//   REQUIRE(Told(answer.error()) == "ok");
//   CHECK_MESSAGE(answer->rule == ION_PICKY_ACCEPTS, PickyText(*answer));

#ifndef ION_TESTS_SUPPORT_PICKY_DEVICE_H_
#define ION_TESTS_SUPPORT_PICKY_DEVICE_H_

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>

#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/constraints.h"
#include "tests/guest/probe/ion_picky.h"

namespace ion::testing {

// The limits of a device with these demands; what else they demand is none of its business. A
// device has no more than 2³² - 1 segments. Requires: address_limit is a mask of whole bits.
inline ion_picky_limits PickyLimits(const Constraints& set, uint32_t flags = 0) {
  const auto of = [&](const StatedWord& value, uint64_t neutral) {
    return value.stated() ? value.word : neutral;
  };
  const uint64_t boundary = of(set.segment_boundary, UINT64_MAX);
  ion_picky_limits limits{};
  limits.segment_size_max = of(set.segment_size_max, UINT64_MAX);
  limits.segment_boundary = boundary == UINT64_MAX ? 0 : boundary;
  limits.segment_multiple = of(set.segment_multiple, 1);
  limits.segments_max =
      static_cast<uint32_t>(std::min<uint64_t>(of(set.segments_max, UINT32_MAX), UINT32_MAX));
  limits.mask_bits = static_cast<uint32_t>(std::bit_width(of(set.address_limit, UINT64_MAX)));
  limits.flags = flags;
  return limits;
}

// "segments: 0x1d, and the limit is 0x4; 118784 bytes in 29 runs up to 0x3bfff".
inline std::string PickyText(const ion_picky_answer& answer) {
  static constexpr const char* kRules[] = {"accepts", "address", "bounced", "multiple", "segments"};
  char text[200];
  std::snprintf(text, sizeof(text),
                "%s: 0x%llx, and the limit is 0x%llx; %llu bytes in %u runs up to 0x%llx",
                answer.rule < 5 ? kRules[answer.rule] : "?", answer.value, answer.limit,
                answer.bytes, answer.runs, answer.highest_physical);
  return text;
}

class PickyDevice {
 public:
  static constexpr const char* kNode = "/dev/ion_picky";
  static constexpr const char* kAbsent = "no /dev/ion_picky";

  static bool Here() { return ::access(kNode, F_OK) == 0; }

  PickyDevice() : node_(::open(kNode, O_RDWR | O_CLOEXEC)) {}

  // The errors are those of tests/guest/probe.
  Error Set(const ion_picky_limits& limits) const {
    if (::ioctl(node_.get(), ION_PICKY_IOCTL_SET, &limits) == 0) return {};
    return Failure("ION_PICKY_IOCTL_SET");
  }
  Result<ion_picky_answer> Try(FdRef dma_buf) const {
    ion_picky_answer answer{};
    answer.fd = dma_buf.get();
    if (::ioctl(node_.get(), ION_PICKY_IOCTL_TRY, &answer) == 0) return answer;
    return Failure("ION_PICKY_IOCTL_TRY");
  }
  FdRef node() const { return node_.borrow(); }

 private:
  static Error Failure(const char* what) {
    return {errno, what, {"ion_picky", Operation::kImport, kNode}};
  }

  UniqueFd node_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_PICKY_DEVICE_H_
