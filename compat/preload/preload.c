/* SPDX-License-Identifier: Apache-2.0
 * Copyright the ion authors
 *
 * libion_preload.so: gives a program that opens /dev/ion itself an ION, on a kernel that has none,
 * and /dev/dma_heap/system where there is no dma-heap. LD_PRELOAD names it, or `./dev run-with-ion`.
 *
 * It interposes open, openat, ioctl, access and stat, in all their forms, and nothing else. Each
 * asks the kernel first, but for an ioctl of the letter I or H, which asks the descriptor; only if
 * the kernel has no such file it compares the path. All else costs one branch, and a pointer of the
 * program is never looked at before the kernel has taken it. It keeps no table of descriptors. The
 * emulation is in a second library, beside this one, which is loaded at the first hit.
 *
 * Out of reach: static programs, and those that make system calls by number.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "compat/preload/served.h"

/* All else is hidden. */
#define EXPORTED __attribute__((visibility("default")))

typedef int open_function(const char*, int, ...);
typedef int open_2_function(const char*, int);
typedef int openat_function(int, const char*, int, ...);
typedef int openat_2_function(int, const char*, int);
typedef int ioctl_function(int, unsigned long, ...);
typedef int access_function(const char*, int);
typedef int stat_function(const char*, void*);
typedef int xstat_function(int, const char*, void*);

/* True while this thread is in the emulation, whose own calls go to the kernel. */
static __thread int inside __attribute__((tls_model("initial-exec")));

/* The next definition of a function: the C library's, or that of another preloaded library. */
static void* next_of(void** kept, const char* name) {
  void* function = __atomic_load_n(kept, __ATOMIC_RELAXED);
  if (function == NULL) {
    function = dlsym(RTLD_NEXT, name);
    __atomic_store_n(kept, function, __ATOMIC_RELAXED);
  }
  return function;
}

#define FUNCTION(name, kind)                               \
  static void* kept_##name;                                \
  static kind##_function* next_##name(void) {              \
    return (kind##_function*)next_of(&kept_##name, #name); \
  }
FUNCTION(open, open)
FUNCTION(open64, open)
FUNCTION(openat, openat)
FUNCTION(openat64, openat)
FUNCTION(__open_2, open_2)
FUNCTION(__open64_2, open_2)
FUNCTION(__openat_2, openat_2)
FUNCTION(__openat64_2, openat_2)
FUNCTION(ioctl, ioctl)
FUNCTION(access, access)
FUNCTION(stat, stat)
FUNCTION(stat64, stat)
FUNCTION(lstat, stat)
FUNCTION(lstat64, stat)
FUNCTION(__xstat, xstat)
FUNCTION(__xstat64, xstat)
FUNCTION(__lxstat, xstat)
FUNCTION(__lxstat64, xstat)

/* The usual ones now, so that a signal handler, or a child by vfork, meets no dlsym; each costs the
 * start of every program some microseconds. */
__attribute__((constructor)) static void find_functions(void) {
  (void)next_open();
  (void)next_open64();
  (void)next_openat();
  (void)next_ioctl();
  (void)next_access();
  (void)next_stat();
}

/* --- The emulation. */

static const struct ion_served* loaded;

/* Where this library lies: an absolute path, since the program may go to another directory. */
static char own_path[4096];
__attribute__((constructor)) static void find_own_path(void) {
  char path[PATH_MAX];
  Dl_info own;
  if (dladdr((void*)&loaded, &own) == 0 || own.dli_fname == NULL) return;
  if (own.dli_fname[0] != '/') own.dli_fname = realpath(own.dli_fname, path);
  if (own.dli_fname == NULL || strlen(own.dli_fname) >= sizeof(own_path)) return;
  memcpy(own_path, own.dli_fname, strlen(own.dli_fname) + 1);
}

/* Loads libion_preload_served.so from the directory of this library. NULL: it is not there, or does
 * not load. */
