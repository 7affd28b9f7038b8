// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Every operator new failed in turn: a scenario is run once to count them, then once for each. It
// answers with a Status or a valid result, nothing is left behind, and the next try succeeds.

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/any_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/core/reclaimer.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/platforms/device_tree.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"
#include "ion/request.h"
#include "tests/support/fault_new.h"
#include "tests/support/open_files.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {
namespace {

#if !defined(__cpp_exceptions)
TEST_CASE("New: without exceptions the standard library ends the process") {
  Skip("a throw of operator new would be the end");
}
#else

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

using B = MemfdBackend<>;
constexpr HeapSpec kRange{.type = HeapType::kCarveout, .id = 2, .bytes = 1_MiB};
using Pooled = Manager<B, PooledHeap<SystemHeap<B>>, CarveoutHeap<B, kRange>>;

// What a scenario found: nothing, a Status, or an error.
using Answer = std::optional<absl::Status>;
Answer Of(const absl::Status& status) { return status.ok() ? Answer() : Answer(status); }

// `run` makes its calls between FaultNew::Begin(n) and End, and returns the first answer that is no
// success.
void Cover(const std::string& name, const std::function<Answer(size_t n)>& run,
           bool may_be_silent = false) {
  CAPTURE(name);
  const auto clean = [&] {
    const Answer answer = run(SIZE_MAX);
    FaultNew::End();
    if (answer.has_value()) FAIL_CHECK("without a fault: ", answer->ToString());
  };
  clean();  // what is made once
  clean();
  const size_t calls = FaultNew::calls();
  const std::string files = DescriptorLines();
  const int64_t live = FaultNew::live();
  CAPTURE(calls);
  size_t told = 0;
  for (size_t n = 0; n < calls; ++n) {
    CAPTURE(n);
    {
      const Answer answer = run(n);
      CHECK(FaultNew::End());
      told += answer.has_value();
      if (answer.has_value()) CHECK(ErrnoOf(*answer) != 0);
      if (answer.has_value() && answer->message().empty()) CHECK_FALSE(answer->ok());
      clean();
    }
    CHECK(FaultNew::live() == live);
    CHECK(DescriptorLines() == files);
  }
  // A scenario may need no heap memory, or make do without.
  if (!may_be_silent) CHECK(told > 0);
}

// Opens, between Begin and End.
template <class M>
Answer OpenWith(size_t n, const typename std::remove_reference_t<
                              decltype(std::declval<M&>().backend())>::Options& options) {
  FaultNew::Begin(n);
  auto manager = M::Open(options);
  FaultNew::End();
  return Of(manager.status());
}

TEST_CASE("New: a Manager opens, or says why not") {
  Cover("memfd", [](size_t n) { return OpenWith<Pooled>(n, {}); });
}

using Udmabuf = UdmabufBackend<>;
using DmaHeap = DmaHeapBackend<>;
using Ion = IonBackend<>;

TEST_CASE_TEMPLATE("New: each backend of this machine opens and gives memory, or says why not", T,
                   Udmabuf, DmaHeap, Ion) {
  if (!T::Open({}).ok()) return Skip("there is no such backend here");
  using M = Manager<T, PooledHeap<SystemHeap<T>>>;
  Cover("open", [](size_t n) { return OpenWith<M>(n, {}); });
  Cover(
      "allocate, share and import",
      [](size_t n) -> Answer {
        auto manager = M::Open();
        auto client = manager->CreateClient({});
        FaultNew::Begin(n);
        auto buffer = client->Allocate({.bytes = 4096, .name = "a name"});
        if (!buffer.ok()) return FaultNew::End(), buffer.status();
        auto handle = client->MakeHandle(*std::move(buffer));
        if (!handle.ok()) return FaultNew::End(), handle.status();
        auto fd = client->Share(*handle);
        if (!fd.ok()) return FaultNew::End(), fd.status();
        auto again = client->Import(fd->borrow());
        FaultNew::End();
        return Of(again.status());
      },
      /*may_be_silent=*/true);
}

TEST_CASE("New: a Manager that cannot open says so") {
  const TempDir dir;
  Cover("no such directory", [&](size_t n) {
    DmaHeapBackend<>::Options options;
    options.directory = dir.At("a directory of dma-heaps that is not there");
    const Answer answer =
        OpenWith<Manager<DmaHeapBackend<>, SystemHeap<DmaHeapBackend<>>>>(n, options);
    CHECK(answer.has_value());
    if (answer.has_value() && n == SIZE_MAX) CHECK(ErrnoOf(*answer) == ENOENT);
    return n == SIZE_MAX ? Answer() : answer;
  });
  // Nodes that are no devices: each is listed with its reason, and none can be used.
  for (int i = 0; i < 3; ++i)
    (void)dir.File("a heap with a long name, number " + std::to_string(i));
  Cover("no heap that can be used", [&](size_t n) {
    DmaHeapBackend<>::Options options;
    options.directory = dir.path();
    const Answer answer =
        OpenWith<Manager<DmaHeapBackend<>, SystemHeap<DmaHeapBackend<>>>>(n, options);
    CHECK(answer.has_value());
    return n == SIZE_MAX ? Answer() : answer;
  });
}

TEST_CASE("New: Any takes the next, or says why none opened") {
  using Any = AnyOf<DmaHeapBackend<>, B>;
  const TempDir dir;
  Any::Options options;
  std::get<0>(options.each).directory = dir.At("a directory of dma-heaps that is not there");
  Cover("the second opens", [&](size_t n) {
    FaultNew::Begin(n);
    auto any = Any::Open(options);
    FaultNew::End();
    return Of(ToStatus(any));
  });
  options.order = {"dma_heap"};
  Cover("none opens", [&](size_t n) {
    FaultNew::Begin(n);
    const auto any = Any::Open(options);
    const absl::Status status = ToStatus(any);
    FaultNew::End();
    CHECK_FALSE(status.ok());
    return n == SIZE_MAX ? Answer() : Of(status);
  });
}

// A Manager and a client that a test has before it begins.
struct Open {
  Pooled manager = *Pooled::Open();
  Pooled::Client client = *manager.CreateClient({.name = "a client with a name that is long"});
};

TEST_CASE("New: a client is made, or is not") {
  Pooled manager = *Pooled::Open();
  Cover("plain", [&](size_t n) {
    FaultNew::Begin(n);
    auto client = manager.CreateClient({.name = "a client with a name that is long"});
    FaultNew::End();
    return Of(client.status());
  });
  int next = 0;
  // Slots and names are not used up by clients that were not made.
  for (int times = 0; times < 3; ++times) {
    const std::string domain = "a domain with a name that is long " + std::to_string(next++);
    for (size_t n = 0; n < 8; ++n) {
      FaultNew::Begin(n);
      auto client =
          manager.CreateClient({.name = "long enough to need heap memory", .domain = domain});
      FaultNew::End();
    }
  }
  std::vector<Pooled::Client> all;
  for (int i = 0; i < 200; ++i) all.push_back(*manager.CreateClient({.name = "one"}));
  // Each of them has pools: what a pool keeps is found again.
  { auto buffer = all.back().Allocate({.bytes = 4096, .heaps = HeapId{0}}); }
  CHECK(manager.Trim() == 4096);
}

TEST_CASE("New: memory is given, or refused with a Status") {
  Open open;
  Cover(
      "from the kernel",
      [&](size_t n) {
        FaultNew::Begin(n);
        auto buffer = open.client.Allocate({.bytes = 3_MiB, .heaps = HeapId{0}, .name = "a name"});
        FaultNew::End();
        Answer answer = Of(buffer.status());
        buffer = absl::CancelledError();
        open.manager.Trim();
        return answer;
      },
      /*may_be_silent=*/true);
  Cover("a refusal", [&](size_t n) {
    FaultNew::Begin(n);
    const auto buffer = open.client.Allocate({.bytes = 100_MiB, .heaps = HeapId{2}});
    FaultNew::End();
    CHECK_FALSE(buffer.ok());
    if (n == SIZE_MAX) CHECK(ErrnoOf(buffer.status()) == ENOMEM);
    CHECK(open.client.held_bytes() == 0);
    return n == SIZE_MAX ? Answer() : Of(buffer.status());
  });
  auto poor = open.manager.CreateClient({.name = "one whose quota is small", .quota_bytes = 8192});
  Cover("past the quota", [&](size_t n) {
    FaultNew::Begin(n);
    const auto buffer = poor->Allocate({.bytes = 1_MiB, .heaps = HeapId{0}});
    FaultNew::End();
    CHECK_FALSE(buffer.ok());
    if (n == SIZE_MAX) CHECK(ErrnoOf(buffer.status()) == EDQUOT);
    CHECK(poor->held_bytes() == 0);
    return n == SIZE_MAX ? Answer() : Of(buffer.status());
  });
  Cover("Reserve", [&](size_t n) {
    FaultNew::Begin(n);
    const absl::Status status = open.client.Prefill({.bytes = 4096, .heaps = HeapId{0}}, 20);
    FaultNew::End();
    open.manager.Trim();
    return Of(status);
  });
}

TEST_CASE("New: handles are kept, shared, imported and freed, or a Status says why not") {
  Cover(
      "their life",
      [&](size_t n) -> Answer {
        Open open;  // which remembers what it shared
        Pooled::Client peer = *open.manager.CreateClient({.name = "peer"});
        auto buffer = open.client.Allocate({.bytes = 4096, .heaps = HeapId{0}});
        if (!buffer.ok()) return buffer.status();
        FaultNew::Begin(n);
        const auto handle = open.client.MakeHandle(*std::move(buffer));
        if (!handle.ok()) return FaultNew::End(), handle.status();
        Answer answer;
        {
          const auto fd = open.client.Share(*handle);
          if (fd.ok()) {
            const auto theirs = peer.Import(fd->borrow());
            if (theirs.ok()) {
              answer = Of(peer.Map<MapMode::kWritable>(*theirs).status());
              if (const absl::Status status = peer.Free(*theirs); !status.ok()) answer = status;
            } else {
              answer = theirs.status();
            }
          } else {
            answer = fd.status();
          }
        }
        if (const absl::Status status = open.client.Free(*handle); !status.ok()) answer = status;
        FaultNew::End();
        open.manager.Trim();
        return answer;
      },
      /*may_be_silent=*/true);
  Open open;
  Cover("what is refused", [&](size_t n) -> Answer {
    FaultNew::Begin(n);
    const absl::Status freed = open.client.Free(Handle());
    const auto shared = open.client.Share(Handle());
    const auto imported = open.client.Import(FdRef(-1));
    FaultNew::End();
    CHECK_FALSE(freed.ok());
    CHECK_FALSE(shared.ok());
    CHECK_FALSE(imported.ok());
    return n == SIZE_MAX ? Answer() : Of(freed);
  });
}

TEST_CASE("New: CPU access begins and ends") {
  Open open;
  auto buffer = open.client.Allocate({.bytes = 4096, .heaps = HeapId{0}});
  Cover("a refusal", [&](size_t n) -> Answer {
    FaultNew::Begin(n);
    const auto mapping = WritableMapping::Of(*buffer, {.offset = 1, .bytes = 7});
    FaultNew::End();
    CHECK_FALSE(mapping.ok());
    return n == SIZE_MAX ? Answer() : Of(mapping.status());
  });
}

TEST_CASE("New: a report tells all, or that it does not") {
  Open open;
  std::vector<Buffer> held;
  for (int i = 0; i < 4; ++i)
    held.push_back(*open.client.Allocate({.bytes = 4096, .heaps = HeapId{0}, .name = "it"}));
  { auto idle = open.client.Allocate({.bytes = 8192, .heaps = HeapId{0}}); }
  Cover(
      "MakeReport",
      [&](size_t n) {
        FaultNew::Begin(n);
        const Report report = open.manager.MakeReport();
        const bool failed = FaultNew::End();
        if (n == SIZE_MAX) {
          CHECK(report.complete);
          CHECK(report.buffers.size() == 4);
        } else {
          CHECK(report.complete == !failed);
        }
        return Answer();
      },
      /*may_be_silent=*/true);
  held.clear();
  CHECK(open.manager.Trim() >= 4 * 4096 + 8192);  // nothing was lost while it was looked at
}

TEST_CASE("New: a text is made, or bad_alloc is thrown") {
  Report report;
  report.heaps.push_back({HeapId{0}, std::string(300, 'h')});
  report.buffers.push_back({.name = "n", .heap = HeapId{0}, .client = std::string(300, 'c')});
  report.buffers.push_back({.name = "o", .heap = HeapId{0}, .client = "d", .orphaned = true});
  report.clients.push_back({.name = std::string(300, 'c')});
  report.pools.push_back({.heap = HeapId{0}, .domain = {}});
  for (const auto& text :
       {std::function<std::string()>([&] { return HeapText(report, HeapId{0}); }),
        {[&] { return ClientText(report, "d"); }},
        {[&] { return CountText(report); }},
        {[&] { return PoolText(report); }},
        {[&] { return LeakText(report); }}}) {
    Cover("text", [&](size_t n) -> Answer {
      try {
        FaultNew::Begin(n);
        const std::string made = text();
        FaultNew::End();
        CHECK(made.size() > 0);
        return {};
      } catch (const std::bad_alloc&) {
        FaultNew::End();
        return absl::Status(absl::StatusCode::kResourceExhausted, "");
      }
    });
  }
}

TEST_CASE("New: the reclaimer starts, or does not") {
  Cover("StartReclaimer", [](size_t n) {
    auto manager = Pooled::Open();
    const ReclaimerOptions options{.interval = std::chrono::hours(1), .pressure = std::nullopt};
    FaultNew::Begin(n);
    const absl::Status status = manager->StartReclaimer(options).status();
    FaultNew::End();
    return Of(status);
  });
}

TEST_CASE("New: a Manager that ends before its buffers tells of it") {
  Cover(
      "~Manager",
      [](size_t n) {
        std::optional<Open> open(std::in_place);
        auto buffer = open->client.Allocate({.bytes = 4096, .name = "left"});
        FaultNew::Begin(n);
        open.reset();
        FaultNew::End();
        return Answer();
      },
      /*may_be_silent=*/true);
}

TEST_CASE("New: a device tree is read, or a Status says why not") {
  const TempDir dir;
  const auto put = [&](const std::string& file, std::string_view bytes) {
    std::filesystem::create_directories(std::filesystem::path(dir.At(file)).parent_path());
    std::ofstream(dir.At(file)) << bytes;
  };
  put("#address-cells", std::string_view("\0\0\0\1", 4));
  put("#size-cells", std::string_view("\0\0\0\1", 4));
  put("ranges", "");
  put("camera@10000000/reg", std::string_view("\x10\0\0\0\0\1\0\0", 8));
  put("camera@10000000/compatible", std::string_view("shared-dma-pool\0", 16));
  Cover("ReadReservedMemory", [&](size_t n) {
    FaultNew::Begin(n);
    const auto regions = platforms::ReadReservedMemory(dir.path());
    FaultNew::End();
    if (n == SIZE_MAX) CHECK(regions.ok());
    return Of(regions.status());
  });
}

TEST_CASE("New: a Status without memory is its code, and has an errno of the kind") {
  const Error error(EACCES, "open", {"dma_heap", Operation::kOpen, "/dev/dma_heap/system"});
  Cover("ToStatus", [&](size_t n) {
    FaultNew::Begin(n);
    const absl::Status status = ToStatus(error);
    const int code = ErrnoOf(status);
    FaultNew::End();
    CHECK(status.code() == absl::StatusCode::kPermissionDenied);
    CHECK(code == EACCES);
    return n == SIZE_MAX ? Answer() : Of(status);
  });
  CHECK(ErrnoOf(absl::Status(absl::StatusCode::kResourceExhausted, "")) == ENOMEM);
  CHECK(ErrnoOf(absl::Status(absl::StatusCode::kResourceExhausted, "another's")) == 0);
  CHECK(ErrnoOf(absl::OkStatus()) == 0);
}

#endif

}  // namespace
}  // namespace ion::testing
