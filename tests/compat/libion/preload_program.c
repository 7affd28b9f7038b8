/* SPDX-License-Identifier: Apache-2.0
 * Copyright the ion authors
 *
 * A program for the preload: it opens /dev/ion and /dev/dma_heap/system itself, in all forms, from
 * threads, signal handlers and children, and gives the preload pointers that lead nowhere. Prints a
 * line for each fact that does not hold; `preload_program cost` prints what calls cost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/ion.h>
#include <linux/ion_4.12.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char** environ;
int __open_2(const char*, int);
int __openat_2(int, const char*, int);

static int passed, failed;

#define EXPECT(fact)                                                                 \
  do {                                                                               \
    if (fact) {                                                                      \
      ++passed;                                                                      \
    } else {                                                                         \
      ++failed;                                                                      \
      printf("failed: line %d: %s (errno: %s)\n", __LINE__, #fact, strerror(errno)); \
    }                                                                                \
  } while (0)

static const unsigned system_mask = 1u << ION_HEAP_TYPE_SYSTEM;

static int allocate(int fd) {
  struct ion_allocation_data data = {4096, 0, system_mask, 0, 0};
  return ioctl(fd, ION_IOC_ALLOC, &data) == 0 ? data.handle : -1;
}
static int release(int fd, int handle) {
  struct ion_handle_data data = {handle};
  return ioctl(fd, ION_IOC_FREE, &data);
}

static void* wild(void) { return mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

/* The first hit is by 100 threads at once. */
static pthread_barrier_t barrier;
static void* first_hit(void* unused) {
  int fd, handle;
  (void)unused;
  pthread_barrier_wait(&barrier);
  fd = open("/dev/ion", O_RDONLY | O_CLOEXEC);
  handle = allocate(fd);
  return (void*)(intptr_t)(fd >= 0 && handle == 1 && release(fd, handle) == 0 && close(fd) == 0);
}
static void threads(void) {
  pthread_t all[100];
  int i, well = 0;
  pthread_barrier_init(&barrier, NULL, 100);
  for (i = 0; i < 100; ++i) pthread_create(&all[i], NULL, first_hit, NULL);
  for (i = 0; i < 100; ++i) {
    void* result;
    pthread_join(all[i], &result);
    well += result != NULL;
  }
  EXPECT(well == 100);
}

static void forms(void) {
  int fds[8], i;
  fds[0] = open("/dev/ion", O_RDONLY);
  fds[1] = open64("/dev/ion", O_RDWR | O_CLOEXEC);
  fds[2] = openat(AT_FDCWD, "/dev/ion", O_RDONLY);
  fds[3] = openat64(-1, "/dev/ion", O_RDONLY | O_NONBLOCK);
  fds[4] = __open_2("/dev/ion", O_RDONLY);
  fds[5] = __openat_2(AT_FDCWD, "/dev/ion", O_RDONLY);
  for (i = 0; i < 6; ++i) {
    EXPECT(fds[i] >= 0);
    EXPECT(allocate(fds[i]) == 1);
  }
  EXPECT(fcntl(fds[0], F_GETFD) == 0);
  EXPECT(fcntl(fds[1], F_GETFD) == FD_CLOEXEC);
  EXPECT((fcntl(fds[3], F_GETFL) & O_NONBLOCK) != 0);
  for (i = 0; i < 6; ++i) close(fds[i]);
}

