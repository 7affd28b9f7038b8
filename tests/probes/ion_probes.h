// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/probes/ion_probes.h
//
// What is asked of /dev/ion: of either ABI, and of the one without handles (Linux 4.12 to 5.10).

#ifndef ION_TESTS_PROBES_ION_PROBES_H_
#define ION_TESTS_PROBES_ION_PROBES_H_

#include <linux/dma-buf.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ion/base/syscalls.h"
#include "tests/probes/dma_buf_probes.h"
#include "tests/probes/ion_legacy_probes.h"
#include "tests/probes/kernel_probe.h"
#include "third_party/ion_uapi/ion.h"
#include "third_party/ion_uapi/ion_legacy.h"

namespace ion::testing::probes {

// The descriptor ABI: a buffer, or its errno.
template <Syscalls S>
Fd<S> FromIon(const S& sys, uint64_t bytes, uint32_t mask = 1, uint32_t flags = 0) {
  const Fd node = Open(sys, kIon);
  ion_uapi::ion_allocation_data data{
      .len = bytes, .heap_id_mask = mask, .flags = flags, .fd = 0, .unused = 0};
  const long answer = sys.Ioctl(node.get(), ion_uapi::kIocAlloc, &data);
  return Fd(sys, answer == 0 ? static_cast<long>(data.fd) : answer);
}

template <Syscalls S>
void AddIon(std::vector<Probe<S>>& all) {
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
             {LegacyIoctls::kFree, LegacyIoctls::kMap, LegacyIoctls::kShare, LegacyIoctls::kImport,
              LegacyIoctls::kCustom, LegacyIoctls::kSync}) {
          char data[32] = {};
          said += (said.empty() ? "" : " ") + Answer(sys.Ioctl(node.get(), request, data));
        }
        return said;
      });
  add("the handle ABI's ALLOC: larger than anything here", Ion(nullptr, "EINVAL"),
      [](const S& sys) {
        Legacy::ion_allocation_data data{};
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
  add("ALLOC of 0 bytes, SIZE_MAX, less than a page below it", Ion(nullptr, "EINVAL EINVAL EINVAL"),
      [](const S& sys) {
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

}  // namespace ion::testing::probes

#endif  // ION_TESTS_PROBES_ION_PROBES_H_
