// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/probes/ion_legacy_probes.h
//
// What is asked of /dev/ion where it has handles (before Linux 4.12).

#ifndef ION_TESTS_PROBES_ION_LEGACY_PROBES_H_
#define ION_TESTS_PROBES_ION_LEGACY_PROBES_H_

#include <fcntl.h>
#include <linux/dma-buf.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ion/base/syscalls.h"
#include "tests/probes/kernel_probe.h"
#include "third_party/ion_uapi/ion.h"
#include "third_party/ion_uapi/ion_legacy.h"

namespace ion::testing::probes {

inline constexpr const char* kIon = "/dev/ion";
using Legacy = ion_uapi::LegacyAbi<unsigned long>;
using LegacyIoctls = ion_uapi::LegacyIoctls<Legacy>;

// The handle ABI, of one client. Word: unsigned long of the program.
template <Syscalls S, class Word = unsigned long>
class IonClient {
 public:
  using Abi = ion_uapi::LegacyAbi<Word>;
  using Ioctls = ion_uapi::LegacyIoctls<Abi>;

  explicit IonClient(const S& sys) : sys_(sys), node_(Open(sys, kIon)) {}

  long Ioctl(unsigned long request, void* argument) {
    return sys_.Ioctl(node_.get(), request, argument);
  }
  // An id, or -errno.
  long Allocate(uint64_t bytes, uint32_t mask = 1, uint32_t flags = 0, uint64_t align = kPage) {
    typename Abi::ion_allocation_data data{};
    data.len = static_cast<Word>(bytes);
    data.align = static_cast<Word>(align);
    data.heap_id_mask = mask;
    data.flags = flags;
    const long answer = Ioctl(Ioctls::kAlloc, &data);
    return answer == 0 ? data.handle : answer;
  }
  std::string Allocated(uint64_t bytes, uint32_t mask = 1, uint32_t flags = 0,
                        uint64_t align = kPage) {
    const long handle = Allocate(bytes, mask, flags, align);
    if (handle < 0) return Answer(handle);
    Free(handle);
    return "ok";
  }
  // Of a region, from which something was released before: that may take a moment to be free.
  std::string AllocatedLate(uint64_t bytes, uint32_t mask) {
    std::string said = Allocated(bytes, mask);
    for (int i = 0; i < 200 && said == "ENOMEM"; ++i) {
      sys_.Poll(nullptr, 0, 10);
      said = Allocated(bytes, mask);
    }
    return said;
  }
  std::string Free(long handle) {
    typename Abi::ion_handle_data data{.handle = static_cast<int>(handle)};
    return Answer(Ioctl(Ioctls::kFree, &data));
  }
  Fd<S> Share(long handle, unsigned long request = Ioctls::kShare) {
    typename Abi::ion_fd_data data{.handle = static_cast<int>(handle), .fd = -1};
    const long answer = Ioctl(request, &data);
    return Fd(sys_, answer == 0 ? data.fd : answer);
  }
  long Import(const Fd<S>& fd) {
    typename Abi::ion_fd_data data{.handle = 0, .fd = static_cast<int>(fd.answer())};
    const long answer = Ioctl(Ioctls::kImport, &data);
    return answer == 0 ? data.handle : answer;
  }
  std::string Sync(int fd) {
    typename Abi::ion_fd_data data{.handle = 0, .fd = fd};
    return Answer(Ioctl(Ioctls::kSync, &data));
  }

