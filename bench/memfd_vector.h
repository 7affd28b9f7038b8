// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/memfd_vector.h
//
// MemfdVector: a std::vector of mapped memfds under a std::mutex: the pool that a program writes
// itself. MappedMemfd: one of them.
//
// Cost: a lock for each Pop and each Push. Thread-safe.
#ifndef ION_BENCH_MEMFD_VECTOR_H_
#define ION_BENCH_MEMFD_VECTOR_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "ion/base/check.h"
#include "ion/base/fd.h"

namespace ion::bench {

// Mapped whole, its pages in place.
struct MappedMemfd {
  UniqueFd fd;
  std::byte* at = nullptr;
  uint64_t bytes = 0;

  MappedMemfd() = default;
  explicit MappedMemfd(uint64_t size) : fd(::memfd_create("bench", MFD_CLOEXEC)), bytes(size) {
    ION_CHECK(fd.valid() && ::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0, "no memfd");
    void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    ION_CHECK(mapped != MAP_FAILED, "a memfd could not be mapped");
    at = static_cast<std::byte*>(mapped);
    std::memset(at, 1, bytes);
  }
  MappedMemfd(MappedMemfd&& other) noexcept
      : fd(std::move(other.fd)), at(std::exchange(other.at, nullptr)), bytes(other.bytes) {}
  MappedMemfd& operator=(MappedMemfd&& other) noexcept {
    std::swap(fd, other.fd);
    std::swap(at, other.at);
    std::swap(bytes, other.bytes);
    return *this;
  }
  ~MappedMemfd() {
    if (at != nullptr) ::munmap(at, bytes);
  }
};

class MemfdVector {
 public:
  MemfdVector(size_t count, uint64_t bytes) {
    for (size_t i = 0; i < count; ++i) all_.emplace_back(bytes);
    for (MappedMemfd& one : all_) idle_.push_back(&one);
  }

  // Requires: not all are taken (checked).
  MappedMemfd* Pop() {
    std::lock_guard lock(mutex_);
    ION_CHECK(!idle_.empty(), "more memfds are taken than there are");
    MappedMemfd* one = idle_.back();
    idle_.pop_back();
    return one;
  }
  void Push(MappedMemfd* one) {
    std::lock_guard lock(mutex_);
    idle_.push_back(one);
  }

 private:
  std::vector<MappedMemfd> all_;
  std::mutex mutex_;
  std::vector<MappedMemfd*> idle_;
};

}  // namespace ion::bench

#endif  // ION_BENCH_MEMFD_VECTOR_H_
