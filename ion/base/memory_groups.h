// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/memory_groups.h
//
// MemoryGroups: the cgroups whose memory limits bind this process, of both versions: its own group
// and all ancestors that a mount of the hierarchy shows. A container is such a group.
//
// /proc/self/cgroup names the group, /proc/self/mountinfo the places where hierarchies are mounted
// and the group that each mount begins at. Both are relative to the process's cgroup namespace: a
// path that begins with "/.." lies outside of it. A group that no mount shows is not known, and
// neither is one whose files cannot be read: the limit is then unknown, which is not a limit of 0.
//
// Not for users.
//
// Example:
//   ion::MemoryGroups groups;
//   groups.Find(sys);
//   groups.ForEachLimited(sys, [&](const ion::MemoryGroups::Level& level) {
//     smallest = std::min(smallest, level.limit_bytes);
//   });
//
// Cost: 17 KiB, no heap memory. Find reads two files of /proc; a level costs six system calls.
// Thread-compatible.
#ifndef ION_ION_BASE_MEMORY_GROUPS_H_
#define ION_ION_BASE_MEMORY_GROUPS_H_

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "ion/base/kernel_text.h"
#include "ion/base/syscalls.h"

namespace ion {

class MemoryGroups {
 public:
  static constexpr uint64_t kNoLimit = UINT64_MAX;

  enum class Version : uint8_t { kV1, kV2 };

  // A group with a limit.
  struct Level {
    std::string_view directory;
    Version version;
    uint64_t limit_bytes;
  };
  struct Usage {
    uint64_t used_bytes = 0;
    uint64_t reclaimable_bytes = 0;  // of those: file pages, which the kernel drops for others
  };

  // Looks for the groups of this process. Finds none where the kernel does not tell.
  template <Syscalls Sys>
  void Find(const Sys& sys) noexcept {
    count_ = 0;
    Names names;
    names.Read(sys);
    seen_ = names.hash;
    internal::ForEachLine(sys, "/proc/self/mountinfo",
                          [&](std::string_view line) { AddMount(line, names); });
  }
  // Reads the process's groups again, after it may have been moved to another.
  template <Syscalls Sys>
  void FindAgainIfMoved(const Sys& sys) noexcept {
    Names names;
    if (names.Read(sys) && names.hash != seen_) Find(sys);
  }

  // Calls f(level) for each group that has a limit, from the innermost outwards.
  template <Syscalls Sys, class F>
  void ForEachLimited(const Sys& sys, F f) const noexcept {
    for (size_t i = 0; i < count_; ++i) {
      const Place& place = places_[i];
      Path path(place.directory, place.length);
      while (true) {
        uint64_t limit = LimitOf(sys, path, place.version);
        if (place.version == Version::kV1 && path.text().size() == place.length) {
          limit = std::min(limit, LimitOfAncestors(sys, path));
        }
        if (limit != kNoLimit) f(Level{path.text(), place.version, limit});
        if (!path.Shorten(place.top)) break;
        // Without it a group of version 1 is not charged for its children.
        if (place.version == Version::kV1 && path.Number(sys, "memory.use_hierarchy") == 0u) break;
      }
    }
  }
  // kNoLimit: none is known.
  template <Syscalls Sys>
  uint64_t SmallestLimit(const Sys& sys) const noexcept {
    uint64_t smallest = kNoLimit;
    ForEachLimited(sys,
                   [&](const Level& level) { smallest = std::min(smallest, level.limit_bytes); });
    return smallest;
  }
  // Returns nothing where the group does not tell. The second figure costs the kernel time: it is
  // read only where less than `least` bytes are left without it.
  template <Syscalls Sys>
  static std::optional<Usage> UsageOf(const Sys& sys, const Level& level, uint64_t least) noexcept {
    const bool v2 = level.version == Version::kV2;
    Path path(level.directory.data(), level.directory.size());
    const std::optional<uint64_t> used =
        path.Number(sys, v2 ? "memory.current" : "memory.usage_in_bytes");
    if (!used.has_value()) return std::nullopt;
    Usage usage{.used_bytes = *used};
    if (*used < level.limit_bytes && level.limit_bytes - *used >= least) return usage;
    char text[4096];
    const std::optional<std::string_view> lines = path.Read(sys, "memory.stat", text, sizeof(text));
    if (!lines.has_value()) return usage;
    for (const std::string_view name :
         {v2 ? "inactive_file" : "total_inactive_file", v2 ? "active_file" : "total_active_file"}) {
      const uint64_t bytes = internal::NumberAfter(*lines, name).value_or(0);
      usage.reclaimable_bytes += std::min(bytes, *used - usage.reclaimable_bytes);
    }
    return usage;
  }
  // Writes the path of the file that tells of a group's pressure to `to`, with a final zero. False:
  // the group has none, or no room for it in `bytes`.
  static bool PressureFile(const Level& level, char* to, size_t bytes) noexcept {
    constexpr std::string_view kFile = "/memory.pressure";
    if (level.version != Version::kV2 || level.directory.size() + kFile.size() >= bytes) {
      return false;
    }
    to += level.directory.copy(to, level.directory.size());
    to += kFile.copy(to, kFile.size());
    *to = '\0';
    return true;
  }

