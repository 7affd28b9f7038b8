// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// libdmabufheap: the class, and its C wrapper, over DmabufHeaps.

// What these two declare is visible, and nothing else.
#pragma GCC visibility push(default)
#include <BufferAllocator/BufferAllocator.h>
#include <BufferAllocator/BufferAllocatorWrapper.h>
#pragma GCC visibility pop

#include <cerrno>
#include <cstddef>
#include <mutex>
#include <new>
#include <optional>
#include <shared_mutex>
#include <string>
#include <unordered_set>

#include "compat/c/per_process.h"
#include "compat/dmabufheap/dmabuf_heaps.h"
#include "ion/base/error.h"
#include "ion/base/with_memory.h"

namespace {

using Heaps = ion::compat::DmabufHeaps<>;
using ion::compat::IonHeapConfig;

constinit ion::compat::PerProcess<Heaps> process_heaps;

// The process's interfaces; nullptr: no memory.
Heaps* TheHeaps() noexcept {
  return process_heaps.Get([](Heaps*) { return new (std::nothrow) Heaps; });
}

// act(heaps), or -ENOMEM.
template <class F>
int With(F act) {
  Heaps* const heaps = TheHeaps();
  if (heaps == nullptr) return -ENOMEM;
  return ion::internal::WithMemory([&]() -> int { return act(*heaps); }, [] { return -ENOMEM; });
}

// The heap and flags that a program declared for this name.
std::optional<IonHeapConfig> DeclaredIn(const auto& configs, std::shared_mutex& mutex,
                                        const std::string& heap_name) {
  const std::shared_lock lock(mutex);
  const auto at = configs.find(heap_name);
  if (at == configs.end()) return std::nullopt;
  return IonHeapConfig{at->second.mask, at->second.flags};
}

}  // namespace

BufferAllocator::BufferAllocator() {
  With([&](Heaps& heaps) {
    const auto ion = heaps.OpenIon();
    uses_legacy_ion_iface_ = ion.ok() && ion->legacy;
    return 0;
  });
}

int BufferAllocator::MapNameToIonHeap(const std::string& heap_name,
                                      const std::string& ion_heap_name, unsigned int ion_heap_flags,
                                      unsigned int legacy_ion_heap_mask,
                                      unsigned int legacy_ion_heap_flags) {
  return With([&](Heaps& heaps) {
    const int found = heaps.LookForDmaHeap(heap_name);
    if (found != -ENOENT) return found;
    const auto ion = heaps.OpenIon();
    if (!ion.ok()) return ion.error().code() == ENOENT ? 0 : -ion.error().code();
    IonHeapConfig config{legacy_ion_heap_mask, legacy_ion_heap_flags};
    if (!ion->legacy && !ion_heap_name.empty()) {
      const auto mask = heaps.MaskOf(*ion, ion_heap_name);
      if (!mask.ok()) return -mask.error().code();
      config = {*mask, ion_heap_flags};
    }
    if (config.mask == 0 || Heaps::HasUnknownFlags(config.flags)) return -EINVAL;
    const std::unique_lock lock(heap_name_to_config_mutex_);
    heap_name_to_config_[heap_name] = {config.mask, config.flags};
    return 0;
  });
}

int BufferAllocator::Alloc(const std::string& heap_name, size_t len, unsigned int heap_flags,
                           size_t legacy_align) {
  return With([&](Heaps& heaps) {
    return heaps.Alloc(heap_name, len, heap_flags, legacy_align,
                       DeclaredIn(heap_name_to_config_, heap_name_to_config_mutex_, heap_name));
  });
}

int BufferAllocator::AllocSystem(bool cpu_access, size_t len, unsigned int heap_flags,
                                 size_t legacy_align) {
  return With([&](Heaps& heaps) {
    const char* name = kDmabufSystemHeapName;
    if (!cpu_access &&
        heaps.HasUncached(DeclaredIn(heap_name_to_config_, heap_name_to_config_mutex_,
                                     kDmabufSystemUncachedHeapName))) {
      name = kDmabufSystemUncachedHeapName;
    }
    return Alloc(name, len, heap_flags, legacy_align);
  });
}

