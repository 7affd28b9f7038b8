// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A thread that is cancelled ends a call of ours that it has begun, and goes at once from a wait for
// another process. In a child: a failure ends the process.

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/buffer.h"
#include "ion/core/reclaimer.h"
#include "ion/handle.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"
#include "tests/support/child.h"
#include "tests/support/leak_check.h"
#include "tests/support/open_files.h"

// A cancelled thread's frames do not return, and clang's runtime takes them for alive: its own write
// at the end of the thread, to a variable among them, would be the error.
extern "C" const char* __asan_default_options() { return "use_sigaltstack=0"; }

namespace ion::testing {
namespace {

using B = MemfdBackend<>;
using Pooled = Manager<B, PooledHeap<SystemHeap<B>>>;

// All that a user does, on a thread that somebody has cancelled already.
void* UseAll(void* done) {
  {
    auto manager = Pooled::Open();
    ::pthread_cancel(::pthread_self());
    auto other = Pooled::Open();
    auto client = manager->CreateClient({.name = "a"});
    auto peer = manager->CreateClient({.name = "b"});
    { auto buffer = client->Allocate({.bytes = 4096}); }
    auto handle = client->MakeHandle(*client->Allocate({.bytes = 4096}));
    auto fd = client->Share(*handle);
    auto theirs = peer->Import(fd->borrow());
    auto imported = other->CreateClient({})->Import(fd->borrow());
    const ReclaimerOptions options{.interval = std::chrono::hours(1)};
    (void)manager->StartReclaimer(options);
    (void)PoolText(manager->MakeReport());
    fd->reset();
    (void)client->Free(*handle);
    manager->Tick();
    manager->Trim();
  }
  *static_cast<bool*>(done) = true;
  ::pthread_testcancel();
  return nullptr;
}

TEST_CASE("A cancelled thread ends what it has begun") {
  const LeakCheck leaks;
  const ChildEnd end = RunInChild([]() -> std::string {
    const std::string before = DescriptorLines();
    bool done = false;
    pthread_t thread;
    void* answer = nullptr;
    ::pthread_create(&thread, nullptr, UseAll, &done);
    ::pthread_join(thread, &answer);
    if (!done) return "it went before its end";
    if (answer != PTHREAD_CANCELED) return "it was not cancelled";
    return DescriptorLines() == before ? "" : "it left descriptors";
  });
  CHECK(end.text == "");
  CHECK(end.signal == 0);
}

struct Ends {
  int ours = -1, theirs = -1;
};
void* Receive(void* ends) {
  std::byte one;
  UniqueFd fds[1];
  (void)ReceiveFds(FdRef(static_cast<Ends*>(ends)->ours), {&one, 1}, fds);
  return nullptr;
}
void* Send(void* ends) {
  const UniqueFd own(::dup(static_cast<Ends*>(ends)->ours));
  const FdRef fd = own.borrow();
  const std::byte some[1024] = {};
  while (SendFds(FdRef(static_cast<Ends*>(ends)->ours), some, {&fd, 1}).ok()) {
  }
  return nullptr;
}

TEST_CASE("ReceiveFds, SendFds: a thread that waits there can be cancelled, and leaves nothing") {
  const LeakCheck leaks;
  for (const auto wait : {Receive, Send}) {
    for (const int type : {SOCK_SEQPACKET, SOCK_STREAM}) {
      const ChildEnd end = RunInChild([wait, type]() -> std::string {
        int ends[2];
        if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) return "no sockets";
        const std::string before = DescriptorLines();
        Ends both{ends[0], ends[1]};
        pthread_t thread;
        void* answer = nullptr;
        ::pthread_create(&thread, nullptr, wait, &both);
        ::pthread_cancel(thread);  // now, or once it waits
        ::pthread_join(thread, &answer);
        if (answer != PTHREAD_CANCELED) return "it was not cancelled";
        return DescriptorLines() == before ? "" : "it left descriptors";
      });
      CHECK(end.text == "");
      CHECK(end.signal == 0);
    }
  }
}

}  // namespace
}  // namespace ion::testing
