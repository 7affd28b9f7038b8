/* SPDX-License-Identifier: Apache-2.0
 * Copyright the ion authors
 *
 * A program in ION's old style: it allocates, maps, shares with a child by a socket, imports, syncs
 * and frees. It knows the kernel's interface alone, and prints neither numbers of descriptors and
 * handles nor addresses, so that its output can be compared line by line.
 *
 * Usage: libion_old_style legacy|modern. Compiled with -DUSE_LIBION it calls libion's functions,
 * else the ioctls of a descriptor of /dev/ion.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/ion.h>
#include <linux/ion_4.12.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef USE_LIBION
#include <ion/ion.h>
#endif

static int modern;

/* Prints the result of a step: its errno's name, as the program may rely on it. */
static void tell(const char* step, int answer) {
  const char* name = answer == -ENOTTY   ? "ENOTTY"
                     : answer == -EINVAL ? "EINVAL"
                     : answer == -ENODEV ? "ENODEV"
                     : answer == -ENOMEM ? "ENOMEM"
                     : answer == -EBADF  ? "EBADF"
                     : answer == -EFAULT ? "EFAULT"
                     : answer < 0        ? strerror(-answer)
                                         : "ok";
  printf("%s: %s\n", step, name);
}

static int call(int fd, unsigned long request, void* argument) {
  return ioctl(fd, request, argument) < 0 ? -errno : 0;
}

