// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/c/c_interface.h
//
// CInterface: the functions of compat/include/ion_c.h over the Managers of one type. ion_c.cc has
// one of them; a test may have one over system calls that fail.
//
// A handle is a number in a table, never a pointer. Its object is counted: a call that is under way
// keeps it, and a buffer keeps its client, as a client its manager.
//
// Cost, errors and thread-safety: compat/include/ion_c.h. Locks are taken in the order client,
// buffer, table.
#ifndef ION_COMPAT_C_C_INTERFACE_H_
#define ION_COMPAT_C_C_INTERFACE_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "compat/include/ion_c.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/fork_mark.h"
#include "ion/base/known.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/report.h"
#include "ion/request.h"

namespace ion::compat {

// Writes `text` to a buffer of `bytes`, cut between characters of UTF-8, with its NUL.
inline void CopyText(std::string_view text, char* to, size_t bytes) noexcept {
  if (bytes == 0) return;
  size_t length = std::min(text.size(), bytes - 1);
  if (length < text.size()) {
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) --length;
  }
  text.copy(to, length);
  to[length] = '\0';
}

// Fills `error`, if there is one, and returns the function's answer.
inline int Tell(const absl::Status& status, ion_c_error* error) noexcept {
  const int named = ErrnoOf(status);
  const int code = status.ok() ? 0 : named != 0 ? named : EIO;
  if (error != nullptr) {
    error->code = code;
    const auto message = status.message();
    const std::string_view text(message.data(), message.size());
    CopyText(code != 0 && text.empty() ? "there is no memory for the text of this error" : text,
             error->text, sizeof(error->text));
  }
  return -code;
}

template <class M>
class CInterface {
  using Client = typename M::Client;
  using Backend = std::remove_reference_t<decltype(std::declval<M&>().backend())>;

 public:
  using Options = typename Backend::Options;

  // The numbers of its handles follow those of `inherited`, which a parent process has.
  explicit CInterface(const CInterface* inherited = nullptr) noexcept
      : first_(inherited == nullptr ? 1 : inherited->next_.load(std::memory_order_relaxed)),
        next_(first_) {}
  CInterface(const CInterface&) = delete;
  CInterface& operator=(const CInterface&) = delete;

  // True in a child of the process that made it: nothing else may be called then.
  bool InChild() const noexcept { return mark_.InChild(); }

  // `make(options)` may change the options of the backend before it opens.
  template <class Make>
  int OpenManager(const ion_c_manager_options* options, ion_c_manager** manager, ion_c_error* error,
                  Make make) noexcept {
    if (manager == nullptr) return Null(Operation::kOpen, "manager", error);
    *manager = nullptr;
    static constexpr ion_c_manager_options kUsual = {};
    if (options == nullptr) options = &kUsual;
    if ((options->flags & ~(ION_C_REQUIRE_DMA_BUF | ION_C_RECLAIM)) != 0 ||
        HasBits(options->reserved)) {
      return Refuse(Operation::kOpen, "an unknown flag, or a reserved word that is not 0", error);
    }
    return Run(Operation::kOpen, error, [&]() -> absl::Status {
      Options backend;
      backend.require_dma_buf = (options->flags & ION_C_REQUIRE_DMA_BUF) != 0;
      if (options->backends != nullptr) backend.order = Split(options->backends);
      make(backend);
      absl::StatusOr<M> opened = M::Open(backend);
      if (!opened.ok()) return opened.status();
      auto part = std::make_shared<ManagerPart>(*std::move(opened));
      if ((options->flags & ION_C_RECLAIM) != 0) {
        const auto started = part->manager.StartReclaimer();
        if (!started.ok()) return started.status();
      }
      return Give(managers_, std::move(part), manager);
    });
  }

  int CloseManager(ion_c_manager* manager, ion_c_error* error) noexcept {
    std::shared_ptr<ManagerPart> part;  // ends without the lock
    return Run(Operation::kUseHandle, error, [&]() -> absl::Status {
      const std::lock_guard lock(mutex_);
      const auto at = managers_.find(NumberOf(manager));
      if (at == managers_.end()) return Unknown("manager", NumberOf(manager));
      if (at->second->clients != 0) {
        return StillHas(at->second->clients, "clients");
      }
      part = std::move(at->second);
      managers_.erase(at);
      return absl::OkStatus();
    });
  }

