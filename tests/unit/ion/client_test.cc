// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Clients, handles, quotas, imports and reports, over every backend that opens here.

#include "ion/client.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/core/account.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/platforms/linux.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/composed_region.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"
#include "tests/support/backend_suite.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/leak_check.h"
#include "tests/support/setting.h"

namespace ion::testing {
namespace {

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

template <class Client>
std::string Fill(Client& client, const Handle& handle, uint8_t seed) {
  const auto mapping = client.template Map<MapMode::kWritable>(handle);
  if (!mapping.ok()) return Told(mapping.status());
  absl::StatusOr<CpuWrite> cpu = CpuWrite::Begin(*mapping);
  if (!cpu.ok()) return Told(cpu.status());
  FillPages(cpu->bytes(), seed);
  return Told(std::move(*cpu).End());
}
template <class Client>
std::string Look(Client& client, const Handle& handle, uint8_t seed) {
  const auto mapping = client.template Map<MapMode::kReadOnly>(handle);
  if (!mapping.ok()) return Told(mapping.status());
  absl::StatusOr<CpuRead> cpu = CpuRead::Begin(*mapping);
  if (!cpu.ok()) return Told(cpu.status());
  const std::string looked = LookAtPages(cpu->bytes(), seed);
  return looked != "ok" ? looked : Told(std::move(*cpu).End());
}

// ---- Clients ----

TEST_CASE_TEMPLATE("ion_client_create: a name, the process, a mask; a lease is on its account", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  CHECK(s.client->name() == "camera");
  CHECK(s.client->pid() == ::getpid());
  CHECK(s.client->held_bytes() == 0);
  {
    const auto lease = s.client->Allocate({.bytes = 10'000});
    REQUIRE(lease.ok());
    CHECK(s.client->held_bytes() == lease->bytes());
  }
  CHECK(s.client->held_bytes() == 0);
}

TEST_CASE("ion_client_create: 1023 clients, and no more") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  std::vector<platforms::Memfd::Client> clients;
  for (int i = 0; i < 1022; ++i) clients.push_back(s.Make({.name = "one of many"}));
  const auto one_more = s.manager->CreateClient({.name = "one more"});
  CHECK(ErrnoOf(one_more.status()) == ENOSPC);
  CHECK(Contains(Told(one_more.status()), "1023 clients"));
  clients.pop_back();
  CHECK(s.manager->CreateClient({.name = "one more"}).ok());
}

TEST_CASE("ion_client_destroy: a client leaves nothing behind") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const auto in_use = [] {  // 0 under sanitizers
    const struct mallinfo2 now = ::mallinfo2();
    return now.uordblks + now.hblkhd;
  };
  for (int i = 0; i < 10; ++i) s.Make({.name = "passes by"});
  const size_t before = in_use();
  for (int i = 0; i < 10'000; ++i) s.Make({.name = "passes by"});
  CHECK(in_use() < before + 4096);
}

TEST_CASE_TEMPLATE("ion_client_destroy: its handles die with it, whatever their count", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  const Handle handle = s.Kept();
  const auto fd = s.client->Share(handle);
  REQUIRE(fd.ok());
  REQUIRE(s.client->Import(fd->borrow()).ok());
  CHECK(s.manager->backend().budget().held() == 64_KiB);
  s.client.reset();
  CHECK(s.manager->backend().budget().held() == 0);
  CHECK(s.manager->MakeReport().buffers.empty());
}

TEST_CASE_TEMPLATE("heap_id_mask: a client's mask limits what it may use", M, EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s({.name = "narrow", .heaps = HeapId{31}});
  if (!s.client) return;
  const auto refused = s.client->Allocate({.bytes = 1});
  CHECK(ErrnoOf(refused.status()) == ENODEV);
  CHECK(Contains(Told(refused.status()), "the client may use no heap that the request names"));
  auto wide = s.Make({.name = "wide", .heaps = HeapId{0} | HeapId{31}});
  CHECK(wide.Allocate({.bytes = 1}).ok());
  CHECK(ErrnoOf(wide.Allocate({.bytes = 1, .heaps = HeapId{4}}).status()) == ENODEV);
}

TEST_CASE("Client: a lease and a client may outlive the Manager") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const Handle handle = s.Kept();
  s.manager.reset();
  CHECK(Fill(*s.client, handle, 1) == "ok");
  auto lease = s.client->Allocate({.bytes = 1});
  REQUIRE(lease.ok());
  s.client.reset();
  CHECK(lease->bytes() == PageBytes());
}

TEST_CASE("Client: using one that was moved from ends the program") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const ChildEnd end = RunInChild([&] {
    const auto other = *std::move(s.client);
    return s.client->Allocate({.bytes = 1}).ok() ? "went on" : "refused";  // NOLINT: the point
  });
  CHECK(end.signal == SIGABRT);
  CHECK(Contains(end.text, "a Client was used after it was moved from"));
}

TEST_CASE("Client: a forked child gets nothing of its parent's, and waits for no lock of it") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const Handle handle = s.Kept();
  auto lease = s.client->Allocate({.bytes = 4_KiB});
  REQUIRE(lease.ok());
  const auto fd = s.client->Share(handle);
  REQUIRE(fd.ok());
  const ChildEnd end = RunInChild([&]() -> std::string {
    const auto refused = [](const absl::Status& status) {
      return ErrnoOf(status) == EPERM && Contains(Told(status), "the Manager is the parent's");
    };
    if (!refused(s.client->MakeHandle(*std::move(lease)).status())) return "it keeps";
    if (!lease->valid()) return "it lost the lease";  // NOLINT: this is the point
    if (!refused(s.client->Import(fd->borrow()).status())) return "it imports";
    if (!refused(s.client->Share(handle).status())) return "it shares";
    if (!refused(s.client->ShareRange(handle).status())) return "it shares a range";
    if (!refused(s.client->Map<MapMode::kReadOnly>(handle).status())) return "it maps a handle";
    if (!refused(s.client->Info(handle).status())) return "it tells of a handle";
    if (!refused(s.client->SetName(handle, "child's"))) return "it names a handle";
    if (!refused(s.manager->SetName(*lease, "child's"))) return "it names a lease";
    if (!refused(s.client->Free(handle))) return "it frees";
    if (!refused(WritableMapping::Of(*lease).status())) return "it maps a lease";
    s.client.reset();
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(Fill(*s.client, handle, 1) == "ok");
  CHECK(s.client->Free(handle).ok());
}

// ---- Quotas ----

TEST_CASE_TEMPLATE("Quota: what is past it is RESOURCE_EXHAUSTED, with the figures", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s({.name = "small", .quota_bytes = 1_MiB, .exact_quota = true});
  if (!s.client) return;
  auto most = s.client->Allocate({.bytes = 768_KiB});
  REQUIRE(most.ok());
  const absl::Status refused = s.client->Allocate({.bytes = 512_KiB}).status();
  CHECK(refused.code() == absl::StatusCode::kResourceExhausted);
  CHECK(ErrnoOf(refused) == EDQUOT);
  CHECK(Contains(Told(refused), "small"));
  CHECK(Contains(Told(refused), "it holds 786432 bytes of 1048576"));
  CHECK(s.client->Allocate({.bytes = 256_KiB}).ok());
  // Another client has a quota of its own.
  auto other = s.Make({.name = "other"});
  CHECK(other.Allocate({.bytes = 2_MiB}).ok());
  *most = Buffer();
  CHECK(s.client->Allocate({.bytes = 1_MiB}).ok());
  CHECK(s.client->held_bytes() == 0);
  CHECK(s.manager->backend().budget().held() == 0);
}

TEST_CASE("Quota: one of zero refuses everything") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s({.name = "none", .quota_bytes = 0});
  CHECK(ErrnoOf(s.client->Allocate({.bytes = 1}).status()) == EDQUOT);
  // What is imported is on nobody's account.
  CHECK(s.client->Import(Memfd(64_KiB).borrow()).ok());
  CHECK(s.client->held_bytes() == 0);
}

TEST_CASE("Quota: one thread gets all of it, though it is no multiple of a thread's credit") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s({.name = "odd", .quota_bytes = 250 * PageBytes()});
  std::vector<Buffer> leases;
  for (auto lease = s.client->Allocate({.bytes = 1}); lease.ok();
       lease = s.client->Allocate({.bytes = 1})) {
    leases.push_back(*std::move(lease));
  }
  CHECK(leases.size() == 250);
  CHECK(s.client->held_bytes() == 250 * PageBytes());
}

