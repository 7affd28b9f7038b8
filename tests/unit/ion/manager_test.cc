// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The walk over heaps, with scripted heaps over memfds; and what leases do, over every backend that
// opens here.

#include "ion/manager.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/platforms/linux.h"
#include "tests/support/absent_node.h"
#include "tests/support/backend_suite.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"
#include "tests/support/scripted_heap.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

TYPE_TO_STRING_AS("memfd", ion::platforms::Memfd);
TYPE_TO_STRING_AS("dma_heap", ion::platforms::DmaHeaps);
TYPE_TO_STRING_AS("udmabuf", ion::platforms::Udmabuf);

namespace ion::testing {
namespace {

using Memfds = MemfdBackend<>;
template <HeapScript kScript>
using Scripted = ScriptedHeap<Memfds, kScript>;
using Two = Scripted<HeapScript{.id = 2}>;
using Seven = Scripted<HeapScript{.id = 7}>;
using Thirty = Scripted<HeapScript{.id = 30}>;
template <uint8_t kId, int kErrno>
using Empty = Scripted<HeapScript{.id = kId, .allocate_errno = kErrno}>;
template <uint8_t kId, int kErrno>
using Absent = Scripted<HeapScript{.id = kId, .bind_errno = kErrno}>;
using Contiguous = Scripted<HeapScript{
    .id = 9, .properties = {.cpu_mappable = true, .contiguous = true, .alignment = 8192}}>;

// "ok", or the sentence.
std::string Told(const absl::Status& status) {
  return status.ok() ? "ok" : std::string(status.message());
}
bool Contains(const absl::Status& status, std::string_view part) {
  return std::string(status.message()).find(part) != std::string::npos;
}

template <class... Hs>
Manager<Memfds, Hs...> OpenWith() {
  absl::StatusOr<Manager<Memfds, Hs...>> manager = Manager<Memfds, Hs...>::Open();
  REQUIRE(Told(manager.status()) == "ok");
  return *std::move(manager);
}

// The id of the heap that serves a request; 99 where none does.
template <class M>
unsigned Serving(M& manager, const Request& request) {
  const absl::StatusOr<Buffer> buffer = manager.Allocate(request);
  return buffer.ok() ? manager.HeapOf(*buffer).value().value() : 99;
}

// ---- The walk ----

TEST_CASE("Manager: memory comes from the heap that the mask names") {
  const LeakCheck leaks;
  auto manager = OpenWith<Seven, Two, Thirty>();
  CHECK(manager.heaps() == (HeapId{2} | HeapId{7} | HeapId{30}));
  CHECK(Serving(manager, {.bytes = 1, .heaps = HeapId{2}}) == 2);
  CHECK(Serving(manager, {.bytes = 1, .heaps = HeapId{7}}) == 7);
  CHECK(Serving(manager, {.bytes = 1, .heaps = HeapId{30}}) == 30);
}

TEST_CASE("Manager: of several heaps the highest id is tried first, in whatever order they stand") {
  const LeakCheck leaks;
  auto one = OpenWith<Two, Thirty, Seven>();
  auto other = OpenWith<Seven, Thirty, Two>();
  const auto check = [](auto& manager) {
    CHECK(Serving(manager, {.bytes = 1}) == 30);
    CHECK(Serving(manager, {.bytes = 1, .heaps = HeapMask::All()}) == 30);
    CHECK(Serving(manager, {.bytes = 1, .heaps = HeapId{2} | HeapId{7}}) == 7);
  };
  check(one);
  check(other);
}

TEST_CASE("Manager: or the lowest, where the order says so") {
  const LeakCheck leaks;
  auto manager = ManagerWith<LowestFirst, Memfds, Seven, Two, Thirty>::Open();
  REQUIRE(manager.ok());
  CHECK(Serving(*manager, {.bytes = 1}) == 2);
  CHECK(Serving(*manager, {.bytes = 1, .heaps = HeapId{30} | HeapId{7}}) == 7);
  auto fuller = ManagerWith<LowestFirst, Memfds, Empty<2, ENOMEM>, Thirty, Seven>::Open();
  REQUIRE(fuller.ok());
  CHECK(Serving(*fuller, {.bytes = 1}) == 7);
}

TEST_CASE("Manager: a heap that has no memory is passed over for the next lower id") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two, Empty<30, ENOMEM>, Seven, Empty<8, EIO>>();
  CHECK(Serving(manager, {.bytes = 1}) == 7);
  CHECK(Serving(manager, {.bytes = 1, .heaps = HeapId{2} | HeapId{30}}) == 2);
}

TEST_CASE("Manager: where no heap has memory, each that was tried is told, and the last's errno") {
  const LeakCheck leaks;
  auto manager = OpenWith<Empty<2, EIO>, Empty<7, ENOMEM>, Empty<30, EACCES>>();
  const absl::Status all = manager.Allocate({.bytes = 4096}).status();
  CHECK(ErrnoOf(all) == EIO);
  CHECK(Told(all) ==
        "heap 30: memfd scripted: allocate 4096 bytes (the script has none): EACCES; "
        "heap 7: memfd scripted: allocate 4096 bytes (the script has none): ENOMEM: free some "
        "buffers, ask for less, or name another heap; "
        "heap 2: memfd scripted: allocate 4096 bytes (the script has none): EIO");
  const absl::Status some =
      manager.Allocate({.bytes = 4096, .heaps = HeapId{30} | HeapId{7}}).status();
  CHECK(ErrnoOf(some) == ENOMEM);
  CHECK(some.code() == absl::StatusCode::kResourceExhausted);
  CHECK_FALSE(Contains(some, "heap 2:"));
}

TEST_CASE("Manager: a real refusal falls through, too") {
  const LeakCheck leaks;
  // The budget is the backend's, so that both heaps refuse, each for itself.
  auto manager = Manager<Memfds, Two, Seven>::Open({.budget = std::make_shared<Budget>(1_MiB)});
  REQUIRE(manager.ok());
  const absl::Status status = manager->Allocate({.bytes = 2_MiB}).status();
  CHECK(ErrnoOf(status) == ENOMEM);
  CHECK(Contains(status, "heaps 2 and 7: memfd: allocate 2097152 bytes (past the bound"));
  CHECK(manager->backend().budget().held() == 0);
}

TEST_CASE("Manager: 0 bytes are EINVAL") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  const absl::Status status = manager.Allocate({.bytes = 0}).status();
  CHECK(ErrnoOf(status) == EINVAL);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("Manager: an empty mask is ENODEV, and says so") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  const absl::Status status = manager.Allocate({.bytes = 1, .heaps = HeapMask()}).status();
  CHECK(ErrnoOf(status) == ENODEV);
  CHECK(Contains(status, "the mask of heaps is empty"));
}

