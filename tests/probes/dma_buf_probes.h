// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/probes/dma_buf_probes.h
//
// What is asked of a dma-buf, whoever made it.

#ifndef ION_TESTS_PROBES_DMA_BUF_PROBES_H_
#define ION_TESTS_PROBES_DMA_BUF_PROBES_H_

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "ion/base/syscalls.h"
#include "tests/probes/kernel_probe.h"

namespace ion::testing::probes {

template <Syscalls S>
std::string Sync(const S& sys, const Fd<S>& fd, uint64_t flags) {
  dma_buf_sync sync{.flags = flags};
  return Answer(sys.Ioctl(fd.get(), DMA_BUF_IOCTL_SYNC, &sync));
}
template <Syscalls S>
std::string Name(const S& sys, const Fd<S>& fd, const char* name,
                 unsigned long request = DMA_BUF_SET_NAME) {
  return Answer(sys.Ioctl(fd.get(), request, const_cast<char*>(name)));
}
template <Syscalls S>
std::string InfoText(const S& sys, const Fd<S>& fd) {
  const Fd file = Open(sys, ("/proc/self/fdinfo/" + std::to_string(fd.get())).c_str());
  char text[512];
  const long got = sys.Read(file.get(), text, sizeof(text));
  return {text, got > 0 ? static_cast<size_t>(got) : 0};
}
// A line of fdinfo: what stands after the field, or "" where there is no such field.
template <Syscalls S>
std::string Info(const S& sys, const Fd<S>& fd, const std::string& field) {
  const std::string all = "\n" + InfoText(sys, fd);
  const size_t at = all.find("\n" + field + ":\t");
  if (at == all.npos) return "";
  const size_t from = at + field.size() + 3;
  return all.substr(from, all.find('\n', from) - from);
}
template <Syscalls S>
std::string Count(const S& sys, const Fd<S>& fd) {
  return Info(sys, fd, "count");
}
template <Syscalls S>
std::string Advised(const S& sys, const Fd<S>& fd, int advice) {
  return Mapped(sys, fd, kBytes, 0, [&](auto* at) {
    return Answer(sys.Madvise(const_cast<char*>(at), kBytes, advice));
  });
}

// What is asked of a dma-buf, whoever made it. `make(sys)` makes one of kBytes, `who` says where.
template <Syscalls S, class Make>
void AddDmaBuf(std::vector<Probe<S>>& all, std::string_view device, const std::string& who,
               Make make) {
  const auto add = [&](const char* fact, const KnownAnswers& expected, auto ask) {
    all.push_back({device, who + ": " + fact, expected, [make, ask](const S& sys) {
                     const Fd fd = make(sys);
                     return fd.answer() < 0 ? "no dma-buf: " + fd.said() : ask(sys, fd);
                   }});
  };
  using Dma = const Fd<S>&;
  add("fstat's mode", Always("600"), [](const S& sys, Dma fd) {
    struct stat status {};
    sys.Fstat(fd.get(), &status);
    char mode[16];
    std::snprintf(mode, sizeof(mode), "%o", status.st_mode);
    return std::string(mode);
  });
  add("fstat's size", {"0", "65536", "65536"}, [](const S& sys, Dma fd) {
    struct stat status {};
    sys.Fstat(fd.get(), &status);
    return std::to_string(status.st_size);
  });
  add("an inode of its own", {"no", "yes", "yes"}, [make](const S& sys, Dma fd) {
    const Fd other = make(sys);
    struct stat one {
    }, two{};
    sys.Fstat(fd.get(), &one);
    sys.Fstat(other.get(), &two);
    return std::string(one.st_ino == two.st_ino ? "no" : "yes");
  });
  add("its file system", {"9041934", "444d4142", "444d4142"}, [](const S& sys, Dma fd) {
    struct statfs fs {};
    sys.Fstatfs(fd.get(), &fs);
    char type[16];
    std::snprintf(type, sizeof(type), "%lx", static_cast<unsigned long>(fs.f_type));
    return std::string(type);
  });
  add("lseek to its end", Always("65536"),
      [](const S& sys, Dma fd) { return Answer(sys.Lseek(fd.get(), 0, SEEK_END)); });
  add("lseek to its start", Always("ok"),
      [](const S& sys, Dma fd) { return Answer(sys.Lseek(fd.get(), 0, SEEK_SET)); });
  add("lseek from where it is, past the start, before the end", Always("EINVAL EINVAL EINVAL"),
      [](const S& sys, Dma fd) {
        return Join({Answer(sys.Lseek(fd.get(), 0, SEEK_CUR)),
                     Answer(sys.Lseek(fd.get(), 1, SEEK_SET)),
                     Answer(sys.Lseek(fd.get(), -1, SEEK_END))});
      });
  add("close-on-exec, to read and write", Always("yes yes"), [](const S& sys, Dma fd) {
    const bool closes = sys.Fcntl(fd.get(), F_GETFD, 0) == FD_CLOEXEC;
    const bool both = (sys.Fcntl(fd.get(), F_GETFL, 0) & O_ACCMODE) == O_RDWR;
    return std::string(closes ? "yes " : "no ") + (both ? "yes" : "no");
  });
  add("read, written, cut, asked for seals, sealed", Always("EINVAL EINVAL EINVAL EINVAL EINVAL"),
      [](const S& sys, Dma fd) {
        char byte = 0;
        return Join({Answer(sys.Read(fd.get(), &byte, 1)), Answer(sys.Write(fd.get(), &byte, 1)),
                     Answer(sys.Ftruncate(fd.get(), 0)),
                     Answer(sys.Fcntl(fd.get(), F_GET_SEALS, 0)),
                     Answer(sys.Fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK))});
      });
  add("an ioctl that it does not know", Always("ENOTTY"),
      [](const S& sys, Dma fd) { return Answer(sys.Ioctl(fd.get(), _IO('b', 99), nullptr)); });
  add("polls as readable and writable at once", Always("1 yes"), [](const S& sys, Dma fd) {
    pollfd polled{.fd = fd.get(), .events = POLLIN | POLLOUT, .revents = 0};
    const std::string answer = Answer(sys.Poll(&polled, 1, 0));
    return answer + (polled.revents == (POLLIN | POLLOUT) ? " yes" : " no");
  });

