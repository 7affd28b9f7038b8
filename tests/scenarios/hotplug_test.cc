// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Heaps of the kernel that come, or can be opened, while a Manager is in use.

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/client.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/platforms/any_backend.h"
#include "ion/platforms/heaps.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"
#include "third_party/ion_uapi/ion.h"

namespace ion::testing {
namespace {

constexpr HeapId kSystem{0}, kDma{4};

// A kernel in which a node may be forbidden, and heaps may come.
class Changing : public FakeSyscalls {
 public:
  Changing() : Changing(std::vector<FakeHeap>()) {}
  explicit Changing(std::vector<FakeHeap> heaps)
      : FakeSyscalls({.linux = Linux(6, 12), .dma_heaps = std::move(heaps)}) {}

  long Open(const char* path, int flags) const noexcept {
    const std::string_view name(path);
    const bool forbidden = !forbidden_->empty() && name.ends_with(*forbidden_);
    return forbidden && (flags & O_PATH) == 0 ? -EACCES : FakeSyscalls::Open(path, flags);
  }
  void Forbid(std::string name) const { *forbidden_ = std::move(name); }
  void Add(std::string name) const {
    const uint32_t type = name == "system" ? ion_uapi::kHeapTypeSystem : ion_uapi::kHeapTypeDma;
    kernel().AddDmaHeap({.name = std::move(name), .type = type, .bytes = 64_MiB});
  }

