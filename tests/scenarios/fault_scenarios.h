// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Every system call failed in turn: a scenario is run once without a fault, to count its calls;
// then once for each call and each errno that the call documents. tests/support/fault_points.h says
// what it is to survive. Each backend has a file of its own, fault_points_of_*.cc, that names the
// cases it meets; the last case is in fault_points_total.cc.

#ifndef ION_TESTS_SCENARIOS_FAULT_SCENARIOS_H_
#define ION_TESTS_SCENARIOS_FAULT_SCENARIOS_H_

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/all_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/drm_dumb.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/platforms/any_backend.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/request.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fault_points.h"
#include "tests/support/fault_pools.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/skip.h"

namespace ion::testing::faults {

using Memfd = ion::MemfdBackend<ion::testing::FaultSyscalls>;
using Udmabuf = ion::UdmabufBackend<ion::testing::FaultSyscalls>;
using DmaHeap = ion::DmaHeapBackend<ion::testing::FaultSyscalls>;
using Ion = ion::IonBackend<ion::testing::FaultSyscalls>;
using DrmDumb = ion::DrmDumbBackend<ion::testing::FaultSyscalls>;

// On a fake: no machine here has the handle ABI.
template <ion::testing::FakeMachine (*kMachine)()>
using OnFake = ion::testing::FaultSyscallsOver<ion::testing::FakeSyscallsOf<kMachine>>;
using IonLegacy = ion::IonLegacyBackend<OnFake<ion::testing::Linux42Machine>>;
// On one that has every kind of device: a backend that does not open leaves another to be taken.
using Any = ion::AnyBackend<OnFake<ion::testing::Linux510Machine>>;
// Several at once, of which the first has the scattered memory that a Manager takes.
using All = ion::AllOf<ion::DmaHeapBackend<OnFake<ion::testing::Linux612Machine>>,
                       ion::UdmabufBackend<OnFake<ion::testing::Linux612Machine>>,
                       ion::MemfdBackend<OnFake<ion::testing::Linux612Machine>>>;
using AllMemfdFirst = ion::AllOf<ion::MemfdBackend<OnFake<ion::testing::Linux612Machine>>,
                                 ion::UdmabufBackend<OnFake<ion::testing::Linux612Machine>>,
                                 ion::DmaHeapBackend<OnFake<ion::testing::Linux612Machine>>>;
// What pools ask of kernels that prove memory unshared, on every machine.
using FakeUdmabuf = ion::UdmabufBackend<OnFake<ion::testing::Linux612Machine>>;
using FakeDmaHeap = ion::DmaHeapBackend<OnFake<ion::testing::Linux612Machine>>;
using FakeIon = ion::IonBackend<OnFake<ion::testing::Linux510Machine>>;

}  // namespace ion::testing::faults

TYPE_TO_STRING_AS("fake udmabuf", ion::testing::faults::FakeUdmabuf);
TYPE_TO_STRING_AS("fake dma_heap", ion::testing::faults::FakeDmaHeap);
TYPE_TO_STRING_AS("fake ion", ion::testing::faults::FakeIon);
TYPE_TO_STRING_AS("any", ion::testing::faults::Any);
TYPE_TO_STRING_AS("all", ion::testing::faults::All);
TYPE_TO_STRING_AS("all, memfd first", ion::testing::faults::AllMemfdFirst);
TYPE_TO_STRING_AS("memfd", ion::testing::faults::Memfd);
TYPE_TO_STRING_AS("udmabuf", ion::testing::faults::Udmabuf);
TYPE_TO_STRING_AS("dma_heap", ion::testing::faults::DmaHeap);
TYPE_TO_STRING_AS("ion", ion::testing::faults::Ion);
TYPE_TO_STRING_AS("drm_dumb", ion::testing::faults::DrmDumb);
TYPE_TO_STRING_AS("ion_legacy", ion::testing::faults::IonLegacy);

