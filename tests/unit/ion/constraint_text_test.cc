// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Demands as text and back, hostile texts, and the sentences about a choice.

#include "ion/constraint_text.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/base/status.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/merge.h"

namespace ion::testing {
namespace {

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Each field with a value of its own.
const Constraints kFull{.size_min = 4096,
                        .size_max = FromKernel(1 << 20),
                        .size_multiple = 4096,
                        .tail_bytes = 8192,
                        .tail_rows = 64,
                        .held = FromKernel(4),
                        .slack = 1,
                        .shared_slack = 2,
                        .buffers_max = 32,
                        .address_limit = AddressOfBits(32),
                        .segments_max = Probed(256, 1 << 20),
                        .segment_size_max = 65536,
                        .segment_boundary = 1ull << 32,
                        .segment_multiple = 512,
                        .base_align = 256,
                        .cpu_read = CpuUse::kOften,
                        .cpu_write = CpuUse::kRare,
                        .kernel_cpu_writes = true,
                        .coherency = Coherency::kNeedsSync,
                        .protection = Protection::kForbidden,
                        .exporter_needs = ExporterNeeds::kPages | ExporterNeeds::kMmap,
                        .heaps_allowed = HeapId{1} | HeapId{4},
                        .heaps_denied = HeapId{1},
                        .cc_shared = false,
                        .stride_multiple = Probed(64, 3110400),
                        .stride_min = 1920,
                        .stride_max = 16384,
                        .stride_exact = 1920,
                        .width_multiple = 16,
                        .height_multiple = 16,
                        .plane_offset_multiple = 4096,
                        .planes = PlaneFds::kSeparate,
                        .fences = Fences::kSyncFile,
                        .fences_needed = Fences::kImplicit,
                        .translated = FromKernel(true),
                        .formats = {{0x3231564e, 0}, {0x34325258, 0x0100000000000001}}};
constexpr std::string_view kFullText =
    "size_min=4096 size_max=1048576@kernel size_multiple=4096 tail_bytes=8192 tail_rows=64 "
    "held=4@kernel slack=1 shared_slack=2 buffers_max=32 address_limit=0xffffffff "
    "segments_max=256@probed:1048576 segment_size_max=65536 segment_boundary=4294967296 "
    "segment_multiple=512 base_align=256 cpu_read=often cpu_write=rare kernel_cpu_writes=yes "
    "coherency=needs_sync protection=forbidden exporter_needs=pages+mmap heaps_allowed=0x12 "
    "heaps_denied=0x2 cc_shared=no stride_multiple=64@probed:3110400 stride_min=1920 "
    "stride_max=16384 stride_exact=1920 width_multiple=16 height_multiple=16 "
    "plane_offset_multiple=4096 planes=separate fences=sync_file fences_needed=implicit "
    "translated=yes@kernel formats=0x3231564e:0x0,0x34325258:0x100000000000001";

TEST_CASE("Constraints: their text has each field with its source, and reads back the same") {
  CHECK(ToText(kFull) == kFullText);
  const auto read = ConstraintsFromText(kFullText);
  REQUIRE_MESSAGE(read.ok(), read.status().ToString());
  CHECK(*read == kFull);
  CHECK(ToText(Constraints()).empty());
  CHECK(*ConstraintsFromText("") == Constraints());
  CHECK(*ConstraintsFromText(" \n\t ") == Constraints());
  CHECK(*ConstraintsFromText("held=0x10@declared\n\nslack=2\n") ==
        Constraints{.held = 16, .slack = 2});
  CHECK(ConstraintsFromText("exporter_needs=none")->exporter_needs.stated());
}

TEST_CASE("Constraints: a text that is none says the field and the byte") {
  struct Row {
    std::string_view text;
    std::string_view said;
  };
  constexpr Row kRows[] = {
      {"held=1 colour=3", "byte 7, field 'colour': there is no such field"},
      {"=", "byte 0, field '': there is no such field"},
      {"Held=1", "byte 0, field 'Held': there is no such field"},
      {"held", "byte 0, field 'held': has no value"},
      {"held=", "byte 0, field 'held': is no number of 64 bits"},
      {"held=-1", "is no number of 64 bits"},
      {"held=+1", "is no number of 64 bits"},
      {"held=0x", "is no number of 64 bits"},
      {"held=1x", "is no number of 64 bits"},
      {"held=18446744073709551616", "is no number of 64 bits"},
      {"  held=1 slack=2 held=3", "byte 17, field 'held': occurs twice"},
      {"held=1@", "field 'held': its source is none of"},
      {"held=1@rumour", "its source is none of"},
      {"held=1@probed", "its source is none of"},
      {"held=1@probed:", "its source is none of"},
      {"held=1@probed:72057594037927936", "its source is none of"},
      {"held=1@kernel@kernel", "its source is none of"},
      {"cpu_read=maybe", "field 'cpu_read': is none of the field's words"},
      {"cpu_read=2", "is none of the field's words"},
      {"cc_shared=true", "is none of the field's words"},
      {"exporter_needs=pages+", "is none of the field's words"},
      {"exporter_needs=pages+fast", "is none of the field's words"},
      {"base_align=0", "field 'base_align': is 0"},
      {"slack=1 segment_multiple=3", "byte 8, field 'segment_multiple': is no power of two"},
      {"heaps_allowed=0x100000000", "field 'heaps_allowed': is none of the field's values"},
      {"address_limit=0xffffffff@probed:4096", "field 'address_limit': is known by no probe"},
      {"formats=", "field 'formats': has no modifier"},
      {"formats=1", "has no modifier"},
      {"formats=1:0,", "has no modifier"},
      {"formats=0:0", "has the format 0"},
      {"formats=0x100000000:0", "has a format that is no number of 32 bits"},
      {"formats=1:x", "has a modifier that is no number of 64 bits"},
      {"segment_size_max=8192 size_min=2 size_max=1",
       "byte 33, field 'size_max': excludes size_min of the same text"},
      {"formats=1:0 formats=2:0", "byte 12, field 'formats': occurs twice"},
  };
  for (const Row& row : kRows) {
    CAPTURE(row.text);
    const auto read = ConstraintsFromText(row.text);
    REQUIRE_FALSE(read.ok());
    CHECK(ErrnoOf(read.status()) == EINVAL);
    CHECK_MESSAGE(Contains(std::string(read.status().message()), row.said),
                  read.status().ToString());
  }
  std::string many = "formats=";
  for (int i = 1; i <= 65; ++i) many += (i > 1 ? "," : "") + std::to_string(i) + ":0";
  CHECK(Contains(ConstraintsFromText(many).status().ToString(), "more than 64 formats"));
  CHECK(Contains(ConstraintsFromText(std::string(16385, ' ')).status().ToString(), "byte 16384"));
  // A name with a line break forges no line.
  CHECK(Contains(ConstraintsFromText("a\x1b[2J=1").status().ToString(), "a\\x1b[2J"));
  CHECK_FALSE(ConstraintsFromText(std::string_view("held=1\0", 7)).ok());
}

TEST_CASE("Constraints: a damaged text is refused, or reads back as it was written") {
  std::minstd_rand random(42);
  size_t refused = 0;
  constexpr int kRounds = 20'000;
  for (int round = 0; round < kRounds; ++round) {
    std::string text(kFullText);
    for (size_t changes = 1 + random() % 3; changes > 0; --changes) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          text.erase(at, 1 + random() % 20);
          break;
        default:
          text.insert(at, text, random() % text.size(), random() % 20);
          break;
      }
      if (text.empty()) text = "x";
    }
    const auto read = ConstraintsFromText(text);
    if (!read.ok()) {
      ++refused;
      continue;
    }
    const auto again = ConstraintsFromText(ToText(*read));
    REQUIRE(again.ok());
    REQUIRE(*again == *read);
  }
  CHECK(refused > kRounds / 10);
  CHECK(refused < kRounds);
}