 private:
  std::shared_ptr<std::string> forbidden_ = std::make_shared<std::string>();
};
using B = DmaHeapBackend<Changing>;
using Two = platforms::Heaps<B>;

Changing With(const std::string& name) {
  Changing sys;
  sys.Add(name);
  return sys;
}

std::vector<std::string> Names(const B& backend) {
  std::vector<std::string> names;
  for (const KernelHeap& heap : backend.heaps()) {
    names.push_back(heap.name + (heap.unusable.ok() ? "" : " (unusable)"));
  }
  return names;
}

TEST_CASE("DmaHeapBackend: a heap that comes is appended, and none that is listed moves") {
  const LeakCheck leaks;
  const Changing sys = With("system");
  auto backend = B::Open({.sys = sys});
  REQUIRE(Told(backend.error()) == "ok");
  const KernelHeap* const first = backend->heaps().data();
  CHECK_FALSE(backend->LookAgain());
  sys.Add("reserved");
  CHECK(Names(*backend) == std::vector<std::string>{"system"});
  CHECK(backend->LookAgain());
  CHECK(Names(*backend) == std::vector<std::string>{"system", "reserved"});
  // The second name of the same region is no heap of its own.
  sys.Add("default_cma_region");
  CHECK_FALSE(backend->LookAgain());
  for (int i = 0; i < 300; ++i) sys.Add("acme," + std::to_string(i));
  CHECK(backend->LookAgain());
  CHECK(backend->heaps().size() == 256);
  CHECK_FALSE(backend->LookAgain());
  CHECK(backend->heaps().data() == first);
  const Memory memory(*backend, 1, 4_KiB);
  CHECK(memory.block.contiguous);
}

TEST_CASE("DmaHeapBackend: a node that can be opened later is appended; its refusal stays listed") {
  const LeakCheck leaks;
  const Changing sys = With("system");
  sys.Add("reserved");
  sys.Forbid("reserved");
  auto backend = B::Open({.sys = sys});
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(Names(*backend) == std::vector<std::string>{"reserved (unusable)", "system"});
  CHECK_FALSE(backend->LookAgain());
  sys.Forbid("");
  CHECK(backend->LookAgain());
  CHECK(Names(*backend) == std::vector<std::string>{"reserved (unusable)", "system", "reserved"});
  CHECK_FALSE(backend->LookAgain());
}

TEST_CASE("Manager: a heap whose memory comes later is bound by the request that wants it") {
  const LeakCheck leaks;
  const Changing sys = With("system");
  auto manager = Open<Two>({.sys = sys});
  auto client = Make(manager, {.name = "camera"});
  auto narrow = Make(manager, {.name = "codec", .heaps = kSystem});
  const Request request{.bytes = 4096, .heaps = kDma};
  CHECK(ErrnoOf(client.Allocate(request).status()) == ENODEV);
  CHECK(manager.heaps() == HeapMask(kSystem));
  CHECK(manager.HeapName(kDma).empty());
  sys.Add("reserved");
  // Who wants no more than there is does not look.
  CHECK(client.Allocate({.bytes = 4096}).ok());
  CHECK(manager.heaps() == HeapMask(kSystem));
  CHECK(ErrnoOf(narrow.Allocate(request).status()) == ENODEV);
  const auto buffer = client.Allocate(request);
  REQUIRE(buffer.ok());
  CHECK(buffer->properties().contiguous.yes());
  CHECK(manager.heaps() == (kSystem | kDma));
  CHECK(manager.default_heaps() == HeapMask(kSystem));
  CHECK(manager.HeapName(kDma) == "reserved");
  CHECK(manager.HeapOf(*buffer) == kDma);
  // As the spec and the client's mask say.
  CHECK(ErrnoOf(narrow.Allocate(request).status()) == ENODEV);
  CHECK(client.Allocate({.bytes = 4096}).ok());
}

TEST_CASE("Manager: scattered memory that comes later serves requests without a mask") {
  const LeakCheck leaks;
  const Changing sys = With("reserved");
  auto manager = Open<Two>({.sys = sys});
  CHECK(manager.default_heaps().empty());
  CHECK(ErrnoOf(manager.Allocate({.bytes = 1}).status()) == ENODEV);
  sys.Add("system");
  CHECK(manager.Allocate({.bytes = 1}).ok());
  CHECK(manager.default_heaps() == HeapMask(kSystem));
}

TEST_CASE("Manager: a node that was forbidden is bound once it is not") {
  const LeakCheck leaks;
  const Changing sys = With("system");
  sys.Add("reserved");
  sys.Forbid("reserved");
  auto manager = Open<Two>({.sys = sys});
  const Request request{.bytes = 4096, .heaps = kDma};
  CHECK(ErrnoOf(manager.Allocate(request).status()) == EACCES);
  sys.Forbid("");
  CHECK(manager.Allocate(request).ok());
}

TEST_CASE("Manager: a choice of backends looks again as the one that it took") {
  const LeakCheck leaks;
  const Changing sys = With("system");
  using Any = AnyBackend<Changing>;
  static_assert(Any::kCaps.relists);
  auto manager = Open<platforms::Heaps<Any>>({.sys = sys});
  sys.Add("reserved");
  CHECK(manager.Allocate({.bytes = 1, .heaps = kDma}).ok());
  auto memfd = Open<platforms::Heaps<Any>>({.sys = sys, .order = {"memfd"}});
  CHECK_FALSE(memfd.Allocate({.bytes = 1, .heaps = kDma}).ok());
}

TEST_CASE("Manager: a heap that was bound late recycles, for clients that are older, too") {
  const LeakCheck leaks;
  using Pooled = Manager<B, SystemHeap<B>, PooledHeap<DmaHeap<B>>>;
  const Changing sys = With("system");
  auto manager = Open<Pooled>({.sys = sys});
  auto client = Make(manager, {.name = "camera", .recycle_as_is = true});
  auto older = Make(manager, {.name = "viewer", .recycle_as_is = true});
  sys.Add("reserved");
  for (auto* each : {&client, &older}) {
    for (int i = 0; i < 4; ++i) CHECK(each->Allocate({.bytes = 4096, .heaps = kDma}).ok());
  }
  const PoolReport sum = Sum(manager.MakeReport());
  CHECK(sum.hits >= 4);
  CHECK(sum.held_bytes > 0);
}

using Faulty = FaultSyscallsOver<FakeSyscallsOf<Linux612Machine>>;

TEST_CASE(
    "Manager: a request that no heap serves looks once more, and one that is served does not") {
  const LeakCheck leaks;
  using FaultyB = DmaHeapBackend<Faulty>;
  constexpr HeapSpec kAbsent{.type = HeapType::kDma, .id = 5, .name = "absent"};
  using M = Manager<FaultyB, SystemHeap<FaultyB>, DmaHeap<FaultyB, kAbsent>>;
  const auto faults = std::make_shared<Faults>();
  auto manager = Open<M>({.sys = Faulty(faults)});
  const auto calls = [&](HeapMask heaps) {
    faults->Begin({});
    const bool ok = manager.Allocate({.bytes = 4096, .heaps = heaps}).ok();
    faults->End();
    CHECK(ok == heaps.contains(kSystem));
    return faults->trace().size();
  };
  const size_t in_vain = calls(HeapId{5});
  CHECK(in_vain <= 6);
  CHECK(faults->Count("openat") == 1);
  CHECK(calls(HeapId{5}) == in_vain);
  CHECK(calls(kSystem) == calls(kSystem | HeapId{5}));
  // What cannot be looked at is left as it was, whichever call fails.
  for (size_t n = 0; n < in_vain; ++n) {
    faults->Begin({.n = n, .code = EMFILE});
    CHECK(ErrnoOf(manager.Allocate({.bytes = 4096, .heaps = HeapId{5}}).status()) == ENODEV);
    faults->End();
    CHECK(faults->failed().has_value());
  }
}

TEST_CASE("Manager: threads that want a heap which comes meanwhile all get it") {
  const LeakCheck leaks;
  const Changing sys = With("system");
  auto manager = Open<Two>({.sys = sys});
  std::atomic<int> served{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      auto client = Make(manager, {.name = "thread"});
      while (!client.Allocate({.bytes = 4096, .heaps = kDma}).ok()) {
        for (const KernelHeap& heap : manager.backend().heaps()) CHECK_FALSE(heap.name.empty());
      }
      ++served;
    });
  }
  sys.Add("reserved");
  for (std::thread& thread : threads) thread.join();
  CHECK(served == 4);
  CHECK(manager.heaps() == (kSystem | kDma));
}

}  // namespace
}  // namespace ion::testing
