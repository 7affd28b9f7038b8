// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/base/fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <type_traits>
#include <utility>

#include "doctest/doctest.h"

namespace {

using ion::FdRef;
using ion::UniqueFd;

UniqueFd OpenNull() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

TEST_CASE("FdRef: none by default, and it closes nothing") {
  static_assert(FdRef().get() == -1);
  static_assert(std::is_trivially_destructible_v<FdRef>);
  static_assert(!std::is_convertible_v<int, FdRef>);
}

TEST_CASE("UniqueFd: none by default") {
  const UniqueFd none;
  CHECK_FALSE(none.valid());
  CHECK(none.get() == -1);
}

TEST_CASE("UniqueFd: closes at the end of its scope") {
  int number;
  {
    const UniqueFd fd = OpenNull();
    number = fd.get();
    CHECK(fd.valid());
    CHECK(IsOpen(number));
  }
  CHECK_FALSE(IsOpen(number));
}

TEST_CASE("UniqueFd: is owned by one") {
  static_assert(!std::is_copy_constructible_v<UniqueFd> && !std::is_copy_assignable_v<UniqueFd>);
  UniqueFd first = OpenNull();
  const int number = first.get();
  const UniqueFd second = std::move(first);
  CHECK_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): what is left is promised
  CHECK(second.get() == number);
  CHECK(IsOpen(number));
}

TEST_CASE("UniqueFd: an assignment closes what was there") {
  UniqueFd fd = OpenNull();
  UniqueFd other = OpenNull();
  const int closed = fd.get(), kept = other.get();
  fd = std::move(other);
  CHECK_FALSE(IsOpen(closed));
  CHECK(IsOpen(kept));
  CHECK(fd.get() == kept);
}

TEST_CASE("UniqueFd: an assignment to itself changes nothing") {
  UniqueFd fd = OpenNull();
  UniqueFd& same = fd;
  fd = std::move(same);
  CHECK(IsOpen(fd.get()));
}

TEST_CASE("UniqueFd: reset closes once") {
  UniqueFd fd = OpenNull();
  const int number = fd.get();
  fd.reset();
  CHECK_FALSE(fd.valid());
  CHECK_FALSE(IsOpen(number));
  // Somebody else's by now; a second close would take it from them.
  const UniqueFd next = OpenNull();
  CHECK(next.get() == number);
  fd.reset();
  CHECK(IsOpen(number));
}

TEST_CASE("UniqueFd: release gives the number away, open") {
  UniqueFd fd = OpenNull();
  const UniqueFd taken(fd.release());
  CHECK_FALSE(fd.valid());
  CHECK(IsOpen(taken.get()));
}

TEST_CASE("UniqueFd: lends its number") {
  const UniqueFd fd = OpenNull();
  CHECK(fd.borrow() == FdRef(fd.get()));
  CHECK(IsOpen(fd.get()));
}

}  // namespace
