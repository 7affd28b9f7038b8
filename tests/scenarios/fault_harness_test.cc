// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// That tests/support/fault_points.h finds what it looks for: each way not to survive a fault, done
// on purpose.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/buffer.h"
#include "tests/support/fault_points.h"
#include "tests/support/fault_syscalls.h"

namespace {

using ion::Buffer;
using ion::Error;
using ion::Operation;
using ion::UniqueFd;
using ion::testing::Bytes;
using ion::testing::FaultSyscalls;
using ion::testing::Joined;
using ion::testing::kClosing;
using ion::testing::MakeMemfd;
using ion::testing::Rig;
using ion::testing::RunClean;
using ion::testing::Scenario;
using ion::testing::Step;
using ion::testing::TryFault;

using Memfd = ion::MemfdBackend<FaultSyscalls>;

// Of an allocation. Some of its errnos are answered by a second call without the flag: none here.
const Step kFirstCall{.call = "memfd_create MFD_NOEXEC_SEAL"};

// What the harness must find. Each scenario does one thing wrong when its allocation fails.
std::vector<std::string> Caught(std::function<void(Rig<Memfd>&, const absl::Status&)> on_failure) {
  Rig<Memfd> rig;
  const Scenario<Memfd> scenario{"allocate, wrongly", Operation::kAllocate, [&](Rig<Memfd>& r) {
                                   absl::StatusOr<Buffer> buffer;
                                   const Rig<Memfd>::Window window(r);
                                   buffer = r.manager().Allocate({.bytes = Bytes()});
                                   if (!buffer.ok()) on_failure(r, buffer.status());
                                 }};
  CHECK(RunClean(rig, scenario).empty());
  return TryFault(rig, scenario, 0, kFirstCall, ENFILE);
}
void CheckFound(const std::vector<std::string>& wrong, std::string_view sentence) {
  CHECK_MESSAGE((wrong.size() == 1 && wrong[0].starts_with(sentence)), sentence, ":",
                Joined(wrong));
}

TEST_CASE("FaultPoints: nothing is found where nothing is wrong") {
  CHECK(Caught([](auto& rig, const absl::Status& status) { rig.Note(status); }).empty());
}

TEST_CASE("FaultPoints: an errno that was lost is found") {
  CheckFound(Caught([](auto&, const absl::Status&) {}), "lost");
}

TEST_CASE("FaultPoints: an errno that became another is found") {
  CheckFound(Caught([](auto& rig, const absl::Status&) {
               rig.Note(Error(EMFILE, "memfd_create", {"memfd", Operation::kAllocate}));
             }),
             "another errno");
}

TEST_CASE("FaultPoints: an error that names another operation is found") {
  CheckFound(Caught([](auto& rig, const absl::Status&) {
               rig.Note(Error(ENFILE, "memfd_create", {"memfd", Operation::kImport}));
             }),
             "does not name the operation");
}

TEST_CASE("FaultPoints: an error that nobody returned is found") {
  CheckFound(Caught([](auto& rig, const absl::Status&) {
               rig.manager().errors().Report(
                   Error(ENFILE, "memfd_create", {"memfd", Operation::kAllocate}));
             }),
             "only in the error sink");
}

TEST_CASE("FaultPoints: a leaked descriptor is found") {
  UniqueFd leaked;
  CheckFound(Caught([&](auto& rig, const absl::Status& status) {
               rig.Note(status);
               leaked = MakeMemfd(false);
             }),
             "leaked fd");
}

TEST_CASE("FaultPoints: a leaked mapping is found") {
  void* leaked = MAP_FAILED;
  CheckFound(Caught([&](auto& rig, const absl::Status& status) {
               rig.Note(status);
               const UniqueFd memfd = MakeMemfd(false);
               leaked = ::mmap(nullptr, Bytes(), PROT_READ, MAP_SHARED, memfd.get(), 0);
             }),
             "leaked mapping");
  CHECK(::munmap(leaked, Bytes()) == 0);
}

TEST_CASE("FaultPoints: leaked bytes is found") {
  CheckFound(Caught([](auto& rig, const absl::Status& status) {
               rig.Note(status);
               CHECK(rig.budget().Take(1));
             }),
             "leaked bytes of the budget: 1");
}

TEST_CASE("FaultPoints: a descriptor that was closed twice is found") {
  const UniqueFd theirs = MakeMemfd(false);
  const int number = theirs.get();
  const UniqueFd copy(::dup(number));
  CheckFound(Caught([&](auto& rig, const absl::Status& status) {
               rig.Note(status);
               ::close(number);
             }),
             "lost fd " + std::to_string(number));
  CHECK(::dup3(copy.get(), number, O_CLOEXEC) == number);
}

TEST_CASE("FaultPoints: a next try that fails is found") {
  bool failed = false;
  Rig<Memfd> rig;
  const Scenario<Memfd> scenario{"poisoned", Operation::kAllocate, [&](Rig<Memfd>& r) {
                                   absl::StatusOr<Buffer> buffer;
                                   const Rig<Memfd>::Window window(r);
                                   buffer = r.manager().Allocate({.bytes = failed ? 0 : Bytes()});
                                   failed |= !r.Note(buffer.status());
                                 }};
  CheckFound(TryFault(rig, scenario, 0, kFirstCall, ENFILE), "the next try");
}

TEST_CASE("FaultPoints: a shortage that nothing idle relieved is found") {
  Rig<Memfd> rig;
  const Scenario<Memfd> scenario{"not relieved", Operation::kAllocate,
                                 [](Rig<Memfd>& r) {
                                   absl::StatusOr<Buffer> buffer;
                                   const Rig<Memfd>::Window window(r);
                                   buffer = r.manager().Allocate({.bytes = Bytes()});
                                   r.Note(buffer.status());
                                 },
                                 kClosing, /*its_relieved=*/true};
  CheckFound(TryFault(rig, scenario, 0, kFirstCall, ENFILE), "seen");
  CHECK(TryFault(rig, scenario, 0, kFirstCall, EFAULT).empty());
}

TEST_CASE("FaultPoints: an interrupted call that is not tried again is found") {
  Rig<Memfd> rig;
  const Scenario<Memfd> scenario{
      "open once", Operation::kOpen, [](Rig<Memfd>& r) {
        const Rig<Memfd>::Window window(r);
        const long fd = r.sys().Open("/dev/null", O_RDONLY);
        if (ion::Failed(fd)) {
          r.Note(Error(ion::ErrnoFrom(fd), "open", {"memfd", Operation::kOpen, "/dev/null"}));
        } else {
          ::close(static_cast<int>(fd));
        }
      }};
  CheckFound(TryFault(rig, scenario, 0, {.call = "openat"}, EINTR), "seen");
  CHECK(TryFault(rig, scenario, 0, {.call = "openat"}, EACCES).empty());
}

TEST_CASE("FaultPoints: a mapping that munmap refused and nobody kept is found") {
  Rig<Memfd> rig;
  void* left = nullptr;
  const Scenario<Memfd> scenario{
      "unmap once", Operation::kUnmap, [&](Rig<Memfd>& r) {
        const UniqueFd memfd = MakeMemfd(false);
        void* at = ::mmap(nullptr, Bytes(), PROT_READ, MAP_SHARED, memfd.get(), 0);
        const Rig<Memfd>::Window window(r);
        if (const long answer = r.sys().Munmap(at, Bytes()); ion::Failed(answer)) {
          left = at;
          r.manager().errors().Report(
              Error(ion::ErrnoFrom(answer), "munmap", {"memfd", Operation::kUnmap}));
        }
      }};
  CheckFound(TryFault(rig, scenario, 0, {.call = "munmap"}, ENOMEM), "leaked mapping");
  CHECK(::munmap(left, Bytes()) == 0);
}

}  // namespace
