// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/include/ion_c.h
//
// The library for C: managers, clients, and buffers that are allocated, mapped, accessed, shared,
// imported and released. One manager is the best interface that the machine has (dma-heap, ION,
// udmabuf, memfd), with pools behind its heaps.
//
// Each function returns 0, or the negative number of an errno, and no exception leaves one. The last
// parameter, which may be NULL, receives the errno and a sentence: the operation, its node, the
// bytes, and a remedy. A parameter that must not be NULL is -EINVAL if it is. A result is NULL, or
// -1, after an error.
//
// Handles are numbers in the type of a pointer, and nothing is ever read through them. One that was
// closed or released, or that was never given out, or that is of another kind, is -EINVAL. No number
// is given out twice: with pointers of 32 bits a program gets -EOVERFLOW after 2^32 of them.
//
// A child made by fork can use no handle of its parent (-EPERM), and may open managers of its own.
//
// Example:
//   ion_c_manager* manager;
//   ion_c_client* client;
//   ion_c_buffer* buffer;
//   struct ion_c_error error;
//   const struct ion_c_client_options options = {.name = "camera"};
//   const struct ion_c_request request = {.bytes = 8 << 20, .name = "frame"};
//   if (ion_c_manager_open(NULL, &manager, &error) != 0) return fail(error.text);
//   if (ion_c_client_create(manager, &options, &client, &error) != 0) return fail(error.text);
//   if (ion_c_allocate(client, &request, &buffer, &error) != 0) return fail(error.text);
//   int fd;
//   if (ion_c_share(buffer, &fd, &error) != 0) return fail(error.text);   /* for a driver */
//
// Cost: two locks and a reference count for each call beside the call's own. Thread-safe. Calls for
// one buffer wait for each other, so a call that waits for a device has others wait.
#ifndef ION_COMPAT_INCLUDE_ION_C_H_
#define ION_COMPAT_INCLUDE_ION_C_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ion_c_manager ion_c_manager;
typedef struct ion_c_client ion_c_client;
typedef struct ion_c_buffer ion_c_buffer;

// The bytes of an error's text, with its NUL. A longer text is cut.
#define ION_C_TEXT_BYTES 512

struct ion_c_error {
  int code;                     // an errno, positive; 0: no error
  char text[ION_C_TEXT_BYTES];  // empty: no error
};

// Flags of a manager.
#define ION_C_REQUIRE_DMA_BUF 1u  // memory that drivers take: memfd is refused
#define ION_C_RECLAIM 2u          // a thread gives idle memory back, by age and under pressure

struct ion_c_manager_options {
  // Interfaces in the order in which they are tried, "dma_heap,udmabuf"; the first that opens is
  // taken. NULL: dma_heap, ion, ion_legacy, udmabuf, memfd.
  const char* backends;
  uint32_t flags;        // ION_C_REQUIRE_DMA_BUF, ION_C_RECLAIM
  uint32_t reserved[5];  // 0
};

// Opens a manager. `options` may be NULL. -EINVAL: a name in `backends` is of no interface, or a
// flag or a reserved word is not 0. Else the errno of the last interface that was tried; the text
// has all of them.
int ion_c_manager_open(const struct ion_c_manager_options* options, ion_c_manager** manager,
                       struct ion_c_error* error);
// Closes it. -EBUSY: it has clients, which the text counts; it stays open.
int ion_c_manager_close(ion_c_manager* manager, struct ion_c_error* error);
// Writes the name of the interface that was taken, cut to `bytes` with its NUL.
int ion_c_manager_backend(ion_c_manager* manager, char* text, size_t bytes,
                          struct ion_c_error* error);
// Gives idle memory of the pools back to the kernel, at least `bytes`, or all that there is.
// `freed`, which may be NULL, receives the number of bytes.
int ion_c_manager_trim(ion_c_manager* manager, uint64_t bytes, uint64_t* freed,
                       struct ion_c_error* error);
// Advances the pools' time. Memory that was not needed for some ticks goes back to the kernel. For a
// manager without ION_C_RECLAIM.
int ion_c_manager_tick(ion_c_manager* manager, struct ion_c_error* error);
// Writes the memory of each heap and client, and the content of the pools, as ION's debugfs did.
// `needed`, which may be NULL, receives the bytes of the whole text with its NUL. -ENOSPC: `bytes`
// are less, and the text is cut. To ask for the size alone: `text` NULL and `bytes` 0, which is 0.
int ion_c_report(ion_c_manager* manager, char* text, size_t bytes, size_t* needed,
                 struct ion_c_error* error);

// Flags of a client.
#define ION_C_RECYCLE_AS_IS 1u  // takes memory of its own domain without zeroing

struct ion_c_client_options {
  const char* name;    // for reports; NULL: none
  const char* domain;  // of trust: clients of one domain may get each other's memory; NULL: its own
  uint64_t quota_bytes;  // the most that it may hold; 0: no bound of its own
  uint32_t heaps;        // bit N: it may use heap N; 0: all
  uint32_t flags;        // ION_C_RECYCLE_AS_IS
  uint32_t reserved[4];  // 0
};

