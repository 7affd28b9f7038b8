// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_dma_buf.h
//
// FakeDmaBuf: a dma-buf as the kernel shows it to a program (UAPI.md sections 4, 6, 7 and 8), over
// pages of memfds.
//
// What it does not do: EXPORT_SYNC_FILE (as a kernel without CONFIG_SYNC_FILE), and a udmabuf that
// parts from its memfd where a hole is punched into that.

#ifndef ION_TESTS_SUPPORT_FAKE_DMA_BUF_H_
#define ION_TESTS_SUPPORT_FAKE_DMA_BUF_H_

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "tests/support/fake_files.h"
#include "tests/support/fake_machine.h"

namespace ion::testing {

// Who made a dma-buf.
enum class FakeExporter : unsigned { kDmaHeap, kIon, kUdmabuf };

class FakeDmaBuf : public FakeFile {
 public:
  // Pages that lie side by side in a memfd: of `memfd`, or of the dma-buf's own descriptor where
  // that is not valid.
  struct Piece {
    UniqueFd memfd;
    uint64_t offset;
    uint64_t bytes;
  };
  struct Origin {
    unsigned linux;
    FakeExporter exporter;
    std::string name = {};                         // of the exporter, as fdinfo tells it
    std::shared_ptr<FakeBuffer> memory = nullptr;  // that is given back at its end
    bool takes_private = false;                    // it may be mapped with MAP_PRIVATE
  };

  FakeDmaBuf(uint64_t id, Origin origin, std::vector<Piece> pieces)
      : id_(id), origin_(std::move(origin)), pieces_(std::move(pieces)) {
    for (const Piece& piece : pieces_) bytes_ += piece.bytes;
  }

  FakeExporter exporter() const { return origin_.exporter; }
  const std::shared_ptr<FakeBuffer>& memory() const { return origin_.memory; }
  bool takes_private() const { return origin_.takes_private; }
  uint64_t bytes() const { return bytes_; }
  const std::string& name() const { return name_; }

  long Ioctl(int /*fd*/, unsigned long request, void* argument) override {
    switch (request) {
      case DMA_BUF_IOCTL_SYNC:
        return origin_.linux < Linux(4, 6) ? -ENOTTY : Sync(argument);
      case DMA_BUF_SET_NAME_A:
      case DMA_BUF_SET_NAME_B:
        return origin_.linux < Linux(5, 3) ? -ENOTTY : SetName(argument);
    }
    return -ENOTTY;
  }

  long Mmap(size_t bytes, int protection, int fd, off_t offset) override {
    return MapAs(MAP_SHARED, bytes, protection, fd, offset);
  }
  long MmapPrivate(size_t bytes, int fd, off_t offset) override {
    if (!origin_.takes_private) return -EINVAL;
    return MapAs(MAP_PRIVATE, bytes, PROT_READ, fd, offset);
  }

  long Madvise(void* at, size_t bytes, int advice) override {
    // By which of the kernel's flags a driver maps.
    const bool ion = origin_.exporter == FakeExporter::kIon;
    const bool pfn = ion || origin_.linux >= Linux(6, 12);              // VM_PFNMAP
    const bool io = pfn && origin_.exporter != FakeExporter::kUdmabuf;  // VM_IO
    constexpr int kPopulateRead = 22, kPopulateWrite = 23;              // Linux 5.14
    switch (advice) {
      case MADV_DONTNEED:
        if (pfn) return -EINVAL;
        return 0;  // and the content stays: that is not the mapping's
      case MADV_DODUMP:
        if (pfn) return -EINVAL;
        break;
      case MADV_DOFORK:
        if (io) return -EINVAL;
        break;
      case kPopulateRead:
      case kPopulateWrite:
        if (pfn || origin_.linux < Linux(5, 14)) return -EINVAL;
        break;
    }
    return FakeFile::Madvise(at, bytes, advice);
  }

  long Lseek(off_t offset, int whence) override {
    if (offset != 0 || (whence != SEEK_SET && whence != SEEK_END)) return -EINVAL;
    return whence == SEEK_END ? static_cast<long>(bytes_) : 0;
  }

