// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/policies/size_classes.h"

#include <cstdint>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/bytes.h"

namespace ion {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

struct ReturnsInt {
  static constexpr int RoundUp(uint64_t) noexcept { return 0; }
};
struct MayThrow {
  static constexpr uint64_t RoundUp(uint64_t bytes) { return bytes; }
};
struct AtRunTime {
  static uint64_t RoundUp(uint64_t bytes) noexcept { return bytes; }
};

TEST_CASE("SizeClasses: a type that breaks one rule is none") {
  static_assert(!SizeClasses<ReturnsInt> && !SizeClasses<MayThrow> && !SizeClasses<AtRunTime>);
  static_assert(!SizeClasses<int>);
  CHECK(SizeClasses<WholePages>);
}

TEST_CASE("QuarterSteps: single pages up to 16 KiB, then four sizes to each doubling") {
  std::vector<uint64_t> classes;
  for (uint64_t at = 1; at <= 128_KiB; at = QuarterSteps::RoundUp(at) + 1) {
    classes.push_back(QuarterSteps::RoundUp(at) / 1024);
  }
  CHECK(classes ==
        std::vector<uint64_t>{4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128});
}

TEST_CASE("IonOrders: 4 KiB, 64 KiB, 1 MiB, and multiples of that") {
  CHECK(IonOrders::RoundUp(1) == 4_KiB);
  CHECK(IonOrders::RoundUp(4_KiB) == 4_KiB);
  CHECK(IonOrders::RoundUp(4_KiB + 1) == 64_KiB);
  CHECK(IonOrders::RoundUp(64_KiB + 1) == 1_MiB);
  CHECK(IonOrders::RoundUp(1_MiB) == 1_MiB);
  CHECK(IonOrders::RoundUp(1_MiB + 1) == 2_MiB);
  CHECK(IonOrders::RoundUp(8_MiB - 1) == 8_MiB);
}

TEST_CASE_TEMPLATE("SizeClasses: a class has room, is its own class, and grows with the request", C,
                   WholePages, QuarterSteps, IonOrders, SizeTable<12288>) {
  CHECK(C::RoundUp(0) == 0);
  uint64_t before = 0;
  for (uint64_t bytes = 1; bytes <= 64_MiB; bytes += bytes / 97 + 1) {
    const uint64_t given = C::RoundUp(bytes);
    REQUIRE(given >= bytes);
    REQUIRE(given >= before);
    REQUIRE(C::RoundUp(given) == given);
    before = given;
  }
  // What no class has room for is left to the backend to refuse.
  CHECK(C::RoundUp(UINT64_MAX) == UINT64_MAX);
  CHECK(C::RoundUp((uint64_t{1} << 62) + 1) > uint64_t{1} << 62);
}

TEST_CASE("QuarterSteps: above 16 KiB less than a fifth is wasted") {
  for (uint64_t bytes = 16_KiB + 1; bytes <= 1_GiB; bytes += bytes / 1009 + 1) {
    const uint64_t given = QuarterSteps::RoundUp(bytes);
    REQUIRE((given - bytes) * 5 < given);
  }
}

TEST_CASE("RoundingCounter: sums from several threads, and a copy that was moved keeps them") {
  RoundingCounter counter;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 1000; ++n) counter.Add(3, 4096);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const RoundingCounter moved = std::move(counter);
  CHECK(moved.get().asked_bytes == 12000);
  CHECK(moved.get().given_bytes == 4000 * 4096);
  CHECK(moved.get().wasted_bytes() == 4000 * 4093);
}

}  // namespace
}  // namespace ion