namespace ion::testing::faults {

// The errnos of calls that several backends make: those of the man page of that name, section 2, as
// far as the call can meet them with our arguments; for ioctls the kernel's documentation and
// drivers, Linux 5.1 to 6.12.
struct CommonCall {
  std::string_view call;
  std::vector<int> errnos;
};
inline const std::vector<CommonCall>& CommonCalls() {
  static const std::vector<CommonCall> calls = {
      {"openat",
       {EACCES, EBUSY, EINTR, EINVAL, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENODEV, ENOENT,
        ENOMEM, ENXIO, ENOTDIR, EPERM, EOVERFLOW, EROFS, EIO}},
      {"openat of fdinfo", {EACCES, EINTR, EMFILE, ENFILE, ENOENT, ENOMEM, EPERM}},
      {"close", {EBADF, EINTR, EIO, ENOSPC, EDQUOT}},
      {"read", {EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO, EISDIR}},
      {"pread", {EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO, EISDIR, ENOENT, ESPIPE}},
      {"getdents64", {EBADF, EFAULT, EINVAL, ENOENT, ENOTDIR}},
      {"mmap", {EACCES, EAGAIN, EBADF, EINVAL, ENFILE, ENODEV, ENOMEM, EOVERFLOW, EPERM}},
      {"munmap", {EINVAL, ENOMEM}},
      {"madvise MADV_DONTFORK", {EAGAIN, EINVAL, ENOMEM}},
      {"madvise MADV_POPULATE_WRITE", {EFAULT, EHWPOISON, EINVAL, ENOMEM}},
      {"madvise MADV_DONTNEED", {EINVAL, ENOMEM}},
      {"madvise MADV_DODUMP", {EAGAIN, EINVAL, ENOMEM}},
      {"poll", {EFAULT, EINTR, EINVAL, ENOMEM}},
      {"memfd_create MFD_NOEXEC_SEAL",
       {EACCES, EFAULT, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM}},
      // Where the kernel is older than Linux 6.3.
      {"memfd_create", {EACCES, EFAULT, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM}},
      {"ftruncate", {EBADF, EFBIG, EINTR, EINVAL, EIO, EPERM}},
      {"fcntl F_DUPFD_CLOEXEC", {EBADF, EINVAL, EMFILE}},
      {"fcntl F_GETFL", {EBADF}},
      // The kernel itself answers these two. EACCES is a security module's.
      {"ioctl FIOQSIZE", {EACCES, EBADF, EFAULT, EINTR, ENOTTY}},
      {"fcntl F_GETPIPE_SZ", {EACCES, EBADF}},
      // Whether two descriptors are of one file: F_DUPFD_QUERY and kcmp.
      {"kcmp", {EACCES, EBADF, EINVAL, ENOMEM, ENOSYS, EPERM}},
      {"fcntl F_ADD_SEALS", {EBADF, EBUSY, EINVAL, EPERM}},
      {"lseek", {EBADF, EINVAL, ENXIO, EOVERFLOW, ESPIPE}},
      {"fstat", {EBADF, EFAULT, ENOMEM, EOVERFLOW}},
      {"fstatfs", {EBADF, EFAULT, EINTR, EIO, ENOMEM, ENOSYS, EOVERFLOW}},
      {"uname", {EFAULT}},
      {"sysinfo", {EFAULT}},
      {"ioctl DMA_BUF_IOCTL_SYNC", {EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO, ENOTTY}},
      {"ioctl DMA_BUF_SET_NAME", {EBADF, EBUSY, EFAULT, EINTR, EINVAL, ENOMEM, ENOTTY}},
      {"ioctl ION_IOC_HEAP_QUERY", {EBADF, EFAULT, EINTR, EINVAL, ENOMEM, ENOTTY, EPERM}},
  };
  return calls;
}

// A call of a backend, and the errnos that it documents.
struct DocumentedCall {
  std::string_view backend;
  std::string_view call;
  std::vector<int> errnos;
};
inline std::vector<DocumentedCall>& Documented() {
  static std::vector<DocumentedCall> documented;
  return documented;
}

// The table of a backend, at the head of its file: those of the common calls that it makes, and its
// own, with their errnos. Called before main; returns true.
inline bool Document(std::string_view backend, const std::vector<std::string_view>& common,
                     const std::vector<CommonCall>& own = {}) {
  for (const std::string_view call : common) {
    const auto found = std::ranges::find(CommonCalls(), call, &CommonCall::call);
    ION_CHECK(found != CommonCalls().end(), "a table of fault points names a call without errnos");
    Documented().push_back({backend, call, found->errnos});
  }
  for (const auto& [call, errnos] : own) Documented().push_back({backend, call, errnos});
  return true;
}

// What has been covered, over all test cases; the last one prints it.
struct Count {
  size_t covered = 0;
  size_t survived = 0;

