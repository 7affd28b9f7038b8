// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/frame_path.cc
//
// The step of a frame between two processes: take memory, write 64 KiB of it, hand it to a second
// process, read it there, take it back. CPU time of both processes for a frame of a quiet
// batch, without the time in which they wake each other (bench/frame_peer.h); `calls` is the system
// calls of both.
//
//   BM_FrameRing         a plain ring of mapped memfds; the message has the index
//   BM_FrameKept         the same of SharedBuffers, imported and mapped once, in scopes of CPU access
//   BM_FrameRingFd       plain; each message has the descriptor, whose inode finds its mapping
//   BM_FrameFd           the same of SharedBuffers: Import and Free of a handle that the peer keeps
//   BM_FrameRingMapped   plain; the peer maps each descriptor, and unmaps it
//   BM_FrameHandle       a lease, MakeHandle, Lend; Import and Free at the peer, which does not
//                        read, as if its device did; Free, and a proof for the pool
//   BM_FrameHandleRead   the same, mapped and read at the peer
//
// The memory of ours is of ProvenMemfd (bench/proven_memfd.h). And of one process:
//
//   BM_ScopeBare         Allocate and release of 4 KiB, as the client's own domain left it
//   BM_ScopeWrite        the same, with a mapping and a CpuWrite in which a byte is written
//   BM_ImportKnown/<n>   Import of memory that one of n handles is of, and Free
//   BM_ImportNew/<n>     Import of memory from elsewhere beside n handles, and Free
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/counting_sockets.h"
#include "bench/counting_syscalls.h"
#include "bench/crowd_syscalls.h"
#include "bench/frame_peer.h"
#include "bench/memfd_vector.h"
#include "bench/pinned.h"
#include "bench/pooled_memfd.h"
#include "bench/program.h"
#include "bench/proven_memfd.h"
#include "ion/backends/memfd.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/request.h"
#include "ion/shared_buffer.h"

namespace ion::bench {
namespace {

absl::Status Failed(const char* call) { return absl::InternalError(call); }

// --- the bytes of a frame ------------------------------------------------------------------------

void Write(std::span<std::byte> frame, uint32_t value) {
  std::memset(frame.data(), static_cast<int>(value & 0xff), kFrameBytes);
}

absl::Status Read(const std::byte* frame, uint32_t value) {
  uint64_t sum = 0;
  for (uint64_t at = 0; at < kFrameBytes; at += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, frame + at, sizeof(word));
    sum += word;
  }
  const uint64_t wanted = 0x0101010101010101 * (value & 0xff) * (kFrameBytes / sizeof(uint64_t));
  return sum == wanted ? absl::OkStatus() : absl::DataLossError("a frame has other bytes");
}

// --- plain: by the calls that a program makes itself ---------------------------------------------

union PlainControl {
  cmsghdr header;
  std::byte bytes[CMSG_SPACE(sizeof(int))];
};

// fd -1: the message alone.
absl::Status SendPlain(uint64_t& calls, FdRef socket, Message message, int fd = -1) {
  iovec part{.iov_base = &message, .iov_len = sizeof(message)};
  PlainControl control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof(control.bytes);
    control.header = {
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    std::memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
  }
  ++calls;
  const ssize_t sent = ::sendmsg(socket.get(), &header, MSG_NOSIGNAL);
  return sent == sizeof(message) ? absl::OkStatus() : Failed("sendmsg");
}

absl::Status ReceivePlain(uint64_t& calls, FdRef socket, Message& message, UniqueFd* fd = nullptr) {
  iovec part{.iov_base = &message, .iov_len = sizeof(message)};
  PlainControl control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd != nullptr) {
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof(control.bytes);
  }
  ++calls;
  if (::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC) != sizeof(message)) {
    return Failed("recvmsg");
  }
  if (fd == nullptr) return absl::OkStatus();
  const cmsghdr* const sent = CMSG_FIRSTHDR(&header);
  if (sent == nullptr || sent->cmsg_type != SCM_RIGHTS) return Failed("no descriptor came");
  int number;
  std::memcpy(&number, CMSG_DATA(sent), sizeof(number));
  *fd = UniqueFd(number);
  return absl::OkStatus();
}

