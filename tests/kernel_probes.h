// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/kernel_probes.h
//
// Questions to a kernel about its devices, each with the answer that was measured: raw system calls
// through a Syscalls policy, so that real kernels and fake ones can be asked. An answer is "ok",
// the name of an errno, or what was found.
//
// Linux 5.10 and 6.12 are the guests'; of 4.2 stands here what UAPI.md (section 7) has of a kernel
// that no guest runs, and what follows from its source where that says so ("not measured").

#ifndef ION_TESTS_KERNEL_PROBES_H_
#define ION_TESTS_KERNEL_PROBES_H_

#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/fd.h"
#include "ion/status.h"
#include "ion/syscalls.h"
#include "tests/support/fake_machine.h"
#include "third_party/ion_uapi/ion.h"
#include "third_party/ion_uapi/ion_legacy.h"

namespace ion::testing {

// nullptr: that kernel does not have what is asked about.
struct KnownAnswers {
  const char* linux_4_2;
  const char* linux_5_10;
  const char* linux_6_12;

  const char* On(unsigned linux) const {
    if (linux >= Linux(6, 12)) return linux_6_12;
    return linux >= Linux(5, 10) ? linux_5_10 : linux_4_2;
  }
};
constexpr KnownAnswers Always(const char* answer) { return {answer, answer, answer}; }
constexpr KnownAnswers Modern(const char* answer) { return {nullptr, answer, answer}; }
// Of ION, by its ABI: handles on 4.2, descriptors on 5.10.
constexpr KnownAnswers Ion(const char* handles, const char* descriptors) {
  return {handles, descriptors, nullptr};
}

template <Syscalls S>
struct Probe {
  std::string_view device;  // without which the question makes no sense
  std::string fact;
  KnownAnswers expected;
  std::function<std::string(const S&)> ask;
};

// ---- What the questions are asked with ----

inline std::string Answer(long answer) {
  return Failed(answer) ? ErrnoName(ErrnoFrom(answer))
         : answer == 0  ? "ok"
                        : std::to_string(answer);
}

// In their order, in which braces also have them asked.
inline std::string Join(std::initializer_list<std::string> answers) {
  std::string all;
  for (const std::string& answer : answers) all += (all.empty() ? "" : " ") + answer;
  return all;
}

// A descriptor, closed through the kernel that gave it.
template <Syscalls S>
class ProbeFd {
 public:
  ProbeFd(const S& sys, long fd) : sys_(sys), fd_(fd) {}
  ProbeFd(ProbeFd&& other) noexcept : sys_(other.sys_), fd_(std::exchange(other.fd_, -EBADF)) {}
  ProbeFd& operator=(ProbeFd&&) = delete;
  ~ProbeFd() {
    if (fd_ >= 0) sys_.Close(get());
  }

  int get() const { return static_cast<int>(fd_); }
  long answer() const { return fd_; }
  // "ok", where it is one.
  std::string said() const { return fd_ >= 0 ? "ok" : Answer(fd_); }

 private:
  const S& sys_;
  long fd_;
};

template <Syscalls S>
struct Asking {
  using Fd = ProbeFd<S>;
  static constexpr uint64_t kPage = 4096, kBytes = 16 * kPage;
  using Legacy = ion_uapi::LegacyAbi<unsigned long>;
  using LegacyIoctls = ion_uapi::LegacyIoctls<Legacy>;

  static Fd Open(const S& sys, const char* path, int flags = O_RDONLY) {
    return Fd(sys, sys.Open(path, flags));
  }

  // ---- dma-heap ----

  static constexpr uint32_t kFdFlags = O_RDWR | O_CLOEXEC;

  // The node of a dma-heap.
  using Node = const char*;

  // An allocation from a dma-heap, or its errno.
  static Fd FromHeap(const S& sys, Node node, dma_heap_allocation_data data,
                     unsigned long request = DMA_HEAP_IOCTL_ALLOC) {
    const Fd heap = Open(sys, node);
    const long answer = sys.Ioctl(heap.get(), request, &data);
    return Fd(sys, answer == 0 ? static_cast<long>(data.fd) : answer);
  }
  static Fd FromHeap(const S& sys, Node node, uint64_t bytes = kBytes,
                     uint32_t fd_flags = kFdFlags) {
    return FromHeap(sys, node, {.len = bytes, .fd = 0, .fd_flags = fd_flags, .heap_flags = 0});
  }

