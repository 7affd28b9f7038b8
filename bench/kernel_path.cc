// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/kernel_path.cc
//
// What memory costs when it comes from the kernel each time: allocate, map, touch (one byte a page,
// in a scope of CPU access), unmap, free, each alone and all together; through the library as a
// user has it, and beside it by the same system calls made by hand (BM_Raw…). The baseline of every
// pool.
//
//   bazel run -c opt //bench:kernel_path                              the host
//   bazel build -c opt //bench:kernel_path &&
//     ION_GUEST_TIMEOUT=1200 tests/guest/guest 6.12 -- bazel-bin/bench/kernel_path
//   … --benchmark_filter=Whole                                        only the sums
//
// Names are BM_<Backend><Stage>/<kernel heap>/<bytes>/iterations:<n>. `calls` is system calls an
// iteration. A Manager's first mapping of a buffer stays until the buffer goes, so the library's
// munmap is paid in Free, not in Unmap. BM_RawUdmabufList makes buffers of pages that are there
// already, up to 4 MiB. Backends and heaps that cannot be measured stand in the
// context, with the reason. Iterations are fixed: what is prepared outside the clock costs more
// than what is measured.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/memfd.h>
#include <linux/udmabuf.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "bench/counting_syscalls.h"
#include "bench/program.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/platforms/linux.h"

namespace ion::bench {
namespace {

enum Stage { kAllocate, kMap, kTouch, kUnmap, kFree, kStages };
constexpr const char* kStageNames[kStages] = {"Allocate", "Map", "Touch", "Unmap", "Free"};

constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB;
constexpr uint64_t kSizes[] = {4 * kKiB, 64 * kKiB, 1 * kMiB, 4 * kMiB, 8 * kMiB};

// Objects prepared at a time, so that stopping the clock costs little against what it measures; not
// more than half of the guest's contiguous memory (64 MiB).
constexpr size_t BatchOf(uint64_t bytes) { return std::clamp<uint64_t>(32 * kMiB / bytes, 1, 64); }
// Seconds for all of them on the host, and minutes under emulation.
constexpr int64_t IterationsOf(uint64_t bytes) {
  return static_cast<int64_t>(std::clamp<uint64_t>(32 * kMiB / bytes, 8, 256));
}

void TouchPages(std::byte* at, uint64_t bytes) {
  const uint64_t page = PageBytes();
  for (uint64_t offset = 0; offset < bytes; offset += page) {
    *static_cast<volatile std::byte*>(at + offset) = std::byte{1};
  }
}

// The library, as a user has it.
template <class M>
class ManagerPath {
 public:
  struct Object {
    Buffer buffer;
    std::optional<WritableMapping> mapping;
  };

  ManagerPath(std::shared_ptr<M> manager, HeapId heap)
      : manager_(std::move(manager)), heap_(heap) {}

  absl::Status Do(Stage stage, Object& object, uint64_t bytes) const {
    switch (stage) {
      case kAllocate: {
        absl::StatusOr<Buffer> buffer = manager_->Allocate({.bytes = bytes, .heaps = heap_});
        if (!buffer.ok()) return buffer.status();
        object.buffer = *std::move(buffer);
        break;
      }
      case kMap: {
        absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(object.buffer);
        if (!mapping.ok()) return mapping.status();
        object.mapping = *std::move(mapping);
        break;
      }
      case kTouch: {
        absl::StatusOr<CpuWrite> cpu = CpuWrite::Begin(*object.mapping);
        if (!cpu.ok()) return cpu.status();
        TouchPages(cpu->bytes().data(), bytes);
        return std::move(*cpu).End();
      }
      case kUnmap:
        object.mapping.reset();
        break;
      case kFree:
        object.buffer = Buffer();
        break;
      case kStages:
        break;
    }
    return absl::OkStatus();
  }

