// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/stream_state.h
//
// StreamState: the inside of a stream (ion/stream.h): its devices, its buffers, and the two acts
// that change its memory, Commit and the move. Not for users.
//
// A move gives all buffers other memory, or none. Until everything has succeeded the old memory is
// the buffers': the new memory is allocated, verified and filled first.
//
// Cost: cold. Not thread-safe.
#ifndef ION_ION_CORE_STREAM_STATE_H_
#define ION_ION_CORE_STREAM_STATE_H_

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/base/bytes.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/known.h"
#include "ion/base/poll_until.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/client_ref.h"
#include "ion/coherency.h"
#include "ion/constraints.h"
#include "ion/core/stream_holders.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/device.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/layout.h"
#include "ion/move_holder.h"
#include "ion/pixel_check.h"
#include "ion/plane_view.h"
#include "ion/request.h"
#include "ion/slab.h"
#include "ion/sync_counts.h"

namespace ion {

// The input of a stream. Either `image` or `bytes` is set.
struct StreamOptions {
  uint32_t buffers = 1;
  uint64_t bytes = 0;                       // of each buffer
  std::optional<ImageSpec> image = {};      // its limits are those of all parties
  std::string_view name = {};               // of the buffers, for the kernel's reports
  Flags flags = Flags::kNone;               // of each request
  std::optional<uint64_t> memory_top = {};  // as in ChoiceOptions
  // False: a device that cannot use the memory is refused, and the memory stays.
  bool moves = true;
  // A move waits so long for its holders to be quiet and for the fences of devices; and again so
  // long for each holder to take the new memory.
  std::chrono::milliseconds patience{1000};
  PixelCheck pixels = {};  // none: the answers of devices are enough
};

// The cost of a stream's moves.
struct MoveReport {
  uint64_t moves = 0;                // that gave the buffers other memory
  uint64_t refused = 0;              // that somebody's use of the memory prevented, or that failed
  uint64_t bytes = 0;                // copied
  uint64_t dropped = 0;              // holders that did not take the new memory
  std::chrono::nanoseconds time{0};  // of moves that succeeded
};

namespace internal {

// The devices of one stream; the caller's own demands are one party more.
inline constexpr size_t kMostDevices = kMostParties - 1;

template <Syscalls Sys>
class StreamState {
 public:
  struct Slot {
    Buffer lease;
    std::byte* at = nullptr;  // of the movable mapping, which the stream keeps
    uint64_t mapped_bytes = 0;
    bool lost = false;      // neither new nor old memory could be laid there
    uint32_t mappings = 0;  // MovableMappings that live
    uint32_t scopes = 0;    // CPU scopes open
    CoherencyState coherency;
    SyncCounts earlier;      // of memory that the buffer had before
    bool published = false;  // its descriptor was given out
    bool shared = false;     // a holder may have the descriptor of this memory
    bool in_device = false;  // a device that was detached may use this memory still
    // True if others may have the memory when the stream lets go of it.
    bool kept() const noexcept { return published || shared || in_device; }
  };
  struct Attached {
    explicit Attached(const DeviceRef& to) noexcept : device(to) {}
    DeviceRef device;
    uint64_t id = 0;
    std::vector<std::optional<ion::Imported>> mapped;  // by buffer
    std::vector<uint32_t> uses;                        // by buffer: BeginUse without EndUse
    uint32_t mappings = 0;                             // DeviceMappings that live
  };

  StreamState(ClientRef client, const HeapOffers& offers, const StreamOptions& options, Sys sys)
      : client_(client),
        offers_(offers),
        options_(options),
        name_(options.name),
        sys_(sys),
        told_(std::make_shared<std::vector<SharedSyncCounts>>(options.buffers)),
        slots_(options.buffers) {
    options_.name = name_;
    attached_.reserve(kMostDevices);
  }
  StreamState(const StreamState&) = delete;
  StreamState& operator=(const StreamState&) = delete;
  ~StreamState() {
    Report(FlushAll());
    for (Attached& device : attached_) Report(UnmapAll(device));
    for (Slot& slot : slots_) {
      UnmapCpu(slot);
      RetireIfBusy(slot);
    }
  }

  bool committed() const noexcept { return generation_ != 0; }
  uint64_t generation() const noexcept { return generation_; }
  uint32_t buffers() const noexcept { return options_.buffers; }
  uint64_t bytes() const noexcept { return bytes_; }
  const ImageLayout* image() const noexcept {
    return committed() && options_.image.has_value() ? &layout_ : nullptr;
  }
  const Choice& choice() const noexcept { return choice_; }
  std::optional<HeapId> heap() const noexcept { return heap_; }
  // The most pieces of a buffer; none: not known.
  std::optional<uint64_t> segments() const noexcept {
    const HeapOffer* const offer = heap_.has_value() ? OfferOf(*heap_) : nullptr;
    return offer == nullptr ? std::nullopt : offer->guarantees.segments;
  }
  const MoveReport& moves() const noexcept { return moves_; }
  void Close() noexcept { open_ = false; }

  // The stream exists, and has this buffer.
  Error Check(uint32_t buffer, Operation operation) const noexcept {
    const Origin origin{"stream", operation};
    if (!open_) return Error(EINVAL, "the stream has ended", origin);
    if (buffer < options_.buffers) return {};
    return Error(EINVAL, "the stream has no buffer of that number", origin, "they count from 0");
  }

