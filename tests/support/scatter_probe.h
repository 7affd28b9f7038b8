// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/scatter_probe.h
//
// The scatter list of a dma-buf, as the guest's module tells it (tests/guest/probe): where the
// memory is, and in how many pieces.
//
// Example:
//   if (!ScatterProbe::Here()) return Skip(ScatterProbe::kAbsent);
//   const Result<std::vector<DmaSegment>> segments = ScatterProbe::List(fd.borrow());
//   REQUIRE(Told(segments.error()) == "ok");
//   CHECK(Runs(*segments) == 1);  // contiguous

#ifndef ION_TESTS_SUPPORT_SCATTER_PROBE_H_
#define ION_TESTS_SUPPORT_SCATTER_PROBE_H_

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "tests/guest/probe/scatter_probe.h"

namespace ion::testing {

struct DmaSegment {
  uint64_t address = 0;  // physical: no IOMMU stands between
  uint64_t bytes = 0;

  friend bool operator==(const DmaSegment&, const DmaSegment&) = default;
};

inline uint64_t TotalBytes(const std::vector<DmaSegment>& segments) {
  uint64_t total = 0;
  for (const DmaSegment& segment : segments) total += segment.bytes;
  return total;
}

// In how many pieces the memory is: two segments of which one begins where the other ends are one.
inline size_t Runs(const std::vector<DmaSegment>& segments) {
  size_t runs = 0;
  uint64_t end = 0;
  for (const DmaSegment& segment : segments) {
    if (runs == 0 || segment.address != end) ++runs;
    end = segment.address + segment.bytes;
  }
  return runs;
}

class ScatterProbe {
 public:
  static constexpr const char* kNode = "/dev/scatter_probe";
  static constexpr const char* kAbsent = "no /dev/scatter_probe";

  static bool Here() { return ::access(kNode, F_OK) == 0; }

  // The list, in the order of the buffer's bytes. The errors are those of tests/guest/probe.
  static Result<std::vector<DmaSegment>> List(FdRef dma_buf) {
    const UniqueFd node(::open(kNode, O_RDWR | O_CLOEXEC));
    if (!node.valid()) return Failure("open");
    scatter_probe_list list{};
    list.fd = dma_buf.get();
    std::vector<scatter_probe_segment> raw;
    // Asked twice: for how many there are, and for them.
    for (int i = 0; i < 2; ++i) {
      raw.resize(list.count);
      list.capacity = list.count;
      list.segments = reinterpret_cast<uintptr_t>(raw.data());
      if (::ioctl(node.get(), SCATTER_PROBE_IOCTL_LIST, &list) != 0) {
        return Failure("SCATTER_PROBE_IOCTL_LIST");
      }
    }
    std::vector<DmaSegment> segments;
    segments.reserve(raw.size());
    for (const auto& [address, bytes] : raw) segments.push_back({address, bytes});
    return segments;
  }

 private:
  static Error Failure(const char* what) {
    return {errno, what, {"scatter_probe", Operation::kImport, kNode}};
  }
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SCATTER_PROBE_H_
