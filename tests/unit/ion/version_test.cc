// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/version.h"

#include "doctest/doctest.h"

namespace {

TEST_CASE("Version: the version is a constant expression") {
  static_assert(ion::kVersion.major >= 0 && ion::kVersion.minor >= 0 && ion::kVersion.patch >= 0);
  CHECK_FALSE((ion::kVersion.major == 0 && ion::kVersion.minor == 0 && ion::kVersion.patch == 0));
}

}  // namespace
