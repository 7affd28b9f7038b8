// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The suite of backends over a driver that gives more bytes than it is asked for, and the backends
// that facts of the suite have to find wrong.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/client.h"
#include "ion/manager.h"
#include "ion/policies/system_heap.h"
#include "tests/conformance/backend_conformance.h"
#include "tests/support/backend_suite.h"
#include "tests/support/coarse_backend.h"
#include "tests/support/open_files.h"

namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it
using ion::testing::CoarseBackend;
using ion::testing::Kind;

struct CoarseUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend = CoarseBackend<Sys>;
  static constexpr const char* kNode = "/";
  static constexpr bool kMakesDmaBufs = false;
  static constexpr bool kRoundsUp = true;
  static constexpr const char* kMappings = "/dev/coarse";  // another name than its memfds have
};

// One call of a CoarseBackend forgets that a block may begin inside its descriptor.
enum class Forgets { kInMap, kInMapToKeep };
template <Forgets kWhere>
class ForgetsOffset : public CoarseBackend<> {
  using Base = CoarseBackend<>;

 public:
  static ion::Result<ForgetsOffset> Open(const Options& options) noexcept {
    ion::Result<Base> opened = Base::Open(options);
    if (!opened.ok()) return opened.error();
    return ForgetsOffset(*std::move(opened));
  }
  ion::Result<std::byte*> Map(const ion::Block& block, uint64_t offset, uint64_t bytes,
                              ion::MapMode mode) noexcept {
    return Base::Map(kWhere == Forgets::kInMap ? AtStart(block) : block, offset, bytes, mode);
  }
  ion::Result<std::byte*> MapToKeep(const ion::Block& block) noexcept {
    return Base::MapToKeep(kWhere == Forgets::kInMapToKeep ? AtStart(block) : block);
  }

 private:
  explicit ForgetsOffset(Base&& opened) noexcept : Base(std::move(opened)) {}

  static ion::Block AtStart(const ion::Block& block) noexcept {
    ion::Block moved;
    moved.TakeMemoryOf(block);
    moved.offset = 0;
    return moved;
  }
};

template <class B>
std::string Seen() {
  auto backend = B::Open({});
  REQUIRE(backend.ok());
  return ion::testing::LookAtRange(*backend, 0);
}

TEST_CASE("Backend suite: a backend that ignores a block's offset is found") {
  CHECK(Seen<CoarseBackend<>>() == "ok");
  CHECK(Seen<ForgetsOffset<Forgets::kInMap>>() == "Map: other bytes 0 from the start");
  CHECK(Seen<ForgetsOffset<Forgets::kInMapToKeep>>() == "MapToKeep: other bytes 0 from the start");
}

TEST_CASE("Backend suite: the leak check knows the name of a backend's mappings") {
  ion::testing::OnEachHeap<CoarseUnderTest>([](auto&, uint32_t) {
    CHECK(ion::testing::IsDeviceMapping("7f0000000000-7f0000001000 rw-s 0 00:05 9 /dev/coarse"));
  });
}

TEST_CASE("BackendBase: bytes that came and are past the bound are ENOMEM, and go back") {
  auto backend = CoarseBackend<>::Open({.budget = std::make_shared<ion::Budget>(96_KiB)});
  REQUIRE(backend.ok());
  ion::Block block, other;
  CHECK(Kind(backend->Allocate(0, 1, ion::Flags::kNone, {}, block)) == "ok");
  CHECK(backend->budget().held() == 64_KiB);
  CHECK(Kind(backend->Allocate(0, 1, ion::Flags::kNone, {}, other)) == "ENOMEM allocate");
  CHECK_FALSE(other.filled());
  CHECK(backend->budget().held() == 64_KiB);
  CHECK(Kind(backend->Release(block)) == "ok");
  CHECK(backend->budget().held() == 0);
}

TEST_CASE("Client: its account is charged the bytes that came") {
  auto manager = ion::Manager<CoarseBackend<>, ion::System>::Open();
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = "coarse", .quota_bytes = 160_KiB});
  REQUIRE(client.ok());
  {
    const auto one = client->Allocate({.bytes = 1});
    REQUIRE(one.ok());
    CHECK(one->bytes() == 64_KiB);
    CHECK(client->held_bytes() == 64_KiB);
    const auto two = client->Allocate({.bytes = 4_KiB});
    REQUIRE(two.ok());
    CHECK(client->held_bytes() == 128_KiB);
    CHECK_FALSE(client->Allocate({.bytes = 4_KiB}).ok());
    CHECK(client->held_bytes() == 128_KiB);
  }
  CHECK(client->held_bytes() == 0);
}

}  // namespace

TYPE_TO_STRING_AS("a driver that rounds up", CoarseUnderTest);
ION_BACKEND_CONFORMANCE(CoarseUnderTest);