TEST_CASE("Quota: a failed allocation costs nothing") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s({.name = "failing", .quota_bytes = 64_KiB, .exact_quota = true});
  for (int i = 0; i < 10; ++i) {
    CHECK(ErrnoOf(s.client->Allocate({.bytes = 64_KiB, .heaps = HeapId{9}}).status()) == ENODEV);
    CHECK(ErrnoOf(s.client->Allocate({.bytes = 64_KiB, .flags = HeapPrivate(2)}).status()) ==
          EINVAL);
  }
  CHECK(s.client->held_bytes() == 0);
  CHECK(s.client->Allocate({.bytes = 64_KiB}).ok());
}

TEST_CASE("Quota: threads that hold credit never let the sum pass it") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s({.name = "shared", .quota_bytes = 1_MiB});
  std::atomic<uint64_t> held{0};
  std::atomic<bool> passed{false};
  const auto use = [&] {
    std::vector<Buffer> leases;
    for (int i = 0; i < 400; ++i) {
      auto lease = s.client->Allocate({.bytes = 16_KiB});
      if (lease.ok()) {
        if (held.fetch_add(16_KiB) + 16_KiB > 1_MiB) passed = true;
        leases.push_back(*std::move(lease));
      }
      if (leases.size() > static_cast<size_t>(i % 16)) {
        held -= 16_KiB;
        leases.pop_back();
      }
    }
    for (Buffer& lease : leases) {
      held -= 16_KiB;
      lease = Buffer();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) threads.emplace_back(use);
  }
  CHECK_FALSE(passed);
  CHECK(s.client->held_bytes() == 0);
}

