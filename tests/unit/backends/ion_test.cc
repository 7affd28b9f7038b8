// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What /dev/ion may be or say that no good kernel does, and what is asked of it.

#include "ion/backends/ion.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/status.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/backend_suite.h"
#include "tests/support/leak_check.h"
#include "tests/support/scripted_node.h"
#include "tests/support/temp_dir.h"
#include "third_party/ion_uapi/ion.h"

namespace ion::testing {
namespace {

using B = IonBackend<ScriptedSyscalls>;

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

ion_uapi::ion_heap_data Listed(std::string_view name, uint32_t type, uint32_t id) {
  ion_uapi::ion_heap_data data{};
  name.copy(data.name, sizeof(data.name));
  data.type = type;
  data.heap_id = id;
  return data;
}

// A driver of the descriptor ABI, which answers what a test sets.
struct Driver {
  long free = -ENOTTY;
  long count_error = 0, fill_error = 0;
  uint32_t counted = UINT32_MAX, filled = UINT32_MAX;  // in place of the heaps' number
  std::vector<ion_uapi::ion_heap_data> heaps = {Listed("reserved", 4, 2),
                                                Listed("ion_system_heap", 0, 0)};
  long version_error = -ENOTTY;
  uint32_t version = 0;
  long alloc_error = 0;
  int interrupts = 0;
  std::vector<ion_uapi::ion_allocation_data> allocations = {};

  long Query(ion_uapi::ion_heap_query& query) {
    if (query.reserved0 != 0 || query.reserved1 != 0 || query.reserved2 != 0) return -EINVAL;
    const auto all = static_cast<uint32_t>(heaps.size());
    if (query.heaps == 0) {
      query.cnt = counted != UINT32_MAX ? counted : all;
      return count_error;
    }
    if (fill_error != 0) return fill_error;
    const uint32_t fits = std::min(query.cnt, all);
    std::memcpy(reinterpret_cast<void*>(query.heaps), heaps.data(), fits * sizeof(heaps[0]));
    query.cnt = filled != UINT32_MAX ? filled : fits;
    return 0;
  }
  long Allocate(ion_uapi::ion_allocation_data& data) {
    allocations.push_back(data);
    if (interrupts-- > 0) return -EINTR;
    if (alloc_error != 0) return alloc_error;
    const LinuxSyscalls kernel;
    const long fd = kernel.MemfdCreate("ion", MFD_CLOEXEC);
    CHECK(kernel.Ftruncate(static_cast<int>(fd), static_cast<off_t>(data.len)) == 0);
    data.fd = static_cast<uint32_t>(fd);
    return 0;
  }
  long operator()(unsigned long request, void* argument) {
    switch (request) {
      case ion_uapi::kIocFree:
        return free;
      case ion_uapi::kIocHeapQuery:
        return Query(*static_cast<ion_uapi::ion_heap_query*>(argument));
      case ion_uapi::kIocAbiVersion:
        *static_cast<uint32_t*>(argument) = version;
        return version_error;
      case ion_uapi::kIocAlloc:
        return Allocate(*static_cast<ion_uapi::ion_allocation_data*>(argument));
    }
    return -ENOTTY;
  }
};

// The backend over a driver; nothing of it may be left at the end.
struct Fixture {
  LeakCheck leaks;
  Driver driver;
  ScriptedNode node{.ioctl = std::ref(driver)};
  uint16_t private_flags = 0;