  int NameBackend(ion_c_manager* manager, char* text, size_t bytes, ion_c_error* error) noexcept {
    if (text == nullptr || bytes == 0) return Null(Operation::kUseHandle, "text", error);
    *text = '\0';
    return WithPart(managers_, "manager", manager, error, [&](ManagerPart& part) {
      CopyText(part.manager.backend().name(), text, bytes);
      return absl::OkStatus();
    });
  }

  int Trim(ion_c_manager* manager, uint64_t bytes, uint64_t* freed, ion_c_error* error) noexcept {
    if (freed != nullptr) *freed = 0;
    return WithPart(managers_, "manager", manager, error, [&](ManagerPart& part) {
      const uint64_t given = part.manager.Trim(bytes);
      if (freed != nullptr) *freed = given;
      return absl::OkStatus();
    });
  }

  int Tick(ion_c_manager* manager, ion_c_error* error) noexcept {
    return WithPart(managers_, "manager", manager, error, [&](ManagerPart& part) {
      part.manager.Tick();
      return absl::OkStatus();
    });
  }

  int WriteReport(ion_c_manager* manager, char* text, size_t bytes, size_t* needed,
                  ion_c_error* error) noexcept {
    if (needed != nullptr) *needed = 0;
    const bool asks = text == nullptr && bytes == 0 && needed != nullptr;
    if (!asks && (text == nullptr || bytes == 0)) {
      return Null(Operation::kUseHandle, "text", error);
    }
    if (text != nullptr) *text = '\0';
    return WithPart(managers_, "manager", manager, error, [&](ManagerPart& part) -> absl::Status {
      const Report report = part.manager.MakeReport();
      if (!report.complete) return NoMemory(Operation::kUseHandle);
      std::string all;
      for (const HeapReport& heap : report.heaps) {
        absl::StrAppend(&all, "heap ", heap.id.value(), ", ", Printable(heap.name), ":\n",
                        HeapText(report, heap.id));
      }
      absl::StrAppend(&all, CountText(report), PoolText(report));
      if (needed != nullptr) *needed = all.size() + 1;
      if (asks) return absl::OkStatus();
      CopyText(all, text, bytes);
      if (all.size() < bytes) return absl::OkStatus();
      return MakeStatus(ENOSPC, absl::StrCat("c: report: ENOSPC: it takes ", all.size() + 1,
                                             " bytes, and there are ", bytes));
    });
  }

  int CreateClient(ion_c_manager* manager, const ion_c_client_options* options,
                   ion_c_client** client, ion_c_error* error) noexcept {
    if (client == nullptr) return Null(Operation::kClient, "client", error);
    *client = nullptr;
    static constexpr ion_c_client_options kUsual = {};
    if (options == nullptr) options = &kUsual;
    if ((options->flags & ~ION_C_RECYCLE_AS_IS) != 0 || HasBits(options->reserved)) {
      return Refuse(Operation::kClient, "an unknown flag, or a reserved word that is not 0", error);
    }
    return Run(Operation::kClient, error, [&]() -> absl::Status {
      std::shared_ptr<ManagerPart> part;
      {
        const std::lock_guard lock(mutex_);
        const auto at = managers_.find(NumberOf(manager));
        if (at == managers_.end()) return Unknown("manager", NumberOf(manager));
        part = at->second;
        ++part->clients;  // from here on it stays open
      }
      const auto make = [&]() -> absl::Status {
        ClientOptions wanted{.name = TextOf(options->name),
                             .domain = TextOf(options->domain),
                             .recycle_as_is = (options->flags & ION_C_RECYCLE_AS_IS) != 0};
        if (options->heaps != 0) wanted.heaps = HeapMask::FromBits(options->heaps);
        if (options->quota_bytes != 0) wanted.quota_bytes = options->quota_bytes;
        absl::StatusOr<Client> created = part->manager.CreateClient(wanted);
        if (!created.ok()) return created.status();
        return Give(clients_, std::make_shared<ClientPart>(part, *std::move(created)), client);
      };
      absl::Status made = internal::WithMemory(make, [] { return NoMemory(Operation::kClient); });
      if (!made.ok()) {
        const std::lock_guard lock(mutex_);
        --part->clients;
      }
      return made;
    });
  }