TEST_CASE("Quota: a client without one is not refused, however many threads hold credit") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  auto vast = s.Make({.name = "vast", .quota_bytes = UINT64_MAX});
  std::atomic<int> refused{0};
  std::latch all(40);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 40; ++i) {
      threads.emplace_back([&] {
        if (!s.client->Allocate({.bytes = 1}).ok()) ++refused;
        if (!vast.Allocate({.bytes = 1}).ok()) ++refused;
        all.arrive_and_wait();
      });
    }
  }
  CHECK(refused == 0);
  CHECK(s.client->held_bytes() == 0);
  CHECK(vast.held_bytes() == 0);
}

TEST_CASE("Quota: the credit of threads that ended comes back") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s({.name = "shared", .quota_bytes = 1_MiB});
  std::latch all(20);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 20; ++i) {
      threads.emplace_back([&] {
        { const auto lease = s.client->Allocate({.bytes = 1}); }
        all.arrive_and_wait();
      });
    }
  }
  CHECK(s.client->held_bytes() == 0);
  const auto lease = s.client->Allocate({.bytes = 1_MiB});
  CHECK(Told(lease.status()) == "ok");
  CHECK(s.client->held_bytes() == 1_MiB);
  CHECK(ErrnoOf(s.client->Allocate({.bytes = 1}).status()) == EDQUOT);
}

TEST_CASE("Account: a slot's generations never come back") {
  const auto open = [](Account& account) {
    REQUIRE(account.Open({"test", Operation::kClient}, 64, 8).ok());
    return account.id();
  };
  Account account;
  const AccountId first = open(account);
  REQUIRE(first.Take(1));  // this thread has a cell of the first generation
  account.Close();
  // As after 16 million openings.
  constexpr uint64_t kSlotBits = internal::kPageSpan - 1;
  internal::AccountSlot& slot =
      internal::AccountStatics::slots[(first.bits() & kSlotBits) >> AccountId::kFreeBits];
  slot.word.store((uint64_t{internal::kGenerationMask} - 1) << internal::kPageCountBits);
  std::vector<AccountId> last;
  for (int i = 0; i < 3; ++i) {
    last.push_back(open(account));
    CHECK(last[i].Take(2));
    CHECK_FALSE(first.Take(1));
    first.Give(1);
    CHECK(last[i].held() == 2);
    if (i == 1) CHECK_FALSE(last[0].Take(1));
    account.Close();
  }
  CHECK((last[0].bits() & kSlotBits) == (first.bits() & kSlotBits));
  CHECK((last[1].bits() & kSlotBits) == (first.bits() & kSlotBits));
  // Used up: another slot is taken.
  CHECK((last[2].bits() & kSlotBits) != (first.bits() & kSlotBits));
  std::vector<Account> all(internal::kMaxAccounts);
  Error refused;
  for (size_t i = 0; refused.ok() && i < all.size(); ++i) {
    refused = all[i].Open({"test", Operation::kClient}, 1, 0);
  }
  CHECK(refused.code() == ENOSPC);
  CHECK(Contains(refused.what(), "not used up"));
  all.clear();
  // For the other cases, as if it had not been.
  slot.used_up.store(false);
  slot.taken.store(false);
}

TEST_CASE("Account: an id that is out of date takes nothing of the slot's next account") {
  const auto open = [](Account& account) {
    REQUIRE(account.Open({"test", Operation::kClient}, 64, 8).ok());
    return account.id();
  };
  Account account;
  const AccountId old = open(account);
  account.Close();
  const AccountId now = open(account);
  REQUIRE(now.bits() == old.bits() + internal::kPageSpan);
  REQUIRE(now.Take(1));  // this thread has a cell from here on
  for (const uint64_t pages : {uint64_t{1}, uint64_t{7}, uint64_t{8}, Account::kUnlimited}) {
    CHECK_FALSE(old.Take(pages));
    old.Give(pages);
    CHECK(now.held() == 1);
  }
}

// ---- Handles ----

TEST_CASE_TEMPLATE("ion_alloc, ion_free: a handle is good until its free, and an error after it", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  const Handle handle = s.Kept();
  CHECK(Fill(*s.client, handle, 1) == "ok");
  CHECK(Look(*s.client, handle, 1) == "ok");
  const auto info = s.client->Info(handle);
  REQUIRE(info.ok());
  CHECK(info->bytes == 64_KiB);
  CHECK(info->heap == HeapId{0});
  CHECK(info->count == 1);
  CHECK(s.client->Free(handle).ok());
  for (const absl::Status& status :
       {s.client->Free(handle), s.client->Share(handle).status(), s.client->Info(handle).status(),
        s.client->template Map<MapMode::kReadOnly>(handle).status(),
        s.client->SetName(handle, "x")}) {
    CHECK(ErrnoOf(status) == EINVAL);
    CHECK(Contains(Told(status), "the handle was freed"));
  }
  // Its place is another's now.
  const Handle next = s.Kept();
  CHECK(next != handle);
  CHECK(ErrnoOf(s.client->Free(handle)) == EINVAL);
  CHECK(s.client->Free(next).ok());
}

