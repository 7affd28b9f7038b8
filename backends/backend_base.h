// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/backend_base.h
//
// BackendBase: the common part of all backends over a Syscalls policy: it lists heaps, bounds
// requests, maps and unmaps descriptors, copies them, and releases memory. A backend derives from
// it and adds the allocation.
//
// A mapping that munmap refuses is kept, and tried again at the next allocation or release; that of
// a whole buffer keeps the buffer's bytes charged until then (a part's does not).
//
// Cost: two shared pointers, a mutex that is only taken where an unmap was refused. Thread-safe.
#ifndef ION_BACKENDS_BACKEND_BASE_H_
#define ION_BACKENDS_BACKEND_BASE_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/backends/fd_info_files.h"
#include "ion/backends/local_file.h"
#include "ion/backends/scoped_fd.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/lacks_pages.h"
#include "ion/base/linux_release.h"
#include "ion/base/memory_limit.h"
#include "ion/base/syscalls.h"
#include "ion/base/told_once.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"

namespace ion {

template <Syscalls Sys>
class BackendBase {
 public:
  const char* name() const noexcept { return name_; }
  std::span<const KernelHeap> heaps() const noexcept {
    return {heaps_.data(), shared_->heap_count.load(std::memory_order_acquire)};
  }
  // For advice.
  LinuxRelease linux_release() const noexcept { return LinuxRelease::Read(sys_); }
  Budget& budget() const noexcept { return *shared_->budget; }
  ErrorSink& errors() const noexcept { return *shared_->errors; }

  // Maps whole pages; the last page may be cut by the block's end if a foreign exporter gave it an
  // odd size. EINVAL: the range is not whole pages, is empty, or ends past the block. EACCES: a
  // writable mapping of memory that may only be read.
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    if (Error error = CheckMap(block, offset, bytes, mode); !error.ok()) return error;
    return MapDescriptor(FdRef(block.fd), block.offset + offset, bytes, mode);
  }

  // Unmaps. After an error the backend keeps the mapping and tries again later; to the caller it is
  // gone.
  Error Unmap(std::byte* at, uint64_t bytes) noexcept {
    if (shared_->part_count.load(std::memory_order_relaxed) != 0) TakePart(at, bytes);
    return UnmapOrKeep(at, bytes, 0);
  }

  // MADV_POPULATE_WRITE (Linux 5.14) puts the pages in place; if its error is one of memory
  // (internal::IsOfPages), the next touch would be a SIGBUS, and there is no mapping. After another
  // error the pages come when they are touched: the kernel does not know the call, a driver has
  // mapped them all at once (EINVAL), or a sandbox refuses it.
  Result<std::byte*> MapToKeep(const Block& block) noexcept {
    return MakeKept(block, Map(block, 0, block.bytes, WidestMode(block)));
  }

  Error Abandon(Block& block) noexcept {
    const uint64_t bytes = block.bytes;
    const long answer = sys_.Close(block.fd);
    block.Empty();
    if (!Failed(answer)) return {};
    return Error(ErrnoFrom(answer), "close", {name_, Operation::kRelease, {}, bytes});
  }

  // A copy of the descriptor, for somebody else.
  Result<UniqueFd> Share(const Block& block) noexcept {
    auto copy = Duplicate(FdRef(block.fd), {name_, Operation::kShare, {}, block.bytes});
    if (!copy.ok()) return copy.error();
    return UniqueFd(copy->release());
  }

  // EBADF: not open.
  Result<BufferIdentity> Identify(FdRef fd, Operation operation) noexcept {
    struct stat st {};
    if (const long answer = sys_.Fstat(fd.get(), &st); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstat", {name_, operation});
    }
    return BufferIdentity{.device = st.st_dev, .inode = st.st_ino};
  }

  // Returns true if two descriptors certainly lead to one memfd or dma-buf, whatever else they may
  // lead to. False also where the kernel cannot be asked.
  bool IsSameFile(FdRef a, FdRef b) const noexcept {
    const long same = sys_.SameInode(a.get(), b.get());
    return !Failed(same) && same != 0;
  }

