// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "tests/support/fault_new.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace ion::testing {
namespace {

struct Plan {
  bool on = false;
  size_t n = SIZE_MAX;
  size_t calls = 0;
};
thread_local Plan plan;
std::atomic<int64_t> live_count{0};

void* Allocate(size_t bytes, size_t alignment) {
  if (plan.on && plan.calls++ == plan.n) return nullptr;
  if (bytes == 0) bytes = 1;
  void* at = alignment <= alignof(std::max_align_t)
                 ? std::malloc(bytes)
                 : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (at != nullptr) live_count.fetch_add(1, std::memory_order_relaxed);
  return at;
}
void* AllocateOrThrow(size_t bytes, size_t alignment) {
  void* at = Allocate(bytes, alignment);
#if defined(__cpp_exceptions)
  if (at == nullptr) throw std::bad_alloc();
#else
  if (at == nullptr) std::abort();
#endif
  return at;
}
void Delete(void* at) {
  if (at == nullptr) return;
  live_count.fetch_sub(1, std::memory_order_relaxed);
  std::free(at);
}
constexpr size_t kUsual = alignof(std::max_align_t);

}  // namespace

void FaultNew::Begin(size_t n) { plan = {.on = true, .n = n, .calls = 0}; }
bool FaultNew::End() {
  plan.on = false;
  return plan.calls > plan.n;
}
size_t FaultNew::calls() { return plan.calls; }
int64_t FaultNew::live() { return live_count.load(std::memory_order_relaxed); }

}  // namespace ion::testing

using ion::testing::Allocate;
using ion::testing::AllocateOrThrow;
using ion::testing::Delete;
using ion::testing::kUsual;

void* operator new(size_t bytes) { return AllocateOrThrow(bytes, kUsual); }
void* operator new[](size_t bytes) { return AllocateOrThrow(bytes, kUsual); }
void* operator new(size_t bytes, std::align_val_t to) {
  return AllocateOrThrow(bytes, static_cast<size_t>(to));
}
void* operator new[](size_t bytes, std::align_val_t to) {
  return AllocateOrThrow(bytes, static_cast<size_t>(to));
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return Allocate(bytes, kUsual); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  return Allocate(bytes, kUsual);
}
void* operator new(size_t bytes, std::align_val_t to, const std::nothrow_t&) noexcept {
  return Allocate(bytes, static_cast<size_t>(to));
}
void* operator new[](size_t bytes, std::align_val_t to, const std::nothrow_t&) noexcept {
  return Allocate(bytes, static_cast<size_t>(to));
}
void operator delete(void* at) noexcept { Delete(at); }
void operator delete[](void* at) noexcept { Delete(at); }
void operator delete(void* at, size_t) noexcept { Delete(at); }
void operator delete[](void* at, size_t) noexcept { Delete(at); }
void operator delete(void* at, std::align_val_t) noexcept { Delete(at); }
void operator delete[](void* at, std::align_val_t) noexcept { Delete(at); }
void operator delete(void* at, size_t, std::align_val_t) noexcept { Delete(at); }
void operator delete[](void* at, size_t, std::align_val_t) noexcept { Delete(at); }
void operator delete(void* at, const std::nothrow_t&) noexcept { Delete(at); }
void operator delete[](void* at, const std::nothrow_t&) noexcept { Delete(at); }
void operator delete(void* at, std::align_val_t, const std::nothrow_t&) noexcept { Delete(at); }
void operator delete[](void* at, std::align_val_t, const std::nothrow_t&) noexcept { Delete(at); }