  B::Options Options() {
    B::Options options;
    options.sys = ScriptedSyscalls(&node);
    options.budget = std::make_shared<Budget>(64_MiB);
    options.private_flags = private_flags;
    return options;
  }
  Result<B> Open() { return B::Open(Options()); }
  Error Refusal() { return Open().error(); }
};

TEST_CASE("IonBackend: without its node it is ENOENT, and names the kernel option") {
  Fixture f;
  f.node.open_error = -ENOENT;
  CHECK(Kind(f.Refusal()) == "ENOENT open");
  CHECK(Contains(Describe(f.Refusal()), "CONFIG_ION=y"));
  CHECK(Contains(Describe(f.Refusal()), "dma_heap backend"));
}

TEST_CASE("IonBackend: a node without permission is EACCES, with the udev rule") {
  Fixture f;
  f.node.open_error = -EACCES;
  CHECK(Kind(f.Refusal()) == "EACCES open");
  CHECK(Contains(Describe(f.Refusal()), "KERNEL==\"ion\", GROUP=\"video\""));
}

TEST_CASE("IonBackend: what is no device of the misc major is ENODEV, and gets no ioctl") {
  const LeakCheck leaks;
  const TempDir dir;
  for (const std::string& path : {dir.File("ion"), dir.path(), std::string("/dev/null")}) {
    CAPTURE(path);
    ScriptedNode node;
    B::Options options;
    options.sys = ScriptedSyscalls(&node);
    options.node = path;
    const Error error = B::Open(options).error();
    CHECK(Kind(error) == "ENODEV open");
    CHECK(error.node() == AsNode(path));
    CHECK(node.requests.empty());
  }
}

TEST_CASE("IonBackend: the handle ABI is refused, and names the backend for it") {
  Fixture f;
  f.driver.free = -EINVAL;
  CHECK(Kind(f.Refusal()) == "EINVAL open");
  CHECK(Contains(Describe(f.Refusal()), "take the ion_legacy backend"));
  CHECK(f.node.Asked(ion_uapi::kIocHeapQuery) == 0);
}

TEST_CASE("IonBackend: an ABI that answers neither way is an error") {
  Fixture f;
  for (const int code : {EPERM, EFAULT, EIO, ENODEV}) {
    f.driver.free = -code;
    const Error error = f.Refusal();
    CHECK(error.code() == code);
    CHECK(Contains(error.what(), "ION_IOC_FREE"));
  }
  f.driver.free = 0;
  CHECK(Kind(f.Refusal()) == "ENODEV open");
  CHECK(f.node.Asked(ion_uapi::kIocHeapQuery) == 0);
}

TEST_CASE("IonBackend: what HEAP_QUERY answers to either question is the error") {
  Fixture f;
  f.driver.count_error = -ENOTTY;  // another misc device
  CHECK(Kind(f.Refusal()) == "ENOTTY open");
  f.driver.count_error = 0;
  f.driver.fill_error = -EFAULT;
  CHECK(Kind(f.Refusal()) == "EFAULT open");
}

TEST_CASE("IonBackend: a node without a heap is ENODEV, and names the kernel options") {
  Fixture f;
  f.driver.heaps.clear();
  CHECK(Kind(f.Refusal()) == "ENODEV open");
  CHECK(Contains(Describe(f.Refusal()), "CONFIG_ION_SYSTEM_HEAP=y"));
}

TEST_CASE("IonBackend: of a count that shrinks between the questions the second counts") {
  Fixture f;
  f.driver.counted = 200;
  const Result<B> backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(backend->heaps().size() == 2);
  CHECK(backend->heaps()[1].name == "ion_system_heap");
}

TEST_CASE("IonBackend: a heap that came between the questions is not seen") {
  Fixture f;
  f.driver.counted = 1;
  const Result<B> backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(backend->heaps().size() == 1);
}

std::vector<std::string> Names(const B& backend) {
  std::vector<std::string> names;
  for (const KernelHeap& heap : backend.heaps()) names.push_back(heap.name);
  return names;
}

TEST_CASE("IonBackend: a heap that comes later is appended, and none that is listed moves") {
  Fixture f;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  const KernelHeap* const first = backend->heaps().data();
  CHECK_FALSE(backend->LookAgain());
  f.driver.heaps.insert(f.driver.heaps.begin(), Listed("carveout", 2, 7));
  CHECK(backend->LookAgain());
  CHECK_FALSE(backend->LookAgain());
  CHECK(Names(*backend) == std::vector<std::string>{"reserved", "ion_system_heap", "carveout"});
  CHECK(backend->heaps().data() == first);
  { const Memory memory(*backend, 2, 4_KiB); }
  REQUIRE(f.driver.allocations.size() == 1);
  CHECK(f.driver.allocations[0].heap_id_mask == 1u << 7);
  // An id that no mask can hold is no heap, and a heap that has gone stays listed.
  f.driver.heaps = {Listed("late", 0, 40)};
  CHECK_FALSE(backend->LookAgain());
  CHECK(backend->heaps().size() == 3);
  f.driver.fill_error = -ENOMEM;
  CHECK_FALSE(backend->LookAgain());
}

TEST_CASE("Manager: a heap of ION that comes later is bound by the request that wants it") {
  Fixture f;
  f.driver.heaps = {Listed("ion_system_heap", 0, 0)};
  auto manager = Manager<B, SystemHeap<B>, DmaHeap<B>>::Open(f.Options());
  REQUIRE(manager.ok());
  const Request request{.bytes = 4096, .heaps = HeapId{4}};
  CHECK(ErrnoOf(manager->Allocate(request).status()) == ENODEV);
  f.driver.heaps.push_back(Listed("reserved", 4, 2));
  CHECK(manager->Allocate(request).ok());
  CHECK(manager->HeapName(HeapId{4}) == "reserved");
}

TEST_CASE("IonBackend: more heaps than can be, or than there was room for, is EPROTO") {
  Fixture f;
  f.driver.counted = 4'000'000'000;
  CHECK(Kind(f.Refusal()) == "EPROTO open");
  f.driver.counted = UINT32_MAX;
  f.driver.filled = 3;
  CHECK(Kind(f.Refusal()) == "EPROTO open");
}

TEST_CASE("IonBackend: a heap listed twice, or with an id past 31, cannot be used and says so") {
  Fixture f;
  f.driver.heaps = {Listed("far", 0, 32), Listed("one", 0, 7), Listed("two", 0, 7)};
  Result<B> backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  CHECK(Kind(backend->Allocate(0, 1, Flags::kNone, {}, block)) == "ERANGE open");
  CHECK(Kind(backend->Allocate(2, 1, Flags::kNone, {}, block)) == "EEXIST open");
  CHECK(f.driver.allocations.empty());
  REQUIRE(Told(backend->Allocate(1, 1, Flags::kNone, {}, block)) == "ok");
  CHECK(f.driver.allocations.at(0).heap_id_mask == 1u << 7);
  CHECK(Told(backend->Release(block)) == "ok");
}

TEST_CASE("IonBackend: where no heap can be used, the first one's reason is the error") {
  Fixture f;
  f.driver.heaps = {Listed("far", 0, 32), Listed("farther", 0, UINT32_MAX)};
  const Error error = f.Refusal();
  CHECK(Kind(error) == "ERANGE open");
  CHECK(error.node() == "far");
}

TEST_CASE("IonBackend: a name without an end, or without a character, is a name all the same") {
  Fixture f;
  f.driver.heaps = {Listed(std::string(32, 'n'), 0, 0), Listed("", 0, 9)};
  const Result<B> backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(backend->heaps()[0].name == std::string(32, 'n'));
  CHECK(backend->heaps()[1].name == "heap 9");
}

TEST_CASE("IonBackend: a heap's type says what its memory is, and a vendor's says nothing") {
  Fixture f;
  f.driver.heaps = {Listed("a", 0, 0), Listed("b", 1, 1), Listed("c", 2, 2),
                    Listed("d", 3, 3), Listed("e", 4, 4), Listed("v", 16, 5)};
  Result<B> backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  for (unsigned i = 0; i < 5; ++i) {
    CAPTURE(i);
    const KernelHeap& heap = backend->heaps()[i];
    CHECK(heap.type == static_cast<HeapType>(i));
    CHECK(heap.properties.contiguous == (i == 1 || i == 2 || i == 4));
    CHECK(heap.properties.zeroed);
    CHECK_FALSE(heap.properties.cached);
    CHECK(heap.either_caching);
  }
  const KernelHeap& vendors = backend->heaps()[5];
  CHECK(vendors.type == HeapType::kCustom);
  CHECK(vendors.properties == Properties{.alignment = PageBytes()});
  Block block;
  CHECK(Kind(backend->Allocate(5, 1, Flags::kCached, {}, block)) == "EINVAL allocate");
}

TEST_CASE("IonBackend: the ABI's version is kept where the kernel tells it") {
  Fixture f;
  CHECK(f.Open()->abi_version() == 0);
  f.driver.version_error = 0;
  f.driver.version = 2;
  CHECK(f.Open()->abi_version() == 2);
  f.driver.version_error = -EFAULT;
  CHECK(Kind(f.Refusal()) == "EFAULT open");
}

TEST_CASE("IonBackend: flags go to the kernel as declared, and no other does") {
  Fixture f;
  f.private_flags = 1u << 3;
  Result<B> backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  for (const auto& [flags, sent] : {std::pair{Flags::kNone, 0u},
                                    {Flags::kUncached, 0u},
                                    {Flags::kCached, 1u},
                                    {Flags::kCached | HeapPrivate(3), 1u | 1u << 19}}) {
    Block block;
    f.driver.allocations.clear();
    REQUIRE(Told(backend->Allocate(1, 1, flags, {}, block)) == "ok");
    CHECK(f.driver.allocations.at(0).flags == sent);
    CHECK(f.driver.allocations.at(0).heap_id_mask == 1);
    CHECK(f.driver.allocations.at(0).len == PageBytes());
    CHECK(block.properties().cached == Has(flags, Flags::kCached));
    CHECK(Told(backend->Release(block)) == "ok");
  }
  f.driver.allocations.clear();
  Block block;
  const Error error = backend->Allocate(1, 1, HeapPrivate(4), {}, block);
  CHECK(Kind(error) == "EINVAL allocate");
  CHECK(Contains(Describe(error), "Options::private_flags"));
  CHECK(f.driver.allocations.empty());
}

TEST_CASE("IonBackend: the kernel's errno comes out, and a signal is none") {
  Fixture f;
  Result<B> backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  for (const int code : {ENODEV, EPERM, EFAULT, ENOMEM, EMFILE}) {
    f.driver.alloc_error = -code;
    Block block;
    const Error error = backend->Allocate(1, 1, Flags::kNone, {}, block);
    CHECK(error.code() == code);
    CHECK(error.node() == "ion_system_heap");
    CHECK_FALSE(block.filled());
    CHECK(backend->budget().held() == 0);
  }
  f.driver.alloc_error = 0;
  f.driver.interrupts = 3;
  Block block;
  CHECK(Told(backend->Allocate(1, 1, Flags::kNone, {}, block)) == "ok");
  CHECK(Told(backend->Release(block)) == "ok");
}

TEST_CASE("SystemHeap over ION: a request chooses the caching, and may not name both") {
  Fixture f;
  Result<B> backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  auto heap = SystemHeap<B>::Bind(*backend);
  REQUIRE(Told(heap.error()) == "ok");
  for (const Flags flags : {Flags::kNone, Flags::kCached, Flags::kUncached}) {
    Block block;
    REQUIRE(Told(heap->Allocate({.bytes = 1, .flags = flags}, block)) == "ok");
    CHECK(block.properties().cached == Has(flags, Flags::kCached));
    CHECK(Told(heap->Free(block)) == "ok");
  }
  Block block;
  const Error error =
      heap->Allocate({.bytes = 1, .flags = Flags::kCached | Flags::kUncached}, block);
  CHECK(Kind(error) == "EINVAL allocate");
  CHECK(Contains(Describe(error), "kCached and kUncached at once"));
}

}  // namespace
}  // namespace ion::testing