  // Before Linux 4.6 there is no SYNC, before 5.3 no name.
  add("SYNC in each direction, START and END", {"ENOTTY", "ok", "ok"}, [](const S& sys, Dma fd) {
    std::set<std::string> said;
    for (const uint64_t way : {DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_RW}) {
      for (const uint64_t phase : {DMA_BUF_SYNC_START, DMA_BUF_SYNC_END}) {
        said.insert(Sync(sys, fd, phase | way));
      }
    }
    return said.size() == 1 ? *said.begin() : "not always the same";
  });
  add("SYNC without a direction, START and END",
      {"ENOTTY ENOTTY", "EINVAL EINVAL", "EINVAL EINVAL"}, [](const S& sys, Dma fd) {
        return Join({Sync(sys, fd, DMA_BUF_SYNC_START), Sync(sys, fd, DMA_BUF_SYNC_END)});
      });
  add("SYNC with a bit that it does not know, the lowest and the highest",
      {"ENOTTY ENOTTY", "EINVAL EINVAL", "EINVAL EINVAL"}, [](const S& sys, Dma fd) {
        return Join({Sync(sys, fd, DMA_BUF_SYNC_RW | 8),
                     Sync(sys, fd, DMA_BUF_SYNC_RW | uint64_t{1} << 63)});
      });
  add("SYNC without an argument", {"ENOTTY", "EFAULT", "EFAULT"}, [](const S& sys, Dma fd) {
    return Answer(sys.Ioctl(fd.get(), DMA_BUF_IOCTL_SYNC, nullptr));
  });
  add("SYNC: START twice, END twice", {"ENOTTY ENOTTY ENOTTY ENOTTY", "ok ok ok ok", "ok ok ok ok"},
      [](const S& sys, Dma fd) {
        std::string said;
        for (const uint64_t phase :
             {DMA_BUF_SYNC_START, DMA_BUF_SYNC_START, DMA_BUF_SYNC_END, DMA_BUF_SYNC_END}) {
          said += (said.empty() ? "" : " ") + Sync(sys, fd, phase | DMA_BUF_SYNC_RW);
        }
        return said;
      });
  add("a name of 31 bytes, of 32, none, and none at all",
      {"ENOTTY ENOTTY ENOTTY ENOTTY", "ok EINVAL ok EFAULT", "ok EINVAL ok EFAULT"},
      [](const S& sys, Dma fd) {
        return Join({Name(sys, fd, std::string(31, 'a').c_str()),
                     Name(sys, fd, std::string(32, 'b').c_str()), Name(sys, fd, ""),
                     Name(sys, fd, nullptr)});
      });
  add("a name that ends where its memory does", {"ENOTTY", "ok", "ok"}, [](const S& sys, Dma fd) {
    void* const at =
        ::mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::munmap(static_cast<char*>(at) + kPage, kPage);
    char* const name = static_cast<char*>(at) + kPage - 2;
    name[0] = 'n';
    std::string said = Name(sys, fd, name);
    ::munmap(at, kPage);
    return said;
  });
  add("both numbers of SET_NAME name", {"ENOTTY  ENOTTY ", "ok A ok B", "ok A ok B"},
      [](const S& sys, Dma fd) {
        std::string said = Name(sys, fd, "A", DMA_BUF_SET_NAME_A);
        said += " " + Info(sys, fd, "name");
        said += " " + Name(sys, fd, "B", DMA_BUF_SET_NAME_B);
        return Join({said, Info(sys, fd, "name")});
      });
  add("fdinfo's size, count and name", {"//", "65536/1/", "65536/1/"}, [](const S& sys, Dma fd) {
    return Info(sys, fd, "size") + "/" + Count(sys, fd) + "/" + Info(sys, fd, "name");
  });
  add("fdinfo's fields",
      {"pos flags mnt_id", "pos flags mnt_id size count exp_name",
       "pos flags mnt_id ino size count exp_name"},
      [](const S& sys, Dma fd) {
        std::istringstream lines(InfoText(sys, fd));
        std::string fields;
        for (std::string line; std::getline(lines, line);) {
          fields += (fields.empty() ? "" : " ") + line.substr(0, line.find(':'));
        }
        return fields;
      });
  add("fdinfo's flags", Always("02000002"),
      [](const S& sys, Dma fd) { return Info(sys, fd, "flags"); });
  add("count: with another descriptor, mapped twice, and without all that",
      {"/ / /", "2/ 3/ 1/", "2/ 3/ 1/"}, [](const S& sys, Dma fd) {
        std::string said;
        {
          const Fd copy(sys, sys.Fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
          said = Count(sys, copy) + "/ ";
        }
        const auto none = [](auto) { return std::string(); };
        said += Mapped(sys, fd, kBytes, 0, [&](auto) {
          return Mapped(sys, fd, kPage, 0, [&](auto) { return Count(sys, fd) + "/ "; });
        });
        return said + Mapped(sys, fd, kPage, 0, none) + Count(sys, fd) + "/";
      });
  add("count: a mapping of which a page in the middle was unmapped", {"", "3", "3"},
      [](const S& sys, Dma fd) {
        const long at = sys.Mmap(kBytes, PROT_READ, fd.get(), 0);
        if (Failed(at)) return Answer(at);
        auto* const begin = reinterpret_cast<char*>(at);
        sys.Munmap(begin + kPage, kPage);
        std::string said = Count(sys, fd);
        sys.Munmap(begin, kBytes);
        return said;
      });

  add("all of it mapped, its last page", Always("ok ok"), [](const S& sys, Dma fd) {
    return Join({SaidMap(sys, fd, kBytes, 0), SaidMap(sys, fd, kPage, kBytes - kPage)});
  });
  add("mapped past its end: by its length, by its place, all of it", Always("EINVAL EINVAL EINVAL"),
      [](const S& sys, Dma fd) {
        return Join({SaidMap(sys, fd, kBytes + kPage, 0), SaidMap(sys, fd, kBytes, kPage),
                     SaidMap(sys, fd, kPage, kBytes)});
      });
  add("mapped: nothing, at an offset within a page", Always("EINVAL EINVAL"),
      [](const S& sys, Dma fd) {
        return Join({SaidMap(sys, fd, 0, 0), SaidMap(sys, fd, kPage, 1)});
      });
  add("reads as zero, and holds what was written through another mapping", Always("0 7"),
      [](const S& sys, Dma fd) {
        std::string said = Mapped(sys, fd, kBytes, 0, [](auto* at) {
          const std::string first = std::to_string(at[kBytes - 1]);
          at[kBytes - 1] = 7;
          return first + " ";
        });
        return said + Mapped(sys, fd, kPage, kBytes - kPage,
                             [](auto* at) { return std::to_string(at[kPage - 1]); });
      });
}
// How a mapping takes advice, by which flags of the kernel's its driver set.
template <Syscalls S, class Make>
void AddAdvice(std::vector<Probe<S>>& all, std::string_view device, const std::string& who,
               Make make, const KnownAnswers& dont_need, const KnownAnswers& fork,
               const KnownAnswers& populate) {
  const auto add = [&](const char* fact, const KnownAnswers& expected, auto ask) {
    all.push_back({device, who + ": " + fact, expected,
                   [make, ask](const S& sys) { return ask(sys, make(sys)); }});
  };
  add("a mapping takes MADV_DONTNEED", dont_need,
      [](const S& sys, const Fd<S>& fd) { return Advised(sys, fd, MADV_DONTNEED); });
  add("a mapping takes MADV_DONTFORK, and MADV_DOFORK afterwards", fork,
      [](const S& sys, const Fd<S>& fd) {
        return Mapped(sys, fd, kBytes, 0, [&](auto* at) {
          void* const plain = const_cast<char*>(at);
          return Join({Answer(sys.Madvise(plain, kBytes, MADV_DONTFORK)),
                       Answer(sys.Madvise(plain, kBytes, MADV_DOFORK))});
        });
      });
  constexpr int kPopulateWrite = 23;
  add("a mapping takes MADV_POPULATE_WRITE", populate,
      [](const S& sys, const Fd<S>& fd) { return Advised(sys, fd, kPopulateWrite); });
}

}  // namespace ion::testing::probes

#endif  // ION_TESTS_PROBES_DMA_BUF_PROBES_H_