  // ---- dma-bufs ----

  static std::string Sync(const S& sys, const Fd& fd, uint64_t flags) {
    dma_buf_sync sync{.flags = flags};
    return Answer(sys.Ioctl(fd.get(), DMA_BUF_IOCTL_SYNC, &sync));
  }
  static std::string Name(const S& sys, const Fd& fd, const char* name,
                          unsigned long request = DMA_BUF_SET_NAME) {
    return Answer(sys.Ioctl(fd.get(), request, const_cast<char*>(name)));
  }
  static std::string InfoText(const S& sys, const Fd& fd) {
    const Fd file = Open(sys, ("/proc/self/fdinfo/" + std::to_string(fd.get())).c_str());
    char text[512];
    const long got = sys.Read(file.get(), text, sizeof(text));
    return {text, got > 0 ? static_cast<size_t>(got) : 0};
  }
  // A line of fdinfo: what stands after the field, or "" where there is no such field.
  static std::string Info(const S& sys, const Fd& fd, const std::string& field) {
    const std::string all = "\n" + InfoText(sys, fd);
    const size_t at = all.find("\n" + field + ":\t");
    if (at == all.npos) return "";
    const size_t from = at + field.size() + 3;
    return all.substr(from, all.find('\n', from) - from);
  }
  static std::string Count(const S& sys, const Fd& fd) { return Info(sys, fd, "count"); }

  // Maps, calls f(the first byte), and unmaps; or the errno of the mapping.
  template <class F>
  static std::string Mapped(const S& sys, const Fd& fd, uint64_t bytes, off_t offset, F f,
                            int protection = PROT_READ | PROT_WRITE) {
    const long at = sys.Mmap(bytes, protection, fd.get(), offset);
    if (Failed(at)) return Answer(at);
    auto* const bytes_at = reinterpret_cast<volatile char*>(at);
    std::string said = f(bytes_at);
    const long unmapped = sys.Munmap(reinterpret_cast<void*>(at), bytes);
    return unmapped == 0 ? said : "munmap " + Answer(unmapped);
  }
  static std::string SaidMap(const S& sys, const Fd& fd, uint64_t bytes, off_t offset,
                             int protection = PROT_READ | PROT_WRITE) {
    return Mapped(
        sys, fd, bytes, offset, [](auto) { return std::string("ok"); }, protection);
  }
  static std::string Advised(const S& sys, const Fd& fd, int advice) {
    return Mapped(sys, fd, kBytes, 0, [&](auto* at) {
      return Answer(sys.Madvise(const_cast<char*>(at), kBytes, advice));
    });
  }