  void operator+=(const Count& other) noexcept {
    covered += other.covered;
    survived += other.survived;
  }
};
inline std::map<const DocumentedCall*, Count> counts, counts_on_fakes;
inline std::set<std::string_view> opened_backends;

inline const DocumentedCall* FindDocumented(const Step& step, std::string_view backend) {
  const bool fdinfo = step.call == "openat" && step.path.starts_with("/proc/self/fdinfo/");
  const std::string_view call = fdinfo ? "openat of fdinfo" : step.call;
  const auto found = std::ranges::find_if(Documented(), [&](const DocumentedCall& documented) {
    return documented.backend == backend && documented.call == call;
  });
  return found == Documented().end() ? nullptr : &*found;
}

// Stands in for a backend that this machine may have itself.
template <class B>
constexpr bool kStandsIn =
    std::is_same_v<B, FakeUdmabuf> || std::is_same_v<B, FakeDmaHeap> || std::is_same_v<B, FakeIon>;

template <class B>
void Cover(Rig<B>& rig, const std::vector<Scenario<B>>& scenarios) {
  size_t covered = 0;
  for (const Scenario<B>& scenario : scenarios) {
    const std::string at = std::string(B::kName) + ": " + scenario.name;
    const std::vector<std::string> first = RunClean(rig, scenario);
    CHECK_MESSAGE(first.empty(), at, Joined(first));
    const std::vector<Step> trace = rig.faults().trace();
    CHECK_MESSAGE(!trace.empty(), at, ": makes no system call");
    for (size_t n = 0; n < trace.size(); ++n) {
      const DocumentedCall* documented = FindDocumented(trace[n], B::kName);
      CHECK_MESSAGE(documented != nullptr, at, ": no errnos are listed for ", trace[n].call);
      if (documented == nullptr) continue;
      for (const int code : documented->errnos) {
        const std::vector<std::string> wrong = TryFault(rig, scenario, n, trace[n], code);
        CHECK_MESSAGE(wrong.empty(), at, ": call ", n, ", ", trace[n].call, ": ",
                      ion::ErrnoName(code), Joined(wrong));
        ++covered;
        Count& count = (kStandsIn<B> ? counts_on_fakes : counts)[documented];
        ++count.covered;
        count.survived += wrong.empty();
      }
    }
  }
  CHECK(covered > 0);
}

// The scenarios. What stands outside of the Window is preparation and clean-up, and never fails.

inline ion::MapRange Middle() { return {.offset = ion::PageBytes(), .bytes = ion::PageBytes()}; }

// A heap's node that cannot be opened does not keep the others from being used: it is listed with
// its reason, and that is what a request for it gets. Nor does a backend keep the next one from
// being taken, or the others from being used.
template <class B>
void NoteUnusable(Rig<B>& rig, B& opened) {
  if constexpr (std::is_same_v<B, Any>) {
    for (const ion::Error& refusal : opened.refusals()) rig.Note(refusal);
  }
  if constexpr (std::is_same_v<B, All> || std::is_same_v<B, AllMemfdFirst>) {
    for (const ion::Error& error : opened.open_errors()) rig.Note(error);
  }
  std::set<std::string_view> never;
  for (const ion::KernelHeap& heap : rig.backend().heaps()) {
    if (!heap.unusable.ok()) never.insert(heap.name);
  }
  for (uint32_t number = 0; number < opened.heaps().size(); ++number) {
    Block block;
    const ion::KernelHeap& heap = opened.heaps()[number];
    if (never.contains(heap.name) || rig.Note(heap.unusable)) continue;
    rig.Note(opened.Allocate(number, Bytes(), ion::Flags::kNone, {}, block));
  }
}

// Half of RAM, for which the kernel is asked.
template <class B>
typename B::Options WithDefaultBudget(Rig<B>& rig) {
  typename B::Options options = rig.Options();
  options.budget = nullptr;
  return options;
}

template <class B>
std::vector<Scenario<B>> OpenScenarios() {
  return {
      {"open a Manager", Operation::kOpen,
       [](Rig<B>& rig) {
         const typename Rig<B>::Window window(rig);
         auto manager = Rig<B>::Manager::Open(WithDefaultBudget(rig));
         if (!rig.Note(manager.status())) return;
         NoteUnusable(rig, manager->backend());
         for (const HeapId id : rig.HeapIds()) {
           if (manager->heaps().contains(id)) continue;
           rig.Note(manager->Allocate({.bytes = Bytes(), .heaps = id}).status());
         }
       }},
      {"open a backend", Operation::kOpen,
       [](Rig<B>& rig) {
         const typename Rig<B>::Window window(rig);
         ion::Result<B> backend = B::Open(WithDefaultBudget(rig));
         if (rig.Note(backend.error())) NoteUnusable(rig, *backend);
       }},
  };
}

template <class B>
std::vector<Scenario<B>> AllocateScenarios(Rig<B>& rig) {
  std::vector<Scenario<B>> scenarios;
  const std::set<std::string_view> unreturned = {"close", "munmap", "ioctl DMA_BUF_SET_NAME"};
  for (const std::string_view name : {"", "camera preview"}) {
    for (const HeapId id : rig.HeapIds()) {
      const std::string from = " from heap " + std::to_string(id.value());
      scenarios.push_back(
          {(name.empty() ? "allocate" : "allocate with a name") + from, Operation::kAllocate,
           [id, name](Rig<B>& r) {
             absl::StatusOr<Buffer> buffer;
             typename Rig<B>::Window window(r);
             buffer = r.client().Allocate({.bytes = Bytes(), .heaps = id, .name = name});
             r.Note(buffer.status());
           },
           unreturned});
    }
    // A Manager need not reach every kernel heap.
    for (const uint32_t number : rig.KernelHeaps()) {
      const std::string from = " from kernel heap " + std::to_string(number);
      scenarios.push_back(
          {(name.empty() ? "allocate" : "allocate with a name") + from, Operation::kAllocate,
           [number, name](Rig<B>& r) {
             Block block;
             {
               typename Rig<B>::Window window(r);
               if (!r.Note(r.backend().Allocate(number, Bytes(), ion::Flags::kNone, name, block))) {
                 return;
               }
             }
             r.Note(r.backend().Release(block));
           },
           unreturned});
    }
  }
  return scenarios;
}

// Runs `act` with a buffer of each heap.
template <class B, class F>
std::vector<Scenario<B>> OnEachHeap(
    Rig<B>& rig, const std::string& name, Operation operation, F act,
    std::set<std::string_view> unreturned = ion::testing::kClosing) {
  std::vector<Scenario<B>> scenarios;
  for (const HeapId id : rig.HeapIds()) {
    scenarios.push_back({name + ", heap " + std::to_string(id.value()), operation,
                         [id, act](Rig<B>& r) {
                           absl::StatusOr<Buffer> buffer =
                               r.client().Allocate({.bytes = Bytes(), .heaps = id});
                           if (r.Note(buffer.status())) act(r, *buffer);
                         },
                         unreturned});
  }
  return scenarios;
}

template <class B>
void Append(std::vector<Scenario<B>>& to, std::vector<Scenario<B>> more) {
  for (Scenario<B>& scenario : more) to.push_back(std::move(scenario));
}

template <class B>
std::vector<Scenario<B>> MapScenarios(Rig<B>& rig) {
  using Window = typename Rig<B>::Window;
  std::vector<Scenario<B>> all;
  Append(all, OnEachHeap(rig, "map the whole", Operation::kMap, [](Rig<B>& r, Buffer& buffer) {
           const Window window(r);
           r.Note(ion::WritableMapping::Of(buffer).status());
           r.Note(ion::ReadOnlyMapping::Of(buffer).status());
         }));
  Append(all,
         OnEachHeap(rig, "map and unmap a part", Operation::kMap, [](Rig<B>& r, Buffer& buffer) {
           const Window window(r);
           r.Note(ion::WritableMapping::Of(buffer, Middle()).status());
         }));
  Append(all, OnEachHeap(rig, "map and unmap through the backend", Operation::kMap,
                         [](Rig<B>& r, Buffer& buffer) {
                           const Block& block = ion::LeaseAccess::BlockOf(buffer);
                           const Window window(r);
                           auto at = r.backend().Map(block, 0, Bytes(), ion::MapMode::kReadOnly);
                           if (r.Note(at.error())) r.Note(r.backend().Unmap(*at, Bytes()));
                         },
                         {}));
  return all;
}

// The same with a buffer that the CPU caches: of others nobody is told. Not every heap has them.
template <class B, class F>
std::vector<Scenario<B>> OnEachCachedHeap(
    Rig<B>& rig, const std::string& name, F act,
    const std::set<std::string_view>& unreturned = ion::testing::kClosing) {
  std::vector<Scenario<B>> scenarios;
  for (const HeapId id : rig.HeapIds()) {
    const ion::Request request{.bytes = Bytes(), .heaps = id, .flags = ion::Flags::kCached};
    if (!rig.client().Allocate(request).ok()) continue;
    scenarios.push_back({name + ", heap " + std::to_string(id.value()), Operation::kBeginAccess,
                         [request, act](Rig<B>& r) {
                           absl::StatusOr<Buffer> buffer = r.client().Allocate(request);
                           if (r.Note(buffer.status())) act(r, *buffer);
                         },
                         unreturned});
  }
  return scenarios;
}

// One scope, ended by End.
template <class Access, class B>
void Use(Rig<B>& rig, Buffer& buffer) {
  auto mapping = ion::WritableMapping::Of(buffer);
  if (!rig.Note(mapping.status())) return;
  typename Rig<B>::Window window(rig);
  auto access = Access::Begin(*mapping);
  if (rig.Note(access.status())) rig.Note(std::move(*access).End());
}

template <class B>
std::vector<Scenario<B>> AccessScenarios(Rig<B>& rig) {
  using Window = typename Rig<B>::Window;
  std::vector<Scenario<B>> all;
  // Nobody is told of reading before Linux 4.6.
  if (!std::is_same_v<B, IonLegacy>) {
    Append(all, OnEachCachedHeap(rig, "read", Use<ion::CpuRead, B>));
  }
  Append(all, OnEachCachedHeap(rig, "write", Use<ion::CpuWrite, B>));
  Append(all, OnEachCachedHeap(rig, "read and write", Use<ion::CpuReadWrite, B>));
  Append(all, OnEachCachedHeap(rig, "read while writing", [](Rig<B>& r, Buffer& buffer) {
           auto mapping = ion::WritableMapping::Of(buffer);
           if (!r.Note(mapping.status())) return;
           const Window window(r);
           auto write = ion::CpuWrite::Begin(*mapping);
           if (!r.Note(write.status())) return;
           auto read = ion::CpuRead::Begin(*mapping);
           if (r.Note(read.status())) r.Note(std::move(*read).End());
           r.Note(std::move(*write).End());
         }));
  Append(all,
         OnEachCachedHeap(rig, "scopes that end by themselves",
                          [](Rig<B>& r, Buffer& buffer) {
                            auto mapping = ion::WritableMapping::Of(buffer);
                            if (!r.Note(mapping.status())) return;
                            auto read = ion::CpuRead::Begin(*mapping);
                            auto write = ion::CpuWrite::Begin(*mapping);
                            r.Note(read.status());
                            r.Note(write.status());
                            const Window window(r);
                            write = absl::UnknownError("ended");
                            read = absl::UnknownError("ended");
                          },
                          {"close", "munmap", "ioctl DMA_BUF_IOCTL_SYNC", "ioctl ION_IOC_SYNC"}));
  return all;
}

// A handle of the buffer, which is empty then.
template <class B>
absl::StatusOr<Handle> Keep(Rig<B>& rig, Buffer& buffer) {
  return rig.client().MakeHandle(std::move(buffer));
}

// A handle of the buffer's memory by another client, as it comes from another process; and the
// owner's is freed.
template <class B>
struct Imported {
  Imported(Rig<B>& rig, Buffer& buffer) {
    auto handle = Keep(rig, buffer);
    if (!rig.Note(handle.status())) return;
    auto shared = rig.client().Share(*handle);
    rig.Note(rig.client().Free(*handle));
    if (rig.Note(shared.status())) fd = *std::move(shared);
  }
  UniqueFd fd;
};

template <class B>
std::vector<Scenario<B>> ShareScenarios(Rig<B>& rig) {
  using Window = typename Rig<B>::Window;
  std::vector<Scenario<B>> all;
  Append(all, OnEachHeap(rig, "keep", Operation::kKeep, [](Rig<B>& r, Buffer& buffer) {
           absl::StatusOr<Handle> handle;
           {
             const Window window(r);
             handle = Keep(r, buffer);
             r.Note(handle.status());
           }
           // What could not be kept is a lease still.
           if (handle.ok() == buffer.valid()) r.Note(absl::UnknownError("the lease is lost"));
           if (handle.ok()) r.Note(r.client().Free(*handle));
         }));
  Append(all, OnEachHeap(rig, "share", Operation::kShare, [](Rig<B>& r, Buffer& buffer) {
           auto handle = Keep(r, buffer);
           if (!r.Note(handle.status())) return;
           {
             const Window window(r);
             r.Note(r.client().Share(*handle).status());
           }
           r.Note(r.client().Free(*handle));
         }));
  Append(all, OnEachHeap(rig, "import", Operation::kImport, [](Rig<B>& r, Buffer& buffer) {
           const Imported<B> imported(r, buffer);
           if (!imported.fd.valid()) return;
           absl::StatusOr<Handle> handle;
           {
             const Window window(r);
             handle = r.client().Import(imported.fd.borrow());
             r.Note(handle.status());
           }
           if (handle.ok()) r.Note(r.client().Free(*handle));
         }));
  Append(all,
         OnEachHeap(rig, "import one's own", Operation::kImport, [](Rig<B>& r, Buffer& buffer) {
           auto handle = Keep(r, buffer);
           if (!r.Note(handle.status())) return;
           auto fd = r.client().Share(*handle);
           absl::StatusOr<Handle> again = absl::UnknownError("not shared");
           if (r.Note(fd.status())) {
             const Window window(r);
             again = r.client().Import(fd->borrow());
             r.Note(again.status());
           }
           if (again.ok()) r.Note(r.client().Free(*again));
           r.Note(r.client().Free(*handle));
         }));
  all.push_back({"import what is refused", Operation::kImport, [](Rig<B>& r) {
                   const UniqueFd unsealed = MakeMemfd(false);
                   const Window window(r);
                   const absl::Status status = r.client().Import(unsealed.borrow()).status();
                   // The refusal has the errno of a system call, but its own sentence.
                   const absl::string_view message = status.message();
                   if (message.find("F_GET_SEALS: no F_SEAL_SHRINK") == message.npos &&
                       message.find("fstatfs: not a dma-buf") == message.npos) {
                     r.Note(status.ok() ? absl::UnknownError("it was taken") : status);
                   }
                 }});
  return all;
}

// All or none, and nothing on the client's account or in its reports where it is none.
template <class B>
std::vector<Scenario<B>> AllocateSharedScenarios(Rig<B>& rig) {
  std::vector<Scenario<B>> scenarios;
  for (const HeapId id : rig.HeapIds()) {
    scenarios.push_back(
        {"allocate two shared, heap " + std::to_string(id.value()), Operation::kAllocate,
         [id](Rig<B>& r) {
           {
             const typename Rig<B>::Window window(r);
             r.Note(r.client().AllocateShared({.bytes = Bytes(), .heaps = id}, 2).status());
           }
           if (r.client().held_bytes() != 0) {
             r.Note(absl::UnknownError("the client holds bytes"));
           }
           if (!r.manager().MakeReport().buffers.empty()) {
             r.Note(absl::UnknownError("a buffer is left"));
           }
         }});
    scenarios.back().later = {Operation::kKeep, Operation::kShare};
  }
  return scenarios;
}

template <class B>
std::vector<Scenario<B>> NameScenarios(Rig<B>& rig) {
  return OnEachHeap(rig, "rename", Operation::kName, [](Rig<B>& r, Buffer& buffer) {
    const typename Rig<B>::Window window(r);
    r.Note(r.manager().SetName(buffer, "a new name"));
  });
}

template <class B>
std::vector<Scenario<B>> ReleaseScenarios(Rig<B>& rig) {
  using Window = typename Rig<B>::Window;
  constexpr Operation kRelease = Operation::kRelease;
  std::vector<Scenario<B>> all;
  Append(all, OnEachHeap(rig, "release", kRelease, [](Rig<B>& r, Buffer& buffer) {
           const Window window(r);
           buffer = Buffer();
         }));
  Append(all, OnEachHeap(rig, "release what was mapped", kRelease, [](Rig<B>& r, Buffer& buffer) {
           r.Note(ion::WritableMapping::Of(buffer).status());
           const Window window(r);
           buffer = Buffer();
         }));
  Append(all, OnEachHeap(rig, "free what was imported", kRelease, [](Rig<B>& r, Buffer& buffer) {
           const Imported<B> imported(r, buffer);
           if (!imported.fd.valid()) return;
           auto handle = r.client().Import(imported.fd.borrow());
           if (!r.Note(handle.status())) return;
           r.Note(r.client().template Map<ion::MapMode::kReadOnly>(*handle).status());
           const Window window(r);
           r.Note(r.client().Free(*handle));
         }));
  Append(all, OnEachHeap(rig, "end a mapping that outlived its handle", kRelease,
                         [](Rig<B>& r, Buffer& buffer) {
                           auto handle = Keep(r, buffer);
                           if (!r.Note(handle.status())) return;
                           auto mapping = r.client().template Map<ion::MapMode::kWritable>(*handle);
                           r.Note(r.client().Free(*handle));
                           if (!r.Note(mapping.status())) return;
                           const Window window(r);
                           mapping = absl::UnknownError("ended");
                         }));
  all.push_back({"release the last buffer of a Manager that has gone", kRelease, [](Rig<B>& r) {
                   absl::StatusOr<Buffer> buffer;
                   {
                     auto manager = Rig<B>::Manager::Open(r.Options());
                     if (!r.Note(manager.status())) return;
                     buffer = manager->Allocate({.bytes = Bytes(), .heaps = ion::HeapMask::All()});
                     if (!r.Note(buffer.status())) return;
                     r.Note(ion::WritableMapping::Of(*buffer).status());
                   }
                   // EBUSY: it ended while a buffer was out.
                   if (r.problems().size() == 1 && r.problems()[0].code == EBUSY) {
                     r.problems().clear();
                   }
                   const Window window(r);
                   *buffer = Buffer();
                 }});
  for (const uint32_t number : rig.KernelHeaps()) {
    all.push_back(
        {"release through the backend, kernel heap " + std::to_string(number),
         kRelease,
         [number](Rig<B>& r) {
           Block block;
           if (!r.Note(r.backend().Allocate(number, Bytes(), ion::Flags::kNone, {}, block))) {
             return;
           }
           auto at = r.backend().Map(block, 0, Bytes(), ion::MapMode::kWritable);
           if (r.Note(at.error())) block.mapping = *at;
           const Window window(r);
           r.Note(r.backend().Release(block));
         },
         {}});
  }
  return all;
}

template <class B>
std::vector<Scenario<B>> ComposeScenarios() {
  return {{"compose", Operation::kAllocate, [](Rig<B>& r) {
             const UniqueFd one = MakeMemfd(true), two = MakeMemfd(true);
             const std::array ranges = {
                 ion::PageRange{one.borrow(), ion::PageBytes(), 2 * ion::PageBytes()},
                 ion::PageRange{two.borrow(), 0, ion::PageBytes()}};
             Block block;
             {
               const typename Rig<B>::Window window(r);
               if (!r.Note(r.backend().Compose(ranges, block))) return;
             }
             r.Note(r.backend().Release(block));
           }}};
}

// Skips the test case where this machine has nothing for the backend.
template <class B>
bool Opened(Rig<B>& rig) {
  if (rig.opened()) {
    if (!kStandsIn<B>) opened_backends.insert(B::kName);
    Warm(rig, rig.backend());
    CHECK(rig.problems().empty());
    return true;
  }
  ion::testing::Skip(rig.refusal());
  return false;
}

TEST_CASE_TEMPLATE_DEFINE("Faults: opening", B, opening) {
  Rig<B> rig;
  if (Opened(rig)) Cover(rig, OpenScenarios<B>());
}

TEST_CASE_TEMPLATE_DEFINE("Faults: allocating", B, allocating) {
  Rig<B> rig;
  if (Opened(rig)) Cover(rig, AllocateScenarios(rig));
}

TEST_CASE_TEMPLATE_DEFINE("Faults: mapping", B, mapping) {
  Rig<B> rig;
  if (Opened(rig)) Cover(rig, MapScenarios(rig));
}

// A memfd knows no CPU access, and no other name: nothing is called.
TEST_CASE_TEMPLATE_DEFINE("Faults: CPU access", B, cpu_access) {
  Rig<B> rig;
  if (Opened(rig)) Cover(rig, AccessScenarios(rig));
}

TEST_CASE_TEMPLATE_DEFINE("Faults: naming", B, naming) {
  Rig<B> rig;
  if (Opened(rig)) Cover(rig, NameScenarios(rig));
}

TEST_CASE_TEMPLATE_DEFINE("Faults: sharing and importing", B, sharing) {
  Rig<B> rig;
  if (!Opened(rig)) return;
  Cover(rig, ShareScenarios(rig));
  Cover(rig, AllocateSharedScenarios(rig));
}

TEST_CASE_TEMPLATE_DEFINE("Faults: releasing", B, releasing) {
  Rig<B> rig;
  if (Opened(rig)) Cover(rig, ReleaseScenarios(rig));
}

template <class B>
using Carveout =
    ion::CarveoutHeap<B,
                      ion::HeapSpec{.type = ion::HeapType::kCarveout, .id = 2, .bytes = 1 << 20}>;

template <class B>
std::vector<Scenario<B>> CarveoutScenarios() {
  using Window = typename Rig<B>::Window;
  return {
      {"open a carveout and close it", Operation::kAllocate,
       [](Rig<B>& r) {
         const Window window(r);
         r.Note(Carveout<B>::Bind(r.backend()).error());
       }},
      {"allocate from a carveout and free",
       Operation::kMap,
       [](Rig<B>& r) {
         auto heap = Carveout<B>::Bind(r.backend());
         if (!r.Note(heap.error())) return;
         Block block;
         const Window window(r);
         if (r.Note(heap->Allocate({.bytes = Bytes()}, block))) r.Note(heap->Free(block));
       },
       {}},
  };
}

TEST_CASE_TEMPLATE_DEFINE("Faults: carveouts", B, carveouts) {
  Rig<B> rig;
  if (!Opened(rig)) return;
  Cover(rig, CarveoutScenarios<B>());
}

// Of what goes wrong in a pool only an allocation tells; all else leaves a way that works.
inline const std::set<std::string_view> kPooling = {"close",
                                                    "munmap",
                                                    "mmap",
                                                    "openat",
                                                    "read",
                                                    "pread",
                                                    "poll",
                                                    "madvise MADV_DONTFORK",
                                                    "madvise MADV_DONTNEED",
                                                    "madvise MADV_DODUMP",
                                                    "ioctl DMA_BUF_IOCTL_SYNC",
                                                    "ioctl ION_IOC_SYNC",
                                                    "ioctl ION_IOC_FREE"};

// The life of memory in pools, with faults in one stretch of it at a time. What makes no call of
// such memory is left out.
template <class B, ion::Scrub kScrub>
struct PoolScenarios {
  using Window = typename Rig<B>::Window;
  using Pools = FaultPools<B, kScrub>;

