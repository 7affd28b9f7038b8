// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/any_of.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/buffer.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/platforms/any_backend.h"
#include "ion/platforms/heaps.h"
#include "ion/policies/dma_heap.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "third_party/ion_uapi/ion.h"

namespace ion {
namespace {

using testing::Faults;
using testing::FaultSyscalls;
using testing::Kind;
using testing::LeakCheck;
using testing::Skip;
using testing::Told;

// A kernel under which no device can be opened, and memfds only where `memfds` says so.
class NoDevices : public LinuxSyscalls {
 public:
  NoDevices() = default;
  NoDevices(int code, bool memfds) : code_(code), memfds_(memfds) {}

  long Open(const char* path, int flags) const noexcept {
    if (std::string_view(path).starts_with("/sys/class/")) return -ENOENT;
    return std::string_view(path).starts_with("/dev/") ? -code_ : LinuxSyscalls::Open(path, flags);
  }
  long MemfdCreate(const char* name, unsigned flags) const noexcept {
    return memfds_ ? LinuxSyscalls::MemfdCreate(name, flags) : -ENOSYS;
  }

 private:
  int code_ = ENOENT;
  bool memfds_ = true;
};

using Any = AnyBackend<NoDevices>;

// A backend with commands.
struct Commanded : MemfdBackend<NoDevices> {
  static constexpr const char* kName = "commanded";
  static constexpr BackendCaps kCaps = {.customs = true, .compares = true};
  struct Options : MemfdBackend<NoDevices>::Options {};

