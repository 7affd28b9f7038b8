// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/probe.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/own_device_memory.h"
#include "ion/backends/page_memory.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/known.h"
#include "ion/base/status.h"
#include "ion/client.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/manager.h"
#include "ion/pixel_format.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/probe_heaps.h"
#include "ion/probe_text.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fault_new.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "third_party/ion_uapi/dma_buf.h"

namespace ion::testing {
namespace {

using enum ProbeVerdict;
using Kind = ProbeAnswer::Kind;
using Takes = Acceptance::Verdict;

// The physical memory that a sample would have: the addresses of its pages, in their order.
using Pages = std::vector<uint64_t>;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLow = uint64_t{1} << 30, kHigh = uint64_t{5} << 30;

// Memory of a machine, and the sample that is lent at this moment.
struct Machine {
  uint64_t pages_at = kHigh;  // the addresses of single pages
  uint64_t step = 2;          // between them, in pages; 1: in luck, one after the other
  uint64_t contiguous_at = kLow;
  int pages_error = 0, contiguous_error = 0;

  const Pages* lent = nullptr;
  std::vector<std::pair<Sample, uint64_t>> asked = {};
};

// A source over a Machine: pages, contiguous memory, or both.
template <Sample... kHas>
class FakeSource {
 public:
  static constexpr Sample kSamples[] = {kHas...};

  explicit FakeSource(Machine& machine) : machine_(machine) {}

  template <class Use>
  Error Lend(Sample which, uint64_t bytes, Use use) noexcept {
    machine_.asked.emplace_back(which, bytes);
    const bool contiguous = which == Sample::kContiguous;
    const int code = contiguous ? machine_.contiguous_error : machine_.pages_error;
    if (code != 0) return Error(code, "fake", {"fake", Operation::kAllocate, {}, bytes});
    Pages pages;
    for (uint64_t i = 0; i < bytes / PageBytes(); ++i) {
      pages.push_back(contiguous ? machine_.contiguous_at + i * kPage
                                 : machine_.pages_at + i * machine_.step * kPage);
    }
    if (which == Sample::kReversed) std::ranges::reverse(pages);
    machine_.lent = &pages;
    use(LentMemory{.range = {FdRef(100), 0, bytes}});
    machine_.lent = nullptr;
    return {};
  }

 private:
  Machine& machine_;
};
using FakePages = FakeSource<Sample::kForward, Sample::kReversed>;
using FakeContiguous = FakeSource<Sample::kContiguous>;

// The control: the device's own.
class FakeOwn {
 public:
  static constexpr Sample kSamples[] = {Sample::kOwn};
  explicit FakeOwn(std::string exporter = "fake") : exporter_(std::move(exporter)) {}
  template <class Use>
  Error Lend(Sample, uint64_t bytes, Use use) noexcept {
    const uint64_t own = std::max(bytes, bytes_min);
    use(LentMemory{.range = {FdRef(kFd), 0, own}, .exporter = exporter_});
    return {};
  }
  static constexpr int kFd = 200;
  uint64_t bytes_min = 0;  // as a queue's buffers have those of its format

 private:
  std::string exporter_;
};

// A device with settable demands.
struct FakeDevice {
  Machine* machine = nullptr;
  size_t segments_max = SIZE_MAX;
  uint64_t address_limit = UINT64_MAX;
  uint64_t size_min = 0;
  int code = EFAULT;  // of a refusal
  bool imports = true;
  Known maps_at_import = true;
  size_t gone_after = SIZE_MAX;  // questions
  int gone_code = ENODEV;
  size_t moody_at = SIZE_MAX;  // the question whose answer is no, whatever it asks

  size_t questions = 0;
  const ImageLayout* image = nullptr;

