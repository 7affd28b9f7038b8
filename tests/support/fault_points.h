// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fault_points.h
//
// Whether a fault point is survived: one call of a scenario, failing with one errno. It is when
//   - the errno comes back as it was, with the operation and the call, from where a Status can be
//     returned, or else in the error sink;
//   - the process holds the same descriptors and mappings as before, and the budget the same bytes;
//   - the same scenario then succeeds without a fault.
//
// Example:
//   Rig<MemfdBackend<FaultSyscalls>> rig;
//   const Scenario<…> release{"release", Operation::kRelease, [](auto& rig) {
//     absl::StatusOr<Buffer> buffer = rig.client().Allocate({.bytes = 4096});   // never fails
//     const typename Rig<…>::Window window(rig);                                 // from here: may
//     *buffer = Buffer();
//   }};
//   CHECK(TryFault(rig, release, 0, {.call = "close"}, EIO).empty());
#ifndef ION_TESTS_SUPPORT_FAULT_POINTS_H_
#define ION_TESTS_SUPPORT_FAULT_POINTS_H_

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/memfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/cpu_sync.h"
#include "ion/heap_id.h"
#include "ion/platforms/heaps.h"
#include "ion/request.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/lent_pages.h"

namespace ion::testing {

// Tried again by the library, whoever asks: the user never sees it.
inline bool IsRetried(const Step& step, int code) {
  const bool ioctl = step.call.starts_with("ioctl ");
  if (code == EINTR) return ioctl || step.call == "openat" || step.call == "poll";
  return code == EAGAIN && step.call == "ioctl DMA_BUF_IOCTL_SYNC";
}

// A region of the handle ABI frees late, so that an allocation from it waits and asks again; not
// where a backend only looks which heaps there are.
inline bool IsWaitedFor(const Step& step, int code, Operation operation) {
  return code == ENOMEM && step.of_region && operation != Operation::kOpen;
}

// What is read to learn how much memory the kernel lets this process have.
inline bool IsOfMemoryLimits(const Step& step) {
  return step.path == "/proc/sys/vm/overcommit_memory" || step.path == "/proc/self/cgroup" ||
         step.path == "/proc/self/mountinfo" || step.path.find("/memory.") != std::string::npos;
}

// The faults that are no errors: kernels before 5.14 have no such file, most ION kernels tell no
// version, and the handle ABI says EINVAL to no handle, and mostly knows no query. A mapping that
// does not take an advice needs none, or tells by that what it is. A limit of memory that cannot be
// read is not known.
inline bool IsFallback(const Step& step, int code, std::string_view backend) {
  if (code == EINVAL && step.call.starts_with("madvise ")) {
    return step.call != "madvise MADV_DONTFORK";
  }
  if (code == ENOTTY && step.call == "ioctl ION_IOC_ABI_VERSION") return true;
  if (code == ENOTTY && step.call == "ioctl FIOQSIZE") return true;
  if (code == EBADF && step.call == "fcntl F_GETPIPE_SZ") return true;
  // The kernel's version is for advice only.
  if (step.call == "uname") return true;
  // A driver without a display does not tell of dumb buffers, and is asked for one. A card may have
  // another master, and before Linux 5.8 only root ceases to be it.
  if (code == EOPNOTSUPP && step.call == "ioctl DRM_IOCTL_GET_CAP") return true;
  if (step.call == "ioctl DRM_IOCTL_DROP_MASTER") return code == EINVAL || code == EACCES;
  // Where buffers cannot be compared, an import is another handle.
  if (step.call == "kcmp") return true;
  // A kernel before Linux 6.3, or a sandbox, may not know this flag.
  if (step.call == "memfd_create MFD_NOEXEC_SEAL") {
    return code == EINVAL || code == EPERM || code == EACCES || code == ENOSYS;
  }
  if (IsOfMemoryLimits(step)) return true;
  if (backend == "ion_legacy") {
    if (code == EINVAL && step.call == "ioctl ION_IOC_FREE of no handle") return true;
    return (code == EINVAL || code == ENOTTY) && step.call == "ioctl ION_IOC_HEAP_QUERY";
  }
  // Without sysfs the name of a heap is that of its node.
  if (step.call == "openat" && step.path.starts_with("/sys/dev/char/")) {
    return code == ENOENT || code == EACCES || code == EPERM;
  }
  return code == ENOENT && step.path.starts_with("/sys/module/udmabuf/parameters/");
}

// The handle ABI's heaps are found by trying: one that has no room then is there all the same, so
// its errno is reported, and not returned.
inline bool IsFullHeap(const Step& step, int code, Operation operation, std::string_view backend) {
  return backend == "ion_legacy" && operation == Operation::kOpen &&
         step.call == "ioctl ION_IOC_ALLOC" && (code == ENOMEM || code == EPERM);
}

// A handle that a driver does not destroy: its buffer is one all the same, so it is reported.
inline bool IsOfHandle(const Step& step) {
  return step.call == "ioctl DRM_IOCTL_MODE_DESTROY_DUMB";
}

// What the library said was wrong.
struct Problem {
  int code;
  std::string text;
  bool returned;  // or reported to the error sink
};

// A backend under a Manager, what it says, and the part of a scenario in which calls may fail.
template <class B>
class Rig {
 public:
  using Backend = B;
  using Sys = decltype(B::Options::sys);
  using Manager = ion::platforms::Heaps<B>;
  using Client = typename Manager::Client;