TEST_CASE("Manager: a mask without a heap of its own is ENODEV, and says so") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  const absl::Status status =
      manager.Allocate({.bytes = 1, .heaps = HeapId{3} | HeapId{31}}).status();
  CHECK(ErrnoOf(status) == ENODEV);
  CHECK(Contains(status, "no heap of this Manager is in the mask"));
}

TEST_CASE("Manager: contiguous memory is given only where its heap is named") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two, Contiguous>();
  CHECK(manager.heaps() == (HeapId{2} | HeapId{9}));
  CHECK(manager.default_heaps() == HeapMask(HeapId{2}));
  CHECK(Serving(manager, {.bytes = 1}) == 2);
  CHECK(Serving(manager, {.bytes = 1, .heaps = HeapId{9}}) == 9);
  CHECK(Serving(manager, {.bytes = 1, .heaps = HeapMask::All()}) == 9);

  auto only = OpenWith<Contiguous>();
  const absl::Status status = only.Allocate({.bytes = 1}).status();
  CHECK(ErrnoOf(status) == ENODEV);
  CHECK(Contains(status, "contiguous memory is scarce"));
}

TEST_CASE("Manager: an absent heap gives its reason to a request that names it") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two, Absent<5, EACCES>>();
  CHECK(manager.heaps() == HeapMask(HeapId{2}));
  CHECK(Serving(manager, {.bytes = 1}) == 2);
  CHECK(Serving(manager, {.bytes = 1, .heaps = HeapId{5} | HeapId{2}}) == 2);
  const absl::Status status = manager.Allocate({.bytes = 1, .heaps = HeapId{5}}).status();
  CHECK(ErrnoOf(status) == EACCES);
  CHECK(Told(status) == "heap 5: memfd: open (the script refuses): EACCES");
}

