// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A quota: a client holds 16 MiB at most, and is told the figures where it asks for more.
#include <cerrno>
#include <cstdio>
#include <string>

#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/platforms/pooled.h"

int main() {
  using ion::literals::operator""_MiB;
  auto manager = ion::platforms::PooledMemfd::Open();
  if (!manager.ok()) return 1;
  auto client =
      manager->CreateClient({.name = "guest", .quota_bytes = 16_MiB, .exact_quota = true});
  if (!client.ok()) return 1;
  const auto first = client->Allocate({.bytes = 12_MiB});
  if (!first.ok()) return 1;
  const auto second = client->Allocate({.bytes = 12_MiB});
  if (second.ok()) return 1;
  std::printf("%s\n", std::string(second.status().message()).c_str());
  return ion::ErrnoOf(second.status()) == EDQUOT ? 0 : 1;
}
