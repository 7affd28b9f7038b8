// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/cache_line.h
//
// Line: the states of one line of memory that the CPU caches and a device writes past the cache, and
// each act on it. For models of what CPU access has to tell the kernel.

#ifndef ION_TESTS_SUPPORT_CACHE_LINE_H_
#define ION_TESTS_SUPPORT_CACHE_LINE_H_

#include <cstddef>

namespace ion::testing {

// One line: whether memory, and the cache's copy if there is one, have what was written last.
struct Line {
  bool memory_is_new = true;
  bool copied = false;
  bool copy_is_new = false;
  bool dirty = false;

  constexpr size_t index() const {
    return size_t{memory_is_new} | size_t{copied} << 1 | size_t{copy_is_new} << 2 |
           size_t{dirty} << 3;
  }
  static constexpr Line At(size_t index) {
    return {(index & 1) != 0, (index & 2) != 0, (index & 4) != 0, (index & 8) != 0};
  }
};

constexpr Line Same(Line line) { return line; }
constexpr Line Invalidated(Line line) { return {.memory_is_new = line.memory_is_new}; }
constexpr Line Cleaned(Line line) {
  if (line.dirty) line.memory_is_new = line.copy_is_new;
  line.dirty = false;
  return line;
}
constexpr Line Evicted(Line line) { return Invalidated(Cleaned(line)); }
constexpr Line Fetched(Line line) {
  if (line.copied) return line;
  return {.memory_is_new = line.memory_is_new, .copied = true, .copy_is_new = line.memory_is_new};
}
constexpr Line WrittenInCache(Line) {
  return {.memory_is_new = false, .copied = true, .copy_is_new = true, .dirty = true};
}
constexpr Line WrittenPastCache(Line line) {
  line.memory_is_new = true;
  line.copy_is_new = false;
  return line;
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_CACHE_LINE_H_
