// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/probes/udmabuf_probes.h
//
// What is asked of /dev/udmabuf, and of the dma-bufs that it makes of memfds.

#ifndef ION_TESTS_PROBES_UDMABUF_PROBES_H_
#define ION_TESTS_PROBES_UDMABUF_PROBES_H_

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ion/base/syscalls.h"
#include "tests/probes/dma_buf_probes.h"
#include "tests/probes/kernel_probe.h"

namespace ion::testing::probes {

template <Syscalls S>
Fd<S> Memfd(const S& sys, uint64_t bytes, int seals = F_SEAL_SHRINK) {
  Fd memfd(sys, sys.MemfdCreate("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  sys.Ftruncate(memfd.get(), static_cast<off_t>(bytes));
  if (seals != 0) sys.Fcntl(memfd.get(), F_ADD_SEALS, seals);
  return memfd;
}
template <Syscalls S>
Fd<S> Create(const S& sys, int memfd, uint64_t offset, uint64_t bytes,
             uint32_t flags = UDMABUF_FLAGS_CLOEXEC) {
  const Fd node = Open(sys, "/dev/udmabuf", O_RDWR);
  udmabuf_create create{
      .memfd = static_cast<uint32_t>(memfd), .flags = flags, .offset = offset, .size = bytes};
  return Fd(sys, sys.Ioctl(node.get(), UDMABUF_CREATE, &create));
}
struct Item {
  int memfd;
  uint64_t page;
};
template <Syscalls S>
Fd<S> CreateList(const S& sys, const std::vector<Item>& items) {
  const Fd node = Open(sys, "/dev/udmabuf", O_RDWR);
  std::vector<uint64_t> list(1 + 3 * items.size());
  auto* header = reinterpret_cast<udmabuf_create_list*>(list.data());
  header->flags = UDMABUF_FLAGS_CLOEXEC;
  header->count = static_cast<uint32_t>(items.size());
  auto* to = reinterpret_cast<udmabuf_create_item*>(list.data() + 1);
  for (const Item& item : items) {
    *to++ = {.memfd = static_cast<uint32_t>(item.memfd),
             .__pad = 0,
             .offset = item.page * kPage,
             .size = kPage};
  }
  return Fd(sys, sys.Ioctl(node.get(), UDMABUF_CREATE_LIST, list.data()));
}

template <Syscalls S>
void AddUdmabuf(std::vector<Probe<S>>& all) {
  const auto add_known = [&](const char* fact, const KnownAnswers& answer, auto ask) {
    all.push_back({"/dev/udmabuf", std::string("udmabuf: ") + fact, answer, ask});
  };
  const auto add = [&](const char* fact, const char* answer, auto ask) {
    add_known(fact, Modern(answer), ask);
  };
  const auto make = [](const S& sys) { return Create(sys, Memfd(sys, kBytes).get(), 0, kBytes); };
  AddDmaBuf(all, "/dev/udmabuf", "udmabuf", make);
  AddAdvice(all, "/dev/udmabuf", "udmabuf", make, {nullptr, "ok", "EINVAL"}, Modern("ok ok"),
            Modern("EINVAL"));
  AddPlainNode(all, "/dev/udmabuf", "/dev/udmabuf", Modern("EINVAL EINVAL ESPIPE ENODEV"));
  add("its exporter", "udmabuf", [make](const S& sys) { return Info(sys, make(sys), "exp_name"); });
  add("the node's major number", "10", [](const S& sys) {
    struct stat status {};
    sys.Fstat(Open(sys, "/dev/udmabuf").get(), &status);
    return std::to_string(major(status.st_rdev));
  });
  add("seals: SHRINK, none, GROW, SHRINK and WRITE", "ok EINVAL EINVAL EINVAL", [](const S& sys) {
    std::string said;
    for (const int seals : {F_SEAL_SHRINK, 0, F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_WRITE}) {
      const Fd memfd = Memfd(sys, kBytes, seals);
      said += (said.empty() ? "" : " ") + Create(sys, memfd.get(), 0, kBytes).said();
    }
    return said;
  });
  add("a page from the second on, nothing, a byte, from within a page, a page and a byte",
      "ok EINVAL EINVAL EINVAL EINVAL", [](const S& sys) {
        const Fd memfd = Memfd(sys, kBytes);
        return Join({Create(sys, memfd.get(), kPage, kPage).said(),
                     Create(sys, memfd.get(), 0, 0).said(), Create(sys, memfd.get(), 0, 1).said(),
                     Create(sys, memfd.get(), 1, kPage).said(),
                     Create(sys, memfd.get(), 0, kPage + 1).said()});
      });
  add("past the memfd's end, by size and by offset", "EINVAL EINVAL", [](const S& sys) {
    const Fd memfd = Memfd(sys, kBytes);
    return Join({Create(sys, memfd.get(), 0, kBytes + kPage).said(),
                 Create(sys, memfd.get(), kBytes, kPage).said()});
  });
  add("of no memfd, of nothing open, of a dma-buf, of a node", "EBADFD EBADFD EBADFD EBADFD",
      [make](const S& sys) {
        return Join({Create(sys, Open(sys, "/dev/null", O_RDWR).get(), 0, kPage).said(),
                     Create(sys, -1, 0, kPage).said(),
                     Create(sys, make(sys).get(), 0, kPage).said(),
                     Create(sys, Open(sys, "/dev/udmabuf").get(), 0, kPage).said()});
      });
  add("a flag that it does not know", "ok", [](const S& sys) {
    return Create(sys, Memfd(sys, kBytes).get(), 0, kBytes, UDMABUF_FLAGS_CLOEXEC | 2).said();
  });
  add("close-on-exec only where that is asked for", "ok", [](const S& sys) {
    const Fd fd = Create(sys, Memfd(sys, kBytes).get(), 0, kBytes, 0);
    return Answer(sys.Fcntl(fd.get(), F_GETFD, 0));
  });
  add("64 MiB, and a page more", "ok EINVAL", [](const S& sys) {
    const uint64_t most = uint64_t{64} << 20;
    const Fd memfd = Memfd(sys, most + kPage);
    return Join({Create(sys, memfd.get(), 0, most).said(),
                 Create(sys, memfd.get(), 0, most + kPage).said()});
  });
  add("a list of 0, 1, 1024, 1025 items", "EINVAL ok ok EINVAL", [](const S& sys) {
    const Fd memfd = Memfd(sys, kBytes);
    std::string said;
    for (const size_t items : {0, 1, 1024, 1025}) {
      const std::vector<Item> list(items, {memfd.get(), 0});
      said += (said.empty() ? "" : " ") + CreateList(sys, list).said();
    }
    return said;
  });
  add_known("its limits are parameters, 64 MiB and 1024", {nullptr, "ENOENT ENOENT", "64 1024"},
            [](const S& sys) {
              std::string said;
              for (const char* name : {"size_limit_mb", "list_limit"}) {
                const Fd file =
                    Open(sys, (std::string("/sys/module/udmabuf/parameters/") + name).c_str());
                char text[16];
                const long got = sys.Read(file.get(), text, sizeof(text));
                said += (said.empty() ? "" : " ");
                said += file.answer() < 0 ? file.said()
                                          : std::string(text, static_cast<size_t>(got) - 1);
              }
              return said;
            });
  add("ioctls: unknown, without an argument, a list without one", "ENOTTY EFAULT EFAULT",
      [](const S& sys) {
        const Fd node = Open(sys, "/dev/udmabuf", O_RDWR);
        return Join({Answer(sys.Ioctl(node.get(), _IO('u', 1), nullptr)),
                     Answer(sys.Ioctl(node.get(), UDMABUF_CREATE, nullptr)),
                     Answer(sys.Ioctl(node.get(), UDMABUF_CREATE_LIST, nullptr))});
      });
  add("END before any START, after one, and again", "EINVAL ok ok ok", [make](const S& sys) {
    const Fd fd = make(sys);
    return Join({Sync(sys, fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW),
                 Sync(sys, fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW),
                 Sync(sys, fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW),
                 Sync(sys, fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW)});
  });
  // Two memfds: pages 3, 0, 0 of the one, then page 1 of the other.
  add("a list keeps its order and takes a page twice, from several memfds", "4113 4",
      [](const S& sys) {
        const Fd one = Memfd(sys, kBytes), two = Memfd(sys, kBytes);
        for (const Fd<S>* memfd : {&one, &two}) {
          Mapped(sys, *memfd, kBytes, 0, [&](auto* at) {
            for (uint64_t page = 0; page < 4; ++page) {
              at[page * kPage] = static_cast<char>(page + (memfd == &one ? 1 : 2));
            }
            return std::string();
          });
        }
        const Fd fd =
            CreateList(sys, {{one.get(), 3}, {one.get(), 0}, {one.get(), 0}, {two.get(), 1}});
        std::string said = Mapped(sys, fd, 4 * kPage, 0, [](auto* at) {
          std::string bytes;
          for (uint64_t page = 0; page < 4; ++page) bytes += std::to_string(at[page * kPage]);
          at[kPage] = 4;
          return Join({bytes, std::to_string(at[2 * kPage])});
        });
        return said;
      });
  add("it is the memfd's memory from its offset on, and outlives the memfd", "5 6 6",
      [](const S& sys) {
        Fd memfd = Memfd(sys, kBytes);
        const auto at_page_1 = [&](char byte) {
          return Mapped(sys, memfd, kBytes, 0, [&](auto* at) {
            const int was = at[kPage];
            if (byte != 0) at[kPage] = byte;
            return std::to_string(was);
          });
        };
        at_page_1(5);
        const Fd fd = Create(sys, memfd.get(), kPage, kPage);
        std::string said = Mapped(sys, fd, kPage, 0, [](auto* at) {
          const int was = at[0];
          at[0] = 6;
          return std::to_string(was);
        });
        said += " " + at_page_1(0);
        { const Fd gone = std::move(memfd); }
        return Join(
            {said, Mapped(sys, fd, kPage, 0, [](auto* at) { return std::to_string(at[0]); })});
      });
  add("its count does not see who holds the memfd", "1", [](const S& sys) {
    const Fd memfd = Memfd(sys, kBytes), fd = Create(sys, memfd.get(), 0, kBytes);
    const Fd copy(sys, sys.Fcntl(memfd.get(), F_DUPFD_CLOEXEC, 0));
    return Count(sys, fd);
  });
}

}  // namespace ion::testing::probes

#endif  // ION_TESTS_PROBES_UDMABUF_PROBES_H_
