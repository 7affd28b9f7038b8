// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/region_domain.h
//
// RegionDomain: whose memory lies in a region, one trust domain's or several's. A region whose
// descriptor was shared is sealed: it stays the one's, because who has that descriptor sees all of
// it.
//
// Not for users.
//
// Cost: one word. Thread-safe and lock-free.
#ifndef ION_ION_CORE_REGION_DOMAIN_H_
#define ION_ION_CORE_REGION_DOMAIN_H_

#include <atomic>
#include <cstdint>

namespace ion::internal {

class RegionDomain {
 public:
  // It is sealed for another, and stays so.
  bool Refuses(uint64_t domain) const noexcept {
    const uint64_t now = word_.load();
    return (now & kSealed) != 0 && now != (domain | kSealed);
  }
  // False: it is sealed for another.
  bool Admit(uint64_t domain) noexcept {
    uint64_t was = 0;
    if (word_.compare_exchange_strong(was, domain)) return true;
    while (was != domain && was != kSeveral) {
      if (was == (domain | kSealed)) return true;
      if ((was & kSealed) != 0) return false;
      if (word_.compare_exchange_weak(was, kSeveral)) return true;
    }
    return true;
  }
  // False: others have memory there, or had.
  bool Seal(uint64_t domain) noexcept {
    uint64_t was = domain;
    return word_.compare_exchange_strong(was, domain | kSealed) || was == (domain | kSealed);
  }

 private:
  static constexpr uint64_t kSealed = uint64_t{1} << 62;
  static constexpr uint64_t kSeveral = uint64_t{1} << 63;

  std::atomic<uint64_t> word_{0};  // 0: nobody's yet
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_REGION_DOMAIN_H_