  Party party() const noexcept { return {}; }
  DeviceTraits traits() const noexcept { return {.maps_at_import = maps_at_import}; }
  Acceptance Accepts(const DeviceMemory& memory) noexcept {
    image = memory.image;
    const Origin origin{"fake", Operation::kAttach, {}, memory.range.bytes};
    const size_t question = questions++;
    if (question >= gone_after) return {Takes::kCannotAsk, Error(gone_code, "ioctl", origin)};
    const Acceptance no{Takes::kRefuses, Error(code, "PREPARE_BUF", origin)};
    if (question == moody_at || !imports || memory.range.bytes < size_min) return no;
    if (memory.range.fd.get() == FakeOwn::kFd) return {Takes::kTakes, {}};
    size_t runs = 0;
    uint64_t end = 0;
    for (const uint64_t page : *machine->lent) {
      if (page + kPage - 1 > address_limit) return no;
      runs += page != end;
      end = page + kPage;
    }
    if (runs > segments_max) return no;
    return {Takes::kTakes, {}};
  }
  Result<Imported> Map(const DeviceMemory&) noexcept { return Imported{}; }
  Error Unmap(const Imported&) noexcept { return {}; }
  bool InUse(const Imported&) const noexcept { return false; }
};
static_assert(DeviceCheck<FakeDevice>::kOk);

struct Setup {
  Machine machine;
  FakePages pages{machine};
  FakeContiguous contiguous{machine};
  FakeOwn own;
  FakeDevice device{.machine = &machine};