  int CloseClient(ion_c_client* client, ion_c_error* error) noexcept {
    std::shared_ptr<ClientPart> part;  // ends without the lock
    return Run(Operation::kUseHandle, error, [&]() -> absl::Status {
      const std::lock_guard lock(mutex_);
      const auto at = clients_.find(NumberOf(client));
      if (at == clients_.end()) return Unknown("client", NumberOf(client));
      if (at->second->buffers != 0) {
        return StillHas(at->second->buffers, "buffers");
      }
      part = std::move(at->second);
      clients_.erase(at);
      --part->manager->clients;
      return absl::OkStatus();
    });
  }

  int HeldBytes(ion_c_client* client, uint64_t* bytes, ion_c_error* error) noexcept {
    if (bytes == nullptr) return Null(Operation::kUseHandle, "bytes", error);
    *bytes = 0;
    return WithPart(clients_, "client", client, error, [&](ClientPart& part) {
      *bytes = part.client.held_bytes();
      return absl::OkStatus();
    });
  }

  int Allocate(ion_c_client* client, const ion_c_request* request, ion_c_buffer** buffer,
               ion_c_error* error) noexcept {
    if (buffer == nullptr) return Null(Operation::kAllocate, "buffer", error);
    *buffer = nullptr;
    if (request == nullptr) return Null(Operation::kAllocate, "request", error);
    if (HasBits(request->reserved)) {
      return Refuse(Operation::kAllocate, "a reserved word that is not 0", error);
    }
    return NewBuffer(client, Operation::kAllocate, buffer, error,
                     [&](const std::shared_ptr<ClientPart>& part) -> absl::Status {
                       Request wanted{.bytes = request->bytes,
                                      .alignment = std::max<uint64_t>(request->alignment, 1),
                                      .flags = static_cast<Flags>(request->flags),
                                      .name = TextOf(request->name)};
                       if (request->heaps != 0) wanted.heaps = HeapMask::FromBits(request->heaps);
                       absl::StatusOr<Buffer> lease = part->client.Allocate(wanted);
                       if (!lease.ok()) return lease.status();
                       auto fresh = std::make_shared<BufferPart>(part);
                       fresh->heap = part->manager->manager.HeapOf(*lease);
                       fresh->bytes = lease->bytes();
                       fresh->properties = lease->properties();
                       fresh->lease = *std::move(lease);
                       return Give(buffers_, std::move(fresh), buffer);
                     });
  }

  int Release(ion_c_buffer* buffer, ion_c_error* error) noexcept {
    std::shared_ptr<BufferPart> last;  // gives its memory back without a lock
    return WithBuffer<true>(buffer, error,
                            [&](const std::shared_ptr<BufferPart>& part) -> absl::Status {
                              if (part->references > 1) {
                                --part->references;
                                return part->client->client.Free(part->handle);
                              }
                              if (part->open())
                                return Busy(Operation::kRelease, "an access is open");
                              if (part->maps != 0)
                                return Busy(Operation::kRelease, "the buffer is mapped");
                              part->references = 0;
                              if (part->kept) part->client->kept.erase(KeyOf(part->handle));
                              const std::lock_guard lock(mutex_);
                              const auto at = buffers_.find(NumberOf(buffer));
                              if (at != buffers_.end()) {
                                last = std::move(at->second);
                                buffers_.erase(at);
                              }
                              --part->client->buffers;
                              return absl::OkStatus();
                            });
  }

  int Map(ion_c_buffer* buffer, uint32_t access, void** address, ion_c_error* error) noexcept {
    if (address == nullptr) return Null(Operation::kMap, "address", error);
    *address = nullptr;
    if (access != ION_C_READ && access != (ION_C_READ | ION_C_WRITE)) {
      return Refuse(Operation::kMap, "access that is not ION_C_READ, with or without ION_C_WRITE",
                    error);
    }
    return WithBuffer<false>(
        buffer, error, [&](const std::shared_ptr<BufferPart>& part) -> absl::Status {
          if (part->maps == UINT32_MAX) return Busy(Operation::kMap, "it is mapped 2^32 times");
          if (access == ION_C_READ && !part->writable.has_value() && !part->read_only.has_value()) {
            absl::StatusOr<ReadOnlyMapping> mapping =
                part->template NewMapping<MapMode::kReadOnly>();
            if (!mapping.ok()) return mapping.status();
            part->read_only.emplace(*std::move(mapping));
          }
          if (access != ION_C_READ && !part->writable.has_value()) {
            absl::StatusOr<WritableMapping> mapping =
                part->template NewMapping<MapMode::kWritable>();
            if (!mapping.ok()) return mapping.status();
            part->writable.emplace(*std::move(mapping));
          }
          ++part->maps;
          const bool reads = access == ION_C_READ && part->read_only.has_value();
          const std::byte* const at =
              reads ? part->read_only->unsynced().data() : part->writable->unsynced().data();
          *address = const_cast<std::byte*>(at);
          return absl::OkStatus();
        });
  }