  // Gives a block's mapping, descriptor and bytes back, and empties it. The first error is
  // returned, a second one reported; nothing is left undone because of them.
  Error Release(Block& block) noexcept {
    RetryUnmaps();
    Error first;
    uint64_t charge = block.filled() && !block.foreign ? block.bytes : 0;
    if (block.mapping != nullptr) {
      // The mapping alone keeps the memory alive, so the bytes stay charged as long as it does.
      first = UnmapOrKeep(block.mapping, block.bytes, charge);
      if (!first.ok()) charge = 0;
    }
    if (const long answer = sys_.Close(block.fd); Failed(answer)) {
      const Error error(ErrnoFrom(answer), "close", {name_, Operation::kRelease, {}, block.bytes});
      if (first.ok()) {
        first = error;
      } else {
        errors().Report(error);
      }
    }
    budget().Give(charge);
    block.Empty();
    return first;
  }

  // Mappings that munmap refused and that wait for another try.
  size_t kept_mappings() const noexcept {
    return shared_->kept_count.load(std::memory_order_relaxed);
  }
  // Tries them again. Each allocation and each release does it; for a backend over several, which
  // share one budget.
  void RetryUnmaps() noexcept {
    if (kept_mappings() == 0) return;
    std::lock_guard lock(shared_->mutex);
    for (Kept** link = &shared_->kept; *link != nullptr;) {
      Kept* kept = *link;
      if (Failed(sys_.Munmap(kept->at, AddressableBytes(kept->bytes)))) {
        link = &kept->next;
        continue;
      }
      budget().Give(kept->charge);
      *link = kept->next;
      delete kept;
      shared_->kept_count.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  // Returns true if `at` is a part of a mapping of the whole that this backend made (MapPart): only
  // its own Unmap ends all of it.
  bool HasPart(const std::byte* at) const noexcept {
    if (shared_->part_count.load(std::memory_order_relaxed) == 0) return false;
    std::lock_guard lock(shared_->mutex);
    const Part* part = shared_->parts;
    while (part != nullptr && part->at != at) part = part->next;
    return part != nullptr;
  }

 protected:
  // MADV_POPULATE_WRITE, which older headers do not name.
  static constexpr int kPopulateWrite = 23;

  struct Kept {
    std::byte* at;
    uint64_t bytes;
    uint64_t charge;
    Kept* next;
  };
  // A part that was handed out of a mapping of the whole.
  struct Part {
    std::byte* at;
    std::byte* whole;
    uint64_t bytes;  // of the whole
    Part* next;
  };
  struct Shared {
    Shared() = default;
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() {
      while (kept != nullptr) delete std::exchange(kept, kept->next);
      while (parts != nullptr) delete std::exchange(parts, parts->next);
    }

    std::shared_ptr<Budget> budget;
    std::shared_ptr<ErrorSink> errors;
    std::mutex mutex;
    Kept* kept = nullptr;
    std::atomic<size_t> kept_count{0};
    Part* parts = nullptr;
    std::atomic<size_t> part_count{0};
    std::atomic<size_t> heap_count{0};  // those that are listed
    // Bits, of the first 64 kernel heaps: its driver maps memory so that no page can be lent.
    std::atomic<uint64_t> never_lend{0};
    std::mutex list_mutex;  // of an append to them
    internal::ToldOnce holders_hidden, lending;
    FdInfoFiles fd_infos;
  };

  BackendBase(const char* name, const Sys& sys, std::unique_ptr<Shared> shared) noexcept
      : name_(name), sys_(sys), shared_(std::move(shared)) {}
  BackendBase(BackendBase&&) noexcept = default;
  ~BackendBase() {
    if (shared_ == nullptr) return;
    RetryUnmaps();
    shared_->fd_infos.Close(sys_, errors(), name_);
  }

  // Makes the state from a backend's Options and the defaults: a budget of half of the memory that
  // this process can have, and a sink that only counts. May throw bad_alloc.
  template <class Options>
  static Result<std::unique_ptr<Shared>> MakeShared(const char* name, const Options& options) {
    std::unique_ptr<Shared> shared(new (std::nothrow) Shared);
    if (shared == nullptr) return Error(ENOMEM, "operator new", {name, Operation::kOpen});
    shared->budget = options.budget;
    if (shared->budget == nullptr) {
      const Result<MemoryLimit> limit = MemoryLimit::Read(name, options.sys);
      if (!limit.ok()) return limit.error();
      shared->budget = std::make_shared<Budget>(limit->bytes / 2);
    }
    shared->errors = options.errors != nullptr ? options.errors : std::make_shared<ErrorSink>();
    return shared;
  }

  // The most that a block can name (Block::kernel_heap).
  static constexpr size_t kMaxHeaps = 256;

  // Heaps are added while the backend is opened; and later, under list_mutex, by a backend that
  // called KeepHeapsInPlace. False: there is no room for more. May
  // throw bad_alloc.
  bool AddHeap(KernelHeap heap) {
    if (heaps_.size() == kMaxHeaps) return false;
    heap.interface = name_;
    heaps_.push_back(std::move(heap));
    shared_->heap_count.store(heaps_.size(), std::memory_order_release);
    return true;
  }
  // From here on heaps that are added move none that others read.
  void KeepHeapsInPlace() { heaps_.reserve(kMaxHeaps); }
  std::mutex& list_mutex() noexcept { return shared_->list_mutex; }
  // open(), which makes a backend; ENOMEM where operator new throws in it.
  template <class F>
  static std::invoke_result_t<F> OpenWithMemory(const char* name, F open) noexcept {
    return internal::WithMemory(open, [&] {
      return Error(ENOMEM, "operator new", {name, Operation::kOpen});
    });
  }
  // Returns the error of a backend without a usable heap: `none` if it has no heap, else the first
  // heap's reason.
  Error CheckHeaps(const Error& none) const noexcept {
    if (heaps_.empty()) return none;
    const auto usable = [](const KernelHeap& heap) { return heap.unusable.ok(); };
    return std::ranges::any_of(heaps_, usable) ? Error() : heaps_.front().unusable;
  }

  // The way into every allocation: finds the heap, rounds up to pages and takes them from the
  // budget. ENODEV: there is no such heap. One that cannot be used answers with its reason.
  Result<Charge> Admit(uint32_t kernel_heap, uint64_t bytes) noexcept {
    RetryUnmaps();
    if (kernel_heap >= heaps().size()) {
      return Error(ENODEV, "no such heap", {name_, Operation::kAllocate, {}, bytes});
    }
    const KernelHeap& heap = heaps_[kernel_heap];
    if (!heap.unusable.ok()) return heap.unusable;
    // A backend's only heap may have its name, which is said once.
    const std::string_view node = heap.name == name_ ? std::string_view() : heap.name;
    const Origin origin{name_, Operation::kAllocate, node, bytes};
    if (bytes == 0) return Error(EINVAL, "a request of 0 bytes", origin);
    const std::optional<uint64_t> rounded = RoundUpToPages(bytes);
    if (!rounded.has_value() || *rounded > PTRDIFF_MAX) {
      return Error(EINVAL, "more bytes than there are addresses", origin);
    }
    if (!budget().Take(*rounded)) return PastBound(origin);
    return Charge(budget(), *rounded);
  }
  // Charges the bytes that came, if the kernel has given more than Admit charged. ENOMEM: they are
  // past the bound; EIO: they are fewer, or no whole pages. The memory has to go back then. Fill the
  // block with the bytes that came.
  Error AdmitMore(Charge& charge, uint64_t came_bytes, const Origin& origin) noexcept {
    if (came_bytes < charge.bytes() || came_bytes > PTRDIFF_MAX || !IsPageAligned(came_bytes)) {
      return Error(EIO, "the driver gave fewer bytes than it was asked for, or no whole pages",
                   origin);
    }
    return charge.GrowTo(came_bytes) ? Error() : PastBound(origin);
  }

  // Returns the error of a Map, if one can be told before the kernel is asked. EINVAL: the block has
  // no memory, or the range is not whole pages, is empty, or ends past the block. EACCES: a writable
  // mapping of memory that may only be read.
  Error CheckMap(const Block& block, uint64_t offset, uint64_t bytes, MapMode mode) const noexcept {
    const Origin origin{name_, Operation::kMap, {}, bytes};
    if (!block.filled()) return Error(EINVAL, "the block has no memory", origin);
    if (bytes == 0 || offset > block.bytes || bytes > block.bytes - offset) {
      return Error(EINVAL, "the range is empty, or ends past the buffer", origin);
    }
    if (!IsPageAligned(offset) || (!IsPageAligned(bytes) && offset + bytes != block.bytes)) {
      return Error(EINVAL, "the range is not whole pages", origin);
    }
    if (mode == MapMode::kWritable && !block.writable) {
      return Error(EACCES, "the descriptor is read-only", origin);
    }
    return {};
  }
  // Maps `bytes` of a descriptor from `offset` on, in bytes from its start, shared. Checks nothing:
  // call CheckMap first. The error is mmap's. For a Map whose memory lies elsewhere than at the
  // block's place in the block's descriptor, such as at an offset of a driver's node.
  Result<std::byte*> MapDescriptor(FdRef fd, uint64_t offset, uint64_t bytes,
                                   MapMode mode) noexcept {
    const int protection = mode == MapMode::kWritable ? PROT_READ | PROT_WRITE : PROT_READ;
    const long at =
        sys_.Mmap(AddressableBytes(bytes), protection, fd.get(), static_cast<off_t>(offset));
    if (!Failed(at)) return reinterpret_cast<std::byte*>(at);
    return Error(ErrnoFrom(at), "mmap", {name_, Operation::kMap, {}, bytes},
                 at == -ENOMEM ? "this process has no room for the mapping: unmap others, or raise "
                                 "vm.max_map_count or `ulimit -v`"
                               : nullptr);
  }
  // Returns the mode of a mapping that lasts: writable if the block is.
  static MapMode WidestMode(const Block& block) noexcept {
    return block.writable ? MapMode::kWritable : MapMode::kReadOnly;
  }
  // Makes of a mapping of the whole block one that MapToKeep may return, or unmaps it. An error of
  // `at` is returned as it is. For the MapToKeep of a backend with a Map of its own.
  Result<std::byte*> MakeKept(const Block& block, Result<std::byte*> at) noexcept {
    if (!at.ok()) return at;
    if (const long answer = sys_.Madvise(*at, AddressableBytes(block.bytes), MADV_DONTFORK);
        Failed(answer)) {
      const Error error(ErrnoFrom(answer), "MADV_DONTFORK",
                        {name_, Operation::kMap, {}, block.bytes},
                        answer == -EPERM || answer == -ENOSYS
                            ? "a sandbox (seccomp) refuses madvise, and so memory is not recycled: "
                              "allow it there"
                            : nullptr);
      errors().Report(Unmap(*at, block.bytes));
      return error;
    }
    if (block.writable) {
      const long answer = sys_.Madvise(*at, AddressableBytes(block.bytes), kPopulateWrite);
      if (Failed(answer) && internal::IsOfPages(ErrnoFrom(answer))) {
        const Error error(ErrnoFrom(answer), internal::kPutsPages,
                          {name_, Operation::kMap, {}, block.bytes});
        errors().Report(Unmap(*at, block.bytes));
        return error;
      }
    }
    return at;
  }
  // As Map, for memory that must be mapped whole: returns the part from `offset` on of such a
  // mapping. Unmap ends it.
  Result<std::byte*> MapPart(const Block& block, uint64_t offset, MapMode mode) noexcept {
    const Result<std::byte*> whole = BackendBase::Map(block, 0, block.bytes, mode);
    if (!whole.ok()) return whole;
    auto* part = new (std::nothrow) Part{*whole + offset, *whole, block.bytes, nullptr};
    if (part == nullptr) {
      errors().Report(UnmapOrKeep(*whole, block.bytes, 0));
      return Error(ENOMEM, "operator new: a mapping", {name_, Operation::kMap, {}, block.bytes});
    }
    std::lock_guard lock(shared_->mutex);
    part->next = std::exchange(shared_->parts, part);
    shared_->part_count.fetch_add(1, std::memory_order_relaxed);
    return part->at;
  }

  // Returns true if two descriptors of one identity lead to one buffer. If the kernel cannot be
  // asked (a sandbox, an old kernel), it trusts numbers that never come back: those of 64 bits,
  // since Linux 5.19.
  bool SameFile(FdRef a, FdRef b) const noexcept {
    const long same = sys_.SameInode(a.get(), b.get());
    if (!Failed(same)) return same != 0;
    return same != -EBADF && sizeof(long) == 8 && LinuxRelease::Read(sys_).IsSince(5, 19);
  }

  // A copy of a descriptor from elsewhere, that lives as long as we need it.
  Result<ScopedFd<Sys>> Duplicate(FdRef fd, const Origin& origin) noexcept {
    const long copy = sys_.Fcntl(fd.get(), F_DUPFD_CLOEXEC, 0);
    if (Failed(copy)) return Error(ErrnoFrom(copy), "F_DUPFD_CLOEXEC", origin);
    return Own(copy);
  }

  // Fills a block with the memory that a kernel heap returned.
  static void Fill(Block& block, ScopedFd<Sys> fd, uint64_t bytes, uint32_t kernel_heap,
                   const Properties& properties) noexcept {
    block.fd = fd.release();
    block.offset = 0;
    block.bytes = bytes;
    block.kernel_heap = static_cast<uint8_t>(kernel_heap);
    block.writable = true;
    block.foreign = false;
    block.cpu_mappable = properties.cpu_mappable;
    block.cached = properties.cached;
    block.contiguous = properties.contiguous;
    block.zeroed = properties.zeroed;
    block.alignment_log2 = static_cast<uint8_t>(std::countr_zero(properties.alignment)) & 63;
  }
  // Fills a block with imported memory, of which `cached` is the only known property.
  static void FillForeign(Block& block, ScopedFd<Sys> fd, uint64_t bytes, bool writable,
                          Known cached = {}) noexcept {
    Fill(block, std::move(fd), bytes, 0,
         {.cached = cached, .zeroed = false, .alignment = PageBytes()});
    block.writable = writable;
    block.foreign = true;
  }

  ScopedFd<Sys> Own(long fd) const noexcept {
    return ScopedFd<Sys>(static_cast<int>(fd), sys_, errors(), name_);
  }
  const Sys& sys() const noexcept { return sys_; }

  // The text of /proc/self/fdinfo about a block's descriptor, which is asked for again and again.
  Result<FdInfo> FdInfoOf(const Block& block, const Origin& origin) noexcept {
    return shared_->fd_infos.Read(sys_, errors(), block.fd, origin);
  }

  // The kernel does not show who holds memory, for a reason that lasts: `why` is reported, once
  // until SeesHolders. Returns what to answer, ENOTSUP.
  Error HidesHolders(const Error& why) noexcept {
    shared_->holders_hidden.Report(errors(), why);
    return Error(ENOTSUP, "the kernel does not show who holds it",
                 {name_, why.operation(), {}, why.bytes()}, why.hint());
  }
  // Its holders can hide from the kernel, too: reported once, as a kernel does not change in that.
  void TellOfLending(const Error& why) noexcept { shared_->lending.Report(errors(), why); }
  // The driver of a kernel heap maps all of its memory in one way, so it is asked once.
  bool NeverLends(uint32_t kernel_heap) const noexcept {
    return (shared_->never_lend.load(std::memory_order_relaxed) & BitOf(kernel_heap)) != 0;
  }
  void NoteNeverLends(uint32_t kernel_heap) noexcept {
    shared_->never_lend.fetch_or(BitOf(kernel_heap), std::memory_order_relaxed);
  }
  void SeesHolders() noexcept { shared_->holders_hidden.End(); }

 private:
  static constexpr uint64_t BitOf(uint32_t kernel_heap) noexcept {
    return kernel_heap < 64 ? uint64_t{1} << kernel_heap : 0;
  }
  static Error PastBound(const Origin& origin) noexcept {
    return Error(ENOMEM, "past the bound on the bytes held", origin,
                 "release some buffers, or give the backend a larger Budget (by default half of "
                 "RAM, or of the cgroup's memory limit)");
  }
  Error UnmapOrKeep(std::byte* at, uint64_t bytes, uint64_t charge) noexcept {
    const long answer = sys_.Munmap(at, AddressableBytes(bytes));
    if (!Failed(answer)) return {};
    const Origin origin{name_, Operation::kUnmap, {}, bytes};
    Kept* kept = new (std::nothrow) Kept{at, bytes, charge, nullptr};
    if (kept == nullptr) {
      return Error(ErrnoFrom(answer), "munmap", origin,
                   "out of memory while recording the failed munmap: the mapping leaks");
    }
    std::lock_guard lock(shared_->mutex);
    kept->next = shared_->kept;
    shared_->kept = kept;
    shared_->kept_count.fetch_add(1, std::memory_order_relaxed);
    return Error(ErrnoFrom(answer), "munmap", origin,
                 "the mapping is kept, and unmapped at the next allocation or release");
  }
  // A part's whole, which is no longer known then; else what it is is left as it is.
  void TakePart(std::byte*& at, uint64_t& bytes) noexcept {
    std::lock_guard lock(shared_->mutex);
    for (Part** link = &shared_->parts; *link != nullptr; link = &(*link)->next) {
      if ((*link)->at != at) continue;
      Part* part = std::exchange(*link, (*link)->next);
      at = part->whole;
      bytes = part->bytes;
      delete part;
      shared_->part_count.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
  }

  const char* name_;
  [[no_unique_address]] Sys sys_;
  std::unique_ptr<Shared> shared_;
  std::vector<KernelHeap> heaps_;
};

}  // namespace ion

#endif  // ION_BACKENDS_BACKEND_BASE_H_
