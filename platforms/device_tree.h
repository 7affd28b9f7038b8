// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/device_tree.h
//
// Reads the reserved memory of a board's device tree: the regions below its `reserved-memory` node,
// and the HeapSpecs that stand for them. Read from a directory of files, as Linux shows the tree
// (/sys/firmware/devicetree/base/reserved-memory).
//
// Most regions of a real board are firmware's or a driver's, and the tree does not say which may be
// had: a program chooses by name or `compatible`. Nothing becomes a heap by itself.
//
// Example:
//   absl::StatusOr<std::vector<ion::platforms::ReservedRegion>> regions =
//       ion::platforms::ReadReservedMemory("/sys/firmware/devicetree/base/reserved-memory");
//   for (const auto& region : *regions) {
//     if (!region.IsCompatible("acme,frame-buffer")) continue;
//     absl::StatusOr<ion::HeapSpec> spec = ion::platforms::SpecOf(region, 2);
//   }
//
// Nothing in the directory is trusted: an entry that breaks the binding (reserved-memory.yaml of
// dt-schema) is a Status that names the node and the property. No symbolic link is followed below
// the directory, even if its files are exchanged while they are read; it reads at most 4 KiB of a
// file, and at most 256 entries.
//
// Cost: five system calls a property; cold. Thread-safe.
#ifndef ION_PLATFORMS_DEVICE_TREE_H_
#define ION_PLATFORMS_DEVICE_TREE_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/base/fd.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"

namespace ion::platforms {

struct ReservedRegion {
  std::string name = {};                     // the node's, with its @address
  std::vector<std::string> compatible = {};  // best first
  uint64_t base = 0;                         // physical; 0: the kernel chose it at boot
  uint64_t bytes = 0;
  uint64_t alignment = 1;
  bool reusable = false;     // the kernel lends it out until it is asked for: CMA
  bool no_map = false;       // the kernel must not map it
  bool cma_default = false;  // the region that CMA takes where no device names another

  bool IsCompatible(std::string_view with) const {
    return std::ranges::find(compatible, with) != compatible.end();
  }
};

namespace internal {

inline absl::Status TreeError(int code, std::string_view node, std::string_view property,
                              std::string_view what) {
  return MakeStatus(code, absl::StrCat("device tree ", Printable(node), property.empty() ? "" : "/",
                                       Printable(property), ": ", ion::internal::View(what), ": ",
                                       ErrnoName(code)));
}

// One node: a directory whose files are its properties, and whose directories are its children.
template <Syscalls Sys>
class TreeNode {
 public:
  static constexpr size_t kMaxBytes = 4096;
  static constexpr size_t kMaxEntries = 256;

  // The node that the directory at `path` shows, whatever links lead to it.
  static absl::StatusOr<TreeNode> Open(const Sys& sys, const std::string& path, std::string name) {
    const long opened = OpenRetrying(sys, path.c_str(), O_RDONLY | O_DIRECTORY);
    if (Failed(opened)) return TreeError(ErrnoFrom(opened), name, {}, "open");
    return TreeNode(sys, UniqueFd(static_cast<int>(opened)), std::move(name));
  }

  const std::string& name() const { return name_; }
  absl::Status Wrong(int code, std::string_view property, std::string_view what) const {
    return TreeError(code, name_, property, what);
  }