const Constraints kGpu{.stride_multiple = 64};
const Constraints kEncoder{.held = 3, .stride_multiple = FromKernel(48)};
const Constraints kCodec{.segments_max = Probed(1, 1 << 20)};
const Constraints kRga{.address_limit = AddressOfBits(32)};
const HeapOffer kHeaps[] = {
    {HeapId{0}, "system", {.ram = true, .mappable = true}},
    {HeapId{4}, "linux,cma", {.segments = 1, .top = 0x17fffffff, .mappable = true}}};

TEST_CASE("Choice: the origin of each value has an answer") {
  const Party parties[] = {{"gpu", kGpu}, {"encoder", kEncoder}, {"codec", kCodec}};
  const Choice choice = Choose(parties, kHeaps);
  CHECK(DescribeOrigin(choice, Field::kStrideMultiple, parties) ==
        "stride_multiple is 192, from 64 of gpu (declared) and 48 of encoder (read from the "
        "kernel)");
  CHECK(DescribeOrigin(choice, Field::kSegmentsMax, parties) ==
        "segments_max is 1, from 1 of codec (probed with 1048576 bytes)");
  for (size_t i = 0; i < kFieldCount; ++i) {
    const std::string text = DescribeOrigin(choice, static_cast<Field>(i), parties);
    CHECK(text.starts_with(FieldName(static_cast<Field>(i))));
    CHECK((Contains(text, ", from ") || Contains(text, "because no party limits it")));
  }
}