  Rig() {
    absl::StatusOr<Manager> opened = Manager::Open(Options());
    if (opened.ok()) {
      manager_.emplace(*std::move(opened));
      absl::StatusOr<Client> client = manager_->CreateClient({.name = "faults"});
      if (client.ok()) client_.emplace(*std::move(client));
    } else {
      refusal_ = std::string(opened.status().message());
    }
  }

  bool opened() const { return client_.has_value(); }
  const std::string& refusal() const { return refusal_; }
  Manager& manager() { return *manager_; }
  Client& client() { return *client_; }
  B& backend() { return manager_->backend(); }
  Faults& faults() { return *faults_; }
  Sys sys() const { return Sys(faults_); }
  Budget& budget() { return *budget_; }
  std::vector<Problem>& problems() { return problems_; }

  typename B::Options Options() {
    typename B::Options options;
    options.sys = sys();
    options.budget = budget_;
    options.errors = errors_;
    return options;
  }
  // Each heap that a Manager of this backend has.
  std::vector<HeapId> HeapIds() {
    std::vector<HeapId> ids;
    for (unsigned id = 0; id < HeapId::kCount; ++id) {
      if (manager().heaps().contains(*HeapId::From(id))) ids.push_back(*HeapId::From(id));
    }
    return ids;
  }
  // The numbers of the kernel heaps that can be used.
  std::vector<uint32_t> KernelHeaps() {
    std::vector<uint32_t> numbers;
    for (uint32_t i = 0; i < backend().heaps().size(); ++i) {
      if (backend().heaps()[i].unusable.ok()) numbers.push_back(i);
    }
    return numbers;
  }

  // Takes down what was returned. True where it is no error.
  bool Note(const absl::Status& status) {
    if (!status.ok()) {
      problems_.push_back({ErrnoOf(status), std::string(status.message()), true});
    }
    return status.ok();
  }
  bool Note(const Error& error) { return Note(ToStatus(error)); }

  // Calls may fail as `plan` says while one of these lives.
  class Window {
   public:
    explicit Window(Rig& rig) : faults_(rig.faults()) { faults_.Begin(rig.plan_); }
    ~Window() { faults_.End(); }
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

   private:
    Faults& faults_;
  };
  void Plan(const Faults::Plan& plan) { plan_ = plan; }

 private:
  static void TakeReport(const Error& error, void* problems) {
    if (TellsOfLentPages(error)) return;
    static_cast<std::vector<Problem>*>(problems)->push_back({error.code(), Describe(error), false});
  }

  std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
  std::shared_ptr<Budget> budget_ = std::make_shared<Budget>(uint64_t{64} << 20);
  std::shared_ptr<ErrorSink> errors_ = std::make_shared<ErrorSink>(&Rig::TakeReport, &problems_);
  std::vector<Problem> problems_;
  Faults::Plan plan_;
  std::optional<Manager> manager_;
  std::optional<Client> client_;
  std::string refusal_;
};

// What a scenario allocates.
inline uint64_t Bytes() { return 3 * PageBytes(); }

using Calls = std::set<std::string_view>;
inline const Calls kClosing = {"close", "munmap", "ioctl ION_IOC_FREE"};

template <class B>
struct Scenario {
  // A constructor, as g++ 12 does not take a member's default value here.
  Scenario(std::string its_name, Operation its_operation, std::function<void(Rig<B>&)> act,
           Calls its_unreturned = kClosing, bool its_relieved = false)
      : name(std::move(its_name)),
        operation(its_operation),
        run(std::move(act)),
        unreturned(std::move(its_unreturned)),
        relieved(its_relieved) {}