int BufferAllocator::Sync(unsigned int dmabuf_fd, bool start, SyncType sync_type,
                          const CustomCpuSyncLegacyIon& legacy_ion_cpu_sync,
                          void* legacy_ion_custom_data) {
  const auto fd = static_cast<int>(dmabuf_fd);
  Heaps* const heaps = TheHeaps();
  if (heaps == nullptr) return -ENOMEM;
  if (!uses_legacy_ion_iface_) return heaps->Sync(fd, start, sync_type);
  const auto ion = heaps->OpenIon();
  if (!ion.ok()) return -ion.error().code();
  // An exception of the program's own passes.
  if (legacy_ion_cpu_sync) return legacy_ion_cpu_sync(ion->node.get(), fd, legacy_ion_custom_data);
  return heaps->SyncOfIon(*ion, fd);
}

int BufferAllocator::CpuSyncStart(unsigned int dmabuf_fd, SyncType sync_type,
                                  const CustomCpuSyncLegacyIon& legacy_ion_cpu_sync,
                                  void* legacy_ion_custom_data) {
  return Sync(dmabuf_fd, true, sync_type, legacy_ion_cpu_sync, legacy_ion_custom_data);
}
int BufferAllocator::CpuSyncEnd(unsigned int dmabuf_fd, SyncType sync_type,
                                const CustomCpuSyncLegacyIon& legacy_ion_cpu_sync,
                                void* legacy_ion_custom_data) {
  return Sync(dmabuf_fd, false, sync_type, legacy_ion_cpu_sync, legacy_ion_custom_data);
}

std::unordered_set<std::string> BufferAllocator::GetDmabufHeapList() {
  Heaps* const heaps = TheHeaps();
  return heaps == nullptr ? std::unordered_set<std::string>() : heaps->List();
}
bool BufferAllocator::CheckIonSupport() {
  Heaps* const heaps = TheHeaps();
  return heaps != nullptr && heaps->HasIon();
}

extern "C" {

BufferAllocator* CreateDmabufHeapBufferAllocator(void) {
  return ion::internal::WithMemory([]() -> BufferAllocator* { return new BufferAllocator; },
                                   []() -> BufferAllocator* { return nullptr; });
}
void FreeDmabufHeapBufferAllocator(BufferAllocator* buffer_allocator) { delete buffer_allocator; }

int DmabufHeapAlloc(BufferAllocator* buffer_allocator, const char* heap_name, size_t len,
                    unsigned int heap_flags, size_t legacy_align) {
  if (buffer_allocator == nullptr || heap_name == nullptr) return -EINVAL;
  return With(
      [&](Heaps&) { return buffer_allocator->Alloc(heap_name, len, heap_flags, legacy_align); });
}
int DmabufHeapAllocSystem(BufferAllocator* buffer_allocator, bool cpu_access, size_t len,
                          unsigned int heap_flags, size_t legacy_align) {
  if (buffer_allocator == nullptr) return -EINVAL;
  return buffer_allocator->AllocSystem(cpu_access, len, heap_flags, legacy_align);
}
int MapDmabufHeapNameToIonHeap(BufferAllocator* buffer_allocator, const char* heap_name,
                               const char* ion_heap_name, unsigned int ion_heap_flags,
                               unsigned int legacy_ion_heap_mask,
                               unsigned int legacy_ion_heap_flags) {
  if (buffer_allocator == nullptr || heap_name == nullptr || ion_heap_name == nullptr) {
    return -EINVAL;
  }
  return With([&](Heaps&) {
    return buffer_allocator->MapNameToIonHeap(heap_name, ion_heap_name, ion_heap_flags,
                                              legacy_ion_heap_mask, legacy_ion_heap_flags);
  });
}
int DmabufHeapCpuSyncStart(BufferAllocator* buffer_allocator, unsigned int dmabuf_fd,
                           SyncType sync_type, int (*legacy_ion_cpu_sync)(int, int, void*),
                           void* legacy_ion_custom_data) {
  if (buffer_allocator == nullptr) return -EINVAL;
  return buffer_allocator->CpuSyncStart(dmabuf_fd, sync_type, legacy_ion_cpu_sync,
                                        legacy_ion_custom_data);
}
int DmabufHeapCpuSyncEnd(BufferAllocator* buffer_allocator, unsigned int dmabuf_fd,
                         SyncType sync_type, int (*legacy_ion_cpu_sync)(int, int, void*),
                         void* legacy_ion_custom_data) {
  if (buffer_allocator == nullptr) return -EINVAL;
  return buffer_allocator->CpuSyncEnd(dmabuf_fd, sync_type, legacy_ion_cpu_sync,
                                      legacy_ion_custom_data);
}
bool CheckIonSupport(void) { return BufferAllocator::CheckIonSupport(); }

}  // extern "C"