TEST_CASE("Choice: a value that an IOMMU satisfies is told as such") {
  const Constraints npu{.segments_max = 1, .translated = true};
  const Party parties[] = {{"npu", npu}};
  CHECK(DescribeOrigin(Choose(parties, kHeaps), Field::kSegmentsMax, parties) ==
        "segments_max is 18446744073709551615, because no party limits it; the IOMMU of npu "
        "satisfies its own");
}

TEST_CASE("Choice: each heap has its verdict and its reason") {
  const Constraints cpu{.cpu_read = CpuUse::kOften};
  const Party parties[] = {{"codec", kCodec}, {"cpu", cpu}};
  const Choice choice = Choose(parties, kHeaps);
  REQUIRE(choice.ok());
  CHECK(ToStatus(choice, parties, kHeaps).ok());
  const std::string text = Describe(choice, parties, kHeaps);
  CHECK(Contains(text,
                 "heap 0 (system): segments_max 1 of codec (probed with 1048576 bytes), and the "
                 "number of its pieces is not known\nheap 4 (linux,cma): fits, place 0, cost "));
}

TEST_CASE("Choice: the reason for each kind of verdict is a sentence") {
  struct Row {
    Constraints set;
    Guarantees is;
    std::string_view said;
  };
  const Row rows[] = {
      {{.protection = Protection::kRequired},
       {.protected_memory = false},
       "protection required of x (declared), and the memory is not protected"},
      {{.coherency = Coherency::kMustBeCached},
       {.cached = false},
       "and the memory is uncached (declared)"},
      {{.cc_shared = true}, {.cc_shared = false}, "it does not have memory shared in the clear"},
      {{.cpu_write = CpuUse::kRare}, {.mappable = false}, "it does not have a mapping for the CPU"},
      {{.kernel_cpu_writes = true}, {}, "a mapping for the kernel's CPU is not known"},
      {{.exporter_needs = ExporterNeeds::kPages},
       {.pages = false},
       "exporter_needs pages of x (declared), and it does not have that service"},
      {{.address_limit = 0xffffffff},
       {.top = 0x100000000},
       "address_limit 0xffffffff of x (declared), and its highest address is 0x100000000 "
       "(declared)"},
      {{.base_align = 8192}, {.alignment = 4096}, "and its alignment is 4096 (declared)"},
      {{.segment_multiple = 8192}, {}, "and its piece is 4096"},
      {{.size_min = 8192}, {.bytes_max = 4096}, "and its largest buffer is 4096"},
      {{.heaps_allowed = HeapMask(HeapId{2})},
       {},
       "heaps_allowed 0x4 of x (declared), which leaves"},
  };
  for (const Row& row : rows) {
    const Party parties[] = {{"x", row.set}};
    const HeapOffer heaps[] = {{HeapId{1}, "h", row.is}};
    const Choice choice = Choose(parties, heaps);
    const std::string text = Describe(choice, parties, heaps);
    CHECK_MESSAGE(Contains(text, row.said), text);
  }
}

