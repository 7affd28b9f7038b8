// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/recycling/zero_pages.h
//
// ZeroPages: an array of zero bytes in pages of its own, of which those that nobody touches cost no
// memory. (calloc gives such pages only to the first that asks for them: memory that it has had
// before it writes, all of it.)
//
// Not for users.
//
// Cost: a system call, and one when it ends. Thread-safe but for Map and the end.
#ifndef ION_POLICIES_RECYCLING_ZERO_PAGES_H_
#define ION_POLICIES_RECYCLING_ZERO_PAGES_H_

#include <sys/mman.h>

#include <cstddef>
#include <type_traits>

namespace ion::internal {

// T: all bytes zero is one, and its end does nothing.
template <class T>
class ZeroPages {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  ZeroPages() noexcept = default;
  ZeroPages(const ZeroPages&) = delete;
  ZeroPages& operator=(const ZeroPages&) = delete;
  ~ZeroPages() {
    if (at_ != nullptr) ::munmap(at_, bytes_);
  }

  // False: no memory. Once.
  bool Map(size_t count) noexcept {
    const size_t bytes = count * sizeof(T);
    void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return false;
    at_ = static_cast<T*>(at);
    bytes_ = bytes;
    return true;
  }

  T* get() const noexcept { return at_; }
  T& operator[](size_t i) const noexcept { return at_[i]; }

 private:
  T* at_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ion::internal

#endif  // ION_POLICIES_RECYCLING_ZERO_PAGES_H_
