// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/ion_legacy.h
//
// IonLegacyBackend: dma-bufs from the heaps of /dev/ion of Linux 3.10 to 4.11 (with another Abi
// from 3.0), whose allocation answers with a handle of the client (a descriptor of /dev/ion is one). For newer kernels see
// backends/ion.h.
//
// A block keeps both, the handle and one dma-buf of it. The dma-buf is mapped, handed out and sent
// to drivers. The handle identifies the memory: all dma-bufs there have one inode, and two dma-bufs
// may be the same pages, but IMPORT answers with the handle that the client has of them already, as
// long as it keeps it. The handle also keeps the kernel's report of holders (debugfs) true, and
// vendors' ioctls take it. The price is one ioctl per release.
//
// The kernel does not tell what its heaps are (but for Linux 4.9 to 4.11): each id is tried with
// one page, and one that has no room for it is there all the same. Types and names are the
// platform's to declare (Options::heaps); without, a heap's id is its type, as in the kernel's
// example. So are a layout of the structs that is not Linux 3.10's (Abi:
// third_party/ion_uapi/ion_legacy.h), and a vendor's ioctls (backends/PORTING.md).
//
// CPU access: cached memory is asked for with ION_FLAG_CACHED_NEEDS_SYNC. With ION_FLAG_CACHED
// alone the kernel maps page by page, at each first touch, and if two threads touch one page at
// once its handler fails and the process is killed (Linux 4.2 and 4.9). So ION_IOC_SYNC makes the
// CPU's writes to ION's memory, imported or not, visible to devices at the end of each access that
// writes. The kernel has no call for the other way: the driver that maps the buffer for a device
// does that. DMA_BUF_IOCTL_SYNC of Linux 4.6 to 4.11 does nothing for caches of ION's memory, and
// answers 0; it is sent for other drivers' dma-bufs only. Fences are waited for by poll.
//
// Frees: a thread of the kernel's gives the memory of a carveout and of a heap of chunks back some
// time after a release, and until then the heap may answer ENOMEM. An allocation waits for it, up
// to kLongestWaitMs in all, the first time, and again if this backend has released memory since the
// last wait in vain.
//
// Linux 4.9 oopses where 1 MiB or more of cached memory is asked for and the system heap has no
// chunk of 1 MiB: /dev/ion hangs from then on. Nothing here can tell.
//
// Example:
//   ion::Result<ion::IonLegacyBackend<>> backend = ion::IonLegacyBackend<>::Open({});
//
// Cost: two ioctls an allocation, one a release, two to identify, one poll or one ioctl a CPU
// access of cached memory; one descriptor in all.
// Thread-safe but for Open.
#ifndef ION_BACKENDS_ION_LEGACY_H_
#define ION_BACKENDS_ION_LEGACY_H_

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/backends/dma_buf_backend.h"
#include "ion/backends/ion_node.h"
#include "ion/base/poll_until.h"
#include "ion/base/syscalls.h"
#include "ion/uapi/ion_legacy.h"

namespace ion {

// A platform's description of a heap, of which the kernel tells only that it exists.
struct IonLegacyHeap {
  unsigned id = 0;
  std::string name;
  HeapType type = HeapType::kCustom;
  bool cacheable = true;  // it takes ION_FLAG_CACHED (those of CMA do not)
};

template <Syscalls Sys = LinuxSyscalls, class Abi = ion_uapi::LegacyAbi<size_t>>
class IonLegacyBackend : public DmaBufBackend<Sys> {
  using Base = DmaBufBackend<Sys>;
  using Ioctls = ion_uapi::LegacyIoctls<Abi>;

 public:
  static constexpr const char* kName = "ion_legacy";
  static constexpr BackendCaps kCaps = {.customs = true, .fences = true};
  static constexpr int kLongestWaitMs = 63;

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string node = "/dev/ion";
    std::vector<IonLegacyHeap> heaps = {};  // empty: a heap's id is its type
    uint16_t private_flags = 0;             // HeapPrivate bits that this board's heaps know
  };

