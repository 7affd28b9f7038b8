// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/include_cost.cc
//
// The cost of including us: a translation unit that includes a header and nothing else, compiled by
// `g++ -std=c++20 -O2` (CXX names another compiler), in turn with one that includes
// absl/status/statusor.h, which every file that names a StatusOr pays for anyway.
//
//   BM_IncludeClient        ion/client.h and the dma-heap backend: a driver's hot file
//   BM_IncludeManager       ion/manager.h and the dma-heap backend: the file that opens it
//   BM_IncludeAll           ion/platforms/all.h
//   BM_Include/<header>     each public header, once
//
// The time is the compiler's CPU time. Counters: `x_seconds`, `x_memory` (its peak) and `x_object`
// (the bytes of the object file) are ratios to statusor.h, of the same moment.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "bench/program.h"

namespace ion::bench {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBaseline = "absl/status/statusor.h";

// The costs of one compilation.
struct Cost {
  double seconds;  // of CPU time
  double memory;   // the largest process's peak, KiB
  double object;   // bytes
};

std::string Text(const fs::path& file) {
  std::ifstream in(file);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// The compiler at work in a directory that has the headers.
class Compiler {
 public:
  // `runfiles`: of this program; Bazel puts our headers and Abseil's there.
  explicit Compiler(fs::path runfiles) : directory_(std::move(runfiles)) {
    const char* const named = std::getenv("CXX");
    command_ = {named != nullptr ? named : "g++", "-std=c++20", "-O2", "-w", "-I."};
    std::ifstream flags(directory_ / "bench/include_flags.txt");
    for (std::string flag; std::getline(flags, flag);) command_.push_back(flag);
    std::string scratch = (fs::temp_directory_path() / "include_cost.XXXXXX").string();
    if (::mkdtemp(scratch.data()) != nullptr) scratch_ = scratch;
  }
  Compiler(const Compiler&) = delete;
  Compiler& operator=(const Compiler&) = delete;
  ~Compiler() {
    std::error_code ignored;
    fs::remove_all(scratch_, ignored);
  }

  // Compiles a unit that includes `headers`. Nothing: it does not compile.
  std::optional<Cost> Compile(const std::vector<std::string>& headers) const {
    const fs::path unit = scratch_ / "unit.cc", object = scratch_ / "unit.o";
    {
      std::ofstream out(unit);
      for (const std::string& header : headers) out << "#include \"" << header << "\"\n";
    }
    std::vector<std::string> words = command_;
    words.insert(words.end(), {"-c", "-o", object.string(), unit.string()});
    const pid_t child = ::fork();
    if (child < 0) return std::nullopt;
    if (child == 0) Exec(words);
    int status = 0;
    rusage used{};
    if (::wait4(child, &status, 0, &used) != child || status != 0) return std::nullopt;
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return Cost{.seconds = seconds(used.ru_utime) + seconds(used.ru_stime),
                .memory = static_cast<double>(used.ru_maxrss),
                .object = static_cast<double>(fs::file_size(object))};
  }

 private:
  [[noreturn]] void Exec(std::vector<std::string>& words) const {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (::chdir(directory_.c_str()) == 0) ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }

  fs::path directory_;
  fs::path scratch_;
  std::vector<std::string> command_;
};

void Include(benchmark::State& state, const Compiler& compiler,
             const std::vector<std::string>& headers) {
  Cost sum{}, base{};
  for (auto _ : state) {
    const auto baseline = compiler.Compile({std::string(kBaseline)});
    const auto ours = compiler.Compile(headers);
    if (!baseline || !ours) return state.SkipWithError("it does not compile");
    state.SetIterationTime(ours->seconds);
    sum = {sum.seconds + ours->seconds, sum.memory + ours->memory, sum.object + ours->object};
    base = {base.seconds + baseline->seconds, base.memory + baseline->memory,
            base.object + baseline->object};
  }
  state.counters["x_seconds"] = sum.seconds / base.seconds;
  state.counters["x_memory"] = sum.memory / base.memory;
  state.counters["x_object"] = sum.object / base.object;
}

// The headers of ion/, but for its inside and the old paths, in the order of their names.
std::vector<std::string> PublicHeaders(const fs::path& runfiles) {
  std::vector<std::string> headers;
  const auto links = fs::directory_options::follow_directory_symlink;
  for (const auto& entry : fs::recursive_directory_iterator(runfiles / "ion", links)) {
    const std::string name = fs::path(entry.path()).lexically_relative(runfiles).string();
    if (!name.ends_with(".h") || name.starts_with("ion/core/")) continue;
    if (Text(entry.path()).find("// Deprecated: include") == std::string::npos) {
      headers.push_back(name);
    }
  }
  std::sort(headers.begin(), headers.end());
  return headers;
}

void Register(const Compiler& compiler, const fs::path& runfiles) {
  const auto add = [&](const std::string& name, const std::vector<std::string>& headers) {
    return benchmark::RegisterBenchmark(
               name.c_str(),
               [&compiler, headers](benchmark::State& state) { Include(state, compiler, headers); })
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  const std::string backend = "ion/backends/dma_heap.h";
  add("BM_IncludeClient", {backend, "ion/client.h"});
  add("BM_IncludeManager", {backend, "ion/manager.h"});
  add("BM_IncludeAll", {"ion/platforms/all.h"});
  for (const std::string& header : PublicHeaders(runfiles)) {
    add("BM_Include/" + header, {header})->Repetitions(1);
  }
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  const std::filesystem::path runfiles =
      std::filesystem::absolute(argv[0]).string() + ".runfiles/ion";
  const ion::bench::Compiler compiler(runfiles);
  return ion::bench::RunProgram(argc, argv, {"--benchmark_repetitions=5"},
                                [&] { ion::bench::Register(compiler, runfiles); });
}