void Close(uint64_t& calls, UniqueFd fd) {
  ++calls;
  fd.reset();
}

// f(index, descriptor) for each of a ring, as the other end sends them once.
template <class F>
absl::Status ReceiveRing(uint64_t& calls, FdRef socket, F f) {
  absl::Status status;
  for (uint32_t i = 0; i < kBatch && status.ok(); ++i) {
    Message message;
    UniqueFd fd;
    status = ReceivePlain(calls, socket, message, &fd);
    if (status.ok()) status = f(message.index % kBatch, std::move(fd));
  }
  return status;
}

enum class Way { kIndex, kFd, kMapped };

// The end that writes: Open(calls, socket) once, Hand(index, value, socket) for each frame, and
// TakeBack(index) after the peer has read them.
template <Way kWay>
class PlainOwner {
 public:
  absl::Status Open(uint64_t& calls, FdRef socket) {
    calls_ = &calls;
    absl::Status status;
    for (uint32_t i = 0; i < kBatch; ++i) {
      ring_[i] = MappedMemfd(kFrameBytes);
      status.Update(SendPlain(calls, socket, {.index = i}, ring_[i].fd.get()));
    }
    return status;
  }
  absl::Status Hand(uint32_t index, uint32_t value, FdRef socket) {
    Write({ring_[index].at, kFrameBytes}, value);
    return SendPlain(*calls_, socket, {index, value},
                     kWay == Way::kIndex ? -1 : ring_[index].fd.get());
  }
  absl::Status TakeBack(uint32_t) { return absl::OkStatus(); }

 private:
  uint64_t* calls_ = nullptr;
  std::array<MappedMemfd, kBatch> ring_;
};

// The end that reads.
template <Way kWay>
class PlainPeer {
 public:
  absl::Status Open(uint64_t& calls, FdRef socket) {
    calls_ = &calls;
    return ReceiveRing(calls, socket, [&](uint32_t index, UniqueFd fd) {
      struct stat status {};
      void* const at = ::mmap(nullptr, kFrameBytes, PROT_READ, MAP_SHARED, fd.get(), 0);
      if (at == MAP_FAILED || ::fstat(fd.get(), &status) != 0) return Failed("mmap");
      ring_[index] = {static_cast<const std::byte*>(at), status.st_dev, status.st_ino};
      return absl::OkStatus();
    });
  }
  absl::Status Take(FdRef socket) {
    Message message;
    UniqueFd fd;
    absl::Status status =
        ReceivePlain(*calls_, socket, message, kWay == Way::kIndex ? nullptr : &fd);
    if (!status.ok()) return status;
    if constexpr (kWay == Way::kIndex) {
      return Read(ring_[message.index % kBatch].at, message.value);
    } else {
      status = kWay == Way::kFd ? ReadKnown(fd, message) : ReadMapped(fd, message);
      Close(*calls_, std::move(fd));
      return status;
    }
  }

 private:
  struct Known {
    const std::byte* at;
    dev_t device;
    ino_t inode;
  };

  absl::Status ReadKnown(const UniqueFd& fd, const Message& message) {
    struct stat status {};
    ++*calls_;
    if (::fstat(fd.get(), &status) != 0) return Failed("fstat");
    for (const Known& known : ring_) {
      if (known.inode != status.st_ino || known.device != status.st_dev) continue;
      return Read(known.at, message.value);
    }
    return Failed("an unknown descriptor");
  }
  absl::Status ReadMapped(const UniqueFd& fd, const Message& message) {
    *calls_ += 2;
    void* const at = ::mmap(nullptr, kFrameBytes, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (at == MAP_FAILED) return Failed("mmap");
    absl::Status status = Read(static_cast<const std::byte*>(at), message.value);
    ::munmap(at, kFrameBytes);
    return status;
  }

  uint64_t* calls_ = nullptr;
  std::array<Known, kBatch> ring_{};
};

// --- ours ----------------------------------------------------------------------------------------

using Counted = ProvenMemfd<CountingSyscalls>;
using Shared = Manager<Counted, PooledHeap<UnclaimedMemfd<HeapId{0}, Counted>>>;

// A Manager whose system calls are counted, and a client of it.
struct Side {
  std::optional<Shared> manager;
  std::optional<Shared::Client> client;
  uint64_t* calls = nullptr;