  int Unmap(ion_c_buffer* buffer, ion_c_error* error) noexcept {
    return WithBuffer<false>(buffer, error,
                             [&](const std::shared_ptr<BufferPart>& part) -> absl::Status {
                               if (part->maps == 0)
                                 return Wrong(Operation::kUnmap, "the buffer is not mapped");
                               if (part->maps == 1 && part->open())
                                 return Busy(Operation::kUnmap, "an access is open");
                               if (--part->maps == 0) {
                                 part->writable.reset();
                                 part->read_only.reset();
                               }
                               return absl::OkStatus();
                             });
  }

  int Begin(ion_c_buffer* buffer, uint32_t access, int timeout_ms, ion_c_error* error) noexcept {
    if (access == 0 || (access & ~(ION_C_READ | ION_C_WRITE)) != 0) {
      return Refuse(Operation::kBeginAccess, "access that is not ION_C_READ, ION_C_WRITE or both",
                    error);
    }
    return WithBuffer<false>(
        buffer, error, [&](const std::shared_ptr<BufferPart>& part) -> absl::Status {
          if (part->maps == 0) {
            return Wrong(Operation::kBeginAccess, "the buffer is not mapped", "ion_c_map first");
          }
          if (part->open()) return Busy(Operation::kBeginAccess, "an access is open");
          const bool writes = (access & ION_C_WRITE) != 0;
          if (writes && !part->writable.has_value()) {
            return ToStatus(Error(EACCES, "mapped for reading only", {"c", Operation::kBeginAccess},
                                  "ion_c_map with ION_C_READ | ION_C_WRITE"));
          }
          if (access == ION_C_READ && !part->writable.has_value()) {
            return part->template Open<CpuRead>(*part->read_only, timeout_ms);
          }
          if (access == ION_C_READ)
            return part->template Open<CpuRead>(*part->writable, timeout_ms);
          if (access == ION_C_WRITE)
            return part->template Open<CpuWrite>(*part->writable, timeout_ms);
          return part->template Open<CpuReadWrite>(*part->writable, timeout_ms);
        });
  }

  int End(ion_c_buffer* buffer, ion_c_error* error) noexcept {
    return WithBuffer<false>(buffer, error,
                             [&](const std::shared_ptr<BufferPart>& part) -> absl::Status {
                               if (!part->open())
                                 return Wrong(Operation::kEndAccess, "no access is open");
                               return part->Close();
                             });
  }

  int Keep(ion_c_buffer* buffer, ion_c_error* error) noexcept {
    return WithBuffer<true>(buffer, error,
                            [](const std::shared_ptr<BufferPart>& part) { return KeepPart(part); });
  }

  int Share(ion_c_buffer* buffer, int* fd, ion_c_error* error) noexcept {
    if (fd == nullptr) return Null(Operation::kShare, "fd", error);
    *fd = -1;
    return WithBuffer<true>(
        buffer, error, [&](const std::shared_ptr<BufferPart>& part) -> absl::Status {
          if (absl::Status kept = KeepPart(part); !kept.ok()) return kept;
          absl::StatusOr<UniqueFd> shared = part->client->client.Share(part->handle);
          if (!shared.ok()) return shared.status();
          *fd = shared->release();
          return absl::OkStatus();
        });
  }

  int Import(ion_c_client* client, int fd, ion_c_buffer** buffer, ion_c_error* error) noexcept {
    if (buffer == nullptr) return Null(Operation::kImport, "buffer", error);
    *buffer = nullptr;
    return NewBuffer(client, Operation::kImport, buffer, error,
                     [&](const std::shared_ptr<ClientPart>& part) -> absl::Status {
                       const std::lock_guard client_lock(part->mutex);
                       const absl::StatusOr<Handle> handle = part->client.Import(FdRef(fd));
                       if (!handle.ok()) return handle.status();
                       absl::Status given =
                           internal::WithMemory([&] { return AddImport(part, *handle, buffer); },
                                                [] { return NoMemory(Operation::kImport); });
                       if (!given.ok()) part->client.Free(*handle).IgnoreError();
                       return given;
                     });
  }