  // What is asked of a dma-buf, whoever made it. `make(sys)` makes one of kBytes, `who` says where.
  template <class Make>
  static void AddDmaBuf(std::vector<Probe<S>>& all, std::string_view device, const std::string& who,
                        Make make) {
    const auto add = [&](const char* fact, const KnownAnswers& expected, auto ask) {
      all.push_back({device, who + ": " + fact, expected, [make, ask](const S& sys) {
                       const Fd fd = make(sys);
                       return fd.answer() < 0 ? "no dma-buf: " + fd.said() : ask(sys, fd);
                     }});
    };
    using Dma = const Fd&;
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
    add("SYNC: START twice, END twice",
        {"ENOTTY ENOTTY ENOTTY ENOTTY", "ok ok ok ok", "ok ok ok ok"}, [](const S& sys, Dma fd) {
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
    add("mapped past its end: by its length, by its place, all of it",
        Always("EINVAL EINVAL EINVAL"), [](const S& sys, Dma fd) {
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
  template <class Make>
  static void AddAdvice(std::vector<Probe<S>>& all, std::string_view device, const std::string& who,
                        Make make, const KnownAnswers& dont_need, const KnownAnswers& fork,
                        const KnownAnswers& populate) {
    const auto add = [&](const char* fact, const KnownAnswers& expected, auto ask) {
      all.push_back({device, who + ": " + fact, expected,
                     [make, ask](const S& sys) { return ask(sys, make(sys)); }});
    };
    add("a mapping takes MADV_DONTNEED", dont_need,
        [](const S& sys, const Fd& fd) { return Advised(sys, fd, MADV_DONTNEED); });
    add("a mapping takes MADV_DONTFORK, and MADV_DOFORK afterwards", fork,
        [](const S& sys, const Fd& fd) {
          return Mapped(sys, fd, kBytes, 0, [&](auto* at) {
            void* const plain = const_cast<char*>(at);
            return Join({Answer(sys.Madvise(plain, kBytes, MADV_DONTFORK)),
                         Answer(sys.Madvise(plain, kBytes, MADV_DOFORK))});
          });
        });
    constexpr int kPopulateWrite = 23;
    add("a mapping takes MADV_POPULATE_WRITE", populate,
        [](const S& sys, const Fd& fd) { return Advised(sys, fd, kPopulateWrite); });
  }

  static void AddDmaHeap(std::vector<Probe<S>>& all, Node node, const KnownAnswers& exporter) {
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
    add("a buffer is close-on-exec only where that is asked for", "ok",
        [](const S& sys, Node node) {
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
    add("a flag of the descriptor beyond mode and O_CLOEXEC", "EINVAL",
        [](const S& sys, Node node) {
          return FromHeap(sys, node, uint64_t{1}, kFdFlags | O_NONBLOCK).said();
        });
    add("any flag of a heap", "EINVAL", [](const S& sys, Node node) {
      std::set<std::string> said;
      for (int bit = 0; bit < 64; ++bit) {
        const uint64_t flag = uint64_t{1} << bit;
        said.insert(
            FromHeap(sys, node, {.len = 1, .fd = 0, .fd_flags = kFdFlags, .heap_flags = flag})
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
          return Join(
              {Answer(sys.Ioctl(opened.get(), _IOWR('H', 1, dma_heap_allocation_data), data)),
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
  static void AddDmaHeaps(std::vector<Probe<S>>& all) {
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

  // What a node says to what only files know.
  static void AddPlainNode(std::vector<Probe<S>>& all, std::string_view device, const char* path,
                           const KnownAnswers& expected) {
    all.push_back({device, std::string(path) + " is read, written, sought and mapped", expected,
                   [path](const S& sys) {
                     const Fd node = Open(sys, path, O_RDWR);
                     char byte = 0;
                     return Join({Answer(sys.Read(node.get(), &byte, 1)),
                                  Answer(sys.Write(node.get(), &byte, 1)),
                                  Answer(sys.Lseek(node.get(), 0, SEEK_END)),
                                  SaidMap(sys, node, kPage, 0)});
                   }});
  }

  // ---- udmabuf ----

  static Fd Memfd(const S& sys, uint64_t bytes, int seals = F_SEAL_SHRINK) {
    Fd memfd(sys, sys.MemfdCreate("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    sys.Ftruncate(memfd.get(), static_cast<off_t>(bytes));
    if (seals != 0) sys.Fcntl(memfd.get(), F_ADD_SEALS, seals);
    return memfd;
  }
  static Fd Create(const S& sys, int memfd, uint64_t offset, uint64_t bytes,
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
  static Fd CreateList(const S& sys, const std::vector<Item>& items) {
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

  static void AddUdmabuf(std::vector<Probe<S>>& all) {
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
    add("its exporter", "udmabuf",
        [make](const S& sys) { return Info(sys, make(sys), "exp_name"); });
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
          for (const Fd* memfd : {&one, &two}) {
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

  // ---- ION ----

  static constexpr const char* kIon = "/dev/ion";

  // The descriptor ABI: a buffer, or its errno.
  static Fd FromIon(const S& sys, uint64_t bytes, uint32_t mask = 1, uint32_t flags = 0) {
    const Fd node = Open(sys, kIon);
    ion_uapi::ion_allocation_data data{
        .len = bytes, .heap_id_mask = mask, .flags = flags, .fd = 0, .unused = 0};
    const long answer = sys.Ioctl(node.get(), ion_uapi::kIocAlloc, &data);
    return Fd(sys, answer == 0 ? static_cast<long>(data.fd) : answer);
  }

  // The handle ABI, of one client.
  class Client {
   public:
    explicit Client(const S& sys) : sys_(sys), node_(Open(sys, kIon)) {}

    long Ioctl(unsigned long request, void* argument) {
      return sys_.Ioctl(node_.get(), request, argument);
    }
    // An id, or -errno.
    long Allocate(uint64_t bytes, uint32_t mask = 1, uint32_t flags = 0, uint64_t align = kPage) {
      typename Legacy::ion_allocation_data data{};
      data.len = bytes;
      data.align = align;
      data.heap_id_mask = mask;
      data.flags = flags;
      const long answer = Ioctl(LegacyIoctls::kAlloc, &data);
      return answer == 0 ? data.handle : answer;
    }
    std::string Allocated(uint64_t bytes, uint32_t mask = 1, uint32_t flags = 0,
                          uint64_t align = kPage) {
      const long handle = Allocate(bytes, mask, flags, align);
      if (handle < 0) return Answer(handle);
      Free(handle);
      return "ok";
    }
    std::string Free(long handle) {
      typename Legacy::ion_handle_data data{.handle = static_cast<int>(handle)};
      return Answer(Ioctl(LegacyIoctls::kFree, &data));
    }
    Fd Share(long handle, unsigned long request = LegacyIoctls::kShare) {
      typename Legacy::ion_fd_data data{.handle = static_cast<int>(handle), .fd = -1};
      const long answer = Ioctl(request, &data);
      return Fd(sys_, answer == 0 ? data.fd : answer);
    }
    long Import(const Fd& fd) {
      typename Legacy::ion_fd_data data{.handle = 0, .fd = static_cast<int>(fd.answer())};
      const long answer = Ioctl(LegacyIoctls::kImport, &data);
      return answer == 0 ? data.handle : answer;
    }
    std::string Sync(int fd) {
      typename Legacy::ion_fd_data data{.handle = 0, .fd = fd};
      return Answer(Ioctl(LegacyIoctls::kSync, &data));
    }

   private:
    const S& sys_;
    Fd node_;
  };
  // A dma-buf that alone holds its memory: its client has gone.
  static Fd Orphan(const S& sys) {
    Client client(sys);
    return client.Share(client.Allocate(kBytes));
  }
  template <class F>
  static void AddLegacy(std::vector<Probe<S>>& all, const char* fact, const char* answer, F ask) {
    all.push_back(
        {kIon, std::string("ion, handles: ") + fact, Ion(answer, nullptr), [ask](const S& sys) {
           Client client(sys);
           return ask(sys, client);
         }});
  }

  static void AddIon(std::vector<Probe<S>>& all) {
    const auto add = [&](const char* fact, const KnownAnswers& answer, auto ask) {
      all.push_back({kIon, std::string("ion: ") + fact, answer, ask});
    };
    add("the node is a character device of the misc major", Always("10"), [](const S& sys) {
      struct stat status {};
      sys.Fstat(Open(sys, kIon).get(), &status);
      return S_ISCHR(status.st_mode) ? std::to_string(major(status.st_rdev)) : "no device";
    });
    AddPlainNode(all, kIon, kIon, Always("EINVAL EINVAL ESPIPE ENODEV"));
    add("FREE(0)", {"EINVAL", "ENOTTY", nullptr}, [](const S& sys) {
      ion_uapi::ion_handle_data data{};
      return Answer(sys.Ioctl(Open(sys, kIon).get(), ion_uapi::kIocFree, &data));
    });
    add("the handle ABI's ioctls: FREE, MAP, SHARE, IMPORT, CUSTOM, SYNC",
        {nullptr, "ENOTTY ENOTTY ENOTTY ENOTTY ENOTTY ENOTTY", nullptr}, [](const S& sys) {
          const Fd node = Open(sys, kIon);
          std::string said;
          for (const unsigned long request :
               {LegacyIoctls::kFree, LegacyIoctls::kMap, LegacyIoctls::kShare,
                LegacyIoctls::kImport, LegacyIoctls::kCustom, LegacyIoctls::kSync}) {
            char data[32] = {};
            said += (said.empty() ? "" : " ") + Answer(sys.Ioctl(node.get(), request, data));
          }
          return said;
        });
    add("the handle ABI's ALLOC: larger than anything here", Ion(nullptr, "EINVAL"),
        [](const S& sys) {
          typename Legacy::ion_allocation_data data{};
          return Answer(sys.Ioctl(Open(sys, kIon).get(), LegacyIoctls::kAlloc, &data));
        });
    add("ABI_VERSION", Ion("ENOTTY", "ENOTTY"), [](const S& sys) {
      uint32_t version = 0;
      return Answer(sys.Ioctl(Open(sys, kIon).get(), ion_uapi::kIocAbiVersion, &version));
    });
    add("a request that it does not know, without an argument", Ion("EFAULT", "EFAULT"),
        [](const S& sys) {
          return Answer(sys.Ioctl(Open(sys, kIon).get(), _IOWR('I', 99, int), nullptr));
        });

    const auto make = [](const S& sys) { return FromIon(sys, kBytes); };
    const auto query = [](const S& sys, ion_uapi::ion_heap_query query) {
      const long answer = sys.Ioctl(Open(sys, kIon).get(), ion_uapi::kIocHeapQuery, &query);
      return answer == 0 ? "ok " + std::to_string(query.cnt) : Answer(answer);
    };
    const auto address = [](void* at) {
      return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(at));
    };
    add("ALLOC of 0 bytes, SIZE_MAX, less than a page below it",
        Ion(nullptr, "EINVAL EINVAL EINVAL"), [](const S& sys) {
          return Join({FromIon(sys, 0).said(), FromIon(sys, UINT64_MAX).said(),
                       FromIon(sys, UINT64_MAX - 4094).said()});
        });
    add("ALLOC of 1 byte, of a byte more than a page", Ion(nullptr, "4096 8192"), [](const S& sys) {
      return Join({Answer(sys.Lseek(FromIon(sys, 1).get(), 0, SEEK_END)),
                   Answer(sys.Lseek(FromIon(sys, kPage + 1).get(), 0, SEEK_END))});
    });
    add("ALLOC of no heap, of bits without one", Ion(nullptr, "ENODEV ENODEV"), [](const S& sys) {
      return Join({FromIon(sys, kPage, 0).said(), FromIon(sys, kPage, ~7u).said()});
    });
    add("ALLOC from each heap, cached and not, with private flags", Ion(nullptr, "ok ok ok"),
        [](const S& sys) {
          std::string said;
          for (const uint32_t mask : {1, 2, 4}) {
            std::set<std::string> all_flags;
            for (const uint32_t flags : {0u, 1u, 2u, 0xffff0000u}) {
              all_flags.insert(FromIon(sys, kBytes, mask, flags).said());
            }
            said += said.empty() ? "" : " ";
            said += all_flags.size() == 1 ? *all_flags.begin() : "not always the same";
          }
          return said;
        });
    add("ALLOC of 3 GiB from the system, of more than half of the machine",
        Ion(nullptr, "ENOMEM ENOMEM"), [](const S& sys) {
          return Join({FromIon(sys, uint64_t{3} << 30).said(),
                       FromIon(sys, uint64_t{512 << 20} + kPage).said()});
        });
    add("ALLOC of 4 MiB and a page more in one run, of 65 MiB of CMA",
        Ion(nullptr, "ok ENOMEM ENOMEM"), [](const S& sys) {
          return Join({FromIon(sys, 4 << 20, 2).said(), FromIon(sys, (4 << 20) + kPage, 2).said(),
                       FromIon(sys, 65 << 20, 4).said()});
        });
    add("ALLOC of what only the heap of the lowest id can give", Ion(nullptr, "ok"),
        [](const S& sys) { return FromIon(sys, 80 << 20, 7).said(); });
    add("ALLOC without an argument", Ion("EFAULT", "EFAULT"), [](const S& sys) {
      const Fd node = Open(sys, kIon);
      const std::string said = Answer(sys.Ioctl(node.get(), ion_uapi::kIocAlloc, nullptr));
      return said != "ENOTTY" ? said : Answer(sys.Ioctl(node.get(), LegacyIoctls::kAlloc, nullptr));
    });
    add("HEAP_QUERY: how many", Ion(nullptr, "ok 3"),
        [query](const S& sys) { return query(sys, {}); });
    add("HEAP_QUERY: how many, a reserved field not 0", Ion(nullptr, "EINVAL EINVAL EINVAL"),
        [query](const S& sys) {
          return Join(
              {query(sys, {.cnt = 0, .reserved0 = 1, .heaps = 0, .reserved1 = 0, .reserved2 = 0}),
               query(sys, {.cnt = 0, .reserved0 = 0, .heaps = 0, .reserved1 = 1, .reserved2 = 0}),
               query(sys, {.cnt = 0, .reserved0 = 0, .heaps = 0, .reserved1 = 0, .reserved2 = 1})});
        });
    add("HEAP_QUERY: the heaps",
        Ion(nullptr, "ok 3: reserved 4 2, ion_system_contig_heap 1 1, ion_system_heap 0 0"),
        [query, address](const S& sys) {
          ion_uapi::ion_heap_data heaps[8] = {};
          std::string said = query(
              sys,
              {.cnt = 8, .reserved0 = 0, .heaps = address(heaps), .reserved1 = 0, .reserved2 = 0});
          for (const ion_uapi::ion_heap_data& heap : heaps) {
            if (heap.name[0] == 0) break;
            said += std::string(&heap == heaps ? ": " : ", ") + heap.name + " " +
                    std::to_string(heap.type) + " " + std::to_string(heap.heap_id);
          }
          return said;
        });
    add("HEAP_QUERY: room for none, for one, nowhere", Ion(nullptr, "EINVAL ok 1 EFAULT"),
        [query, address](const S& sys) {
          ion_uapi::ion_heap_data heaps[8] = {};
          const auto with = [&](uint32_t cnt, uint64_t at) {
            return query(sys,
                         {.cnt = cnt, .reserved0 = 0, .heaps = at, .reserved1 = 0, .reserved2 = 0});
          };
          return Join({with(0, address(heaps)), with(1, address(heaps)), with(8, 8)});
        });
    add("fdinfo's exporter", Ion(nullptr, "ion"),
        [make](const S& sys) { return Info(sys, make(sys), "exp_name"); });
    add("END without a START", Ion(nullptr, "ok"),
        [make](const S& sys) { return Sync(sys, make(sys), DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW); });
    std::vector<Probe<S>> of_dma_bufs;
    AddDmaBuf(of_dma_bufs, kIon, "ion's dma-buf", [](const S& sys) {
      Fd fd = FromIon(sys, kBytes);
      return fd.answer() == -ENOTTY ? Orphan(sys) : std::move(fd);
    });
    AddAdvice(of_dma_bufs, kIon, "ion's dma-buf", make, Ion(nullptr, "EINVAL"),
              Ion(nullptr, "ok EINVAL"), Ion(nullptr, "EINVAL"));
    std::ranges::move(of_dma_bufs, std::back_inserter(all));
  }

  static void AddLegacyIon(std::vector<Probe<S>>& all) {
    const auto add = [&](const char* fact, const char* answer, auto ask) {
      AddLegacy(all, fact, answer, ask);
    };
    using C = Client&;
    add("the descriptor ABI's ALLOC, HEAP_QUERY, and CUSTOM", "ENOTTY ENOTTY ENOTTY",
        [](const S&, C client) {
          char data[32] = {};
          return Join({Answer(client.Ioctl(ion_uapi::kIocAlloc, data)),
                       Answer(client.Ioctl(ion_uapi::kIocHeapQuery, data)),
                       Answer(client.Ioctl(LegacyIoctls::kCustom, data))});
        });
    add("the ids that have a heap", "0 1 2 3", [](const S&, C client) {
      std::string said;
      for (unsigned id = 0; id < ion_uapi::kHeapIds; ++id) {
        const std::string answer = client.Allocated(kPage, 1u << id);
        if (answer != "ENODEV") said += (said.empty() ? "" : " ") + std::to_string(id);
      }
      return said;
    });
    add("ALLOC of no heap", "ENODEV",
        [](const S&, C client) { return client.Allocated(kPage, 0); });
    add("ALLOC of 0 bytes, SIZE_MAX", "EINVAL EINVAL", [](const S&, C client) {
      return Join({client.Allocated(0), client.Allocated(UINT64_MAX)});
    });
    add("ALLOC aligned beyond a page, from each heap", "EINVAL EINVAL EINVAL EINVAL",
        [](const S&, C client) {
          std::string said;
          for (const uint32_t mask : {1, 2, 4, 8}) {
            said += (said.empty() ? "" : " ") + client.Allocated(kPage, mask, 0, 64 << 10);
          }
          return said;
        });
    add("ALLOC of 3 GiB", "ENOMEM",
        [](const S&, C client) { return client.Allocated(uint64_t{3} << 30); });
    add("ALLOC of 5 MiB from a carveout of 4, and with the system's heap beside it", "ENOMEM ok",
        [](const S&, C client) {
          return Join({client.Allocated(5 << 20, 4), client.Allocated(5 << 20, 4 | 1)});
        });
    // Not measured: from the source.
    add("ALLOC of 4 MiB and a page more in one run", "ok ENOMEM", [](const S&, C client) {
      return Join({client.Allocated(4 << 20, 2), client.Allocated((4 << 20) + kPage, 2)});
    });
    add("the handles: the first, the next, the lowest that is free again", "1 2 1",
        [](const S&, C client) {
          const long one = client.Allocate(kPage), two = client.Allocate(kPage);
          client.Free(one);
          const long again = client.Allocate(kPage);
          return Join({std::to_string(one), std::to_string(two), std::to_string(again)});
        });
    add("FREE, SHARE, MAP of a handle that is not there", "EINVAL EINVAL EINVAL",
        [](const S&, C client) {
          return Join(
              {client.Free(7), client.Share(7).said(), client.Share(7, LegacyIoctls::kMap).said()});
        });
    add("FREE, SHARE, MAP of the handle 0", "EINVAL EINVAL EINVAL", [](const S&, C client) {
      return Join(
          {client.Free(0), client.Share(0).said(), client.Share(0, LegacyIoctls::kMap).said()});
    });
    add("FREE twice, SHARE and MAP after it", "ok EINVAL EINVAL EINVAL", [](const S&, C client) {
      const long handle = client.Allocate(kPage);
      std::string said = client.Free(handle);
      said += " " + client.Free(handle);
      return Join(
          {said, client.Share(handle).said(), client.Share(handle, LegacyIoctls::kMap).said()});
    });
    add("FREE of another client's handle", "EINVAL", [](const S& sys, C client) {
      const long handle = client.Allocate(kPage);
      return Client(sys).Free(handle);
    });
    add("IMPORT of a share of its own: the same handle, that is freed twice", "same ok ok EINVAL",
        [](const S&, C client) {
          const long handle = client.Allocate(kPage);
          std::string said = client.Import(client.Share(handle)) == handle ? "same" : "another";
          for (int i = 0; i < 3; ++i) said += " " + client.Free(handle);
          return said;
        });
    add("IMPORT of another client's share", "1",
        [](const S& sys, C client) { return std::to_string(client.Import(Orphan(sys))); });
    add("IMPORT and SYNC of what is not open, of no dma-buf", "EBADF EBADF EINVAL EINVAL",
        [](const S& sys, C client) {
          const Fd null = Open(sys, "/dev/null", O_RDWR);
          return Join({Answer(client.Import(Fd(sys, -1))), client.Sync(-1),
                       Answer(client.Import(null)), client.Sync(null.get())});
        });
    add("SYNC of a share", "ok", [](const S&, C client) {
      const long handle = client.Allocate(kPage);
      return client.Sync(client.Share(handle).get());
    });
    add("SHARE and MAP: two dma-bufs of the same pages", "1 2", [](const S& sys, C client) {
      const long handle = client.Allocate(kBytes);
      const Fd one = client.Share(handle), two = client.Share(handle, LegacyIoctls::kMap);
      const auto put_and_get = [&](const Fd& to, const Fd& from, char byte) {
        Mapped(sys, to, kBytes, 0, [&](auto* at) {
          at[kPage] = byte;
          return std::string();
        });
        return Mapped(sys, from, kBytes, 0, [](auto* at) { return std::to_string(at[kPage]); });
      };
      return Join({put_and_get(one, two, 1), put_and_get(two, one, 2)});
    });
    add("a carveout's memory while a handle, a descriptor, a mapping holds it, and then",
        "ENOMEM ENOMEM ENOMEM ok", [](const S& sys, C client) {
          const auto rest = [&] { return Client(sys).Allocated(4 << 20, 4); };
          const long handle = client.Allocate(kBytes, 4);
          std::string said = rest();
          {
            Fd fd = client.Share(handle);
            client.Free(handle);
            said += " " + rest();
            said += " " + Mapped(sys, fd, kPage, 0, [&](auto) {
                      { const Fd closed = std::move(fd); }
                      return rest();
                    });
          }
          return Join({said, rest()});
        });
    add("a client that closes, with handles left", "ENOMEM ok", [](const S& sys, C client) {
      std::string said;
      {
        Client other(sys);
        other.Allocate(kPage, 4);
        said = client.Allocated(4 << 20, 4);
      }
      return Join({said, client.Allocated(4 << 20, 4)});
    });
  }
};

template <Syscalls S>
std::vector<Probe<S>> KernelProbes() {
  std::vector<Probe<S>> all;
  Asking<S>::AddDmaHeaps(all);
  Asking<S>::AddUdmabuf(all);
  Asking<S>::AddIon(all);
  Asking<S>::AddLegacyIon(all);
  return all;
}

}  // namespace ion::testing

#endif  // ION_TESTS_KERNEL_PROBES_H_