  // A fault in one scenario would be seen in the next ones, too.
  std::shared_ptr<Pools> pools;
  std::vector<Scenario<B>> all = {};
  std::string where = {};
  ion::Request request = {};

  template <class F>
  void Add(const std::string& name, Operation operation, F act, bool relieved = false) {
    all.push_back({name + where, operation,
                   [act, pools = pools, asked = request](Rig<B>& r) {
                     pools->Ask(asked);
                     act(r, *pools);
                     pools->Settle();
                   },
                   kPooling, relieved});
  }
  // With pools of its own: one that could not prove that memory is unshared does not ask for an
  // age.
  template <class F>
  void AddFresh(const std::string& name, Operation operation, F act, bool relieved = false) {
    all.push_back({name + where, operation,
                   [act, asked = request](Rig<B>& r) {
                     Pools own(r, asked);
                     act(r, own);
                     own.Settle();
                   },
                   kPooling, relieved});
  }
  template <class F>
  void AddEnd(const std::string& name, F prepare) {
    all.push_back({name + where, Operation::kRelease,
                   [prepare, asked = request](Rig<B>& r) {
                     Pools own(r, asked);
                     prepare(own);
                     const Window window(r);
                     own.End();
                   },
                   kPooling});
  }

  void AddForAnyMemory() {
    Add("a miss", Operation::kAllocate, [](Rig<B>& r, Pools& pools) {
      const Window window(r);
      pools.Take(pools.ours());
    });
    Add("a reserve", Operation::kAllocate, [](Rig<B>& r, Pools& pools) {
      const Window window(r);
      pools.Reserve(pools.ours(), 2);
    });
    // What lies idle is too small.
    Add(
        "a miss beside idle memory", Operation::kAllocate,
        [](Rig<B>& r, Pools& pools) {
          pools.LeaveIdle(pools.ours(), ion::PageBytes());
          const Window window(r);
          pools.Take(pools.ours());
        },
        /*relieved=*/true);
    Add("keep pooled memory", Operation::kKeep, [](Rig<B>& r, Pools& pools) {
      pools.Take(pools.ours());
      pools.Use(pools.ours());
      const Window window(r);
      pools.Keep(pools.ours());
    });
    Add("share pooled memory", Operation::kShare, [](Rig<B>& r, Pools& pools) {
      pools.Take(pools.ours());
      pools.Use(pools.ours());
      pools.Keep(pools.ours());
      const Window window(r);
      (void)pools.Share(pools.ours());
    });
    Add("a Trim", Operation::kRelease, [](Rig<B>& r, Pools& pools) {
      for (auto* domain : {&pools.ours(), &pools.theirs()}) pools.LeaveIdle(*domain);
      const Window window(r);
      pools.manager().Trim();
    });
    Add("ticks until it is old", Operation::kRelease, [](Rig<B>& r, Pools& pools) {
      pools.LeaveIdle(pools.ours());
      const Window window(r);
      for (unsigned i = 0; i < 2 * Pools::kSpec.age_ticks; ++i) pools.manager().Tick();
    });
    AddEnd("the end of a Manager with idle memory",
           [](Pools& pools) { pools.LeaveIdle(pools.ours()); });
  }

