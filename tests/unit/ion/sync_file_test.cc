// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Sync files and waits for fences, over calls that a test scripts, and over this machine's kernel.
// In a guest with sw_sync also with fences of a line of time that the test moves.

#include "ion/base/sync_file.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "tests/support/backend_suite.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/sw_sync.h"
#include "tests/support/vgem_fence.h"

namespace ion::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Answers that a test gives in place of the kernel's.
struct Script {
  std::function<long(int fd, unsigned long request, void* argument)> ioctl;
  std::function<long(pollfd& polled, int time)> poll;
};
class ScriptedSyscalls : public LinuxSyscalls {
 public:
  explicit ScriptedSyscalls(Script& script) : script_(&script) {}
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    return script_->ioctl(fd, request, argument);
  }
  long Poll(struct pollfd* polled, unsigned count, int time) const noexcept {
    CHECK(count == 1);
    return script_->poll(*polled, time);
  }

 private:
  Script* script_;
};
static_assert(Syscalls<ScriptedSyscalls>);

constexpr FdRef kDmaBuf{700}, kFence{701}, kOther{702};
constexpr Direction kDirections[] = {Direction::kRead, Direction::kWrite, Direction::kReadWrite};

UniqueFd NewFd() { return UniqueFd(::eventfd(0, EFD_CLOEXEC)); }
milliseconds Since(Deadline start) {
  return std::chrono::floor<milliseconds>(steady_clock::now() - start);
}
Deadline In(int time) { return steady_clock::now() + milliseconds(time); }
// Waits in `wait` for 50 ms, in vain.
void TimesOut(const std::function<Error(Deadline)>& wait) {
  const Deadline start = steady_clock::now();
  const Error error = wait(start + milliseconds(50));
  CHECK(Kind(error) == "ETIMEDOUT use a fence");
  CHECK(ToStatus(error).code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(steady_clock::now() >= start + milliseconds(50));
  CHECK(Since(start) < milliseconds(2000));
}

TEST_CASE("ExportSyncFile: asks the dma-buf for what the access waits for, and owns the answer") {
  const LeakCheck leaks;
  for (const Direction direction : kDirections) {
    int given = -1;
    Script script;
    script.ioctl = [&](int fd, unsigned long request, void* argument) -> long {
      CHECK(fd == kDmaBuf.get());
      CHECK(request == DMA_BUF_IOCTL_EXPORT_SYNC_FILE);
      auto& data = *static_cast<dma_buf_export_sync_file*>(argument);
      CHECK(data.flags == static_cast<uint32_t>(direction));
      CHECK(data.fd == -1);
      return (data.fd = given = NewFd().release(), 0);
    };
    const Result<UniqueFd> made = ExportSyncFile(ScriptedSyscalls(script), kDmaBuf, direction);
    REQUIRE(Told(made.error()) == "ok");
    CHECK(made->get() == given);
  }
}

TEST_CASE("ImportSyncFile: gives the fence with the direction of the access, and keeps nothing") {
  const LeakCheck leaks;
  for (const Direction direction : kDirections) {
    Script script;
    script.ioctl = [&](int fd, unsigned long request, void* argument) -> long {
      CHECK(fd == kDmaBuf.get());
      CHECK(request == DMA_BUF_IOCTL_IMPORT_SYNC_FILE);
      const auto& data = *static_cast<dma_buf_import_sync_file*>(argument);
      CHECK(data.flags == static_cast<uint32_t>(direction));
      CHECK(data.fd == kFence.get());
      return 0;
    };
    CHECK(Told(ImportSyncFile(ScriptedSyscalls(script), kDmaBuf, kFence, direction)) == "ok");
  }
}

TEST_CASE("MergeSyncFiles: makes one of two, and owns it") {
  const LeakCheck leaks;
  int given = -1;
  Script script;
  script.ioctl = [&](int fd, unsigned long request, void* argument) -> long {
    CHECK(fd == kFence.get());
    CHECK(request == SYNC_IOC_MERGE);
    auto& data = *static_cast<sync_merge_data*>(argument);
    CHECK(std::string(data.name) == "ion");
    CHECK(data.fd2 == kOther.get());
    CHECK(data.flags == 0);
    CHECK(data.pad == 0);
    return (data.fence = given = NewFd().release(), 0);
  };
  const Result<UniqueFd> made = MergeSyncFiles(ScriptedSyscalls(script), kFence, kOther);
  REQUIRE(Told(made.error()) == "ok");
  CHECK(made->get() == given);
}

TEST_CASE("sync files: each call that fails is an error of its own, and nothing is left open") {
  const LeakCheck leaks;
  for (const int code : {ENOTTY, EBADF, EINVAL, ENOENT, EMFILE, ENOMEM}) {
    int interrupts = 3;
    Script script;
    script.ioctl = [&](int, unsigned long, void*) -> long {
      return interrupts-- > 0 ? -EINTR : -code;
    };
    const ScriptedSyscalls sys(script);
    const auto failed = [&](const Error& error, const std::string& call) {
      CHECK(Kind(error) == ErrnoName(code) + " use a fence");
      CHECK(error.what() == call);
      CHECK(interrupts == -1);
      interrupts = 3;
    };
    const Result<UniqueFd> made = ExportSyncFile(sys, kDmaBuf, Direction::kRead);
    failed(made.error(), "DMA_BUF_IOCTL_EXPORT_SYNC_FILE");
    failed(ImportSyncFile(sys, kDmaBuf, kFence, Direction::kWrite),
           "DMA_BUF_IOCTL_IMPORT_SYNC_FILE");
    failed(MergeSyncFiles(sys, kFence, kOther).error(), "SYNC_IOC_MERGE");
    const bool says_since = Told(made.error()).find("Linux 6.0") != std::string::npos;
    CHECK(says_since == (code == ENOTTY));
  }
}

TEST_CASE("WaitForDevices: reading waits for writers, writing for all") {
  for (const Direction direction : kDirections) {
    Script script;
    script.poll = [&](pollfd& polled, int) -> long {
      CHECK(polled.fd == kDmaBuf.get());
      CHECK(polled.events == (direction == Direction::kRead ? POLLIN : POLLOUT));
      return (polled.revents = polled.events, 1);
    };
    CHECK(Told(WaitForDevices(ScriptedSyscalls(script), kDmaBuf, direction, In(50))) == "ok");
  }
}

TEST_CASE("PollUntil: hands the time that is left to poll, rounded up") {
  constexpr Deadline kNow(std::chrono::hours(1));
  using internal::PollTime;
  using std::chrono::nanoseconds;
  CHECK(PollTime(kNow, kNoDeadline) == -1);
  CHECK(PollTime(kNow, kNow) == 0);
  CHECK(PollTime(kNow, kNow - milliseconds(1)) == 0);
  CHECK(PollTime(kNow, Deadline::min()) == 0);
  CHECK(PollTime(kNow, kNow + nanoseconds(1)) == 1);
  CHECK(PollTime(kNow, kNow + milliseconds(7)) == 7);
  CHECK(PollTime(kNow, kNow + milliseconds(7) + nanoseconds(1)) == 8);
  CHECK(PollTime(kNow, kNow + milliseconds(INT_MAX)) == INT_MAX);
  CHECK(PollTime(kNow, kNoDeadline - nanoseconds(1)) == INT_MAX);
}

TEST_CASE("PollUntil: a signal, or an early wake, leaves the rest of the time") {
  for (const long answer : {long{-EINTR}, 0L}) {
    std::vector<int> times;
    Script script;
    script.poll = [&](pollfd&, int time) -> long {
      times.push_back(time);
      const bool first = times.size() == 1;
      std::this_thread::sleep_for(milliseconds(first ? 5 : time));
      return first ? answer : 0;
    };
    const ScriptedSyscalls sys(script);
    TimesOut([&](Deadline deadline) { return WaitForSyncFile(sys, kFence, deadline); });
    REQUIRE(times.size() >= 2);
    CHECK(times[0] <= 50);
    CHECK(times[1] <= 45);
  }
}

TEST_CASE("PollUntil: a deadline in the past makes it one look") {
  int polls = 0, finds = 0;
  Script script;
  script.poll = [&](pollfd& polled, int time) -> long {
    ++polls;
    CHECK(time == 0);
    polled.revents = static_cast<short>(finds != 0 ? polled.events : 0);
    return finds;
  };
  const ScriptedSyscalls sys(script);
  CHECK(Kind(WaitForSyncFile(sys, kFence, In(-1))) == "ETIMEDOUT use a fence");
  finds = 1;
  CHECK(Told(WaitForSyncFile(sys, kFence, In(-1))) == "ok");
  CHECK(polls == 2);
}

TEST_CASE("PollUntil: no file, a broken file and no memory are errors") {
  Script script;
  const ScriptedSyscalls sys(script);
  short says = POLLNVAL;
  script.poll = [&](pollfd& polled, int) -> long { return (polled.revents = says, 1); };
  CHECK(Kind(WaitForSyncFile(sys, kFence, kNoDeadline)) == "EBADF use a fence");
  CHECK(Kind(WaitForDevices(sys, kDmaBuf, Direction::kRead, kNoDeadline)) == "EBADF use a fence");
  says = POLLERR;
  CHECK(Kind(WaitForSyncFile(sys, kFence, kNoDeadline)) == "EIO use a fence");
  script.poll = [](pollfd&, int) -> long { return -ENOMEM; };
  CHECK(Kind(WaitForSyncFile(sys, kFence, kNoDeadline)) == "ENOMEM use a fence");
}

TEST_CASE("WaitForDevices: an error says of which buffer and which act it is") {
  Script script;
  script.poll = [](pollfd&, int) -> long { return -ENOMEM; };
  const Error error =
      WaitForDevices(ScriptedSyscalls(script), kDmaBuf, Direction::kRead, kNoDeadline,
                     {"dma_heap", Operation::kBeginAccess, "system", 8192});
  CHECK(Told(error).starts_with("dma_heap system: begin CPU access 8192 bytes (poll): ENOMEM"));
}

TEST_CASE("sync files: the kernel refuses what is neither a dma-buf nor a sync file") {
  const LeakCheck leaks;
  const UniqueFd memfd(::memfd_create("no dma-buf", MFD_CLOEXEC));
  REQUIRE(memfd.valid());
  const absl::StatusOr<UniqueFd> made = ExportSyncFile(memfd.borrow(), Direction::kRead);
  CHECK(ErrnoOf(made.status()) == ENOTTY);
  CHECK(made.status().message().find("no dma-buf") != made.status().message().npos);
  CHECK(ErrnoOf(ImportSyncFile(memfd.borrow(), memfd.borrow(), Direction::kRead)) == ENOTTY);
  CHECK(ErrnoOf(MergeSyncFiles(memfd.borrow(), memfd.borrow()).status()) == ENOTTY);
  CHECK(ErrnoOf(ExportSyncFile(FdRef(-1), Direction::kRead).status()) == EBADF);
  CHECK(ErrnoOf(MergeSyncFiles(FdRef(-1), memfd.borrow()).status()) == EBADF);
  CHECK(ErrnoOf(WaitForSyncFile(kFence, In(5000))) == EBADF);
  CHECK(ErrnoOf(WaitForDevices(kDmaBuf, Direction::kRead, In(5000))) == EBADF);
}

// ---- Fences of a line of time ----

UniqueFd SystemDmaBuf() { return HeapDmaBuf(64_KiB, O_RDWR, "/dev/dma_heap/system"); }

bool IsOpenAndCloseOnExec(const UniqueFd& fd) { return ::fcntl(fd.get(), F_GETFD) == FD_CLOEXEC; }
std::string WaitFor(const UniqueFd& fence, int time = 0) {
  return Kind(WaitForSyncFile(LinuxSyscalls(), fence.borrow(), In(time)));
}
std::string WaitFor(const UniqueFd& dma_buf, Direction direction, int time = 0) {
  return Kind(WaitForDevices(LinuxSyscalls(), dma_buf.borrow(), direction, In(time)));
}
constexpr const char* kLate = "ETIMEDOUT use a fence";

TEST_CASE("sync files: two that are merged wait for both") {
  const LeakCheck leaks;
  const SwSync device, other;
  const UniqueFd a = device.MakeFence(), b = other.MakeFence();
  if (!a.valid()) return Skip("no sw_sync");
  const absl::StatusOr<UniqueFd> both = MergeSyncFiles(a.borrow(), b.borrow());
  REQUIRE(both.ok());
  CHECK(IsOpenAndCloseOnExec(*both));
  TimesOut([&](Deadline deadline) {
    return WaitForSyncFile(LinuxSyscalls(), both->borrow(), deadline);
  });
  CHECK(device.Signal());
  CHECK(WaitFor(a) == "ok");
  CHECK(WaitFor(*both) == kLate);
  CHECK(other.Signal());
  CHECK(WaitFor(*both) == "ok");
  CHECK(ErrnoOf(MergeSyncFiles(a.borrow(), FdRef(STDERR_FILENO)).status()) == ENOENT);
}

TEST_CASE("sync files: a fence is put on a dma-buf, waited for there, and taken from it") {
  const LeakCheck leaks;
  const UniqueFd dma_buf = SystemDmaBuf();
  if (!dma_buf.valid()) return Skip("no /dev/dma_heap/system");
  const SwSync device;
  const UniqueFd fence = device.MakeFence();
  if (!fence.valid()) return Skip("no sw_sync");
  const absl::Status put = ImportSyncFile(dma_buf.borrow(), fence.borrow(), Direction::kWrite);
  if (ErrnoOf(put) == ENOTTY) {
    CHECK(IsBefore(6, 0));
    CHECK(put.message().find("older than Linux 6.0") != put.message().npos);
    CHECK(ErrnoOf(ExportSyncFile(dma_buf.borrow(), Direction::kRead).status()) == ENOTTY);
    for (const Direction direction : kDirections) CHECK(WaitFor(dma_buf, direction) == "ok");
    return Skip("no DMA_BUF_IOCTL_IMPORT_SYNC_FILE");
  }
  REQUIRE(put.ok());
  for (const Direction direction : kDirections) {
    TimesOut([&](Deadline deadline) {
      return WaitForDevices(LinuxSyscalls(), dma_buf.borrow(), direction, deadline);
    });
  }
  const absl::StatusOr<UniqueFd> taken = ExportSyncFile(dma_buf.borrow(), Direction::kRead);
  REQUIRE(taken.ok());
  CHECK(IsOpenAndCloseOnExec(*taken));
  CHECK(WaitFor(*taken) == kLate);
  std::jthread signals([&] {
    std::this_thread::sleep_for(milliseconds(30));
    CHECK(device.Signal());
  });
  CHECK(WaitFor(dma_buf, Direction::kReadWrite, 5000) == "ok");
  CHECK(WaitFor(*taken) == "ok");
  CHECK(ErrnoOf(ImportSyncFile(dma_buf.borrow(), dma_buf.borrow(), Direction::kRead)) == EINVAL);
}

// On every kernel: 5.10 has no other way to wait.
TEST_CASE("WaitForDevices: a driver's fence ends at the deadline, or when it is signalled") {
  const LeakCheck leaks;
  for (const Direction device : {Direction::kRead, Direction::kWrite}) {
    const UniqueFd dma_buf = SystemDmaBuf();
    if (!dma_buf.valid()) return Skip("no /dev/dma_heap/system");
    VgemFence fence;
    if (!fence.exists()) return Skip("no vgem");
    REQUIRE(fence.PutOn(dma_buf.borrow(), device));
    TimesOut([&](Deadline deadline) {
      return WaitForDevices(LinuxSyscalls(), dma_buf.borrow(), Direction::kWrite, deadline);
    });
    CHECK(WaitFor(dma_buf, Direction::kRead) == (Writes(device) ? kLate : "ok"));
    CHECK(fence.Signal());
    CHECK(WaitFor(dma_buf, Direction::kReadWrite) == "ok");
  }
}

TEST_CASE("sync files: a device that reads is waited for by writers alone") {
  const LeakCheck leaks;
  const UniqueFd dma_buf = SystemDmaBuf();
  if (!dma_buf.valid()) return Skip("no /dev/dma_heap/system");
  const SwSync device;
  const UniqueFd fence = device.MakeFence();
  if (!fence.valid()) return Skip("no sw_sync");
  const absl::Status put = ImportSyncFile(dma_buf.borrow(), fence.borrow(), Direction::kRead);
  if (ErrnoOf(put) == ENOTTY) return Skip("no DMA_BUF_IOCTL_IMPORT_SYNC_FILE");
  REQUIRE(put.ok());
  CHECK(WaitFor(dma_buf, Direction::kRead) == "ok");
  CHECK(WaitFor(dma_buf, Direction::kWrite) == kLate);
  CHECK(WaitFor(*ExportSyncFile(dma_buf.borrow(), Direction::kRead)) == "ok");
  CHECK(WaitFor(*ExportSyncFile(dma_buf.borrow(), Direction::kWrite)) == kLate);
  CHECK(device.Signal());
  CHECK(WaitFor(dma_buf, Direction::kWrite) == "ok");
}

}  // namespace
}  // namespace ion::testing