 private:
  // As many mounts of hierarchies are looked at. A machine has one, or one of each version.
  static constexpr size_t kMostPlaces = 4;

  // A directory that is shortened to its parents, with room for a file in it.
  class Path {
   public:
    Path(const char* text, size_t length) noexcept : length_(length) {
      std::memcpy(text_, text, length);
    }
    std::string_view text() const noexcept { return {text_, length_}; }
    // False: it is as short as `top`.
    bool Shorten(size_t top) noexcept {
      if (length_ <= top) return false;
      const size_t slash = text().rfind('/');
      length_ = slash == std::string_view::npos ? top : std::max(slash, top);
      return true;
    }
    template <Syscalls Sys>
    std::optional<std::string_view> Read(const Sys& sys, std::string_view file, char* to,
                                         size_t bytes) noexcept {
      if (length_ + 1 + file.size() >= sizeof(text_)) return std::nullopt;
      text_[length_] = '/';
      file.copy(text_ + length_ + 1, file.size());
      text_[length_ + 1 + file.size()] = '\0';
      return internal::ReadBegin(sys, text_, to, bytes);
    }
    template <Syscalls Sys>
    std::optional<uint64_t> Number(const Sys& sys, std::string_view file) noexcept {
      char text[32];
      const std::optional<std::string_view> read = Read(sys, file, text, sizeof(text));
      return read.has_value() ? internal::WholeNumber(*read) : std::nullopt;
    }

   private:
    size_t length_;
    char text_[PATH_MAX];
  };

  // The group of this process in each version's hierarchy of memory, as /proc/self/cgroup has it.
  struct Names {
    char text[2][PATH_MAX];
    size_t length[2] = {};  // 0: there is none
    uint64_t hash = kHashBegin;

    std::string_view Of(Version version) const noexcept {
      const auto at = static_cast<size_t>(version);
      return {text[at], length[at]};
    }
    template <Syscalls Sys>
    bool Read(const Sys& sys) noexcept {
      return internal::ForEachLine(sys, "/proc/self/cgroup", [this](std::string_view line) {
        const std::string_view number = internal::TakeUntil(line, ':');
        const std::string_view controllers = internal::TakeUntil(line, ':');
        if (number == "0" && controllers.empty()) {
          Take(Version::kV2, line);
        } else if (internal::ListHas(controllers, "memory")) {
          Take(Version::kV1, line);
        }
      });
    }
    void Take(Version version, std::string_view name) noexcept {
      const auto at = static_cast<size_t>(version);
      if (!name.starts_with('/') || name.size() > sizeof(text[at])) return;
      length[at] = name.copy(text[at], sizeof(text[at]));
      for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * kHashFactor;
      hash = (hash ^ (at + 1)) * kHashFactor;
    }
    // Of FNV-1a.
    static constexpr uint64_t kHashBegin = 0xcbf29ce484222325, kHashFactor = 0x100000001b3;
  };

  // The place of a group in a mount: the innermost group that is visible, and the mount's root.
  struct Place {
    char directory[PATH_MAX];
    size_t length;
    size_t top;  // as long is the mount's own path
    Version version;
  };