  // Opens the node. ENOENT: the kernel has no ION. ENODEV: the node is no device of ION's kind, or
  // has no heap. ENOTTY: it speaks the other ABI. If no heap can be used: the first one's error.
  static Result<IonLegacyBackend> Open(const Options& options) noexcept {
    return IonLegacyBackend::OpenWithMemory(kName, [&] { return OpenOrThrow(options); });
  }
  // Not for users: Open, which may throw bad_alloc.
  static Result<IonLegacyBackend> OpenOrThrow(const Options& options) {
    auto shared = Base::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    Result<ScopedFd<Sys>> node = OpenIonNode<typename Abi::ion_handle_data>(
        kName, options.sys, *(*shared)->errors, options.node, IonAbi::kHandles);
    if (!node.ok()) return node.error();
    IonLegacyBackend backend(options.sys, std::move(*shared), *std::move(node),
                             options.private_flags);
    if (backend.frees_ == nullptr) {
      return Error(ENOMEM, "operator new: its frees", {kName, Operation::kOpen, options.node});
    }
    if (Error error = backend.List(options); !error.ok()) return error;
    return backend;
  }

  // The name is not told to the kernel, whose dma-bufs have names since Linux 5.3.
  // EINVAL: 0 bytes, or a flag that the heap cannot honour. ENOMEM: past the bound, or the
  // kernel's, which may be waited for. EPERM: how a heap of CMA says that it has no room.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view /*name*/,
                 Block& block) noexcept {
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    const KernelHeap& heap = this->heaps()[kernel_heap];
    const Origin origin{kName, Operation::kAllocate, heap.name, bytes};
    if (Error error = CheckIonFlags(heap, flags, private_flags_, origin); !error.ok()) return error;
    const Result<Handle> handle =
        AllocateOrWait(heap.type, ids_[kernel_heap], charge->bytes(), flags, origin);
    if (!handle.ok()) return handle.error();
    FdData shared{.handle = *handle, .fd = -1};
    const long answer = Command(Ioctls::kShare, shared);
    if (Failed(answer)) {
      this->errors().Report(FreeHandle(*handle, charge->bytes()));
      return Error(ErrnoFrom(answer), "ION_IOC_SHARE", origin);
    }
    this->Fill(block, this->Own(shared.fd), charge->bytes(), kernel_heap, heap.properties);
    block.cached = IonCaching(heap, flags);
    block.cookie = Word(*handle);
    charge->Keep();
    return {};
  }

  // The first error is returned, a second one reported.
  Error Release(Block& block) noexcept {
    const uint64_t handle = block.cookie, bytes = block.bytes;
    Error first = Base::Release(block);
    if (handle == 0) return first;
    Error error = FreeHandle(static_cast<Handle>(handle), bytes);
    if (first.ok()) return error;
    this->errors().Report(error);
    return first;
  }

  Result<bool> IsIdle(const Block& block) noexcept { return this->PollFences(block); }
  Error AwaitFences(const Block& block, Direction direction, Deadline deadline) noexcept {
    return this->PollFencesUntil(block, direction, deadline);
  }
  Error BeginCpuAccess(const Block& block, Direction direction) noexcept {
    if (!IsOfIon(block)) return IfKnown(Base::BeginCpuAccess(block, direction));
    // As DMA_BUF_IOCTL_SYNC, which would also map the whole buffer into the kernel. Before Linux
    // 3.17 nothing has fences.
    return block.cached.no() ? Error() : this->PollFencesUntil(block, direction, kNoDeadline);
  }
  // Before Linux 4.6 another driver's dma-buf has no call at all: whoever made it has to keep its
  // mappings coherent.
  Error EndCpuAccess(const Block& block, Direction direction) noexcept {
    if (!IsOfIon(block)) return IfKnown(Base::EndCpuAccess(block, direction));
    if (block.cached.no() || direction == Direction::kRead) return {};
    FdData data{.handle = {}, .fd = block.fd};
    const long answer = Command(Ioctls::kSync, data);
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "ION_IOC_SYNC",
                 {kName, Operation::kEndAccess, {}, block.bytes});
  }

  // Identifies by the client's handle. For memory of ION that this backend has no block of, the
  // identity is a guess of its future handle; for another driver's memory it is unknown.
  Result<BufferIdentity> Identify(FdRef fd, Operation operation) noexcept {
    const Origin origin{kName, operation};
    const Result<Handle> handle = ImportHandle(fd.get(), origin);
    if (!handle.ok()) return handle.error();
    if (*handle == Handle{}) return BufferIdentity();
    this->errors().Report(FreeHandle(*handle, 0));
    return BufferIdentity{.device = 0, .inode = Word(*handle)};
  }

  // As DmaBufBackend's. ION's own memory is another handle of it, or one more count of the one that
  // a block has.
  Error Import(FdRef fd, Block& block) noexcept {
    if (Error error = Base::Import(fd, block); !error.ok()) return error;
    const Result<Handle> handle = ImportHandle(block.fd, {kName, Operation::kImport});
    if (handle.ok()) {
      block.cookie = Word(*handle);
      return {};
    }
    this->errors().Report(Base::Release(block));
    return handle.error();
  }

  // ION_IOC_CUSTOM. ENOTTY: this kernel has no commands of its own. EINVAL: an argument that is
  // more than the kernel's word.
  Error Custom(uint32_t command, uint64_t argument) noexcept {
    typename Abi::ion_custom_data data{.cmd = command, .arg = {}};
    const Origin origin{kName, Operation::kCustom};
    if (argument > std::numeric_limits<decltype(data.arg)>::max()) {
      return Error(EINVAL, "more than an argument holds", origin);
    }
    data.arg = static_cast<decltype(data.arg)>(argument);
    const long answer = Command(Ioctls::kCustom, data);
    if (Failed(answer)) return Error(ErrnoFrom(answer), "ION_IOC_CUSTOM", origin);
    return {};
  }

 protected:
  using Handle = typename Abi::Handle;  // all zero: none

  // For a vendor's ioctls, which ask by handle.
  static Handle HandleOf(const Block& block) noexcept { return static_cast<Handle>(block.cookie); }
  template <class Data>
  long Command(unsigned long request, Data& data) const noexcept {
    return IoctlRetrying(this->sys(), node_.get(), request, &data);
  }

 private:
  using FdData = typename Abi::ion_fd_data;

  IonLegacyBackend(const Sys& sys, std::unique_ptr<typename Base::Shared> shared,
                   ScopedFd<Sys> node, uint16_t private_flags)
      : Base(kName, sys, std::move(shared)),
        node_(std::move(node)),
        private_flags_(private_flags),
        frees_(new(std::nothrow) Frees) {}

  static uint64_t Word(Handle handle) noexcept { return static_cast<uint64_t>(handle); }

  Error List(const Options& options) {
    const Origin origin{kName, Operation::kOpen, options.node};
    Result<std::vector<IonHeap>> listed =
        QueryIonHeaps(kName, this->sys(), node_.get(), options.node, /*cached_cma=*/false);
    // EINVAL: the answer of a 32-bit kernel to an ioctl that is larger than any that it knows.
    const int code = listed.error().code();
    if (code == ENOTTY || code == EINVAL) listed = Probe(options.heaps);
    if (!listed.ok()) return listed.error();
    for (IonHeap& heap : *listed) {
      ids_.push_back(heap.id);
      this->AddHeap(std::move(heap.heap));
    }
    return this->CheckHeaps(Error(ENODEV, "ION_IOC_ALLOC: no heap for any id", origin,
                                  "the board's ION driver has to add one (ion_device_add_heap)"));
  }

  std::vector<IonHeap> Probe(const std::vector<IonLegacyHeap>& declared) {
    std::vector<IonHeap> heaps;
    for (unsigned id = 0; id < ion_uapi::kHeapIds; ++id) {
      KernelHeap heap = Declared(declared, id);
      const Origin origin{kName, Operation::kOpen, heap.name, PageBytes()};
      const Result<Handle> handle =
          AllocateHandle(heap.type, id, PageBytes(), Flags::kNone, origin);
      const int code = handle.error().code();
      if (code == ENODEV) continue;
      if (handle.ok()) {
        this->errors().Report(FreeHandle(*handle, PageBytes()));
      } else if (code == ENOMEM || code == EPERM) {
        this->errors().Report(handle.error());  // there is one, which has no room at the moment
      } else {
        heap.unusable = handle.error();
      }
      heaps.push_back({id, std::move(heap)});
    }
    return heaps;
  }

  static KernelHeap Declared(const std::vector<IonLegacyHeap>& declared, unsigned id) {
    const auto known = std::ranges::find(declared, id, &IonLegacyHeap::id);
    if (known != declared.end()) {
      return MakeIonHeap(known->name, static_cast<uint32_t>(known->type), known->cacheable);
    }
    const uint32_t type = declared.empty() ? id : ion_uapi::kHeapTypeDma + 1;
    std::string name = "heap " + std::to_string(id);
    if (type <= ion_uapi::kHeapTypeDma) name = HeapTypeName(static_cast<HeapType>(type));
    return MakeIonHeap(std::move(name), type, type != ion_uapi::kHeapTypeDma);
  }

  Result<Handle> AllocateHandle(HeapType type, unsigned id, uint64_t bytes, Flags flags,
                                const Origin& origin) const noexcept {
    typename Abi::ion_allocation_data data{};
    data.len = static_cast<decltype(data.len)>(bytes);
    if (data.len != bytes) return Error(ENOMEM, "more than a 32-bit program can name", origin);
    data.align = static_cast<decltype(data.align)>(PageBytes());
    data.heap_id_mask = 1u << id;
    data.flags = IonFlags(flags) |
                 (Has(flags, Flags::kCached) ? uint32_t{ion_uapi::kFlagCachedNeedsSync} : 0);
    const long answer = Command(Ioctls::kAlloc, data);
    if (!Failed(answer)) return data.handle;
    return Error(ErrnoFrom(answer), "ION_IOC_ALLOC", origin,
                 IonAllocationHint(answer, type, bytes));
  }
  Result<Handle> AllocateOrWait(HeapType type, unsigned id, uint64_t bytes, Flags flags,
                                const Origin& origin) noexcept {
    Result<Handle> handle = AllocateHandle(type, id, bytes, flags, origin);
    const bool frees_at_once =
        type == HeapType::kSystem || type == HeapType::kSystemContig || type == HeapType::kDma;
    if (handle.error().code() != ENOMEM || frees_at_once) return handle;
    const uint64_t released = frees_->released.load(std::memory_order_relaxed);
    if (released == frees_->waited_for.load(std::memory_order_relaxed)) return handle;
    for (int waited = 0, wait = 1; waited < kLongestWaitMs; waited += wait, wait *= 2) {
      (void)this->sys().Poll(nullptr, 0, wait);
      handle = AllocateHandle(type, id, bytes, flags, origin);
      if (handle.error().code() != ENOMEM) return handle;
    }
    frees_->waited_for.store(released, std::memory_order_relaxed);
    return handle;
  }
  Error FreeHandle(Handle handle, uint64_t bytes) const noexcept {
    typename Abi::ion_handle_data data{.handle = handle};
    const long answer = Command(Ioctls::kFree, data);
    frees_->released.fetch_add(1, std::memory_order_relaxed);
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "ION_IOC_FREE", {kName, Operation::kRelease, {}, bytes});
  }
  // Returns no handle for memory that is not ION's.
  Result<Handle> ImportHandle(int fd, const Origin& origin) const noexcept {
    FdData data{.handle = {}, .fd = fd};
    const long answer = Command(Ioctls::kImport, data);
    if (!Failed(answer)) return data.handle;
    if (answer == -EINVAL) return Handle{};
    return Error(ErrnoFrom(answer), "ION_IOC_IMPORT", origin);
  }

  // Returns true if ION made the memory, by this client's handle of it.
  static bool IsOfIon(const Block& block) noexcept { return block.cookie != 0; }
  // DMA_BUF_IOCTL_SYNC is Linux 4.6's.
  static Error IfKnown(Error error) noexcept { return error.code() == ENOTTY ? Error() : error; }

  struct Frees {
    static constexpr uint64_t kNever = UINT64_MAX;
    std::atomic<uint64_t> released{0};         // handles, by now
    std::atomic<uint64_t> waited_for{kNever};  // how many of them the last wait in vain was for
  };

  ScopedFd<Sys> node_;
  uint16_t private_flags_;
  std::unique_ptr<Frees> frees_;
  std::vector<unsigned> ids_;  // of heaps(), in the same order
};
static_assert(BackendCheck<IonLegacyBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_ION_LEGACY_H_