TEST_CASE("Manager: it does not open where no heap can be bound, and says why for each") {
  const LeakCheck leaks;
  const absl::Status status =
      Manager<Memfds, Absent<1, ENOENT>, Absent<8, EACCES>>::Open().status();
  CHECK(ErrnoOf(status) == ENOENT);
  CHECK(Told(status) ==
        "heap 8: memfd: open (the script refuses): EACCES; "
        "heap 1: memfd: open (the script refuses): ENOENT");
}

TEST_CASE("Manager: it does not open where its backend does not, and says why") {
  const LeakCheck leaks;
  const TempDir dir;
  DmaHeapBackend<>::Options options;
  options.directory = dir.At("none");
  const absl::Status status = platforms::DmaHeaps::Open(options).status();
  CHECK(ErrnoOf(status) == ENOENT);
  CHECK(status.code() == absl::StatusCode::kNotFound);
  CHECK(Contains(status, AbsentNodeAdvice("/sys/class/dma_heap", "CONFIG_DMABUF_HEAPS=y")));
}

// ---- What heaps are ----

TEST_CASE("Manager: a heap of its own has a name, any other id has none") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two, Absent<5, EACCES>>();
  CHECK(manager.HeapName(HeapId{2}) == "scripted");
  CHECK(manager.HeapName(HeapId{5}) == "");
  CHECK(manager.HeapName(HeapId{6}) == "");
}

TEST_CASE("Manager: several heaps guarantee what each of them guarantees") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two, Contiguous, Absent<5, EACCES>>();
  CHECK(manager.Guarantees(HeapId{2}) ==
        Properties{.cpu_mappable = true, .cached = true, .zeroed = true, .alignment = 4096});
  CHECK(manager.Guarantees(HeapId{9}) ==
        Properties{.cpu_mappable = true, .contiguous = true, .alignment = 8192});
  CHECK(manager.Guarantees(HeapId{2} | HeapId{9}) ==
        Properties{.cpu_mappable = true, .alignment = 4096});
  CHECK(manager.Guarantees(HeapId{2} | HeapId{5}) == manager.Guarantees(HeapId{2}));
  CHECK(manager.Guarantees(HeapId{5}) == Properties{});
  CHECK(manager.Guarantees(HeapMask()) == Properties{});
}

TEST_CASE("Manager: a flag that its memory cannot honour is EINVAL, one that it can is not") {
  const LeakCheck leaks;
  auto manager = platforms::Memfd::Open();
  REQUIRE(manager.ok());
  CHECK(manager->Allocate({.bytes = 1, .flags = Flags::kCached}).ok());
  for (const Flags flags : {Flags::kUncached, Flags::kCached | Flags::kUncached, HeapPrivate(1)}) {
    CHECK(ErrnoOf(manager->Allocate({.bytes = 1, .flags = flags}).status()) == EINVAL);
  }
}

TEST_CASE("Manager: cached memory is not given for uncached, nor uncached for cached") {
  const LeakCheck leaks;
  FakeMachine machine;
  machine.dma_heaps = {{.name = "system-uncached"}};  // a vendor's
  using B = DmaHeapBackend<FakeSyscalls>;
  auto manager = platforms::Heaps<B>::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(Told(manager.status()) == "ok");
  CHECK(manager->HeapName(HeapId{0}) == "system-uncached");
  CHECK(manager->Guarantees(HeapId{0}).cached.no());
  const absl::Status status = manager->Allocate({.bytes = 1, .flags = Flags::kCached}).status();
  CHECK(ErrnoOf(status) == EINVAL);
  CHECK(Contains(status, "its memory is uncached"));
  const auto uncached = manager->Allocate({.bytes = 1, .flags = Flags::kUncached});
  REQUIRE(Told(uncached.status()) == "ok");
  CHECK(uncached->properties().cached.no());
}

