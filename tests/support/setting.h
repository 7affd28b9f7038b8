// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/setting.h
//
// Setting: a Manager over a backend that this machine may lack, and a client of it. Tests of
// clients run over EVERY_BACKEND, and skip a case where the backend does not open.
#ifndef ION_TESTS_SUPPORT_SETTING_H_
#define ION_TESTS_SUPPORT_SETTING_H_

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/handle.h"
#include "ion/platforms/linux.h"
#include "ion/shared_buffer.h"
#include "tests/support/skip.h"

TYPE_TO_STRING_AS("memfd", ion::platforms::Memfd);
TYPE_TO_STRING_AS("dma_heap", ion::platforms::DmaHeaps);
TYPE_TO_STRING_AS("udmabuf", ion::platforms::Udmabuf);

namespace ion::testing {

#define EVERY_BACKEND platforms::Memfd, platforms::DmaHeaps, platforms::Udmabuf

inline std::string Told(const absl::Status& status) {
  return status.ok() ? "ok" : std::string(status.message());
}

// A Manager and a client, or a skip.
template <class M>
struct Setting {
  explicit Setting(const ClientOptions& options = {.name = "camera"}) {
    absl::StatusOr<M> opened = M::Open();
    if (ErrnoOf(opened.status()) == ENOENT) {
      Skip(std::string("no ") + M::kBackendName);
      return;
    }
    REQUIRE(Told(opened.status()) == "ok");
    manager.emplace(*std::move(opened));
    client.emplace(Make(options));
  }
  typename M::Client Make(const ClientOptions& options) {
    absl::StatusOr<typename M::Client> made = manager->CreateClient(options);
    REQUIRE(Told(made.status()) == "ok");
    return *std::move(made);
  }
  // A handle of `bytes` of its own.
  Handle Kept(uint64_t bytes = uint64_t{64} << 10) {
    absl::StatusOr<Buffer> lease = client->Allocate({.bytes = bytes});
    REQUIRE(Told(lease.status()) == "ok");
    absl::StatusOr<Handle> handle = client->MakeHandle(*std::move(lease));
    REQUIRE(Told(handle.status()) == "ok");
    return *handle;
  }
  SharedBuffer Shared(uint64_t bytes = uint64_t{64} << 10) {
    absl::StatusOr<SharedBuffer> buffer = client->AllocateShared({.bytes = bytes});
    REQUIRE(Told(buffer.status()) == "ok");
    return *std::move(buffer);
  }

  std::optional<M> manager;
  std::optional<typename M::Client> client;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SETTING_H_