  // The bytes of a property, or nothing where the node has none of this name.
  absl::StatusOr<std::optional<std::string>> Property(const std::string& property) const {
    // A fifo would block; a link could lead anywhere.
    const long opened = OpenBelow(property, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (opened == -ENOENT) return std::nullopt;
    if (Failed(opened)) {
      return Wrong(ErrnoFrom(opened), property,
                   opened == -ELOOP ? "a symbolic link in place of a property" : "open");
    }
    const UniqueFd file(static_cast<int>(opened));
    struct stat status {};
    if (const long answer = sys_.Fstat(file.get(), &status); Failed(answer)) {
      return Wrong(ErrnoFrom(answer), property, "fstat");
    }
    if (!S_ISREG(status.st_mode)) return Wrong(EINVAL, property, "not a file");
    std::string bytes(kMaxBytes + 1, '\0');
    size_t have = 0;
    while (have < bytes.size()) {
      const long got = sys_.Read(file.get(), bytes.data() + have, bytes.size() - have);
      if (got == -EINTR) continue;
      if (Failed(got)) return Wrong(ErrnoFrom(got), property, "read");
      if (got == 0) break;
      have += static_cast<size_t>(got);
    }
    if (have > kMaxBytes) return Wrong(EFBIG, property, "longer than 4096 bytes");
    bytes.resize(have);
    return bytes;
  }

  // Returns true if there is the property, which has no value.
  absl::StatusOr<bool> Flag(const std::string& property) const {
    const auto bytes = Property(property);
    if (!bytes.ok()) return bytes.status();
    return bytes->has_value();
  }

  // A property of texts, each with its 0 at the end.
  absl::StatusOr<std::vector<std::string>> Texts(const std::string& property) const {
    const auto bytes = Property(property);
    if (!bytes.ok()) return bytes.status();
    std::vector<std::string> texts;
    std::string_view rest = bytes->has_value() ? std::string_view(**bytes) : std::string_view();
    while (!rest.empty()) {
      const size_t end = rest.find('\0');
      if (end == rest.npos) return Wrong(EINVAL, property, "a text without its end");
      texts.emplace_back(rest.substr(0, end));
      rest.remove_prefix(end + 1);
    }
    return texts;
  }

  // A property of numbers, each of as many big-endian cells of 32 bits as `cells` says in turn.
  // Nothing where the node has none of this name.
  absl::StatusOr<std::vector<uint64_t>> Numbers(const std::string& property,
                                                const std::vector<uint32_t>& cells) const {
    const auto bytes = Property(property);
    if (!bytes.ok()) return bytes.status();
    std::vector<uint64_t> numbers;
    if (!bytes->has_value()) return numbers;
    size_t expected = 0;
    for (const uint32_t count : cells) expected += count * 4;
    if ((*bytes)->size() != expected) {
      return Wrong(EINVAL, property,
                   absl::StrCat((*bytes)->size(), " bytes in place of ", expected));
    }
    size_t at = 0;
    for (const uint32_t count : cells) {
      uint64_t number = 0;
      for (uint32_t i = 0; i < count * 4; ++i) {
        number = number << 8 | static_cast<unsigned char>((**bytes)[at++]);
      }
      numbers.push_back(number);
    }
    return numbers;
  }

  // The names of its properties and children, sorted. Requires: Open made it.
  absl::StatusOr<std::vector<std::string>> Names() const {
    std::vector<std::string> names;
    alignas(dirent64) char entries[4096];
    for (;;) {
      const long got = sys_.Getdents(folder_.get(), entries, sizeof(entries));
      if (Failed(got)) return Wrong(ErrnoFrom(got), {}, "getdents64");
      if (got == 0) break;
      for (long at = 0; at < got;) {
        const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
        at += entry->d_reclen;
      }
      if (names.size() > kMaxEntries) return Wrong(E2BIG, {}, "more than 256 entries");
    }
    std::ranges::sort(names);
    return names;
  }
  // Its child of this name; nothing where that is no node, but a property.
  absl::StatusOr<std::optional<TreeNode>> Child(const std::string& name) const {
    const long opened = OpenBelow(name, O_PATH | O_NOFOLLOW);
    if (Failed(opened)) return TreeError(ErrnoFrom(opened), name, {}, "open");
    UniqueFd file(static_cast<int>(opened));
    struct stat status {};
    if (const long answer = sys_.Fstat(file.get(), &status); Failed(answer)) {
      return TreeError(ErrnoFrom(answer), name, {}, "fstat");
    }
    if (S_ISLNK(status.st_mode)) {
      return TreeError(ELOOP, name, {}, "a symbolic link in place of a node");
    }
    if (!S_ISDIR(status.st_mode)) return std::nullopt;
    return TreeNode(sys_, std::move(file), name);
  }

 private:
  TreeNode(const Sys& sys, UniqueFd folder, std::string name)
      : sys_(sys), folder_(std::move(folder)), name_(std::move(name)) {}

  // Opens an entry of the open directory: if the path above is exchanged meanwhile, this node stays
  // the same.
  long OpenBelow(const std::string& name, int flags) const noexcept {
    long answer;
    do answer = sys_.OpenAt(folder_.get(), name.c_str(), flags);
    while (answer == -EINTR);
    return answer;
  }

  Sys sys_;
  UniqueFd folder_;
  std::string name_;
};

// Letters, digits and , . _ + - before an @ and its address: the specification's.
inline bool IsNodeName(std::string_view name) {
  return !name.empty() && HeapName::From(name).has_value() &&
         std::ranges::all_of(name, [](unsigned char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                  std::string_view(",._+-@").find(static_cast<char>(c)) != std::string_view::npos;
         });
}

template <Syscalls Sys>
absl::StatusOr<ReservedRegion> ReadRegion(const TreeNode<Sys>& node, uint32_t address_cells,
                                          uint32_t size_cells) {
  ReservedRegion region{.name = node.name()};
  auto compatible = node.Texts("compatible");
  if (!compatible.ok()) return compatible.status();
  region.compatible = *std::move(compatible);
  for (const auto& [property, flag] : {std::pair{"reusable", &region.reusable},
                                       {"no-map", &region.no_map},
                                       {"linux,cma-default", &region.cma_default}}) {
    const absl::StatusOr<bool> is_there = node.Flag(property);
    if (!is_there.ok()) return is_there.status();
    *flag = *is_there;
  }
  if (region.reusable && region.no_map) {
    return node.Wrong(EINVAL, "no-map", "a region that is reusable is mapped");
  }

  const auto reg = node.Numbers("reg", {address_cells, size_cells});
  if (!reg.ok()) return reg.status();
  const auto size = node.Numbers("size", {size_cells});
  if (!size.ok()) return size.status();
  if (reg->empty() && size->empty()) return node.Wrong(EINVAL, "reg", "neither reg nor size");
  const char* const from = reg->empty() ? "size" : "reg";
  if (!reg->empty()) region.base = (*reg)[0];
  region.bytes = reg->empty() ? (*size)[0] : (*reg)[1];
  if (region.bytes == 0) return node.Wrong(EINVAL, from, "a region of 0 bytes");
  if (region.bytes - 1 > UINT64_MAX - region.base) {
    return node.Wrong(EINVAL, from, "its end is past 64 bits");
  }
  const auto alignment = node.Numbers("alignment", {size_cells});
  if (!alignment.ok()) return alignment.status();
  if (!alignment->empty()) region.alignment = (*alignment)[0];
  if (!std::has_single_bit(region.alignment)) {
    return node.Wrong(EINVAL, "alignment", "not a power of two");
  }
  return region;
}

}  // namespace internal

// The regions below the node that `directory` shows, sorted by name; a node that its status
// disables is left out. ENOENT: there is no such directory, so the board has no device tree or
// reserves nothing. EINVAL, EFBIG, E2BIG, ELOOP: the tree is not as it should be. ENOTSUP: a node
// of several ranges, or addresses that need translation.
template <Syscalls Sys = LinuxSyscalls>
absl::StatusOr<std::vector<ReservedRegion>> ReadReservedMemory(const std::string& directory,
                                                               const Sys& sys = {}) noexcept;

// The same, which may throw bad_alloc.
template <Syscalls Sys>
absl::StatusOr<std::vector<ReservedRegion>> ReadReservedMemoryOrThrow(const std::string& directory,
                                                                      const Sys& sys) {
  const auto opened = internal::TreeNode<Sys>::Open(sys, directory, "reserved-memory");
  if (!opened.ok()) return opened.status();
  const internal::TreeNode<Sys>& root = *opened;
  const auto names = root.Names();
  if (!names.ok()) return names.status();
  uint32_t cells[2];
  for (const auto& [property, count] :
       {std::pair{"#address-cells", &cells[0]}, {"#size-cells", &cells[1]}}) {
    const auto numbers = root.Numbers(property, {1});
    if (!numbers.ok()) return numbers.status();
    if (numbers->empty()) return root.Wrong(EINVAL, property, "it has to be there");
    if ((*numbers)[0] != 1 && (*numbers)[0] != 2) {
      return root.Wrong(EINVAL, property, "not 1 or 2 cells");
    }
    *count = static_cast<uint32_t>((*numbers)[0]);
  }
  const auto ranges = root.Property("ranges");
  if (!ranges.ok()) return ranges.status();
  if (ranges->has_value() && !(*ranges)->empty()) {
    return root.Wrong(ENOTSUP, "ranges", "addresses that need translation");
  }

  std::vector<ReservedRegion> regions;
  for (const std::string& name : *names) {
    const auto child = root.Child(name);
    if (!child.ok()) return child.status();
    if (!child->has_value()) continue;
    const internal::TreeNode<Sys>& node = **child;
    if (!internal::IsNodeName(node.name())) {
      return node.Wrong(EINVAL, {}, "a name of more than 63 characters, or of other ones");
    }
    const auto status = node.Texts("status");
    if (!status.ok()) return status.status();
    if (!status->empty() && status->front() != "okay" && status->front() != "ok") continue;
    auto region = internal::ReadRegion(node, cells[0], cells[1]);
    if (!region.ok()) return region.status();
    regions.push_back(*std::move(region));
  }
  return regions;
}
template <Syscalls Sys>
absl::StatusOr<std::vector<ReservedRegion>> ReadReservedMemory(const std::string& directory,
                                                               const Sys& sys) noexcept {
  using Regions = absl::StatusOr<std::vector<ReservedRegion>>;
  return ion::internal::WithMemory(
      [&]() -> Regions { return ReadReservedMemoryOrThrow(directory, sys); },
      []() -> Regions { return ion::internal::CodeAlone(ENOMEM); });
}

// The heap that stands for a region: CMA where the kernel has it (`reusable`, with compatible
// "shared-dma-pool"), under the name of its kernel heap (the node's, since Linux 6.19; the default
// region's own); else a carveout, unless the kernel or a driver has it: EBUSY, a "shared-dma-pool"
// that is not reusable; EINVAL, without an address, or not of whole pages.
inline absl::StatusOr<HeapSpec> SpecOf(const ReservedRegion& region, HeapSpecId id) {
  const std::optional<HeapName> name = HeapName::From(region.name);
  if (!name.has_value()) {
    return internal::TreeError(EINVAL, region.name, {}, "a name that no heap can have");
  }
  HeapSpec spec{.type = HeapType::kDma,
                .id = id,
                .name = region.cma_default ? HeapName("default_cma_region") : *name,
                .base = region.base,
                .bytes = region.bytes};
  const bool pool = region.IsCompatible("shared-dma-pool");
  if (pool && region.reusable) return spec;
  if (pool) {
    return internal::TreeError(EBUSY, region.name, "compatible",
                               "a pool of the kernel's for one device, not for others");
  }
  if (region.base == 0) {
    return internal::TreeError(EINVAL, region.name, "reg", "a carveout needs an address");
  }
  if (region.base % 4096 != 0 || region.bytes % 4096 != 0) {
    return internal::TreeError(EINVAL, region.name, "reg", "a carveout is of whole 4096 bytes");
  }
  spec.type = HeapType::kCarveout;
  spec.name = *name;
  return spec;
}

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_DEVICE_TREE_H_