static void looks(void) {
  struct stat status;
  struct stat64 status64;
  EXPECT(access("/dev/ion", R_OK | W_OK) == 0);
  EXPECT(stat("/dev/ion", &status) == 0 && S_ISCHR(status.st_mode));
  EXPECT(lstat("/dev/ion", &status) == 0 && S_ISCHR(status.st_mode));
  EXPECT(stat64("/dev/ion", &status64) == 0 && S_ISCHR(status64.st_mode));
  EXPECT(lstat64("/dev/ion", &status64) == 0 && S_ISCHR(status64.st_mode));
  errno = 0;
  EXPECT(stat("/dev/ion", wild()) == -1 && errno == EFAULT);
  EXPECT(open("/dev/ion", O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
  EXPECT(open("/dev/ion", O_RDONLY | O_PATH) == -1 && errno == ENOENT);
  /* Nothing else. */
  EXPECT(open("/dev/ionic", O_RDONLY) == -1 && errno == ENOENT);
  EXPECT(open("/dev/ion/", O_RDONLY) == -1 && errno == ENOENT);
  EXPECT(open("/nowhere", O_RDONLY) == -1 && errno == ENOENT);
  EXPECT(open("/nowhere/file", O_RDWR | O_CREAT, 0600) == -1 && errno == ENOENT);
  EXPECT(access("/nowhere", F_OK) == -1 && errno == ENOENT);
  EXPECT(stat("/nowhere", &status) == -1 && errno == ENOENT);
}

static void bad_pointers(int fd) {
  struct stat status;
  char* volatile nowhere = wild();
  char* volatile null = NULL;
  EXPECT(open(nowhere, O_RDONLY) == -1 && errno == EFAULT);
  EXPECT(open(null, O_RDONLY) == -1 && errno == EFAULT);
  EXPECT(openat(AT_FDCWD, nowhere, O_RDONLY) == -1 && errno == EFAULT);
  EXPECT(access(nowhere, F_OK) == -1 && errno == EFAULT);
  EXPECT(stat(nowhere, &status) == -1 && errno == EFAULT);
  EXPECT(ioctl(fd, ION_IOC_ALLOC, nowhere) == -1 && errno == EFAULT);
  EXPECT(ioctl(fd, ION_IOC_ALLOC, null) == -1 && errno == EFAULT);
  EXPECT(ioctl(-1, ION_IOC_ALLOC, null) == -1 && errno == EBADF);
  EXPECT(ioctl(fd, FIONREAD, null) == -1);
  EXPECT(ioctl(fd, _IO('I', 77), NULL) == -1 && errno == ENOTTY);
}

static void other_files(void) {
  int ends[2], bytes = -1;
  struct ion_allocation_data data = {4096, 0, system_mask, 0, 0};
  EXPECT(pipe(ends) == 0);
  EXPECT(write(ends[1], "abc", 3) == 3);
  EXPECT(ioctl(ends[0], FIONREAD, &bytes) == 0 && bytes == 3);
  EXPECT(ioctl(ends[0], ION_IOC_ALLOC, &data) == -1 && errno == ENOTTY);
  errno = 0;
  EXPECT(ioctl(ends[0], FIONREAD, &bytes) == 0 && errno == 0);
  close(ends[0]);
  close(ends[1]);
}

/* In a handler, while the program is in and out of the emulation. */
static volatile sig_atomic_t handled, handled_well;
static int ion_of_handler;
static void handler(int number) {
  struct ion_handle_data data = {12345};
  const int kept = errno;
  (void)number;
  ++handled;
  handled_well += ioctl(ion_of_handler, ION_IOC_FREE, &data) == -1 && errno == EINVAL;
  errno = kept;
}
static void signals(int fd) {
  struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
  time_t until = time(NULL) + 2;
  int well = 1;
  ion_of_handler = fd;
  signal(SIGALRM, handler);
  setitimer(ITIMER_REAL, &often, NULL);
  while (time(NULL) < until) {
    int handle = allocate(fd);
    well &= handle > 0 && release(fd, handle) == 0;
  }
  setitimer(ITIMER_REAL, &never, NULL);
  EXPECT(well);
  EXPECT(handled > 10);
  EXPECT(handled == handled_well);
}

/* An inherited descriptor of /dev/ion is an empty client after exec. */
static int after_exec(const char* number) {
  const int fd = atoi(number);
  return release(fd, 1) == -1 && errno == EINVAL && allocate(fd) == 1 ? 0 : 1;
}
static int status_of(pid_t pid) {
  int status = -1;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
static void children(void) {
  const int fd = open("/dev/ion", O_RDONLY);
  const int handle = allocate(fd);
  char number[16];
  char* arguments[] = {"/proc/self/exe", "after_exec", number, NULL};
  pid_t pid;
  snprintf(number, sizeof(number), "%d", fd);
  pid = vfork();
  if (pid == 0) {
    execve(arguments[0], arguments, environ);
    _exit(2);
  }
  EXPECT(status_of(pid) == 0);
  EXPECT(posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ) == 0);
  EXPECT(status_of(pid) == 0);
  pid = fork();
  if (pid == 0) _exit(release(fd, handle) == 0 && release(fd, handle) == -1 ? 0 : 1);
  EXPECT(status_of(pid) == 0);
  EXPECT(release(fd, handle) == 0);
  close(fd);
}

static void dma_heap(void) {
  struct dma_heap_allocation_data data = {8192, 0, O_RDWR | O_CLOEXEC, 0};
  struct stat status;
  int fd = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
  EXPECT(fd >= 0);
  EXPECT(ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &data) == 0);
  EXPECT(lseek((int)data.fd, 0, SEEK_END) == 8192);
  EXPECT(close((int)data.fd) == 0);
  EXPECT(stat("/dev/dma_heap/system", &status) == 0 && S_ISCHR(status.st_mode));
  EXPECT(open("/dev/dma_heap/another", O_RDONLY) == -1 && errno == ENOENT);
  close(fd);
}

/* --- Costs, the least of many: processor time, as the machine may have other work. */

static uint64_t now(void) {
  struct timespec at;
  struct rusage children;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
  getrusage(RUSAGE_CHILDREN, &children);
  return (uint64_t)(at.tv_sec + children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000000000u +
         (uint64_t)at.tv_nsec +
         (uint64_t)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) * 1000u;
}
static void open_null(void) { close(open("/dev/null", O_RDONLY)); }
static void open_nothing(void) { (void)!open("/dev/nothing", O_RDONLY); }
static int pipe_ends[2];
static void ask_pipe(void) {
  int bytes;
  ioctl(pipe_ends[0], FIONREAD, &bytes);
}
static void run_true(void) {
  char* arguments[] = {"/bin/true", NULL};
  pid_t pid;
  if (posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ) == 0) status_of(pid);
}
static uint64_t least(void (*call)(void), int in_one, int tries) {
  uint64_t best = UINT64_MAX;
  int i, k;
  for (i = 0; i < tries; ++i) {
    const uint64_t start = now();
    uint64_t took;
    for (k = 0; k < in_one; ++k) call();
    took = (now() - start) / (uint64_t)in_one;
    if (took < best) best = took;
  }
  return best;
}
static int cost(void) {
  if (pipe(pipe_ends) != 0) return 1;
  printf("%llu %llu %llu %llu\n", (unsigned long long)least(open_null, 200, 200),
         (unsigned long long)least(open_nothing, 200, 200),
         (unsigned long long)least(ask_pipe, 500, 200),
         (unsigned long long)least(run_true, 10, 30));
  return 0;
}

int main(int argc, char** argv) {
  int fd;
  if (argc == 3 && strcmp(argv[1], "after_exec") == 0) return after_exec(argv[2]);
  if (argc == 2 && strcmp(argv[1], "cost") == 0) return cost();
  threads();
  forms();
  looks();
  fd = open("/dev/ion", O_RDONLY | O_CLOEXEC);
  bad_pointers(fd);
  other_files();
  signals(fd);
  children();
  if (argc == 2 && strcmp(argv[1], "without_dma_heaps") == 0) dma_heap();
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
