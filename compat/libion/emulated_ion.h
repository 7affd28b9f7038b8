// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/emulated_ion.h
//
// EmulatedIon: /dev/ion of a kernel that has none: the one place that answers ION's ioctls, of
// either interface, and those of a dma-heap, over a Manager (of dma-heaps, else of udmabuf,
// else of memfds). libion and the preload are its two doors.
//
// Example:
//   constinit ion::compat::EmulatedIon<> ion;
//   long fd = ion.Open(ion::compat::Abi::kLegacy, O_CLOEXEC);
//   long answer = ion.Ioctl(static_cast<int>(fd), ION_IOC_ALLOC, &data);
//
// Answers are the kernel's: a value, or a negative errno. The Manager is opened at the first request
// that needs it, and lives as long as the process. No thread: that a client's last descriptor was
// closed is seen at later calls, which look at four other clients each.
//
// A forked child opens a Manager of its own at its first call, and has its copies of the handles. A
// child by vfork may open descriptors; other calls return EPERM, as the memory it runs on is its
// parent's.
//
// Cost: about ten system calls beside those of the memory. Thread-safe; an allocation holds no lock.
// It has no destructor, because other threads may call until the process ends.
#ifndef ION_COMPAT_LIBION_EMULATED_ION_H_
#define ION_COMPAT_LIBION_EMULATED_ION_H_

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "compat/libion/emulated_client.h"
#include "compat/libion/ion_socket.h"
#include "compat/libion/ion_syscalls.h"
#include "compat/libion/signals_blocked.h"
#include "compat/libion/user_memory.h"
#include "ion/backends/any_of.h"
#include "ion/backends/dma_buf_backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/local_file.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/fork_mark.h"
#include "ion/base/no_cancel.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/buffer.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/platforms/heaps.h"
#include "ion/request.h"
#include "ion/uapi/dma_buf.h"
#include "ion/uapi/ion.h"
#include "ion/uapi/ion_legacy.h"

namespace ion::compat {

template <IonSyscalls Sys = LinuxIonSyscalls>
class EmulatedIon {
  using Backend = AnyOf<DmaHeapBackend<Sys>, UdmabufBackend<Sys>, MemfdBackend<Sys>>;
  using Manager = platforms::Heaps<Backend>;
  using Client = EmulatedClient<typename Manager::Client>;
  using LegacyWords = ion_uapi::LegacyAbi<size_t>;
  using Legacy = ion_uapi::LegacyIoctls<LegacyWords>;

 public:
  constexpr EmulatedIon() = default;
  constexpr explicit EmulatedIon(const Sys& sys) noexcept : sys_(sys) {}
  EmulatedIon(const EmulatedIon&) = delete;
  EmulatedIon& operator=(const EmulatedIon&) = delete;

  // A new client's descriptor. `flags`: open's; of those O_CLOEXEC and O_NONBLOCK are looked at.
  // Errors: those of a socket and its name (EMFILE, ENFILE, ENOMEM, a sandbox's).
  long Open(Abi abi, int flags) noexcept {
    const Guard guard;
    Sweep(nullptr);
    return MakeIonSocket(sys_, abi, flags);
  }

  // The interface of a descriptor; none if Open, in whatever process, did not make it.
  std::optional<Abi> AbiOf(int fd) const noexcept {
    const std::optional<IonKey> key = KeyOf(sys_, fd);
    if (!key.has_value()) return std::nullopt;
    return key->abi();
  }

  // ENOTTY: the descriptor is not of Open. Else the answer of the kernel's ION, or dma-heap.
  long Ioctl(int fd, unsigned long request, void* argument) noexcept {
    const Guard guard;
    const std::optional<IonKey> key = KeyOf(sys_, fd);
    if (!key.has_value()) return -ENOTTY;
    // The C library may have extended the sign.
    const auto command = static_cast<uint32_t>(request);
    switch (key->abi()) {
      case Abi::kLegacy:
        return LegacyIoctl(*key, command, argument);
      case Abi::kModern:
        return ModernIoctl(*key, command, argument);
      case Abi::kDmaHeap:
        return DmaHeapIoctl(*key, command, argument);
    }
    return -ENOTTY;
  }

