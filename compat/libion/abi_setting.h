// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/abi_setting.h
//
// AbiSetting: the interface of emulated clients, from the environment: ION_COMPAT_ABI=modern is that
// of Linux 4.12 to 5.10, anything else, and nothing, the one with handles.
//
// Cost: a look into the environment. Thread-safe as getenv.
#ifndef ION_COMPAT_LIBION_ABI_SETTING_H_
#define ION_COMPAT_LIBION_ABI_SETTING_H_

#include <cstdlib>
#include <string_view>

#include "compat/libion/ion_socket.h"

namespace ion::compat {

inline Abi AbiSetting() noexcept {
  const char* const set = std::getenv("ION_COMPAT_ABI");
  return set != nullptr && std::string_view(set) == "modern" ? Abi::kModern : Abi::kLegacy;
}

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_ABI_SETTING_H_
