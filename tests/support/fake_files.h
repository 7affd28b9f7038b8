// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_files.h
//
// What a fake kernel has open: nodes of devices and dma-bufs, each behind a memfd of the real
// kernel, so that its descriptors can be mapped, copied and sent as any.
//
// A fake file is known by the position of its memfd, which nothing else uses: that belongs to the
// open file itself, so it goes along with dup, and through a socket, and stays true where a
// descriptor is closed behind the fake's back. Code under test must not lseek, read or write such a
// descriptor but through FakeSyscalls.

#ifndef ION_TESTS_SUPPORT_FAKE_FILES_H_
#define ION_TESTS_SUPPORT_FAKE_FILES_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "ion/base/bytes.h"
#include "ion/base/fd.h"

namespace ion::testing {

inline constexpr uint32_t kTmpfsFileSystem = 0x01021994;

// The same memory through an open file of its own.
inline UniqueFd OpenAgain(int fd, int flags) {
  return UniqueFd(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), flags));
}
// A descriptor of `bytes` of new memory, with a mode of access and O_CLOEXEC as in `flags`; not
// valid, with errno, where the real kernel has none to give.
inline UniqueFd NewMemory(const std::string& name, uint64_t bytes, int flags = O_RDWR | O_CLOEXEC) {
  UniqueFd memfd(::memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!memfd.valid() || ::ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0) return {};
  const UniqueFd again = OpenAgain(memfd.get(), flags & (O_ACCMODE | O_CLOEXEC));
  // Under the lowest number that is free, as a kernel gives it.
  if (!again.valid() || ::dup3(again.get(), memfd.get(), flags & O_CLOEXEC) < 0) return {};
  return memfd;
}
// The same with a text in it, to be read from its start.
inline long NewText(const std::string& name, const std::string& text) {
  UniqueFd memfd = NewMemory(name, 0);
  if (!memfd.valid() || ::pwrite(memfd.get(), text.data(), text.size(), 0) < 0) return -errno;
  return memfd.release();
}

// The arguments of an ioctl, as a kernel takes and gives them: -EFAULT where there is no such
// memory. Through a memfd, whose write and read are told so by the real kernel; by number, as a
// sanitizer would take a bad pointer for a bug.
inline long CopyIn(void* to, const void* from, size_t bytes) {
  const UniqueFd through = NewMemory("fake ioctl", 0);
  if (::syscall(SYS_write, through.get(), from, bytes) != static_cast<long>(bytes)) return -EFAULT;
  return ::pread(through.get(), to, bytes, 0) == static_cast<ssize_t>(bytes) ? 0 : -EFAULT;
}
inline long CopyOut(void* to, const void* from, size_t bytes) {
  const UniqueFd through = NewMemory("fake ioctl", 0);
  if (::pwrite(through.get(), from, bytes, 0) != static_cast<ssize_t>(bytes)) return -ENOMEM;
  return ::syscall(SYS_read, through.get(), to, bytes) == static_cast<long>(bytes) ? 0 : -EFAULT;
}

// An open file. The answers that stand here are those of a character device without the operation.
class FakeFile {
 public:
  virtual ~FakeFile() = default;

  virtual long Ioctl(int /*fd*/, unsigned long /*request*/, void* /*argument*/) { return -ENOTTY; }
  virtual long Mmap(size_t /*bytes*/, int /*protection*/, int /*fd*/, off_t /*offset*/) {
    return -ENODEV;
  }
  virtual long MmapPrivate(size_t /*bytes*/, int /*fd*/, off_t /*offset*/) { return -ENODEV; }
  virtual long Madvise(void* at, size_t bytes, int advice) {
    return ::madvise(at, bytes, advice) == 0 ? 0 : -errno;
  }
  virtual long Read() { return -EINVAL; }
  virtual long Getdents(void* /*to*/, size_t /*bytes*/) { return -ENOTDIR; }
  virtual long Lseek(off_t /*offset*/, int /*whence*/) { return -ESPIPE; }
  virtual void Fstat(struct stat* to) = 0;
  virtual uint32_t FileSystem() { return kTmpfsFileSystem; }
  // What /proc/self/fdinfo tells beyond every file's own, of one that so many hold.
  virtual std::string FdInfo(size_t /*count*/) { return ""; }
};

// The node of a device.
class FakeNode : public FakeFile {
 public:
  FakeNode(unsigned major, unsigned minor) : device_(makedev(major, minor)) {}

  void Fstat(struct stat* to) override {
    *to = {};
    to->st_mode = S_IFCHR | 0600;
    to->st_nlink = 1;
    to->st_rdev = device_;
  }

 private:
  dev_t device_;
};

