// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/c/per_process.h
//
// PerProcess: the one object of a process behind a C interface. A child made by fork gets an object
// of its own at its first use; the inherited one is left alone, because a thread that is not there
// may have been changing it. The object is never destroyed.
//
// Example:
//   constinit ion::compat::PerProcess<Library> library;
//   Library* now = library.Get([](Library* inherited) { return new (std::nothrow) Library(inherited); });
//
// Cost: two loads. Thread-safe.
#ifndef ION_COMPAT_C_PER_PROCESS_H_
#define ION_COMPAT_C_PER_PROCESS_H_

#include <atomic>

namespace ion::compat {

// Requires: T has `bool InChild() const noexcept`, true in a child of the process that made it.
template <class T>
class PerProcess {
 public:
  // The process's object, made by `make(inherited)` if there is none; `inherited` is the parent's,
  // or nullptr, and only what never changes may be read of it. nullptr: `make` returned nullptr.
  template <class Make>
  T* Get(Make make) noexcept {
    T* now = at_.load(std::memory_order_acquire);
    if (now != nullptr && !now->InChild()) [[likely]]
      return now;
    T* const fresh = make(now);
    if (fresh == nullptr) return nullptr;
    if (at_.compare_exchange_strong(now, fresh, std::memory_order_acq_rel)) return fresh;
    delete fresh;  // another thread was first
    return now;
  }

 private:
  std::atomic<T*> at_{nullptr};
};

}  // namespace ion::compat

#endif  // ION_COMPAT_C_PER_PROCESS_H_
