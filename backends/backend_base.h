// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/backend_base.h
//
// BackendBase: what every backend over a Syscalls policy does in the same way: list its heaps,
// bound a request, map and unmap descriptors, hand out copies of them, give memory back. A backend
// derives from it and adds how memory is made.
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
#include <utility>
#include <vector>

#include "backends/scoped_fd.h"
#include "ion/backend.h"
#include "ion/block.h"
#include "ion/budget.h"
#include "ion/bytes.h"
#include "ion/error.h"
#include "ion/error_sink.h"
#include "ion/fd.h"
#include "ion/syscalls.h"

namespace ion {

template <Syscalls Sys>
class BackendBase {
 public:
  const char* name() const noexcept { return name_; }
  std::span<const KernelHeap> heaps() const noexcept { return heaps_; }
  Budget& budget() const noexcept { return *shared_->budget; }
  ErrorSink& errors() const noexcept { return *shared_->errors; }

  // Maps whole pages; the last may be cut by the block's end, where a foreign exporter gave it an
  // odd size. EINVAL: not pages, empty, or past the end. EACCES: to write what may only be read.
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
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
    const int protection = mode == MapMode::kWritable ? PROT_READ | PROT_WRITE : PROT_READ;
    const long at =
        sys_.Mmap(bytes, protection, block.fd, static_cast<off_t>(block.offset + offset));
    if (Failed(at)) {
      return Error(ErrnoFrom(at), "mmap", origin,
                   at == -EPERM && mode == MapMode::kReadOnly
                       ? "what is sealed with F_SEAL_WRITE is not mapped before Linux 6.7: its "
                         "owner can seal it with F_SEAL_FUTURE_WRITE"
                       : nullptr);
    }
    return reinterpret_cast<std::byte*>(at);
  }