  // ---- devices

  Attached* Find(uint64_t id) noexcept {
    const auto at = std::ranges::find(attached_, id, &Attached::id);
    return at == attached_.end() ? nullptr : &*at;
  }
  // Adds the device, and checks, or moves, memory that is there. Returns the attachment's id.
  absl::StatusOr<uint64_t> Attach(DeviceRef device) noexcept {
    if (!open_) return ToStatus(Check(0, Operation::kAttach));
    const Party party = device.party();
    const Origin origin{"stream", Operation::kAttach, party.name.view()};
    if (std::ranges::find(attached_, device, &Attached::device) != attached_.end()) {
      return ToStatus(Error(EEXIST, "the device is attached to the stream", origin,
                            "one attachment serves all buffers"));
    }
    if (attached_.size() == kMostDevices) {
      return ToStatus(Error(E2BIG, "the stream has 15 devices, and takes no more", origin));
    }
    const bool room = TryWithMemory([&] {
      Attached added(device);
      added.id = next_id_;
      added.mapped.resize(options_.buffers);
      added.uses.resize(options_.buffers);
      attached_.push_back(std::move(added));
    });
    if (!room) return ToStatus(Error(ENOMEM, "operator new", origin));
    ++next_id_;
    const absl::Status status = committed() ? Suit() : CheckDemands();
    if (status.ok()) return attached_.back().id;
    attached_.pop_back();
    return status;
  }
  // Requires: Find found it.
  absl::Status Detach(Attached& device) noexcept {
    const Party party = device.device.party();
    const Origin origin{"stream", Operation::kDetach, party.name.view()};
    if (device.mappings != 0) {
      return ToStatus(Error(EBUSY, "a DeviceMapping of the attachment lives", origin,
                            "end the mappings first, then the attachment"));
    }
    if (Error error = InUse(device, Operation::kDetach); !error.ok()) return ToStatus(error);
    const Error error = UnmapAll(device);
    std::erase_if(attached_, [&](const Attached& one) { return one.id == device.id; });
    return ToStatus(error);
  }
  // The device's import of the buffer, which is made now if there is none.
  absl::StatusOr<ion::Imported> Map(Attached& device, uint32_t buffer) noexcept {
    if (absl::Status status = Commit(); !status.ok()) return status;
    if (buffer >= slots_.size()) return ToStatus(Taken(Operation::kAttach));
    std::optional<ion::Imported>& mapped = device.mapped[buffer];
    if (mapped.has_value()) return *mapped;
    const Result<ion::Imported> made = device.device.Map(MemoryOf(slots_[buffer].lease));
    if (!made.ok()) return ToStatus(made.error());
    mapped = *made;
    return *made;
  }

  // ---- memory

  // Takes the memory of all buffers, or of none.
  absl::Status Commit() noexcept {
    if (committed()) return absl::OkStatus();
    absl::StatusOr<Memory> memory = TakeMemory({});
    if (!memory.ok()) return memory.status();
    Adopt(*std::move(memory));
    return absl::OkStatus();
  }
  // Maps a buffer where it stays when the memory moves.
  absl::StatusOr<std::byte*> MapCpu(uint32_t buffer) noexcept {
    if (absl::Status status = Commit(); !status.ok()) return status;
    Slot& slot = slots_[buffer];
    const Block& block = LeaseAccess::BlockOf(slot.lease);
    if (slot.lost) {
      if (Error error = MapOver(slot, block); !error.ok()) return ToStatus(error);
      slot.lost = false;
    }
    if (slot.at != nullptr) return slot.at;
    const Origin origin{"stream", Operation::kMap, name_, block.bytes};
    if (block.cpu_mappable.no()) {
      return ToStatus(Error(ENOTSUP, "the CPU cannot map this memory", origin,
                            "attach the CPU to the stream before it is committed"));
    }
    const long at = sys_.Mmap(AddressableBytes(block.bytes), PROT_READ | PROT_WRITE, block.fd,
                              static_cast<off_t>(block.offset));
    if (Failed(at)) return ToStatus(Error(ErrnoFrom(at), "mmap", origin));
    slot.at = reinterpret_cast<std::byte*>(at);
    slot.mapped_bytes = block.bytes;
    return slot.at;
  }
  absl::StatusOr<FdRef> Publish(uint32_t buffer, ion::Holders holders) noexcept {
    if (absl::Status status = Commit(); !status.ok()) return status;
    Slot& slot = slots_[buffer];
    Block& block = LeaseAccess::BlockOf(slot.lease);
    const Error error = slot.coherency.Publish(holders, Begin(block), End(block));
    if (ShareCounts(slot); !error.ok()) return ToStatus(error);
    slot.published = true;
    return slot.lease.fd();
  }

  // ---- holders