static const struct ion_served* load_beside(void) {
  static const char name[] = "libion_preload_served.so";
  const struct ion_served* (*functions)(void);
  char path[4096];
  const char* slash;
  size_t directory;
  void* library;
  if (own_path[0] == 0) find_own_path(); /* another library's constructor was first */
  slash = strrchr(own_path, '/');
  if (slash == NULL) return NULL;
  directory = (size_t)(slash - own_path) + 1;
  if (directory + sizeof(name) > sizeof(path)) return NULL;
  memcpy(path, own_path, directory);
  memcpy(path + directory, name, sizeof(name));
  library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return NULL;
  *(void**)&functions = dlsym(library, "ion_served_functions");
  return functions == NULL ? NULL : functions();
}

/* Between enter and leave this thread takes no signal but those of its own doing, so that no handler
 * runs inside: compat/libion/signals_blocked.h. */
static void enter(sigset_t* before) {
  static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
  sigset_t all;
  size_t i;
  sigfillset(&all);
  for (i = 0; i < sizeof(own) / sizeof(own[0]); ++i) sigdelset(&all, own[i]);
  pthread_sigmask(SIG_BLOCK, &all, before);
  inside = 1;
}
static void leave(const sigset_t* before) {
  inside = 0;
  pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* Inside. Two threads may load at once, which gives both the same: a lock of ours around dlopen's
 * own would wait for a thread that waits for ours. */
static const struct ion_served* served(void) {
  const struct ion_served* functions = __atomic_load_n(&loaded, __ATOMIC_ACQUIRE);
  if (functions != NULL) return functions;
  functions = load_beside();
  if (functions != NULL) __atomic_store_n(&loaded, functions, __ATOMIC_RELEASE);
  return functions;
}

static int answer(long result) {
  if (result >= 0) return (int)result;
  errno = (int)-result;
  return -1;
}

/* --- Paths. Only read after the kernel said that there is no such file: it has read them. */

enum node { no_node, ion_node, dma_heap_node };

static enum node node_of(const char* path) {
  if (strcmp(path, "/dev/ion") == 0) return ion_node;
  if (strcmp(path, "/dev/dma_heap/system") != 0) return no_node;
  /* Of a kernel with other heaps there is no such heap. */
  if (next_access()("/dev/dma_heap", F_OK) == 0 || errno != ENOENT) return no_node;
  return dma_heap_node;
}

/* The node that a call which failed meant; errno stays. */
static enum node missed(const char* path) {
  enum node node;
  const int before = errno;
  if (before != ENOENT || inside) return no_node;
  node = node_of(path);
  errno = before;
  return node;
}

static int open_node(enum node node, int flags) {
  const struct ion_served* functions;
  sigset_t before;
  long result = -ENOENT;
  if ((flags & O_PATH) != 0) return answer(-ENOENT);
  if ((flags & O_DIRECTORY) != 0) return answer(-ENOTDIR);
  enter(&before);
  functions = served();
  if (functions != NULL) result = functions->open(node == dma_heap_node, flags);
  leave(&before);
  return answer(result);
}

/* Only with these flags open has a third argument. */
static int has_mode(int flags) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

#define OPEN(name)                                              \
  EXPORTED int name(const char* path, int flags, ...) {         \
    int fd;                                                     \
    enum node node;                                             \
    mode_t mode = 0;                                            \
    if (has_mode(flags)) {                                      \
      va_list arguments;                                        \
      va_start(arguments, flags);                               \
      mode = va_arg(arguments, mode_t);                         \
      va_end(arguments);                                        \
    }                                                           \
    fd = next_##name()(path, flags, mode);                      \
    if (fd >= 0 || (node = missed(path)) == no_node) return fd; \
    return open_node(node, flags);                              \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                   \
  EXPORTED int name(int directory, const char* path, int flags, ...) { \
    int fd;                                                            \
    enum node node;                                                    \
    mode_t mode = 0;                                                   \
    if (has_mode(flags)) {                                             \
      va_list arguments;                                               \
      va_start(arguments, flags);                                      \
      mode = va_arg(arguments, mode_t);                                \
      va_end(arguments);                                               \
    }                                                                  \
    fd = next_##name()(directory, path, flags, mode);                  \
    if (fd >= 0 || (node = missed(path)) == no_node) return fd;        \
    return open_node(node, flags);                                     \
  }
OPENAT(openat)
OPENAT(openat64)

/* The fortified forms, of calls without a mode. */
#define OPEN_2(name)                                            \
  EXPORTED int name(const char* path, int flags) {              \
    enum node node;                                             \
    const int fd = next_##name()(path, flags);                  \
    if (fd >= 0 || (node = missed(path)) == no_node) return fd; \
    return open_node(node, flags);                              \
  }
OPEN_2(__open_2)
OPEN_2(__open64_2)

#define OPENAT_2(name)                                            \
  EXPORTED int name(int directory, const char* path, int flags) { \
    enum node node;                                               \
    const int fd = next_##name()(directory, path, flags);         \
    if (fd >= 0 || (node = missed(path)) == no_node) return fd;   \
    return open_node(node, flags);                                \
  }
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

/* --- What the nodes look like: /dev/null, but for the device number. */

EXPORTED int access(const char* path, int mode) {
  const int result = next_access()(path, mode);
  if (result == 0 || missed(path) == no_node) return result;
  return next_access()("/dev/null", mode);
}

/* A misc device, of a number that none has by rule. */
static int like_null(int result, dev_t* device) {
  if (result == 0) *device = makedev(10, 60);
  return result;
}

#define STAT(name, type)                                            \
  EXPORTED int name(const char* path, struct type* to) {            \
    const int result = next_##name()(path, to);                     \
    if (result == 0 || missed(path) == no_node) return result;      \
    return like_null(next_##name()("/dev/null", to), &to->st_rdev); \
  }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)

/* Programs that were built with a glibc before 2.33 call these. */
#define XSTAT(name, type)                                                    \
  EXPORTED int name(int version, const char* path, struct type* to) {        \
    const int result = next_##name()(version, path, to);                     \
    if (result == 0 || missed(path) == no_node) return result;               \
    return like_null(next_##name()(version, "/dev/null", to), &to->st_rdev); \
  }
XSTAT(__xstat, stat)
XSTAT(__xstat64, stat64)
XSTAT(__lxstat, stat)
XSTAT(__lxstat64, stat64)

/* --- Requests. */

/* True for the descriptors that the emulation makes, in this process or another: see
 * compat/libion/ion_socket.h. */
static int is_served(int fd) {
  static const char prefix[] = "\0ion-client-";
  struct sockaddr_un name;
  socklen_t bytes = sizeof(name);
  const int before = errno;
  if (getsockname(fd, (struct sockaddr*)&name, &bytes) != 0) {
    errno = before;
    return 0;
  }
  return name.sun_family == AF_UNIX &&
         bytes > offsetof(struct sockaddr_un, sun_path) + sizeof(prefix) &&
         memcmp(name.sun_path, prefix, sizeof(prefix) - 1) == 0;
}

EXPORTED int ioctl(int fd, unsigned long request, ...) {
  const unsigned letter = request >> 8 & 0xff;
  void* argument;
  va_list arguments;
  va_start(arguments, request);
  argument = va_arg(arguments, void*);
  va_end(arguments);
  if (__builtin_expect((letter == 'I' || letter == 'H') && !inside, 0) && is_served(fd)) {
    const int kept = errno;
    const struct ion_served* functions;
    sigset_t before;
    long result = -ENOTTY;
    enter(&before);
    functions = served();
    if (functions != NULL) result = functions->ioctl(fd, request, argument);
    leave(&before);
    errno = kept;
    return answer(result);
  }
  return next_ioctl()(fd, request, argument);
}
