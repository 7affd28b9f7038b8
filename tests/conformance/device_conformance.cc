// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Runs the conformance suites of all backends over whatever this machine has: what to run on a new
// board on the first day. Built with --config=static it needs no other file, and starts on any
// Linux since 3.10.
//
//   bazel build --config=static //tests:device_conformance

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/heap_id.h"
#include "ion/platforms/any_backend.h"
#include "tests/support/test_results.h"

namespace ion::testing {
namespace {

constexpr int kUsage = 2;

std::vector<std::string> AllBackends() {
  const auto names = AnyBackend<>::Options().order;
  return {names.begin(), names.end()};
}

std::string Usage() {
  return absl::StrCat(
      "usage: device_conformance [--backend=NAME]... [--list]\n"
      "Runs what every backend and every heap must do over this machine's memory: over each\n"
      "backend that opens, or over the named ones, which then have to open.\n"
      "  --backend=NAME  one of ",
      absl::StrJoin(AllBackends(), ", "),
      "\n"
      "  --list          say what opens, with its heaps, and why the rest does not; run nothing\n"
      "  --help          this\n"
      "Its last line is `N passed, N failed, N skipped`. Exits 0 where nothing failed, 1 where\n"
      "something did, 2 for a wrong option.\n");
}

std::string HeapText(const KernelHeap& heap) {
  if (!heap.unusable.ok()) return Describe(heap.unusable);
  const Properties& is = heap.properties;
  std::string text(HeapTypeName(heap.type));
  absl::StrAppend(&text, heap.either_caching ? ", cached or uncached as asked"
                         : is.cached.yes()   ? ", cached"
                         : is.cached.no()    ? ", uncached"
                                             : ", caching unknown");
  if (is.contiguous) absl::StrAppend(&text, ", contiguous");
  if (is.zeroed) absl::StrAppend(&text, ", zeroed");
  if (!is.cpu_mappable.yes()) {
    absl::StrAppend(&text, is.cpu_mappable.no() ? ", not for the CPU" : ", for the CPU or not");
  }
  return absl::StrCat(text, ", aligned to ", is.alignment);
}

// What there is to say of a backend on this machine. The error: why it does not open.
Error Show(const std::string& name) {
  const auto backend = AnyBackend<>::Open({.order = {name}});
  if (!backend.ok()) {
    std::printf("%s: does not open: %s\n", name.c_str(), Describe(backend.error()).c_str());
    return backend.error();
  }
  std::printf("%s: opens\n", name.c_str());
  for (const KernelHeap& heap : backend->heaps()) {
    std::printf("  heap %s: %s\n", Printable(heap.name).c_str(), HeapText(heap).c_str());
  }
  return {};
}

int Run(const std::vector<std::string>& wanted) {
  doctest::Context context;
  bool any = false;
  for (const std::string& name : wanted.empty() ? AllBackends() : wanted) {
    const Error error = Show(name);
    if (error.ok()) {
      any = true;
      // The cases end in "<memfd>" and "<system over memfd>", or "<ion, cached>" and the like.
      for (const char* const end : {">", "? *>"}) {
        context.addFilter("dt-test-case", absl::StrCat("*<", name, end).c_str());
        context.addFilter("dt-test-case", absl::StrCat("* over ", name, end).c_str());
      }
    } else if (wanted.empty()) {
      CountSkipped(absl::StrCat("backend ", name), Describe(error));
    } else {
      std::printf("0 passed, 1 failed, 0 skipped\n");
      return 1;
    }
  }
  if (!any) context.addFilter("dt-test-case-exclude", "*");
  // After a crash of the machine one sees how far it came.
  return RunTestCases(context, Announce::kEachCase);
}

int Main(int argc, char** argv) {
  // A line at a time, also into a pipe.
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  constexpr std::string_view kBackend = "--backend=";
  const std::vector<std::string> all = AllBackends();
  std::vector<std::string> wanted;
  bool list = false;
  for (const std::string_view argument : std::vector<std::string_view>(argv + 1, argv + argc)) {
    const std::string name(argument.substr(std::min(argument.size(), kBackend.size())));
    if (argument == "--help") {
      std::fputs(Usage().c_str(), stdout);
      return 0;
    }
    if (argument == "--list") {
      list = true;
    } else if (argument.starts_with(kBackend) && std::ranges::find(all, name) != all.end()) {
      wanted.push_back(name);
    } else {
      std::fprintf(stderr, "device_conformance: %s: not an option\n%s",
                   std::string(argument).c_str(), Usage().c_str());
      return kUsage;
    }
  }
  if (!list) return Run(wanted);
  for (const std::string& name : wanted.empty() ? all : wanted) (void)Show(name);
  return 0;
}

}  // namespace
}  // namespace ion::testing

int main(int argc, char** argv) { return ion::testing::Main(argc, argv); }
