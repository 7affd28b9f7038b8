// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Limits that end a process where nobody looks: under strict overcommit a page that was not counted
// is SIGBUS when it is first touched, and past RLIMIT_FSIZE a memfd that grows is SIGXFSZ. Both are
// an error of Allocate.

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/backends/sealed_memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/child.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/moved_files.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

constexpr const char* kMode = "/proc/sys/vm/overcommit_memory";

// A kernel that says it commits strictly, and does not.
class StrictKernel : public LinuxSyscalls {
 public:
  long Open(const char* path, int flags) const noexcept {
    if (std::string_view(path) != kMode) return LinuxSyscalls::Open(path, flags);
    const long fd = MemfdCreate("mode", 0);
    (void)Write(static_cast<int>(fd), "2\n", 2);
    (void)Lseek(static_cast<int>(fd), 0, SEEK_SET);
    return fd;
  }
};
using StrictMemfd = MemfdBackend<FaultSyscallsOver<StrictKernel>>;

uint64_t PagesOf(const Block& block) {
  struct stat status {};
  REQUIRE(::fstat(block.fd, &status) == 0);
  return static_cast<uint64_t>(status.st_blocks) * 512 / PageBytes();
}

TEST_CASE("MemfdBackend: under strict overcommit a buffer has its pages") {
  const LeakCheck leaks;
  const auto faults = std::make_shared<Faults>();
  auto backend = StrictMemfd::Open({.sys = FaultSyscallsOver<StrictKernel>(faults)});
  REQUIRE(backend.ok());
  for (const uint64_t bytes : {uint64_t{1}, 3_MiB + 1}) {
    CAPTURE(bytes);
    Block block;
    REQUIRE(backend->Allocate(0, bytes, Flags::kNone, {}, block).ok());
    CHECK(PagesOf(block) == *RoundUpToPages(bytes) / PageBytes());
    CHECK(backend->Release(block).ok());
  }
}

TEST_CASE("MemfdBackend: else it has none before they are touched") {
  const LeakCheck leaks;
  const TempDir dir;
  for (const std::string_view mode : {"0\n", "1\n", "", "?", "12\n"}) {
    CAPTURE(mode);
    Moved moved;
    moved.to[kMode] = dir.File("mode", mode);
    auto backend = MemfdBackend<MovedFiles>::Open({.sys = MovedFiles(&moved)});
    REQUIRE(backend.ok());
    Block block;
    REQUIRE(backend->Allocate(0, 1_MiB, Flags::kNone, {}, block).ok());
    CHECK(PagesOf(block) == 0);
    CHECK(backend->Release(block).ok());
  }
  Moved moved;
  moved.to[kMode] = "";
  CHECK_FALSE(CommitsStrictly(MovedFiles(&moved)));
}

TEST_CASE("MemfdBackend: what fallocate says is handed on; a full kernel is ENOMEM") {
  const LeakCheck leaks;
  const auto faults = std::make_shared<Faults>();
  auto backend = StrictMemfd::Open({.sys = FaultSyscallsOver<StrictKernel>(faults)});
  REQUIRE(backend.ok());
  // The first piece, and one behind others.
  for (const size_t n : {size_t{0}, size_t{2}}) {
    for (const int code : {ENOSPC, ENOMEM, EIO, EOPNOTSUPP, ENODEV, EFBIG, EPERM}) {
      CAPTURE(code);
      Block block;
      faults->Begin({.n = n, .call = "fallocate", .code = code});
      const Error error = backend->Allocate(0, 3_MiB, Flags::kNone, {}, block);
      faults->End();
      CHECK(error.code() == (code == ENOSPC ? ENOMEM : code));
      CHECK(Describe(error).find("(fallocate)") != std::string::npos);
      CHECK((Describe(error).find("overcommit") != std::string::npos) == (error.code() == ENOMEM));
      CHECK_FALSE(block.filled());
      CHECK(backend->budget().held() == 0);
    }
  }
  Block block;
  faults->Begin({.n = 0, .call = "fallocate", .code = EINTR, .times = 3});
  CHECK(backend->Allocate(0, 1, Flags::kNone, {}, block).ok());
  faults->End();
  CHECK(backend->Release(block).ok());
}

bool LimitFiles(uint64_t bytes) {
  const rlimit limit{bytes, bytes};
  return ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
}
bool SignalWaits() {
  sigset_t waiting;
  ::sigpending(&waiting);
  return ::sigismember(&waiting, SIGXFSZ) == 1;
}

