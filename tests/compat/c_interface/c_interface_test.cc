// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The C interface (compat/include/ion_c.h): its whole life, its misuse, and each of its system calls
// and allocations failed in turn.

#include "compat/c/c_interface.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "compat/include/ion_c.h"
#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/status.h"
#include "ion/platforms/any_backend.h"
#include "ion/platforms/pooled.h"
#include "tests/support/child.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fake_platforms.h"
#include "tests/support/fault_new.h"
#include "tests/support/fault_points.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/lent_pages.h"
#include "tests/support/open_files.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

// A manager and a client over memfd, which every machine has.
struct Opened {
  explicit Opened(const char* backends = "memfd", uint64_t quota_bytes = 0) {
    const ion_c_manager_options manager_options{.backends = backends};
    REQUIRE(ion_c_manager_open(&manager_options, &manager, nullptr) == 0);
    const ion_c_client_options client_options{.name = "camera", .quota_bytes = quota_bytes};
    REQUIRE(ion_c_client_create(manager, &client_options, &client, nullptr) == 0);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() {
    CHECK(ion_c_client_close(client, nullptr) == 0);
    CHECK(ion_c_manager_close(manager, nullptr) == 0);
  }
  ion_c_buffer* Allocate(uint64_t bytes = PageBytes()) {
    const ion_c_request request{.bytes = bytes, .name = "frame"};
    ion_c_buffer* buffer = nullptr;
    CHECK(ion_c_allocate(client, &request, &buffer, nullptr) == 0);
    return buffer;
  }

  ion_c_manager* manager = nullptr;
  ion_c_client* client = nullptr;
};

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string ReportOf(ion_c_manager* manager) {
  size_t needed = 0;
  REQUIRE(ion_c_report(manager, nullptr, 0, &needed, nullptr) == 0);
  std::string text(needed + 100, 'x');  // another thread's buffer may have come
  REQUIRE(ion_c_report(manager, text.data(), text.size(), nullptr, nullptr) == 0);
  return text.c_str();
}

TEST_CASE("CInterface: memory is allocated, written, shared, imported, read and released") {
  const LeakCheck leaks;
  Opened opened;
  ion_c_error error;
  ion_c_buffer* const frame = opened.Allocate(3 * PageBytes());
  void* at = nullptr;
  REQUIRE(ion_c_map(frame, ION_C_READ | ION_C_WRITE, &at, &error) == 0);
  CHECK(error.code == 0);
  CHECK(std::string_view(error.text).empty());
  REQUIRE(ion_c_begin(frame, ION_C_WRITE, -1, &error) == 0);
  std::memset(at, 0x5a, 3 * PageBytes());
  REQUIRE(ion_c_end(frame, &error) == 0);

  // The mapping outlives that the buffer is kept.
  int fd = -1;
  REQUIRE(ion_c_share(frame, &fd, &error) == 0);
  CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(static_cast<const char*>(at)[PageBytes()] == 0x5a);

  ion_c_client* viewer = nullptr;
  REQUIRE(ion_c_client_create(opened.manager, nullptr, &viewer, &error) == 0);
  ion_c_buffer* view = nullptr;
  REQUIRE(ion_c_import(viewer, fd, &view, &error) == 0);
  CHECK(view != frame);
  CHECK(::close(fd) == 0);
  void* seen = nullptr;
  REQUIRE(ion_c_map(view, ION_C_READ, &seen, &error) == 0);
  REQUIRE(ion_c_begin(view, ION_C_READ, 1000, &error) == 0);
  CHECK(std::memcmp(seen, at, 3 * PageBytes()) == 0);
  REQUIRE(ion_c_end(view, &error) == 0);
  REQUIRE(ion_c_unmap(view, &error) == 0);

  uint64_t held = 0;
  CHECK(ion_c_client_held(opened.client, &held, &error) == 0);
  CHECK(held >= 3 * PageBytes());
  const std::string report = ReportOf(opened.manager);
  CHECK(Has(report, "camera"));
  CHECK(Has(report, "memfd"));
  char cut[40];
  CHECK(ion_c_report(opened.manager, cut, sizeof(cut), nullptr, &error) == -ENOSPC);
  CHECK(report.starts_with(cut));
  CHECK(std::strlen(cut) == sizeof(cut) - 1);
  char name[8];
  CHECK(ion_c_manager_backend(opened.manager, name, sizeof(name), &error) == 0);
  CHECK(std::string_view(name) == "memfd");
  CHECK(ion_c_manager_backend(opened.manager, name, 4, &error) == 0);
  CHECK(std::string_view(name) == "mem");

  REQUIRE(ion_c_release(view, &error) == 0);
  REQUIRE(ion_c_client_close(viewer, &error) == 0);
  REQUIRE(ion_c_unmap(frame, &error) == 0);
  REQUIRE(ion_c_release(frame, &error) == 0);
}

TEST_CASE("CInterface: an import of one's own memory is the same buffer, with one release more") {
  const LeakCheck leaks;
  Opened opened;
  ion_c_buffer* const frame = opened.Allocate();
  int fd = -1;
  REQUIRE(ion_c_share(frame, &fd, nullptr) == 0);
  ion_c_buffer* again = nullptr;
  REQUIRE(ion_c_import(opened.client, fd, &again, nullptr) == 0);
  CHECK(again == frame);
  ion_c_info info;
  REQUIRE(ion_c_describe(frame, &info, nullptr) == 0);
  CHECK(info.releases == 2);
  CHECK(info.kept == 1);
  CHECK(info.heap == 0);
  CHECK(info.bytes == PageBytes());
  CHECK(info.cached == ION_C_YES);
  CHECK(info.contiguous != ION_C_YES);
  CHECK(ion_c_release(frame, nullptr) == 0);
  CHECK(ion_c_describe(frame, &info, nullptr) == 0);
  CHECK(ion_c_release(frame, nullptr) == 0);
  CHECK(ion_c_release(frame, nullptr) == -EINVAL);
  // The memory lives by the descriptor, and is somebody else's now.
  REQUIRE(ion_c_import(opened.client, fd, &again, nullptr) == 0);
  CHECK(again != frame);
  CHECK(ion_c_release(again, nullptr) == 0);
  ::close(fd);
}

TEST_CASE("CInterface: pools are behind it, and are trimmed") {
  const LeakCheck leaks;
  Opened opened;
  for (int i = 0; i < 3; ++i) CHECK(ion_c_release(opened.Allocate(), nullptr) == 0);
  CHECK(Has(ReportOf(opened.manager), " 2          1         "));  // hits, misses
  CHECK(ion_c_manager_tick(opened.manager, nullptr) == 0);
  uint64_t freed = 0;
  CHECK(ion_c_manager_trim(opened.manager, UINT64_MAX, &freed, nullptr) == 0);
  CHECK(freed == PageBytes());
  CHECK(ion_c_manager_trim(opened.manager, UINT64_MAX, nullptr, nullptr) == 0);
}

TEST_CASE("CInterface: a thread that gives idle memory back can be had") {
  const ion_c_manager_options options{.backends = "memfd", .flags = ION_C_RECLAIM};
  ion_c_manager* manager = nullptr;
  REQUIRE(ion_c_manager_open(&options, &manager, nullptr) == 0);
  CHECK(ion_c_manager_close(manager, nullptr) == 0);
}

TEST_CASE("CInterface: what must not be NULL is told, and no result is left") {
  ion_c_error error;
  Opened opened;
  ion_c_buffer* buffer = opened.Allocate();
  ion_c_buffer* result = buffer;
  void* at = &error;
  int fd = 3;
  CHECK(ion_c_manager_open(nullptr, nullptr, &error) == -EINVAL);
  CHECK(error.code == EINVAL);
  CHECK(Has(error.text, "manager"));
  CHECK(ion_c_manager_close(nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_manager_backend(nullptr, error.text, 10, nullptr) == -EINVAL);
  CHECK(ion_c_manager_backend(opened.manager, nullptr, 10, nullptr) == -EINVAL);
  CHECK(ion_c_manager_backend(opened.manager, error.text, 0, nullptr) == -EINVAL);
  CHECK(ion_c_manager_trim(nullptr, 0, nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_manager_tick(nullptr, nullptr) == -EINVAL);
  size_t needed = 1;
  CHECK(ion_c_report(nullptr, nullptr, 0, &needed, nullptr) == -EINVAL);
  CHECK(needed == 0);
  CHECK(ion_c_report(opened.manager, nullptr, 0, nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_report(opened.manager, nullptr, 9, &needed, nullptr) == -EINVAL);
  ion_c_client* client = opened.client;
  CHECK(ion_c_client_create(nullptr, nullptr, &client, &error) == -EINVAL);
  CHECK(Has(error.text, "NULL"));
  CHECK(client == nullptr);
  CHECK(ion_c_client_create(opened.manager, nullptr, nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_client_close(nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_client_held(opened.client, nullptr, nullptr) == -EINVAL);
  const ion_c_request request{.bytes = 1};
  CHECK(ion_c_allocate(nullptr, &request, &result, nullptr) == -EINVAL);
  CHECK(result == nullptr);
  CHECK(ion_c_allocate(opened.client, nullptr, &result, nullptr) == -EINVAL);
  CHECK(ion_c_allocate(opened.client, &request, nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_map(buffer, ION_C_READ, nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_map(nullptr, ION_C_READ, &at, nullptr) == -EINVAL);
  CHECK(at == nullptr);
  CHECK(ion_c_share(nullptr, &fd, nullptr) == -EINVAL);
  CHECK(fd == -1);
  CHECK(ion_c_share(buffer, nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_import(opened.client, 0, nullptr, nullptr) == -EINVAL);
  CHECK(ion_c_describe(buffer, nullptr, nullptr) == -EINVAL);
  for (const auto call : {ion_c_release, ion_c_unmap, ion_c_end, ion_c_keep}) {
    CHECK(call(nullptr, nullptr) == -EINVAL);
  }
  CHECK(ion_c_begin(nullptr, ION_C_READ, 0, nullptr) == -EINVAL);
  CHECK(ion_c_release(buffer, nullptr) == 0);
}

TEST_CASE(
    "CInterface: handles that were closed, released, never given or of another kind are told") {
  const LeakCheck leaks;
  ion_c_error error;
  Opened opened;
  ion_c_buffer* const buffer = opened.Allocate();
  const auto as_buffer = [](auto* handle) { return reinterpret_cast<ion_c_buffer*>(handle); };
  char here = 0;
  for (ion_c_buffer* const wrong :
       {as_buffer(opened.manager), as_buffer(opened.client), as_buffer(&here),
        reinterpret_cast<ion_c_buffer*>(UINTPTR_MAX)}) {
    CHECK(ion_c_release(wrong, &error) == -EINVAL);
    CHECK(Has(error.text, "no such handle"));
    CHECK(ion_c_keep(wrong, &error) == -EINVAL);
  }
  CHECK(ion_c_manager_close(reinterpret_cast<ion_c_manager*>(buffer), nullptr) == -EINVAL);
  CHECK(ion_c_client_close(reinterpret_cast<ion_c_client*>(buffer), nullptr) == -EINVAL);

  // What is in use is not closed.
  CHECK(ion_c_manager_close(opened.manager, &error) == -EBUSY);
  CHECK(Has(error.text, "1 clients"));
  CHECK(ion_c_client_close(opened.client, &error) == -EBUSY);
  CHECK(Has(error.text, "1 buffers"));
  void* at = nullptr;
  REQUIRE(ion_c_map(buffer, ION_C_READ, &at, nullptr) == 0);
  CHECK(ion_c_release(buffer, &error) == -EBUSY);
  CHECK(Has(error.text, "mapped"));
  REQUIRE(ion_c_begin(buffer, ION_C_READ, -1, nullptr) == 0);
  CHECK(ion_c_release(buffer, &error) == -EBUSY);
  CHECK(Has(error.text, "an access is open"));
  CHECK(ion_c_unmap(buffer, &error) == -EBUSY);
  CHECK(ion_c_begin(buffer, ION_C_READ, -1, &error) == -EBUSY);
  CHECK(ion_c_end(buffer, nullptr) == 0);
  CHECK(ion_c_end(buffer, &error) == -EINVAL);
  CHECK(ion_c_begin(buffer, ION_C_WRITE, -1, &error) == -EACCES);
  CHECK(ion_c_unmap(buffer, nullptr) == 0);
  CHECK(ion_c_unmap(buffer, &error) == -EINVAL);
  CHECK(ion_c_begin(buffer, ION_C_READ, -1, &error) == -EINVAL);
  CHECK(ion_c_release(buffer, nullptr) == 0);
  CHECK(ion_c_release(buffer, nullptr) == -EINVAL);
  CHECK(ion_c_map(buffer, ION_C_READ, &at, nullptr) == -EINVAL);
}

TEST_CASE("CInterface: a buffer is mapped more than once, at addresses that stay") {
  const LeakCheck leaks;
  Opened opened;
  ion_c_buffer* const buffer = opened.Allocate();
  void* read = nullptr;
  void* write = nullptr;
  void* again = nullptr;
  REQUIRE(ion_c_map(buffer, ION_C_READ, &read, nullptr) == 0);
  REQUIRE(ion_c_map(buffer, ION_C_READ | ION_C_WRITE, &write, nullptr) == 0);
  REQUIRE(ion_c_map(buffer, ION_C_READ, &again, nullptr) == 0);
  CHECK(again == read);
  CHECK(ion_c_unmap(buffer, nullptr) == 0);
  CHECK(ion_c_unmap(buffer, nullptr) == 0);
  REQUIRE(ion_c_begin(buffer, ION_C_READ | ION_C_WRITE, 0, nullptr) == 0);
  *static_cast<char*>(write) = 'w';
  CHECK(*static_cast<const char*>(read) == 'w');
  CHECK(ion_c_end(buffer, nullptr) == 0);
  CHECK(ion_c_unmap(buffer, nullptr) == 0);
  CHECK(ion_c_release(buffer, nullptr) == 0);
}

TEST_CASE("CInterface: bad numbers and flags are refused with the errno of the kernel's kind") {
  const LeakCheck leaks;
  Opened opened("memfd", 4 * PageBytes());
  ion_c_error error;
  ion_c_buffer* buffer = nullptr;
  const auto allocate = [&](const ion_c_request& request) {
    return ion_c_allocate(opened.client, &request, &buffer, &error);
  };
  CHECK(allocate({.bytes = 0}) == -EINVAL);
  CHECK(allocate({.bytes = UINT64_MAX}) < 0);
  CHECK(allocate({.bytes = PageBytes(), .flags = 4}) == -EINVAL);
  CHECK(allocate({.bytes = PageBytes(), .flags = ION_C_UNCACHED}) == -EINVAL);
  CHECK(allocate({.bytes = PageBytes(), .alignment = 3}) == -EINVAL);
  CHECK(allocate({.bytes = PageBytes(), .heaps = ION_C_HEAP_DMA}) == -ENODEV);
  CHECK(allocate({.bytes = PageBytes(), .reserved = {0, 0, 0, 1}}) == -EINVAL);
  CHECK(allocate({.bytes = 5 * PageBytes()}) == -EDQUOT);
  CHECK(buffer == nullptr);
  ion_c_manager* manager = nullptr;
  const auto open = [&](const ion_c_manager_options& options) {
    return ion_c_manager_open(&options, &manager, &error);
  };
  CHECK(open({.backends = "memfd,nosuch,"}) == 0);  // the first opens
  CHECK(ion_c_manager_close(manager, nullptr) == 0);
  CHECK(open({.backends = "nosuch"}) == -EINVAL);
  CHECK(open({.backends = ""}) == -EINVAL);
  CHECK(open({.backends = "memfd", .flags = ION_C_REQUIRE_DMA_BUF}) == -ENOTSUP);
  CHECK(open({.flags = 4}) == -EINVAL);
  CHECK(open({.reserved = {1}}) == -EINVAL);
  CHECK(manager == nullptr);
  ion_c_client* client = nullptr;
  const ion_c_client_options flags{.flags = 2}, reserved{.reserved = {0, 1}};
  CHECK(ion_c_client_create(opened.manager, &flags, &client, nullptr) == -EINVAL);
  CHECK(ion_c_client_create(opened.manager, &reserved, &client, nullptr) == -EINVAL);
  CHECK(ion_c_import(opened.client, -1, &buffer, &error) == -EBADF);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  CHECK(ion_c_import(opened.client, null, &buffer, &error) == -EINVAL);
  ::close(null);
  buffer = opened.Allocate();
  void* at = nullptr;
  CHECK(ion_c_map(buffer, 0, &at, nullptr) == -EINVAL);
  CHECK(ion_c_map(buffer, ION_C_WRITE, &at, nullptr) == -EINVAL);
  CHECK(ion_c_begin(buffer, 0, 0, nullptr) == -EINVAL);
  CHECK(ion_c_begin(buffer, 8, 0, nullptr) == -EINVAL);
  CHECK(ion_c_release(buffer, nullptr) == 0);
}

TEST_CASE("CInterface: a long text is cut between characters") {
  char text[6];
  compat::CopyText("abcd\xc3\xa9x", text, sizeof(text));
  CHECK(std::string_view(text) == "abcd");
  compat::CopyText("abcde", text, sizeof(text));
  CHECK(std::string_view(text) == "abcde");
  ion_c_error error;
  CHECK(compat::Tell(MakeStatus(EIO, std::string(2 * ION_C_TEXT_BYTES, 'a')), &error) == -EIO);
  CHECK(std::strlen(error.text) == ION_C_TEXT_BYTES - 1);
}

TEST_CASE("CInterface: a forked child cannot use its parent's handles, and opens a manager") {
  Opened opened;
  ion_c_buffer* const buffer = opened.Allocate();
  const ChildEnd end = RunInChild([&]() -> std::string {
    ion_c_error error;
    if (ion_c_release(buffer, &error) != -EPERM) return "released the parent's buffer";
    if (!Has(error.text, "forked")) return error.text;
    if (ion_c_manager_close(opened.manager, nullptr) != -EPERM) return "closed its manager";
    const ion_c_manager_options options{.backends = "memfd"};
    ion_c_manager* manager = nullptr;
    if (ion_c_manager_open(&options, &manager, &error) != 0) return error.text;
    return ion_c_manager_close(manager, &error) == 0 ? "" : error.text;
  });
  CHECK(end.text == "");
  CHECK(ion_c_release(buffer, nullptr) == 0);
}

TEST_CASE("CInterface: threads use one client, and release what another may be mapping") {
  Opened opened;
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  std::atomic<ion_c_buffer*> last = nullptr;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        const ion_c_request request{.bytes = PageBytes()};
        ion_c_buffer* buffer = nullptr;
        if (ion_c_allocate(opened.client, &request, &buffer, nullptr) != 0) ++wrong;
        ion_c_buffer* const other = last.exchange(buffer);
        void* at = nullptr;
        if (ion_c_map(other, ION_C_READ, &at, nullptr) == 0) ion_c_unmap(other, nullptr);
        int fd = -1;
        if (round % 8 == 0 && ion_c_share(buffer, &fd, nullptr) == 0) ::close(fd);
        int answer;
        do answer = ion_c_release(buffer, nullptr);
        while (answer == -EBUSY);  // another thread has it mapped
        if (answer != 0) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

// The interface over the devices of Linux 5.10, and over memfds; each call may fail.
using Sys = FaultSyscallsOver<FakeSyscallsOf<Linux510Machine>>;
using Faulty = compat::CInterface<platforms::PooledHeaps<AnyBackend<Sys>>>;

// One life, in which the first call that fails ends it. Returns that call's answer.
class Life {
 public:
  Life(Faulty& c, Faults& faults, const Sys& sys, const char* backend)
      : c_(c), faults_(faults), sys_(sys), backend_(backend) {}

  int Run(const Faults::Plan& plan) {
    faults_.Begin(plan);
    const int answer = Live();
    faults_.End();
    // Everything that there is can be closed.
    if (mapped_) CHECK(c_.Unmap(frame_, nullptr) == 0);
    if (fd_ >= 0) (void)sys_.Close(fd_);
    for (ion_c_buffer* const buffer : {view_, frame_}) {
      if (buffer != nullptr) CHECK(c_.Release(buffer, nullptr) == 0);
    }
    for (ion_c_client* const client : {viewer_, camera_}) {
      if (client != nullptr) CHECK(c_.CloseClient(client, nullptr) == 0);
    }
    if (manager_ != nullptr) CHECK(c_.CloseManager(manager_, nullptr) == 0);
    return answer;
  }
  const ion_c_error& error() const { return error_; }
  const std::vector<std::string>& reported() const { return reported_; }

 private:
  static void TakeReport(const Error& error, void* reported) {
    if (!TellsOfLentPages(error)) {
      static_cast<std::vector<std::string>*>(reported)->push_back(ErrnoName(error.code()));
    }
  }
  int Live() {
    const ion_c_manager_options options{.backends = backend_};
    const ion_c_request request{.bytes = 3 * PageBytes(), .name = "frame"};
    int answer = c_.OpenManager(&options, &manager_, &error_, [&](Faulty::Options& of) {
      of.sys = sys_;
      of.errors = std::make_shared<ErrorSink>(&Life::TakeReport, &reported_);
    });
    if (answer == 0) answer = c_.CreateClient(manager_, nullptr, &camera_, &error_);
    if (answer == 0) answer = c_.CreateClient(manager_, nullptr, &viewer_, &error_);
    if (answer == 0) answer = c_.Allocate(camera_, &request, &frame_, &error_);
    void* at = nullptr;
    if (answer == 0) {
      answer = c_.Map(frame_, ION_C_READ | ION_C_WRITE, &at, &error_);
      mapped_ = answer == 0;
    }
    if (answer == 0) answer = c_.Begin(frame_, ION_C_WRITE, 1000, &error_);
    if (answer == 0) answer = c_.End(frame_, &error_);
    if (answer == 0) answer = c_.Share(frame_, &fd_, &error_);
    if (answer == 0) answer = c_.Import(viewer_, fd_, &view_, &error_);
    if (answer == 0) answer = c_.Trim(manager_, UINT64_MAX, nullptr, &error_);
    return answer;
  }

  Faulty& c_;
  Faults& faults_;
  const Sys sys_;
  const char* const backend_;
  ion_c_error error_ = {};
  std::vector<std::string> reported_;
  ion_c_manager* manager_ = nullptr;
  ion_c_client* camera_ = nullptr;
  ion_c_client* viewer_ = nullptr;
  ion_c_buffer* frame_ = nullptr;
  ion_c_buffer* view_ = nullptr;
  bool mapped_ = false;
  int fd_ = -1;
};

TEST_CASE(
    "CInterface: each system call may fail: its errno is returned or reported, nothing leaks") {
  const LeakCheck leaks;
  Faulty c;
  for (const char* const backend : {"dma_heap", "ion", "udmabuf", "memfd"}) {
    CAPTURE(backend);
    const auto faults = std::make_shared<Faults>();
    const Sys sys(faults);
    CHECK(Life(c, *faults, sys, backend).Run({}) == 0);
    const size_t calls = faults->trace().size();
    CHECK(calls > 20);
    size_t returned = 0;
    for (size_t n = 0; n < calls; ++n) {
      for (const int code : {EIO, EMFILE}) {
        const std::set<std::string> before = Held();
        Life life(c, *faults, sys, backend);
        const int answer = life.Run({.n = n, .code = code});
        CAPTURE(n);
        CAPTURE(code);
        REQUIRE(faults->failed().has_value());
        const std::string call = std::string(faults->failed()->call) + " " + faults->failed()->path;
        CAPTURE(call);
        // A heap that does not open is there with its reason, for requests that name it; of advice
        // for a mapping only a want of memory counts.
        const bool of_other_heap = faults->failed()->path.starts_with("/dev/dma_heap/");
        const bool silent = IsRetried(*faults->failed(), code) ||
                            IsFallback(*faults->failed(), code, backend) || code == EMFILE ||
                            of_other_heap || call.starts_with("madvise ");
        if (answer != 0) {
          ++returned;
          CHECK(answer == -code);
          CHECK(life.error().code == code);
          CHECK(Has(life.error().text, ErrnoName(code)));
        } else if (!silent) {
          REQUIRE(life.reported().size() > 0);
          for (const std::string& name : life.reported()) CHECK(name == ErrnoName(code));
        }
        CHECK(Changes(before).empty());
      }
    }
    CHECK(returned > calls / 2);
    CHECK(Life(c, *faults, sys, backend).Run({}) == 0);
  }
}

#if defined(__cpp_exceptions)
TEST_CASE("CInterface: each operator new may fail: it is -ENOMEM, or no error, and nothing leaks") {
  const LeakCheck leaks;
  const auto live = [](size_t n, int& answer) {
    const ion_c_manager_options options{.backends = "memfd"};
    const ion_c_request request{.bytes = PageBytes(), .name = "a name that needs heap memory"};
    const ion_c_client_options named{.name = "a client with a name that is long",
                                     .domain = "a domain with a name that is long"};
    ion_c_manager* manager = nullptr;
    ion_c_client* client = nullptr;
    ion_c_buffer* buffer = nullptr;
    ion_c_buffer* again = nullptr;
    int fd = -1;
    void* at = nullptr;
    ion_c_error error = {};
    FaultNew::Begin(n);
    answer = ion_c_manager_open(&options, &manager, &error);
    if (answer == 0) answer = ion_c_client_create(manager, &named, &client, &error);
    if (answer == 0) answer = ion_c_allocate(client, &request, &buffer, &error);
    if (answer == 0) answer = ion_c_map(buffer, ION_C_READ, &at, &error);
    if (answer == 0) answer = ion_c_unmap(buffer, &error);
    if (answer == 0) answer = ion_c_share(buffer, &fd, &error);
    if (answer == 0) answer = ion_c_import(client, fd, &again, &error);
    size_t needed = 0;
    if (answer == 0) answer = ion_c_report(manager, nullptr, 0, &needed, &error);
    // A refusal is one, also if there is no memory for its text.
    const int refused = ion_c_release(nullptr, &error);
    const bool failed = FaultNew::End();
    CHECK(refused == -EINVAL);
    CHECK(error.code == EINVAL);
    CHECK_FALSE(std::string_view(error.text).empty());
    if (fd >= 0) ::close(fd);
    if (again != nullptr) CHECK(ion_c_release(again, nullptr) == 0);
    if (buffer != nullptr) CHECK(ion_c_release(buffer, nullptr) == 0);
    if (client != nullptr) CHECK(ion_c_client_close(client, nullptr) == 0);
    if (manager != nullptr) CHECK(ion_c_manager_close(manager, nullptr) == 0);
    return failed;
  };
  int answer = 0;
  for (int i = 0; i < 3; ++i) live(SIZE_MAX, answer);
  CHECK(answer == 0);
  const size_t calls = FaultNew::calls();
  const int64_t before = FaultNew::live();
  size_t told = 0;
  for (size_t n = 0; n < calls; ++n) {
    CAPTURE(n);
    CHECK(live(n, answer));
    if (answer != 0) CHECK(answer == -ENOMEM);
    told += answer != 0;
    CHECK(live(SIZE_MAX, answer) == false);
    CHECK(answer == 0);
    CHECK(FaultNew::live() == before);
  }
  CHECK(told > 10);
}
#else
TEST_CASE("CInterface: each operator new may fail: it is -ENOMEM, or no error, and nothing leaks") {
  Skip("without exceptions the standard library ends the process");
}
#endif

}  // namespace
}  // namespace ion::testing
