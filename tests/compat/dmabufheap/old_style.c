// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Written for libdmabufheap's C wrapper alone. Prints no descriptors and no addresses, so that the
// lines are the same on each machine.

#include <BufferAllocator/BufferAllocatorWrapper.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/compat/dmabufheap/old_style.h"

static void use(BufferAllocator* allocator, const char* what, int fd, size_t len) {
  printf("C %s of %zu: %s\n", what, len, fd >= 0 ? "a descriptor" : strerror(-fd));
  if (fd < 0) return;
  unsigned char* at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) {
    printf("C mmap: %s\n", strerror(errno));
    close(fd);
    return;
  }
  size_t zeros = 0;
  int start = DmabufHeapCpuSyncStart(allocator, (unsigned)fd, kSyncReadWrite, NULL, NULL);
  for (size_t i = 0; i < len; ++i) zeros += at[i] == 0;
  memset(at, 0xaa, len);
  int end = DmabufHeapCpuSyncEnd(allocator, (unsigned)fd, kSyncReadWrite, NULL, NULL);
  printf("C start %d, %zu bytes of 0, end %d, size %s\n", start, zeros, end,
         lseek(fd, 0, SEEK_END) == (off_t)len ? "as asked" : "another");
  munmap(at, len);
  printf("C close %d\n", close(fd));
}

int OldStyleC(void) {
  BufferAllocator* allocator = CreateDmabufHeapBufferAllocator();
  if (allocator == NULL) return printf("C no allocator\n"), 1;
  printf("C map %d\n",
         MapDmabufHeapNameToIonHeap(allocator, kDmabufSystemHeapName, "", 0, ~0u, 1));
  const size_t sizes[] = {64 << 10, 1 << 20, 3 << 20, 1 << 20};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); ++i) {
    use(allocator, "alloc", DmabufHeapAlloc(allocator, kDmabufSystemHeapName, sizes[i], 0, 0),
        sizes[i]);
    use(allocator, "allocsystem", DmabufHeapAllocSystem(allocator, true, sizes[i], 0, 0),
        sizes[i]);
    use(allocator, "allocsystem without cpu",
        DmabufHeapAllocSystem(allocator, false, sizes[i], 0, 0), sizes[i]);
  }
  FreeDmabufHeapBufferAllocator(allocator);
  return 0;
}
