// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/backend_suite.h
//
// What the facts of a conformance suite are written with: a backend under test, its memory, bytes
// to put into memory and to find there again, and a way to register facts of which none can be
// forgotten.
//
// A backend under test is a type with
//   using Sys = …;                        // the kernel that it is tested on
//   template <ion::Syscalls S = Sys> using Backend = …;
//   static constexpr const char* kNode;   // where this path is absent, so is the backend
//   static constexpr bool kMakesDmaBufs;  // or memfds
//   static constexpr bool kOwnInodes;        // its dma-bufs have: size, name, count (Linux 5.3)
//   static constexpr bool kSyncs;            // by DMA_BUF_IOCTL_SYNC (legacy ION has its own)
//   static constexpr int kAllocationIoctls;  // that one without a name takes
//   static constexpr bool kRoundsUp;         // its driver gives more than whole pages
//   static constexpr const char* kMappings;  // their name in /proc/self/maps, if it is none of
//                                            // DeviceMappingNames (tests/support/open_files.h)
// most of which OnThisKernel has for those that the machine itself runs.

#ifndef ION_TESTS_SUPPORT_BACKEND_SUITE_H_
#define ION_TESTS_SUPPORT_BACKEND_SUITE_H_

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/lent_pages.h"
#include "tests/support/open_files.h"
#include "tests/support/skip.h"

// A fact of a suite. `SUITE_id` names it where SUITE invokes it; one that is not invoked is a
// function declared and never defined, of which g++ warns.
#define ION_SUITE_FACT_OF(whom, id, sentence)    \
  static void id##_is_in_no_list_of_its_suite(); \
  TEST_CASE_TEMPLATE_DEFINE(whom sentence, T, id)
#define ION_SUITE_FACT(id, sentence) ION_SUITE_FACT_OF("Backend: ", id, sentence)
#define ION_SUITE_INVOKE(id, ...)                                   \
  [[maybe_unused]] static void id##_is_in_no_list_of_its_suite() {} \
  TEST_CASE_TEMPLATE_INVOKE(id, __VA_ARGS__)