// ---- Leases, over every backend ----

// Opens, or says why there is no such backend here.
template <class M>
std::optional<M> OpenHere(const std::shared_ptr<ErrorSink>& errors = nullptr) {
  using B = std::remove_reference_t<decltype(std::declval<M&>().backend())>;
  typename B::Options options;
  options.errors = errors;
  absl::StatusOr<M> manager = M::Open(options);
  if (ErrnoOf(manager.status()) == ENOENT) {
    Skip(std::string("no ") + M::kBackendName);
    return std::nullopt;
  }
  REQUIRE(Told(manager.status()) == "ok");
  return *std::move(manager);
}

std::string Fill(const Buffer& buffer, uint8_t seed) {
  const absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(buffer);
  if (!mapping.ok()) return Told(mapping.status());
  absl::StatusOr<CpuWrite> cpu = CpuWrite::Begin(*mapping);
  if (!cpu.ok()) return Told(cpu.status());
  FillPages(cpu->bytes(), seed);
  return Told(std::move(*cpu).End());
}
std::string Look(const Buffer& buffer, uint8_t seed) {
  const absl::StatusOr<ReadOnlyMapping> mapping = ReadOnlyMapping::Of(buffer);
  if (!mapping.ok()) return Told(mapping.status());
  absl::StatusOr<CpuRead> cpu = CpuRead::Begin(*mapping);
  if (!cpu.ok()) return Told(cpu.status());
  const std::string looked = LookAtPages(cpu->bytes(), seed);
  return looked != "ok" ? looked : Told(std::move(*cpu).End());
}

#define EVERY_BACKEND platforms::Memfd, platforms::DmaHeaps, platforms::Udmabuf