TEST_CASE("MemfdBackend: past RLIMIT_FSIZE it is EFBIG, and the process lives") {
  const LeakCheck leaks;
  const ChildEnd end = RunInChild([]() -> std::string {
    if (!LimitFiles(1_MiB)) return "no limit";
    auto manager = Manager<MemfdBackend<>, SystemHeap<MemfdBackend<>>>::Open();
    if (!manager.ok()) return "not opened";
    const absl::Status status = manager->Allocate({.bytes = 8_MiB}).status();
    if (ErrnoOf(status) != EFBIG) return "another errno: " + std::string(status.message());
    if (status.message().find("ulimit -f") == status.message().npos) return "no advice";
    if (!manager->Allocate({.bytes = 1_MiB}).ok()) return "what fits is refused";
    if (SignalWaits()) return "the signal waits for somebody";
    sigset_t mask;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    if (::sigismember(&mask, SIGXFSZ) != 0) return "the signal stays blocked";
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.signal == 0);
  CHECK(end.exit_code == 0);
}

TEST_CASE("LinuxSyscalls: the program's own SIGXFSZ stays what it was") {
  const LeakCheck leaks;
  for (const bool pending : {false, true}) {
    CAPTURE(pending);
    const ChildEnd end = RunInChild([pending]() -> std::string {
      const LinuxSyscalls sys;
      const auto fd = static_cast<int>(sys.MemfdCreate("m", 0));
      if (!LimitFiles(4096)) return "no limit";
      sigset_t one, mask;
      ::sigemptyset(&one);
      ::sigaddset(&one, SIGXFSZ);
      ::pthread_sigmask(SIG_BLOCK, &one, nullptr);
      if (pending) ::raise(SIGXFSZ);
      if (sys.Ftruncate(fd, 8192) != -EFBIG) return "it is not refused";
      if (SignalWaits() != pending) return "a signal came, or was taken";
      ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      if (::sigismember(&mask, SIGXFSZ) != 1) return "it is not blocked any more";
      if (sys.Ftruncate(fd, 4096) != 0 || sys.Fallocate(fd, 0, 4096) != 0) return "it is refused";
      if (sys.Fallocate(fd, 0, 8192) != -EFBIG) return "it is not refused";
      return SignalWaits() == pending ? "" : "a signal came, or was taken";
    });
    CHECK(end.text == "");
    CHECK(end.signal == 0);
  }
}

// ---- on a kernel that means it: in a guest, as the setting is everybody's ----

void Put(const char* file, uint64_t value) { std::ofstream(file) << value << std::flush; }
uint64_t CommittedKib() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  uint64_t kib = 0;
  while (file >> word && word != "Committed_AS:") {
  }
  file >> kib;
  return kib;
}

template <class M>
std::string AllocateTooMuch(HeapMask heap) {
  auto manager = M::Open();
  if (!manager.ok()) return std::string(manager.status().message());
  const absl::Status status = manager->Allocate({.bytes = 32_MiB, .heaps = heap}).status();
  if (ErrnoOf(status) != ENOMEM) return "32 MiB: " + status.ToString();
  return "";
}
template <class M>
std::string AllocateAndWrite() {
  auto manager = M::Open();
  auto buffer = manager->Allocate({.bytes = 2_MiB});
  if (!buffer.ok()) return buffer.status().ToString();
  auto mapping = WritableMapping::Of(*buffer);
  if (!mapping.ok()) return mapping.status().ToString();
  auto access = CpuWrite::Begin(*mapping);
  for (std::byte& each : access->bytes()) each = std::byte{1};
  return "";
}

using Memfd = MemfdBackend<>;
using Udmabuf = UdmabufBackend<>;

TEST_CASE_TEMPLATE("Allocate: what strict overcommit refuses is ENOMEM, and the process lives", B,
                   Memfd, Udmabuf) {
  if (!std::filesystem::exists("/run/guest/command")) return Skip("this is no guest");
  if (!B::Open({}).ok()) return Skip("there is no such backend here");
  const LeakCheck leaks;
  static constexpr HeapSpec kRange{.type = HeapType::kCarveout, .id = 2, .bytes = 64_MiB};
  using Pooled = Manager<B, PooledHeap<SystemHeap<B>>, CarveoutHeap<B, kRange>>;
  using Plain = Manager<B, SystemHeap<B>>;
  Put("/proc/sys/vm/overcommit_kbytes", CommittedKib() + 24 * 1024);
  Put(kMode, 2);
  const auto run = [](auto f) {
    const ChildEnd end = RunInChild(f);
    CHECK(end.text == "");
    CHECK(end.signal == 0);
  };
  run([] { return AllocateTooMuch<Pooled>(HeapId{0}); });
  run([] { return AllocateTooMuch<Pooled>(HeapId{2}); });
  run([] { return AllocateTooMuch<Plain>(HeapId{0}); });
  run([] { return AllocateAndWrite<Pooled>(); });
  run([] { return AllocateAndWrite<Plain>(); });
  Put(kMode, 0);
}

}  // namespace
}  // namespace ion::testing