TEST_CASE("Handle: of nothing, and another client's, are refused") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const Handle handle = s.Kept();
  auto other = s.Make({.name = "other"});
  // The same place in the other's table, and as new.
  auto lease = other.Allocate({.bytes = 1});
  REQUIRE(lease.ok());
  REQUIRE(other.MakeHandle(*std::move(lease)).ok());
  CHECK(ErrnoOf(other.Free(handle)) == EINVAL);
  CHECK(Contains(Told(other.Share(handle).status()), "the handle is another client's"));
  CHECK(Contains(Told(s.client->Free(Handle())), "an empty Handle"));
  CHECK(s.client->Free(handle).ok());
}

TEST_CASE("Client: a closed client's handle is not the next client's") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const Handle handle = s.Kept();
  s.client.reset();
  auto next = s.Make({.name = "next"});
  CHECK(Contains(Told(next.Free(handle)), "the handle is another client's"));
}

TEST_CASE("Client: only a lease of its own is kept; another stays a lease") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  auto other = s.Make({.name = "other"});
  auto lease = other.Allocate({.bytes = 1});
  auto nobodys = s.manager->Allocate({.bytes = 1});
  REQUIRE((lease.ok() && nobodys.ok()));
  const auto refused = s.client->MakeHandle(*std::move(lease));
  CHECK(ErrnoOf(refused.status()) == EINVAL);
  CHECK(Contains(Told(refused.status()), "the lease is not of this client"));
  CHECK(lease->valid());  // NOLINT: this is the point
  CHECK(ErrnoOf(s.client->MakeHandle(*std::move(nobodys)).status()) == EINVAL);
  CHECK(other.MakeHandle(*std::move(lease)).ok());
}

TEST_CASE_TEMPLATE("ion_map_kernel, ion_unmap_kernel, ion_map_user: a mapping outlives its handle",
                   M, EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  const Handle handle = s.Kept();
  CHECK(Fill(*s.client, handle, 3) == "ok");
  auto one = s.client->template Map<MapMode::kReadOnly>(handle);
  auto two = s.client->template Map<MapMode::kReadOnly>(handle);
  REQUIRE((one.ok() && two.ok()));
  CHECK(s.client->Free(handle).ok());
  CHECK(ErrnoOf(s.client->Free(handle)) == EINVAL);
  one = absl::UnknownError("ended");
  CHECK(s.manager->backend().budget().held() == 64_KiB);
  Report report = s.manager->MakeReport();
  REQUIRE(report.buffers.size() == 1);
  CHECK(report.buffers[0].orphaned);
  {
    const auto cpu = CpuRead::Begin(*two);
    REQUIRE(cpu.ok());
    CHECK(LookAtPages(cpu->bytes(), 3) == "ok");
  }
  two = absl::UnknownError("ended");
  CHECK(s.manager->backend().budget().held() == 0);
  CHECK(s.client->held_bytes() == 0);
  CHECK(s.manager->MakeReport().buffers.empty());
}

// ---- Sharing ----

TEST_CASE_TEMPLATE("ion_share: a new descriptor each time, of the same memory", M, EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  const Handle handle = s.Kept();
  const auto one = s.client->Share(handle);
  const auto two = s.client->Share(handle);
  REQUIRE((one.ok() && two.ok()));
  CHECK(one->get() != two->get());
  CHECK((::fcntl(one->get(), F_GETFD) & FD_CLOEXEC) != 0);
  auto reader = s.Make({.name = "reader"});
  const auto theirs = reader.Import(two->borrow());
  REQUIRE(theirs.ok());
  CHECK(Fill(*s.client, handle, 5) == "ok");
  CHECK(Look(reader, *theirs, 5) == "ok");
  // It lives on in the reader alone.
  CHECK(s.client->Free(handle).ok());
  CHECK(Look(reader, *theirs, 5) == "ok");
  const auto info = reader.Info(*theirs);
  REQUIRE(info.ok());
  CHECK_FALSE(info->heap.has_value());
}

TEST_CASE_TEMPLATE("ion_import_fd: one's own memory gives the same handle, counted", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  const Handle handle = s.Kept();
  const Handle other = s.Kept();
  const auto fd = s.client->Share(handle);
  REQUIRE(fd.ok());
  const auto again = s.client->Import(fd->borrow());
  REQUIRE(again.ok());
  CHECK(*again == handle);
  CHECK(*again != other);
  CHECK(s.client->Info(handle)->count == 2);
  CHECK(s.client->Free(handle).ok());
  CHECK(Fill(*s.client, handle, 6) == "ok");
  CHECK(s.client->Free(handle).ok());
  CHECK(ErrnoOf(s.client->Free(handle)) == EINVAL);
  // What was imported is found again, too.
  const auto theirs = s.client->Import(fd->borrow());
  const auto twice = s.client->Import(fd->borrow());
  REQUIRE((theirs.ok() && twice.ok()));
  CHECK(*theirs == *twice);
  CHECK(*theirs != handle);
}