  // Gives the holder the present memory of these buffers, or of all.
  absl::Status Share(MoveHolderRef holder, std::span<const uint32_t> buffers) noexcept {
    if (!open_) return ToStatus(Check(0, Operation::kShare));
    Result<StreamHolders::Holder> made = holders_.Make(holder, buffers, options_.buffers);
    if (!made.ok()) return ToStatus(made.error());
    if (absl::Status status = Commit(); !status.ok()) return status;
    for (HandedBuffer& handed : made->buffers) {
      Slot& slot = slots_[handed.buffer];
      Block& block = LeaseAccess::BlockOf(slot.lease);
      Error error = Shareable(block);
      if (error.ok())
        error = slot.coherency.Publish(ion::Holders::kUnknown, Begin(block), End(block));
      if (ShareCounts(slot); !error.ok()) return ToStatus(error);
    }
    for (HandedBuffer& handed : made->buffers) Fill(handed);
    const Error error = holder.HandOver({made->buffers, generation_, image()}, Patience());
    if (error.ok()) holders_.Add(*std::move(made));
    return ToStatus(error);
  }
  Error DropHolder(MoveHolderRef holder) noexcept {
    if (holders_.Drop(holder)) return {};
    return Error(ENOENT, "the stream is not shared with the holder",
                 {"stream", Operation::kShare, holder.name()});
  }

  // The buffers themselves. Nobody may use them by the stream any more.
  absl::StatusOr<std::vector<Buffer>> Take() noexcept {
    if (absl::Status status = Commit(); !status.ok()) return status;
    if (Error error = Quiet(Operation::kRelease); !error.ok()) return ToStatus(error);
    if (Error error = FlushAll(); !error.ok()) return ToStatus(error);
    for (Attached& device : attached_) {
      if (Error error = UnmapAll(device); !error.ok()) return ToStatus(error);
    }
    std::vector<Buffer> taken;
    if (!TryWithMemory([&] { taken.reserve(slots_.size()); })) {
      return ToStatus(Error(ENOMEM, "operator new", {"stream", Operation::kRelease}));
    }
    for (Slot& slot : slots_) {
      UnmapCpu(slot);
      ShowCounts(slot, nullptr);
      if (slot.kept()) LeaseAccess::Retire(slot.lease);
      taken.push_back(std::move(slot.lease));
    }
    holders_.Clear();
    slots_.clear();
    open_ = false;
    return taken;
  }

  // A MovableMapping of the buffer comes or goes.
  void AddMapping(uint32_t buffer, int by) noexcept {
    if (buffer < slots_.size()) slots_[buffer].mappings += static_cast<uint32_t>(by);
  }
  // Begins CPU access to the mapping that MapCpu made, and returns its bytes.
  Result<std::span<std::byte>> BeginCpu(uint32_t buffer, Direction direction,
                                        Deadline deadline) noexcept {
    if (buffer >= slots_.size()) return Taken(Operation::kBeginAccess);
    const Origin origin{"stream", Operation::kBeginAccess, name_, bytes_};
    Slot& slot = slots_[buffer];
    if (slot.lost) {
      return Error(EFAULT, "a move failed, and could not restore the mapping", origin,
                   "map the buffer again");
    }
    Block& block = LeaseAccess::BlockOf(slot.lease);
    const auto wait = [&](Direction of) noexcept { return AwaitFences(block, of, deadline); };
    // The kernel's begin waits without a bound.
    if (deadline != kNoDeadline && !slot.coherency.MustWait(direction)) {
      if (Error error = wait(slot.coherency.MayBegin(direction)); !error.ok()) return error;
    }
    const Error error = slot.coherency.Open(direction, Begin(block), End(block), wait);
    if (ShareCounts(slot); !error.ok()) return error;
    ++slot.scopes;
    return std::span<std::byte>(slot.at, static_cast<size_t>(slot.mapped_bytes));
  }
  Error EndCpu(uint32_t buffer, Direction direction) noexcept {
    Slot& slot = slots_[buffer];
    Block& block = LeaseAccess::BlockOf(slot.lease);
    --slot.scopes;
    const Error error = slot.coherency.Close(direction, Begin(block), End(block));
    ShareCounts(slot);
    return error;
  }

  // A device begins and ends its use of a buffer that it has mapped.
  Error BeginUse(Attached& device, uint32_t buffer, Direction direction) noexcept {
    Slot& slot = slots_[buffer];
    Block& block = LeaseAccess::BlockOf(slot.lease);
    const DeviceUse use{direction, WayOf(device.device)};
    const Error error = slot.coherency.BeginDevice(use, Begin(block), End(block));
    if (ShareCounts(slot); !error.ok()) return error;
    ++device.uses[buffer];
    return {};
  }
  Error EndUse(Attached& device, uint32_t buffer, Direction direction) noexcept {
    Slot& slot = slots_[buffer];
    Block& block = LeaseAccess::BlockOf(slot.lease);
    --device.uses[buffer];
    const DeviceUse use{direction, WayOf(device.device)};
    const Error error = slot.coherency.EndDevice(use, Begin(block), End(block));
    ShareCounts(slot);
    return error;
  }
  // The begins and ends that the kernel was told of, and those that were left out.
  SyncCounts counts(uint32_t buffer) const noexcept {
    return buffer < slots_.size() ? CountsOf(slots_[buffer]) : SyncCounts();
  }

  // Ends an attachment that nobody refers to any more.
  void Drop(uint64_t id) noexcept {
    Attached* const device = Find(id);
    if (device == nullptr) return;
    for (uint32_t i = 0; i < slots_.size(); ++i) slots_[i].in_device |= device->uses[i] != 0;
    Report(UnmapAll(*device));
    std::erase_if(attached_, [&](const Attached& one) { return one.id == id; });
  }