  // "/../../a/b" is two levels up from the namespace's root, then "/a/b" down.
  struct Route {
    explicit constexpr Route(std::string_view path) noexcept : down(path) {
      constexpr std::string_view kUp = "/..";
      while (down == kUp || down.starts_with("/../")) {
        down.remove_prefix(kUp.size());
        ++up;
      }
      if (down == "/") down = {};
    }
    size_t up = 0;
    std::string_view down;
  };
  // Returns the path from a mount's root to a group below it; nothing if the group is not below it.
  // If the names between are outside of the namespace, the path is empty and leads to an ancestor.
  static constexpr std::optional<std::string_view> WayDown(std::string_view root,
                                                           std::string_view group) noexcept {
    const Route from(root), to(group);
    if (from.up > to.up && from.down.empty()) return std::string_view();
    if (from.up != to.up || !to.down.starts_with(from.down)) return std::nullopt;
    const std::string_view way = to.down.substr(from.down.size());
    if (!way.empty() && !way.starts_with('/')) return std::nullopt;
    if (way.ends_with("/..") || way.find("/../") != std::string_view::npos) return std::nullopt;
    return way;
  }

  // "a\040b" is "a b". Returns the length; 0 where there is no room.
  static size_t Unescape(std::string_view text, char* to, size_t room) noexcept {
    const auto digit = [](char c) { return c >= '0' && c <= '7'; };
    size_t length = 0;
    while (!text.empty()) {
      if (length == room) return 0;
      if (text.size() >= 4 && text[0] == '\\' && digit(text[1]) && digit(text[2]) &&
          digit(text[3])) {
        to[length++] =
            static_cast<char>(((text[1] - '0') << 6) | ((text[2] - '0') << 3) | (text[3] - '0'));
        text.remove_prefix(4);
      } else {
        to[length++] = text[0];
        text.remove_prefix(1);
      }
    }
    return length;
  }

  // A line of mountinfo: id, parent, device, root, place, options, tags, "-", type, source,
  // options.
  void AddMount(std::string_view line, const Names& names) noexcept {
    if (count_ == kMostPlaces) return;
    for (int skipped = 0; skipped < 3; ++skipped) (void)internal::TakeUntil(line, ' ');
    const std::string_view root = internal::TakeUntil(line, ' ');
    const std::string_view at = internal::TakeUntil(line, ' ');
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) return;
    line.remove_prefix(dash + 3);
    const std::string_view type = internal::TakeUntil(line, ' ');
    (void)internal::TakeUntil(line, ' ');
    const bool v2 = type == "cgroup2";
    if (!v2 && (type != "cgroup" || !internal::ListHas(line, "memory"))) return;
    const Version version = v2 ? Version::kV2 : Version::kV1;
    const std::string_view group = names.Of(version);
    char plain[PATH_MAX];
    const std::string_view from(plain, Unescape(root, plain, sizeof(plain)));
    if (group.empty() || !from.starts_with('/')) return;
    const std::optional<std::string_view> way = WayDown(from, group);
    if (!way.has_value()) return;
    Place& place = places_[count_];
    place.version = version;
    place.top = Unescape(at, place.directory, sizeof(place.directory));
    if (place.top == 0 || place.directory[0] != '/') return;
    if (place.top == 1) place.top = 0;  // mounted at "/"
    if (way->size() >= sizeof(place.directory) - place.top) return;
    place.length = place.top + way->copy(place.directory + place.top, way->size());
    ++count_;
  }

  // Returns the smaller of a group's two limits: above one the kernel refuses memory, above the
  // other it delays the processes that allocate.
  template <Syscalls Sys>
  static uint64_t LimitOf(const Sys& sys, Path& path, Version version) noexcept {
    // "max" is no number, and neither is an unreadable file.
    if (version == Version::kV1) {
      return OrNone(path.Number(sys, "memory.limit_in_bytes"));
    }
    return std::min(path.Number(sys, "memory.max").value_or(kNoLimit),
                    path.Number(sys, "memory.high").value_or(kNoLimit));
  }

  // Version 1 tells none by the most that it can count, which is 2^63 but for a page.
  static constexpr uint64_t OrNone(std::optional<uint64_t> limit) noexcept {
    return limit.has_value() && *limit < uint64_t{1} << 62 ? *limit : kNoLimit;
  }
  // Of version 1, and of those as well that no mount shows.
  template <Syscalls Sys>
  static uint64_t LimitOfAncestors(const Sys& sys, Path& path) noexcept {
    char text[4096];
    const std::optional<std::string_view> lines = path.Read(sys, "memory.stat", text, sizeof(text));
    if (!lines.has_value()) return kNoLimit;
    return OrNone(internal::NumberAfter(*lines, "hierarchical_memory_limit"));
  }

  Place places_[kMostPlaces];
  size_t count_ = 0;
  uint64_t seen_ = Names::kHashBegin;
};

}  // namespace ion

#endif  // ION_ION_BASE_MEMORY_GROUPS_H_