TEST_CASE_TEMPLATE("Manager: each of its heaps gives memory that is what the heap says", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  auto manager = OpenHere<M>();
  if (!manager.has_value()) return;
  for (unsigned i = 0; i < HeapId::kCount; ++i) {
    const HeapId id = *HeapId::From(i);
    if (!manager->heaps().contains(id)) continue;
    CAPTURE(i);
    const absl::StatusOr<Buffer> buffer =
        manager->Allocate({.bytes = 115'200, .heaps = id, .name = "lease"});
    REQUIRE(Told(buffer.status()) == "ok");
    CHECK(manager->HeapOf(*buffer) == id);
    CHECK(manager->HeapName(id) != "");
    CHECK(buffer->properties() == manager->Guarantees(id));
    CHECK(buffer->bytes() >= 115'200);
    CHECK(NameOf(buffer->fd()) == "lease");
    CHECK(Fill(*buffer, 1) == "ok");
    CHECK(Look(*buffer, 1) == "ok");
  }
}

TEST_CASE_TEMPLATE("Manager: contiguous memory comes from a real heap only by its name", M,
                   platforms::DmaHeaps) {
  const LeakCheck leaks;
  auto manager = OpenHere<M>();
  if (!manager.has_value()) return;
  if (!manager->heaps().contains(HeapId{4})) return Skip("no contiguous heap");
  const absl::StatusOr<Buffer> any = manager->Allocate({.bytes = 1_MiB});
  const absl::StatusOr<Buffer> named = manager->Allocate({.bytes = 1_MiB, .heaps = HeapId{4}});
  REQUIRE((any.ok() && named.ok()));
  CHECK(manager->HeapOf(*any) == HeapId{0});
  CHECK_FALSE(any->properties().contiguous);
  CHECK(manager->HeapOf(*named) == HeapId{4});
  CHECK(named->properties().contiguous);
}

TEST_CASE_TEMPLATE("Manager: a buffer that outlives it keeps its memory, and is told of", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  struct Seen {
    std::vector<Error> errors;
  } seen;
  const auto errors = std::make_shared<ErrorSink>(
      [](const Error& error, void* context) {
        static_cast<Seen*>(context)->errors.push_back(error);
      },
      &seen);
  Buffer buffer, other;
  {
    auto manager = OpenHere<M>(errors);
    if (!manager.has_value()) return;
    absl::StatusOr<Buffer> one = manager->Allocate({.bytes = 64_KiB});
    absl::StatusOr<Buffer> two = manager->Allocate({.bytes = 64_KiB});
    REQUIRE((one.ok() && two.ok()));
    CHECK(Fill(*one, 4) == "ok");
    buffer = *std::move(one);
    other = *std::move(two);
  }
  REQUIRE(seen.errors.size() == 1);
  CHECK(Kind(seen.errors[0]) == "EBUSY release");
  CHECK(Describe(seen.errors[0]).find("buffers outlive their Manager") != std::string::npos);
  CHECK(buffer.bytes() == 64_KiB);
  CHECK(Look(buffer, 4) == "ok");
  buffer = Buffer();
  CHECK(Fill(other, 5) == "ok");
  CHECK(Look(other, 5) == "ok");
  other = Buffer();
  CHECK(errors.use_count() == 1);  // The backend is gone with the last lease.
  CHECK(seen.errors.size() == 1);
}

TEST_CASE_TEMPLATE("Manager: its buffers stay good when it is moved", M, EVERY_BACKEND) {
  const LeakCheck leaks;
  const auto errors = std::make_shared<ErrorSink>();
  {
    auto manager = OpenHere<M>(errors);
    if (!manager.has_value()) return;
    absl::StatusOr<Buffer> buffer = manager->Allocate({.bytes = 64_KiB});
    REQUIRE(buffer.ok());
    CHECK(Fill(*buffer, 6) == "ok");
    M moved = *std::move(manager);
    CHECK(Look(*buffer, 6) == "ok");
    CHECK(moved.HeapOf(*buffer) == HeapId{0});
    auto second = OpenHere<M>(errors);
    *second = std::move(moved);
    CHECK(second->Allocate({.bytes = 1}).ok());
    buffer = Buffer();
  }
  CHECK(errors->count() == 0);
}

TEST_CASE_TEMPLATE("Manager: several threads use it at once", M, EVERY_BACKEND) {
  const LeakCheck leaks;
  auto manager = OpenHere<M>();
  if (!manager.has_value()) return;
  std::atomic<int> rounds{0};
  const auto use = [&](uint8_t seed) {
    for (int i = 0; i < 25; ++i) {
      const absl::StatusOr<Buffer> buffer = manager->Allocate({.bytes = 12_KiB});
      if (!buffer.ok() || Fill(*buffer, seed) != "ok" || Look(*buffer, seed) != "ok") return;
      ++rounds;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (uint8_t seed = 1; seed <= 4; ++seed) threads.emplace_back(use, seed);
  }
  CHECK(rounds == 4 * 25);
  CHECK(manager->backend().budget().held() == 0);
}

// ---- Mappings of leases ----

TEST_CASE_TEMPLATE("CpuMapping: the whole buffer is mapped once, and stays so until its release", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  auto manager = OpenHere<M>();
  if (!manager.has_value()) return;
  const std::string before = DeviceMappings();
  absl::StatusOr<Buffer> buffer = manager->Allocate({.bytes = 64_KiB});
  REQUIRE(buffer.ok());
  const std::byte* at = nullptr;
  for (int i = 0; i < 2; ++i) {
    const auto read_only = ReadOnlyMapping::Of(*buffer);
    const auto writable = WritableMapping::Of(*buffer);
    REQUIRE((read_only.ok() && writable.ok()));
    CHECK(read_only->unsynced().data() == writable->unsynced().data());
    if (at != nullptr) CHECK(read_only->unsynced().data() == at);
    at = read_only->unsynced().data();
  }
  CHECK(DeviceMappings() != before);
  buffer = Buffer();
  CHECK(DeviceMappings() == before);
}

TEST_CASE_TEMPLATE("CpuMapping: a part is its pages, and is unmapped with it", M, EVERY_BACKEND) {
  const LeakCheck leaks;
  auto manager = OpenHere<M>();
  if (!manager.has_value()) return;
  const uint64_t page = PageBytes();
  const absl::StatusOr<Buffer> buffer = manager->Allocate({.bytes = 8 * page});
  REQUIRE(buffer.ok());
  CHECK(Fill(*buffer, 7) == "ok");
  const std::string before = DeviceMappings();
  {
    const auto part = ReadOnlyMapping::Of(*buffer, {.offset = 3 * page, .bytes = 2 * page});
    const auto rest = ReadOnlyMapping::Of(*buffer, {.offset = 6 * page});
    REQUIRE((part.ok() && rest.ok()));
    CHECK(part->bytes() == 2 * page);
    CHECK(part->offset() == 3 * page);
    CHECK(LookAtPages(part->unsynced(), 7, 3) == "ok");
    CHECK(rest->bytes() == 2 * page);
    CHECK(LookAtPages(rest->unsynced(), 7, 6) == "ok");
    CHECK(DeviceMappings() != before);
  }
  CHECK(DeviceMappings() == before);
}

TEST_CASE_TEMPLATE("CpuMapping: a range that is not pages of the buffer is EINVAL", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  auto manager = OpenHere<M>();
  if (!manager.has_value()) return;
  const absl::StatusOr<Buffer> buffer = manager->Allocate({.bytes = 4 * PageBytes()});
  REQUIRE(buffer.ok());
  const uint64_t end = buffer->bytes(), page = PageBytes();
  for (const MapRange& range :
       {MapRange{.offset = 1}, MapRange{.offset = end}, MapRange{.offset = end + page},
        MapRange{.offset = SIZE_MAX}, MapRange{.offset = 0, .bytes = 0},
        MapRange{.offset = 0, .bytes = 1}, MapRange{.offset = page, .bytes = end},
        MapRange{.offset = page, .bytes = SIZE_MAX - page + 1}}) {
    CAPTURE(range.offset);
    CAPTURE(range.bytes);
    CHECK(ErrnoOf(ReadOnlyMapping::Of(*buffer, range).status()) == EINVAL);
    CHECK(ErrnoOf(WritableMapping::Of(*buffer, range).status()) == EINVAL);
  }
}

TEST_CASE("CpuMapping: what was imported read-only is EACCES for writing, and still read") {
  const LeakCheck leaks;
  auto manager = platforms::Memfd::Open();
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = "reader"});
  REQUIRE(client.ok());
  const absl::StatusOr<Handle> handle = client->Import(ReadOnly(Memfd(64_KiB)).borrow());
  REQUIRE(Told(handle.status()) == "ok");
  CHECK(ErrnoOf(client->Map<MapMode::kWritable>(*handle).status()) == EACCES);
  const auto mapping = client->Map<MapMode::kReadOnly>(*handle);
  REQUIRE(mapping.ok());
  CHECK(ErrnoOf(client->Map<MapMode::kWritable>(*handle).status()) == EACCES);
  CHECK(LookAtPages(mapping->unsynced(), 0, 0, ZeroByte) == "ok");
}

// ---- Contracts ----

TEST_CASE("Buffer: one that was moved from is empty") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  absl::StatusOr<Buffer> made = manager.Allocate({.bytes = 1});
  REQUIRE(made.ok());
  Buffer one = *std::move(made);
  const int fd = one.fd().get();
  CHECK(one.valid());
  Buffer two = std::move(one);
  CHECK_FALSE(one.valid());  // NOLINT: this is the point
  CHECK(two.fd().get() == fd);
  one = std::move(two);
  CHECK(one.valid());
  CHECK_FALSE(two.valid());  // NOLINT
  Buffer& same = one;
  one = std::move(same);
  CHECK(one.valid());
  CHECK_FALSE(Buffer().valid());
}

TEST_CASE("Buffer: assigning to one releases what it had") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  absl::StatusOr<Buffer> one = manager.Allocate({.bytes = 1});
  absl::StatusOr<Buffer> two = manager.Allocate({.bytes = 64_KiB});
  REQUIRE((one.ok() && two.ok()));
  *one = *std::move(two);
  CHECK(manager.backend().budget().held() == 64_KiB);
  CHECK(one->bytes() == 64_KiB);
}