  // Lines for a log: the memory, the moves, the devices, and the begins and ends.
  std::string Describe() const {
    std::string text = absl::StrCat("stream ", Printable(name_), ": ");
    if (!committed()) {
      absl::StrAppend(&text, options_.buffers, " buffers, no memory yet\n");
    } else {
      absl::StrAppend(&text, "generation ", generation_, ", ", options_.buffers, " buffers of ",
                      bytes_, " bytes, heap ", heap_->value(), " (", View(NameOf(*heap_)), "), ",
                      moves_.moves, " moves, ", moves_.bytes, " bytes copied, ", moves_.refused,
                      " moves refused\n");
    }
    for (const Attached& one : attached_) {
      const auto mapped = std::ranges::count_if(one.mapped, [](auto& m) { return m.has_value(); });
      const auto uses = std::ranges::count_if(one.uses, [](uint32_t open) { return open != 0; });
      absl::StrAppend(&text, "  device ", Printable(one.device.party().name.view()), ": ", mapped,
                      " buffers mapped, ", uses, " in use\n");
    }
    for (uint32_t i = 0; committed() && i < options_.buffers; ++i) {
      const SyncCounts told = counts(i);
      absl::StrAppend(&text, "  buffer ", i, ": ", told.begins, " begins and ", told.ends,
                      " ends of CPU access sent, ", told.elided_begins, " and ", told.elided_ends,
                      " left out\n");
    }
    return text;
  }

  void Report(const Error& error) noexcept {
    if (error.ok()) return;
    for (const Slot& slot : slots_) {
      if (!slot.lease.valid()) continue;
      const SlabHeader& slab = SlabOf(LeaseAccess::BlockOf(slot.lease));
      slab.ops->report(slab.owner, error);
      return;
    }
  }

 private:
  // The memory of all buffers, and the choice that it was taken by.
  struct Memory {
    std::vector<Buffer> leases;
    Choice choice;
    ImageLayout layout;
    uint64_t bytes = 0;
    HeapId heap{0};
  };
  // The demands of all devices, and the caller's own as the last party.
  struct Demands {
    std::array<Party, kMostParties> all{};
    size_t count = 0;
    Constraints own;
    std::span<const Party> parties() const noexcept { return {all.data(), count}; }
  };

  using Access = Error (*LeaseOps::*)(void*, Block&, Direction) noexcept;
  static auto Begin(Block& block) noexcept { return Send(block, &LeaseOps::begin_access); }
  static auto End(Block& block) noexcept { return Send(block, &LeaseOps::end_access); }
  static auto Send(Block& block, Access access) noexcept {
    return [&block, access](Direction direction) noexcept {
      const SlabHeader& slab = SlabOf(block);
      return (slab.ops->*access)(slab.owner, block, direction);
    };
  }
  static SyncCounts CountsOf(const Slot& slot) noexcept {
    SyncCounts all = slot.earlier;
    return all += slot.coherency.counts();
  }
  // Tells reports of other threads what the kernel was told.
  void ShareCounts(const Slot& slot) noexcept {
    (*told_)[static_cast<size_t>(&slot - slots_.data())].Set(CountsOf(slot));
  }
  // Reports show these counts for the slot's memory, or none.
  static void ShowCounts(Slot& slot, std::shared_ptr<const SharedSyncCounts> counts) noexcept {
    Block& block = LeaseAccess::BlockOf(slot.lease);
    const SlabHeader& slab = SlabOf(block);
    slab.ops->show_counts(slab.owner, block, std::move(counts));
  }
  // The way of a device to memory; not known is past the caches.
  static CacheUse WayOf(const DeviceRef& device) noexcept {
    const DeviceTraits traits = device.traits();
    if (traits.kernel_cpu_writes) return CacheUse::kKernelCpu;
    return traits.coherent.yes() ? CacheUse::kSnoops : CacheUse::kPast;
  }
  Error Taken(Operation operation) const noexcept {
    return Error(EINVAL, "the stream's buffers were taken", {"stream", operation, name_, bytes_});
  }
  Origin Moving() const noexcept { return {"stream", Operation::kMove, name_, bytes_}; }

  void Gather(Demands& demands) const noexcept {
    demands.count = 0;
    for (const Attached& one : attached_) demands.all[demands.count++] = one.device.party();
    demands.all[demands.count++] = Party("stream", demands.own);
  }
  ChoiceOptions Choosing() const noexcept { return {.memory_top = options_.memory_top}; }

