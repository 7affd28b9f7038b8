// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/ion_legacy.h
//
// IonLegacyBackend: dma-bufs from the heaps of /dev/ion as it was from Linux 3.0 to 4.11, where an
// allocation answers with a handle of the client (which a descriptor of /dev/ion is). As it was
// since, see backends/ion.h.
//
// A block keeps both, the handle and one dma-buf of it. The dma-buf is what is mapped, handed out
// and sent to drivers. The handle is what the kernel knows the memory by: all dma-bufs there have
// one inode, and two dma-bufs may be the same pages, but IMPORT answers with the handle that the
// client has of them already. It only lasts while it is kept. It also keeps the kernel's report of
// who holds what (debugfs) true, and vendors' ioctls ask by it. The price is one ioctl a release.
//
// The kernel does not tell what its heaps are (but for Linux 4.9 to 4.11): each id is tried with
// one page, and one that has no room for it is there all the same. Types and names are the
// platform's to declare (Options::heaps); without, a heap's id is its type, as in the kernel's
// example. So are a layout of the structs that is not Linux 3.10's (Abi:
// third_party/ion_uapi/ion_legacy.h), and a vendor's ioctls (backends/PORTING.md).
//
// CPU access: Linux 4.6 has DMA_BUF_IOCTL_SYNC. Before, ION_IOC_SYNC makes what the CPU wrote
// visible to devices, and there is no call for the other way. Cached memory is asked for without
// ION_FLAG_CACHED_NEEDS_SYNC, so that the kernel itself keeps track of what the CPU wrote.
//
// Example:
//   ion::Result<ion::IonLegacyBackend<>> backend = ion::IonLegacyBackend<>::Open({});
//
// Cost: two ioctls an allocation, one a release, two to identify; one descriptor in all.
// Thread-safe but for Open.
#ifndef ION_BACKENDS_ION_LEGACY_H_
#define ION_BACKENDS_ION_LEGACY_H_

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/dma_buf_backend.h"
#include "backends/ion_node.h"
#include "ion/backend.h"
#include "ion/syscalls.h"
#include "third_party/ion_uapi/ion_legacy.h"