 private:
  const S& sys_;
  Fd<S> node_;
};
// A dma-buf that alone holds its memory: its client has gone.
template <Syscalls S>
Fd<S> Orphan(const S& sys) {
  IonClient client(sys);
  return client.Share(client.Allocate(kBytes));
}

template <Syscalls S>
void AddLegacyIon(std::vector<Probe<S>>& all) {
  const auto add_known = [&](const char* fact, const KnownAnswers& answers, auto ask) {
    all.push_back({kIon, std::string("ion, handles: ") + fact, answers, [ask](const S& sys) {
                     IonClient client(sys);
                     return ask(sys, client);
                   }});
  };
  const auto add = [&](const char* fact, const char* answer, auto ask) {
    add_known(fact, Ion(answer, nullptr), ask);
  };
  const auto add_both = [&](const char* fact, const char* answer, auto ask) {
    add_known(fact, Handles(answer, answer), ask);
  };
  using C = IonClient<S>&;
  add_both("the descriptor ABI's ALLOC, and CUSTOM", "ENOTTY ENOTTY", [](const S&, C client) {
    char data[32] = {};
    return Join({Answer(client.Ioctl(ion_uapi::kIocAlloc, data)),
                 Answer(client.Ioctl(LegacyIoctls::kCustom, data))});
  });
  add_known("HEAP_QUERY for the count, for the list", Handles("ENOTTY ENOTTY", "ok EINVAL, filled"),
            [](const S&, C client) {
              ion_uapi::ion_heap_query query{};
              std::string said = Answer(client.Ioctl(ion_uapi::kIocHeapQuery, &query));
              const uint32_t count = query.cnt;
              std::vector<ion_uapi::ion_heap_data> heaps(count + 1);
              query.heaps = reinterpret_cast<uintptr_t>(heaps.data());
              said += " " + Answer(client.Ioctl(ion_uapi::kIocHeapQuery, &query));
              const bool filled = count != 0 && query.cnt == count && heaps[0].name[0] != 0;
              return said + (filled ? ", filled" : "");
            });
  add("the ids 0 to 3 have a heap, and 31 has none", "ok ok ok ok ENODEV", [](const S&, C client) {
    std::string said;
    for (const unsigned id : {0, 1, 2, 3, 31}) {
      said += (said.empty() ? "" : " ") + client.Allocated(kPage, 1u << id);
    }
    return said;
  });
  add_both("ALLOC aligned to 0, to 3, with flags that nobody has", "ok ok ok",
           [](const S&, C client) {
             return Join({client.Allocated(kPage, 1, 0, 0), client.Allocated(kPage, 1, 0, 3),
                          client.Allocated(kPage, 1, 0xfffc)});
           });
  add("ALLOC of no heap", "ENODEV", [](const S&, C client) { return client.Allocated(kPage, 0); });
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
  add_both("ALLOC of 4 MiB and of 8 in one run", "ok ENOMEM", [](const S&, C client) {
    return Join({client.Allocated(4 << 20, 2), client.Allocated(8 << 20, 2)});
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
    return IonClient(sys).Free(handle);
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
  add_known("DMA_BUF_IOCTL_SYNC of a share", Handles("ENOTTY", "ok"), [](const S& sys, C client) {
    const long handle = client.Allocate(kPage);
    const Fd share = client.Share(handle);
    dma_buf_sync sync{.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW};
    return Answer(sys.Ioctl(share.get(), DMA_BUF_IOCTL_SYNC, &sync));
  });
  add("MAP_PRIVATE of several segments: cached, uncached, cached with NEEDS_SYNC",
      "ok EINVAL EINVAL", [](const S& sys, C client) {
        constexpr uint64_t kSegments = 3 * (64 << 10);
        std::string said;
        for (const uint32_t flags : {1, 0, 1 | 2}) {
          const long handle = client.Allocate(kSegments, 1, flags);
          said += (said.empty() ? "" : " ") + SaidMapPrivate(sys, client.Share(handle), kSegments);
        }
        return said;
      });
  add("SHARE and MAP: two dma-bufs of the same pages", "1 2", [](const S& sys, C client) {
    const long handle = client.Allocate(kBytes);
    const Fd one = client.Share(handle), two = client.Share(handle, LegacyIoctls::kMap);
    const auto put_and_get = [&](const Fd<S>& to, const Fd<S>& from, char byte) {
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
        const auto rest = [&] { return IonClient(sys).Allocated(4 << 20, 4); };
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
        return Join({said, client.AllocatedLate(4 << 20, 4)});
      });
  add("a client that closes, with handles left", "ENOMEM ok", [](const S& sys, C client) {
    std::string said;
    {
      IonClient other(sys);
      other.Allocate(kPage, 4);
      said = client.Allocated(4 << 20, 4);
    }
    return Join({said, client.AllocatedLate(4 << 20, 4)});
  });
}

// The same by the door of 32-bit programs, on a 64-bit kernel.
inline constexpr const char* kIonDoor32 = "/dev/ion of a 32-bit program";
template <Syscalls S>
void AddLegacyIonDoor32(std::vector<Probe<S>>& all) {
  using Client = IonClient<S, uint32_t>;
  const auto add = [&](const char* fact, const char* answer, auto ask) {
    all.push_back({kIonDoor32, std::string("ion, handles, 32 bits: ") + fact,
                   Handles(answer, answer), [ask](const S& sys) {
                     Client client(sys);
                     return ask(client);
                   }});
  };
  add("the descriptor ABI's ALLOC, HEAP_QUERY, an ioctl that is too large, an unknown one",
      "ENOTTY ENOTTY ENOTTY ENOTTY", [](Client& client) {
        char data[128] = {};
        constexpr unsigned kBoth = _IOC_READ | _IOC_WRITE;
        return Join({Answer(client.Ioctl(ion_uapi::kIocAlloc, data)),
                     Answer(client.Ioctl(ion_uapi::kIocHeapQuery, data)),
                     Answer(client.Ioctl(ion_uapi::Request(kBoth, 1, sizeof(data)), data)),
                     Answer(client.Ioctl(ion_uapi::Request(kBoth, 77, 4), data))});
      });
  add("ALLOC of 0 bytes, SIZE_MAX", "EINVAL ENOMEM", [](Client& client) {
    return Join({client.Allocated(0), client.Allocated(UINT32_MAX)});
  });
  add("FREE of the handle 0", "EINVAL", [](Client& client) { return client.Free(0); });
  add("ALLOC, SHARE, SYNC, FREE", "ok ok ok", [](Client& client) {
    const long handle = client.Allocate(kPage);
    const Fd share = client.Share(handle);
    return Join({share.said(), client.Sync(share.get()), client.Free(handle)});
  });
}

}  // namespace ion::testing::probes

#endif  // ION_TESTS_PROBES_ION_LEGACY_PROBES_H_