#ifdef USE_LIBION
static int open_ion(void) { return ion_open(); }
static int close_ion(int fd) { return ion_close(fd); }
static int allocate(int fd, size_t len, size_t align, unsigned mask, unsigned flags, int* handle) {
  return ion_alloc(fd, len, align, mask, flags, handle);
}
static int allocate_fd(int fd, size_t len, unsigned mask, unsigned flags, int* memory) {
  return ion_alloc_fd(fd, len, 0, mask, flags, memory);
}
static int release(int fd, int handle) { return ion_free(fd, handle); }
static int share(int fd, int handle, int* memory) { return ion_share(fd, handle, memory); }
static int import(int fd, int memory, int* handle) { return ion_import(fd, memory, handle); }
static int sync_memory(int fd, int memory) { return ion_sync_fd(fd, memory); }
static int is_legacy(int fd) { return ion_is_legacy(fd); }
static int count_heaps(int fd, int* count) { return ion_query_heap_cnt(fd, count); }
static int get_heaps(int fd, int count, struct ion_heap_data* heaps) {
  return ion_query_get_heaps(fd, count, heaps);
}
#else
static int open_ion(void) {
  int fd = open("/dev/ion", O_RDONLY | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}
static int close_ion(int fd) { return close(fd) < 0 ? -errno : 0; }
static int allocate(int fd, size_t len, size_t align, unsigned mask, unsigned flags, int* handle) {
  struct ion_allocation_data data = {len, align, mask, flags, 0};
  int answer = call(fd, ION_IOC_ALLOC, &data);
  *handle = data.handle;
  return answer;
}
static int allocate_fd(int fd, size_t len, unsigned mask, unsigned flags, int* memory) {
  struct ion_new_allocation_data data = {len, mask, flags, 0, 0};
  int answer = call(fd, ION_IOC_NEW_ALLOC, &data);
  *memory = (int)data.fd;
  return answer;
}
static int release(int fd, int handle) {
  struct ion_handle_data data = {handle};
  return call(fd, ION_IOC_FREE, &data);
}
static int share(int fd, int handle, int* memory) {
  struct ion_fd_data data = {handle, -1};
  int answer = call(fd, ION_IOC_SHARE, &data);
  *memory = data.fd;
  return answer;
}
static int import(int fd, int memory, int* handle) {
  struct ion_fd_data data = {0, memory};
  int answer = call(fd, ION_IOC_IMPORT, &data);
  *handle = data.handle;
  return answer;
}
static int sync_memory(int fd, int memory) {
  struct ion_fd_data data = {0, memory};
  return call(fd, ION_IOC_SYNC, &data);
}
static int is_legacy(int fd) { return release(fd, 0) != -ENOTTY; }
static int count_heaps(int fd, int* count) {
  struct ion_heap_query query;
  int answer;
  memset(&query, 0, sizeof(query));
  answer = call(fd, ION_IOC_HEAP_QUERY, &query);
  *count = (int)query.cnt;
  return answer;
}
static int get_heaps(int fd, int count, struct ion_heap_data* heaps) {
  struct ion_heap_query query;
  memset(&query, 0, sizeof(query));
  query.cnt = (unsigned)count;
  query.heaps = (uintptr_t)heaps;
  return call(fd, ION_IOC_HEAP_QUERY, &query);
}
#endif

/* Begins or ends the CPU's access. Kernels before 4.6 have no such call, and say ENOTTY. */
static int cpu_access(int memory, uint64_t phase) {
  struct dma_buf_sync sync = {phase | DMA_BUF_SYNC_RW};
  int answer = call(memory, DMA_BUF_IOCTL_SYNC, &sync);
  return answer == -ENOTTY ? 0 : answer;
}

/* The mask of the first system heap: by the query, or, where there is none, by trying. */
static unsigned system_heap(int fd) {
  struct ion_heap_data* heaps;
  unsigned mask = 0, i;
  int count = 0;
  if (count_heaps(fd, &count) == 0 && count > 0) {
    heaps = calloc((size_t)count, sizeof(*heaps));
    if (get_heaps(fd, count, heaps) == 0) {
      for (i = 0; i < (unsigned)count; ++i) {
        if (heaps[i].type == ION_HEAP_TYPE_SYSTEM) mask = 1u << heaps[i].heap_id;
      }
    }
    free(heaps);
  }
  for (i = 0; !modern && mask == 0 && i < ION_NUM_HEAP_IDS; ++i) {
    int handle;
    if (allocate(fd, 1, 0, 1u << i, 0, &handle) != 0) continue;
    release(fd, handle);
    mask = 1u << i;
  }
  return mask;
}

static void fill(unsigned char* at, size_t bytes, unsigned seed) {
  size_t i;
  for (i = 0; i < bytes; ++i) at[i] = (unsigned char)(i * 7 + seed);
}
static int holds(const unsigned char* at, size_t bytes, unsigned seed) {
  size_t i;
  for (i = 0; i < bytes; ++i) {
    if (at[i] != (unsigned char)(i * 7 + seed)) return 0;
  }
  return 1;
}
static int is_zero(const unsigned char* at, size_t bytes) {
  size_t i;
  for (i = 0; i < bytes; ++i) {
    if (at[i] != 0) return 0;
  }
  return 1;
}

static void send_fd(int socket, int fd) {
  char byte = 'f', space[CMSG_SPACE(sizeof(int))];
  struct iovec part = {&byte, 1};
  struct msghdr message;
  struct cmsghdr* control;
  memset(&message, 0, sizeof(message));
  memset(space, 0, sizeof(space));
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(control), &fd, sizeof(fd));
  if (sendmsg(socket, &message, 0) != 1) printf("send: %s\n", strerror(errno));
}
static int receive_fd(int socket) {
  char byte, space[CMSG_SPACE(sizeof(int))];
  struct iovec part = {&byte, 1};
  struct msghdr message;
  int fd = -1;
  memset(&message, 0, sizeof(message));
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  if (recvmsg(socket, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == NULL) return -1;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
  return fd;
}

/* The child opens /dev/ion itself, as a service does, and gets the memory by a socket. */
static int child(int socket, size_t bytes) {
  int memory = receive_fd(socket), handle = 0;
  int fd = open_ion();
  unsigned char* at;
  tell("child: open", fd < 0 ? fd : 0);
  tell("child: receive", memory < 0 ? memory : 0);
  if (!modern) tell("child: import", import(fd, memory, &handle));
  at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  tell("child: map", at == MAP_FAILED ? -errno : 0);
  tell("child: begin access", cpu_access(memory, DMA_BUF_SYNC_START));
  printf("child: sees what the parent wrote: %s\n", holds(at, bytes, 1) ? "yes" : "no");
  fill(at, bytes, 2);
  tell("child: end access", cpu_access(memory, DMA_BUF_SYNC_END));
  if (!modern) {
    tell("child: sync", sync_memory(fd, memory));
    tell("child: free", release(fd, handle));
    tell("child: free again", release(fd, handle));
  }
  munmap(at, bytes);
  close(memory);
  tell("child: close", close_ion(fd));
  fflush(stdout);
  return 0;
}

int main(int argc, char** argv) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = 16 * page;
  int fd, handle = 0, other = 0, memory = -1, second = -1, sockets[2], status, none;
  unsigned mask;
  unsigned char *at, *again;
  pid_t pid;
  if (argc != 2) return 2;
  modern = strcmp(argv[1], "modern") == 0;
  setvbuf(stdout, NULL, _IOLBF, 0);

  fd = open_ion();
  tell("open", fd < 0 ? fd : 0);
  if (fd < 0) return 1;
  printf("interface: %s\n", is_legacy(fd) == !modern ? "as asked" : "not as asked");
  mask = system_heap(fd);
  printf("a system heap: %s\n", mask != 0 ? "yes" : "no");

  if (modern) {
    tell("allocate", allocate_fd(fd, bytes, mask, ION_FLAG_CACHED, &memory));
    tell("allocate nothing", allocate_fd(fd, 0, mask, 0, &none));
    tell("allocate all there is", allocate_fd(fd, SIZE_MAX, mask, 0, &none));
    tell("allocate from no heap", allocate_fd(fd, bytes, 0, 0, &none));
    tell("allocate more than half of the memory", allocate_fd(fd, (size_t)1 << 40, mask, 0, &none));
    tell("a handle", release(fd, 1));
  } else {
    tell("allocate",
         allocate(fd, bytes, page, mask, ION_FLAG_CACHED | ION_FLAG_CACHED_NEEDS_SYNC, &handle));
    tell("allocate nothing", allocate(fd, 0, 0, mask, 0, &other));
    tell("allocate all there is", allocate(fd, SIZE_MAX, 0, mask, 0, &other));
    tell("allocate from no heap", allocate(fd, bytes, 0, 0, 0, &other));
    tell("allocate with an alignment of two pages", allocate(fd, bytes, 2 * page, mask, 0, &other));
    tell("allocate more than half of the memory",
         allocate(fd, (size_t)1 << 40, 0, mask, 0, &other));
    tell("share", share(fd, handle, &memory));
    tell("share again", share(fd, handle, &second));
    close(second);
    tell("share a handle that is none", share(fd, 1000, &second));
  }
  printf("size: %s\n", lseek(memory, 0, SEEK_END) == (off_t)bytes ? "as asked" : "not as asked");
  printf("closed by exec: %s\n", (fcntl(memory, F_GETFD) & FD_CLOEXEC) != 0 ? "yes" : "no");
  at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  tell("map", at == MAP_FAILED ? -errno : 0);
  if (at == MAP_FAILED) return 1;
  tell("begin access", cpu_access(memory, DMA_BUF_SYNC_START));
  printf("zeroed: %s\n", is_zero(at, bytes) ? "yes" : "no");
  fill(at, bytes, 1);
  tell("end access", cpu_access(memory, DMA_BUF_SYNC_END));
  if (!modern) tell("sync", sync_memory(fd, memory));

  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) return 1;
  fflush(stdout);
  pid = fork();
  if (pid == 0) {
    close(sockets[0]);
    _exit(child(sockets[1], bytes));
  }
  close(sockets[1]);
  send_fd(sockets[0], memory);
  waitpid(pid, &status, 0);
  printf("child: %s\n", WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "ended well" : "failed");
  tell("begin access", cpu_access(memory, DMA_BUF_SYNC_START));
  printf("sees what the child wrote: %s\n", holds(at, bytes, 2) ? "yes" : "no");
  tell("end access", cpu_access(memory, DMA_BUF_SYNC_END));

  again = mmap(NULL, page, PROT_READ, MAP_SHARED, memory, (off_t)page);
  printf("a second mapping, of the second page: %s\n",
         again != MAP_FAILED && memcmp(again, at + page, page) == 0 ? "the same bytes" : "differs");
  munmap(again, page);
  if (!modern) {
    tell("import", import(fd, memory, &other));
    printf("the same handle: %s\n", other == handle ? "yes" : "no");
    tell("import of no descriptor", import(fd, -1, &other));
    tell("import of a pipe", pipe(sockets) == 0 ? import(fd, sockets[0], &other) : -errno);
    tell("sync of a pipe", sync_memory(fd, sockets[0]));
    tell("sync of no descriptor", sync_memory(fd, -1));
    tell("free", release(fd, handle));
    tell("free its second reference", release(fd, handle));
    tell("free once more", release(fd, handle));
    tell("share what was freed", share(fd, handle, &second));
    tell("free no handle", release(fd, 0));
  }
  munmap(at, bytes);
  close(memory);
  tell("close", close_ion(fd));
  tell("allocate after it",
       modern ? allocate_fd(fd, bytes, mask, 0, &none) : allocate(fd, bytes, 0, mask, 0, &other));
  return 0;
}