  void AddForShared() {
    AddFresh("free what is ours alone again", Operation::kRelease, [](Rig<B>& r, Pools& pools) {
      pools.TakeAndShare(pools.ours()).reset();
      const Window window(r);
      pools.Free(pools.ours());
    });
    AddFresh("free what others hold", Operation::kRelease, [](Rig<B>& r, Pools& pools) {
      const UniqueFd held = pools.TakeAndShare(pools.ours());
      {
        const Window window(r);
        pools.Free(pools.ours());
      }
      pools.GoOnBeside(pools.ours(), held.borrow());
    });
    if (!B::kCaps.proves_unshared) return;
    // In quarantine, though it is ours alone again.
    const auto leave = [](Pools& pools) {
      const UniqueFd held = pools.TakeAndShare(pools.ours());
      pools.Free(pools.ours());
    };
    // Where nothing is proven it is still there when the kernel is asked.
    AddFresh(
        "take what waits for proof", Operation::kAllocate,
        [leave](Rig<B>& r, Pools& pools) {
          leave(pools);
          const Window window(r);
          pools.Take(pools.ours());
        },
        /*relieved=*/true);
    AddFresh("prove what waits at a tick", Operation::kProve, [leave](Rig<B>& r, Pools& pools) {
      leave(pools);
      const Window window(r);
      pools.manager().Tick();
    });
    AddFresh("prove what waits in a Trim", Operation::kProve, [leave](Rig<B>& r, Pools& pools) {
      leave(pools);
      const Window window(r);
      pools.manager().Trim();
    });
    AddEnd("the end of a Manager with what waits for proof", leave);
  }