  // Chooses heaps for buffers of at least so many bytes, and computes the layout. Cannot be done in
  // one pass: the size is the layout's.
  absl::Status Choose(Demands& demands, Memory& memory, uint64_t at_least = 0) const noexcept {
    memory.bytes = options_.bytes;
    if (options_.image.has_value()) {
      Gather(demands);
      const Choice first = ion::Choose(demands.parties(), offers_.span(), Choosing());
      if (first.outcome == Choice::Outcome::kBadInput ||
          first.outcome == Choice::Outcome::kConflict) {
        return ion::ToStatus(first, demands.parties(), offers_.span(), Choosing());
      }
      ImageSpec spec = *options_.image;
      spec.limits = first.merged.image();
      spec.stated_bytes = std::max(spec.stated_bytes, first.merged.size_min());
      absl::StatusOr<ImageLayout> layout = MakeLayout(spec);
      if (!layout.ok()) return layout.status();
      memory.layout = *layout;
      memory.bytes = layout->total_bytes;
    }
    // The most that is allocated, so that the number of pieces has a bound.
    memory.bytes = std::max(memory.bytes, at_least);
    demands.own.size_min = memory.bytes;
    Gather(demands);
    const Choice sized = ion::Choose(demands.parties(), offers_.span(), Choosing());
    uint64_t most = sized.merged.bytes();
    if (sized.outcome == Choice::Outcome::kChosen || sized.outcome == Choice::Outcome::kNoHeap) {
      if (const auto pages = RoundUpToPages(most); pages.has_value()) most = *pages;
      if (most <= sized.merged.size_max()) demands.own.size_max = most;
      Gather(demands);
    }
    memory.choice = ion::Choose(demands.parties(), offers_.span(), Choosing());
    memory.bytes = std::max(memory.bytes, memory.choice.merged.bytes());
    return ion::ToStatus(memory.choice, demands.parties(), offers_.span(), Choosing());
  }
  // Of a stream without memory: a conflict is told when the device comes, not at Commit.
  absl::Status CheckDemands() const noexcept {
    Demands demands;
    Memory memory;
    return Choose(demands, memory);
  }

  // Memory for all buffers from the best heap that has some and that no device refuses. `not_from`:
  // heaps that were found to be unfit.
  absl::StatusOr<Memory> TakeMemory(HeapMask not_from) noexcept {
    return WithMemory(
        [&] { return TakeMemoryOrThrow(not_from); },
        [&]() -> absl::StatusOr<Memory> {
          return ToStatus(Error(ENOMEM, "operator new", {"stream", Operation::kAllocate}));
        });
  }
  absl::StatusOr<Memory> TakeMemoryOrThrow(HeapMask not_from) {
    Demands demands;
    Memory memory;
    if (absl::Status status = Choose(demands, memory); !status.ok()) return status;
    int code = ENODEV;
    std::string reasons;
    const auto keep = [&](HeapId heap, absl::string_view why) {
      absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", "heap ", heap.value(), " (",
                      View(NameOf(heap)), "): ", why);
    };
    for (const HeapId heap : memory.choice.heaps()) {
      if (not_from.contains(heap)) continue;
      absl::Status status = Allocate(heap, memory);
      if (status.ok()) {
        const Error refusal = Verify(memory);
        if (refusal.ok()) {
          memory.heap = heap;
          return memory;
        }
        status = ToStatus(refusal);
      }
      memory.leases.clear();
      code = ErrnoOf(status);
      keep(heap, status.message());
    }
    return MakeStatus(code, absl::StrCat("stream: no heap has ", options_.buffers, " buffers of ",
                                         memory.bytes, " bytes for all devices: ", reasons, "\n",
                                         ion::Describe(memory.choice, demands.parties(),
                                                       offers_.span(), Choosing())));
  }
  const HeapOffer* OfferOf(HeapId heap) const noexcept {
    const std::span<const HeapOffer> all = offers_.span();
    const auto at = std::ranges::find(all, heap, &HeapOffer::id);
    return at == all.end() ? nullptr : &*at;
  }
  std::string_view NameOf(HeapId heap) const noexcept {
    const HeapOffer* const offer = OfferOf(heap);
    return offer == nullptr ? std::string_view() : offer->name.view();
  }
  Request RequestOf(HeapId heap, uint64_t bytes, const Choice& choice) const noexcept {
    return {.bytes = bytes,
            .alignment = choice.merged.base_align(),
            .heaps = heap,
            .flags = options_.flags,
            .name = name_};
  }
  // All buffers of a stream from one heap, or none.
  absl::Status Allocate(HeapId heap, Memory& memory) {
    memory.leases.clear();
    memory.leases.reserve(options_.buffers);
    const Request request = RequestOf(heap, memory.bytes, memory.choice);
    for (uint32_t i = 0; i < options_.buffers; ++i) {
      absl::StatusOr<Buffer> lease = client_.Allocate(request);
      if (!lease.ok()) return lease.status();
      memory.leases.push_back(*std::move(lease));
    }
    return absl::OkStatus();
  }
  DeviceMemory MemoryOf(const Buffer& lease, const ImageLayout* image) const noexcept {
    return {.range = lease.range(), .image = image};
  }
  DeviceMemory MemoryOf(const Buffer& lease) const noexcept { return MemoryOf(lease, image()); }
  // Asks each device that can be asked for each buffer: the pieces of one may lie better by luck.
  Error Verify(const Memory& memory) noexcept {
    const ImageLayout* image = options_.image.has_value() ? &memory.layout : nullptr;
    for (Attached& one : attached_) {
      for (const Buffer& lease : memory.leases) {
        const Acceptance answer = one.device.Accepts(MemoryOf(lease, image));
        if (answer.verdict == Acceptance::Verdict::kRefuses) return answer.error;
        if (answer.verdict != Acceptance::Verdict::kTakes) break;
      }
      if (Error error = CheckPixels(one.device, memory.leases, image); !error.ok()) return error;
    }
    return {};
  }
  template <class Leases>
  Error CheckPixels(DeviceRef device, const Leases& leases, const ImageLayout* image) noexcept {
    if (!options_.pixels.set()) return {};
    for (const Buffer& lease : leases) {
      const Error error = options_.pixels(device, MemoryOf(lease, image), lease);
      if (!error.ok()) return error;
    }
    return {};
  }
  void Adopt(Memory&& memory) noexcept {
    for (uint32_t i = 0; i < options_.buffers; ++i) {
      Slot& slot = slots_[i];
      slot.earlier = counts(i);
      slot.lease = std::move(memory.leases[i]);
      slot.published = false;
      slot.shared = false;
      slot.in_device = false;
      const Block& block = LeaseAccess::BlockOf(slot.lease);
      const bool untold = block.Marked(Block::kNoSync);
      slot.coherency = CoherencyState(untold ? Known(false) : block.cached);
      ShowCounts(slot, {told_, &(*told_)[i]});
      ShareCounts(slot);
    }
    choice_ = memory.choice;
    layout_ = memory.layout;
    bytes_ = memory.bytes;
    heap_ = memory.heap;
    ++generation_;
  }