// Creates a user of the manager. `options` may be NULL. -EINVAL: a flag or a reserved word. -ENOSPC:
// 1023 clients are open in this process.
int ion_c_client_create(ion_c_manager* manager, const struct ion_c_client_options* options,
                        ion_c_client** client, struct ion_c_error* error);
// Closes it. -EBUSY: it has buffers, which the text counts; it stays open.
int ion_c_client_close(ion_c_client* client, struct ion_c_error* error);
// The bytes that the client is charged.
int ion_c_client_held(ion_c_client* client, uint64_t* bytes, struct ion_c_error* error);

// Flags of a request: bits 0 to 15 are the library's, bits 16 to 31 are handed to a heap of ION.
#define ION_C_CACHED (1u << 0)     // mapped through the CPU's caches
#define ION_C_UNCACHED (1u << 15)  // not so

// The ids of heaps are those of ION: scattered memory, and contiguous memory, which only a request
// that names it gets.
#define ION_C_HEAP_SYSTEM (1u << 0)
#define ION_C_HEAP_DMA (1u << 4)

struct ion_c_request {
  uint64_t bytes;        // rounded up to pages, or to a size class
  uint64_t alignment;    // bytes, of the start in physical memory; 0: none
  uint32_t heaps;        // bit N: from heap N, the highest first; 0: any that is not scarce
  uint32_t flags;        // ION_C_CACHED, ION_C_UNCACHED, or bits of a heap
  const char* name;      // for debugging, 31 bytes are kept; NULL: none
  uint32_t reserved[4];  // 0
};

// Allocates memory that reads as 0, unless the client recycles as is. -EINVAL: 0 bytes, a flag
// without a name, a reserved word, or a property that no heap can promise. -ENODEV: no such heap.
// -EDQUOT: past the quota. -ENOMEM: past the bound of the machine, or the kernel has none.
int ion_c_allocate(ion_c_client* client, const struct ion_c_request* request, ion_c_buffer** buffer,
                   struct ion_c_error* error);
// Gives the buffer back: one release for each ion_c_allocate and each ion_c_import that returned it.
// -EBUSY: it is mapped, or an access is open; the last release needs both to have ended.
int ion_c_release(ion_c_buffer* buffer, struct ion_c_error* error);

// Directions of access.
#define ION_C_READ 1u
#define ION_C_WRITE 2u

// Maps the whole buffer, for ION_C_READ or ION_C_READ | ION_C_WRITE. Mapped again for the same access
// it has the same address. It needs as many ion_c_unmap, and each address is valid until the last.
// -EACCES: it was imported read-only. Read and write between ion_c_begin and ion_c_end only.
int ion_c_map(ion_c_buffer* buffer, uint32_t access, void** address, struct ion_c_error* error);
// -EINVAL: it is not mapped. -EBUSY: an access is open.
int ion_c_unmap(ion_c_buffer* buffer, struct ion_c_error* error);
// Begins CPU access: the caches and the devices agree from here on. ION_C_WRITE alone is for bytes
// that are overwritten whole. Waits for devices for `timeout_ms`, or without bound if that is
// negative. -EINVAL: not mapped. -EACCES: to write, and mapped for reading. -EBUSY: an access is
// open. -ETIMEDOUT: a device still uses the memory.
int ion_c_begin(ion_c_buffer* buffer, uint32_t access, int timeout_ms, struct ion_c_error* error);
// Ends it. -EINVAL: none is open. After another error it has ended all the same.
int ion_c_end(ion_c_buffer* buffer, struct ion_c_error* error);

// Makes the buffer one that others may hold, too: a driver's queue, another process. Its memory is
// recycled only if the kernel proves that nobody else has it. No effect if it is one already, as
// each imported buffer is.
int ion_c_keep(ion_c_buffer* buffer, struct ion_c_error* error);
// Keeps the buffer and returns a new descriptor of its memory, close-on-exec, which the caller closes.
// It is a dma-buf unless the interface is memfd.
int ion_c_share(ion_c_buffer* buffer, int* fd, struct ion_c_error* error);
// Makes a buffer of a descriptor, which is copied and stays the caller's. If the client certainly
// has a buffer of that memory, this is the same one, and needs one release more. -EBADF: not open.
// -EINVAL: no memory that the interface takes.
int ion_c_import(ion_c_client* client, int fd, ion_c_buffer** buffer, struct ion_c_error* error);

// Values of a property.
#define ION_C_UNKNOWN (-1)
#define ION_C_NO 0
#define ION_C_YES 1

struct ion_c_info {
  uint64_t bytes;      // of the memory: not less than was asked for
  uint64_t alignment;  // bytes, of its start in physical memory
  int32_t heap;        // the id of its heap; -1: imported
  int32_t cpu_mappable, cached, contiguous, zeroed;
  uint32_t releases;  // that it takes
  uint32_t kept;      // 1: others may hold it
  uint32_t reserved[5];
};

// Describes the buffer.
int ion_c_describe(ion_c_buffer* buffer, struct ion_c_info* info, struct ion_c_error* error);

#ifdef __cplusplus
}
#endif

#endif  // ION_COMPAT_INCLUDE_ION_C_H_
