// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/reasons.h
//
// The errors of a request that no heap could serve, and of a Manager whose heaps have no memory.
//
// Not for users.
#ifndef ION_ION_CORE_REASONS_H_
#define ION_ION_CORE_REASONS_H_

#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/heap_id.h"

namespace ion::internal {

// The reasons for which heaps did not serve a request. Equal reasons are listed once, with all
// their heaps; if the kernel lacks a heap, the list names those that it has. A reason is left out
// if there is no memory for it.
class Reasons {
 public:
  void Add(HeapId heap, const Error& error, bool is_bound) noexcept {
    code_ = error.code();
    lacks_ |= !is_bound && code_ == ENODEV;
    (void)TryWithMemory([&] { AddText(heap, error); });
  }
  bool empty() const noexcept { return code_ == 0; }

  // With the last one's errno.
  template <class B>
  absl::Status ToStatus(const B& backend) const noexcept {
    return WithMemory([&] { return MakeStatus(code_, Text(backend)); },
                      [&] { return CodeAlone(code_); });
  }

 private:
  struct Reason {
    HeapMask heaps;
    std::string text;
  };

  void AddText(HeapId heap, const Error& error) {
    std::string text = Describe(error);
    for (Reason& reason : reasons_) {
      if (reason.text != text) continue;
      reason.heaps = reason.heaps | heap;
      return;
    }
    reasons_.push_back({HeapMask(heap), std::move(text)});
  }
  template <class B>
  std::string Text(const B& backend) const {
    std::string text;
    for (const Reason& reason : reasons_) {
      absl::StrAppend(&text, text.empty() ? "" : "; ", HeapsOf(reason.heaps), ": ", reason.text);
    }
    if (lacks_) absl::StrAppend(&text, "; ", backend.name(), " has ", NamesOf(backend.heaps()));
    return text;
  }

  // "heap 4", "heaps 1 to 8", "heaps 1, 2 and 9".
  static std::string HeapsOf(HeapMask heaps) {
    std::vector<std::string> runs;
    size_t count = 0;
    for (unsigned id = 0; id < HeapId::kCount; ++id) {
      unsigned end = id;
      while (end < HeapId::kCount && (heaps.bits() >> end & 1) != 0) ++end;
      if (end == id) continue;
      count += end - id;
      if (end - id > 2) {
        runs.push_back(absl::StrCat(id, " to ", end - 1));
      } else {
        for (unsigned one = id; one < end; ++one) runs.push_back(absl::StrCat(one));
      }
      id = end;
    }
    return absl::StrCat(count == 1 ? "heap " : "heaps ", Joined(runs));
  }
  static std::string NamesOf(std::span<const KernelHeap> heaps) {
    std::vector<std::string> names;
    for (const KernelHeap& heap : heaps) {
      names.push_back(
          absl::StrCat("'", Printable(heap.name), heap.unusable.ok() ? "'" : "' (unusable)"));
    }
    return names.empty() ? "no heap" : Joined(names);
  }
  static std::string Joined(const std::vector<std::string>& words) {
    std::string text;
    for (size_t i = 0; i < words.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? "" : i + 1 == words.size() ? " and " : ", ", words[i]);
    }
    return text;
  }

  std::vector<Reason> reasons_;
  int code_ = 0;  // 0: no heap was asked
  bool lacks_ = false;
};

// Why none of the heaps has memory.
template <class Core>
absl::Status NothingBound(const Core& core) noexcept {
  Reasons reasons;
  core.heaps().Walk([&](const auto& heap, size_t at) {
    reasons.Add(Core::Heaps::kIds[at], heap.error(), /*is_bound=*/false);
    return false;
  });
  return reasons.ToStatus(core.backend());
}

// Why a Manager over this backend would serve nothing; or no request without a mask, though some of
// its heaps are for those. No error: it serves.
template <class Core>
Error Unserved(const Core& core) noexcept {
  Error first, scattered;
  core.heaps().Walk([&]<class H>(const Result<H>& heap, size_t) {
    if (heap.ok()) return false;
    if (first.ok()) first = heap.error();
    if (scattered.ok() && H::kType == HeapType::kSystem) scattered = heap.error();
    return false;
  });
  if (core.heaps().bound().empty()) return scattered.ok() ? first : scattered;
  return core.heaps().usual().empty() ? scattered : Error();
}

}  // namespace ion::internal

#endif  // ION_ION_CORE_REASONS_H_
