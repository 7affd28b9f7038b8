// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/probes/dma_heap_probes.h
//
// What is asked of /dev/dma_heap, its nodes and their buffers.

#ifndef ION_TESTS_PROBES_DMA_HEAP_PROBES_H_
#define ION_TESTS_PROBES_DMA_HEAP_PROBES_H_

#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstdint>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "ion/base/syscalls.h"
#include "tests/probes/dma_buf_probes.h"
#include "tests/probes/kernel_probe.h"
#include "third_party/ion_uapi/ion.h"

namespace ion::testing::probes {

inline constexpr uint32_t kFdFlags = O_RDWR | O_CLOEXEC;

// The node of a dma-heap.
using Node = const char*;

// An allocation from a dma-heap, or its errno.
template <Syscalls S>
Fd<S> FromHeap(const S& sys, Node node, dma_heap_allocation_data data,
               unsigned long request = DMA_HEAP_IOCTL_ALLOC) {
  const Fd heap = Open(sys, node);
  const long answer = sys.Ioctl(heap.get(), request, &data);
  return Fd(sys, answer == 0 ? static_cast<long>(data.fd) : answer);
}
template <Syscalls S>
Fd<S> FromHeap(const S& sys, Node node, uint64_t bytes = kBytes, uint32_t fd_flags = kFdFlags) {
  return FromHeap(sys, node, {.len = bytes, .fd = 0, .fd_flags = fd_flags, .heap_flags = 0});
}

template <Syscalls S>
void AddDmaHeap(std::vector<Probe<S>>& all, Node node, const KnownAnswers& exporter) {
  const auto add_known = [&](const char* fact, const KnownAnswers& answer, auto ask) {
    all.push_back({"/dev/dma_heap", std::string(node) + ": " + fact, answer,
                   [ask, node](const S& sys) { return ask(sys, node); }});
  };
  const auto add = [&](const char* fact, const char* answer, auto ask) {
    add_known(fact, Modern(answer), ask);
  };
  const auto make = [node](const S& sys) { return FromHeap(sys, node); };
  const std::string who = std::string(node) + "'s dma-buf";
  AddDmaBuf(all, "/dev/dma_heap", who, make);
  AddAdvice(all, "/dev/dma_heap", who, make, {nullptr, "ok", "EINVAL"},
            {nullptr, "ok ok", "ok EINVAL"}, Modern("EINVAL"));
  add_known("fdinfo's exporter", exporter,
            [](const S& sys, Node node) { return Info(sys, FromHeap(sys, node), "exp_name"); });
  add("END before any START", "ok", [](const S& sys, Node node) {
    return Sync(sys, FromHeap(sys, node), DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
  });
  add("the node is a character device, of a file system like a memfd's, and has no seals",
      "yes 1021994 EINVAL", [](const S& sys, Node node) {
        const Fd opened = Open(sys, node);
        struct stat status {};
        struct statfs fs {};
        sys.Fstat(opened.get(), &status);
        sys.Fstatfs(opened.get(), &fs);
        char type[16];
        std::snprintf(type, sizeof(type), "%lx", static_cast<unsigned long>(fs.f_type));
        return Join({(S_ISCHR(status.st_mode) ? "yes " : "no ") + std::string(type),
                     Answer(sys.Fcntl(opened.get(), F_GET_SEALS, 0))});
      });
  AddPlainNode(all, "/dev/dma_heap", node, Modern("EINVAL EINVAL ESPIPE ENODEV"));
  add("a node that is open for reading gives buffers for writing", "ok",
      [](const S& sys, Node node) {
        return SaidMap(sys, FromHeap(sys, node), kBytes, 0, PROT_READ | PROT_WRITE);
      });
  add("a buffer for reading is mapped for reading only", "ok EACCES EACCES",
      [](const S& sys, Node node) {
        const Fd fd = FromHeap(sys, node, kBytes, O_RDONLY | O_CLOEXEC);
        return Join({SaidMap(sys, fd, kBytes, 0, PROT_READ), SaidMap(sys, fd, kBytes, 0),
                     SaidMap(sys, fd, 2 * kBytes, 0)});
      });
  add("a buffer for writing only is not mapped", "EACCES", [](const S& sys, Node node) {
    return SaidMap(sys, FromHeap(sys, node, kBytes, O_WRONLY | O_CLOEXEC), kBytes, 0);
  });
  add("a buffer is close-on-exec only where that is asked for", "ok", [](const S& sys, Node node) {
    return Answer(sys.Fcntl(FromHeap(sys, node, kBytes, O_RDWR).get(), F_GETFD, 0));
  });
  add("0 bytes, SIZE_MAX, less than a page below it", "EINVAL EINVAL EINVAL",
      [](const S& sys, Node node) {
        return Join({FromHeap(sys, node, uint64_t{0}).said(),
                     FromHeap(sys, node, UINT64_MAX).said(),
                     FromHeap(sys, node, UINT64_MAX - 4094).said()});
      });
  add("1 byte, 1 byte past a page", "4096 8192", [](const S& sys, Node node) {
    return Join({Answer(sys.Lseek(FromHeap(sys, node, uint64_t{1}).get(), 0, SEEK_END)),
                 Answer(sys.Lseek(FromHeap(sys, node, kPage + 1).get(), 0, SEEK_END))});
  });
  add("fd other than 0", "EINVAL", [](const S& sys, Node node) {
    return FromHeap(sys, node, {.len = 1, .fd = 3, .fd_flags = kFdFlags, .heap_flags = 0}).said();
  });
  add("a flag of the descriptor beyond mode and O_CLOEXEC", "EINVAL", [](const S& sys, Node node) {
    return FromHeap(sys, node, uint64_t{1}, kFdFlags | O_NONBLOCK).said();
  });
  add("any flag of a heap", "EINVAL", [](const S& sys, Node node) {
    std::set<std::string> said;
    for (int bit = 0; bit < 64; ++bit) {
      const uint64_t flag = uint64_t{1} << bit;
      said.insert(FromHeap(sys, node, {.len = 1, .fd = 0, .fd_flags = kFdFlags, .heap_flags = flag})
                      .said());
    }
    return said.size() == 1 ? *said.begin() : "not always the same";
  });
  add("ALLOC without an argument", "EFAULT", [](const S& sys, Node node) {
    const Fd opened = Open(sys, node);
    return Answer(sys.Ioctl(opened.get(), DMA_HEAP_IOCTL_ALLOC, nullptr));
  });
  add("ioctls of another number, of whatever type", "EINVAL EINVAL EINVAL",
      [](const S& sys, Node node) {
        const Fd opened = Open(sys, node);
        char data[64] = {};
        return Join({Answer(sys.Ioctl(opened.get(), _IOWR('H', 1, dma_heap_allocation_data), data)),
                     Answer(sys.Ioctl(opened.get(), _IO('H', 200), data)),
                     Answer(sys.Ioctl(opened.get(), ion_uapi::kIocFree, data))});
      });
  add("ALLOC by a number of another type", "ok", [](const S& sys, Node node) {
    return FromHeap(sys, node, {.len = 1, .fd = 0, .fd_flags = kFdFlags, .heap_flags = 0},
                    _IOWR('x', 0, dma_heap_allocation_data))
        .said();
  });
  add("ALLOC by a struct of 16 bytes, of 48", "ok ok", [](const S& sys, Node node) {
    const Fd opened = Open(sys, node);
    std::string said;
    for (const unsigned bytes : {16, 48}) {
      dma_heap_allocation_data data[2] = {
          {.len = 1, .fd = 0, .fd_flags = kFdFlags, .heap_flags = 0}, {}};
      const long answer =
          sys.Ioctl(opened.get(), _IOC(_IOC_READ | _IOC_WRITE, 'H', 0, bytes), data);
      said += (said.empty() ? "" : " ") + Answer(answer);
      if (answer == 0) Fd(sys, static_cast<long>(data[0].fd));
    }
    return said;
  });
  // The descriptor is never told: it is the one after, which was free before.
  add("SYNC, sent to the node, leaves a buffer behind", "ok 4096 closes on exec: no",
      [](const S& sys, Node node) {
        const Fd opened = Open(sys, node);
        const Fd next(sys, sys.Fcntl(opened.get(), F_DUPFD_CLOEXEC, 0));
        const int number = next.get();
        sys.Close(number);
        std::string said = Sync(sys, opened, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
        said += " " + Answer(sys.Lseek(number, 0, SEEK_END));
        said += sys.Fcntl(number, F_GETFD, 0) == 0 ? " closes on exec: no" : " closes on exec";
        return said;
      });
}
template <Syscalls S>
void AddDmaHeaps(std::vector<Probe<S>>& all) {
  const auto add = [&](const char* fact, const char* answer, auto ask) {
    all.push_back({"/dev/dma_heap", std::string("dma-heaps: ") + fact, Modern(answer), ask});
  };
  constexpr Node kSystem = "/dev/dma_heap/system", kReserved = "/dev/dma_heap/reserved";
  AddDmaHeap(all, kSystem, {nullptr, "heap_helpers", "system"});
  AddDmaHeap(all, kReserved, {nullptr, "heap_helpers", "reserved"});
  add("the directory's names", ". .. reserved system", [](const S& sys) {
    const Fd directory = Open(sys, "/dev/dma_heap", O_RDONLY | O_DIRECTORY);
    std::set<std::string> names;
    alignas(dirent64) char entries[4096];
    long got;
    while ((got = sys.Getdents(directory.get(), entries, sizeof(entries))) > 0) {
      for (long at = 0; at < got;) {
        const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
        names.insert(entry->d_name);
        at += entry->d_reclen;
      }
    }
    std::string said = Failed(got) ? Answer(got) : "";
    for (const std::string& name : names) said += (said.empty() ? "" : " ") + name;
    return said;
  });
  add("a node that is not there, a node as a directory, the directory's entries of a node",
      "ENOENT ENOTDIR ENOTDIR", [](const S& sys) {
        const Fd node = Open(sys, "/dev/dma_heap/system");
        char entries[64];
        return Join({Open(sys, "/dev/dma_heap/none").said(),
                     Open(sys, "/dev/dma_heap/system", O_RDONLY | O_DIRECTORY).said(),
                     Answer(sys.Getdents(node.get(), entries, sizeof(entries)))});
      });
  add("more from CMA than there is", "ENOMEM",
      [](const S& sys) { return FromHeap(sys, kReserved, uint64_t{65} << 20).said(); });
}

}  // namespace ion::testing::probes

#endif  // ION_TESTS_PROBES_DMA_HEAP_PROBES_H_