TEST_CASE_TEMPLATE("ion_import_fd: it is known again when it comes back from another process", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  const Handle handle = s.Kept();
  CHECK(Fill(*s.client, handle, 7) == "ok");
  auto fd = s.client->Share(handle);
  REQUIRE(fd.ok());
  Child child([](FdRef socket) -> std::string {
    char byte = 0;
    UniqueFd received;
    const Result<size_t> count =
        ReceiveFds(socket, std::as_writable_bytes(std::span(&byte, 1)), std::span(&received, 1));
    if (!count.ok() || !received.valid()) return "nothing came";
    const FdRef back = received.borrow();
    return SendFds(socket, std::as_bytes(std::span(&byte, 1)), std::span(&back, 1)).ok()
               ? ""
               : "not sent back";
  });
  char byte = 'a';
  const FdRef sent = fd->borrow();
  REQUIRE(SendFds(child.socket(), std::as_bytes(std::span(&byte, 1)), std::span(&sent, 1)).ok());
  fd->reset();
  UniqueFd back;
  REQUIRE(
      ReceiveFds(child.socket(), std::as_writable_bytes(std::span(&byte, 1)), std::span(&back, 1))
          .ok());
  CHECK(child.Join().text == "");
  REQUIRE(back.valid());
  const auto again = s.client->Import(back.borrow());
  REQUIRE(again.ok());
  CHECK(*again == handle);
}

TEST_CASE_TEMPLATE("ion_import_fd: what is not memory is refused, and nothing is left", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  CHECK(ErrnoOf(s.client->Import(FdRef(-1)).status()) == EBADF);
  const UniqueFd null = OpenNode("/dev/null");
  CHECK(ErrnoOf(s.client->Import(null.borrow()).status()) == EINVAL);
  const int closed = ::dup(null.get());
  ::close(closed);
  CHECK(ErrnoOf(s.client->Import(FdRef(closed)).status()) == EBADF);
  const UniqueFd unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(unsealed.get(), 4096) == 0);
  CHECK(ErrnoOf(s.client->Import(unsealed.borrow()).status()) == EINVAL);
  CHECK(s.manager->MakeReport().buffers.empty());
  CHECK(s.manager->errors().count() == 0);
}

// ---- Heaps whose blocks are ranges ----

template <class B>
using Carveout = CarveoutHeap<B, HeapSpec{.type = HeapType::kCarveout, .id = 2, .bytes = 1_MiB}>;

// A carveout that can share a range alone.
using SharesRanges = Manager<
    UdmabufBackend<>, SystemHeap<UdmabufBackend<>>,
    CarveoutHeap<UdmabufBackend<>, HeapSpec{.type = HeapType::kCarveout, .id = 2, .bytes = 1_MiB},
                 SegregatedFit, ComposedRegion<UdmabufBackend<>, MemfdBackend<>>>>;

TEST_CASE("Client: a range of a region is kept and mapped, but its descriptor not shared") {
  const LeakCheck leaks;
  using M = Manager<MemfdBackend<>, SystemHeap<MemfdBackend<>>, Carveout<MemfdBackend<>>>;
  Setting<M> s;
  auto one = s.client->Allocate<HeapId{2}>({.bytes = 8_KiB});
  auto two = s.client->Allocate({.bytes = 8_KiB, .heaps = HeapId{2}});
  REQUIRE((one.ok() && two.ok()));
  CHECK(one->fd().get() == two->fd().get());
  CHECK(one->range().offset != two->range().offset);
  CHECK(one->heap().figures().live == 2);
  const auto first = s.client->MakeHandle(*std::move(one));
  const auto second = s.client->MakeHandle(*std::move(two));
  REQUIRE((first.ok() && second.ok()));
  CHECK(*first != *second);
  CHECK(Fill(*s.client, *first, 1) == "ok");
  CHECK(Fill(*s.client, *second, 2) == "ok");
  CHECK(Look(*s.client, *first, 1) == "ok");
  const absl::Status refused = s.client->Share(*first).status();
  CHECK(ErrnoOf(refused) == ENOTSUP);
  CHECK(Contains(Told(refused), "neighbours"));
  CHECK(ErrnoOf(s.client->SetName(*first, "first")) == ENOTSUP);
}