  // Where it fails, the mapping is kept for a later try; the caller forgets it all the same.
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return UnmapOrKeep(at, bytes, 0); }

  // The pages are put in place by MADV_POPULATE_WRITE (Linux 5.14). EINVAL: the kernel does not
  // know it, or a driver has mapped them all at once. Past any other error lies a SIGBUS: EFAULT is
  // how a memfd tells that strict overcommit has no page left for it.
  Result<std::byte*> MapToKeep(const Block& block) noexcept {
    Result<std::byte*> at =
        Map(block, 0, block.bytes, block.writable ? MapMode::kWritable : MapMode::kReadOnly);
    if (!at.ok()) return at;
    if (const long answer = sys_.Madvise(*at, block.bytes, MADV_DONTFORK); Failed(answer)) {
      const Error error(ErrnoFrom(answer), "MADV_DONTFORK",
                        {name_, Operation::kMap, {}, block.bytes});
      errors().Report(Unmap(*at, block.bytes));
      return error;
    }
    if (block.writable) {
      const long answer = sys_.Madvise(*at, block.bytes, kPopulateWrite);
      if (Failed(answer) && answer != -EINVAL) {
        const Error error(ErrnoFrom(answer), "MADV_POPULATE_WRITE",
                          {name_, Operation::kMap, {}, block.bytes});
        errors().Report(Unmap(*at, block.bytes));
        return error;
      }
    }
    return at;
  }

  Error Abandon(Block& block) noexcept {
    const uint64_t bytes = block.bytes;
    const long answer = sys_.Close(block.fd);
    const uint32_t generation = block.generation;
    block = Block{};
    block.generation = generation;
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
    const uint32_t generation = block.generation;
    block = Block{};
    block.generation = generation;
    return first;
  }

  // Mappings that munmap refused and that wait for another try.
  size_t kept_mappings() const noexcept {
    return shared_->kept_count.load(std::memory_order_relaxed);
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
  struct Shared {
    Shared() = default;
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() {
      while (kept != nullptr) delete std::exchange(kept, kept->next);
    }

    std::shared_ptr<Budget> budget;
    std::shared_ptr<ErrorSink> errors;
    std::mutex mutex;
    Kept* kept = nullptr;
    std::atomic<size_t> kept_count{0};
  };

  BackendBase(const char* name, const Sys& sys, std::unique_ptr<Shared> shared) noexcept
      : name_(name), sys_(sys), shared_(std::move(shared)) {}
  BackendBase(BackendBase&&) noexcept = default;
  ~BackendBase() {
    if (shared_ != nullptr) RetryUnmaps();
  }

  // What a backend's Options say, with what they leave out: a budget of half of the machine's RAM,
  // and a sink that only counts.
  template <class Options>
  static Result<std::unique_ptr<Shared>> MakeShared(const char* name,
                                                    const Options& options) noexcept {
    auto shared = std::make_unique<Shared>();
    shared->budget = options.budget;
    if (shared->budget == nullptr) {
      struct sysinfo info {};
      if (const long answer = options.sys.Sysinfo(&info); Failed(answer)) {
        return Error(ErrnoFrom(answer), "sysinfo", {name, Operation::kOpen});
      }
      shared->budget = std::make_shared<Budget>(uint64_t{info.totalram} * info.mem_unit / 2);
    }
    shared->errors = options.errors != nullptr ? options.errors : std::make_shared<ErrorSink>();
    return shared;
  }

  // The heaps are added while the backend is opened.
  void AddHeap(KernelHeap heap) noexcept { heaps_.push_back(std::move(heap)); }
  // What stands in the way of a backend with these heaps: `none` where there is no heap, and where
  // none can be used, the first one's reason.
  Error CheckHeaps(const Error& none) const noexcept {
    if (heaps_.empty()) return none;
    const auto usable = [](const KernelHeap& heap) { return heap.unusable.ok(); };
    return std::ranges::any_of(heaps_, usable) ? Error() : heaps_.front().unusable;
  }

  // The way into every allocation: finds the heap, rounds up to pages and takes them from the
  // budget. ENODEV: there is no such heap. One that cannot be used answers with its reason.
  Result<Charge> Admit(uint32_t kernel_heap, uint64_t bytes) noexcept {
    RetryUnmaps();
    if (kernel_heap >= heaps_.size()) {
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
    if (!budget().Take(*rounded)) {
      return Error(
          ENOMEM, "past the bound on the bytes held", origin,
          "release some buffers, or give the backend a larger Budget (half of RAM by default)");
    }
    return Charge(budget(), *rounded);
  }

  // A copy of a descriptor from elsewhere, that lives as long as we need it.
  Result<ScopedFd<Sys>> Duplicate(FdRef fd, const Origin& origin) noexcept {
    const long copy = sys_.Fcntl(fd.get(), F_DUPFD_CLOEXEC, 0);
    if (Failed(copy)) return Error(ErrnoFrom(copy), "F_DUPFD_CLOEXEC", origin);
    return Own(copy);
  }

  // Fills a block with what a kernel heap gave.
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
    block.alignment_log2 = static_cast<uint8_t>(std::countr_zero(properties.alignment));
  }
  // Fills a block with somebody else's memory. Whether it lies in one run is not known, and it is
  // taken to be cached, so that CPU access is always announced.
  static void FillForeign(Block& block, ScopedFd<Sys> fd, uint64_t bytes, bool writable) noexcept {
    Fill(block, std::move(fd), bytes, 0,
         {.cpu_mappable = true, .cached = true, .alignment = PageBytes()});
    block.writable = writable;
    block.foreign = true;
  }

  ScopedFd<Sys> Own(long fd) const noexcept {
    return ScopedFd<Sys>(static_cast<int>(fd), sys_, errors(), name_);
  }
  const Sys& sys() const noexcept { return sys_; }

 private:
  Error UnmapOrKeep(std::byte* at, uint64_t bytes, uint64_t charge) noexcept {
    const long answer = sys_.Munmap(at, bytes);
    if (!Failed(answer)) return {};
    const Origin origin{name_, Operation::kUnmap, {}, bytes};
    Kept* kept = new (std::nothrow) Kept{at, bytes, charge, nullptr};
    if (kept == nullptr) {
      return Error(ErrnoFrom(answer), "munmap", origin,
                   "there was no memory to remember the mapping by: it stays");
    }
    std::lock_guard lock(shared_->mutex);
    kept->next = shared_->kept;
    shared_->kept = kept;
    shared_->kept_count.fetch_add(1, std::memory_order_relaxed);
    return Error(ErrnoFrom(answer), "munmap", origin,
                 "the mapping is kept, and unmapped at the next allocation or release");
  }
  void RetryUnmaps() noexcept {
    if (kept_mappings() == 0) return;
    std::lock_guard lock(shared_->mutex);
    for (Kept** link = &shared_->kept; *link != nullptr;) {
      Kept* kept = *link;
      if (Failed(sys_.Munmap(kept->at, kept->bytes))) {
        link = &kept->next;
        continue;
      }
      budget().Give(kept->charge);
      *link = kept->next;
      delete kept;
      shared_->kept_count.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  const char* name_;
  [[no_unique_address]] Sys sys_;
  std::unique_ptr<Shared> shared_;
  std::vector<KernelHeap> heaps_;
};

}  // namespace ion

#endif  // ION_BACKENDS_BACKEND_BASE_H_
