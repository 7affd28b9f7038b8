// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/base/syscalls.h"
#include "tests/conformance/dma_buf_conformance.h"
#include "tests/support/drm_card.h"

namespace {

template <unsigned kCard>
struct DrmDumbUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend = ion::testing::DrmDumbOfCard<kCard, Sys>;
  static constexpr const char* kNode = kCard == 0 ? "/dev/dri/card0" : "/dev/dri/card1";
  static constexpr bool kMakesDmaBufs = true;
  static constexpr int kAllocationIoctls = 3;  // make, export, destroy the handle
  static constexpr bool kRoundsUp = true;      // drivers have pitches of their own
  static constexpr const char* kMappings = "/dev/dri/card";
};
// In a guest: vgem and vkms.
using Card0 = DrmDumbUnderTest<0>;
using Card1 = DrmDumbUnderTest<1>;

}  // namespace

TYPE_TO_STRING_AS("drm_dumb of card0", Card0);
TYPE_TO_STRING_AS("drm_dumb of card1", Card1);
ION_DMA_BUF_CONFORMANCE(Card0, Card1);
