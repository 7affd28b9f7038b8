// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/drm_card.h
//
// DrmDumbOfCard: the backend drm_dumb, of one card in place of the first that makes dumb buffers.

#ifndef ION_TESTS_SUPPORT_DRM_CARD_H_
#define ION_TESTS_SUPPORT_DRM_CARD_H_

#include <string>
#include <utility>

#include "ion/backend.h"
#include "ion/backends/drm_dumb.h"
#include "ion/base/error.h"
#include "ion/base/syscalls.h"

namespace ion::testing {

template <unsigned kCard, Syscalls Sys = LinuxSyscalls>
class DrmDumbOfCard : public DrmDumbBackend<Sys> {
  using Base = DrmDumbBackend<Sys>;

 public:
  static Result<DrmDumbOfCard> Open(const typename Base::Options& options) noexcept {
    typename Base::Options of_card = options;
    of_card.node = "/dev/dri/card" + std::to_string(kCard);
    Result<Base> opened = Base::Open(of_card);
    if (!opened.ok()) return opened.error();
    return DrmDumbOfCard(*std::move(opened));
  }

 private:
  explicit DrmDumbOfCard(Base&& opened) noexcept : Base(std::move(opened)) {}
};
static_assert(BackendCheck<DrmDumbOfCard<0>>::kOk);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_DRM_CARD_H_