  std::string name;
  Operation operation;  // of the calls that are not always the same operation
  std::function<void(Rig<B>&)> run;
  Calls unreturned;  // those whose error nobody is there to take
  bool relieved;     // a shortage gives back what lies idle, and all is tried again
  // The operations that `operation` is followed by, if one call does several.
  std::vector<Operation> later = {};
};

inline Operation OperationOf(const Step& step, Operation otherwise, std::string_view backend) {
  if (step.call == "close" || step.call == "ioctl ION_IOC_FREE" || IsOfHandle(step)) {
    return Operation::kRelease;
  }
  if (step.call == "munmap") return Operation::kUnmap;
  if (step.call.starts_with("mmap") || step.call == "madvise MADV_DONTFORK" ||
      step.call == "madvise MADV_POPULATE_WRITE") {
    return Operation::kMap;
  }
  // A poll is of a proof, but for that of memory that is to be zeroed.
  const bool zeroes = backend == "ion_legacy" || otherwise == Operation::kMap;
  if (step.call == "poll" && zeroes) return Operation::kBeginAccess;
  if (step.call == "poll" || step.call.starts_with("madvise ")) return Operation::kProve;
  // What is read is fdinfo: for a proof, or to learn what a descriptor is; but for what is read to
  // open a backend.
  const bool looks = otherwise == Operation::kImport || otherwise == Operation::kKeep;
  if (step.path.starts_with("/proc/self/fdinfo/") && step.call != "close") {
    return looks ? otherwise : Operation::kProve;
  }
  if (step.call == "ioctl DMA_BUF_SET_NAME") return Operation::kName;
  if (step.call == "ioctl ION_IOC_SYNC") return Operation::kEndAccess;
  if (step.call != "ioctl DMA_BUF_IOCTL_SYNC") return otherwise;
  return (step.sync_flags & DMA_BUF_SYNC_END) != 0 ? Operation::kEndAccess
                                                   : Operation::kBeginAccess;
}

// What the library calls a system call: the ioctl's or fcntl's command where it is one.
inline std::string WhatOf(const Step& step) {
  if (step.call == "openat") return "open";
  if (step.call.starts_with("memfd_create")) return "memfd_create";
  if (step.call == "mmap MAP_PRIVATE") return "mmap";
  const size_t blank = step.call.find(' ');
  return std::string(blank == step.call.npos ? step.call : step.call.substr(blank + 1));
}

// Does what the library said carry the fault? Each sentence says how it does not.
template <class B>
std::vector<std::string> Judge(const Scenario<B>& scenario, const std::vector<Problem>& problems,
                               const Step& step, int code) {
  std::vector<std::string> wrong;
  // Memory without pages is a shortage, whatever the kernel calls it.
  const bool shortage =
      code == ENOMEM || code == ENFILE || code == EMFILE ||
      (step.call == "madvise MADV_POPULATE_WRITE" && (code == EFAULT || code == EHWPOISON));
  const bool unreturned = scenario.unreturned.contains(step.call) || IsOfHandle(step);
  const bool relieved = scenario.relieved && !unreturned && shortage;
  if (relieved || IsRetried(step, code) || IsFallback(step, code, B::kName) ||
      IsWaitedFor(step, code, scenario.operation)) {
    for (const Problem& problem : problems) wrong.push_back("seen: " + problem.text);
    return wrong;
  }
  if (problems.empty()) return {"lost: no error was returned or reported"};
  const bool returned = !unreturned && !IsFullHeap(step, code, scenario.operation, B::kName);
  std::vector<Operation> operations = scenario.later;
  operations.insert(operations.begin(), scenario.operation);
  bool carried = false;
  for (const Problem& problem : problems) {
    const auto says = [&](const std::string& word) {
      return problem.text.find(word) != std::string::npos;
    };
    if (problem.code != code || !says(": " + ErrnoName(code))) {
      wrong.push_back("another errno: " + problem.text);
    } else if (!says("(" + WhatOf(step)) ||
               std::ranges::none_of(operations, [&](Operation operation) {
                 return says(": " +
                             std::string(OperationName(OperationOf(step, operation, B::kName))));
               })) {
      wrong.push_back("does not name the operation: " + problem.text);
    }
    carried |= problem.returned == returned;
  }
  if (!carried) {
    wrong.push_back(returned ? "only in the error sink: " + problems[0].text
                             : "not in the error sink: " + problems[0].text);
  }
  return wrong;
}

// What the process holds of the kernel, a line each.
inline std::set<std::string> Held() {
  std::istringstream descriptors(DescriptorLines()), mappings(DeviceMappings());
  std::set<std::string> held;
  for (std::string line; std::getline(descriptors, line);) held.insert("fd " + line);
  for (std::string line; std::getline(mappings, line);) held.insert("mapping " + line);
  return held;
}

// One sentence for each thing that is held now and was not before, or was and is not.
inline std::vector<std::string> Changes(const std::set<std::string>& before) {
  const std::set<std::string> now = Held();
  std::vector<std::string> changes;
  for (const std::string& thing : now) {
    if (!before.contains(thing)) changes.push_back("leaked " + thing);
  }
  for (const std::string& thing : before) {
    if (!now.contains(thing)) changes.push_back("lost " + thing);
  }
  return changes;
}

// Once, for a backend that finds out then what the kernel knows.
template <class B>
void Warm(Rig<B>& rig, B& backend) {
  Block block;
  if (!rig.Note(backend.Allocate(rig.KernelHeaps()[0], Bytes(), Flags::kCached, {}, block))) return;
  rig.Note(backend.BeginCpuAccess(block, Direction::kRead));
  rig.Note(backend.EndCpuAccess(block, Direction::kRead));
  rig.Note(backend.Release(block));
}

// Runs a scenario without a fault. Empty where it succeeds and leaves nothing behind.
template <class B>
std::vector<std::string> RunClean(Rig<B>& rig, const Scenario<B>& scenario) {
  const std::set<std::string> before = Held();
  const uint64_t held = rig.budget().held();
  std::vector<std::string> wrong;
  scenario.run(rig);
  for (const Problem& problem : std::exchange(rig.problems(), {})) {
    wrong.push_back("without a fault: " + problem.text);
  }
  for (const std::string& change : Changes(before)) wrong.push_back("without a fault: " + change);
  if (rig.budget().held() != held) wrong.push_back("without a fault: leaked bytes of the budget");
  return wrong;
}

// One fault point. Empty where it is survived.
template <class B>
std::vector<std::string> TryFault(Rig<B>& rig, const Scenario<B>& scenario, size_t n,
                                  const Step& expected, int code) {
  const std::set<std::string> before = Held();
  const uint64_t held = rig.budget().held();
  rig.Plan({.n = n, .code = code, .times = IsRetried(expected, code) ? 3u : 1u});
  scenario.run(rig);
  rig.Plan({});
  const std::vector<Problem> problems = std::exchange(rig.problems(), {});
  if (!rig.faults().failed().has_value() || rig.faults().failed()->call != expected.call) {
    return {"the call was not made this time"};
  }
  std::vector<std::string> wrong = Judge(scenario, problems, *rig.faults().failed(), code);
  if (expected.call == "munmap") {
    // The next slow edge drops the mapping that was kept.
    Block block;
    rig.Note(rig.backend().Allocate(rig.KernelHeaps()[0], 1, Flags::kNone, {}, block));
    rig.Note(rig.backend().Release(block));
    for (const Problem& problem : std::exchange(rig.problems(), {})) {
      wrong.push_back("at the next slow edge: " + problem.text);
    }
  }
  for (std::string& change : Changes(before)) wrong.push_back(std::move(change));
  if (rig.budget().held() != held) {
    wrong.push_back("leaked bytes of the budget: " + std::to_string(rig.budget().held() - held));
  }
  for (std::string& sentence : RunClean(rig, scenario)) {
    wrong.push_back("the next try " + std::move(sentence));
  }
  return wrong;
}

// One sentence a line.
inline std::string Joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n    " + line;
  return text;
}

// What scenarios are made of.

// A memfd as its owner makes it for others, or one that could still be cut.
inline UniqueFd MakeMemfd(bool sealed) {
  UniqueFd memfd(
      static_cast<int>(::syscall(SYS_memfd_create, "theirs", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  if (::ftruncate(memfd.get(), static_cast<off_t>(Bytes())) != 0) return {};
  if (sealed && ::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) return {};
  return memfd;
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAULT_POINTS_H_