  // ---- moves

  // The memory suits all devices as it is, or is moved.
  absl::Status Suit() noexcept {
    return WithMemory([&] { return SuitOrThrow(); },
                      [&] { return ToStatus(Error(ENOMEM, "operator new", Moving())); });
  }
  absl::Status SuitOrThrow() {
    Demands demands;
    Memory wanted;
    if (absl::Status status = Choose(demands, wanted); !status.ok()) return status;
    // The buffers may be larger than a new stream's would be, and too large for the device.
    Demands of_present;
    Memory present;
    const bool size_fits = wanted.bytes <= bytes_ && Choose(of_present, present, bytes_).ok();
    const auto fits = present.choice.heaps();
    const bool heap_fits = std::ranges::find(fits, *heap_) != fits.end();
    const bool same_image = !options_.image.has_value() || SamePlanes(wanted.layout, layout_);
    Error refusal;
    if (size_fits && heap_fits && same_image) {
      refusal = AskTheNewest();
      if (refusal.ok()) {
        choice_ = present.choice;
        return absl::OkStatus();
      }
    }
    if (!options_.moves) {
      ++moves_.refused;
      return MakeStatus(
          EBUSY,
          absl::StrCat("stream: the device cannot use the memory, and StreamOptions::moves forbids "
                       "to move it: attach the device before the memory is taken\n",
                       refusal.ok() ? ion::Describe(wanted.choice, demands.parties(),
                                                    offers_.span(), Choosing())
                                    : ion::Describe(refusal)));
    }
    const HeapMask not_from = refusal.ok() ? HeapMask() : HeapMask(*heap_);
    absl::Status status = Move(not_from);
    if (!status.ok()) ++moves_.refused;
    return status;
  }
  static bool SamePlanes(const ImageLayout& a, const ImageLayout& b) noexcept {
    if (a.planes != b.planes || a.width != b.width || a.height != b.height) return false;
    for (unsigned plane = 0; plane < a.planes; ++plane) {
      if (a.plane[plane].offset != b.plane[plane].offset ||
          a.plane[plane].stride != b.plane[plane].stride) {
        return false;
      }
    }
    return true;
  }
  // Asks the device that came last for the present memory.
  Error AskTheNewest() noexcept {
    for (Slot& slot : slots_) {
      if (Error error = Clean(attached_.back(), slot); !error.ok()) return error;
      const Acceptance answer = attached_.back().device.Accepts(MemoryOf(slot.lease));
      if (answer.verdict == Acceptance::Verdict::kRefuses) return answer.error;
      if (answer.verdict != Acceptance::Verdict::kTakes) break;
    }
    if (!options_.pixels.set()) return {};
    // A look at pixels writes some: not over the content.
    const absl::StatusOr<Buffer> scratch = client_.Allocate(RequestOf(*heap_, bytes_, choice_));
    if (!scratch.ok()) {
      return Error(ErrnoOf(scratch.status()), "no buffer to check the pixels with", Moving());
    }
    return CheckPixels(attached_.back().device, std::span(&*scratch, 1), image());
  }