// Whether f ends its process with this sentence.
template <class F>
void CheckAborts(F f, std::string_view sentence) {
  const ChildEnd end = RunInChild([&] {
    f();
    return "it went on";
  });
  CHECK(end.signal == SIGABRT);
  CAPTURE(end.text);
  CHECK(end.text.find(sentence) != std::string::npos);
}

TEST_CASE("Buffer: using one that was moved from ends the program") {
  const LeakCheck leaks;
  const auto bytes_of_moved = [] {
    auto manager = OpenWith<Two>();
    absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1});
    const Buffer other = *std::move(buffer);
    return buffer->bytes();  // NOLINT: this is the point
  };
  CheckAborts(bytes_of_moved, "an empty Buffer was used: it was moved from, or never filled");
}

TEST_CASE("Buffer: a release while a mapping lives ends the program") {
  const LeakCheck leaks;
  const auto release = [] {
    auto manager = OpenWith<Two>();
    absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1, .name = "preview"});
    const auto mapping = ReadOnlyMapping::Of(*buffer);
    *buffer = Buffer();
  };
  CheckAborts(release, "a Buffer was released while a CpuMapping of it lives");
  CheckAborts(release, "buffer 'preview' of " + std::to_string(PageBytes()) + " bytes, of heap '");
  CheckAborts(release, " has 1 CpuMapping; all of it is mapped at 0x");
}

