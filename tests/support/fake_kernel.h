// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_kernel.h
//
// A fake kernel behind the Syscalls policy: the devices of a FakeMachine, answering as the kernels
// of UAPI.md were measured to; whatever is not theirs goes to the real kernel. Memory is real, of
// memfds, so it is mapped, shared and sent as any. tests/probes/fake_kernel_test.cc asks it and the
// real kernels of the guests the same questions: where they differ, the fake is wrong.
//
// Copies of FakeSyscalls share one kernel. In a forked child it goes on as a copy of its own: a
// descriptor that the other process made and sent is a dma-buf there, but what a heap has left, the
// handles of a client, and fdinfo's count are each process's own.
//
// Example:
//   const FakeSyscalls sys(Linux42Machine());
//   auto backend = IonLegacyBackend<FakeSyscalls>::Open({.sys = sys});
//
// Thread-safe.

#ifndef ION_TESTS_SUPPORT_FAKE_KERNEL_H_
#define ION_TESTS_SUPPORT_FAKE_KERNEL_H_

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/base/syscalls.h"
#include "tests/support/fake_dma_buf.h"
#include "tests/support/fake_dma_heap.h"
#include "tests/support/fake_files.h"
#include "tests/support/fake_ion.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fake_udmabuf.h"

namespace ion::testing {

class FakeKernel {
 public:
  explicit FakeKernel(FakeMachine machine)
      : machine_(std::move(machine)),
        files_([this](int fd, uint64_t id) { return Adopt(fd, id); }) {
    for (const FakeHeap& heap : machine_.ion) {
      ion_.emplace_back(heap, machine_.ram, machine_.late_frees);
    }
    for (const FakeHeap& heap : machine_.dma_heaps) {
      dma_heaps_.emplace_back(heap, machine_.ram);
      for (const FakeHeapMemory& other : dma_heaps_) {
        if (!heap.region.empty() && heap.region == other.heap().region) {
          dma_heaps_.back().ShareWith(other);
        }
      }
    }
  }

  // A heap comes to /dev/dma_heap, as with a module.
  void AddDmaHeap(FakeHeap heap) {
    const std::lock_guard lock(mutex_);
    dma_heaps_.emplace_back(std::move(heap), machine_.ram);
  }

  // What is left in a heap of /dev/ion, or of /dev/dma_heap.
  uint64_t LeftInIon(uint32_t id) {
    return Left(ion_, [&](auto& heap) { return heap.id == id; });
  }
  uint64_t LeftInDmaHeap(std::string_view name) {
    return Left(dma_heaps_, [&](auto& heap) { return heap.name == name; });
  }

 private:
  friend class FakeSyscalls;

  static constexpr const char* kFdInfo = "fdinfo of ";