TEST_CASE("Choice: the top of the machine's memory is told as the kernel's word") {
  const Party parties[] = {{"rga", kRga}};
  const HeapOffer heaps[] = {kHeaps[0]};
  const ChoiceOptions options{.memory_top = 0x23fffffff};
  const Choice choice = Choose(parties, heaps, options);
  CHECK(Contains(Describe(choice, parties, heaps, options),
                 "its highest address is 0x23fffffff (read from the kernel)"));
}

TEST_CASE("Choice: an empty result names the field, both parties, both values and their sources") {
  const Constraints screen{.stride_exact = FromKernel(1920)};
  const Party parties[] = {{"screen", screen}, {"gpu", kGpu}, {"encoder", kEncoder}};
  SUBCASE("two parties") {
    const Constraints wide{.stride_multiple = 256};
    const Party two[] = {parties[0], {"gpu", wide}};
    const absl::Status status = ToStatus(Choose(two, kHeaps), two, kHeaps);
    CHECK(status.code() == absl::StatusCode::kUnimplemented);
    CHECK(ErrnoOf(status) == ENOTSUP);
    CHECK(status.message() ==
          "choice of memory: stride_exact 1920 of screen (read from the kernel) and "
          "stride_multiple 256 of gpu (declared) exclude each other: stride_exact: one party has "
          "a fixed stride that another one does not take");
  }
  SUBCASE("three parties") {
    const Constraints max{.stride_max = 128};
    const Party three[] = {{"screen", max}, parties[1], parties[2]};
    const Choice choice = Choose(three, kHeaps);
    CHECK(Contains(Describe(choice.conflict),
                   "stride_max 128 of screen (declared) and stride_multiple 64 of gpu (declared) "
                   "exclude each other, with stride_multiple 192 of all parties"));
    CHECK(Contains(DescribeOrigin(choice, Field::kStrideMax, three),
                   "has no value for all parties, from 128 of screen (declared)"));
  }
  SUBCASE("a party and the heaps") {
    const Party two[] = {{"codec", kCodec}, {"rga", kRga}};
    const absl::Status status = ToStatus(Choose(two, kHeaps), two, kHeaps);
    CHECK(status.code() == absl::StatusCode::kNotFound);
    CHECK(Contains(std::string(status.message()), "segments_max 1 of codec (probed"));
    CHECK(Contains(std::string(status.message()),
                   "address_limit 0xffffffff of rga (declared), and its highest address is "
                   "0x17fffffff"));
  }
}

TEST_CASE("Choice: each combination of sets that fails is told") {
  const Constraints sets[] = {{.stride_exact = 100}, {.segments_max = 1, .cc_shared = true}};
  const Party parties[] = {{"isp", sets}, {"gpu", kGpu, Party::Kind::kDispensable}};
  const Choice choice = Choose(parties, kHeaps);
  REQUIRE(choice.ok());
  const std::string text = Describe(choice, parties, kHeaps);
  CHECK(Contains(text, "isp with set 0, gpu with set 0: no heap fits\nstride_exact 100 of isp"));
  CHECK(Contains(text, "isp with set 1, gpu with set 0: no heap fits\nheap 0 (system): cc_shared"));
  CHECK(Contains(text, "gpu is left out"));
}

TEST_CASE("Problem: bad input says which party, set and field") {
  const Constraints sets[] = {{}, {.base_align = FromKernel(0)}};
  const Party parties[] = {{"isp\n", sets}};
  const Choice choice = Choose(parties, kHeaps);
  const absl::Status status = ToStatus(choice, parties, kHeaps);
  CHECK(ErrnoOf(status) == EINVAL);
  CHECK(status.message() ==
        "choice of memory: isp\\x0a, set 1: base_align 0 (read from the kernel) is 0, and 1 asks "
        "for no multiple");
  const Constraints contradiction{.segment_size_max = 8192, .segment_boundary = 4096};
  CHECK(Describe(CheckAlone(contradiction, "dma")) ==
        "dma, set 0: segment_boundary 4096 (declared) excludes the party's own segment_size_max "
        "8192 (declared)");
  // One for each kind.
  for (int kind = 0; kind <= static_cast<int>(Problem::Kind::kBadHeap); ++kind) {
    Problem problem;
    problem.kind = static_cast<Problem::Kind>(kind);
    CHECK(Describe(problem).size() > 9);
  }
}

}  // namespace
}  // namespace ion::testing
