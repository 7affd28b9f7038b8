// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A shared library that opens Managers and uses clients, its own and those of another.

#include "tests/scenarios/client_library.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "ion/backends/memfd.h"
#include "ion/base/fd.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/client_ref.h"
#include "ion/handle.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"

namespace {

using M = ion::Manager<ion::MemfdBackend<>, ion::PooledHeap<ion::SystemHeap<ion::MemfdBackend<>>>>;
constexpr uint64_t kPage = 4096;

M& ManagerOf(void* at) { return *static_cast<M*>(at); }
M::Client& ClientOf(void* at) { return *static_cast<M::Client*>(at); }

// 0: all went well.
int Use(M::Client& client) {
  for (int round = 0; round < 3; ++round) {
    std::vector<ion::Buffer> leases;
    for (uint64_t i = 1; i <= 16; ++i) {
      absl::StatusOr<ion::Buffer> lease = client.Allocate({.bytes = kPage});
      if (!lease.ok()) return __LINE__;
      leases.push_back(*std::move(lease));
      if (client.held_bytes() != i * kPage) return __LINE__;
    }
    if (client.Allocate({.bytes = kPage}).ok()) return __LINE__;
    leases.pop_back();
    // A reference acts in the library that made the client, too.
    if (!ion::ClientRef(client).Allocate({.bytes = kPage}).ok()) return __LINE__;
    absl::StatusOr<ion::Handle> handle = client.MakeHandle(std::move(leases.back()));
    if (!handle.ok()) return __LINE__;
    absl::StatusOr<ion::UniqueFd> fd = client.Share(*handle);
    if (!fd.ok()) return __LINE__;
    if (!client.Free(*handle).ok()) return __LINE__;
    handle = client.Import(fd->borrow());
    if (!handle.ok()) return __LINE__;
    if (client.held_bytes() != 15 * kPage) return __LINE__;
    if (!client.Free(*handle).ok()) return __LINE__;
  }
  return client.held_bytes() == 0 ? 0 : __LINE__;
}

}  // namespace

[[gnu::visibility("default")]] extern const ClientLibrary client_library = {
    .open = []() -> void* {
      absl::StatusOr<M> manager = M::Open();
      return manager.ok() ? new M(*std::move(manager)) : nullptr;
    },
    .create = [](void* manager) -> void* {
      auto client = ManagerOf(manager).CreateClient(
          {.name = "handed on", .quota_bytes = 16 * kPage, .exact_quota = true});
      return client.ok() ? new M::Client(*std::move(client)) : nullptr;
    },
    .use = [](void* client) { return Use(ClientOf(client)); },
    .held = [](void* client) { return ClientOf(client).held_bytes(); },
    .idle =
        [](void* manager) {
          uint64_t held = 0;
          for (const ion::PoolReport& pool : ManagerOf(manager).MakeReport().pools) {
            held += pool.held_bytes;
          }
          ManagerOf(manager).Tick();
          return ManagerOf(manager).Trim() == held ? held : 1;
        },
    .close = [](void* client) { delete &ClientOf(client); },
    .end = [](void* manager) { delete &ManagerOf(manager); },
};
