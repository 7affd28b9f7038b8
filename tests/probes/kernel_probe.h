// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/probes/kernel_probe.h
//
// Probe: a question to a kernel about its devices, with the answer that was measured. It is asked
// by raw system calls through a Syscalls policy, so that real kernels and fake ones can be asked;
// what all questions are asked with stands here, and they in tests/*_probes.h. An answer is "ok",
// the name of an errno, or what was found.
//
// Linux 5.10 and 6.12 are the guests'; of 4.2 and 4.9 stands here what was measured of kernels that
// no guest runs (4.2.8, 4.9.229).

#ifndef ION_TESTS_PROBES_KERNEL_PROBE_H_
#define ION_TESTS_PROBES_KERNEL_PROBE_H_

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "tests/support/fake_machine.h"

namespace ion::testing::probes {

// nullptr: that kernel does not have what is asked about.
struct KnownAnswers {
  const char* linux_4_2;
  const char* linux_5_10;
  const char* linux_6_12;
  const char* linux_4_9 = nullptr;

  const char* On(unsigned linux) const {
    if (linux >= Linux(6, 12)) return linux_6_12;
    if (linux >= Linux(5, 10)) return linux_5_10;
    return linux >= Linux(4, 9) ? linux_4_9 : linux_4_2;
  }
};
constexpr KnownAnswers Always(const char* answer) { return {answer, answer, answer}; }
constexpr KnownAnswers Modern(const char* answer) { return {nullptr, answer, answer}; }
// Of ION, by its ABI: handles on 4.2, descriptors on 5.10.
constexpr KnownAnswers Ion(const char* handles, const char* descriptors) {
  return {handles, descriptors, nullptr};
}
constexpr KnownAnswers Handles(const char* linux_4_2, const char* linux_4_9) {
  return {linux_4_2, nullptr, nullptr, linux_4_9};
}

template <Syscalls S>
struct Probe {
  std::string_view device;  // without which the question makes no sense
  std::string fact;
  KnownAnswers expected;
  std::function<std::string(const S&)> ask;
};

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
class Fd {
 public:
  Fd(const S& sys, long fd) : sys_(sys), fd_(fd) {}
  Fd(Fd&& other) noexcept : sys_(other.sys_), fd_(std::exchange(other.fd_, -EBADF)) {}
  Fd& operator=(Fd&&) = delete;
  ~Fd() {
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

// The bytes of a buffer, where they are not what is asked about.
inline constexpr uint64_t kPage = 4096, kBytes = 16 * kPage;

template <Syscalls S>
Fd<S> Open(const S& sys, const char* path, int flags = O_RDONLY) {
  return Fd(sys, sys.Open(path, flags));
}

// Maps, calls f(the first byte), and unmaps; or the errno of the mapping.
template <Syscalls S, class F>
std::string Mapped(const S& sys, const Fd<S>& fd, uint64_t bytes, off_t offset, F f,
                   int protection = PROT_READ | PROT_WRITE) {
  const long at = sys.Mmap(bytes, protection, fd.get(), offset);
  if (Failed(at)) return Answer(at);
  auto* const bytes_at = reinterpret_cast<volatile char*>(at);
  std::string said = f(bytes_at);
  const long unmapped = sys.Munmap(reinterpret_cast<void*>(at), bytes);
  return unmapped == 0 ? said : "munmap " + Answer(unmapped);
}
template <Syscalls S>
std::string SaidMap(const S& sys, const Fd<S>& fd, uint64_t bytes, off_t offset,
                    int protection = PROT_READ | PROT_WRITE) {
  return Mapped(
      sys, fd, bytes, offset, [](auto) { return std::string("ok"); }, protection);
}

template <Syscalls S>
std::string SaidMapPrivate(const S& sys, const Fd<S>& fd, uint64_t bytes) {
  const long at = sys.MmapPrivate(bytes, fd.get(), 0);
  return Failed(at) ? Answer(at) : Answer(sys.Munmap(reinterpret_cast<void*>(at), bytes));
}

// What a node says to what only files know.
template <Syscalls S>
void AddPlainNode(std::vector<Probe<S>>& all, std::string_view device, const char* path,
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

}  // namespace ion::testing::probes

#endif  // ION_TESTS_PROBES_KERNEL_PROBE_H_