  // Before Linux 5.3 it has no inode of its own.
  void Fstat(struct stat* to) override {
    *to = {};
    to->st_mode = 0600;
    to->st_nlink = 1;
    to->st_blksize = static_cast<blksize_t>(PageBytes());
    to->st_dev = makedev(0, 12);
    to->st_ino = 1;
    if (origin_.linux < Linux(5, 3)) return;
    to->st_dev = makedev(0, 13);
    to->st_ino = id_;
    to->st_size = static_cast<off_t>(bytes_);
  }
  uint32_t FileSystem() override {
    constexpr uint32_t kAnonInodes = 0x09041934, kDmaBufs = 0x444d4142;
    return origin_.linux < Linux(5, 3) ? kAnonInodes : kDmaBufs;
  }

  std::string FdInfo(size_t count) override {
    if (origin_.linux < Linux(5, 3)) return "";
    return (origin_.linux < Linux(5, 14) ? "" : "ino:\t" + std::to_string(id_) + "\n") + "size:\t" +
           std::to_string(bytes_) + "\ncount:\t" + std::to_string(count) + "\nexp_name:\t" +
           origin_.name + "\n" + (named_ ? "name:\t" + name_ + "\n" : "");
  }

 private:
  long MapAs(int sharing, size_t bytes, int protection, int fd, off_t offset) {
    const int mode = ::fcntl(fd, F_GETFL) & O_ACCMODE;
    if (mode == O_WRONLY || ((protection & PROT_WRITE) != 0 && mode != O_RDWR)) return -EACCES;
    const auto from = static_cast<uint64_t>(offset);
    if (bytes == 0 || !IsPageAligned(from)) return -EINVAL;
    const uint64_t length = RoundUpToPages(bytes).value_or(UINT64_MAX);
    if (from > bytes_ || length > bytes_ - from) return -EINVAL;
    // The addresses first, and then each piece at its place in them.
    void* const base =
        ::mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return -errno;
    uint64_t at = 0;  // of the piece in the dma-buf
    for (const Piece& piece : pieces_) {
      const uint64_t begin = std::max(at, from), end = std::min(at + piece.bytes, from + length);
      if (begin < end &&
          ::mmap(static_cast<std::byte*>(base) + (begin - from), end - begin, protection,
                 sharing | MAP_FIXED, piece.memfd.valid() ? piece.memfd.get() : fd,
                 static_cast<off_t>(piece.offset + (begin - at))) == MAP_FAILED) {
        const int code = errno;
        ::munmap(base, length);
        return -code;
      }
      at += piece.bytes;
    }
    return static_cast<long>(reinterpret_cast<intptr_t>(base));
  }

  // Of ION's memory, on Linux 4.6 to 4.11: it answers, and no cache hears of it.
  long Sync(const void* argument) {
    dma_buf_sync sync;
    if (const long answer = CopyIn(&sync, argument, sizeof(sync)); answer != 0) return answer;
    const bool end = (sync.flags & DMA_BUF_SYNC_END) != 0;
    if ((sync.flags & ~uint64_t{DMA_BUF_SYNC_VALID_FLAGS_MASK}) != 0) return -EINVAL;
    if ((sync.flags & DMA_BUF_SYNC_RW) == 0) return -EINVAL;
    // udmabuf makes its scatter list at the first START.
    if (origin_.exporter == FakeExporter::kUdmabuf && end && !started_) return -EINVAL;
    started_ = true;
    return 0;
  }
  long SetName(const void* argument) {
    std::string name;
    for (const char* from = static_cast<const char*>(argument);; ++from) {
      char byte;
      if (const long answer = CopyIn(&byte, from, 1); answer != 0) return answer;
      if (byte == 0) break;
      name += byte;
      if (name.size() == DMA_BUF_NAME_LEN) return -EINVAL;
    }
    name_ = std::move(name);
    named_ = true;
    return 0;
  }

  const uint64_t id_;
  const Origin origin_;
  const std::vector<Piece> pieces_;
  uint64_t bytes_ = 0;
  std::string name_;
  bool named_ = false;
  bool started_ = false;
};

// A new dma-buf over all of a memfd: its descriptor.
inline long OpenDmaBuf(FakeFiles& files, UniqueFd memfd, uint64_t bytes,
                       const FakeDmaBuf::Origin& origin) {
  return files.Open(
      std::move(memfd),
      [&](uint64_t id) {
        std::vector<FakeDmaBuf::Piece> pieces;
        pieces.push_back({UniqueFd(), 0, bytes});
        return std::make_shared<FakeDmaBuf>(id, origin, std::move(pieces));
      },
      static_cast<unsigned>(origin.exporter));
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_DMA_BUF_H_
