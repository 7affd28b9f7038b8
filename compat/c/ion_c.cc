// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The functions of compat/include/ion_c.h over the pooled Managers of whatever this machine has.

#include "compat/include/ion_c.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>

#include "compat/c/c_interface.h"
#include "compat/c/per_process.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/platforms/pooled.h"

// Visible, and of the version that ion_c.map names.
#define ION_C_EXPORT extern "C" [[gnu::visibility("default")]]

namespace {

using Library = ion::compat::CInterface<ion::platforms::PooledAny>;

constinit ion::compat::PerProcess<Library> library;

// act(library), or -ENOMEM.
template <class F>
int With(ion_c_error* error, F act) noexcept {
  Library* const now =
      library.Get([](Library* inherited) { return new (std::nothrow) Library(inherited); });
  if (now != nullptr) return act(*now);
  return ion::compat::Tell(
      ion::ToStatus(ion::Error(ENOMEM, "operator new", {"c", ion::Operation::kUseHandle})), error);
}

}  // namespace

ION_C_EXPORT int ion_c_manager_open(const ion_c_manager_options* options, ion_c_manager** manager,
                                    ion_c_error* error) {
  return With(error, [&](Library& l) {
    return l.OpenManager(options, manager, error, [](Library::Options&) {});
  });
}
ION_C_EXPORT int ion_c_manager_close(ion_c_manager* manager, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.CloseManager(manager, error); });
}
ION_C_EXPORT int ion_c_manager_backend(ion_c_manager* manager, char* text, size_t bytes,
                                       ion_c_error* error) {
  return With(error, [&](Library& l) { return l.NameBackend(manager, text, bytes, error); });
}
ION_C_EXPORT int ion_c_manager_trim(ion_c_manager* manager, uint64_t bytes, uint64_t* freed,
                                    ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Trim(manager, bytes, freed, error); });
}
ION_C_EXPORT int ion_c_manager_tick(ion_c_manager* manager, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Tick(manager, error); });
}
ION_C_EXPORT int ion_c_report(ion_c_manager* manager, char* text, size_t bytes, size_t* needed,
                              ion_c_error* error) {
  return With(error,
              [&](Library& l) { return l.WriteReport(manager, text, bytes, needed, error); });
}
ION_C_EXPORT int ion_c_client_create(ion_c_manager* manager, const ion_c_client_options* options,
                                     ion_c_client** client, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.CreateClient(manager, options, client, error); });
}
ION_C_EXPORT int ion_c_client_close(ion_c_client* client, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.CloseClient(client, error); });
}
ION_C_EXPORT int ion_c_client_held(ion_c_client* client, uint64_t* bytes, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.HeldBytes(client, bytes, error); });
}
ION_C_EXPORT int ion_c_allocate(ion_c_client* client, const ion_c_request* request,
                                ion_c_buffer** buffer, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Allocate(client, request, buffer, error); });
}
ION_C_EXPORT int ion_c_release(ion_c_buffer* buffer, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Release(buffer, error); });
}
ION_C_EXPORT int ion_c_map(ion_c_buffer* buffer, uint32_t access, void** address,
                           ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Map(buffer, access, address, error); });
}
ION_C_EXPORT int ion_c_unmap(ion_c_buffer* buffer, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Unmap(buffer, error); });
}
ION_C_EXPORT int ion_c_begin(ion_c_buffer* buffer, uint32_t access, int timeout_ms,
                             ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Begin(buffer, access, timeout_ms, error); });
}
ION_C_EXPORT int ion_c_end(ion_c_buffer* buffer, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.End(buffer, error); });
}
ION_C_EXPORT int ion_c_keep(ion_c_buffer* buffer, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Keep(buffer, error); });
}
ION_C_EXPORT int ion_c_share(ion_c_buffer* buffer, int* fd, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Share(buffer, fd, error); });
}
ION_C_EXPORT int ion_c_import(ion_c_client* client, int fd, ion_c_buffer** buffer,
                              ion_c_error* error) {
  return With(error, [&](Library& l) { return l.Import(client, fd, buffer, error); });
}
ION_C_EXPORT int ion_c_describe(ion_c_buffer* buffer, ion_c_info* info, ion_c_error* error) {
  return With(error, [&](Library& l) { return l.DescribeBuffer(buffer, info, error); });
}