  // Zeroing tells the kernel of CPU access.
  void AddForZeroing() {
    if (kScrub == ion::Scrub::kOnFree) {
      Add("zero on release", Operation::kRelease, [](Rig<B>& r, Pools& pools) {
        pools.Take(pools.ours());
        pools.Use(pools.ours());
        const Window window(r);
        pools.Release(pools.ours());
      });
      return;
    }
    Add("zero for its own domain", Operation::kRelease, [](Rig<B>& r, Pools& pools) {
      pools.LeaveIdle(pools.ours());
      const Window window(r);
      pools.Take(pools.ours());
    });
    if (kScrub == ion::Scrub::kOnAllocate) {
      Add("zero for another domain", Operation::kRelease, [](Rig<B>& r, Pools& pools) {
        pools.LeaveIdle(pools.ours());
        const Window window(r);
        pools.Take(pools.theirs());
      });
      return;
    }
    Add("zero at a tick", Operation::kRelease, [](Rig<B>& r, Pools& pools) {
      pools.LeaveIdle(pools.ours());
      const Window window(r);
      pools.manager().Tick();
    });
  }
};

// The first heap shows what is alike of each: zeroing at another time, which matters where the
// kernel is told of it, and the other caching. All heaps of a fake are alike.
template <class B, ion::Scrub kScrub>
std::vector<Scenario<B>> PoolScenariosOf(Rig<B>& rig) {
  constexpr bool kUsual = kScrub == ion::Scrub::kOnAllocate;
  PoolScenarios<B, kScrub> scenarios{std::make_shared<FaultPools<B, kScrub>>(rig, ion::Request())};
  for (const HeapId id : rig.HeapIds()) {
    if ((!kUsual || kStandsIn<B>)&&!scenarios.all.empty()) break;
    std::set<bool> seen;
    for (const ion::Flags flags : {ion::Flags::kNone, ion::Flags::kCached}) {
      scenarios.request = {.bytes = Bytes(), .heaps = id, .flags = flags};
      const absl::StatusOr<Buffer> buffer = rig.client().Allocate(scenarios.request);
      if (!buffer.ok()) continue;
      const bool cached = buffer->properties().cached;
      if (!seen.insert(cached).second) continue;
      if (seen.size() == 2 && id != rig.HeapIds()[0]) break;
      scenarios.where =
          ", heap " + std::to_string(id.value()) + (cached ? ", cached" : ", uncached");
      const bool told = cached && !std::is_same_v<B, Memfd>;
      if (kUsual) scenarios.AddForAnyMemory();
      // What was shared waits for nothing but proof in the background.
      if (kUsual || (told && kScrub == ion::Scrub::kOnFree)) scenarios.AddForShared();
      if (told) scenarios.AddForZeroing();
    }
  }
  return std::move(scenarios.all);
}

// A fake stands in where the machine has nothing of the kind.
template <class B>
bool IsNeeded() {
  if (!kStandsIn<B> && !std::is_same_v<B, IonLegacy>) return true;
  const bool real = Rig<Udmabuf>().opened() || Rig<DmaHeap>().opened() || Rig<Ion>().opened();
  if (real) ion::testing::Skip("this machine has the like");
  return !real;
}

TEST_CASE_TEMPLATE_DEFINE("Faults: pools", B, pools) {
  if (!IsNeeded<B>()) return;
  Rig<B> rig;
  if (!Opened(rig)) return;
  std::vector<Scenario<B>> all = PoolScenariosOf<B, ion::Scrub::kOnAllocate>(rig);
  Append(all, PoolScenariosOf<B, ion::Scrub::kOnFree>(rig));
  Append(all, PoolScenariosOf<B, ion::Scrub::kBackground>(rig));
  Cover(rig, all);
}

TEST_CASE_TEMPLATE_DEFINE("Faults: a storm of signals is never seen", B, signals) {
  Rig<B> rig;
  if (!Opened(rig)) return;
  std::vector<Scenario<B>> all = OpenScenarios<B>();
  Append(all, AllocateScenarios(rig));
  Append(all, MapScenarios(rig));
  Append(all, AccessScenarios(rig));
  Append(all, ShareScenarios(rig));
  Append(all, AllocateSharedScenarios(rig));
  Append(all, ReleaseScenarios(rig));
  Append(all, PoolScenariosOf<B, ion::Scrub::kOnAllocate>(rig));
  if constexpr (B::kCaps.composes) Append(all, ComposeScenarios<B>());
  for (const Scenario<B>& scenario : all) {
    RunClean(rig, scenario);
    const size_t calm = rig.faults().Count("openat");
    rig.Plan({.interrupts = 5});
    const std::vector<std::string> wrong = RunClean(rig, scenario);
    rig.Plan({});
    CHECK_MESSAGE(wrong.empty(), B::kName, ": ", scenario.name, Joined(wrong));
    CHECK_MESSAGE(rig.faults().Count("openat") == 6 * calm, scenario.name);
  }
}

TEST_CASE_TEMPLATE_DEFINE("Faults: a release that fails twice tells both errors", B,
                          failing_twice) {
  Rig<B> rig;
  if (!Opened(rig)) return;
  auto buffer = rig.manager().Allocate({.bytes = Bytes(), .heaps = ion::HeapMask::All()});
  CHECK(rig.Note(buffer.status()));
  CHECK(rig.Note(ion::WritableMapping::Of(*buffer).status()));
  rig.Plan({.n = 0, .code = EINVAL, .times = 2});
  {
    const typename Rig<B>::Window window(rig);
    *buffer = Buffer();
  }
  CHECK(rig.faults().Count("munmap") == 1);
  CHECK(rig.faults().Count("close") == 1);
  CHECK(rig.problems().size() == 2);
}

TEST_CASE_TEMPLATE_DEFINE("Faults: a shortage is relieved though the relief meets faults", B,
                          shortage) {
  Rig<B> rig;
  if (!Opened(rig)) return;
  FaultPools<B> pools(rig, {.bytes = Bytes(), .heaps = rig.HeapIds()[0]});
  // The allocation; then munmap and close of what lay idle.
  for (const unsigned times : {1u, 2u, 3u}) {
    CAPTURE(times);
    pools.LeaveIdle(pools.ours(), ion::PageBytes());
    rig.Plan({.n = 0, .code = ENOMEM, .times = times});
    {
      const typename Rig<B>::Window window(rig);
      pools.Take(pools.ours());
    }
    CHECK(pools.ours().leases.size() == 1);
    CHECK(rig.faults().Count("munmap") >= 1);
    CHECK(rig.problems().size() == times - 1);
    for (const auto& problem : rig.problems()) {
      CHECK(problem.code == ENOMEM);
      CHECK(!problem.returned);
    }
    rig.problems().clear();
    pools.Settle();
    CHECK(rig.problems().empty());
  }
}

}  // namespace ion::testing::faults

#endif  // ION_TESTS_SCENARIOS_FAULT_SCENARIOS_H_
