// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_udmabuf.h
//
// /dev/udmabuf (UAPI.md sections 5 and 6), with the limits that the kernel has by default.

#ifndef ION_TESTS_SUPPORT_FAKE_UDMABUF_H_
#define ION_TESTS_SUPPORT_FAKE_UDMABUF_H_

#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "ion/base/bytes.h"
#include "tests/support/fake_dma_buf.h"
#include "tests/support/fake_files.h"

namespace ion::testing {

class FakeUdmabuf : public FakeNode {
 public:
  static constexpr uint64_t kMebibytes = 64, kItems = 1024;

  FakeUdmabuf(FakeFiles& files, unsigned linux) : FakeNode(10, 61), files_(files), linux_(linux) {}

  long Ioctl(int /*fd*/, unsigned long request, void* argument) override {
    if (request == UDMABUF_CREATE) {
      udmabuf_create create;
      if (const long answer = CopyIn(&create, argument, sizeof(create)); answer != 0) return answer;
      return Create(
          {{.memfd = create.memfd, .__pad = 0, .offset = create.offset, .size = create.size}},
          create.flags);
    }
    if (request != UDMABUF_CREATE_LIST) return -ENOTTY;
    struct {
      uint32_t flags, count;
    } head;
    static_assert(sizeof(head) == sizeof(udmabuf_create_list));
    if (const long answer = CopyIn(&head, argument, sizeof(head)); answer != 0) return answer;
    if (head.count > kItems) return -EINVAL;
    std::vector<udmabuf_create_item> items(head.count);
    const void* const from = static_cast<const std::byte*>(argument) + sizeof(head);
    if (head.count != 0) {
      const long answer = CopyIn(items.data(), from, items.size() * sizeof(items[0]));
      if (answer != 0) return answer;
    }
    return Create(items, head.flags);
  }

 private:
  long Create(const std::vector<udmabuf_create_item>& items, uint32_t flags) {
    uint64_t bytes = 0;
    for (const udmabuf_create_item& item : items) {
      if (!IsPageAligned(item.offset) || !IsPageAligned(item.size)) return -EINVAL;
      if (item.size > (kMebibytes << 20) - bytes) return -EINVAL;
      bytes += item.size;
    }
    if (bytes == 0) return -EINVAL;
    for (const udmabuf_create_item& item : items) {
      if (const long answer = Check(item); answer != 0) return answer;
    }
    // A descriptor of its own of each memfd but the first, which stands behind the dma-buf's.
    const uint32_t first = items[0].memfd;
    std::vector<FakeDmaBuf::Piece> pieces;
    for (const udmabuf_create_item& item : items) {
      UniqueFd memfd;
      if (item.memfd != first) memfd = OpenAgain(static_cast<int>(item.memfd), O_RDWR | O_CLOEXEC);
      if (item.memfd != first && !memfd.valid()) return -errno;
      pieces.push_back({std::move(memfd), item.offset, item.size});
    }
    const int close_on_exec = (flags & UDMABUF_FLAGS_CLOEXEC) != 0 ? O_CLOEXEC : 0;
    return files_.Open(
        OpenAgain(static_cast<int>(first), O_RDWR | close_on_exec),
        [&](uint64_t id) {
          const FakeDmaBuf::Origin origin{linux_, FakeExporter::kUdmabuf, "udmabuf"};
          return std::make_shared<FakeDmaBuf>(id, origin, std::move(pieces));
        },
        static_cast<unsigned>(FakeExporter::kUdmabuf));
  }

  // What is no memfd, and what is not sealed as it must be, is refused for another reason.
  long Check(const udmabuf_create_item& item) {
    const int fd = static_cast<int>(item.memfd);
    const int seals = files_.Of(fd) != nullptr ? -1 : ::fcntl(fd, F_GET_SEALS);
    if (seals < 0) return -EBADFD;
    if ((seals & F_SEAL_SHRINK) == 0 || (seals & F_SEAL_WRITE) != 0) return -EINVAL;
    struct stat status {};
    if (::fstat(fd, &status) != 0) return -errno;
    const auto size = static_cast<uint64_t>(status.st_size);
    return item.offset > size || item.size > size - item.offset ? -EINVAL : 0;
  }

  FakeFiles& files_;
  unsigned linux_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_UDMABUF_H_