TEST_CASE("CpuMapping: ending or moving one inside a scope ends the program") {
  const LeakCheck leaks;
  const auto end = [] {
    auto manager = OpenWith<Two>();
    absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1});
    auto mapping = std::make_unique<ReadOnlyMapping>(*ReadOnlyMapping::Of(*buffer));
    const auto cpu = CpuRead::Begin(*mapping);
    mapping.reset();
  };
  CheckAborts(end, "a CpuMapping ended inside a CpuAccess to it");
  const auto move = [] {
    auto manager = OpenWith<Two>();
    absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1});
    auto mapping = ReadOnlyMapping::Of(*buffer);
    const auto cpu = CpuRead::Begin(*mapping);
    const ReadOnlyMapping other = *std::move(mapping);
  };
  CheckAborts(move, "a CpuMapping was moved inside a CpuAccess to it");
}

TEST_CASE("CpuMapping: the 32768th of one buffer ends the program") {
  const LeakCheck leaks;
  const auto map_for_ever = [] {
    auto manager = OpenWith<Two>();
    absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1});
    std::vector<ReadOnlyMapping> mappings;
    mappings.reserve(32768);
    for (int i = 0; i < 32768; ++i) mappings.push_back(*ReadOnlyMapping::Of(*buffer));
  };
  CheckAborts(map_for_ever, "32767 CpuMappings of one buffer are alive");
}

TEST_CASE("Manager: using one that was moved from ends the program") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  const auto allocate_on_moved = [&] {
    const auto other = std::move(manager);
    return manager.Allocate({.bytes = 1}).ok();  // NOLINT: this is the point
  };
  CheckAborts(allocate_on_moved, "a Manager was used after it was moved from");
}

TEST_CASE("Manager: a flag that has no name is refused") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  for (unsigned bit = 1; bit < 15; ++bit) {
    const absl::Status status =
        manager.Allocate({.bytes = 1, .flags = static_cast<Flags>(1u << bit)}).status();
    CHECK(ErrnoOf(status) == EINVAL);
  }
}