  ProbeResult Run(uint64_t bytes = 115'200) {
    return Probe(device, {.bytes = bytes}, pages, contiguous, own);
  }
};

// The verdict, and the errno of each answer that there is.
std::string Told(const ProbeResult& result) {
  std::string text(VerdictName(result.verdict));
  for (size_t i = 0; i < kQuestions; ++i) {
    const ProbeAnswer& answer = result.answers[i];
    if (answer.kind == Kind::kNotAsked) continue;
    text += " " + std::string(QuestionName(static_cast<Question>(i))) + "=" +
            std::string(AnswerName(answer.kind));
    if (answer.code != 0) text += ":" + ErrnoName(answer.code);
  }
  return text;
}

TEST_CASE("Probe: a device that takes both orders takes scattered memory") {
  Setup setup;
  const ProbeResult result = setup.Run();
  CHECK(Told(result) == "scattered_ok forward=takes reversed=takes contiguous=takes own=takes");
  CHECK(result.bytes == *RoundUpToPages(115'200));
  CHECK(result.needs_vmap.unknown());
  Constraints to;
  CHECK_FALSE(AddProbed(result, to));
  CHECK(to == Constraints());
}

TEST_CASE("Probe: a device that refuses both orders and takes one piece needs contiguous memory") {
  Setup setup;
  setup.device.segments_max = 1;
  const ProbeResult result = setup.Run();
  CHECK(Told(result) ==
        "contiguous_only forward=refuses:EFAULT reversed=refuses:EFAULT contiguous=takes "
        "own=takes");
  CHECK(std::string(result.At(Question::kForward).what) == "PREPARE_BUF");
  Constraints to;
  CHECK(AddProbed(result, to));
  CHECK(to.segments_max.value() == 1);
  CHECK(to.segments_max.source() == Source{How::kProbed, result.bytes});
  CHECK_FALSE(AddProbed(result, to));
}

TEST_CASE("Probe: pages that lie side by side by luck do not deceive it") {
  Setup setup;
  setup.machine.step = 1;
  setup.device.segments_max = 1;
  CHECK(Told(setup.Run()) ==
        "contiguous_only forward=takes reversed=refuses:EFAULT contiguous=takes own=takes");
  SUBCASE("nor without contiguous memory: forward was it") {
    CHECK(Told(Probe(setup.device, {.bytes = 115'200}, setup.pages)) ==
          "contiguous_only forward=takes reversed=refuses:EFAULT");
  }
  SUBCASE("nor a block of 1 MiB") { CHECK(setup.Run(1 << 20).verdict == kContiguousOnly); }
  SUBCASE("nor one page: two are asked about") {
    const ProbeResult result = setup.Run(1);
    CHECK(result.verdict == kContiguousOnly);
    CHECK(result.bytes == 2 * PageBytes());
  }
}

TEST_CASE("Probe: pages that lie backwards by luck do not deceive it either") {
  Setup setup;
  setup.machine.step = UINT64_MAX;  // one page down
  setup.device.segments_max = 1;
  CHECK(Told(setup.Run()) ==
        "contiguous_only forward=refuses:EFAULT reversed=takes contiguous=takes own=takes");
}

TEST_CASE("Probe: an address mask looks as contiguity does") {
  Setup setup;
  setup.device.address_limit = AddressOfBits(32);
  CHECK(setup.Run().verdict == kContiguousOnly);
  setup.machine.pages_at = kLow;
  setup.machine.contiguous_at = kHigh;
  CHECK(Told(setup.Run()) ==
        "scattered_ok forward=takes reversed=takes contiguous=refuses:EFAULT own=takes");
}

TEST_CASE("Probe: ENOMEM may be the errno of memory that cannot be mapped") {
  Setup setup;
  setup.device.segments_max = 1;
  setup.device.code = ENOMEM;
  CHECK(Told(setup.Run()) ==
        "contiguous_only forward=refuses:ENOMEM reversed=refuses:ENOMEM contiguous=takes "
        "own=takes");
  SUBCASE("or of a machine that has none at the moment") {
    // Both orders would be taken, and one question is refused.
    for (const size_t at : {size_t{0}, size_t{1}}) {
      Setup moody;
      moody.device.code = ENOMEM;
      moody.device.moody_at = at;
      const ProbeResult result = moody.Run();
      CHECK(result.verdict == kUnsteady);
      Constraints to;
      CHECK_FALSE(AddProbed(result, to));
    }
  }
}

TEST_CASE("Probe: a buffer that is too small is told from memory that does not suit") {
  Setup setup;
  setup.device.size_min = 130'000;
  const ProbeResult result = setup.Run();
  CHECK(Told(result) ==
        "size_or_format forward=refuses:EFAULT reversed=refuses:EFAULT "
        "contiguous=refuses:EFAULT forward_larger=takes");
  const uint64_t bytes = *RoundUpToPages(115'200);
  CHECK(setup.machine.asked[3] == std::pair{Sample::kForward, *RoundUpToPages(bytes + bytes / 4)});
  SUBCASE("of a device that needs contiguous memory, too") {
    setup.device.segments_max = 1;
    CHECK(Told(setup.Run()) ==
          "size_or_format forward=refuses:EFAULT reversed=refuses:EFAULT "
          "contiguous=refuses:EFAULT forward_larger=refuses:EFAULT contiguous_larger=takes");
  }
}

TEST_CASE("Probe: a device whose own memory is much larger does not refuse ours for its kind") {
  Setup setup;
  setup.device.size_min = setup.own.bytes_min = 8 << 20;
  CHECK(Told(setup.Run()) ==
        "size_or_format forward=refuses:EFAULT reversed=refuses:EFAULT "
        "contiguous=refuses:EFAULT forward_larger=refuses:EFAULT "
        "contiguous_larger=refuses:EFAULT own=takes");
}

TEST_CASE("Probe: a device that refuses its own memory imports none") {
  Setup setup;
  setup.device.imports = false;
  CHECK(Told(setup.Run()) ==
        "cannot_import forward=refuses:EFAULT reversed=refuses:EFAULT "
        "contiguous=refuses:EFAULT forward_larger=refuses:EFAULT "
        "contiguous_larger=refuses:EFAULT own=refuses:EFAULT");
  SUBCASE("which is unknown without the control") {
    CHECK(Probe(setup.device, {.bytes = 115'200}, setup.pages, setup.contiguous).verdict ==
          kUnknown);
  }
  SUBCASE("one that takes its own memory alone is another case") {
    setup.device.imports = true;
    setup.device.address_limit = 0;
    CHECK(setup.Run().verdict == kOwnOnly);
  }
}

TEST_CASE("Probe: a yes of a driver that does not map is no evidence") {
  for (const Known maps : {Known(false), Known()}) {
    Setup setup;
    setup.device.maps_at_import = maps;
    const ProbeResult result = setup.Run();
    CHECK(Told(result) ==
          "no_evidence forward=no_evidence reversed=no_evidence contiguous=no_evidence");
    Constraints to;
    CHECK_FALSE(AddProbed(result, to));
    // Its no is one.
    setup.device.imports = false;
    CHECK(setup.Run().verdict == kCannotImport);
  }
}

TEST_CASE("Probe: a device that is busy, or vanishes, is asked no more") {
  for (size_t after = 0; after < 9; ++after) {
    CAPTURE(after);
    Setup setup;
    setup.device.segments_max = 1;
    setup.device.gone_after = after;
    const ProbeResult result = setup.Run();
    // Forward, reversed, contiguous, own; then three of them again.
    const bool finished = after >= 7;
    CHECK(result.verdict == (finished ? kContiguousOnly : kCannotAsk));
    // A control that cannot be asked takes nothing away from what was said; the next one does.
    if (!finished) CHECK(setup.device.questions == std::max<size_t>(after + 1, after == 3 ? 5 : 0));
    Constraints to;
    CHECK(AddProbed(result, to) == finished);
  }
  Setup setup;
  setup.device.gone_after = 0;
  setup.device.gone_code = EBUSY;
  CHECK(Told(setup.Run()) == "cannot_ask forward=cannot_ask:EBUSY");
}

TEST_CASE("Probe: without samples it knows nothing, and says why") {
  Setup setup;
  setup.machine.pages_error = ENOENT;
  setup.machine.contiguous_error = ENOMEM;
  CHECK(Told(setup.Run()) ==
        "unknown forward=no_memory:ENOENT reversed=no_memory:ENOENT "
        "contiguous=no_memory:ENOMEM");
  CHECK(Told(Probe(setup.device, {.bytes = 1})) == "unknown");
  SUBCASE("contiguous memory alone tells nothing of other memory") {
    setup.machine.contiguous_error = 0;
    CHECK(setup.Run().verdict == kUnknown);
  }
  SUBCASE("pages that are refused are not all there is") {
    setup.machine.pages_error = 0;
    setup.device.segments_max = 1;
    CHECK(setup.Run().verdict == kUnknown);
    CHECK(Probe(setup.device, {.bytes = 1}, setup.pages).verdict == kUnknown);
  }
  SUBCASE("a size that no memory has") {
    CHECK(Told(setup.Run(UINT64_MAX)) == "unknown");
    CHECK(setup.machine.asked.size() == 3);
  }
}

TEST_CASE("Probe: a queue of vmalloc memory needs a vmap, and no order") {
  Setup setup;
  // Single pages are refused because their exporter has no vmap (udmabuf of Linux 5.10).
  setup.device.address_limit = AddressOfBits(32);
  FakeOwn own("videobuf2_vmalloc");
  const ProbeTarget target{.bytes = 115'200};
  const ProbeResult result = Probe(setup.device, target, setup.pages, setup.contiguous, own);
  CHECK(result.verdict == kScatteredOk);
  CHECK(result.needs_vmap.yes());
  Constraints to{.exporter_needs = ExporterNeeds::kPages};
  CHECK(AddProbed(result, to));
  CHECK(to.exporter_needs.value() == (ExporterNeeds::kPages | ExporterNeeds::kVmap));
  CHECK_FALSE(to.segments_max.stated());
  SUBCASE("a queue of another kind does not") {
    FakeOwn other("videobuf2_dma_contig");
    CHECK(Probe(setup.device, target, setup.pages, setup.contiguous, other).verdict ==
          kContiguousOnly);
  }
}

TEST_CASE("Probe: a callable is asked as a device is, and sees the image") {
  Setup setup;
  constexpr ImageLayout kImage =
      LayoutOf<ImageSpec{.format = PixelFormat::kXrgb8888, .width = 64, .height = 64}>();
  const ProbeTarget target{.image = &kImage};
  CHECK(Probe(setup.device, target, setup.pages).bytes == *RoundUpToPages(kImage.total_bytes));
  CHECK(setup.device.image == &kImage);
  setup.device.maps_at_import = Known();  // of a device: no evidence
  const auto ask = [&](const DeviceMemory& memory) noexcept {
    CHECK(memory.image == &kImage);
    return setup.device.Accepts(memory);
  };
  CHECK(Probe(ask, target, setup.pages).verdict == kScatteredOk);
}

TEST_CASE("ProbeText: a result in one line, and a line for each heap") {
  Setup setup;
  setup.machine.step = 1;
  setup.device.segments_max = 1;
  const ProbeTarget target{.bytes = 10 * PageBytes()};
  FakeOwn own("videobuf2_vmalloc");
  CHECK(ToText(Probe(setup.device, target, setup.pages, own)) ==
        std::to_string(10 * PageBytes()) +
            " bytes: contiguous_only: forward takes, reversed refuses (PREPARE_BUF: EFAULT), own "
            "takes; the kernel's CPU uses it, by vmap");
  CHECK(ToText(ProbeResult{}) == "0 bytes: unknown");
  HeapAnswers answers(4096);
  answers.Add({HeapId{0}, "sys'tem", {Kind::kRefuses, EFAULT, ""}});
  answers.Add({HeapId{4}, {}, {Kind::kTakes}});
  CHECK(ToText(answers) == "4096 bytes\nheap 0 sys\\x27tem: refuses (EFAULT)\nheap 4: takes\n");
}

// --- With memory of a kernel, which is a fake one here -------------------------------------------

using Fake = FaultSyscallsOver<FakeSyscallsOf<Linux612Machine>>;

// The numbers of the pages of a sample, by their content.
template <class P>
std::vector<uint64_t> PageNumbers(P& pages, const Fake& sys, Sample which, uint64_t bytes,
                                  bool write) {
  std::vector<uint64_t> numbers;
  const Error error = pages.Lend(which, bytes, [&](const LentMemory& memory) noexcept {
    CHECK((::fcntl(memory.range.fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
    const long mapped =
        sys.Mmap(memory.range.bytes, PROT_READ | PROT_WRITE, memory.range.fd.get(), 0);
    REQUIRE_FALSE(Failed(mapped));
    auto* const at = reinterpret_cast<std::byte*>(mapped);
    for (uint64_t i = 0; i < memory.range.bytes / PageBytes(); ++i) {
      if (write) std::memcpy(at + i * PageBytes(), &i, sizeof(i));
      uint64_t number = 0;
      std::memcpy(&number, at + i * PageBytes(), sizeof(number));
      numbers.push_back(number);
    }
    CHECK(sys.Munmap(at, memory.range.bytes) == 0);
  });
  CHECK(error.code() == 0);
  return numbers;
}

TEST_CASE("PageMemory: the same pages, in both orders") {
  const LeakCheck leaks;
  const Fake sys;
  Result<PageMemory<Fake>> pages = PageMemory<Fake>::Open({.sys = sys});
  REQUIRE(pages.ok());
  for (const uint64_t count : {uint64_t{29}, uint64_t{1024}, uint64_t{2047}, uint64_t{2048}}) {
    CAPTURE(count);
    const uint64_t bytes = count * PageBytes() - 100;  // in whole pages
    // The module takes no more bytes.
    if (bytes > uint64_t{64} << 20) continue;
    const uint64_t piece = (count + 1023) / 1024;
    std::vector<uint64_t> forward, reversed;
    for (uint64_t i = 0; i < count; ++i) forward.push_back(i);
    for (uint64_t at = (count + piece - 1) / piece; at-- > 0;) {
      for (uint64_t i = at * piece; i < std::min(count, (at + 1) * piece); ++i) {
        reversed.push_back(i);
      }
    }
    CHECK(PageNumbers(*pages, sys, Sample::kForward, bytes, true) == forward);
    CHECK(PageNumbers(*pages, sys, Sample::kReversed, bytes, false) == reversed);
  }
  const auto none = [](const LentMemory&) noexcept { FAIL("there is no memory"); };
  CHECK(pages->Lend(Sample::kContiguous, 4096, none).code() == EINVAL);
  CHECK(pages->Lend(Sample::kForward, 0, none).code() == EINVAL);
  CHECK(pages->Lend(Sample::kForward, UINT64_MAX, none).code() == EINVAL);
  CHECK(pages->Lend(Sample::kForward, uint64_t{65} << 20, none).code() == EINVAL);
}

constexpr HeapSpec kCma{.type = HeapType::kDma, .id = 4, .name = "reserved"};
using FakeBackend = DmaHeapBackend<Fake>;
using FakeManager = Manager<FakeBackend, SystemHeap<FakeBackend>, DmaHeap<FakeBackend, kCma>>;

// Everything that a probe takes from a kernel.
struct World {
  explicit World(const Fake& sys)
      : manager(FakeManager::Open({.sys = sys})), client(Made(manager)) {}
  static absl::StatusOr<FakeManager::Client> Made(absl::StatusOr<FakeManager>& manager) {
    if (!manager.ok()) return manager.status();
    return manager->CreateClient({.name = "probe"});
  }
  absl::StatusOr<FakeManager> manager;
  absl::StatusOr<FakeManager::Client> client;
};

// Takes each descriptor that is one.
Acceptance TakesAll(const DeviceMemory& memory) noexcept {
  CHECK(::fcntl(memory.range.fd.get(), F_GETFD) >= 0);
  return {Takes::kTakes, {}};
}

TEST_CASE("ProbeHeaps: which heaps of a Manager a device takes") {
  const LeakCheck leaks;
  const Fake sys;
  World world(sys);
  REQUIRE(world.client.ok());
  const HeapOffers offers = OffersOf(*world.manager);
  size_t question = 0;
  const auto ask = [&](const DeviceMemory& memory) noexcept -> Acceptance {
    CHECK(memory.range.bytes >= 115'200);
    if (question++ == 0) return {Takes::kTakes, {}};
    return {Takes::kRefuses, Error(EFAULT, "ioctl", {"fake", Operation::kAttach})};
  };
  const HeapAnswers answers = ProbeHeaps(ask, {.bytes = 115'200}, *world.client, offers.span());
  REQUIRE(answers.span().size() == 2);
  CHECK(answers.span()[0].answer.takes());
  CHECK(answers.span()[1].answer.refuses());
  CHECK(answers.span()[1].answer.code == EFAULT);
  CHECK(world.client->held_bytes() == 0);
  Constraints to{.heaps_denied = HeapId{9}};
  CHECK(AddProbed(answers, to));
  CHECK(to.heaps_denied.value() == (HeapId{9} | answers.span()[1].heap));
  CHECK(to.heaps_denied.source() == Source{How::kProbed, answers.bytes()});
  CHECK_FALSE(AddProbed(answers, to));

  SUBCASE("a heap without room is no answer of the device") {
    const HeapAnswers large =
        ProbeHeaps(TakesAll, {.bytes = uint64_t{80} << 20}, *world.client, offers.span());
    bool lacks = false;
    for (const HeapAnswer& each : large.span()) {
      if (each.heap != HeapId{4}) continue;
      lacks = each.answer.kind == Kind::kNoMemory && each.answer.code == ENOMEM;
    }
    CHECK(lacks);
  }
  SUBCASE("a device that is gone is asked once") {
    FakeDevice gone{.gone_after = 0};
    const HeapAnswers none = ProbeHeaps(gone, {.bytes = 1}, *world.client, offers.span());
    CHECK(none.span()[0].answer.kind == Kind::kCannotAsk);
    CHECK(none.span()[1].answer.kind == Kind::kNotAsked);
    CHECK(gone.questions == 1);
  }
}

TEST_CASE("HeapMemory: memory that is not contiguous is refused") {
  const LeakCheck leaks;
  const Fake sys;
  World world(sys);
  REQUIRE(world.client.ok());
  const auto none = [](const LentMemory&) noexcept { FAIL("it is not contiguous"); };
  HeapMemory system(*world.client, HeapId{0});
  CHECK(system.Lend(Sample::kContiguous, 4096, none).code() == ENOTSUP);
  CHECK(system.Lend(Sample::kForward, 4096, none).code() == EINVAL);
  HeapMemory absent(*world.client, HeapId{7});
  CHECK(absent.Lend(Sample::kContiguous, 4096, none).code() != 0);
}

// A whole probe over the fake kernel, each part of which may fail.
ProbeResult ProbeAll(const Fake& sys, const std::function<void()>& begin,
                     const std::function<void()>& end) {
  World world(sys);
  if (!world.client.ok()) return {};
  begin();
  ProbeResult result;
  Result<PageMemory<Fake>> pages = PageMemory<Fake>::Open({.sys = sys});
  if (pages.ok()) {
    HeapMemory contiguous(*world.client, kCma.id);
    OwnDeviceMemory own(
        [&](uint64_t bytes) noexcept -> Result<UniqueFd> {
          const long fd = sys.MemfdCreate("own", MFD_CLOEXEC);
          if (Failed(fd)) return Error(ErrnoFrom(fd), "fake", {"fake", Operation::kShare});
          UniqueFd owned(static_cast<int>(fd));
          (void)sys.Ftruncate(owned.get(), static_cast<off_t>(bytes));
          return owned;
        },
        sys);
    size_t question = 0;
    const auto ask = [&](const DeviceMemory& memory) noexcept -> Acceptance {
      CHECK(::fcntl(memory.range.fd.get(), F_GETFD) >= 0);
      ++question;
      return {Takes::kTakes, {}};
    };
    result = Probe(ask, {.bytes = 8 * PageBytes()}, *pages, contiguous, own);
  }
  end();
  return result;
}

TEST_CASE("Probe: each system call fails in turn, and nothing is leaked or made up") {
  const auto faults = std::make_shared<Faults>();
  const Fake sys(faults);
  for (const int code : {ENOMEM, EINVAL, EMFILE, EIO}) {
    for (size_t n = 0;; ++n) {
      CAPTURE(code);
      CAPTURE(n);
      const LeakCheck leaks;
      const ProbeResult result = ProbeAll(
          sys, [&] { faults->Begin({.n = n, .code = code}); }, [&] { faults->End(); });
      const bool proven = result.verdict == kScatteredOk;
      CHECK((proven || result.verdict == kUnknown));
      if (!faults->failed().has_value()) {
        CHECK(proven);
        CHECK(n > 20);
        break;
      }
    }
  }
}

// A kernel with /dev/udmabuf, whose dma-bufs are memfds, and which itself needs no operator new.
class PlainSyscalls : public LinuxSyscalls {
 public:
  long Open(const char* path, int flags) const noexcept {
    if (std::string_view(path) != "/dev/udmabuf") return LinuxSyscalls::Open(path, flags);
    return MemfdCreate("node", MFD_CLOEXEC);
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    const long answer = LinuxSyscalls::Fstat(fd, to);
    to->st_mode = S_IFCHR;
    return answer;
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    if (request != ion_uapi::kUdmabufCreateList) {
      return LinuxSyscalls::Ioctl(fd, request, argument);
    }
    return MemfdCreate("buffer", MFD_CLOEXEC);
  }
};

TEST_CASE("Probe: each operator new fails in turn, and nothing is leaked or made up") {
  using Memory = PageMemory<PlainSyscalls>;
  using B = MemfdBackend<>;
  absl::StatusOr<Manager<B, SystemHeap<B>>> manager = Manager<B, SystemHeap<B>>::Open();
  REQUIRE(manager.ok());
  const HeapOffers offers = OffersOf(*manager);
  const Memory::Options options;
  {
    auto client = manager->CreateClient({.name = "probe"});  // what is made once
    REQUIRE(client.ok());
    (void)ProbeHeaps(TakesAll, {.bytes = 1 << 20}, *client, offers.span());
  }
  for (size_t n = 0;; ++n) {
    CAPTURE(n);
    const LeakCheck leaks;
    bool failed = false;
    const int64_t live = FaultNew::live();
    ProbeVerdict verdict = kUnknown;
    HeapAnswers answers(0);
    {
      auto client = manager->CreateClient({.name = "probe"});
      REQUIRE(client.ok());
      FaultNew::Begin(n);
      Result<Memory> pages = Memory::Open(options);
      if (pages.ok()) verdict = Probe(TakesAll, {.bytes = 1 << 20}, *pages).verdict;
      answers = ProbeHeaps(TakesAll, {.bytes = 1 << 20}, *client, offers.span());
      failed = FaultNew::End();
    }
    CHECK(FaultNew::live() == live);
    CHECK((verdict == kScatteredOk || verdict == kUnknown));
    REQUIRE(answers.span().size() == 1);
    const ProbeAnswer& answer = answers.span()[0].answer;
    CHECK((answer.takes() || (answer.kind == Kind::kNoMemory && answer.code == ENOMEM)));
    if (failed) continue;
    CHECK(verdict == kScatteredOk);
    CHECK(answer.takes());
    CHECK(n > 4);
    break;
  }
}

}  // namespace
}  // namespace ion::testing