TEST_CASE("Client: a region's descriptor is shared while all of it is one trust domain's") {
  const LeakCheck leaks;
  using M = Manager<MemfdBackend<>, SystemHeap<MemfdBackend<>>, Carveout<MemfdBackend<>>>;
  Setting<M> s({.name = "isp", .domain = "camera"});
  auto friendly = s.Make({.name = "encoder", .domain = "camera"});
  auto stranger = s.Make({.name = "stranger"});
  const auto keep = [](auto& client) {
    auto lease = client.Allocate({.bytes = 2 * PageBytes(), .heaps = HeapId{2}});
    return lease.ok() ? client.MakeHandle(*std::move(lease)) : lease.status();
  };
  const auto one = keep(*s.client);
  const auto two = keep(friendly);
  REQUIRE((one.ok() && two.ok()));
  SUBCASE("and then stays so") {
    CHECK(Fill(friendly, *two, 8) == "ok");
    const auto range = friendly.ShareRange(*two);
    REQUIRE(Told(range.status()) == "ok");
    CHECK(range->bytes == 2 * PageBytes());
    auto reader = s.Make({.name = "reader"});
    const auto region = reader.Import(range->fd.borrow());
    REQUIRE(region.ok());
    const auto mapping = reader.template Map<MapMode::kReadOnly>(
        *region, {.offset = range->offset, .bytes = range->bytes});
    REQUIRE(mapping.ok());
    CHECK(LookAtPages(mapping->unsynced(), 8) == "ok");
    CHECK(s.client->ShareRange(*one).ok());
    const auto refused = keep(stranger);
    CHECK(ErrnoOf(refused.status()) == EPERM);
    CHECK(Contains(Told(refused.status()), "another trust domain's descriptors"));
    CHECK(keep(friendly).ok());
  }
  SUBCASE("but not once others had some of it") {
    { CHECK(stranger.Allocate({.bytes = 1, .heaps = HeapId{2}}).ok()); }
    const auto refused = s.client->ShareRange(*one);
    CHECK(ErrnoOf(refused.status()) == EPERM);
    CHECK(Contains(Told(refused.status()), "several trust domains"));
  }
  SUBCASE("though others asked, and got none") {
    CHECK_FALSE(stranger.Allocate({.bytes = 2_MiB, .heaps = HeapId{2}}).ok());
    CHECK(Told(s.client->ShareRange(*one).status()) == "ok");
  }
  SUBCASE("nor with the Manager's own") {
    { CHECK(s.manager->Allocate({.bytes = 1, .heaps = HeapId{2}}).ok()); }
    CHECK(ErrnoOf(s.client->ShareRange(*one).status()) == EPERM);
  }
}

TEST_CASE("Client: a region's lent descriptor is imported while all of it is one trust domain's") {
  const LeakCheck leaks;
  using M = Manager<MemfdBackend<>, SystemHeap<MemfdBackend<>>, Carveout<MemfdBackend<>>>;
  Setting<M> s({.name = "isp", .domain = "camera"});
  auto friendly = s.Make({.name = "encoder", .domain = "camera"});
  auto stranger = s.Make({.name = "stranger"});
  const auto lease = s.client->Allocate({.bytes = 8_KiB, .heaps = HeapId{2}});
  REQUIRE(lease.ok());
  SUBCASE("and then no other domain gets memory of it") {
    CHECK(friendly.Import(lease->fd()).ok());
    CHECK(ErrnoOf(stranger.Allocate({.bytes = 1, .heaps = HeapId{2}}).status()) == EPERM);
  }
  SUBCASE("and by nobody of another domain") {
    CHECK(ErrnoOf(stranger.Import(lease->fd()).status()) == EPERM);
  }
  SUBCASE("and by nobody where several have memory of it") {
    const auto theirs = stranger.Allocate({.bytes = 1, .heaps = HeapId{2}});
    CHECK(theirs.ok());
    const absl::Status refused = friendly.Import(lease->fd()).status();
    CHECK(ErrnoOf(refused) == EPERM);
    CHECK(Contains(Told(refused), "several trust domains"));
  }
}

TEST_CASE("Client: of a whole buffer the range is the buffer") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const Handle handle = s.Kept();
  const auto range = s.client->ShareRange(handle);
  REQUIRE(range.ok());
  CHECK(range->offset == 0);
  CHECK(range->bytes == 64_KiB);
}

TEST_CASE("Client: a range that udmabuf makes a buffer of is shared alone, and known again") {
  const LeakCheck leaks;
  Setting<SharesRanges> s;
  if (!s.client) return;
  auto neighbour = s.client->Allocate({.bytes = 8_KiB, .heaps = HeapId{2}});
  auto lease = s.client->Allocate({.bytes = 8_KiB, .heaps = HeapId{2}});
  REQUIRE((neighbour.ok() && lease.ok()));
  const auto handle = s.client->MakeHandle(*std::move(lease));
  REQUIRE(handle.ok());
  CHECK(Fill(*s.client, *handle, 4) == "ok");
  const auto one = s.client->Share(*handle);
  const auto two = s.client->Share(*handle);
  REQUIRE((one.ok() && two.ok()));
  auto reader = s.Make({.name = "reader"});
  const auto theirs = reader.Import(one->borrow());
  REQUIRE(theirs.ok());
  CHECK(reader.Info(*theirs)->bytes == 8_KiB);
  CHECK(Look(reader, *theirs, 4) == "ok");
  for (const UniqueFd* fd : {&*one, &*two}) {
    const auto again = s.client->Import(fd->borrow());
    REQUIRE(again.ok());
    CHECK(*again == *handle);
  }
}