  // A path that is a fake's, or what the real kernel answers.
  long Open(const char* path, int flags) {
    constexpr std::string_view kHeaps = "/dev/dma_heap", kInfo = "/proc/self/fdinfo/";
    constexpr std::string_view kRegions = "/sys/kernel/mm/cma/";
    constexpr std::string_view kDevices = "/sys/dev/char/252:";
    constexpr std::string_view kParameters = "/sys/module/udmabuf/parameters/";
    const std::string_view name(path);
    if (name == "/dev/ion" && !machine_.ion.empty()) {
      std::vector<FakeHeapMemory*> heaps;
      for (FakeHeapMemory& heap : ion_) heaps.push_back(&heap);
      if (machine_.linux < Linux(4, 12)) {
        return machine_.door_32_bit
                   ? OpenNode<FakeLegacyIon<uint32_t>>(path, flags, machine_.linux, machine_.ram,
                                                       heaps, IonDoor::kCompat)
                   : OpenNode<FakeLegacyIon<>>(path, flags, machine_.linux, machine_.ram, heaps);
      }
      return OpenNode<FakeModernIon>(path, flags, machine_.linux, machine_.ram, heaps);
    }
    if (name == "/dev/udmabuf" && machine_.udmabuf) {
      return OpenNode<FakeUdmabuf>(path, flags, machine_.linux);
    }
    if (name.starts_with(kHeaps) && !dma_heaps_.empty()) {
      return OpenHeaps(path, name.substr(kHeaps.size()), flags);
    }
    if (name.starts_with(kRegions) && !dma_heaps_.empty()) {
      return OpenRegion(name.substr(kRegions.size()));
    }
    if (name == "/proc/meminfo" && !dma_heaps_.empty()) return OpenMemory();
    if (name.starts_with(kDevices) && !dma_heaps_.empty()) {
      return OpenUevent(name.substr(kDevices.size()));
    }
    if (name.starts_with(kParameters) && machine_.udmabuf && machine_.linux >= Linux(5, 14)) {
      const std::string_view parameter = name.substr(kParameters.size());
      if (parameter == "size_limit_mb") return NewText("limit", Line(FakeUdmabuf::kMebibytes));
      if (parameter == "list_limit") return NewText("limit", Line(FakeUdmabuf::kItems));
    }
    for (const std::string_view device :
         {std::string_view("/dev/ion"), std::string_view("/dev/udmabuf"), kHeaps, kParameters}) {
      if (name.starts_with(device)) return -ENOENT;
    }
    int fd = -1;
    if (name.starts_with(kInfo)) {
      std::from_chars(path + kInfo.size(), path + name.size(), fd);
    }
    const std::shared_ptr<FakeFile> file = files_.Of(fd);
    if (file == nullptr) return real_.Open(path, flags);
    return NewText(kFdInfo + std::to_string(fd), FdInfo(fd, *file));
  }
  // What a file of fdinfo tells from its start: of the descriptor that has the number now.
  long ReadAgain(int fd, void* to, size_t bytes, off_t offset) {
    char name[64] = {};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const std::string prefix = std::string("/memfd:") + kFdInfo;
    if (::readlink(link.c_str(), name, sizeof(name) - 1) < 0 ||
        !std::string_view(name).starts_with(prefix) || offset != 0) {
      return real_.Pread(fd, to, bytes, offset);
    }
    const int of = std::atoi(name + prefix.size());
    const std::shared_ptr<FakeFile> file = files_.Of(of);
    if (file == nullptr) return -ENOENT;
    const std::string text = FdInfo(of, *file);
    return static_cast<long>(text.copy(static_cast<char*>(to), bytes));
  }