  // Closes a descriptor of Open; with the last copy its client ends at once.
  long Close(int fd) noexcept {
    const Guard guard;
    const std::optional<IonKey> key = KeyOf(sys_, fd);
    const long answer = sys_.Close(fd);
    if (key.has_value()) EndIfClosed(*key);
    return answer;
  }

  // The number of clients that have memory, or had; those whose descriptor was closed count until a
  // later call has seen it.
  size_t clients() noexcept {
    const Guard guard;
    const std::lock_guard lock(mutex_);
    return process_ == nullptr ? 0 : process_->clients.size();
  }
  // The bytes that the clients are charged.
  uint64_t held_bytes() noexcept {
    const Guard guard;
    const std::lock_guard lock(mutex_);
    uint64_t bytes = 0;
    if (process_ == nullptr) return 0;
    for (const auto& client : process_->clients) bytes += client->client.held_bytes();
    return bytes;
  }

  // For a library's constructor: this process is the one that the calls of a child by vfork are told
  // from, also before a request needed memory.
  void Begin() noexcept {
    owner_ = ::getpid();
    mark_ = new (std::nothrow) ion::internal::ForkMark;
  }

  // For pthread_atfork: no thread is inside a table while the process is copied.
  void BeforeFork() noexcept {
    const sigset_t all = SignalsFromOutside();
    sigset_t before;
    ::pthread_sigmask(SIG_BLOCK, &all, &before);
    mutex_.lock();
    before_fork_ = before;
  }
  void AfterFork(bool child) noexcept {
    if (child) {
      forked_ = true;
      if (owner_ != 0) owner_ = ::getpid();
      mark_ = nullptr;
    }
    const sigset_t before = before_fork_;
    mutex_.unlock();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

 private:
  // A call of ours is neither interrupted by a handler nor ended in the middle.
  struct Guard {
    const SignalsBlocked signals;
    const ion::internal::NoCancel cancel;
  };
  // The Manager of a process and its clients, once a request needed memory.
  struct Process {
    Process(Manager its_manager, const NetworkNamespace& its_network)
        : manager(std::move(its_manager)), network(its_network) {}

    const ion::internal::ForkMark mark;
    Manager manager;
    const NetworkNamespace network;
    std::vector<std::shared_ptr<Client>> clients;
    size_t next_look = 0;  // at which client a sweep goes on
  };
  struct Allocation {
    long answer = 0;
    IonHandle handle = {};
  };

  static long AnswerOf(const absl::Status& status) noexcept {
    const int code = ErrnoOf(status);
    return code == 0 ? -EIO : -code;
  }
  template <class T>
  static long AnswerOf(const absl::StatusOr<T>& result) noexcept {
    return AnswerOf(result.status());
  }

  // --- Clients.

  bool InChild() const noexcept { return forked_ || process_->mark.InChild(); }
  // By vfork: another process on the same memory.
  bool OnBorrowedMemory() const noexcept {
    // A copy that no handler was told of owns its memory.
    if (owner_ == 0 || (mark_ != nullptr && mark_->InChild())) return false;
    return owner_ != ::getpid();
  }

  // Returns the process's clients, opened if need be. Under the lock. EPERM: a child by vfork.
  long OpenProcess() noexcept {
    if (OnBorrowedMemory()) return -EPERM;
    if (process_ != nullptr && !InChild()) return 0;
    // The options themselves are strings and lists.
    absl::StatusOr<Manager> manager = ion::internal::WithMemory(
        [&] {
          typename Backend::Options options;
          options.sys = sys_;
          return Manager::Open(options);
        },
        []() -> absl::StatusOr<Manager> { return ion::internal::CodeAlone(ENOMEM); });
    if (!manager.ok()) return AnswerOf(manager);
    auto* const opened =
        new (std::nothrow) Process(*std::move(manager), ReadNetworkNamespace(sys_));
    if (opened == nullptr) return -ENOMEM;
    // The parent's Manager is left as it was: its other threads, which are not here, may have been
    // inside it.
    Process* const inherited = std::exchange(process_, opened);
    forked_ = false;
    owner_ = ::getpid();
    if (mark_ == nullptr || mark_->InChild()) mark_ = &opened->mark;
    if (inherited != nullptr) Inherit(*inherited);
    return 0;
  }

  // Makes clients like those of the parent, with handles of the memory that the inherited descriptors
  // lead to. Handles whose descriptor the child closed are gone.
  void Inherit(Process& parent) noexcept {
    for (const std::shared_ptr<Client>& old : parent.clients) {
      if (HasEnded(sys_, old->key, parent.network)) continue;
      const std::shared_ptr<Client> mine = NewClient(old->key);
      if (mine == nullptr) continue;
      for (size_t i = 0; i < old->handles.size(); ++i) {
        IonHandle& theirs = old->handles[i];
        if (theirs.references == 0 || !IsStill(theirs)) continue;
        absl::StatusOr<Handle> handle = mine->client.Import(FdRef(theirs.fd));
        if (!handle.ok()) continue;
        IonHandle copy{.references = theirs.references, .handle = *handle};
        KeepCopy(*mine, copy);
        if (!ion::internal::TryWithMemory([&] { mine->handles.resize(i + 1); })) continue;
        mine->handles[i] = std::move(copy);
        // The number is the parent's Manager's, which does nothing here any more.
        if (theirs.copy.valid()) {
          theirs.copy.reset();
        } else {
          sys_.Close(theirs.fd);
        }
        theirs.references = 0;
      }
    }
  }
  bool IsStill(const IonHandle& handle) const noexcept {
    return handle.fd >= 0 && Identify(handle.fd) == handle.file;
  }
  FileIdentity Identify(int fd) const noexcept {
    struct stat status {};
    if (Failed(sys_.Fstat(fd, &status))) return {};
    return {status.st_dev, status.st_ino};
  }
  // For forked children: without a descriptor to spare they do not have the handle.
  void KeepCopy(Client& client, IonHandle& handle) noexcept {
    absl::StatusOr<UniqueFd> copy = client.client.Share(handle.handle);
    if (!copy.ok()) return;
    handle.copy = *std::move(copy);
    handle.fd = handle.copy.get();
    handle.file = Identify(handle.fd);
  }

  // Under the lock. nullptr: no memory, or 1023 clients are open.
  std::shared_ptr<Client> NewClient(const IonKey& key) noexcept {
    absl::StatusOr<typename Manager::Client> made = process_->manager.CreateClient(
        {.name = "libion", .max_buffers = UINT32_MAX, .max_handles = UINT32_MAX});
    if (!made.ok()) return nullptr;
    return ion::internal::WithMemory(
        [&] {
          auto client = std::make_shared<Client>(key, *std::move(made));
          // Its descriptor is open now.
          client->elsewhere = HasEnded(sys_, key, process_->network);
          process_->clients.push_back(client);
          return client;
        },
        []() -> std::shared_ptr<Client> { return nullptr; });
  }

  // The client behind a descriptor; an empty one if it came by exec, or from another process.
  long Find(const IonKey& key, std::shared_ptr<Client>& client) noexcept {
    Sweep(&key);
    const std::lock_guard lock(mutex_);
    if (const long answer = OpenProcess(); answer != 0) return answer;
    for (const auto& one : process_->clients) {
      if (one->key == key) client = one;
    }
    if (client == nullptr) client = NewClient(key);
    return client == nullptr ? -ENOMEM : 0;
  }

  // Looks whether the next four clients but `current` have ended.
  void Sweep(const IonKey* current) noexcept {
    constexpr size_t kMost = 4;
    IonKey keys[kMost];
    size_t count = 0;
    {
      const std::lock_guard lock(mutex_);
      if (process_ == nullptr || InChild() || OnBorrowedMemory()) return;
      const auto& clients = process_->clients;
      for (size_t looked = 0; looked < std::min(clients.size(), kMost); ++looked) {
        const IonKey& key = clients[process_->next_look++ % clients.size()]->key;
        if (current == nullptr || !(key == *current)) keys[count++] = key;
      }
    }
    for (size_t i = 0; i < count; ++i) EndIfClosed(keys[i]);
  }
  void EndIfClosed(const IonKey& key) noexcept {
    std::shared_ptr<Client> ended;  // its memory goes back without the lock
    const std::lock_guard lock(mutex_);
    if (process_ == nullptr || InChild() || OnBorrowedMemory()) return;
    auto& clients = process_->clients;
    const auto at = std::ranges::find_if(clients, [&](const auto& one) { return one->key == key; });
    if (at == clients.end() || (*at)->elsewhere || !HasEnded(sys_, key, process_->network)) return;
    ended = std::move(*at);
    clients.erase(at);
  }

  // --- Memory.

  // True if a heap of this id is there.
  bool HasHeap(unsigned id) const noexcept {
    const std::optional<HeapId> heap = HeapId::From(id);
    return heap.has_value() && process_->manager.heaps().contains(*heap);
  }
  static constexpr bool IsDma(unsigned id) noexcept {
    return id == ion_uapi::kHeapTypeDma;  // ids are types here
  }

  // Returns the errno by which a heap of the kernel refuses before it looks for memory; 0: it does
  // not.
  long Refuse(Abi abi, unsigned heap, uint64_t bytes, uint64_t align, uint32_t flags) noexcept {
    if (align > PageBytes()) return -EINVAL;
    if (IsDma(heap)) {
      const bool cached = (flags & ion_uapi::kFlagCached) != 0;
      return cached && abi == Abi::kLegacy ? -EINVAL : 0;
    }
    struct sysinfo memory {};
    if (Failed(sys_.Sysinfo(&memory))) return 0;  // the Manager has a bound of its own
    const uint64_t total = uint64_t{memory.totalram} * memory.mem_unit;
    return bytes / PageBytes() > total / PageBytes() / 2 ? -ENOMEM : 0;
  }

  // The heaps of the mask in turn, highest id first, until one gives memory.
  Allocation Allocate(Client& client, uint64_t len, uint64_t align, uint32_t mask,
                      uint32_t flags) noexcept {
    const Abi abi = client.key.abi();
    const std::optional<uint64_t> bytes = RoundUpToPages(len);
    if (!bytes.has_value() || *bytes == 0) return {.answer = -EINVAL};
    Allocation made{.answer = -ENODEV};
    for (unsigned id = HeapId::kCount; id-- > 0;) {
      if ((mask >> id & 1) == 0 || !HasHeap(id)) continue;
      made.answer = Refuse(abi, id, *bytes, align, flags);
      if (made.answer != 0) continue;
      made = Take(client, id, *bytes);
      if (made.answer == 0) return made;
      // CMA of the handle ABI says -1 for whatever it met.
      if (IsDma(id) && abi == Abi::kLegacy) made.answer = -EPERM;
    }
    return made;
  }
  Allocation Take(Client& client, unsigned heap, uint64_t bytes) noexcept {
    absl::StatusOr<Buffer> lease = client.client.Allocate(
        {.bytes = bytes, .heaps = HeapMask(*HeapId::From(heap)), .name = "ion"});
    if (!lease.ok()) return {.answer = AnswerOf(lease)};
    const int fd = lease->fd().get();
    absl::StatusOr<Handle> handle = client.client.MakeHandle(*std::move(lease));
    if (!handle.ok()) return {.answer = AnswerOf(handle)};
    return {.answer = 0,
            .handle = {.references = 1, .handle = *handle, .fd = fd, .file = Identify(fd)}};
  }
  // As the modern ION and dma-heaps: a descriptor that keeps the memory, and no handle.
  long TakeDescriptor(Client& client, uint64_t len, uint32_t mask, uint32_t flags) noexcept {
    const Allocation made = Allocate(client, len, 0, mask, flags);
    if (made.answer != 0) return made.answer;
    absl::StatusOr<UniqueFd> fd = client.client.Share(made.handle.handle);
    client.client.Free(made.handle.handle).IgnoreError();
    return fd.ok() ? fd->release() : AnswerOf(fd);
  }

  // --- Linux 3.10 to 4.11.

  union LegacyArgument {
    LegacyWords::ion_allocation_data allocation;
    LegacyWords::ion_fd_data fd;
    LegacyWords::ion_handle_data handle;
    LegacyWords::ion_custom_data custom;
    ion_uapi::ion_heap_query query;  // Linux 4.9
  };

  long LegacyIoctl(const IonKey& key, uint32_t command, void* argument) noexcept {
    if (_IOC_SIZE(command) > sizeof(LegacyArgument)) return -EINVAL;
    LegacyArgument data{};
    // To these three nothing is copied back.
    const bool only_in = command == static_cast<uint32_t>(Legacy::kFree) ||
                         command == static_cast<uint32_t>(Legacy::kSync) ||
                         command == static_cast<uint32_t>(Legacy::kCustom);
    if (only_in || (_IOC_DIR(command) & _IOC_WRITE) != 0) {
      if (const long copied = CopyIn(sys_, &data, argument, _IOC_SIZE(command)); copied != 0) {
        return copied;
      }
    }
    if (!IsLegacy(command)) return -ENOTTY;
    std::shared_ptr<Client> client;
    if (const long found = Find(key, client); found != 0) return found;
    const long answer = LegacyAnswer(*client, command, data);
    if (only_in || (_IOC_DIR(command) & _IOC_READ) == 0) return answer;
    // An allocation, and a query, that failed copy nothing; the others do.
    const bool silent = command == static_cast<uint32_t>(Legacy::kAlloc) ||
                        command == static_cast<uint32_t>(ion_uapi::kIocHeapQuery);
    if (silent && answer != 0) return answer;
    const long copied = CopyOut(sys_, argument, &data, _IOC_SIZE(command));
    if (copied == 0) return answer;
    if (command == static_cast<uint32_t>(Legacy::kAlloc)) Free(*client, data.allocation.handle);
    // The kernel leaves it open; nobody knows its number.
    if (answer == 0 && IsSharing(command)) sys_.Close(data.fd.fd);
    return copied;
  }
  static bool IsSharing(uint32_t command) noexcept {
    return command == static_cast<uint32_t>(Legacy::kShare) ||
           command == static_cast<uint32_t>(Legacy::kMap);
  }
  static bool IsLegacy(uint32_t command) noexcept {
    return IsSharing(command) || command == static_cast<uint32_t>(Legacy::kAlloc) ||
           command == static_cast<uint32_t>(Legacy::kFree) ||
           command == static_cast<uint32_t>(Legacy::kImport) ||
           command == static_cast<uint32_t>(Legacy::kSync) ||
           command == static_cast<uint32_t>(ion_uapi::kIocHeapQuery);
  }
  long LegacyAnswer(Client& client, uint32_t command, LegacyArgument& data) noexcept {
    if (IsSharing(command)) return Share(client, data.fd);
    switch (command) {
      case static_cast<uint32_t>(Legacy::kAlloc):
        return AllocateHandle(client, data.allocation);
      case static_cast<uint32_t>(Legacy::kFree):
        return Free(client, data.handle.handle);
      case static_cast<uint32_t>(Legacy::kImport):
        return Import(client, data.fd);
      case static_cast<uint32_t>(Legacy::kSync):
        return SyncForDevice(data.fd.fd);
      default:
        return QueryHeaps(data.query);
    }
  }

  long AllocateHandle(Client& client, LegacyWords::ion_allocation_data& data) noexcept {
    Allocation made = Allocate(client, data.len, data.align, data.heap_id_mask, data.flags);
    if (made.answer != 0) return made.answer;
    const Handle handle = made.handle.handle;
    {
      const std::lock_guard lock(mutex_);
      data.handle = client.Add(made.handle);
    }
    if (data.handle != 0) return 0;
    client.client.Free(handle).IgnoreError();
    return -ENOMEM;
  }
  long Free(Client& client, int number) noexcept {
    IonHandle gone;
    {
      const std::lock_guard lock(mutex_);
      IonHandle* const at = client.Find(number);
      if (at == nullptr) return -EINVAL;
      if (--at->references > 0) return 0;
      gone = std::exchange(*at, {});
    }
    gone.copy.reset();
    client.client.Free(gone.handle).IgnoreError();
    return 0;
  }
  long Share(Client& client, LegacyWords::ion_fd_data& data) noexcept {
    Handle handle;
    {
      const std::lock_guard lock(mutex_);
      const IonHandle* const at = client.Find(data.handle);
      if (at == nullptr) return -EINVAL;
      handle = at->handle;
    }
    absl::StatusOr<UniqueFd> fd = client.client.Share(handle);
    if (!fd.ok()) {
      data.fd = static_cast<int>(AnswerOf(fd));
      return data.fd;
    }
    data.fd = fd->release();
    return 0;
  }
  long Import(Client& client, LegacyWords::ion_fd_data& data) noexcept {
    absl::StatusOr<Handle> handle = client.client.Import(FdRef(data.fd));
    if (!handle.ok()) return AnswerOf(handle);
    IonHandle added{.references = 1, .handle = *handle};
    KeepCopy(client, added);
    bool known;
    {
      const std::lock_guard lock(mutex_);
      int number = client.NumberOf(*handle);
      known = number != 0;
      if (known) {
        ++client.Find(number)->references;
      } else {
        number = client.Add(added);
      }
      if (number != 0) data.handle = number;
      if (!known && number != 0) return 0;
    }
    // One count for each number, or none for want of memory.
    client.client.Free(*handle).IgnoreError();
    return known ? 0 : -ENOMEM;
  }

  // ION_IOC_SYNC: the CPU's writes go to memory. EINVAL: not memory of this library's kinds. EBUSY: a
  // device works on memory that no begin has prepared; signals are blocked here, so nobody waits.
  long SyncForDevice(int fd) noexcept {
    if (const long open = sys_.Fcntl(fd, F_GETFD, 0); Failed(open)) return open;
    // The CPU alone uses a memfd.
    if (!Failed(sys_.Fcntl(fd, F_GET_SEALS, 0))) return 0;
    // Before any call that a file server would answer, or not.
    ErrorSink ignored;
    const Result<bool> local = MayBeDmaBuf(sys_, ignored, fd, {"libion", Operation::kEndAccess});
    if (!local.ok() || !*local) return -EINVAL;
    struct statfs fs {};
    if (Failed(sys_.Fstatfs(fd, &fs))) return -EINVAL;
    const auto type = static_cast<uint32_t>(fs.f_type);
    const bool anonymous = type == kAnonymousFileMagic;  // a dma-buf before Linux 5.3
    if (type == kDmaBufMagic || (anonymous && sys_.Lseek(fd, 0, SEEK_CUR) == -EINVAL)) {
      const long answer = Sync(fd, ion_uapi::kDmaBufSyncEnd);
      // A udmabuf that no device has seen yet: its first begin gives it to one.
      if (answer != -EINVAL) return answer == -ENOTTY ? 0 : answer;
      const long idle = PollUntil(sys_, fd, POLLOUT, Deadline{});  // only looks
      if (Failed(idle)) return idle == -ETIMEDOUT ? -EBUSY : idle;
      const long begun = Sync(fd, ion_uapi::kDmaBufSyncStart);
      return Failed(begun) ? begun : Sync(fd, ion_uapi::kDmaBufSyncEnd);
    }
    return -EINVAL;
  }
  long Sync(int fd, uint64_t phase) noexcept {
    ion_uapi::dma_buf_sync sync{.flags =
                                    phase | ion_uapi::kDmaBufSyncRead | ion_uapi::kDmaBufSyncWrite};
    long answer;
    do answer = IoctlRetrying(sys_, fd, ion_uapi::kDmaBufIoctlSync, &sync);
    while (answer == -EAGAIN);
    return answer;
  }

  // --- Linux 4.12 to 5.10.

  union ModernArgument {
    ion_uapi::ion_allocation_data allocation;
    ion_uapi::ion_heap_query query;
  };

  long ModernIoctl(const IonKey& key, uint32_t command, void* argument) noexcept {
    if (_IOC_SIZE(command) > sizeof(ModernArgument)) return -EINVAL;
    ModernArgument data{};
    if (const long copied = CopyIn(sys_, &data, argument, _IOC_SIZE(command)); copied != 0) {
      return copied;
    }
    const bool allocates = command == static_cast<uint32_t>(ion_uapi::kIocAlloc);
    if (!allocates && command != static_cast<uint32_t>(ion_uapi::kIocHeapQuery)) return -ENOTTY;
    std::shared_ptr<Client> client;
    if (const long found = Find(key, client); found != 0) return found;
    if (!allocates) {
      const long answer = QueryHeaps(data.query);
      return answer != 0 ? answer : CopyOut(sys_, argument, &data.query, sizeof(data.query));
    }
    const long fd = TakeDescriptor(*client, data.allocation.len, data.allocation.heap_id_mask,
                                   data.allocation.flags);
    if (fd < 0) return fd;
    data.allocation.fd = static_cast<uint32_t>(fd);
    const long copied = CopyOut(sys_, argument, &data.allocation, sizeof(data.allocation));
    if (copied != 0) sys_.Close(static_cast<int>(fd));
    return copied;
  }

  // ION_IOC_HEAP_QUERY, of both interfaces.
  long QueryHeaps(ion_uapi::ion_heap_query& query) noexcept {
    if ((query.reserved0 | query.reserved1 | query.reserved2) != 0) return -EINVAL;
    auto* const to =
        reinterpret_cast<ion_uapi::ion_heap_data*>(static_cast<uintptr_t>(query.heaps));
    if (to != nullptr && query.cnt == 0) return -EINVAL;
    uint32_t count = 0;
    for (unsigned id = HeapId::kCount; id-- > 0;) {
      if (!HasHeap(id)) continue;
      if (to != nullptr) {
        if (count == query.cnt) break;
        ion_uapi::ion_heap_data heap{};
        // The kernel's system heap has this name.
        std::string_view name = "ion_system_heap";
        if (IsDma(id)) name = process_->manager.HeapName(*HeapId::From(id));
        name.copy(heap.name, sizeof(heap.name) - 1);
        heap.type = id;
        heap.heap_id = id;
        if (const long copied = CopyOut(sys_, to + count, &heap, sizeof(heap)); copied != 0) {
          return copied;
        }
      }
      ++count;
    }
    query.cnt = count;
    return 0;
  }

  // --- A dma-heap, from Linux 5.6 on.

  // By the command's number alone, with an argument of any size, as the kernel does.
  long DmaHeapIoctl(const IonKey& key, uint32_t command, void* argument) noexcept {
    if (_IOC_NR(command) != 0) return -EINVAL;
    ion_uapi::dma_heap_allocation_data data{};
    const size_t size = std::min<size_t>(_IOC_SIZE(command), sizeof(data));
    const size_t in = (_IOC_DIR(command) & _IOC_WRITE) != 0 ? size : 0;
    const size_t out = (_IOC_DIR(command) & _IOC_READ) != 0 ? size : 0;
    if (const long copied = CopyIn(sys_, &data, argument, in); copied != 0) return copied;
    constexpr uint32_t kFdFlags = O_CLOEXEC | O_ACCMODE;
    if (data.fd != 0 || (data.fd_flags & ~kFdFlags) != 0 || data.heap_flags != 0) return -EINVAL;
    std::shared_ptr<Client> client;
    if (const long found = Find(key, client); found != 0) return found;
    const long fd = TakeDescriptor(*client, data.len, 1u << ion_uapi::kHeapTypeSystem, 0);
    if (fd < 0) return fd;
    long answer = 0;
    if ((data.fd_flags & O_CLOEXEC) == 0) answer = sys_.Fcntl(static_cast<int>(fd), F_SETFD, 0);
    data.fd = static_cast<uint32_t>(fd);
    if (answer == 0) answer = CopyOut(sys_, argument, &data, out);
    if (answer != 0) sys_.Close(static_cast<int>(fd));
    return answer;
  }

  [[no_unique_address]] Sys sys_ = {};
  std::mutex mutex_;            // the tables: process_ and all below it
  Process* process_ = nullptr;  // never destroyed
  bool forked_ = false;         // since process_ was made
  pid_t owner_ = 0;             // the process that this memory is of; 0: nothing was done yet
  const ion::internal::ForkMark* mark_ = nullptr;  // of that process
  sigset_t before_fork_ = {};                      // of the thread that forks
};

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_EMULATED_ION_H_
