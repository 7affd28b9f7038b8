// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/probe_table.h"

#include <sys/utsname.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/base/known.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "ion/probe.h"
#include "tests/support/fault_new.h"

namespace ion::testing {
namespace {

using Kind = ProbeAnswer::Kind;

// A kernel of this release.
template <const char* kRelease>
class OtherKernel : public LinuxSyscalls {
 public:
  long Uname(struct utsname* to) const noexcept {
    const std::string_view release = kRelease;
    if (release.empty()) return -EFAULT;
    std::memset(to, 'x', sizeof(*to));
    to->release[release.copy(to->release, sizeof(to->release) - 1)] = 0;
    return 0;
  }
};
constexpr char kOld[] = "5.10.0", kNew[] = "6.12.38+deb13", kRefused[] = "";

ProbeName Named(std::string_view text) { return *ProbeName::From(text); }

ProbeEntry Entry(std::string_view device, ProbeVerdict verdict) {
  ProbeEntry entry;
  entry.key = {.device = Named(device),
               .driver = Named("vivid"),
               .kernel = Named(kNew),
               .format = 0x34325258,
               .width = 1920,
               .height = 1080,
               .bytes = 8'294'400};
  entry.result.verdict = verdict;
  entry.result.bytes = entry.key.bytes;
  entry.result.answers[0] = {Kind::kRefuses, EFAULT, "PREPARE_BUF"};
  entry.result.answers[2] = {Kind::kTakes};
  entry.result.answers[5] = {Kind::kCannotAsk, EBUSY, "REQBUFS"};
  return entry;
}

constexpr std::string_view kText =
    "ion-probe-table 1\n"
    "device=/dev/video1 driver=vivid kernel=6.12.38+deb13 format=0x34325258 width=1920 "
    "height=1080 bytes=8294400 verdict=contiguous_only vmap=unknown forward=refuses:14 "
    "reversed=not_asked contiguous=takes forward_larger=not_asked contiguous_larger=not_asked "
    "own=cannot_ask:16\n";

std::string Refusal(std::string_view text) {
  const absl::StatusOr<ProbeTable> read = ProbeTableFromText(text);
  if (read.ok()) return "ok";
  CHECK(ErrnoOf(read.status()) == EINVAL);
  CHECK(absl::IsInvalidArgument(read.status()));
  return std::string(read.status().message());
}

// The text with the first `from` replaced.
std::string With(std::string_view from, std::string_view to) {
  std::string text(kText);
  const size_t at = text.find(from);
  REQUIRE(at != text.npos);
  return text.replace(at, from.size(), to);
}

TEST_CASE("ProbeTable: a result is found by its key, and by no other") {
  ProbeTable table;
  const ProbeEntry entry = Entry("/dev/video1", ProbeVerdict::kContiguousOnly);
  REQUIRE(table.Put(entry).ok());
  REQUIRE(table.Find(entry.key) != nullptr);
  CHECK(*table.Find(entry.key) == entry.result);
  for (int field = 0; field < 7; ++field) {
    CAPTURE(field);
    ProbeKey other = entry.key;
    if (field == 0) other.device = Named("/dev/video2");
    if (field == 1) other.driver = Named("uvcvideo");
    if (field == 2) other.kernel = Named(kOld);
    if (field == 3) other.format = 0;
    if (field == 4) other.width = 640;
    if (field == 5) other.height = 480;
    if (field == 6) other.bytes = 4096;
    CHECK(table.Find(other) == nullptr);
  }
  REQUIRE(table.Put(Entry("/dev/video1", ProbeVerdict::kScatteredOk)).ok());
  CHECK(table.entries().size() == 1);
  CHECK(table.Find(entry.key)->verdict == ProbeVerdict::kScatteredOk);
}

TEST_CASE("ProbeTable: a result of another kernel is not used") {
  const ProbeTarget target{.bytes = 8'294'400};
  const auto on_old = ProbeKeyOf("cam", "vivid", target, OtherKernel<kOld>());
  const auto on_new = ProbeKeyOf("cam", "vivid", target, OtherKernel<kNew>());
  REQUIRE(on_old.ok());
  REQUIRE(on_new.ok());
  ProbeTable table;
  REQUIRE(table.Put({*on_old, {.verdict = ProbeVerdict::kScatteredOk}}).ok());
  CHECK(table.Find(*on_old) != nullptr);
  CHECK(table.Find(*on_new) == nullptr);
  table.DropOthers(kNew);
  CHECK(table.entries().empty());
}

TEST_CASE("ProbeTable: the key has the image, the size of the samples and uname's release") {
  constexpr ImageLayout kImage =
      LayoutOf<ImageSpec{.format = PixelFormat::kXrgb8888, .width = 64, .height = 32}>();
  const auto key = ProbeKeyOf("cam", "vivid", {.image = &kImage}, OtherKernel<kNew>());
  REQUIRE(key.ok());
  CHECK(key->format == 0x34325258);
  CHECK(key->width == 64);
  CHECK(key->height == 32);
  CHECK(key->bytes == *RoundUpToPages(uint64_t{64} * 32 * 4));
  CHECK(key->kernel.view() == kNew);
  CHECK(ProbeKeyOf("cam", "vivid", {.bytes = 1})->kernel.view().find('.') != std::string::npos);

  const std::string longest(ProbeName::kMostBytes, 'a');
  CHECK(ProbeKeyOf(longest, longest, {.bytes = 1}).ok());
  CHECK(ErrnoOf(ProbeKeyOf(longest + "a", "", {.bytes = 1}).status()) == EINVAL);
  CHECK(ErrnoOf(ProbeKeyOf("", longest + "a", {.bytes = 1}).status()) == EINVAL);
  CHECK(ErrnoOf(ProbeKeyOf("", "", {.bytes = UINT64_MAX}).status()) == EINVAL);
  CHECK(ErrnoOf(ProbeKeyOf("", "", {.bytes = 1}, OtherKernel<kRefused>()).status()) == EFAULT);
}

TEST_CASE("ProbeTable: its text is a line each, and is read again") {
  ProbeTable table;
  CHECK(ToText(table) == "ion-probe-table 1\n");
  REQUIRE(table.Put(Entry("/dev/video1", ProbeVerdict::kContiguousOnly)).ok());
  CHECK(ToText(table) == kText);
  for (size_t i = 0; i < kProbeVerdicts; ++i) {
    ProbeEntry entry = Entry("cam" + std::to_string(i), static_cast<ProbeVerdict>(i));
    entry.result.needs_vmap = Known::YesIf(i % 2 == 0);
    for (size_t k = 0; k < kAnswerKinds; ++k) {
      entry.result.answers[k] = {static_cast<Kind>(k), static_cast<int>(i * 500)};
    }
    REQUIRE(table.Put(entry).ok());
  }
  const absl::StatusOr<ProbeTable> read = ProbeTableFromText(ToText(table));
  REQUIRE(read.ok());
  CHECK(*read == table);
}

TEST_CASE("ProbeTable: a hostile name makes no line and no field") {
  std::string every;
  for (int byte = 0; byte < 256; ++byte) every += static_cast<char>(byte);
  ProbeTable table;
  for (size_t at = 0; at < every.size(); at += ProbeName::kMostBytes) {
    ProbeEntry entry = Entry(every.substr(at, ProbeName::kMostBytes), ProbeVerdict::kUnknown);
    entry.key.driver = entry.key.kernel = entry.key.device;
    REQUIRE(table.Put(entry).ok());
  }
  REQUIRE(table.Put(Entry("a\ndevice=b driver= ", ProbeVerdict::kUnknown)).ok());
  REQUIRE(table.Put(Entry("", ProbeVerdict::kUnknown)).ok());
  const std::string text = ToText(table);
  size_t lines = 0;
  for (const char c : text) {
    CHECK((c == '\n' || (c >= 0x20 && c < 0x7f)));
    lines += c == '\n';
  }
  CHECK(lines == 1 + table.entries().size());
  const absl::StatusOr<ProbeTable> read = ProbeTableFromText(text);
  REQUIRE(read.ok());
  CHECK(*read == table);
}

TEST_CASE("ProbeTable: a text that is none is refused, with the line") {
  CHECK(Refusal(kText) == "ok");
  CHECK(Refusal("") == "probe table, line 1: has no end");
  CHECK(Refusal("ion-probe-table 1") == "probe table, line 1: has no end");
  CHECK(Refusal("ion-probe-table 2\n") == "probe table, line 1: is not 'ion-probe-table 1'");
  CHECK(Refusal(kText.substr(0, kText.size() - 1)) == "probe table, line 2: has no end");
  CHECK(Refusal(std::string(kText) + "\n") ==
        "probe table, line 3: its field 'device' is missing or bad");
  CHECK(Refusal(std::string(kText) + std::string(kText.substr(kText.find('\n') + 1))) ==
        "probe table, line 3: has the key of another line");
  CHECK(Refusal(std::string(kText) + std::string(4000, 'a') + "\n") ==
        "probe table, line 3: is too long");
  const auto bad = [](std::string_view field) {
    return "probe table, line 2: its field '" + std::string(field) + "' is missing or bad";
  };
  CHECK(Refusal(With("driver=", "maker=")) == bad("driver"));
  CHECK(Refusal(With("/dev/video1", "\\x2")) == bad("device"));
  CHECK(Refusal(With("/dev/video1", "\\y20")) == bad("device"));
  CHECK(Refusal(With("/dev/video1", std::string(65, 'a'))) == bad("device"));
  CHECK(Refusal(With("0x34325258", "0x134325258")) == bad("format"));
  CHECK(Refusal(With("0x34325258", "34325258")) == bad("format"));
  CHECK(Refusal(With("width=1920", "width=")) == bad("width"));
  CHECK(Refusal(With("width=1920", "width=-1")) == bad("width"));
  CHECK(Refusal(With("bytes=8294400", "bytes=18446744073709551616")) == bad("bytes"));
  CHECK(Refusal(With("contiguous_only", "contiguous")) == bad("verdict"));
  CHECK(Refusal(With("vmap=unknown", "vmap=no")) == bad("vmap"));
  CHECK(Refusal(With("refuses:14", "refuses:4096")) == bad("forward"));
  CHECK(Refusal(With("refuses:14", "refuses:")) == bad("forward"));
  CHECK(Refusal(With("cannot_ask:16", "cannot_ask:16 ")) ==
        "probe table, line 2: is not written as ToText writes it");
  CHECK(Refusal(With("cannot_ask:16", "cannot_ask:16 more=1")) == bad("the end"));
  const std::string otherwise = "probe table, line 2: is not written as ToText writes it";
  CHECK(Refusal(With("width=1920", "width=01920")) == otherwise);
  CHECK(Refusal(With("/dev/video1", "/dev/v\\x69deo1")) == otherwise);
  CHECK(Refusal(With("/dev/video1", "/dev/v deo1")) == bad("driver"));
  CHECK(Refusal(With("refuses:14", "refuses:0")) == otherwise);
}

TEST_CASE("ProbeTable: it is bounded") {
  ProbeTable table;
  for (size_t i = 0; i < ProbeTable::kMostEntries; ++i) {
    REQUIRE(table.Put(Entry("cam" + std::to_string(i), ProbeVerdict::kUnknown)).ok());
  }
  const absl::Status full = table.Put(Entry("one more", ProbeVerdict::kUnknown));
  CHECK(ErrnoOf(full) == ENOSPC);
  CHECK(table.Put(Entry("cam7", ProbeVerdict::kScatteredOk)).ok());
  std::string text = ToText(table);
  CHECK(ProbeTableFromText(text).ok());
  text += internal::ProbeLine(Entry("one", ProbeVerdict::kUnknown)) + "\n";
  CHECK(Refusal(text) == "probe table, line 1026: is one more than a table has");
}

TEST_CASE("ProbeTable: whatever bytes are read, it is a table of that text or a Status") {
  ProbeTable table;
  for (const std::string_view device : {"/dev/video0", "a b\n\\", "\xff\x01", "0000"}) {
    REQUIRE(table.Put(Entry(device, ProbeVerdict::kScatteredOk)).ok());
  }
  const std::string original = ToText(table);
  constexpr std::string_view kUseful = "\n =:\\x0123456789abcdef";
  std::mt19937 random(20260101);  // NOLINT(cert-msc51-cpp): the same each time
  size_t read_again = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::string text = original;
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes) {
      const size_t at = random() % text.size();
      const char byte = random() % 2 == 0 ? static_cast<char>(random() & 0xff)
                                          : kUseful[random() % kUseful.size()];
      switch (random() % 6) {
        case 0:
          text[at] = byte;
          break;
        case 1:
          text.insert(at, 1 + random() % 3, byte);
          break;
        case 2:
          text.erase(at, 1 + random() % 20);
          break;
        case 3:
          text.insert(at, text.substr(random() % text.size(), random() % 200));
          break;
        case 4:
          text.resize(at);
          break;
        case 5:
          text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
          break;
      }
      if (text.empty()) break;
    }
    const absl::StatusOr<ProbeTable> read = ProbeTableFromText(text);
    if (!read.ok()) {
      const std::string message(read.status().message());
      if (!message.starts_with("probe table, line ")) FAIL_CHECK(text);
      continue;
    }
    ++read_again;
    if (ToText(*read) != text) FAIL_CHECK(text);
  }
  CHECK(read_again > 100);
}

TEST_CASE("ProbeTable: without heap memory it is a Status") {
  const ProbeEntry entry = Entry("cam", ProbeVerdict::kUnknown);
  for (size_t n = 0;; ++n) {
    CAPTURE(n);
    const int64_t live = FaultNew::live();
    bool failed = false;
    {
      ProbeTable table;
      FaultNew::Begin(n);
      const absl::Status put = table.Put(entry);
      const absl::StatusOr<ProbeTable> read = ProbeTableFromText(kText);
      failed = FaultNew::End();
      if (!put.ok()) CHECK(ErrnoOf(put) == ENOMEM);
      if (!read.ok()) CHECK(ErrnoOf(read.status()) == ENOMEM);
      CHECK((put.ok() && read.ok()) != failed);
    }
    CHECK(FaultNew::live() == live);
    if (!failed) {
      CHECK(n > 2);
      break;
    }
  }
}

}  // namespace
}  // namespace ion::testing