  template <class Node, class... Args>
  long OpenNode(const char* path, int flags, Args&&... args) {
    if ((flags & O_DIRECTORY) != 0) return -ENOTDIR;
    const int mode = (flags & O_ACCMODE) | O_CLOEXEC;
    return files_.Open(NewMemory(path, 0, mode), [&](uint64_t) {
      return std::make_shared<Node>(files_, std::forward<Args>(args)...);
    });
  }
  long OpenHeaps(const char* path, std::string_view name, int flags) {
    if (name.empty() || name == "/") {
      std::vector<std::string> names = {".", ".."};
      for (const FakeHeapMemory& heap : dma_heaps_) names.push_back(heap.heap().name);
      for (const FakeLink& link : machine_.links) names.push_back(link.name);
      return files_.Open(NewMemory(path, 0, O_RDONLY | O_CLOEXEC), [&](uint64_t) {
        return std::make_shared<FakeDirectory>(std::move(names));
      });
    }
    for (unsigned minor = 0; minor < dma_heaps_.size(); ++minor) {
      FakeHeapMemory& heap = dma_heaps_[minor];
      if (name.substr(1) == heap.heap().name) {
        return OpenNode<FakeDmaHeap>(path, flags, machine_.linux, minor, heap);
      }
    }
    for (const FakeLink& link : machine_.links) {
      if (name.substr(1) == link.name) return OpenHeaps(path, "/" + link.target, flags);
    }
    return -ENOENT;
  }
  // What sysfs tells of a region of CMA: `rest` is its name and the file's.
  long OpenRegion(std::string_view rest) {
    for (const FakeHeapMemory& heap : dma_heaps_) {
      const FakeHeap& is = heap.heap();
      const std::string region = (is.region.empty() ? is.name : is.region) + "/";
      if (heap.OfRam() || machine_.linux < Linux(6, 10) || !rest.starts_with(region)) continue;
      const std::string_view file = rest.substr(region.size());
      if (file == "total_pages") return NewText("pages", Line(is.bytes / PageBytes()));
      if (file == "available_pages") return NewText("pages", Line(heap.left() / PageBytes()));
    }
    return -ENOENT;
  }
  // The real kernel's, with what the fake's regions have.
  long OpenMemory() {
    uint64_t total = 0, left = 0;
    for (const FakeHeapMemory& heap : dma_heaps_) {
      if (heap.OfRam()) continue;
      total += heap.heap().bytes >> 10;
      left += heap.left() >> 10;
    }
    const long real = real_.Open("/proc/meminfo", O_RDONLY);
    if (Failed(real)) return real;
    std::string text(8192, '\0');
    const long got = real_.Read(static_cast<int>(real), text.data(), text.size());
    (void)real_.Close(static_cast<int>(real));
    text.resize(Failed(got) ? 0 : static_cast<size_t>(got));
    for (size_t at; (at = text.find("Cma")) != text.npos;) {
      text.erase(at, text.find('\n', at) + 1 - at);
    }
    text.insert(text.find('\n') + 1, "CmaTotal: " + std::to_string(total) +
                                         " kB\nCmaFree: " + std::to_string(left) + " kB\n");
    return NewText("meminfo", text);
  }
  // What sysfs tells of a heap's device: `rest` is its minor number and the file's name.
  long OpenUevent(std::string_view rest) {
    for (size_t minor = 0; minor < dma_heaps_.size(); ++minor) {
      const std::string number = std::to_string(minor);
      if (!machine_.sysfs || rest != number + "/uevent") continue;
      return NewText("uevent", "MAJOR=252\nMINOR=" + number + "\nDEVNAME=dma_heap/" +
                                   dma_heaps_[minor].heap().name + "\n");
    }
    return -ENOENT;
  }
  long Readlink(const char* path, char* to, size_t bytes) {
    constexpr std::string_view kHeaps = "/dev/dma_heap/";
    const std::string_view name(path);
    if (!name.starts_with(kHeaps) || machine_.dma_heaps.empty()) {
      return real_.Readlink(path, to, bytes);
    }
    for (const FakeLink& link : machine_.links) {
      if (name.substr(kHeaps.size()) == link.name) {
        return static_cast<long>(link.target.copy(to, bytes));
      }
    }
    const auto is_it = [&](const FakeHeap& heap) { return name.ends_with("/" + heap.name); };
    return std::ranges::any_of(machine_.dma_heaps, is_it) ? -EINVAL : -ENOENT;
  }

  std::string FdInfo(int fd, FakeFile& file) {
    constexpr int kLargeFile = 0100000;  // that a memfd is and a dma-buf is not
    const int flags =
        (::fcntl(fd, F_GETFL) & ~kLargeFile) | (::fcntl(fd, F_GETFD) != 0 ? O_CLOEXEC : 0);
    char text[64];
    std::snprintf(text, sizeof(text), "pos:\t0\nflags:\t0%o\nmnt_id:\t13\n", flags);
    return text + file.FdInfo(files_.CountOf(fd));
  }

  // A dma-buf of another process: all of its memfd, and what that process does with its name or its
  // heap is not known.
  std::shared_ptr<FakeFile> Adopt(int fd, uint64_t id) {
    struct stat status {};
    ::fstat(fd, &status);
    std::vector<FakeDmaBuf::Piece> pieces;
    pieces.push_back({UniqueFd(), 0, static_cast<uint64_t>(status.st_size)});
    const auto exporter = static_cast<FakeExporter>(FakeFiles::KindOf(id));
    return std::make_shared<FakeDmaBuf>(
        id, FakeDmaBuf::Origin{machine_.linux, exporter, "another process"}, std::move(pieces));
  }

