// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/include/BufferAllocator/BufferAllocatorWrapper.h
//
// libdmabufheap for C: each function is that of the class (BufferAllocator.h) of the allocator that
// is its first argument. All but two return the class's answer, or -EINVAL if the allocator or a
// name is NULL. No exception leaves one.
//
// Example:
//   BufferAllocator* allocator = CreateDmabufHeapBufferAllocator();
//   int fd = DmabufHeapAllocSystem(allocator, true, 4096, 0, 0);
//
// Cost and thread-safety: those of the class.
#ifndef ION_COMPAT_INCLUDE_BUFFERALLOCATOR_BUFFERALLOCATORWRAPPER_H_
#define ION_COMPAT_INCLUDE_BUFFERALLOCATOR_BUFFERALLOCATORWRAPPER_H_

#include <BufferAllocator/dmabufheap-defs.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
class BufferAllocator;
extern "C" {
#else
typedef struct BufferAllocator BufferAllocator;
#endif

// Returns a new allocator, or NULL if there is no memory for one.
BufferAllocator* CreateDmabufHeapBufferAllocator(void);
// Frees it. NULL: no effect.
void FreeDmabufHeapBufferAllocator(BufferAllocator* buffer_allocator);

// As BufferAllocator::Alloc.
int DmabufHeapAlloc(BufferAllocator* buffer_allocator, const char* heap_name, size_t len,
                    unsigned int heap_flags, size_t legacy_align);
// As BufferAllocator::AllocSystem.
int DmabufHeapAllocSystem(BufferAllocator* buffer_allocator, bool cpu_access, size_t len,
                          unsigned int heap_flags, size_t legacy_align);
// As BufferAllocator::MapNameToIonHeap.
int MapDmabufHeapNameToIonHeap(BufferAllocator* buffer_allocator, const char* heap_name,
                               const char* ion_heap_name, unsigned int ion_heap_flags,
                               unsigned int legacy_ion_heap_mask,
                               unsigned int legacy_ion_heap_flags);
// As BufferAllocator::CpuSyncStart. The callback may be NULL.
int DmabufHeapCpuSyncStart(BufferAllocator* buffer_allocator, unsigned int dmabuf_fd,
                           SyncType sync_type, int (*legacy_ion_cpu_sync)(int, int, void*),
                           void* legacy_ion_custom_data);
// As BufferAllocator::CpuSyncEnd. The callback may be NULL.
int DmabufHeapCpuSyncEnd(BufferAllocator* buffer_allocator, unsigned int dmabuf_fd,
                         SyncType sync_type, int (*legacy_ion_cpu_sync)(int, int, void*),
                         void* legacy_ion_custom_data);
// As BufferAllocator::CheckIonSupport.
bool CheckIonSupport(void);

#ifdef __cplusplus
}
#endif

#endif  // ION_COMPAT_INCLUDE_BUFFERALLOCATOR_BUFFERALLOCATORWRAPPER_H_