TEST_CASE("Client: a range that was shared is nobody else's while somebody holds it") {
  const LeakCheck leaks;
  Setting<SharesRanges> s;
  if (!s.client) return;
  auto stranger = s.Make({.name = "stranger"});
  const auto all = [](auto& client) {
    return client.Allocate({.bytes = 1_MiB, .heaps = HeapId{2}});
  };
  auto lease = all(*s.client);
  REQUIRE(lease.ok());
  const auto handle = s.client->MakeHandle(*std::move(lease));
  REQUIRE(handle.ok());
  auto fd = s.client->Share(*handle);
  REQUIRE(fd.ok());
  CHECK(s.client->Free(*handle).ok());
  CHECK(ErrnoOf(all(stranger).status()) == ENOMEM);
  void* const at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0);
  REQUIRE(at != MAP_FAILED);
  fd->reset();
  CHECK(ErrnoOf(all(stranger).status()) == ENOMEM);
  const bool lends = ::madvise(at, 4096, MADV_DONTNEED) == 0;
  REQUIRE(::munmap(at, 4096) == 0);
  if (lends) {
    // A pipe may have pages of it.
    CHECK(ErrnoOf(all(stranger).status()) == ENOMEM);
    return;
  }
  CHECK(Told(all(stranger).status()) == "ok");
  // What nobody got to hold comes back at once.
  CHECK(Told(all(*s.client).status()) == "ok");
}

TEST_CASE("Client: a range of which a pipe has a page is nobody else's") {
  const LeakCheck leaks;
  Setting<SharesRanges> s;
  if (!s.client) return;
  auto stranger = s.Make({.name = "stranger"});
  auto lease = s.client->Allocate({.bytes = 1_MiB, .heaps = HeapId{2}});
  REQUIRE(lease.ok());
  const auto handle = s.client->MakeHandle(*std::move(lease));
  REQUIRE(handle.ok());
  auto fd = s.client->Share(*handle);
  REQUIRE(fd.ok());
  void* const at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0);
  REQUIRE(at != MAP_FAILED);
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  const iovec page{.iov_base = at, .iov_len = 4096};
  const bool lent = ::vmsplice(in.get(), &page, 1, 0) == 4096;  // not of Linux 6.12
  REQUIRE(::munmap(at, 4096) == 0);
  fd->reset();
  CHECK(s.client->Free(*handle).ok());
  const auto theirs = stranger.Allocate({.bytes = 1_MiB, .heaps = HeapId{2}});
  CHECK(theirs.ok() == !lent);
}

TEST_CASE("BufferOf: a lease of a mask is one of its heap again, and of no other") {
  const LeakCheck leaks;
  using System = SystemHeap<MemfdBackend<>>;
  using M = Manager<MemfdBackend<>, System, Carveout<MemfdBackend<>>>;
  Setting<M> s;
  auto lease = s.client->Allocate({.bytes = 1, .heaps = HeapId{2} | HeapId{0}});
  REQUIRE(lease.ok());
  const auto wrong = s.client->As<System>(*std::move(lease));
  CHECK(ErrnoOf(wrong.status()) == EINVAL);
  REQUIRE(lease->valid());  // NOLINT: this is the point
  const auto right = s.client->As<Carveout<MemfdBackend<>>>(*std::move(lease));
  REQUIRE(right.ok());
  CHECK(right->heap().name() == "carveout");
}

TEST_CASE("Client: a carveout that is full says how full, and the next heap of the mask serves") {
  const LeakCheck leaks;
  using M = Manager<MemfdBackend<>, SystemHeap<MemfdBackend<>>, Carveout<MemfdBackend<>>>;
  Setting<M> s;
  const auto most = s.client->Allocate({.bytes = 768_KiB, .heaps = HeapId{2}});
  REQUIRE(most.ok());
  const absl::Status full = s.client->Allocate({.bytes = 512_KiB, .heaps = HeapId{2}}).status();
  CHECK(ErrnoOf(full) == ENOMEM);
  CHECK(Contains(Told(full), "heap 2"));
  const auto other = s.client->Allocate({.bytes = 512_KiB, .heaps = HeapId{2} | HeapId{0}});
  REQUIRE(other.ok());
  CHECK(s.manager->HeapOf(*other) == HeapId{0});
}

// ---- Reports ----

TEST_CASE_TEMPLATE("debugfs heaps: each client's sum, and who is orphaned", M, EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  const uint64_t page = PageBytes();
  const Handle kept = s.Kept(4 * page);
  auto lease = s.client->Allocate({.bytes = 8 * page, .name = "preview"});
  auto other = std::make_optional(s.Make({.name = "codec"}));
  auto left = other->Allocate({.bytes = page});
  REQUIRE((lease.ok() && left.ok()));
  other.reset();
  const std::string pid = std::to_string(::getpid());
  const auto right = [](const std::string& text) {
    return std::string(16 - text.size(), ' ') + text;
  };
  const auto pages = [&](uint64_t count) { return right(std::to_string(count * page)); };
  const std::string rule = std::string(52, '-') + "\n";
  CHECK(HeapText(s.manager->MakeReport(), HeapId{0}) ==
        "          client              pid             size\n" + rule + right("camera") + " " +
            right(pid) + " " + pages(12) + "\n" + rule +
            "orphaned allocations (info is from last known client):\n" + right("codec") + " " +
            right(pid) + " " + pages(1) + " 0 1\n" + rule + right("total orphaned") + " " +
            pages(1) + "\n" + right("total ") + " " + pages(13) + "\n" + rule);
  CHECK(s.client->Free(kept).ok());
}