  template <class F>
  uint64_t Left(const std::deque<FakeHeapMemory>& heaps, F matches) {
    const std::lock_guard lock(mutex_);
    files_.Collect();
    for (const FakeHeapMemory& heap : heaps) {
      if (matches(heap.heap())) return heap.left();
    }
    return 0;
  }
  static std::string Line(uint64_t number) { return std::to_string(number) + "\n"; }

  const FakeMachine machine_;
  const LinuxSyscalls real_ = {};
  std::mutex mutex_;
  std::deque<FakeHeapMemory> ion_, dma_heaps_;  // files point at them
  FakeFiles files_;
};

class FakeSyscalls {
 public:
  // A kernel without devices.
  FakeSyscalls() : FakeSyscalls(FakeMachine()) {}
  explicit FakeSyscalls(FakeMachine machine)
      : kernel_(std::make_shared<FakeKernel>(std::move(machine))) {}

  FakeKernel& kernel() const { return *kernel_; }

  long Open(const char* path, int flags) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    return kernel_->Open(path, flags);
  }
  long OpenAt(int fd, const char* name, int flags) const noexcept {
    return With(
        fd, [](FakeFile&) { return -ENOTDIR; }, [&] { return real().OpenAt(fd, name, flags); });
  }
  long Readlink(const char* path, char* to, size_t bytes) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    return kernel_->Readlink(path, to, bytes);
  }
  long Close(int fd) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    const long answer = real().Close(fd);
    files().Collect();
    return answer;
  }
  long Read(int fd, void* to, size_t bytes) const noexcept {
    return With(
        fd, [](FakeFile& file) { return file.Read(); }, [&] { return real().Read(fd, to, bytes); });
  }
  long Pread(int fd, void* to, size_t bytes, off_t offset) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    return kernel_->ReadAgain(fd, to, bytes, offset);
  }
  long Write(int fd, const void* from, size_t bytes) const noexcept {
    return With(
        fd, [](FakeFile&) { return -EINVAL; }, [&] { return real().Write(fd, from, bytes); });
  }
  long Getdents(int fd, void* to, size_t bytes) const noexcept {
    return With(
        fd, [&](FakeFile& file) { return file.Getdents(to, bytes); },
        [&] { return real().Getdents(fd, to, bytes); });
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    // Linux asks no driver this.
    const bool asks_size = request == FIOQSIZE;
    return With(
        fd, [&](FakeFile& file) { return asks_size ? -ENOTTY : file.Ioctl(fd, request, argument); },
        [&] { return real().Ioctl(fd, request, argument); });
  }
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    std::shared_ptr<FakeFile> file = files().Of(fd);
    if (file == nullptr) return real().Mmap(bytes, protection, fd, offset);
    const long at = file->Mmap(bytes, protection, fd, offset);
    if (!Failed(at)) files().Mapped(at, bytes, std::move(file));
    return at;
  }
  long MmapPrivate(size_t bytes, int fd, off_t offset) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    std::shared_ptr<FakeFile> file = files().Of(fd);
    if (file == nullptr) return real().MmapPrivate(bytes, fd, offset);
    const long at = file->MmapPrivate(bytes, fd, offset);
    if (!Failed(at)) files().Mapped(at, bytes, std::move(file));
    return at;
  }
  long MmapOver(void* at, size_t bytes, int protection, int fd, off_t offset) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    std::shared_ptr<FakeFile> file = files().Of(fd);
    if (file == nullptr) return real().MmapOver(at, bytes, protection, fd, offset);
    const long made = file->Mmap(bytes, protection, fd, offset);
    if (Failed(made)) return made;
    void* const old = reinterpret_cast<void*>(static_cast<intptr_t>(made));
    if (::mremap(old, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED) return -errno;
    const long moved = static_cast<long>(reinterpret_cast<intptr_t>(at));
    files().Mapped(moved, bytes, std::move(file));
    return moved;
  }
  long Munmap(void* at, size_t bytes) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    const long answer = real().Munmap(at, bytes);
    if (!Failed(answer)) files().Unmapped(static_cast<long>(reinterpret_cast<intptr_t>(at)), bytes);
    return answer;
  }
  long Eventfd() const noexcept { return real().Eventfd(); }
  long Madvise(void* at, size_t bytes, int advice) const noexcept {
    const std::lock_guard lock(kernel_->mutex_);
    const std::shared_ptr<FakeFile> file = files().MappedAt(at);
    return file != nullptr ? file->Madvise(at, bytes, advice) : real().Madvise(at, bytes, advice);
  }
  long MemfdCreate(const char* name, unsigned flags) const noexcept {
    return real().MemfdCreate(name, flags);
  }
  long Ftruncate(int fd, off_t bytes) const noexcept {
    return With(
        fd, [](FakeFile&) { return -EINVAL; }, [&] { return real().Ftruncate(fd, bytes); });
  }
  long Fallocate(int fd, off_t offset, off_t bytes) const noexcept {
    return With(
        fd, [](FakeFile&) { return -ENODEV; }, [&] { return real().Fallocate(fd, offset, bytes); });
  }
  long Fcntl(int fd, int command, long argument) const noexcept {
    if (command != F_GET_SEALS && command != F_ADD_SEALS)
      return real().Fcntl(fd, command, argument);
    return With(
        fd, [](FakeFile&) { return -EINVAL; }, [&] { return real().Fcntl(fd, command, argument); });
  }
  long Lseek(int fd, off_t offset, int whence) const noexcept {
    return With(
        fd, [&](FakeFile& file) { return file.Lseek(offset, whence); },
        [&] { return real().Lseek(fd, offset, whence); });
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    const auto fake = [&](FakeFile& file) {
      file.Fstat(to);
      return 0;
    };
    return With(fd, fake, [&] { return real().Fstat(fd, to); });
  }
  long Fstatfs(int fd, struct statfs* to) const noexcept {
    const auto fake = [&](FakeFile& file) {
      *to = {};
      to->f_type = file.FileSystem();
      return 0;
    };
    return With(fd, fake, [&] { return real().Fstatfs(fd, to); });
  }
  // A memfd is always ready, as an idle dma-buf is.
  long Poll(struct pollfd* polled, unsigned count, int milliseconds) const noexcept {
    return real().Poll(polled, count, milliseconds);
  }
  long SameInode(int a, int b) const noexcept { return real().SameInode(a, b); }
  long Sysinfo(struct sysinfo* to) const noexcept {
    const long answer = real().Sysinfo(to);
    to->totalram = static_cast<unsigned long>(kernel_->machine_.ram / PageBytes());
    to->mem_unit = static_cast<unsigned>(PageBytes());
    return answer;
  }
  long Uname(struct utsname* to) const noexcept {
    const long answer = real().Uname(to);
    const unsigned linux = kernel_->machine_.linux;
    std::snprintf(to->release, sizeof(to->release), "%u.%u.0-fake", linux / 1000, linux % 1000);
    return answer;
  }
  long Geteuid() const noexcept { return real().Geteuid(); }
  long Getegid() const noexcept { return real().Getegid(); }
  long Getgroups(int most, gid_t* to) const noexcept { return real().Getgroups(most, to); }

 private:
  const LinuxSyscalls& real() const { return kernel_->real_; }
  FakeFiles& files() const { return kernel_->files_; }

  template <class Fake, class Real>
  long With(int fd, Fake fake, Real real) const {
    const std::lock_guard lock(kernel_->mutex_);
    const std::shared_ptr<FakeFile> file = files().Of(fd);
    return file != nullptr ? fake(*file) : real();
  }

  std::shared_ptr<FakeKernel> kernel_;
};
static_assert(Syscalls<FakeSyscalls>);

// One kernel for all that is made without a word: for suites, which open backends with no options.
template <FakeMachine (*kMachine)()>
class FakeSyscallsOf : public FakeSyscalls {
 public:
  FakeSyscallsOf() : FakeSyscalls(Shared()) {}

 private:
  static const FakeSyscalls& Shared() {
    static const FakeSyscalls shared(kMachine());
    return shared;
  }
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_KERNEL_H_