namespace ion {

// What a platform knows of a heap of which the kernel tells no more than that there is one.
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
  static constexpr BackendCaps kCaps = {.customs = true};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of RAM where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string node = "/dev/ion";
    std::vector<IonLegacyHeap> heaps = {};  // empty: a heap's id is its type
    uint16_t private_flags = 0;             // HeapPrivate bits that this board's heaps know
  };

  // ENOENT: no such kernel interface. ENODEV: not a device of ION's kind, or no heap in it. ENOTTY:
  // it speaks the other ABI. Where no heap can be used: the first one's reason.
  static Result<IonLegacyBackend> Open(const Options& options) noexcept {
    auto shared = Base::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    Result<ScopedFd<Sys>> node = OpenIonNode<typename Abi::ion_handle_data>(
        kName, options.sys, *(*shared)->errors, options.node, IonAbi::kHandles);
    if (!node.ok()) return node.error();
    IonLegacyBackend backend(options.sys, std::move(*shared), *std::move(node),
                             options.private_flags);
    if (Error error = backend.List(options); !error.ok()) return error;
    return backend;
  }

  // The name is not told to the kernel, whose dma-bufs have names since Linux 5.3.
  // EINVAL: 0 bytes, or a flag that the heap cannot honour. ENOMEM: past the bound, or the
  // kernel's. EPERM: how a heap of CMA says that it has no room.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view /*name*/,
                 Block& block) noexcept {
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    const KernelHeap& heap = this->heaps()[kernel_heap];
    const Origin origin{kName, Operation::kAllocate, heap.name, bytes};
    if (Error error = CheckIonFlags(heap, flags, private_flags_, origin); !error.ok()) return error;
    const Result<Handle> handle = AllocateHandle(ids_[kernel_heap], charge->bytes(), flags, origin);
    if (!handle.ok()) return handle.error();
    FdData shared{.handle = *handle, .fd = -1};
    const long answer = Command(Ioctls::kShare, shared);
    if (Failed(answer)) {
      this->errors().Report(FreeHandle(*handle, charge->bytes()));
      return Error(ErrnoFrom(answer), "ION_IOC_SHARE", origin);
    }
    this->Fill(block, this->Own(shared.fd), charge->bytes(), kernel_heap, heap.properties);
    block.cached = Has(flags, Flags::kCached);
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

  Error BeginCpuAccess(const Block& block, Direction direction) noexcept {
    return AskForSync([&] { return Base::BeginCpuAccess(block, direction); });
  }
  // Before Linux 4.6 another driver's dma-buf has no call at all: whoever made it has to keep its
  // mappings coherent.
  Error EndCpuAccess(const Block& block, Direction direction) noexcept {
    if (!block.cached) return {};
    Error error = AskForSync([&] { return Base::EndCpuAccess(block, direction); });
    const bool wrote = direction != Direction::kRead;
    if (!error.ok() || !wrote || block.cookie == 0 || !lacks_sync_->load(std::memory_order_relaxed))
      return error;
    FdData data{.handle = {}, .fd = block.fd};
    const long answer = Command(Ioctls::kSync, data);
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "ION_IOC_SYNC",
                 {kName, Operation::kEndAccess, {}, block.bytes});
  }

  // By the client's handle. Of memory that no block of this backend is, it is only a guess of what
  // its handle is going to be; of another driver's it is unknown.
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
                   ScopedFd<Sys> node, uint16_t private_flags) noexcept
      : Base(kName, sys, std::move(shared)),
        node_(std::move(node)),
        private_flags_(private_flags),
        lacks_sync_(std::make_unique<std::atomic<bool>>(false)) {}

  static uint64_t Word(Handle handle) noexcept { return static_cast<uint64_t>(handle); }

  Error List(const Options& options) noexcept {
    const Origin origin{kName, Operation::kOpen, options.node};
    Result<std::vector<IonHeap>> listed =
        QueryIonHeaps(kName, this->sys(), node_.get(), options.node, /*cached_cma=*/false);
    // EINVAL: what a 32-bit kernel says to an ioctl that is larger than any that it knows.
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

  std::vector<IonHeap> Probe(const std::vector<IonLegacyHeap>& declared) noexcept {
    std::vector<IonHeap> heaps;
    for (unsigned id = 0; id < ion_uapi::kHeapIds; ++id) {
      KernelHeap heap = Declared(declared, id);
      const Origin origin{kName, Operation::kOpen, heap.name, PageBytes()};
      const Result<Handle> handle = AllocateHandle(id, PageBytes(), Flags::kNone, origin);
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

  static KernelHeap Declared(const std::vector<IonLegacyHeap>& declared, unsigned id) noexcept {
    const auto known = std::ranges::find(declared, id, &IonLegacyHeap::id);
    if (known != declared.end()) {
      return MakeIonHeap(known->name, static_cast<uint32_t>(known->type), known->cacheable);
    }
    const uint32_t type = declared.empty() ? id : ion_uapi::kHeapTypeDma + 1;
    std::string name = "heap " + std::to_string(id);
    if (type <= ion_uapi::kHeapTypeDma) name = HeapTypeName(static_cast<HeapType>(type));
    return MakeIonHeap(std::move(name), type, type != ion_uapi::kHeapTypeDma);
  }

  Result<Handle> AllocateHandle(unsigned id, uint64_t bytes, Flags flags,
                                const Origin& origin) const noexcept {
    typename Abi::ion_allocation_data data{};
    data.len = static_cast<decltype(data.len)>(bytes);
    data.align = static_cast<decltype(data.align)>(PageBytes());
    data.heap_id_mask = 1u << id;
    data.flags = IonFlags(flags);
    const long answer = Command(Ioctls::kAlloc, data);
    if (!Failed(answer)) return data.handle;
    return Error(ErrnoFrom(answer), "ION_IOC_ALLOC", origin,
                 answer == -EPERM ? "a heap of CMA answers -1, which reads EPERM, where it has no "
                                    "room in one piece: release some buffers"
                                  : nullptr);
  }
  Error FreeHandle(Handle handle, uint64_t bytes) const noexcept {
    typename Abi::ion_handle_data data{.handle = handle};
    const long answer = Command(Ioctls::kFree, data);
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "ION_IOC_FREE", {kName, Operation::kRelease, {}, bytes});
  }
  // None, where it is not ION's memory.
  Result<Handle> ImportHandle(int fd, const Origin& origin) const noexcept {
    FdData data{.handle = {}, .fd = fd};
    const long answer = Command(Ioctls::kImport, data);
    if (!Failed(answer)) return data.handle;
    if (answer == -EINVAL) return Handle{};
    return Error(ErrnoFrom(answer), "ION_IOC_IMPORT", origin);
  }

  // What the kernel answers to DMA_BUF_IOCTL_SYNC, which it is not asked again once it did not know
  // it (before Linux 4.6).
  template <class Ask>
  Error AskForSync(Ask ask) noexcept {
    if (lacks_sync_->load(std::memory_order_relaxed)) return {};
    Error error = ask();
    if (error.code() != ENOTTY) return error;
    lacks_sync_->store(true, std::memory_order_relaxed);
    return {};
  }

  ScopedFd<Sys> node_;
  uint16_t private_flags_;
  std::unique_ptr<std::atomic<bool>> lacks_sync_;
  std::vector<unsigned> ids_;  // of heaps(), in the same order
};
static_assert(BackendCheck<IonLegacyBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_ION_LEGACY_H_
