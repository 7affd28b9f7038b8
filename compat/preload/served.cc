// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// libion_preload_served.so: compat/libion/emulated_ion.h for the preload.

#include "compat/preload/served.h"

#include <pthread.h>

#include "compat/libion/abi_setting.h"
#include "compat/libion/emulated_ion.h"
#include "compat/libion/ion_socket.h"

namespace {

constinit ion::compat::EmulatedIon<> emulated;

constexpr ion_served kFunctions = {
    .open =
        [](int dma_heap, int flags) {
          return emulated.Open(
              dma_heap != 0 ? ion::compat::Abi::kDmaHeap : ion::compat::AbiSetting(), flags);
        },
    .ioctl = [](int fd, unsigned long request,
                void* argument) { return emulated.Ioctl(fd, request, argument); }};

[[gnu::constructor]] void HandleForks() {
  emulated.Begin();
  ::pthread_atfork([] { emulated.BeforeFork(); }, [] { emulated.AfterFork(false); },
                   [] { emulated.AfterFork(true); });
}

}  // namespace

extern "C" [[gnu::visibility("default")]] const ion_served* ion_served_functions() {
  return &kFunctions;
}
