// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The example choose_memory, as a user starts it: over vivid and vgem in a guest, and with wrong
// arguments anywhere.

#include <fcntl.h>
#include <sys/wait.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/fd.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

struct Run {
  std::string output;
  int exit_code = -1;

  bool Says(std::string_view text) const { return output.find(text) != std::string::npos; }
  std::string last_line() const {
    if (output.size() < 2) return {};
    const size_t before = output.rfind('\n', output.size() - 2);
    return output.substr(before == std::string::npos ? 0 : before + 1);
  }
};

Run ChooseMemory(const std::string& arguments) {
  const auto self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string program = self.parent_path().parent_path() / "examples" / "choose_memory";
  Run run;
  std::FILE* const pipe = ::popen((program + " " + arguments + " 2>&1").c_str(), "re");
  REQUIRE(pipe != nullptr);
  std::array<char, 4096> text{};
  while (const size_t got = std::fread(text.data(), 1, text.size(), pipe)) {
    run.output.append(text.data(), got);
  }
  const int status = ::pclose(pipe);
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

// Why vivid's queues and the heaps of 6.12 cannot be used here; empty: they can.
std::string Lacks() {
  if (!OpenNode("/dev/dma_heap/reserved", O_RDONLY).valid()) return "no dma-heap `reserved`";
  if (!OpenNode("/dev/video0").valid()) return "no /dev/video0";
  if (IsAs510()) return "Linux before 5.11: ION is there, and the dma-heaps are others";
  return {};
}

constexpr const char* kEarly = "--size=640x360 --frames=20 cpu v4l2:vivid-vmalloc drm:vgem";
constexpr const char* kLate =
    "--size=640x360 --frames=20 cpu v4l2:vivid-vmalloc drm:vgem v4l2:vivid-contig";

TEST_CASE("choose_memory: the CPU, a queue that copies and vgem share system memory") {
  if (const std::string lacks = Lacks(); !lacks.empty()) return Skip(lacks);
  const LeakCheck leaks;
  const Run run = ChooseMemory(kEarly);
  CAPTURE(run.output);
  CHECK(run.exit_code == 0);
  CHECK(run.Says("so: scattered_ok"));
  CHECK(run.last_line() == "chosen: heap=system type=system generation=1 frames=20 mismatches=0\n");
}

TEST_CASE("choose_memory: a queue that needs one piece comes late, and the memory moves to CMA") {
  if (const std::string lacks = Lacks(); !lacks.empty()) return Skip(lacks);
  const LeakCheck leaks;
  const Run run = ChooseMemory(kLate);
  CAPTURE(run.output);
  CHECK(run.exit_code == 0);
  CHECK(run.Says("so: contiguous_only"));
  CHECK(run.Says("moved to generation 2 for v4l2:vivid-contig"));
  CHECK(run.Says("the content is the same"));
  CHECK(run.last_line() == "chosen: heap=reserved type=dma generation=2 frames=40 mismatches=0\n");
}

TEST_CASE("choose_memory: if CMA is full, the error names the queue, its demand and the heaps") {
  if (const std::string lacks = Lacks(); !lacks.empty()) return Skip(lacks);
  const LeakCheck leaks;
  // All but 1 MiB, with which the queue can be probed; pages that were on the move come back later.
  const auto take = [](uint64_t bytes) {
    return HeapDmaBuf(bytes, O_RDWR, "/dev/dma_heap/reserved");
  };
  UniqueFd spare = take(uint64_t{1} << 20);
  REQUIRE(spare.valid());
  std::vector<UniqueFd> held;
  for (int round = 0; round < 3; ++round) {
    for (const uint64_t bytes : {uint64_t{4} << 20, uint64_t{1} << 20, uint64_t{1} << 16}) {
      for (UniqueFd more = take(bytes); more.valid(); more = take(bytes)) {
        held.push_back(std::move(more));
      }
    }
  }
  spare.reset();
  const Run run = ChooseMemory(std::string("--buffers=8 ") + kLate);
  CAPTURE(run.output);
  CHECK(run.exit_code == 1);
  CHECK(run.Says("v4l2:vivid-contig"));
  CHECK(run.Says("segments_max 1"));
  CHECK(run.Says("(reserved)"));
  CHECK(run.Says("(system)"));
  CHECK(run.Says("ENOMEM"));
}

TEST_CASE("choose_memory: a description of a device is a party, too") {
  const Run run = ChooseMemory("\"software read\" \"software write\"");
  CAPTURE(run.output);
  CHECK(run.exit_code == 0);
  CHECK(run.last_line().starts_with("chosen: heap="));
  CHECK(run.last_line().ends_with("generation=1 frames=0 mismatches=0\n"));
}

TEST_CASE(
    "choose_memory: wrong arguments end with usage, a device that is absent with a sentence") {
  CHECK(ChooseMemory("").exit_code == 2);
  CHECK(ChooseMemory("--size=12 cpu").exit_code == 2);
  CHECK(ChooseMemory("--format=XYZ cpu").exit_code == 2);
  CHECK(ChooseMemory("--nonsense cpu").exit_code == 2);
  const Run absent = ChooseMemory("v4l2:/dev/absent");
  CHECK(absent.exit_code == 1);
  CHECK(absent.Says("/dev/absent"));
  CHECK(absent.Says("ENOENT"));
  const Run unknown = ChooseMemory("flux-capacitor");
  CHECK(unknown.exit_code == 1);
  CHECK(unknown.Says("no device and no use has the name flux-capacitor"));
}

}  // namespace
}  // namespace ion::testing