 private:
  std::shared_ptr<M> manager_;
  HeapId heap_;
};

absl::Status Check(long answer, const char* call) {
  if (!Failed(answer)) return absl::OkStatus();
  return MakeStatus(ErrnoFrom(answer), absl::StrCat(call, ": ", ErrnoName(ErrnoFrom(answer))));
}

// The system calls that the library's backends make, and no more. `Source` makes the descriptor.
template <class Source>
class RawPath {
 public:
  struct Object {
    int fd = -1;
    std::byte* at = nullptr;
  };

  RawPath(std::shared_ptr<const Source> source, CountingSyscalls sys)
      : source_(std::move(source)), sys_(sys) {}

  absl::Status Do(Stage stage, Object& object, uint64_t bytes) const {
    long answer = 0;
    switch (stage) {
      case kAllocate:
        answer = source_->Make(sys_, bytes);
        object.fd = static_cast<int>(answer);
        break;
      case kMap:
        answer = sys_.Mmap(bytes, PROT_READ | PROT_WRITE, object.fd, 0);
        object.at = reinterpret_cast<std::byte*>(answer);
        break;
      case kTouch:
        if (Source::kDmaBuf) answer = Sync(object.fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
        if (Failed(answer)) break;
        TouchPages(object.at, bytes);
        if (Source::kDmaBuf) answer = Sync(object.fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
        break;
      case kUnmap:
        answer = sys_.Munmap(object.at, bytes);
        break;
      case kFree:
        answer = sys_.Close(object.fd);
        break;
      case kStages:
        break;
    }
    return Check(answer, kStageNames[stage]);
  }

 private:
  long Sync(int fd, uint64_t flags) const {
    dma_buf_sync sync{.flags = flags};
    return sys_.Ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
  }

  std::shared_ptr<const Source> source_;
  CountingSyscalls sys_;
};

struct MemfdSource {
  static constexpr bool kDmaBuf = false;
  long Make(const CountingSyscalls& sys, uint64_t bytes) const {
    const long fd = sys.MemfdCreate("bench", MFD_CLOEXEC);
    if (Failed(fd)) return fd;
    const long cut = sys.Ftruncate(static_cast<int>(fd), static_cast<off_t>(bytes));
    return Failed(cut) ? cut : fd;
  }
};

struct UdmabufSource {
  static constexpr bool kDmaBuf = true;
  UniqueFd node;

  long Make(const CountingSyscalls& sys, uint64_t bytes) const {
    const long fd = sys.MemfdCreate("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (Failed(fd)) return fd;
    const int memfd = static_cast<int>(fd);
    const long made = FromMemfd(sys, memfd, bytes);
    const long closed = sys.Close(memfd);
    return Failed(closed) ? closed : made;
  }

 private:
  long FromMemfd(const CountingSyscalls& sys, int memfd, uint64_t bytes) const {
    const long cut = sys.Ftruncate(memfd, static_cast<off_t>(bytes));
    if (Failed(cut)) return cut;
    const long sealed = sys.Fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK);
    if (Failed(sealed)) return sealed;
    udmabuf_create create{.memfd = static_cast<uint32_t>(memfd),
                          .flags = UDMABUF_FLAGS_CLOEXEC,
                          .offset = 0,
                          .size = bytes};
    return sys.Ioctl(node.get(), UDMABUF_CREATE, &create);
  }
};

// Of pages of one memfd, populated before and used again, that lie apart: one item each.
struct UdmabufListSource {
  static constexpr bool kDmaBuf = true;
  static constexpr size_t kMost = 1024;  // items, as the kernel has it
  UniqueFd node;
  UniqueFd pages;

  long Make(const CountingSyscalls& sys, uint64_t bytes) const {
    const uint64_t count = bytes / PageBytes();
    if (count > kMost) return -EINVAL;
    struct {  // udmabuf_create_list, which has no room for any
      uint32_t flags, count;
      udmabuf_create_item items[kMost];
    } list;
    static_assert(offsetof(decltype(list), items) == sizeof(udmabuf_create_list));
    list.flags = UDMABUF_FLAGS_CLOEXEC;
    list.count = static_cast<uint32_t>(count);
    for (uint64_t i = 0; i < count; ++i) {
      list.items[i] = {.memfd = static_cast<uint32_t>(pages.get()),
                       .__pad = 0,
                       .offset = (kMost - 1 - i) * PageBytes(),
                       .size = PageBytes()};
    }
    return sys.Ioctl(node.get(), UDMABUF_CREATE_LIST, &list);
  }
  static UniqueFd Pages() {
    const LinuxSyscalls sys;
    const auto bytes = static_cast<off_t>(kMost * PageBytes());
    UniqueFd memfd(static_cast<int>(sys.MemfdCreate("pages", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
    (void)sys.Ftruncate(memfd.get(), bytes);
    (void)sys.Fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK);
    const long at = sys.Mmap(static_cast<uint64_t>(bytes), PROT_READ | PROT_WRITE, memfd.get(), 0);
    if (Failed(at)) return memfd;
    TouchPages(reinterpret_cast<std::byte*>(at), static_cast<uint64_t>(bytes));
    (void)sys.Munmap(reinterpret_cast<std::byte*>(at), static_cast<uint64_t>(bytes));
    return memfd;
  }
};

struct DmaHeapSource {
  static constexpr bool kDmaBuf = true;
  UniqueFd node;

  long Make(const CountingSyscalls& sys, uint64_t bytes) const {
    dma_heap_allocation_data data{
        .len = bytes, .fd = 0, .fd_flags = O_RDWR | O_CLOEXEC, .heap_flags = 0};
    const long answer = sys.Ioctl(node.get(), DMA_HEAP_IOCTL_ALLOC, &data);
    return Failed(answer) ? answer : static_cast<long>(data.fd);
  }
};

// An object and the stage that comes next for it; after the last comes the first.
template <class Path>
struct Slot {
  typename Path::Object object;
  int next = kAllocate;

  absl::Status Step(const Path& path, uint64_t bytes) {
    absl::Status status = path.Do(static_cast<Stage>(next), object, bytes);
    next = (next + 1) % kStages;
    return status;
  }
  absl::Status AdvanceTo(int stage, const Path& path, uint64_t bytes) {
    absl::Status status;
    while (status.ok() && next != stage) status = Step(path, bytes);
    return status;
  }
};

void Report(benchmark::State& state, const absl::Status& status, uint64_t bytes, uint64_t calls) {
  if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
  state.counters["bytes"] = benchmark::Counter(
      static_cast<double>(bytes), benchmark::Counter::kDefaults, benchmark::Counter::kIs1024);
  state.counters["calls"] =
      benchmark::Counter(static_cast<double>(calls), benchmark::Counter::kAvgIterations);
}

// One stage; the others run while the clock and the count stand still.
template <class Path>
void MeasureStage(benchmark::State& state, const Path& path, Stage stage, uint64_t bytes,
                  uint64_t& calls) {
  std::vector<Slot<Path>> batch(BatchOf(bytes));
  size_t at = batch.size();
  absl::Status status;
  calls = 0;
  for (auto _ : state) {
    if (at == batch.size()) {
      state.PauseTiming();
      const uint64_t counted = calls;
      for (Slot<Path>& slot : batch) status.Update(slot.AdvanceTo(stage, path, bytes));
      calls = counted;
      at = 0;
      state.ResumeTiming();
    }
    if (!status.ok()) break;
    status.Update(batch[at++].Step(path, bytes));
  }
  const uint64_t counted = calls;
  for (Slot<Path>& slot : batch) status.Update(slot.AdvanceTo(kAllocate, path, bytes));
  Report(state, status, bytes, counted);
}

// All stages of one object.
template <class Path>
void MeasureWhole(benchmark::State& state, const Path& path, uint64_t bytes, uint64_t& calls) {
  Slot<Path> slot;
  absl::Status status;
  calls = 0;
  for (auto _ : state) {
    for (int stage = kAllocate; stage < kStages; ++stage) status.Update(slot.Step(path, bytes));
    if (!status.ok()) break;
  }
  Report(state, status, bytes, calls);
}

template <class Path>
void Register(const std::string& backend, std::string_view heap, const Path& path,
              uint64_t& calls) {
  const auto name = [&](const char* stage, uint64_t bytes) {
    return absl::StrCat("BM_", backend, stage, "/", std::string(heap), "/", bytes);
  };
  const auto add = [](const std::string& full, uint64_t bytes, auto measure) {
    benchmark::RegisterBenchmark(full.c_str(), measure)
        ->Iterations(IterationsOf(bytes))
        ->Unit(benchmark::kMicrosecond);
  };
  for (const uint64_t bytes : kSizes) {
    for (int i = kAllocate; i < kStages; ++i) {
      const auto stage = static_cast<Stage>(i);
      add(name(kStageNames[stage], bytes), bytes,
          [=, &calls](benchmark::State& state) { MeasureStage(state, path, stage, bytes, calls); });
    }
    add(name("Whole", bytes), bytes,
        [=, &calls](benchmark::State& state) { MeasureWhole(state, path, bytes, calls); });
  }
}

void Missing(std::string_view what, std::string_view reason) {
  benchmark::AddCustomContext(absl::StrCat("missing ", std::string(what)), std::string(reason));
}

// The heaps of a composition over B, and those of the kernel that it has no policy for. `raw` is
// called with the name of each kernel heap that is measured.
template <template <class> class B, class F>
void RegisterBackend(const std::string& backend, uint64_t& calls, F raw) {
  using M = platforms::Heaps<B<CountingSyscalls>>;
  absl::StatusOr<M> opened = M::Open({.sys = CountingSyscalls(calls)});
  if (!opened.ok()) {
    Missing(M::kBackendName, std::string(opened.status().message()));
    return;
  }
  const auto manager = std::make_shared<M>(*std::move(opened));
  for (const KernelHeap& kernel_heap : manager->backend().heaps()) {
    const std::string node = absl::StrCat(M::kBackendName, " ", kernel_heap.name);
    bool bound = false;
    for (unsigned id = 0; id < HeapId::kCount; ++id) {
      if (manager->HeapName(*HeapId::From(id)) != kernel_heap.name) continue;
      bound = true;
      Register(backend, kernel_heap.name, ManagerPath<M>(manager, *HeapId::From(id)), calls);
    }
    if (!kernel_heap.unusable.ok()) {
      Missing(node, Describe(kernel_heap.unusable));
    } else if (!bound) {
      Missing(node, "the composition has no policy for this heap");
    } else {
      raw(kernel_heap.name);
    }
  }
}

template <class Source>
void RegisterRaw(const std::string& backend, std::string_view heap, Source source,
                 uint64_t& calls) {
  RawPath<Source> path(std::make_shared<const Source>(std::move(source)), CountingSyscalls(calls));
  Register(absl::StrCat("Raw", backend), heap, path, calls);
}

UniqueFd OpenNode(const std::string& path) {
  return UniqueFd(static_cast<int>(OpenRetrying(LinuxSyscalls(), path.c_str(), O_RDWR)));
}

void RegisterAll(uint64_t& calls) {
  RegisterBackend<DmaHeapBackend>("DmaHeap", calls, [&](const std::string& heap) {
    RegisterRaw("DmaHeap", heap, DmaHeapSource{OpenNode("/dev/dma_heap/" + heap)}, calls);
  });
  RegisterBackend<UdmabufBackend>("Udmabuf", calls, [&](const std::string& heap) {
    RegisterRaw("Udmabuf", heap, UdmabufSource{OpenNode("/dev/udmabuf")}, calls);
    RegisterRaw("UdmabufList", heap,
                UdmabufListSource{OpenNode("/dev/udmabuf"), UdmabufListSource::Pages()}, calls);
  });
  RegisterBackend<MemfdBackend>("Memfd", calls, [&](const std::string& heap) {
    RegisterRaw("Memfd", heap, MemfdSource{}, calls);
  });
}

void RegisterBenchmarks() {
  static uint64_t calls = 0;
  RegisterAll(calls);
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv, {"--benchmark_repetitions=3"},
                                ion::bench::RegisterBenchmarks);
}
