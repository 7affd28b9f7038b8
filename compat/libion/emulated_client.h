// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/emulated_client.h
//
// EmulatedClient: the counterpart of a client in the kernel's ION, one for each open /dev/ion: a client
// of the Manager, and its handles, numbered from 1, the lowest free number first.
//
// Cost: an allocation looks for a free number, an import for a known handle: a walk over the
// client's handles. The table is not thread-safe: under the lock of EmulatedIon.
#ifndef ION_COMPAT_LIBION_EMULATED_CLIENT_H_
#define ION_COMPAT_LIBION_EMULATED_CLIENT_H_

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "compat/libion/ion_socket.h"
#include "ion/base/fd.h"
#include "ion/base/with_memory.h"
#include "ion/handle.h"

namespace ion::compat {

// A file, as fstat tells it, to see that a descriptor's number is still of the same one.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// One handle of ION. It has exactly one count of the Manager's handle.
struct IonHandle {
  int references = 0;  // FREEs that it takes; 0: the number is free
  Handle handle = {};
  // A descriptor of the memory, by which a forked child finds it: the Manager's own, or `copy`.
  int fd = -1;
  FileIdentity file = {};
  UniqueFd copy = {};
};

template <class Client>
struct EmulatedClient {
  EmulatedClient(const IonKey& its_key, Client its_client)
      : key(its_key), client(std::move(its_client)) {}

  const IonKey key;
  Client client;
  bool elsewhere = false;  // its name is of another network namespace: nobody here sees its end
  std::vector<IonHandle> handles;  // number N is handles[N - 1]

  // Returns the handle of this number; nullptr: there is none.
  IonHandle* Find(int number) noexcept {
    if (number < 1 || static_cast<size_t>(number) > handles.size()) return nullptr;
    IonHandle& at = handles[static_cast<size_t>(number) - 1];
    return at.references > 0 ? &at : nullptr;
  }
  // Returns the number of the Manager's handle; 0: it has none.
  int NumberOf(const Handle& handle) const noexcept {
    for (size_t i = 0; i < handles.size(); ++i) {
      if (handles[i].references > 0 && handles[i].handle == handle) return static_cast<int>(i) + 1;
    }
    return 0;
  }
  // Returns the number that it gets, and moves from it; 0: operator new had no memory.
  int Add(IonHandle& one) noexcept {
    size_t i = 0;
    while (i < handles.size() && handles[i].references > 0) ++i;
    if (i == handles.size() && !ion::internal::TryWithMemory([&] { handles.emplace_back(); })) {
      return 0;
    }
    handles[i] = std::move(one);
    return static_cast<int>(i) + 1;
  }
};

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_EMULATED_CLIENT_H_