  absl::Status Open(uint64_t& count) {
    calls = &count;
    absl::StatusOr<Shared> opened = Shared::Open({.sys = CountingSyscalls(count)});
    if (!opened.ok()) return opened.status();
    manager.emplace(*std::move(opened));
    auto created = manager->CreateClient({.name = "bench", .recycle_as_is = true});
    if (!created.ok()) return created.status();
    client.emplace(*std::move(created));
    return absl::OkStatus();
  }
  absl::Status Send(FdRef socket, const Message& message, FdRef fd) const {
    return ToStatus(
        SendFds(socket, std::as_bytes(std::span(&message, 1)), {&fd, 1}, CountingSockets(*calls)));
  }
  absl::Status Receive(FdRef socket, Message& message, UniqueFd& fd) const {
    const Result<size_t> count = ReceiveFds(socket, std::as_writable_bytes(std::span(&message, 1)),
                                            {&fd, 1}, CountingSockets(*calls));
    if (!count.ok()) return ToStatus(count.error());
    return *count == 1 ? absl::OkStatus() : Failed("no descriptor came");
  }
};

absl::Status WriteScoped(const WritableMapping& mapping, uint32_t value) {
  absl::StatusOr<CpuWrite> cpu = CpuWrite::Begin(mapping);
  if (!cpu.ok()) return cpu.status();
  Write(cpu->bytes(), value);
  return std::move(*cpu).End();
}

absl::Status ReadScoped(const ReadOnlyMapping& mapping, uint32_t value) {
  absl::StatusOr<CpuRead> cpu = CpuRead::Begin(mapping);
  if (!cpu.ok()) return cpu.status();
  const absl::Status status = Read(cpu->bytes().data(), value);
  const absl::Status ended = std::move(*cpu).End();
  return status.ok() ? ended : status;
}

template <Way kWay>
class KeptOwner {
 public:
  absl::Status Open(uint64_t& calls, FdRef socket) {
    if (absl::Status status = side_.Open(calls); !status.ok()) return status;
    auto ring = side_.client->AllocateShared({.bytes = kFrameBytes}, kBatch);
    if (!ring.ok()) return ring.status();
    ring_ = *std::move(ring);
    for (uint32_t i = 0; i < kBatch; ++i) {
      absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(ring_[i]);
      if (!mapping.ok()) return mapping.status();
      mappings_.push_back(*std::move(mapping));
      absl::Status status = SendPlain(calls, socket, {.index = i}, ring_[i].fd().get());
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  absl::Status Hand(uint32_t index, uint32_t value, FdRef socket) {
    if (absl::Status status = WriteScoped(mappings_[index], value); !status.ok()) return status;
    if (kWay == Way::kIndex) return SendPlain(*side_.calls, socket, {index, value});
    return side_.Send(socket, {index, value}, ring_[index].fd());
  }
  absl::Status TakeBack(uint32_t) { return absl::OkStatus(); }

 private:
  Side side_;
  std::vector<SharedBuffer> ring_;
  std::vector<WritableMapping> mappings_;
};

template <Way kWay>
class KeptPeer {
 public:
  absl::Status Open(uint64_t& calls, FdRef socket) {
    if (absl::Status status = side_.Open(calls); !status.ok()) return status;
    return ReceiveRing(calls, socket, [&](uint32_t index, UniqueFd fd) {
      const absl::StatusOr<Handle> handle = side_.client->Import(fd.borrow());
      if (!handle.ok()) return handle.status();
      auto mapping = side_.client->Map<MapMode::kReadOnly>(*handle);
      if (!mapping.ok()) return mapping.status();
      mappings_[index].emplace(*std::move(mapping));
      return absl::OkStatus();
    });
  }
  absl::Status Take(FdRef socket) {
    Message message;
    if constexpr (kWay == Way::kIndex) {
      const absl::Status status = ReceivePlain(*side_.calls, socket, message);
      return status.ok() ? ReadScoped(*mappings_[message.index % kBatch], message.value) : status;
    } else {
      UniqueFd fd;
      absl::Status status = side_.Receive(socket, message, fd);
      if (!status.ok()) return status;
      const absl::StatusOr<Handle> handle = side_.client->Import(fd.borrow());
      if (!handle.ok()) return handle.status();
      status = ReadHandle(*handle, message.value);
      Close(*side_.calls, std::move(fd));
      status.Update(side_.client->Free(*handle));
      return status;
    }
  }

 private:
  absl::Status ReadHandle(const Handle& handle, uint32_t value) {
    const auto mapping = side_.client->Map<MapMode::kReadOnly>(handle);
    return mapping.ok() ? ReadScoped(*mapping, value) : mapping.status();
  }

  Side side_;
  std::array<std::optional<ReadOnlyMapping>, kBatch> mappings_;
};

class HandleOwner {
 public:
  absl::Status Open(uint64_t& calls, FdRef) {
    if (absl::Status status = side_.Open(calls); !status.ok()) return status;
    return side_.client->Prefill({.bytes = kFrameBytes}, kBatch);
  }
  absl::Status Hand(uint32_t index, uint32_t value, FdRef socket) {
    absl::StatusOr<Buffer> lease = side_.client->Allocate({.bytes = kFrameBytes});
    if (!lease.ok()) return lease.status();
    if (absl::Status status = WriteLease(*lease, value); !status.ok()) return status;
    const absl::StatusOr<Handle> handle = side_.client->MakeHandle(*std::move(lease));
    if (!handle.ok()) return handle.status();
    handles_[index] = *handle;
    return side_.client->Lend(*handle, [&](FdRef fd) {
      return side_.Send(socket, {index, value}, fd);
    });
  }
  absl::Status TakeBack(uint32_t index) { return side_.client->Free(handles_[index]); }

  // Leases that were fresh from the kernel, so that the pool gave none.
  uint64_t misses() const {
    uint64_t misses = 0;
    for (const PoolReport& pool : side_.manager->MakeReport().pools) misses += pool.misses;
    return misses;
  }

 private:
  static absl::Status WriteLease(const Buffer& lease, uint32_t value) {
    const absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(lease);
    return mapping.ok() ? WriteScoped(*mapping, value) : mapping.status();
  }

  Side side_;
  std::array<Handle, kBatch> handles_;
};

template <bool kReads>
class HandlePeer {
 public:
  absl::Status Open(uint64_t& calls, FdRef) { return side_.Open(calls); }
  absl::Status Take(FdRef socket) {
    Message message;
    UniqueFd fd;
    absl::Status status = side_.Receive(socket, message, fd);
    if (!status.ok()) return status;
    const absl::StatusOr<Handle> handle = side_.client->Import(std::move(fd));
    if (!handle.ok()) return handle.status();
    if (kReads) {
      const auto mapping = side_.client->Map<MapMode::kReadOnly>(*handle);
      status = mapping.ok() ? ReadScoped(*mapping, message.value) : mapping.status();
    }
    status.Update(side_.client->Free(*handle));
    return status;
  }

 private:
  Side side_;
};

// --- the step ------------------------------------------------------------------------------------

template <class Owner, class P>
void Step(benchmark::State& state) {
  const Pinned pinned(state);
  // First: the peer inherits nothing, and is bound to the same processor.
  const auto peer = FramePeer::Start<P>();
  const Board& board = peer->board();
  uint64_t calls = 0;
  uint32_t value = 0;
  Owner owner;
  absl::Status status = owner.Open(calls, peer->frames());
  if (status.ok()) status = peer->Turn();
  // Returns the CPU time of a batch.
  const auto batch = [&] {
    const uint64_t peer_before = board.ns;
    uint64_t before = ThreadNs();
    ++value;
    for (uint32_t i = 0; i < kBatch && status.ok(); ++i) {
      status = owner.Hand(i, value + i, peer->frames());
    }
    uint64_t took = ThreadNs() - before;
    if (status.ok()) status = peer->Turn();
    before = ThreadNs();
    for (uint32_t i = 0; i < kBatch && status.ok(); ++i) status = owner.TakeBack(i);
    took += ThreadNs() - before;
    return took + board.ns - peer_before;
  };
  if (status.ok()) batch();  // the first touches fresh pages
  const uint64_t calls_before = calls + board.calls;
  const uint64_t peer_calls_before = board.calls;
  uint64_t misses_before = 0;
  if constexpr (requires { owner.misses(); }) {
    if (status.ok()) misses_before = owner.misses();
  }
  std::vector<uint64_t> batches;
  while (status.ok() && state.KeepRunningBatch(kBatch)) batches.push_back(batch());
  // All as long as the tenth part's last, from the shortest on: other work on the processor's sister
  // thread makes a batch half as long again, in one run and not in the next.
  if (!batches.empty()) {
    const auto tenth = batches.begin() + static_cast<ptrdiff_t>(batches.size() / 10);
    std::nth_element(batches.begin(), tenth, batches.end());
    const auto count = static_cast<double>(batches.size());
    state.SetIterationTime(1e-9 * count * static_cast<double>(*tenth));
  }
  if constexpr (requires { owner.misses(); }) {
    if (status.ok() && owner.misses() != misses_before) status = Failed("a frame was not recycled");
  }
  if (!status.ok()) return state.SkipWithError(std::string(status.message()).c_str());
  const auto counter = [](uint64_t count) {
    return benchmark::Counter(static_cast<double>(count), benchmark::Counter::kAvgIterations);
  };
  state.counters["calls"] = counter(calls + board.calls - calls_before);
  state.counters["calls_peer"] = counter(board.calls - peer_calls_before);
}

// --- scopes --------------------------------------------------------------------------------------

using Unshared = Manager<MemfdBackend<>, PooledMemfd<HeapId{0}>>;

template <bool kScope>
void Scope(benchmark::State& state) {
  const Pinned pinned(state);
  auto manager = Unshared::Open();
  if (!manager.ok()) return state.SkipWithError("no memfd");
  auto client = manager->CreateClient({.name = "bench", .recycle_as_is = true});
  if (!client.ok()) return state.SkipWithError("no client");
  auto& user = *client;
  const Request request{.bytes = 4096};
  { const auto first = user.Allocate(request); }
  for (auto _ : state) {
    absl::StatusOr<Buffer> buffer = user.Allocate(request);
    if (!buffer.ok()) [[unlikely]]
      return state.SkipWithError("no buffer");
    benchmark::DoNotOptimize(*buffer);
    if constexpr (kScope) {
      const absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(*buffer);
      if (!mapping.ok()) [[unlikely]]
        return state.SkipWithError("no mapping");
      absl::StatusOr<CpuWrite> cpu = CpuWrite::Begin(*mapping);
      if (!cpu.ok()) [[unlikely]]
        return state.SkipWithError("no access");
      *static_cast<volatile std::byte*>(cpu->bytes().data()) = std::byte{1};
      if (!std::move(*cpu).End().ok()) [[unlikely]]
        return state.SkipWithError("no end of the access");
    }
  }
}

// --- identities ----------------------------------------------------------------------------------

using Crowded = MemfdBackend<CrowdSyscalls>;
using Kept = Manager<Crowded, UnclaimedMemfd<HeapId{0}, Crowded>>;
constexpr uint32_t kImported = 8;  // different ones, in turn

// A memfd of somebody else, as Import wants it.
UniqueFd MakeForeign() {
  UniqueFd fd(::memfd_create("theirs", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const bool sealed =
      ::ftruncate(fd.get(), 4096) == 0 && ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0;
  return sealed ? std::move(fd) : UniqueFd();
}

// Gives `client` handles until it has `count`, the first of real memory; their descriptors.
template <class C>
absl::StatusOr<std::vector<UniqueFd>> Fill(C& client, Crowd& crowd, uint32_t count) {
  std::vector<UniqueFd> fds;
  for (uint32_t i = 0; i < count; ++i) {
    crowd.open = i >= kImported;
    absl::StatusOr<Buffer> lease = client.Allocate({.bytes = 4096});
    if (!lease.ok()) return lease.status();
    const absl::StatusOr<Handle> handle = client.MakeHandle(*std::move(lease));
    if (!handle.ok()) return handle.status();
    if (crowd.open) continue;
    absl::StatusOr<UniqueFd> fd = client.Share(*handle);
    if (!fd.ok()) return fd.status();
    struct stat status {};
    if (::fstat(fd->get(), &status) != 0) return Failed("fstat");
    crowd.device = status.st_dev;
    fds.push_back(*std::move(fd));
  }
  crowd.open = false;
  return fds;
}

enum class From { kOurs, kElsewhere };

void Import(benchmark::State& state, From from) {
  const Pinned pinned(state);
  const auto count = static_cast<uint32_t>(state.range(0));
  Crowd crowd;
  auto manager = Kept::Open({.sys = CrowdSyscalls(crowd)});
  if (!manager.ok()) return state.SkipWithError("no memfd");
  const uint32_t most = count + kImported;
  auto client = manager->CreateClient({.name = "bench", .max_buffers = most, .max_handles = most});
  if (!client.ok()) return state.SkipWithError("no client");
  auto fds = Fill(*client, crowd, count);
  if (!fds.ok()) return state.SkipWithError(std::string(fds.status().message()).c_str());
  if (from == From::kElsewhere) {
    for (UniqueFd& fd : *fds) fd = MakeForeign();
  }
  absl::Status status;
  uint32_t at = 0;
  for (auto _ : state) {
    const absl::StatusOr<Handle> handle = client->Import((*fds)[at++ % kImported].borrow());
    status = handle.ok() ? client->Free(*handle) : handle.status();
    if (!status.ok()) [[unlikely]]
      break;
  }
  if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
}

// -------------------------------------------------------------------------------------------------

void RegisterAll() {
  const auto step = [](const char* name, void (*run)(benchmark::State&)) {
    benchmark::RegisterBenchmark(name, run)->UseManualTime();
  };
  step("BM_FrameRing", Step<PlainOwner<Way::kIndex>, PlainPeer<Way::kIndex>>);
  step("BM_FrameRingFd", Step<PlainOwner<Way::kFd>, PlainPeer<Way::kFd>>);
  step("BM_FrameRingMapped", Step<PlainOwner<Way::kMapped>, PlainPeer<Way::kMapped>>);
  step("BM_FrameKept", Step<KeptOwner<Way::kIndex>, KeptPeer<Way::kIndex>>);
  step("BM_FrameFd", Step<KeptOwner<Way::kFd>, KeptPeer<Way::kFd>>);
  step("BM_FrameHandle", Step<HandleOwner, HandlePeer</*kReads=*/false>>);
  step("BM_FrameHandleRead", Step<HandleOwner, HandlePeer</*kReads=*/true>>);
  benchmark::RegisterBenchmark("BM_ScopeBare", Scope</*kScope=*/false>);
  benchmark::RegisterBenchmark("BM_ScopeWrite", Scope</*kScope=*/true>);
  for (const int64_t count : {10, 60'000}) {
    benchmark::RegisterBenchmark("BM_ImportKnown", [](benchmark::State& state) {
      Import(state, From::kOurs);
    })->Arg(count);
    benchmark::RegisterBenchmark("BM_ImportNew", [](benchmark::State& state) {
      Import(state, From::kElsewhere);
    })->Arg(count);
  }
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv,
                                {"--benchmark_repetitions=9", "--benchmark_min_time=0.03"},
                                ion::bench::RegisterAll);
}