  int DescribeBuffer(ion_c_buffer* buffer, ion_c_info* info, ion_c_error* error) noexcept {
    if (info == nullptr) return Null(Operation::kUseHandle, "info", error);
    *info = {};
    return WithBuffer<false>(
        buffer, error, [&](const std::shared_ptr<BufferPart>& part) -> absl::Status {
          const auto word = [](Known known) {
            return known.yes() ? ION_C_YES : known.no() ? ION_C_NO : ION_C_UNKNOWN;
          };
          const Properties& of = part->properties;
          info->bytes = part->bytes;
          info->alignment = of.alignment;
          info->heap = part->heap.has_value() ? static_cast<int32_t>(part->heap->value()) : -1;
          info->cpu_mappable = word(of.cpu_mappable);
          info->cached = word(of.cached);
          info->contiguous = word(of.contiguous);
          info->zeroed = word(of.zeroed);
          info->releases = part->references;
          info->kept = part->kept;
          return absl::OkStatus();
        });
  }

 private:
  struct ManagerPart {
    explicit ManagerPart(M&& opened) noexcept : manager(std::move(opened)) {}
    M manager;
    size_t clients = 0;  // under the table's lock
  };

  struct BufferPart;
  // A Handle's 16 bytes.
  using Key = std::pair<uint64_t, uint64_t>;
  static_assert(sizeof(Handle) == 16 && std::is_trivially_copyable_v<Handle>);
  static Key KeyOf(const Handle& handle) noexcept {
    const auto words = std::bit_cast<std::array<uint64_t, 2>>(handle);
    return {words[0], words[1]};
  }

  struct ClientPart {
    ClientPart(std::shared_ptr<ManagerPart> of, Client&& created) noexcept
        : manager(std::move(of)), client(std::move(created)) {}
    const std::shared_ptr<ManagerPart> manager;
    Client client;
    size_t buffers = 0;             // under the table's lock
    std::mutex mutex;               // of `kept`
    std::map<Key, uintptr_t> kept;  // the number of each handle's buffer
  };

  struct BufferPart {
    explicit BufferPart(std::shared_ptr<ClientPart> of) noexcept : client(std::move(of)) {}
    BufferPart(const BufferPart&) = delete;
    BufferPart& operator=(const BufferPart&) = delete;
    ~BufferPart() {
      access = std::monostate();
      writable.reset();
      read_only.reset();
      if (kept) client->client.Free(handle).IgnoreError();
    }

    template <MapMode kMode>
    absl::StatusOr<CpuMapping<kMode>> NewMapping() noexcept {
      if (kept) return client->client.template Map<kMode>(handle);
      return CpuMapping<kMode>::Of(lease);
    }
    template <class Access, class Mapping>
    absl::Status Open(const Mapping& mapping, int timeout_ms) noexcept {
      absl::StatusOr<Access> begun =
          timeout_ms < 0 ? Access::Begin(mapping)
                         : Access::Begin(mapping, std::chrono::steady_clock::now() +
                                                      std::chrono::milliseconds(timeout_ms));
      if (!begun.ok()) return begun.status();
      access.template emplace<Access>(*std::move(begun));
      return absl::OkStatus();
    }
    absl::Status Close() noexcept {
      absl::Status ended;
      if (auto* read = std::get_if<CpuRead>(&access)) ended = std::move(*read).End();
      if (auto* write = std::get_if<CpuWrite>(&access)) ended = std::move(*write).End();
      if (auto* both = std::get_if<CpuReadWrite>(&access)) ended = std::move(*both).End();
      access = std::monostate();
      return ended;
    }
    bool open() const noexcept { return !std::holds_alternative<std::monostate>(access); }

    const std::shared_ptr<ClientPart> client;
    uintptr_t number = 0;  // in the table, since it is there
    // The rest under `mutex`, but for a buffer that nobody else can have.
    std::mutex mutex;
    Buffer lease;   // until it is kept
    Handle handle;  // from then on
    bool kept = false;
    // 0: it was released. It changes under the client's lock.
    std::atomic<uint32_t> references{1};
    uint64_t bytes = 0;
    std::optional<HeapId> heap;
    Properties properties;
    uint32_t maps = 0;
    std::optional<ReadOnlyMapping> read_only;
    std::optional<WritableMapping> writable;
    std::variant<std::monostate, CpuRead, CpuWrite, CpuReadWrite> access;
  };