namespace ion::testing {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

// What a backend under test says of a kernel in use, which is the machine's.
struct OnThisKernel {
  using Sys = LinuxSyscalls;
  static constexpr bool kOwnInodes = true;
  static constexpr bool kSyncs = true;
  static constexpr int kAllocationIoctls = 1;
  static constexpr bool kRoundsUp = false;
  static constexpr const char* kMappings = nullptr;
};

// "ok", or what an error is: "EINVAL map".
inline std::string Kind(const Error& error) {
  if (error.ok()) return "ok";
  return ErrnoName(error.code()) + " " + std::string(OperationName(error.operation()));
}

// "ok", or the whole sentence: for what has to succeed.
inline std::string Told(const Error& error) { return error.ok() ? "ok" : Describe(error); }

inline constexpr uint64_t kSizes[] = {1,       4095,  4_KiB, 4097,      12_KiB, 64_KiB,
                                      115'200, 1_MiB, 3_MiB, 3_MiB + 1, 4_MiB,  8_MiB};

// The largest of those sizes that a heap gives so many times at once, which is found out by asking:
// a carveout may have less than the largest in all, and a system-contig heap has no runs past 4
// MiB. Sizes past it count as a skipped part of the running case, with the heap's reason.
template <class B>
uint64_t LargestOf(B& backend, uint32_t heap, size_t at_once = 1) {
  Error reason;
  for (size_t i = std::size(kSizes); i-- > 0;) {
    std::vector<Block> blocks(at_once);
    Error error;
    for (Block& block : blocks) {
      if (error.ok()) error = backend.Allocate(heap, kSizes[i], Flags::kNone, {}, block);
    }
    for (Block& block : blocks) {
      if (block.filled()) CHECK(Kind(backend.Release(block)) == "ok");
    }
    if (error.ok()) {
      if (reason.ok()) return kSizes[i];
      SkipPart("past " + std::to_string(kSizes[i]) + " bytes", Describe(reason));
      return kSizes[i];
    }
    // EPERM: how CMA of legacy ION says that there is no room.
    if (error.code() != ENOMEM && error.code() != EPERM) break;
    reason = error;
  }
  return kSizes[0];  // the case itself finds out why
}
template <class B>
std::span<const uint64_t> SizesFor(B& backend, uint32_t heap, size_t at_once = 1) {
  const auto past = std::ranges::upper_bound(kSizes, LargestOf(backend, heap, at_once));
  return {std::begin(kSizes), past};
}

// Calls f(backend, number of a kernel heap) for each heap that the backend has, and looks after
// what must be true at the end of every test: no bytes held, nothing leaked, no error unreported.
template <class T, class F, Syscalls Sys = typename T::Sys>
void OnEachHeap(F f, const Sys& sys = {}, uint64_t budget_bytes = 256_MiB) {
  AddDeviceMappingName(T::kMappings);
  const LeakCheck leaks;
  using B = typename T::template Backend<Sys>;
  const auto budget = std::make_shared<Budget>(budget_bytes);
  const OtherErrors errors;
  typename B::Options options;
  options.sys = sys;
  options.budget = budget;
  options.errors = errors.sink();
  Result<B> opened = B::Open(options);
  const long node = sys.Open(T::kNode, O_PATH);
  if (Failed(node)) return Skip(std::string("no ") + T::kNode);
  sys.Close(static_cast<int>(node));
  REQUIRE(Told(opened.error()) == "ok");
  B backend = *std::move(opened);
  for (uint32_t i = 0; i < backend.heaps().size(); ++i) {
    const KernelHeap& heap = backend.heaps()[i];
    INFO("heap ", heap.name);
    const CasePart part("heap " + heap.name);
    if (heap.unusable.ok()) {
      f(backend, i);
    } else {
      Skip(Describe(heap.unusable));
    }
    CHECK(budget->held() == 0);
    CHECK(backend.kept_mappings() == 0);
  }
  CHECK(errors.count() == 0);
}

// A block, given back at the end.
template <class B>
class Memory {
 public:
  explicit Memory(B& backend) : backend_(backend) {}
  Memory(B& backend, uint32_t heap, uint64_t bytes, std::string_view name = {}) : Memory(backend) {
    REQUIRE(Told(backend.Allocate(heap, bytes, Flags::kNone, name, block)) == "ok");
  }
  static Memory Imported(B& backend, FdRef fd) { return Memory(backend, fd); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { Release(); }

  void Release() {
    if (block.filled()) CHECK(Kind(backend_.Release(block)) == "ok");
  }

  Block block;

 private:
  Memory(B& backend, FdRef fd) : Memory(backend) {
    REQUIRE(Told(backend.Import(fd, block)) == "ok");
  }

  B& backend_;
};

// The byte that every byte of a page has, under a seed. Pages are what can be mixed up.
inline int PageByte(uint8_t seed, uint64_t page) {
  return static_cast<uint8_t>(seed + page * 37 + (page >> 8));
}
// What a page of fresh memory has.
inline int ZeroByte(uint8_t, uint64_t) { return 0; }

// Calls f(the page's bytes, its byte) for each page of `bytes`, of which the first is page `first`.
template <class Span, class F>
void OnEachPage(Span bytes, uint64_t first, int (*byte_of)(uint8_t, uint64_t), uint8_t seed, F f) {
  const uint64_t page_bytes = PageBytes();
  for (uint64_t at = 0; at < bytes.size(); at += page_bytes) {
    const uint64_t n = std::min<uint64_t>(page_bytes, bytes.size() - at);
    f(bytes.subspan(at, n), byte_of(seed, first + at / page_bytes));
  }
}
inline void FillPages(std::span<std::byte> bytes, uint8_t seed, uint64_t first = 0) {
  OnEachPage(bytes, first, PageByte, seed, [](std::span<std::byte> page, int byte) {
    std::memset(page.data(), byte, page.size());
  });
}
// "ok", or which page is wrong.
inline std::string LookAtPages(std::span<const std::byte> bytes, uint8_t seed, uint64_t first = 0,
                               int (*byte_of)(uint8_t, uint64_t) = PageByte) {
  std::string wrong;
  OnEachPage(bytes, first, byte_of, seed, [&](std::span<const std::byte> page, int byte) {
    const bool good = page[0] == static_cast<std::byte>(byte) &&
                      std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
    if (!good && wrong.empty()) {
      wrong = "other bytes " + std::to_string(page.data() - bytes.data()) + " from the start";
    }
  });
  return wrong.empty() ? "ok" : wrong;
}

// Maps a whole block, begins and ends CPU access, and calls f(its bytes) in between. "ok", or the
// error that came first.
template <class B, class F>
std::string WithBytes(B& backend, const Block& block, MapMode mode, F f) {
  const Direction direction = mode == MapMode::kWritable ? Direction::kReadWrite : Direction::kRead;
  const Result<std::byte*> at = backend.Map(block, 0, block.bytes, mode);
  if (!at.ok()) return Kind(at.error());
  std::string answer = Kind(backend.BeginCpuAccess(block, direction));
  if (answer == "ok") answer = f(std::span(*at, block.bytes));
  const std::string ended = Kind(backend.EndCpuAccess(block, direction));
  const std::string unmapped = Kind(backend.Unmap(*at, block.bytes));
  return answer != "ok" ? answer : ended != "ok" ? ended : unmapped;
}
template <class B>
std::string Fill(B& backend, const Block& block, uint8_t seed) {
  return WithBytes(backend, block, MapMode::kWritable, [&](std::span<std::byte> bytes) {
    FillPages(bytes, seed);
    return std::string("ok");
  });
}
template <class B>
std::string Look(B& backend, const Block& block, uint8_t seed,
                 int (*byte_of)(uint8_t, uint64_t) = PageByte) {
  return WithBytes(backend, block, MapMode::kReadOnly, [&](std::span<std::byte> bytes) {
    return LookAtPages(bytes, seed, 0, byte_of);
  });
}
template <class B>
std::string LookForZeros(B& backend, const Block& block) {
  return Look(backend, block, 0, ZeroByte);
}

// What the kernel tells of a descriptor in /proc/self/fdinfo.
template <Syscalls Sys>
std::string FdInfoOf(const Sys& sys, FdRef fd) {
  const long file = sys.Open(("/proc/self/fdinfo/" + std::to_string(fd.get())).c_str(), O_RDONLY);
  REQUIRE(file >= 0);
  char text[512];
  const long got = sys.Read(static_cast<int>(file), text, sizeof(text));
  CHECK(sys.Close(static_cast<int>(file)) == 0);
  REQUIRE(got > 0);
  return {text, static_cast<size_t>(got)};
}

// The name by which the kernel reports a descriptor of memory: the machine's, and the one that a
// backend is tested on.
inline std::string NameOf(FdRef fd) {
  char link[512] = {};
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  REQUIRE(::readlink(path.c_str(), link, sizeof(link) - 1) > 0);
  std::string name = link;
  name.erase(0, name.find(':') + 1);
  return name.substr(0, name.find(" (deleted)"));
}
template <class T>
std::string NameOf(FdRef fd) {
  if constexpr (!T::kMakesDmaBufs) return NameOf(fd);
  const std::string info = FdInfoOf(typename T::Sys(), fd);
  const size_t at = info.find("\nname:\t");
  return at == info.npos ? "" : info.substr(at + 7, info.find('\n', at + 1) - at - 7);
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_BACKEND_SUITE_H_