TEST_CASE("CpuMapping: who only reads can, where the owner has forbidden writing since") {
  const LeakCheck leaks;
  auto opened = platforms::Memfd::Open();
  REQUIRE(opened.ok());
  const UniqueFd memfd(::memfd_create("late", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(memfd.get(), 4096) == 0);
  REQUIRE(::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
  auto client = opened->CreateClient({.name = "reader"});
  REQUIRE(client.ok());
  const auto handle = client->Import(memfd.borrow());
  REQUIRE(handle.ok());
  REQUIRE(::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_WRITE) == 0);
  CHECK(ErrnoOf(client->Map<MapMode::kWritable>(*handle).status()) == EPERM);
  const auto mapping = client->Map<MapMode::kReadOnly>(*handle);
  REQUIRE(mapping.ok());
  CHECK(mapping->bytes() == 4096);
  CHECK(ErrnoOf(client->Map<MapMode::kWritable>(*handle).status()) == EPERM);
}

TEST_CASE("CpuMapping: using one that was moved from ends the program") {
  const LeakCheck leaks;
  const auto begin_on_moved = [] {
    auto manager = OpenWith<Two>();
    const absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1});
    auto mapping = ReadOnlyMapping::Of(*buffer);
    const ReadOnlyMapping other = *std::move(mapping);
    return CpuRead::Begin(*mapping).ok();  // NOLINT: this is the point
  };
  CheckAborts(begin_on_moved, "a CpuMapping was used after it was moved from");
}

// ---- Generations ----

// What tells one memory from another (ion/buffer.h).
using Identity = std::tuple<int, uint64_t, uint64_t, uint32_t>;
Identity IdentityOf(const Buffer& buffer) {
  const BlockRange range = buffer.range();
  return {range.fd.get(), range.offset, range.bytes, buffer.generation()};
}

TEST_CASE("Buffer: its generation stays while its memory does") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1});
  REQUIRE(buffer.ok());
  const Identity identity = IdentityOf(*buffer);
  CHECK(Fill(*buffer, 1) == "ok");
  const Buffer moved = *std::move(buffer);
  CHECK(IdentityOf(moved) == identity);
}

TEST_CASE("Buffer: other memory is never taken for the same, though its descriptor is") {
  const LeakCheck leaks;
  auto manager = OpenWith<Two>();
  std::set<Identity> seen;
  for (int i = 0; i < 100; ++i) {
    const absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1});
    REQUIRE(buffer.ok());
    CHECK(seen.insert(IdentityOf(*buffer)).second);
  }

  // A descriptor's number that comes back to a lease that was never used before.
  absl::StatusOr<Buffer> first = manager.Allocate({.bytes = 1});
  REQUIRE(first.ok());
  const int number = first->fd().get();
  CHECK(seen.insert(IdentityOf(*first)).second);
  *first = Buffer();
  std::vector<Buffer> held;
  {
    UniqueFd in_the_way(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
    REQUIRE(in_the_way.get() == number);
    for (int i = 0; i < 3; ++i) {
      absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 1});
      REQUIRE(buffer.ok());
      CHECK(seen.insert(IdentityOf(*buffer)).second);
      held.push_back(*std::move(buffer));
    }
  }
  const absl::StatusOr<Buffer> again = manager.Allocate({.bytes = 1});
  REQUIRE(again.ok());
  REQUIRE(again->fd().get() == number);
  CHECK(seen.insert(IdentityOf(*again)).second);
}

TEST_CASE("Block: it is empty, reserved, or filled") {
  Block block;
  CHECK_FALSE(block.filled());
  CHECK_FALSE(block.reserved());
  block.bytes = 4096;
  CHECK(block.reserved());
  CHECK_FALSE(block.filled());
  block.fd = 0;
  CHECK(block.filled());
  CHECK_FALSE(block.reserved());
}

}  // namespace
}  // namespace ion::testing