  template <class Part>
  using Table = std::unordered_map<uintptr_t, std::shared_ptr<Part>>;

  template <class H>
  static uintptr_t NumberOf(const H* handle) noexcept {
    return reinterpret_cast<uintptr_t>(handle);
  }
  static std::string_view TextOf(const char* text) noexcept {
    return text == nullptr ? std::string_view() : std::string_view(text);
  }
  template <size_t kWords>
  static bool HasBits(const uint32_t (&words)[kWords]) noexcept {
    return std::any_of(words, words + kWords, [](uint32_t word) { return word != 0; });
  }
  static std::vector<std::string_view> Split(std::string_view names) {
    std::vector<std::string_view> all;
    for (;;) {
      const size_t comma = names.find(',');
      all.push_back(names.substr(0, comma));
      if (comma == names.npos) return all;
      names.remove_prefix(comma + 1);
    }
  }

  static absl::Status Wrong(Operation operation, const char* what,
                            const char* hint = nullptr) noexcept {
    return ToStatus(Error(EINVAL, what, {"c", operation}, hint));
  }
  static absl::Status NoMemory(Operation operation) noexcept {
    return ToStatus(Error(ENOMEM, "operator new", {"c", operation}));
  }
  static absl::Status Busy(Operation operation, const char* why) noexcept {
    return ToStatus(Error(EBUSY, why, {"c", operation}));
  }
  static absl::Status StillHas(size_t count, std::string_view what) noexcept {
    return internal::WithMemory(
        [&] {
          return MakeStatus(EBUSY, absl::StrCat("c: close: EBUSY: it has ", count, " ",
                                                internal::View(what), " that are open"));
        },
        [] { return internal::CodeAlone(EBUSY); });
  }
  int Refuse(Operation operation, const char* what, ion_c_error* error) noexcept {
    return Tell(Wrong(operation, what), error);
  }
  int Null(Operation operation, const char* parameter, ion_c_error* error) noexcept {
    return Tell(ToStatus(Error(EINVAL, "a parameter that must not be NULL is",
                               {"c", operation, parameter})),
                error);
  }
  absl::Status Unknown(const char* kind, uintptr_t number) const noexcept {
    const Origin origin{"c", Operation::kUseHandle, kind};
    if (number == 0) return ToStatus(Error(EINVAL, "the handle is NULL", origin));
    if (number < first_) {
      return ToStatus(Error(EPERM, "the handle is of the process that forked", origin,
                            "open a manager in the child"));
    }
    return ToStatus(
        Error(EINVAL, "no such handle: it was closed or released, or is of another kind", origin));
  }

  // Tells the Status of `act`, or ENOMEM if the standard library has no memory in it.
  template <class F>
  int Run(Operation operation, ion_c_error* error, F act) noexcept {
    return Tell(internal::WithMemory([&]() -> absl::Status { return act(); },
                                     [&] { return NoMemory(operation); }),
                error);
  }