TEST_CASE("debugfs clients: the sum of each heap, and what was imported") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const uint64_t bytes = 4 * PageBytes();
  const Handle kept = s.Kept(bytes);
  REQUIRE(s.client->Import(Memfd(4_KiB).borrow()).ok());
  const std::string text = std::to_string(bytes);
  CHECK(ClientText(s.manager->MakeReport(), "camera") ==
        "       heap_name:    size_in_bytes\n"
        "           memfd: " +
            std::string(16 - text.size(), ' ') + text +
            "\n"
            "        imported:             4096\n");
  CHECK(s.client->Free(kept).ok());
}

TEST_CASE("Report: name, size, age, and the line that allocated") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  constexpr std::string_view kName = "a name of more than thirty-one characters";
  const int line = __LINE__ + 1;
  auto lease = s.client->Allocate({.bytes = 1, .name = kName});
  REQUIRE(lease.ok());
  const Report report = s.manager->MakeReport();
  REQUIRE(report.buffers.size() == 1);
  const BufferReport& buffer = report.buffers[0];
  CHECK(buffer.name == "a name of more than thirty-one ");
  CHECK(buffer.bytes == PageBytes());
  CHECK(buffer.age_ns >= 0);
  CHECK(buffer.line == static_cast<uint32_t>(line));
  CHECK(Contains(buffer.file, "client_test.cc"));
  CHECK(Contains(LeakText(report), "client 'camera' of process "));
  CHECK(report.bytes() == PageBytes());
}

// ---- Custom ----

struct CustomBackend : MemfdBackend<> {
  static constexpr BackendCaps kCaps = {.customs = true};
  static Result<CustomBackend> Open(const Options& options) noexcept {
    Result<MemfdBackend<>> opened = MemfdBackend<>::Open(options);
    if (!opened.ok()) return opened.error();
    return CustomBackend{*std::move(opened)};
  }
  Error Custom(uint32_t command, uint64_t argument) noexcept {
    if (command == 1 && argument == 2) return {};
    return Error(ENOTTY, "no such command", {kName, Operation::kCustom});
  }
};
static_assert(BackendCheck<CustomBackend>::kOk);

template <class Client>
concept TakesCustoms = requires(Client& client) { client.Custom(1, 2); };

TEST_CASE("ION_IOC_CUSTOM: passed on by a backend that declares it, and not there otherwise") {
  const LeakCheck leaks;
  auto manager = platforms::Heaps<CustomBackend>::Open();
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = "board"});
  REQUIRE(client.ok());
  CHECK(client->Custom(1, 2).ok());
  CHECK(ErrnoOf(client->Custom(3, 2)) == ENOTTY);
  static_assert(TakesCustoms<platforms::Heaps<CustomBackend>::Client>);
  static_assert(!TakesCustoms<platforms::Memfd::Client>);
}

// ---- Threads ----

TEST_CASE_TEMPLATE("Client: eight threads do everything at once", M, EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s({.name = "busy", .quota_bytes = 32_MiB});
  if (!s.client) return;
  std::atomic<int> failures{0};
  const auto work = [&](uint8_t seed) {
    for (int round = 0; round < 20; ++round) {
      auto lease = s.client->Allocate({.bytes = 12_KiB});
      auto own = s.manager->CreateClient({.name = "own"});
      if (!lease.ok() || !own.ok()) {
        ++failures;
        continue;
      }
      auto handle = s.client->MakeHandle(*std::move(lease));
      if (!handle.ok() || Fill(*s.client, *handle, seed) != "ok") ++failures;
      auto fd = s.client->Share(*handle);
      auto theirs = own->Import(fd->borrow());
      if (!theirs.ok() || Look(*own, *theirs, seed) != "ok") ++failures;
      auto again = s.client->Import(fd->borrow());
      if (!again.ok() || *again != *handle) ++failures;
      if (s.manager->MakeReport().bytes() == 0) ++failures;
      if (!s.client->Free(*handle).ok() || !s.client->Free(*handle).ok()) ++failures;
      if (s.client->Free(*handle).ok()) ++failures;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (uint8_t seed = 1; seed <= 8; ++seed) threads.emplace_back(work, seed);
  }
  CHECK(failures == 0);
  CHECK(s.client->held_bytes() == 0);
  CHECK(s.manager->backend().budget().held() == 0);
}

}  // namespace
}  // namespace ion::testing
