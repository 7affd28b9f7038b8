// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A pool: the first buffer comes from the kernel, the next ones from the pool. Clients of one
// domain that ask for memory as it was left get it without zeroing.
#include <cstdio>

#include "ion/base/bytes.h"
#include "ion/platforms/pooled.h"
#include "ion/report.h"

int main() {
  using ion::literals::operator""_MiB;
  constexpr int kFrames = 100;
  auto manager = ion::platforms::PooledMemfd::Open();
  if (!manager.ok()) return 1;
  auto client =
      manager->CreateClient({.name = "camera", .domain = "camera", .recycle_as_is = true});
  if (!client.ok()) return 1;
  for (int i = 0; i < kFrames; ++i) {
    if (!client->Allocate({.bytes = 1_MiB}).ok()) return 1;
  }
  const ion::Report report = manager->MakeReport();
  std::fputs(ion::PoolText(report).c_str(), stdout);
  return report.pools.size() == 1 && report.pools[0].hits == kFrames - 1 ? 0 : 1;
}