  template <class Part, class H>
  std::shared_ptr<Part> Find(Table<Part>& table, const H* handle) noexcept {
    const std::lock_guard lock(mutex_);
    const auto at = table.find(NumberOf(handle));
    return at == table.end() ? nullptr : at->second;
  }
  template <class Part, class H, class F>
  int WithPart(Table<Part>& table, const char* kind, const H* handle, ion_c_error* error,
               F act) noexcept {
    return Run(Operation::kUseHandle, error, [&]() -> absl::Status {
      const std::shared_ptr<Part> part = Find(table, handle);
      return part == nullptr ? Unknown(kind, NumberOf(handle)) : act(*part);
    });
  }
  // act(part) under the lock of the buffer, and of its client if kWithClient. The buffer's comes
  // first: a begin may wait for a device under it, and nobody waits for that with the client's.
  template <bool kWithClient, class F>
  int WithBuffer(const ion_c_buffer* buffer, ion_c_error* error, F act) noexcept {
    // Outside of the locks: the last reference may be this one.
    std::shared_ptr<BufferPart> part;
    return Run(Operation::kUseHandle, error, [&]() -> absl::Status {
      part = Find(buffers_, buffer);
      if (part == nullptr) return Unknown("buffer", NumberOf(buffer));
      const std::lock_guard lock(part->mutex);
      std::unique_lock client_lock(part->client->mutex, std::defer_lock);
      if (kWithClient) client_lock.lock();
      // Another thread was faster.
      if (part->references == 0) return Unknown("buffer", NumberOf(buffer));
      return act(part);
    });
  }
  // make(client), which counts as a buffer of the client if it succeeds with a new one.
  template <class F>
  int NewBuffer(const ion_c_client* client, Operation operation, ion_c_buffer** buffer,
                ion_c_error* error, F make) noexcept {
    return Run(operation, error, [&]() -> absl::Status {
      std::shared_ptr<ClientPart> part;
      {
        const std::lock_guard lock(mutex_);
        const auto at = clients_.find(NumberOf(client));
        if (at == clients_.end()) return Unknown("client", NumberOf(client));
        part = at->second;
        ++part->buffers;  // from here on it stays open
      }
      absl::Status made = internal::WithMemory([&]() -> absl::Status { return make(part); },
                                               [&] { return NoMemory(operation); });
      if (!made.ok()) {
        *buffer = nullptr;
        const std::lock_guard lock(mutex_);
        --part->buffers;
      }
      return made;
    });
  }

  template <class Part, class H>
  absl::Status Give(Table<Part>& table, std::shared_ptr<Part> part, H** handle) {
    const std::lock_guard lock(mutex_);
    const uintptr_t number = next_.load(std::memory_order_relaxed);
    if (number == UINTPTR_MAX) return MakeStatus(EOVERFLOW, "c: EOVERFLOW: no number is left");
    // Before others can have it.
    if constexpr (requires { part->number; }) part->number = number;
    table.emplace(number, std::move(part));
    next_.store(number + 1, std::memory_order_relaxed);
    *handle = reinterpret_cast<H*>(number);
    return absl::OkStatus();
  }

  // Under the locks of the buffer and its client.
  static absl::Status KeepPart(const std::shared_ptr<BufferPart>& part) {
    if (part->kept) return absl::OkStatus();
    ClientPart& client = *part->client;
    // First, because it may throw.
    std::map<Key, uintptr_t> spare;
    spare.emplace(Key(), part->number);
    absl::StatusOr<Handle> handle = client.client.MakeHandle(std::move(part->lease));
    if (!handle.ok()) return handle.status();
    part->handle = *handle;
    part->kept = true;
    auto node = spare.extract(spare.begin());
    node.key() = KeyOf(*handle);
    client.kept.insert(std::move(node));
    return absl::OkStatus();
  }

  // Under the client's lock. The client counts one buffer more already.
  absl::Status AddImport(const std::shared_ptr<ClientPart>& part, const Handle& handle,
                         ion_c_buffer** buffer) {
    if (const auto at = part->kept.find(KeyOf(handle)); at != part->kept.end()) {
      const auto same = Find(buffers_, reinterpret_cast<ion_c_buffer*>(at->second));
      ++same->references;
      *buffer = reinterpret_cast<ion_c_buffer*>(at->second);
      const std::lock_guard table_lock(mutex_);
      --part->buffers;  // none that is new
      return absl::OkStatus();
    }
    const auto info = part->client.Info(handle);
    if (!info.ok()) return info.status();
    auto fresh = std::make_shared<BufferPart>(part);
    fresh->bytes = info->bytes;
    fresh->heap = info->heap;
    fresh->properties = info->properties;
    const auto [slot, added] = part->kept.emplace(KeyOf(handle), 0);
    (void)added;
    fresh->handle = handle;
    fresh->kept = true;
    absl::Status given = internal::WithMemory([&] { return Give(buffers_, fresh, buffer); },
                                              [&] { return NoMemory(Operation::kImport); });
    if (given.ok()) {
      slot->second = fresh->number;
    } else {
      fresh->kept = false;  // the caller frees the handle
      part->kept.erase(slot);
    }
    return given;
  }

  const internal::ForkMark mark_;
  const uintptr_t first_;  // the number of its first handle; smaller ones are of a parent process
  std::atomic<uintptr_t> next_;
  std::mutex mutex_;
  Table<ManagerPart> managers_;
  Table<ClientPart> clients_;
  Table<BufferPart> buffers_;
};

}  // namespace ion::compat

#endif  // ION_COMPAT_C_C_INTERFACE_H_