  // An error that names the first use of the memory by the device.
  Error InUse(const Attached& one, Operation operation) const noexcept {
    const Party party = one.device.party();
    const Origin origin{"stream", operation, party.name.view(), bytes_};
    for (uint32_t i = 0; i < options_.buffers; ++i) {
      if (one.uses[i] != 0) {
        return Error(EBUSY, "the device uses a buffer", origin, "call EndUse of the mapping first");
      }
      if (one.mapped[i].has_value() && one.device.InUse(*one.mapped[i])) {
        return Error(EBUSY, "the device has a buffer in use", origin,
                     "dequeue it, take it off the screen, or return its handle");
      }
    }
    return {};
  }
  Error Quiet(Operation operation) const noexcept {
    for (const Slot& slot : slots_) {
      const Origin origin{"stream", operation, "cpu", bytes_};
      if (slot.scopes != 0) {
        return Error(EBUSY, "a CPU scope of a buffer is open", origin, "end the scope first");
      }
      if (slot.published && operation == Operation::kMove) {
        return Error(EBUSY, "the descriptor of a buffer was given out", origin,
                     "nobody knows who holds it: attach all devices before fd() is called");
      }
    }
    for (const Attached& one : attached_) {
      if (Error error = InUse(one, operation); !error.ok()) return error;
    }
    return {};
  }
  // The end of the patience that begins now.
  Deadline Patience() const noexcept {
    using std::chrono::milliseconds;
    const Deadline now = Now();
    const auto most = std::chrono::floor<milliseconds>(kNoDeadline - now);
    const auto patience = std::max(options_.patience, milliseconds(0));
    return patience < most ? now + patience : kNoDeadline;
  }
  static Deadline Now() noexcept { return std::chrono::steady_clock::now(); }
  // A holder gets the whole file of a descriptor, so that must be of this buffer alone.
  Error Shareable(const Block& block) noexcept {
    const Origin origin{"stream", Operation::kShare, name_, block.bytes};
    const long end = sys_.Lseek(block.fd, 0, SEEK_END);
    if (Failed(end)) return Error(ErrnoFrom(end), "lseek", origin);
    if (block.offset == 0 && static_cast<uint64_t>(end) <= block.bytes) return {};
    return Error(ENOTSUP, "the buffer is a range of a region", origin,
                 "its descriptor would show its neighbours: take the memory from another heap");
  }
  // The present memory of a buffer, for a holder that may have its descriptor from now on.
  void Fill(HandedBuffer& handed) noexcept {
    Slot& slot = slots_[handed.buffer];
    slot.shared = true;
    handed.fd = slot.lease.fd();
    handed.bytes = LeaseAccess::BlockOf(slot.lease).bytes;
  }
  // Holders use the new memory as they used the old: without a word to us.
  void PublishShared() noexcept {
    for (uint32_t i = 0; i < options_.buffers; ++i) {
      if (!holders_.Have(i)) continue;
      Slot& slot = slots_[i];
      Block& block = LeaseAccess::BlockOf(slot.lease);
      Report(slot.coherency.Publish(ion::Holders::kUnknown, Begin(block), End(block)));
      ShareCounts(slot);
    }
  }

  Error AwaitDevices(Deadline deadline) noexcept {
    for (Slot& slot : slots_) {
      Block& block = LeaseAccess::BlockOf(slot.lease);
      const Error error = AwaitFences(block, Direction::kReadWrite, deadline);
      if (!error.ok()) return error;
    }
    return {};
  }
  static Error AwaitFences(Block& block, Direction direction, Deadline deadline) noexcept {
    const SlabHeader& slab = SlabOf(block);
    return slab.ops->await_fences(slab.owner, block, direction, deadline);
  }

  absl::Status Move(HeapMask not_from) {
    const Deadline begin = Now();
    const Deadline deadline = Patience();
    if (Error error = Quiet(Operation::kMove); !error.ok()) return ToStatus(error);
    AskedHolders asked(holders_, generation_ + 1);
    if (absl::Status status = holders_.Ask(generation_ + 1, deadline, bytes_); !status.ok()) {
      return status;
    }
    if (Error error = AwaitDevices(deadline); !error.ok()) return ToStatus(error);
    if (Error error = FlushAll(); !error.ok()) return ToStatus(error);
    // A device that has a mapping may have no room for one more, not even for the question.
    for (Attached& one : attached_) {
      if (Error error = UnmapAll(one); !error.ok()) return ToStatus(error);
    }
    absl::StatusOr<Memory> memory = TakeMemoryOrThrow(not_from);
    if (!memory.ok()) return memory.status();
    std::vector<Buffer> old;
    old.reserve(options_.buffers);
    uint64_t copied = 0;
    for (uint32_t i = 0; i < options_.buffers; ++i) {
      if (holders_.Have(i)) {
        const Error error = Shareable(LeaseAccess::BlockOf(memory->leases[i]));
        if (!error.ok()) return ToStatus(error);
      }
      absl::Status status = CopyContent(slots_[i].lease, memory->leases[i], memory->layout, copied);
      if (!status.ok()) return status;
    }
    if (Error error = MoveCpuMappings(memory->leases); !error.ok()) return ToStatus(error);
    for (Slot& slot : slots_) {
      RetireIfBusy(slot);
      old.push_back(std::move(slot.lease));
    }
    Adopt(*std::move(memory));
    asked.Done();
    PublishShared();
    moves_.dropped += holders_.HandOver(
        generation_, image(), [&]() noexcept { return Patience(); },
        [&](HandedBuffer& handed) noexcept { Fill(handed); },
        [&](const Error& error) noexcept { Report(error); });
    ++moves_.moves;
    moves_.bytes += copied;
    moves_.time += Now() - begin;
    return absl::OkStatus();
  }

  absl::Status CopyContent(const Buffer& from, const Buffer& to, const ImageLayout& layout,
                           uint64_t& copied) const {
    const auto source = ReadOnlyMapping::Of(from);
    if (!source.ok()) return source.status();
    const auto target = WritableMapping::Of(to);
    if (!target.ok()) return target.status();
    auto reading = CpuAccess<Direction::kRead>::Begin(*source);
    if (!reading.ok()) return reading.status();
    auto writing = CpuAccess<Direction::kWrite>::Begin(*target);
    if (!writing.ok()) return writing.status();
    const std::span<const std::byte> old = reading->bytes();
    const std::span<std::byte> now = writing->bytes();
    if (!options_.image.has_value() || SamePlanes(layout, layout_)) {
      const size_t both = std::min(old.size(), now.size());
      std::memcpy(now.data(), old.data(), both);
      copied += both;
    } else {
      for (unsigned plane = 0; plane < layout.planes; ++plane) {
        const auto rows = PlaneOf(old, layout_, plane);
        const auto into = PlaneOf(now, layout, plane);
        if (!rows.ok()) return rows.status();
        if (!into.ok()) return into.status();
        for (uint64_t y = 0; y < std::min(rows->rows(), into->rows()); ++y) {
          const size_t both = std::min(rows->row(y).size(), into->row(y).size());
          std::memcpy(into->row(y).data(), rows->row(y).data(), both);
          copied += both;
        }
      }
    }
    absl::Status status = std::move(*writing).End();
    const absl::Status read = std::move(*reading).End();
    return status.ok() ? read : status;
  }