class FakeFiles {
 public:
  // `adopt` makes a file of a descriptor that another process's copy of the fake made.
  explicit FakeFiles(std::function<std::shared_ptr<FakeFile>(int fd, uint64_t id)> adopt)
      : adopt_(std::move(adopt)) {}

  // Puts `file` behind a descriptor: its number, or -errno where `real` is not valid. The bits of
  // `kind` come back to adopt().
  long Open(UniqueFd real, const std::function<std::shared_ptr<FakeFile>(uint64_t id)>& make,
            unsigned kind = 0) {
    if (!real.valid()) return -errno;
    const uint64_t id = kFirst | uint64_t{kind} << kKindBit |
                        (static_cast<uint64_t>(::getpid()) & 0xffffff) << 20 | NextNumber();
    if (::lseek(real.get(), static_cast<off_t>(id), SEEK_SET) < 0) return -errno;
    files_[id] = make(id);
    return real.release();
  }
  static unsigned KindOf(uint64_t id) { return id >> kKindBit & 0xf; }

  // The file behind a descriptor; none where that is the real kernel's.
  std::shared_ptr<FakeFile> Of(int fd) {
    const uint64_t id = IdOf(fd);
    if (id == 0) return nullptr;
    std::shared_ptr<FakeFile>& file = files_[id];
    if (file == nullptr) file = adopt_(fd, id);
    return file;
  }
  // How many descriptors and mappings of this process hold what is behind a descriptor. (The real
  // kernel counts other processes' as well.)
  size_t CountOf(int fd) {
    const std::shared_ptr<FakeFile> file = Of(fd);
    return CountDescriptors()[IdOf(fd)] +
           static_cast<size_t>(std::ranges::count_if(
               mappings_, [&](const auto& mapping) { return mapping.second.file == file; }));
  }

  // A mapping of a file begins here, and what is unmapped ends.
  void Mapped(long at, size_t bytes, std::shared_ptr<FakeFile> file) {
    const auto [begin, end] = Pages(at, bytes);
    Unmapped(at, bytes);
    mappings_[begin] = {end, std::move(file)};
  }
  void Unmapped(long at, size_t bytes) {
    const auto [begin, end] = Pages(at, bytes);
    auto next = mappings_.lower_bound(begin);
    if (next != mappings_.begin()) --next;
    while (next != mappings_.end() && next->first < end) {
      const auto [from, mapping] = *next;
      if (mapping.end <= begin) {
        ++next;
        continue;
      }
      next = mappings_.erase(next);
      if (from < begin) mappings_[from] = {begin, mapping.file};
      if (mapping.end > end) next = mappings_.insert({end, mapping}).first;
    }
  }
  std::shared_ptr<FakeFile> MappedAt(const void* at) {
    const auto address = reinterpret_cast<uintptr_t>(at);
    auto next = mappings_.upper_bound(address);
    if (next == mappings_.begin()) return nullptr;
    --next;
    return address < next->second.end ? next->second.file : nullptr;
  }

  // Forgets files that no descriptor of this process is of any more; what is mapped stays.
  void Collect() {
    const std::map<uint64_t, size_t> open = CountDescriptors();
    std::erase_if(files_, [&](const auto& file) { return !open.contains(file.first); });
  }

 private:
  struct Mapping {
    uintptr_t end;
    std::shared_ptr<FakeFile> file;
  };

  static constexpr unsigned kKindBit = 44;
  static constexpr uint64_t kFirst = uint64_t{0x4d41} << 48;  // no file is as long

  static uint64_t IdOf(int fd) {
    const auto at = static_cast<uint64_t>(::lseek(fd, 0, SEEK_CUR));
    return at >> 48 == kFirst >> 48 ? at : 0;
  }
  // Another number for each file of all fakes of this process.
  static uint64_t NextNumber() {
    static std::atomic<uint64_t> next{1};
    return next++;
  }
  static std::pair<uintptr_t, uintptr_t> Pages(long at, size_t bytes) {
    const auto begin = static_cast<uintptr_t>(at);
    return {begin, begin + RoundUpToPages(bytes).value_or(0)};
  }
  static std::map<uint64_t, size_t> CountDescriptors() {
    std::map<uint64_t, size_t> counts;
    DIR* directory = ::opendir("/proc/self/fd");
    if (directory == nullptr) std::abort();
    while (const dirent* entry = ::readdir(directory)) {
      const int fd = std::atoi(entry->d_name);
      if (fd == ::dirfd(directory) || entry->d_name[0] == '.') continue;
      if (const uint64_t id = IdOf(fd); id != 0) ++counts[id];
    }
    ::closedir(directory);
    return counts;
  }

  std::function<std::shared_ptr<FakeFile>(int, uint64_t)> adopt_;
  std::map<uint64_t, std::shared_ptr<FakeFile>> files_;
  std::map<uintptr_t, Mapping> mappings_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_FILES_H_
