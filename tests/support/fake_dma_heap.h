// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_dma_heap.h
//
// The nodes of /dev/dma_heap, and that directory (UAPI.md sections 3 and 6).

#ifndef ION_TESTS_SUPPORT_FAKE_DMA_HEAP_H_
#define ION_TESTS_SUPPORT_FAKE_DMA_HEAP_H_

#include <fcntl.h>
#include <linux/dma-heap.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ion/base/bytes.h"
#include "tests/support/fake_dma_buf.h"
#include "tests/support/fake_files.h"
#include "tests/support/fake_machine.h"

namespace ion::testing {

class FakeDmaHeap : public FakeNode {
 public:
  static constexpr unsigned kMajor = 252;

  FakeDmaHeap(FakeFiles& files, unsigned linux, unsigned minor, FakeHeapMemory& heap)
      : FakeNode(kMajor, minor), files_(files), linux_(linux), heap_(heap) {}

  // Only the number counts, not the type: SYNC of a dma-buf is number 0 too, and allocates. What a
  // struct of another size lacks is 0, and what it has beyond is not looked at.
  long Ioctl(int /*fd*/, unsigned long request, void* argument) override {
    if (_IOC_NR(request) != 0) return -EINVAL;
    const size_t bytes = _IOC_SIZE(request);
    dma_heap_allocation_data data{};
    const size_t in = (_IOC_DIR(request) & _IOC_WRITE) != 0 ? bytes : 0;
    const size_t out = (_IOC_DIR(request) & _IOC_READ) != 0 ? bytes : 0;
    std::vector<std::byte> all(std::max(bytes, sizeof(data)));
    if (in != 0) {
      if (const long answer = CopyIn(all.data(), argument, in); answer != 0) return answer;
    }
    std::memcpy(&data, all.data(), sizeof(data));
    const long fd = Allocate(data);
    if (fd < 0) return fd;
    data.fd = static_cast<uint32_t>(fd);
    std::memcpy(all.data(), &data, sizeof(data));
    return out == 0 ? 0 : CopyOut(argument, all.data(), out);
  }

 private:
  long Allocate(const dma_heap_allocation_data& data) {
    if (data.fd != 0) return -EINVAL;
    if ((data.fd_flags & ~uint32_t{O_CLOEXEC | O_ACCMODE}) != 0) return -EINVAL;
    if (data.heap_flags != 0) return -EINVAL;
    const uint64_t bytes = RoundUpToPages(data.len).value_or(0);
    if (bytes == 0) return -EINVAL;
    files_.Collect();
    const std::shared_ptr<FakeBuffer> memory = heap_.Take(bytes);
    // The system heap asks no question first: who takes too much is killed.
    if (memory == nullptr && heap_.OfRam()) ::raise(SIGKILL);
    if (memory == nullptr) return -ENOMEM;
    const std::string exporter = linux_ < Linux(5, 12) ? "heap_helpers" : heap_.heap().name;
    return OpenDmaBuf(files_, NewMemory("dmabuf", bytes, static_cast<int>(data.fd_flags)), bytes,
                      {linux_, FakeExporter::kDmaHeap, exporter, memory});
  }

  FakeFiles& files_;
  unsigned linux_;
  FakeHeapMemory& heap_;
};

class FakeDirectory : public FakeFile {
 public:
  explicit FakeDirectory(std::vector<std::string> names) : names_(std::move(names)) {}

  long Read() override { return -EISDIR; }
  void Fstat(struct stat* to) override {
    *to = {};
    to->st_mode = S_IFDIR | 0755;
    to->st_nlink = 2;
  }
  long Getdents(void* to, size_t bytes) override {
    size_t used = 0;
    for (; next_ < names_.size(); ++next_) {
      const std::string& name = names_[next_];
      const size_t entry_bytes = (offsetof(dirent64, d_name) + name.size() + 1 + 7) / 8 * 8;
      if (used + entry_bytes > bytes) return used == 0 ? -EINVAL : static_cast<long>(used);
      auto* entry = reinterpret_cast<dirent64*>(static_cast<std::byte*>(to) + used);
      entry->d_ino = next_ + 1;
      entry->d_off = static_cast<off_t>(next_ + 1);
      entry->d_reclen = static_cast<uint16_t>(entry_bytes);
      entry->d_type = DT_CHR;
      std::memcpy(entry->d_name, name.c_str(), name.size() + 1);
      used += entry_bytes;
    }
    return static_cast<long>(used);
  }

 private:
  std::vector<std::string> names_;
  size_t next_ = 0;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_DMA_HEAP_H_
