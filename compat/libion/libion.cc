// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// libion.so and libion.a: compat/libion/libion.h with C linkage.

#include "compat/libion/libion.h"

#include <ion/ion.h>
#include <pthread.h>
#include <sys/types.h>

#include <cstddef>

#include "compat/libion/abi_setting.h"
#include "compat/libion/emulated_ion.h"

namespace {

constinit ion::compat::EmulatedIon<> emulated;

ion::compat::Libion<> Functions() { return {emulated, {}, ion::compat::AbiSetting()}; }

[[gnu::constructor]] void HandleForks() {
  emulated.Begin();
  ::pthread_atfork([] { emulated.BeforeFork(); }, [] { emulated.AfterFork(false); },
                   [] { emulated.AfterFork(true); });
}

}  // namespace

#define ION_EXPORTED [[gnu::visibility("default")]]

extern "C" {

ION_EXPORTED int ion_open() { return Functions().Open(); }
ION_EXPORTED int ion_close(int fd) { return Functions().Close(fd); }
ION_EXPORTED int ion_alloc(int fd, size_t len, size_t align, unsigned int heap_mask,
                           unsigned int flags, ion_user_handle_t* handle) {
  return Functions().Alloc(fd, len, align, heap_mask, flags, handle);
}
ION_EXPORTED int ion_alloc_fd(int fd, size_t len, size_t align, unsigned int heap_mask,
                              unsigned int flags, int* handle_fd) {
  return Functions().AllocFd(fd, len, align, heap_mask, flags, handle_fd);
}
ION_EXPORTED int ion_sync_fd(int fd, int handle_fd) { return Functions().SyncFd(fd, handle_fd); }
ION_EXPORTED int ion_free(int fd, ion_user_handle_t handle) { return Functions().Free(fd, handle); }
ION_EXPORTED int ion_map(int fd, ion_user_handle_t handle, size_t length, int prot, int flags,
                         off_t offset, unsigned char** ptr, int* map_fd) {
  return Functions().Map(fd, handle, length, prot, flags, offset, ptr, map_fd);
}
ION_EXPORTED int ion_share(int fd, ion_user_handle_t handle, int* share_fd) {
  return Functions().Share(fd, handle, share_fd);
}
ION_EXPORTED int ion_import(int fd, int share_fd, ion_user_handle_t* handle) {
  return Functions().Import(fd, share_fd, handle);
}
ION_EXPORTED int ion_query_heap_cnt(int fd, int* cnt) { return Functions().QueryHeapCnt(fd, cnt); }
ION_EXPORTED int ion_query_get_heaps(int fd, int cnt, void* buffers) {
  return Functions().QueryGetHeaps(fd, cnt, buffers);
}
ION_EXPORTED int ion_is_legacy(int fd) { return Functions().IsLegacy(fd) ? 1 : 0; }
ION_EXPORTED int ion_is_using_modular_heaps(int fd) {
  return Functions().IsUsingModularHeaps(fd) ? 1 : 0;
}

}  // extern "C"
