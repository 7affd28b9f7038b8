// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/memory_top.h
//
// The highest physical addresses of the machine's memory, and of its contiguous memory (CMA), from
// /proc/zoneinfo, which everybody may read. A device that reaches this address reaches all memory
// that the kernel allocates from. Memory that is added later (hotplug) may lie higher.
//
// Example:
//   const ion::Result<ion::MemoryTops> tops = ion::ReadMemoryTops();
//   const bool low = tops.ok() && tops->memory <= 0xffffffff;  // a 32-bit device reaches all of it
//
// Cost: one read for each 4 KiB of the file, which has some 20 KiB. Thread-safe.
#ifndef ION_ION_BASE_MEMORY_TOP_H_
#define ION_ION_BASE_MEMORY_TOP_H_

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/kernel_text.h"
#include "ion/base/proc_hint.h"
#include "ion/base/syscalls.h"

namespace ion {

namespace internal {

// Reads the text of /proc/zoneinfo in parts. A zone begins with "Node 0, zone   Normal"; its pages
// are "present  N" and "spanned  N", and if it has any, "start_pfn:  N" is there as well; "cma  N"
// of them are of CMA regions (a line since Linux 5.12).
class ZoneReader {
 public:
  // Takes the next part of the text.
  void Read(std::string_view part) noexcept {
    for (const char c : part) {
      if (c == '\n') {
        EndLine();
      } else if (length_ < sizeof(line_)) {
        line_[length_++] = c;
      } else {
        cut_ = true;  // a long line is none of those that are looked for
      }
    }
  }
  // After the whole text: the highest address, the last of its page. None: the text has no zone
  // with memory, or is not as the kernel writes it.
  std::optional<uint64_t> Top(uint64_t page_bytes) noexcept {
    EndLine();
    EndZone();
    return LastOf(most_, page_bytes);
  }
  // After Top: the same of the zones that have pages of CMA regions. None also: the kernel does not
  // tell which have some.
  std::optional<uint64_t> CmaTop(uint64_t page_bytes) const noexcept {
    return cma_untold_ ? std::nullopt : LastOf(cma_most_, page_bytes);
  }

 private:
  // The last address below the page frame `most`.
  std::optional<uint64_t> LastOf(uint64_t most, uint64_t page_bytes) const noexcept {
    uint64_t end = 0;
    if (bad_ || most == 0 || __builtin_mul_overflow(most, page_bytes, &end)) return std::nullopt;
    return end - 1;
  }
  void EndLine() noexcept {
    std::string_view line(line_, length_);
    const bool cut = cut_;
    length_ = 0;
    cut_ = false;
    if (cut || line.empty()) return;
    if (line.starts_with("Node ")) {
      // "Node 0, per-node stats" belongs to the zone that began before.
      if (line.find(", zone ") == std::string_view::npos) return;
      EndZone();
      in_zone_ = true;
      return;
    }
    Take(line, "spanned ", spanned_);
    Take(line, "present ", present_);
    Take(line, "start_pfn:", start_);
    Take(line, "cma ", cma_);
  }
  // A second value in one zone is as bad as none.
  void Take(std::string_view line, std::string_view name, std::optional<uint64_t>& to) noexcept {
    const size_t begin = line.find_first_not_of(' ');
    if (begin == std::string_view::npos || !line.substr(begin).starts_with(name)) return;
    line.remove_prefix(begin + name.size());
    const size_t digit = line.find_first_not_of(' ');
    const std::optional<uint64_t> number =
        digit == std::string_view::npos ? std::nullopt : WholeNumber(line.substr(digit));
    if (!in_zone_ || to.has_value() || !number.has_value()) bad_ = true;
    to = number;
  }
  void EndZone() noexcept {
    if (in_zone_) {
      if (!spanned_.has_value() || !present_.has_value()) {
        bad_ = true;
      } else if (*present_ != 0) {
        uint64_t end = 0;
        if (!start_.has_value() || *spanned_ < *present_ ||
            __builtin_add_overflow(*start_, *spanned_, &end)) {
          bad_ = true;
        }
        most_ = std::max(most_, end);
        cma_untold_ |= !cma_.has_value();
        if (cma_.value_or(0) != 0) cma_most_ = std::max(cma_most_, end);
      }
    }
    in_zone_ = false;
    spanned_ = present_ = start_ = cma_ = std::nullopt;
  }

  char line_[120];
  size_t length_ = 0;
  bool cut_ = false;
  bool bad_ = false;
  bool in_zone_ = false;
  std::optional<uint64_t> spanned_;
  std::optional<uint64_t> present_;
  std::optional<uint64_t> start_;
  std::optional<uint64_t> cma_;
  uint64_t most_ = 0;      // the first page frame above all zones
  uint64_t cma_most_ = 0;  // above those with pages of CMA regions
  bool cma_untold_ = false;
};

// The highest address in the text of /proc/zoneinfo; none if the text does not tell.
inline std::optional<uint64_t> MemoryTopIn(std::string_view text, uint64_t page_bytes) noexcept {
  ZoneReader reader;
  reader.Read(text);
  return reader.Top(page_bytes);
}

}  // namespace internal

// The highest addresses of the machine's memory.
struct MemoryTops {
  uint64_t memory = 0;
  // Of the zones in which CMA regions lie; none: there is no region, or the kernel does not tell.
  std::optional<uint64_t> cma = {};
};

// Returns the highest addresses of the machine's memory. ENODATA: the file does not tell, or is
// longer than 16 MiB; else the errno of its open or read.
template <Syscalls Sys = LinuxSyscalls>
Result<MemoryTops> ReadMemoryTops(const Sys& sys = {}) noexcept {
  static constexpr const char* kFile = "/proc/zoneinfo";
  constexpr size_t kMostReads = 4096;  // the kernel gives 4 KiB for each; the bound is arbitrary
  const Origin origin{"memory", Operation::kOpen, kFile};
  const long opened = OpenRetrying(sys, kFile, O_RDONLY);
  if (Failed(opened)) {
    return Error(ErrnoFrom(opened), "open", origin, NoProcHint(sys, kFile, opened));
  }
  internal::ZoneReader reader;
  char text[4096];
  long got = 1;
  for (size_t reads = 0; reads < kMostReads && !Failed(got) && got != 0; ++reads) {
    got = sys.Read(static_cast<int>(opened), text, sizeof(text));
    if (!Failed(got)) reader.Read({text, static_cast<size_t>(got)});
  }
  (void)sys.Close(static_cast<int>(opened));
  if (Failed(got)) return Error(ErrnoFrom(got), "read", origin);
  const std::optional<uint64_t> top = got == 0 ? reader.Top(PageBytes()) : std::nullopt;
  if (!top.has_value()) {
    return Error(ENODATA, "no zone with a start and a length", origin,
                 "without it, no heap is known to lie below a device's highest address");
  }
  return MemoryTops{.memory = *top, .cma = reader.CmaTop(PageBytes())};
}

}  // namespace ion

#endif  // ION_ION_BASE_MEMORY_TOP_H_
