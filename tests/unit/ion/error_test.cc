// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/base/error.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/base/error_sink.h"
#include "ion/base/status.h"

namespace {

using ion::Error;
using ion::Operation;
using ion::Result;

constexpr int kLastErrno = 133;  // EHWPOISON, the last of Linux's

Error Denied() {
  return Error(EACCES, "open", {"dma_heap", Operation::kOpen, "/dev/dma_heap/system"});
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE("Error: none by default") {
  constexpr Error none;
  static_assert(none.ok() && none.code() == 0);
  CHECK(ion::ToStatus(none).ok());
}

TEST_CASE("Error: keeps what it was made of") {
  const Error error(ENOMEM, "DMA_HEAP_IOCTL_ALLOC", {"dma_heap", Operation::kAllocate, "cma", 4096},
                    "wait");
  CHECK_FALSE(error.ok());
  CHECK(error.code() == ENOMEM);
  CHECK(error.operation() == Operation::kAllocate);
  CHECK(error.backend() == std::string_view("dma_heap"));
  CHECK(error.what() == std::string_view("DMA_HEAP_IOCTL_ALLOC"));
  CHECK(error.node() == "cma");
  CHECK(error.bytes() == 4096);
  CHECK(error.hint() == std::string_view("wait"));
}

TEST_CASE("Error: outlives the node's name, and of a long one keeps the end") {
  const std::string one = "0123456789";
  auto path = std::make_unique<std::string>(one + one + one + one + "ab");
  const Error whole(ENOENT, "open", {"dma_heap", Operation::kOpen, *path});
  *path += "c";
  const Error end(ENOENT, "open", {"dma_heap", Operation::kOpen, *path});
  path.reset();
  CHECK(whole.node() == one + one + one + one + "ab");
  CHECK(end.node() == "...456789" + one + one + one + "abc");
}

TEST_CASE("Error: the figures of what there was stay with it, and are told") {
  const Error error(ENOMEM, "the region is full", {"memfd", Operation::kAllocate, "npu", 8192});
  CHECK_FALSE(error.room().has_value());
  const Error with = error.With({.free = 4096, .largest_hole = 512});
  CHECK(with.code() == ENOMEM);
  CHECK(with.bytes() == 8192);
  CHECK(Contains(ion::Describe(with),
                 "ENOMEM: 4096 bytes are free, 512 of them in one piece: free some buffers"));
}

TEST_CASE("Error: is plain data of 120 bytes") {
  static_assert(std::is_trivially_copyable_v<Error>);
  static_assert(sizeof(Error) == 120);
}

TEST_CASE("Error: every operation has a name of its own") {
  std::string seen = ";";
  for (int i = 0; i <= static_cast<int>(Operation::kCustom); ++i) {
    const std::string_view name = ion::OperationName(static_cast<Operation>(i));
    CHECK_FALSE(name == "?");
    const std::string entry = std::string(name) + ";";
    CHECK_FALSE(Contains(seen, ";" + entry));
    seen += entry;
  }
}

TEST_CASE("Result: is a value or an error") {
  const Result<int> seven = 7;
  CHECK(seven.ok());
  CHECK(*seven == 7);
  CHECK(seven.error().ok());
  const Result<int> denied = Denied();
  CHECK_FALSE(denied.ok());
  CHECK(denied.error().code() == EACCES);
}

TEST_CASE("Result: gives a value away that cannot be copied") {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
  CHECK(**result == 7);
  const std::unique_ptr<int> taken = *std::move(result);
  CHECK(*taken == 7);
}

TEST_CASE("Result: is assigned a value or an error, whatever it was") {
  const auto kept = std::make_shared<int>(7);
  Result<std::shared_ptr<int>> result = kept;
  const Result<std::shared_ptr<int>> copy = result;
  CHECK(kept.use_count() == 3);
  result = Denied();
  CHECK(!result.ok());
  CHECK(result.error().code() == EACCES);
  CHECK(kept.use_count() == 2);
  result = copy;
  CHECK(*result == kept);
  CHECK(result.error().ok());
  Result<std::shared_ptr<int>> moved = std::move(result);
  CHECK(*moved == kept);
  CHECK(kept.use_count() == 3);
}

TEST_CASE("Result: is trivially copyable if its value is") {
  static_assert(std::is_trivially_copyable_v<Result<uint64_t>>);
  static_assert(std::is_copy_constructible_v<Result<std::string>>);
  static_assert(!std::is_copy_constructible_v<Result<std::unique_ptr<int>>>);
}

TEST_CASE("ToStatus: keeps every errno") {
  for (int code = 1; code <= kLastErrno; ++code) {
    const absl::Status status = ion::ToStatus(Error(code, "open", {"memfd", Operation::kOpen}));
    CAPTURE(code);
    CHECK_FALSE(status.ok());
    CHECK(ion::ErrnoOf(status) == code);
    CHECK(status.code() == absl::ErrnoToStatusCode(code));
    CHECK(Contains(std::string(status.message()), ": " + ion::ErrnoName(code)));
  }
}

TEST_CASE("ErrnoOf: is 0 where there is none of ours") {
  CHECK(ion::ErrnoOf(absl::OkStatus()) == 0);
  CHECK(ion::ErrnoOf(absl::NotFoundError("somebody else's")) == 0);
}

TEST_CASE("ErrnoName: a name where the C library knows one, the number elsewhere") {
  CHECK((ion::ErrnoName(EACCES) == "EACCES" || ion::ErrnoName(EACCES) == "errno 13"));
  CHECK(ion::ErrnoName(4095) == "errno 4095");
}

TEST_CASE("Describe: says backend, node, operation, bytes, call and errno") {
  const Error error(EIO, "UDMABUF_CREATE", {"udmabuf", Operation::kAllocate, "/dev/udmabuf", 8192});
  CHECK(ion::Describe(error) ==
        "udmabuf /dev/udmabuf: allocate 8192 bytes (UDMABUF_CREATE): " + ion::ErrnoName(EIO));
}

TEST_CASE("Describe: leaves out what there is not") {
  CHECK(ion::Describe(Error(EIO, "", {"memfd", Operation::kRelease})) ==
        "memfd: release: " + ion::ErrnoName(EIO));
}

TEST_CASE("Describe: gives the hint of who met the error, or a general one") {
  const ion::Origin origin{"memfd", Operation::kAllocate};
  CHECK(ion::Describe(Error(ENOMEM, "", origin, "sell something")) ==
        "memfd: allocate: " + ion::ErrnoName(ENOMEM) + ": sell something");
  CHECK(Contains(ion::Describe(Error(ENOMEM, "", origin)), ": free some buffers"));
  CHECK(Contains(ion::Describe(Error(EMFILE, "", origin)), "ulimit -n"));
  CHECK(Contains(ion::Describe(Error(ENFILE, "", origin)), "fs.file-max"));
  CHECK(Contains(ion::Describe(Error(EBADF, "", origin)), "not open"));
}

TEST_CASE("ErrorSink: counts errors, and nothing else") {
  ion::ErrorSink sink;
  sink.Report(Error());
  CHECK(sink.count() == 0);
  sink.Report(Denied());
  CHECK(sink.count() == 1);
}

TEST_CASE("ErrorSink: hands each error to its callback") {
  int last = 0;
  ion::ErrorSink sink([](const Error& e, void* code) { *static_cast<int*>(code) = e.code(); },
                      &last);
  sink.Report(Denied());
  CHECK(last == EACCES);
}

}  // namespace