  // Lays the new memory over the addresses of live mappings. After an error all are as before.
  Error MoveCpuMappings(const std::vector<Buffer>& to) noexcept {
    for (uint32_t i = 0; i < options_.buffers; ++i) {
      Slot& slot = slots_[i];
      if (slot.mappings == 0) UnmapCpu(slot);
      if (slot.at == nullptr || slot.mapped_bytes == to[i].bytes()) continue;
      return Error(EBUSY, "a MovableMapping of a buffer lives, and the new memory has another size",
                   Moving(), "end the mappings before the device is attached");
    }
    for (uint32_t i = 0; i < options_.buffers; ++i) {
      Error error = MapOver(slots_[i], LeaseAccess::BlockOf(to[i]));
      if (error.ok()) {
        slots_[i].lost = false;
        continue;
      }
      // The addresses of this one are free now, or have the old memory still.
      for (uint32_t j = 0; j <= i; ++j) {
        const Error again = MapOver(slots_[j], LeaseAccess::BlockOf(slots_[j].lease));
        slots_[j].lost = !again.ok();
        Report(again);
      }
      return error;
    }
    return {};
  }
  Error MapOver(const Slot& slot, const Block& block) noexcept {
    if (slot.at == nullptr) return {};
    const long at =
        sys_.MmapOver(slot.at, AddressableBytes(slot.mapped_bytes), PROT_READ | PROT_WRITE,
                      block.fd, static_cast<off_t>(block.offset));
    return Failed(at) ? Error(ErrnoFrom(at), "mmap", Moving()) : Error();
  }

  // ---- ends

  // Sends the ends that are due: whoever has the memory next is told of nothing that was before.
  Error FlushAll() noexcept {
    Error first;
    for (Slot& slot : slots_) {
      if (!slot.lease.valid()) continue;
      Block& block = LeaseAccess::BlockOf(slot.lease);
      const Error error = slot.coherency.Flush(Begin(block), End(block));
      ShareCounts(slot);
      if (first.ok()) first = error;
    }
    return first;
  }

  // Puts in memory what the CPU wrote: the end of an import may throw away what the caches have.
  Error Clean(const Attached& one, Slot& slot) noexcept {
    if (WayOf(one.device) != CacheUse::kPast) return {};
    Block& block = LeaseAccess::BlockOf(slot.lease);
    const Error error = slot.coherency.Clean(Begin(block), End(block));
    ShareCounts(slot);
    return error;
  }
  Error UnmapAll(Attached& one) noexcept {
    Error first;
    for (uint32_t i = 0; i < one.mapped.size(); ++i) {
      if (!one.mapped[i].has_value()) continue;
      const Error cleaned = Clean(one, slots_[i]);
      const Error error = one.device.Unmap(*one.mapped[i]);
      one.mapped[i].reset();
      slots_[i].in_device |= !error.ok();
      if (first.ok()) first = cleaned.ok() ? error : cleaned;
    }
    return first;
  }
  // A munmap that the kernel refuses is reported to the error sink.
  void UnmapCpu(Slot& slot) noexcept {
    if (slot.at == nullptr) return;
    Block& block = LeaseAccess::BlockOf(slot.lease);
    const SlabHeader& slab = SlabOf(block);
    slab.ops->unmap(slab.owner, block, std::exchange(slot.at, nullptr), slot.mapped_bytes);
    slot.lost = false;
  }
  // Memory that a device may still use, or that somebody else holds, is not recycled.
  void RetireIfBusy(Slot& slot) noexcept {
    if (!slot.lease.valid()) return;
    ShowCounts(slot, nullptr);
    Block& block = LeaseAccess::BlockOf(slot.lease);
    const bool idle = AwaitFences(block, Direction::kReadWrite, Deadline{}).ok();
    if (slot.kept() || !idle) LeaseAccess::Retire(slot.lease);
  }

  ClientRef client_;
  HeapOffers offers_;
  StreamOptions options_;
  std::string name_;
  Sys sys_;
  std::shared_ptr<std::vector<SharedSyncCounts>> told_;  // by buffer, for the Manager's reports
  std::vector<Slot> slots_;
  std::vector<Attached> attached_;
  StreamHolders holders_;
  uint64_t next_id_ = 1;
  uint64_t generation_ = 0;
  uint64_t bytes_ = 0;
  std::optional<HeapId> heap_;
  Choice choice_;
  ImageLayout layout_;
  MoveReport moves_;
  bool open_ = true;
};

}  // namespace internal
}  // namespace ion

#endif  // ION_ION_CORE_STREAM_STATE_H_