  static Result<Commanded> Open(const Options& options) noexcept {
    Result<MemfdBackend<NoDevices>> opened = MemfdBackend<NoDevices>::Open(options);
    if (!opened.ok()) return opened.error();
    return Commanded{*std::move(opened)};
  }
  Error Custom(uint32_t command, uint64_t) noexcept {
    return Error(static_cast<int>(command), "as told", {kName, Operation::kCustom});
  }
};

std::vector<std::string> Lines(std::string_view text) {
  return absl::StrSplit(std::string(text), '\n');
}

TEST_CASE("AnyOf: takes the first that opens, and keeps why the others did not") {
  const LeakCheck leaks;
  const auto any = Any::Open({});
  REQUIRE(Told(any.error()) == "ok");
  CHECK(std::string(any->name()) == "memfd");
  std::vector<std::string_view> before = Any::Options().order;
  CHECK(before.back() == "memfd");
  before.pop_back();
  REQUIRE(any->refusals().size() == before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    const Error& refusal = any->refusals()[i];
    CAPTURE(before[i]);
    CHECK(refusal.backend() == before[i]);
    CHECK(Kind(refusal) == "ENOENT open");
  }
  CHECK(any.refusals().empty());
}

TEST_CASE("AnyOf: every refusal says what to do") {
  const auto absent = Any::Open({});
  REQUIRE(absent.ok());
  for (const std::string& line : Lines(DescribeEach(absent->refusals()))) {
    CAPTURE(line);
    CHECK(line.find("ENOENT: ") != line.npos);
    CHECK(line.find("CONFIG_") != line.npos);
  }
  const auto forbidden = Any::Open({.sys = NoDevices(EACCES, true)});
  REQUIRE(forbidden.ok());
  for (const std::string& line : Lines(DescribeEach(forbidden->refusals()))) {
    CAPTURE(line);
    CHECK(line.find("EACCES: join the node's group, or add a udev rule: ") != line.npos);
  }
}

TEST_CASE("AnyOf: the order is the caller's, and so is what stands in it") {
  const auto first = Any::Open({.order = {"memfd", "dma_heap"}});
  REQUIRE(first.ok());
  CHECK(first->refusals().empty());

  const auto only = Any::Open({.order = {"udmabuf"}});
  CHECK(Kind(only.error()) == "ENOENT open");
  REQUIRE(only.refusals().size() == 1);
  CHECK(std::string(only.error().backend()) == "udmabuf");

  const auto turned = Any::Open({.order = {"udmabuf", "dma_heap"}});
  REQUIRE(turned.refusals().size() == 2);
  CHECK(std::string(turned.refusals()[0].backend()) == "udmabuf");
  CHECK(std::string(turned.refusals()[1].backend()) == "dma_heap");
}

TEST_CASE("AnyOf: a name of no backend, and no name at all, are EINVAL") {
  for (const std::string_view name : {"", "memfd ", "MEMFD", "nobody"}) {
    const auto any = Any::Open({.order = {"dma_heap", name, "memfd"}});
    CHECK(Kind(any.error()) == "EINVAL open");
    CHECK(any.error().node() == name);
    CHECK(any.refusals().size() == 2);
  }
  const auto none = Any::Open({.order = {}});
  CHECK(Kind(none.error()) == "EINVAL open");
  CHECK(std::string(ToStatus(none).message()) == "any: open (the order names no backend): EINVAL");
}

TEST_CASE("AnyOf: where none opens, the Status has each reason, and the last one's errno") {
  const LeakCheck leaks;
  const Any::Options options{.sys = NoDevices(EACCES, false)};
  const auto any = Any::Open(options);
  REQUIRE_FALSE(any.ok());
  CHECK(any.refusals().size() == options.order.size());
  CHECK(Kind(any.error()) == "ENOSYS open");
  const auto manager = platforms::Heaps<Any>::Open(options);
  CHECK(manager.status() == ToStatus(any));
  CHECK(ErrnoOf(manager.status()) == ENOSYS);
  CHECK(Lines(std::string(manager.status().message())).size() == options.order.size());
  CHECK(std::string(manager.status().message()) == DescribeEach(any.refusals()));
}

TEST_CASE("AnyOf: each backend's own options are used, and the common ones are all's") {
  const auto budget = std::make_shared<Budget>(1);
  const auto errors = std::make_shared<ErrorSink>();
  Any::Options options{.budget = budget, .errors = errors};
  std::get<DmaHeapBackend<NoDevices>::Options>(options.each).directory = "/nowhere";
  const auto any = Any::Open(options);
  REQUIRE(any.ok());
  CHECK(any->refusals()[0].node() == "/nowhere");
  CHECK(&any->budget() == budget.get());
  CHECK(&any->errors() == errors.get());
}

TEST_CASE("AnyOf: what the opened backend cannot, it says") {
  static_assert(Any::kCaps.proves_unshared && !Any::kCaps.composes);
  static_assert(!std::is_polymorphic_v<Any>);
  auto any = Any::Open({});
  REQUIRE(any.ok());
  Block block;
  REQUIRE(any->Allocate(0, 1, Flags::kNone, {}, block).ok());
  const Result<bool> unshared = any->IsUnshared(block);
  CHECK(Kind(unshared.error()) == "EOPNOTSUPP prove unshared");
  CHECK(any->Release(block).ok());

  using Commanding = AnyOf<MemfdBackend<NoDevices>, Commanded>;
  static_assert(BackendCheck<Commanding>::kOk &&
                Commanding::kCaps == BackendCaps{.customs = true, .compares = true});
  auto plain = Commanding::Open({});
  auto commanded = Commanding::Open({.order = {"commanded"}});
  REQUIRE((plain.ok() && commanded.ok()));
  CHECK(Kind(plain->Custom(EDOM, 0)) == "ENOTTY custom command");
  CHECK(Kind(commanded->Custom(EDOM, 0)) == "EDOM custom command");
}

TEST_CASE("AnyOf: a mapping that could not be ended is kept, and counted") {
  using Faulty = AnyOf<DmaHeapBackend<FaultSyscalls>, MemfdBackend<FaultSyscalls>>;
  const LeakCheck leaks;
  const auto faults = std::make_shared<Faults>();
  auto any = Faulty::Open({.sys = FaultSyscalls(faults), .order = {"memfd"}});
  REQUIRE(any.ok());
  Block block;
  REQUIRE(any->Allocate(0, 1, Flags::kNone, {}, block).ok());
  const Result<std::byte*> at = any->Map(block, 0, block.bytes, MapMode::kReadOnly);
  REQUIRE(at.ok());
  faults->Begin({.n = 0, .call = "munmap", .code = EINVAL});
  CHECK(Kind(any->Unmap(*at, block.bytes)) == "EINVAL unmap");
  faults->End();
  CHECK(any->kept_mappings() == 1);
  CHECK(any->Release(block).ok());
  CHECK(any->kept_mappings() == 0);
}

using FakeAny = AnyBackend<testing::FakeSyscalls>;
using FakeHeaps = platforms::Heaps<FakeAny>;

// A machine with one dma-heap and udmabuf.
testing::FakeSyscalls WithOneHeap(std::string name, uint32_t type) {
  return testing::FakeSyscalls({.linux = testing::Linux(6, 12),
                                .dma_heaps = {{.name = std::move(name), .type = type}},
                                .udmabuf = true});
}

TEST_CASE("AnyOf: a Manager takes the next where a backend serves no request without a mask") {
  const LeakCheck leaks;
  for (const char* name : {"reserved", "acme,secret"}) {
    CAPTURE(name);
    const auto sys = WithOneHeap(name, ion_uapi::kHeapTypeDma);
    auto manager = FakeHeaps::Open({.sys = sys});
    REQUIRE(manager.ok());
    CHECK(std::string(manager->backend().name()) == "udmabuf");
    REQUIRE(manager->backend().refusals().size() == 3);
    const Error& refusal = manager->backend().refusals()[0];
    CHECK(std::string(refusal.backend()) == "dma_heap");
    CHECK(Kind(refusal) == "ENODEV open");
    CHECK(manager->Allocate({.bytes = 1}).ok());

    const auto only = FakeHeaps::Open({.sys = sys, .order = {"dma_heap"}});
    CHECK(ErrnoOf(only.status()) == ENODEV);
    CHECK(only.status().message() == Describe(refusal));
  }
}

TEST_CASE("AnyOf: a Manager of contiguous heaps alone takes a backend of contiguous memory alone") {
  const LeakCheck leaks;
  using Contiguous = Manager<FakeAny, DmaHeap<FakeAny>>;
  const auto manager = Contiguous::Open({.sys = WithOneHeap("reserved", ion_uapi::kHeapTypeDma)});
  REQUIRE(manager.ok());
  CHECK(manager->heaps() == HeapMask(HeapId{4}));
  // And none that has none.
  const auto none = Contiguous::Open({.sys = WithOneHeap("system", ion_uapi::kHeapTypeSystem)});
  CHECK(ErrnoOf(none.status()) == ENODEV);
  CHECK(Lines(std::string(none.status().message())).size() == FakeAny::Options().order.size());
}

TEST_CASE("AnyOf: where dma-bufs are required, memfds are refused, with why each other one was") {
  const LeakCheck leaks;
  const auto none = Any::Open({.sys = NoDevices(EACCES, true), .require_dma_buf = true});
  REQUIRE_FALSE(none.ok());
  CHECK(Kind(none.error()) == "EACCES open");
  REQUIRE(none.refusals().size() == Any::Options().order.size());
  CHECK(Told(none.refusals()[0]).find("its memory is no dma-buf") != std::string::npos);
  CHECK(Kind(Any::Open({.order = {"memfd"}, .require_dma_buf = true}).error()) ==
        "EOPNOTSUPP open");
  const auto manager =
      platforms::Heaps<Any>::Open({.sys = NoDevices(EACCES, true), .require_dma_buf = true});
  CHECK(manager.status() == ToStatus(none));

  const auto some = FakeHeaps::Open({.sys = WithOneHeap("reserved", ion_uapi::kHeapTypeDma),
                                     .order = {"memfd", "dma_heap", "udmabuf"},
                                     .require_dma_buf = true});
  REQUIRE(some.ok());
  CHECK(some->heaps() == HeapMask(HeapId{0}));
}

TEST_CASE("AnyOf: a Manager over it gives memory, on whatever this machine has") {
  for (const std::string_view name : AnyBackend<>::Options().order) {
    auto manager = platforms::Heaps<AnyBackend<>>::Open({.order = {name}});
    if (!manager.ok()) {
      Skip(std::string(manager.status().message()));
      continue;
    }
    CHECK(manager->backend().name() == name);
    CHECK(manager->Allocate({.bytes = 1}).ok());
  }
}

}  // namespace
}  // namespace ion
