// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The concepts say no: beside each archetype, one type for each rule that can be broken. What the
// compiler says of them is in tests/concepts/concepts_nocompile.cc.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/cpu_access.h"
#include "ion/device.h"
#include "ion/devices/declared.h"
#include "ion/heap.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/move_holder.h"
#include "ion/policies/carveout/buffer_region.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/composed_region.h"
#include "ion/policies/carveout/first_fit.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/carveout/placement.h"
#include "ion/policies/carveout/region.h"
#include "ion/policies/carveout/run_placement.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/kernel_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/recycler.h"
#include "ion/recycling.h"

// Every member of every template compiles with the smallest types that its concept allows.
template class ion::ManagerWith<ion::HighestFirst, ion::BackendArchetype, ion::HeapArchetype>;
template class ion::ManagerWith<ion::LowestFirst, ion::BackendArchetype, ion::HeapArchetype>;
template class ion::Client<
    ion::internal::ManagerCore<ion::HighestFirst, ion::BackendArchetype, ion::HeapArchetype>>;
template class ion::ManagerWith<ion::HighestFirst, ion::BackendArchetype,
                                ion::Recycled<ion::HeapArchetype, ion::RecyclerArchetype>>;
template class ion::KernelHeapPolicy<ion::BackendArchetype, ion::HeapSpec{},
                                     ion::HeapType::kSystem>;
template class ion::SystemContigHeap<ion::BackendArchetype>;
template class ion::MemfdBackend<ion::LinuxSyscalls>;
template class ion::UdmabufBackend<ion::LinuxSyscalls>;
template class ion::DmaHeapBackend<ion::LinuxSyscalls>;
template class ion::CarveoutHeap<
    ion::BackendArchetype, ion::HeapSpec{.type = ion::HeapType::kCarveout, .id = 2, .bytes = 4096},
    ion::PlacementArchetype, ion::RegionArchetype>;
template class ion::BufferRegion<ion::BackendArchetype>;
template class ion::PhysRegion<ion::BackendArchetype>;
template class ion::RunPlacement<ion::HolesByAddress>;
template class ion::RunPlacement<ion::HolesBySize>;

namespace ion {
namespace {

// Hides the archetype's member, so that each type below breaks exactly one rule.
struct NoName : BackendArchetype {
  static constexpr std::string_view kName = "not a C string";
};
struct NoNameAtRunTime : BackendArchetype {
  std::string name() const noexcept;
};
struct NoCaps : BackendArchetype {
  static constexpr int kCaps = 0;
};
struct Immovable : BackendArchetype {
  Immovable(Immovable&&) = delete;
};
struct NoOptions : BackendArchetype {
  class Options {
    Options();
  };
};
struct OpensItself : BackendArchetype {  // Open gives the base
};
struct Opens : BackendArchetype {
  static Result<Opens> Open(const Options&) noexcept;
};
struct ThrowingOpen : Opens {
  static Result<ThrowingOpen> Open(const Options&);
};
struct NoHeaps : Opens {
  static Result<NoHeaps> Open(const Options&) noexcept;
  int heaps() const noexcept;
};
struct ThrowingHeaps : Opens {
  static Result<ThrowingHeaps> Open(const Options&) noexcept;
  std::span<const KernelHeap> heaps() const;
};
struct AllocateReturnsBool : Opens {
  static Result<AllocateReturnsBool> Open(const Options&) noexcept;
  bool Allocate(uint32_t, uint64_t, Flags, std::string_view, Block&) noexcept;
};
struct ThrowingRelease : Opens {
  static Result<ThrowingRelease> Open(const Options&) noexcept;
  Error Release(Block&);
};
struct MapsToVoid : Opens {
  static Result<MapsToVoid> Open(const Options&) noexcept;
  Result<void*> Map(const Block&, uint64_t, uint64_t, MapMode) noexcept;
};
struct UnmapIsSilent : Opens {
  static Result<UnmapIsSilent> Open(const Options&) noexcept;
  void Unmap(std::byte*, uint64_t) noexcept;
};
struct BeginIsSilent : Opens {
  static Result<BeginIsSilent> Open(const Options&) noexcept;
  void BeginCpuAccess(const Block&, Direction) noexcept;
};
struct EndMayThrow : Opens {
  static Result<EndMayThrow> Open(const Options&) noexcept;
  Error EndCpuAccess(const Block&, Direction);
};
struct NamesNothing : Opens {
  static Result<NamesNothing> Open(const Options&) noexcept;
  void SetName(const Block&, std::string_view) noexcept;
};
struct SharesNumbers : Opens {
  static Result<SharesNumbers> Open(const Options&) noexcept;
  int Share(const Block&) noexcept;
};
struct ImportsNumbers : Opens {
  static Result<ImportsNumbers> Open(const Options&) noexcept;
  int Import(FdRef, Block&) noexcept;
};
struct IdentifiesNothing : Opens {
  static Result<IdentifiesNothing> Open(const Options&) noexcept;
  BufferIdentity Identify(FdRef, Operation) noexcept;
};
struct Unbounded : Opens {
  static Result<Unbounded> Open(const Options&) noexcept;
  int budget() const noexcept;
};
struct NoSink : Opens {
  static Result<NoSink> Open(const Options&) noexcept;
  int errors() const noexcept;
};
struct FlagWithoutHook : Opens {
  static Result<FlagWithoutHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.composes = true};
};
struct HookWithoutFlag : Opens {
  static Result<HookWithoutFlag> Open(const Options&) noexcept;
  Error Compose(std::span<const PageRange>, Block&) noexcept;
};
struct WrongHook : Opens {
  static Result<WrongHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.composes = true};
  bool Compose(std::span<const PageRange>, Block&) noexcept;
};
struct FlagAndHook : Opens {
  static Result<FlagAndHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.composes = true};
  Error Compose(std::span<const PageRange>, Block&) noexcept;
};

struct KeepsNothing : Opens {
  static Result<KeepsNothing> Open(const Options&) noexcept;
  Error MapToKeep(const Block&) noexcept;
};
struct AbandonsSilently : Opens {
  static Result<AbandonsSilently> Open(const Options&) noexcept;
  void Abandon(Block&) noexcept;
};
struct ProofFlagWithoutHook : Opens {
  static Result<ProofFlagWithoutHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.proves_unshared = true};
};
struct ProofHookWithoutFlag : Opens {
  static Result<ProofHookWithoutFlag> Open(const Options&) noexcept;
  Result<bool> IsUnshared(const Block&) noexcept;
};
struct ProofThatCannotFail : Opens {
  static Result<ProofThatCannotFail> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.proves_unshared = true};
  bool IsUnshared(const Block&) noexcept;
};
struct ProofFlagAndHook : Opens {
  static Result<ProofFlagAndHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.proves_unshared = true};
  Result<bool> IsUnshared(const Block&) noexcept;
};
struct FenceFlagWithoutHook : Opens {
  static Result<FenceFlagWithoutHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.fences = true};
};
struct FenceHookWithoutFlag : Opens {
  static Result<FenceHookWithoutFlag> Open(const Options&) noexcept;
  Result<bool> IsIdle(const Block&) noexcept;
};
struct FenceFlagWithoutWait : Opens {
  static Result<FenceFlagWithoutWait> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.fences = true};
  Result<bool> IsIdle(const Block&) noexcept;
};
struct FenceWaitWithoutFlag : Opens {
  static Result<FenceWaitWithoutFlag> Open(const Options&) noexcept;
  Error AwaitFences(const Block&, Direction, Deadline) noexcept;
};
struct FenceFlagAndHook : Opens {
  static Result<FenceFlagAndHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.fences = true};
  Result<bool> IsIdle(const Block&) noexcept;
  Error AwaitFences(const Block&, Direction, Deadline) noexcept;
};
struct CustomFlagWithoutHook : Opens {
  static Result<CustomFlagWithoutHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.customs = true};
};
struct CustomHookWithoutFlag : Opens {
  static Result<CustomHookWithoutFlag> Open(const Options&) noexcept;
  Error Custom(uint32_t, uint64_t) noexcept;
};
struct OverloadedCustom : Opens {
  static Result<OverloadedCustom> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.customs = true};
  Error Custom(uint32_t, uint64_t) noexcept;
  Error Custom(uint32_t) noexcept;
};
struct OverloadedCustomWithoutFlag : Opens {
  static Result<OverloadedCustomWithoutFlag> Open(const Options&) noexcept;
  Error Custom(uint32_t, uint64_t) noexcept;
  Error Custom(uint32_t) noexcept;
};
struct CustomFlagAndHook : Opens {
  static Result<CustomFlagAndHook> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.customs = true};
  Error Custom(uint32_t, uint64_t) noexcept;
};

TEST_CASE("Backend: the archetype and our backends are backends") {
  static_assert(Backend<BackendArchetype> && Backend<Opens> && Backend<FlagAndHook> &&
                Backend<ProofFlagAndHook> && Backend<FenceFlagAndHook>);
  static_assert(Backend<CustomFlagAndHook>);
  static_assert(Backend<OverloadedCustom>, "a hook may have overloads beside it");
  static_assert(Backend<MemfdBackend<>> && Backend<UdmabufBackend<>> && Backend<DmaHeapBackend<>>);
  static_assert(!Backend<int>);
  CHECK(BackendCheck<BackendArchetype>::kOk);
}

TEST_CASE("Backend: a type that breaks one rule is none, and only that rule says so") {
  static_assert(!Backend<NoName> && !BackendIdentity<NoName>);
  static_assert(!Backend<NoNameAtRunTime> && !BackendIdentity<NoNameAtRunTime>);
  static_assert(!Backend<NoCaps> && !BackendIdentity<NoCaps>);
  static_assert(!Backend<Immovable> && !BackendIdentity<Immovable>);
  static_assert(!Backend<NoOptions> && !BackendOpen<NoOptions>);
  static_assert(!Backend<OpensItself> && !BackendOpen<OpensItself>);
  static_assert(!Backend<ThrowingOpen> && !BackendOpen<ThrowingOpen>);
  static_assert(!Backend<NoHeaps> && !BackendHeaps<NoHeaps>);
  static_assert(!Backend<ThrowingHeaps> && !BackendHeaps<ThrowingHeaps>);
  static_assert(!Backend<AllocateReturnsBool> && !BackendAllocate<AllocateReturnsBool>);
  static_assert(!Backend<ThrowingRelease> && !BackendAllocate<ThrowingRelease>);
  static_assert(!Backend<MapsToVoid> && !BackendMap<MapsToVoid>);
  static_assert(!Backend<UnmapIsSilent> && !BackendMap<UnmapIsSilent>);
  static_assert(!Backend<KeepsNothing> && !BackendKeep<KeepsNothing>);
  static_assert(!Backend<AbandonsSilently> && !BackendKeep<AbandonsSilently>);
  static_assert(!Backend<BeginIsSilent> && !BackendCpuSync<BeginIsSilent>);
  static_assert(!Backend<EndMayThrow> && !BackendCpuSync<EndMayThrow>);
  static_assert(!Backend<NamesNothing> && !BackendSetName<NamesNothing>);
  static_assert(!Backend<SharesNumbers> && !BackendShare<SharesNumbers>);
  static_assert(!Backend<ImportsNumbers> && !BackendShare<ImportsNumbers>);
  static_assert(!Backend<IdentifiesNothing> && !BackendShare<IdentifiesNothing>);
  static_assert(!Backend<Unbounded> && !BackendBounds<Unbounded>);
  static_assert(!Backend<NoSink> && !BackendBounds<NoSink>);
  static_assert(!Backend<FlagWithoutHook> && !BackendHooks<FlagWithoutHook>);
  static_assert(!Backend<HookWithoutFlag> && !BackendHooks<HookWithoutFlag>);
  static_assert(!Backend<WrongHook> && !BackendHooks<WrongHook>);
  static_assert(!Backend<CustomFlagWithoutHook> && !BackendCustomHook<CustomFlagWithoutHook>);
  static_assert(!Backend<CustomHookWithoutFlag> && !BackendCustomHook<CustomHookWithoutFlag>);
  static_assert(!BackendCustomHook<OverloadedCustomWithoutFlag>);
  static_assert(!Backend<ProofFlagWithoutHook> && !BackendHooks<ProofFlagWithoutHook>);
  static_assert(!Backend<ProofHookWithoutFlag> && !BackendHooks<ProofHookWithoutFlag>);
  static_assert(!Backend<FenceHookWithoutFlag> && !BackendHooks<FenceHookWithoutFlag>);
  static_assert(!Backend<FenceFlagWithoutHook> && !BackendHooks<FenceFlagWithoutHook>);
  static_assert(!Backend<FenceFlagWithoutWait> && !BackendHooks<FenceFlagWithoutWait>);
  static_assert(!Backend<FenceWaitWithoutFlag> && !BackendHooks<FenceWaitWithoutFlag>);
  static_assert(!Backend<ProofThatCannotFail> && !BackendHooks<ProofThatCannotFail>);
  // The rule next to the broken one holds.
  static_assert(BackendOpen<NoHeaps> && BackendAllocate<NoHeaps> && BackendHooks<NoHeaps>);
  static_assert(BackendHeaps<FlagWithoutHook> && BackendIdentity<FlagWithoutHook>);
  CHECK(!Backend<NoName>);
}

struct NoId : HeapArchetype {
  static constexpr unsigned kId = 0;
};
struct NoType : HeapArchetype {
  static constexpr int kType = 0;
};
struct Binds : HeapArchetype {
  static Result<Binds> Bind(BackendArchetype&) noexcept;
};
struct ImmovableHeap : HeapArchetype {
  ImmovableHeap(ImmovableHeap&&) = delete;
};
struct BindsToBase : HeapArchetype {};
struct ThrowingBind : Binds {
  static Result<ThrowingBind> Bind(BackendArchetype&);
};
struct NamelessHeap : Binds {
  static Result<NamelessHeap> Bind(BackendArchetype&) noexcept;
  const char* name() const noexcept;
};
struct PropertiesByValue : Binds {
  static Result<PropertiesByValue> Bind(BackendArchetype&) noexcept;
  Properties properties() const noexcept;
};
struct AllocatesBlocks : Binds {
  static Result<AllocatesBlocks> Bind(BackendArchetype&) noexcept;
  Block* Allocate(const Request&, Block&) noexcept;
};
struct FreeMayThrow : Binds {
  static Result<FreeMayThrow> Bind(BackendArchetype&) noexcept;
  Error Free(Block&);
};
struct MapsNothing : Binds {
  static Result<MapsNothing> Bind(BackendArchetype&) noexcept;
  std::byte* Map(const Block&, uint64_t, uint64_t, MapMode) noexcept;
};
struct UnmapsSilently : Binds {
  static Result<UnmapsSilently> Bind(BackendArchetype&) noexcept;
  void Unmap(std::byte*, uint64_t) noexcept;
};

struct LayoutFlagWithoutHook : Binds {
  static Result<LayoutFlagWithoutHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.knows_layout = true};
};
struct LayoutHookWithoutFlag : Binds {
  static Result<LayoutHookWithoutFlag> Bind(BackendArchetype&) noexcept;
  Segment SegmentAt(const Block&, uint64_t) const noexcept;
};
struct WrongLayoutHook : Binds {
  static Result<WrongLayoutHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.knows_layout = true};
  uint64_t SegmentAt(const Block&, uint64_t) const noexcept;
};
struct LayoutFlagAndHook : Binds {
  static Result<LayoutFlagAndHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.knows_layout = true};
  Segment SegmentAt(const Block&, uint64_t) const noexcept;
};
struct NamedOnlyFlagWithoutHook : Binds {
  static Result<NamedOnlyFlagWithoutHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.named_only = true};
};
struct WrongNamedOnlyHook : Binds {
  static Result<WrongNamedOnlyHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.named_only = true};
  bool NamedOnly() const;
};
// As a heap that is derived from one that declares it.
struct NamedOnlyHookWithoutFlag : Binds {
  static Result<NamedOnlyHookWithoutFlag> Bind(BackendArchetype&) noexcept;
  bool NamedOnly() const noexcept;
};
struct FramesFlagWithoutHook : Binds {
  static Result<FramesFlagWithoutHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.frames = true};
};
struct WrongFramesHook : Binds {
  static Result<WrongFramesHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.frames = true};
  bool MakesFrames() const;
};
struct FramesHookWithoutFlag : Binds {
  static Result<FramesHookWithoutFlag> Bind(BackendArchetype&) noexcept;
  bool MakesFrames() const noexcept;
};
struct NoHeapCaps : HeapArchetype {
  static constexpr int kCaps = 0;
};
struct ShareWithoutHook : Binds {
  static Result<ShareWithoutHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.shares = true};
};
struct ShareWithoutBit : Binds {
  static Result<ShareWithoutBit> Bind(BackendArchetype&) noexcept;
  Result<UniqueFd> Share(const Block&) noexcept;
};
struct OverloadedShare : Binds {
  static Result<OverloadedShare> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.shares = true};
  Result<UniqueFd> Share(const Block&) noexcept;
  Result<UniqueFd> Share(const Block&, uint64_t) noexcept;
};
struct OverloadedShareWithoutBit : Binds {
  static Result<OverloadedShareWithoutBit> Bind(BackendArchetype&) noexcept;
  Result<UniqueFd> Share(const Block&) noexcept;
  Result<UniqueFd> Share(const Block&, uint64_t) noexcept;
};
struct SharesNumber : Binds {
  static Result<SharesNumber> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.shares = true};
  int Share(const Block&) noexcept;
};
struct SyncWithoutHook : Binds {
  static Result<SyncWithoutHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.syncs = true};
};
struct SyncWithoutEnd : Binds {
  static Result<SyncWithoutEnd> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.syncs = true};
  Error BeginCpuAccess(const Block&, Direction) noexcept;
};
struct SyncWithoutBit : Binds {
  static Result<SyncWithoutBit> Bind(BackendArchetype&) noexcept;
  Error EndCpuAccess(const Block&, Direction) noexcept;
};
struct PhysWithoutHook : Binds {
  static Result<PhysWithoutHook> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.knows_phys = true};
};
struct PhysWithoutBit : Binds {
  static Result<PhysWithoutBit> Bind(BackendArchetype&) noexcept;
  uint64_t Phys(const Block&) const noexcept;
};
struct PhysMayThrow : Binds {
  static Result<PhysMayThrow> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.knows_phys = true};
  uint64_t Phys(const Block&) const;
};
struct AllHooks : Binds {
  static Result<AllHooks> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.shares = true, .syncs = true, .knows_phys = true};
  Result<UniqueFd> Share(const Block&) noexcept;
  Error BeginCpuAccess(const Block&, Direction) noexcept;
  Error EndCpuAccess(const Block&, Direction) noexcept;
  uint64_t Phys(const Block&) const noexcept;
};

template <class H>
concept ArchetypeHeap = Heap<H, BackendArchetype>;

TEST_CASE("Heap: the archetype and our heaps are heaps") {
  static_assert(ArchetypeHeap<HeapArchetype> && ArchetypeHeap<Binds> && ArchetypeHeap<AllHooks>);
  static_assert(ArchetypeHeap<SystemHeap<BackendArchetype>>);
  static_assert(Heap<DmaHeap<MemfdBackend<>>, MemfdBackend<>>);
  static_assert(Heap<SystemContigHeap<MemfdBackend<>>, MemfdBackend<>>);
  static_assert(!Heap<DmaHeap<MemfdBackend<>>, UdmabufBackend<>>, "a heap is of one backend");
  static_assert(!Heap<HeapArchetype, int>);
  CHECK(HeapCheck<HeapArchetype, BackendArchetype>::kOk);
}

TEST_CASE("Heap: a type that breaks one rule is none, and only that rule says so") {
  static_assert(!ArchetypeHeap<NoId> && !HeapIdentity<NoId>);
  static_assert(!ArchetypeHeap<NoType> && !HeapIdentity<NoType>);
  static_assert(!ArchetypeHeap<ImmovableHeap> && !HeapIdentity<ImmovableHeap>);
  static_assert(!ArchetypeHeap<BindsToBase> && !HeapBind<BindsToBase, BackendArchetype>);
  static_assert(!ArchetypeHeap<ThrowingBind> && !HeapBind<ThrowingBind, BackendArchetype>);
  static_assert(!ArchetypeHeap<NamelessHeap> && !HeapProperties<NamelessHeap>);
  static_assert(!ArchetypeHeap<PropertiesByValue> && !HeapProperties<PropertiesByValue>);
  static_assert(!ArchetypeHeap<AllocatesBlocks> && !HeapAllocate<AllocatesBlocks>);
  static_assert(!ArchetypeHeap<FreeMayThrow> && !HeapAllocate<FreeMayThrow>);
  static_assert(!ArchetypeHeap<MapsNothing> && !HeapMap<MapsNothing>);
  static_assert(!ArchetypeHeap<UnmapsSilently> && !HeapMap<UnmapsSilently>);
  static_assert(!ArchetypeHeap<LayoutFlagWithoutHook> && !HeapLayoutHook<LayoutFlagWithoutHook>);
  static_assert(!ArchetypeHeap<LayoutHookWithoutFlag> && !HeapLayoutHook<LayoutHookWithoutFlag>);
  static_assert(!ArchetypeHeap<WrongLayoutHook> && !HeapLayoutHook<WrongLayoutHook>);
  static_assert(ArchetypeHeap<LayoutFlagAndHook>);
  static_assert(!ArchetypeHeap<NamedOnlyFlagWithoutHook>);
  static_assert(!HeapNamedOnlyHook<NamedOnlyFlagWithoutHook>);
  static_assert(!ArchetypeHeap<WrongNamedOnlyHook> && !HeapNamedOnlyHook<WrongNamedOnlyHook>);
  static_assert(ArchetypeHeap<NamedOnlyHookWithoutFlag>);
  static_assert(!ArchetypeHeap<FramesFlagWithoutHook> && !HeapFrameHook<FramesFlagWithoutHook>);
  static_assert(!ArchetypeHeap<WrongFramesHook> && !HeapFrameHook<WrongFramesHook>);
  static_assert(ArchetypeHeap<FramesHookWithoutFlag>);
  static_assert(!ArchetypeHeap<NoHeapCaps> && !HeapIdentity<NoHeapCaps>);
  static_assert(!ArchetypeHeap<ShareWithoutHook> && !HeapShareHook<ShareWithoutHook>);
  static_assert(!ArchetypeHeap<ShareWithoutBit> && !HeapShareHook<ShareWithoutBit>);
  static_assert(ArchetypeHeap<OverloadedShare>, "a hook may have overloads beside it");
  static_assert(!HeapShareHook<OverloadedShareWithoutBit>);
  static_assert(!ArchetypeHeap<SharesNumber> && !HeapShareHook<SharesNumber>);
  static_assert(!ArchetypeHeap<SyncWithoutHook> && !HeapSyncHook<SyncWithoutHook>);
  static_assert(!ArchetypeHeap<SyncWithoutEnd> && !HeapSyncHook<SyncWithoutEnd>);
  static_assert(!ArchetypeHeap<SyncWithoutBit> && !HeapSyncHook<SyncWithoutBit>);
  static_assert(!ArchetypeHeap<PhysWithoutHook> && !HeapPhysHook<PhysWithoutHook>);
  static_assert(!ArchetypeHeap<PhysWithoutBit> && !HeapPhysHook<PhysWithoutBit>);
  static_assert(!ArchetypeHeap<PhysMayThrow> && !HeapPhysHook<PhysMayThrow>);
  // The hooks next to the broken one hold.
  static_assert(HeapSyncHook<ShareWithoutHook> && HeapPhysHook<ShareWithoutBit>);
  static_assert(HeapShareHook<SyncWithoutEnd> && HeapShareHook<PhysWithoutBit>);
  CHECK(!ArchetypeHeap<NoId>);
}

// The same of recyclers.
struct OpensRecycler : RecyclerArchetype {
  static Result<OpensRecycler> Open(const HeapArchetype&, BackendArchetype&,
                                    const PoolHost&) noexcept;
};
struct OpensHeapless : RecyclerArchetype {
  static Result<OpensHeapless> Open(BackendArchetype&, const PoolHost&) noexcept;
};
template <class R>
struct OpensAs : RecyclerArchetype {
  static Result<R> Open(const HeapArchetype&, BackendArchetype&, const PoolHost&) noexcept;
};
struct CeilingInBytes : OpensAs<CeilingInBytes> {
  static uint64_t Ceiling() noexcept;
};
struct NoPoolFor : OpensAs<NoPoolFor> {
  int PoolFor(const Request&, uint16_t) const noexcept;
};
struct ReleaseMayThrow : OpensAs<ReleaseMayThrow> {
  bool TryRelease(uint32_t, Block&);
};
struct DepotKeepsAll : OpensAs<DepotKeepsAll> {
  void ReleaseToDepot(uint32_t, Block&) noexcept;
};
struct FindsNoPool : OpensAs<FindsNoPool> {
  Block* SearchIdle(const Request&, PoolDomain) noexcept;
};
struct DisownsNothing : OpensAs<DisownsNothing> {
  void Disown() noexcept;
};
struct TrimsSilently : OpensAs<TrimsSilently> {
  void Trim(uint64_t, GiveBack) noexcept;
};
struct CountsNothing : OpensAs<CountsNothing> {
  int unpooled() const noexcept;
};

template <class R>
concept ArchetypeRecycler = Recycler<R, HeapArchetype, BackendArchetype>;

TEST_CASE("Recycler: the archetype and ours are recyclers") {
  static_assert(ArchetypeRecycler<RecyclerArchetype> && ArchetypeRecycler<OpensRecycler>);
  using H = SystemHeap<MemfdBackend<>>;
  static_assert(Recycler<PoolRecycler<H>, H, MemfdBackend<>>);
  static_assert(!Recycler<PoolRecycler<H>, H, UdmabufBackend<>>, "it is of its heap's backend");
  CHECK(RecyclerCheck<RecyclerArchetype, HeapArchetype, BackendArchetype>::kOk);
}

TEST_CASE("Recycler: a type that breaks one rule is none, and only that rule says so") {
  static_assert(!ArchetypeRecycler<OpensHeapless>);
  static_assert(!RecyclerOpen<OpensHeapless, HeapArchetype, BackendArchetype>);
  static_assert(!ArchetypeRecycler<CeilingInBytes> && !RecyclerCeiling<CeilingInBytes>);
  static_assert(RecyclerHitPath<CeilingInBytes> && RecyclerUpkeep<CeilingInBytes>);
  static_assert(!ArchetypeRecycler<NoPoolFor> && !RecyclerHitPath<NoPoolFor>);
  static_assert(!ArchetypeRecycler<ReleaseMayThrow> && !RecyclerHitPath<ReleaseMayThrow>);
  static_assert(!ArchetypeRecycler<DepotKeepsAll> && !RecyclerDepotPath<DepotKeepsAll>);
  static_assert(!ArchetypeRecycler<FindsNoPool> && !RecyclerSlowPath<FindsNoPool>);
  static_assert(!ArchetypeRecycler<DisownsNothing> && !RecyclerSlowPath<DisownsNothing>);
  static_assert(!ArchetypeRecycler<TrimsSilently> && !RecyclerUpkeep<TrimsSilently>);
  static_assert(!ArchetypeRecycler<CountsNothing> && !RecyclerReport<CountsNothing>);
  // The parts next to the broken one hold.
  static_assert(RecyclerDepotPath<NoPoolFor> && RecyclerSlowPath<DepotKeepsAll>);
  static_assert(RecyclerUpkeep<FindsNoPool> && RecyclerReport<TrimsSilently>);
  static_assert(RecyclerHitPath<CountsNothing>);
  CHECK(!ArchetypeRecycler<NoPoolFor>);
}

template <class H>
concept KnowsPhys = requires(const H& heap, const Block& block) { heap.Phys(block); };

TEST_CASE("CarveoutHeap: what it can do, its region decides") {
  constexpr HeapSpec kSpec{
      .type = HeapType::kCarveout, .id = 2, .base = 0x3000'0000, .bytes = 65536};
  using B = MemfdBackend<>;
  using Plain = CarveoutHeap<B, kSpec>;
  using Physical = CarveoutHeap<B, kSpec, FirstFit, PhysRegion<B>>;
  using U = UdmabufBackend<>;
  using Composed = CarveoutHeap<U, kSpec, SegregatedFit, ComposedRegion<U, B>>;
  static_assert(Heap<Plain, B> && Heap<Physical, B> && Heap<Composed, U>);
  static_assert(!KnowsPhys<Plain> && KnowsPhys<Physical> && !KnowsPhys<Composed>);
  static_assert(Plain::kCaps == HeapCaps{.shares = true, .named_only = true});
  static_assert(Physical::kCaps ==
                HeapCaps{.shares = true, .syncs = true, .knows_phys = true, .knows_layout = true});
  CHECK(Composed::kCaps == HeapCaps{.shares = true});
}

struct OpensRegion : RegionArchetype {
  static Result<OpensRegion> Open(BackendArchetype&, const HeapSpec&) noexcept;
};
struct NoRegionCaps : RegionArchetype {
  static Result<NoRegionCaps> Open(BackendArchetype&, const HeapSpec&) noexcept;
  static constexpr int kCaps = 0;
};
struct OpensBase : RegionArchetype {};
struct WholeByValue : RegionArchetype {
  static Result<WholeByValue> Open(BackendArchetype&, const HeapSpec&) noexcept;
  Block whole() const noexcept;
};
struct ScrubMayThrow : RegionArchetype {
  static Result<ScrubMayThrow> Open(BackendArchetype&, const HeapSpec&) noexcept;
  void Scrub(std::byte*, uint64_t) const;
};
struct RegionWithoutShare : RegionArchetype {
  static Result<RegionWithoutShare> Open(BackendArchetype&, const HeapSpec&) noexcept;
  static constexpr RegionCaps kCaps = {.shares = true};
};
struct RegionWithShare : RegionArchetype {
  static Result<RegionWithShare> Open(BackendArchetype&, const HeapSpec&) noexcept;
  static constexpr RegionCaps kCaps = {.shares = true};
  Result<UniqueFd> Share(uint64_t, uint64_t) noexcept;
  bool HeldByOthers(FdRef) const noexcept;
};
struct RegionForgets : RegionArchetype {
  static Result<RegionForgets> Open(BackendArchetype&, const HeapSpec&) noexcept;
  static constexpr RegionCaps kCaps = {.shares = true};
  Result<UniqueFd> Share(uint64_t, uint64_t) noexcept;
};

TEST_CASE("Region: a type that breaks one rule is none") {
  static_assert(Region<RegionArchetype, BackendArchetype>);
  static_assert(Region<OpensRegion, BackendArchetype> && Region<RegionWithShare, BackendArchetype>);
  static_assert(!Region<NoRegionCaps, BackendArchetype>);
  static_assert(!Region<OpensBase, BackendArchetype>);
  static_assert(!Region<WholeByValue, BackendArchetype>);
  static_assert(!Region<ScrubMayThrow, BackendArchetype>);
  static_assert(!Region<RegionWithoutShare, BackendArchetype>);
  static_assert(!Region<RegionForgets, BackendArchetype>);
  CHECK(RegionCheck<RegionArchetype, BackendArchetype>::kOk);
}

struct Creates : PlacementArchetype {
  static Result<Creates> Create(const PlacementRegion&) noexcept;
};
struct CreatesBase : PlacementArchetype {};
struct ThrowingCreate : PlacementArchetype {
  static Result<ThrowingCreate> Create(const PlacementRegion&);
};
struct ImmovablePlacement : PlacementArchetype {
  ImmovablePlacement(ImmovablePlacement&&) = delete;
  static Result<ImmovablePlacement> Create(const PlacementRegion&) noexcept;
};
struct TakesUnaligned : PlacementArchetype {
  static Result<TakesUnaligned> Create(const PlacementRegion&) noexcept;
  std::optional<uint64_t> Take(uint64_t) noexcept;
};
struct TakesAlways : PlacementArchetype {
  static Result<TakesAlways> Create(const PlacementRegion&) noexcept;
  uint64_t Take(uint64_t, uint64_t) noexcept;
};
struct GivesSilently : PlacementArchetype {
  static Result<GivesSilently> Create(const PlacementRegion&) noexcept;
  void Give(uint64_t) noexcept;
};
struct ReportsNothing : PlacementArchetype {
  static Result<ReportsNothing> Create(const PlacementRegion&) noexcept;
  void figures() const noexcept;
};
struct ReportsNotConst : PlacementArchetype {
  static Result<ReportsNotConst> Create(const PlacementRegion&) noexcept;
  PlacementFigures figures() noexcept;
};

TEST_CASE("Placement: the archetype and our placements are placements") {
  static_assert(Placement<PlacementArchetype> && Placement<Creates>);
  static_assert(Placement<FirstFit> && Placement<SegregatedFit>);
  static_assert(!Placement<int>);
  CHECK(PlacementCheck<PlacementArchetype>::kOk);
}

TEST_CASE("Placement: a type that breaks one rule is none, and only that rule says so") {
  static_assert(!Placement<CreatesBase> && !PlacementCreate<CreatesBase>);
  static_assert(!Placement<ThrowingCreate> && !PlacementCreate<ThrowingCreate>);
  static_assert(!Placement<ImmovablePlacement> && !PlacementCreate<ImmovablePlacement>);
  static_assert(!Placement<TakesUnaligned> && !PlacementTake<TakesUnaligned>);
  static_assert(!Placement<TakesAlways> && !PlacementTake<TakesAlways>);
  static_assert(!Placement<GivesSilently> && !PlacementGive<GivesSilently>);
  static_assert(!Placement<ReportsNothing> && !PlacementReport<ReportsNothing>);
  static_assert(!Placement<ReportsNotConst> && !PlacementReport<ReportsNotConst>);
  // The rules next to the broken one hold.
  static_assert(PlacementCreate<TakesAlways> && PlacementGive<TakesAlways>);
  static_assert(PlacementTake<GivesSilently> && PlacementReport<GivesSilently>);
  CHECK(!Placement<CreatesBase>);
}

struct ThrowingSyscalls : LinuxSyscalls {
  long Close(int fd) const;
};
struct IntSyscalls : LinuxSyscalls {
  int Ioctl(int fd, unsigned long request, void* argument) const noexcept;
};
struct UncopyableSyscalls : LinuxSyscalls {
  UncopyableSyscalls(const UncopyableSyscalls&) = delete;
};

TEST_CASE("Syscalls: Linux is one; what throws, answers an int, or cannot be copied is none") {
  static_assert(Syscalls<LinuxSyscalls>);
  static_assert(!Syscalls<ThrowingSyscalls> && !Syscalls<IntSyscalls>);
  static_assert(!Syscalls<UncopyableSyscalls> && !Syscalls<int>);
  CHECK(std::is_empty_v<LinuxSyscalls>);
}

template <class Mapping, class Access>
concept Begins = requires(const Mapping& mapping) { Access::Begin(mapping); };
template <class Access>
concept BeginsOnTemporary =
    requires(WritableMapping&& mapping) { Access::Begin(std::move(mapping)); };
template <class Mapping>
concept MapsTemporary = requires(Buffer&& buffer) { Mapping::Of(std::move(buffer)); };

TEST_CASE("CpuAccess: the types know what may be written") {
  static_assert(
      std::is_same_v<decltype(std::declval<CpuRead>().bytes()), std::span<const std::byte>>);
  static_assert(std::is_same_v<decltype(std::declval<CpuWrite>().bytes()), std::span<std::byte>>);
  static_assert(std::is_same_v<decltype(std::declval<WritableMapping>().unsynced()),
                               std::span<const std::byte>>);
  static_assert(Begins<ReadOnlyMapping, CpuRead> && Begins<WritableMapping, CpuWrite>);
  static_assert(!BeginsOnTemporary<CpuRead> && !MapsTemporary<WritableMapping>,
                "a temporary would be gone before its scope");
  CHECK(!std::is_copy_constructible_v<CpuWrite>);
}

TEST_CASE("Ids, masks and flags: numbers out of range are refused") {
  CHECK(HeapId::From(31).has_value());
  CHECK_FALSE(HeapId::From(32).has_value());
  CHECK((HeapId{0} | HeapId{4}).bits() == 0x11);
  CHECK(HeapMask::All().contains(HeapId{31}));
  CHECK((HeapMask(HeapId{3}) & HeapMask(HeapId{4})).empty());
  CHECK(HeapMask::All() - HeapId{3} == ~HeapId{3});
  CHECK((HeapMask(HeapId{3}) - (HeapId{3} | HeapId{4})).empty());
  CHECK(~(HeapId{3} | HeapId{4}) == HeapMask::FromBits(0xffffffe7));
  CHECK(HeapPrivateBits(HeapPrivate(3) | Flags::kCached) == 8);
}

TEST_CASE("Properties: of two, only what both say") {
  const Properties a{.cpu_mappable = true,
                     .cached = true,
                     .contiguous = true,
                     .zeroed = false,
                     .alignment = 65536};
  const Properties b{
      .cpu_mappable = true, .cached = false, .contiguous = true, .zeroed = true, .alignment = 4096};
  const Properties both = Common(a, b);
  CHECK(both == Properties{.cpu_mappable = true,
                           .cached = Known(),
                           .contiguous = true,
                           .zeroed = Known(),
                           .alignment = 4096});
  CHECK(Common(b, a) == both);
  CHECK(Common(a, a) == a);
}

struct NamesNoParty : DeviceArchetype {
  void party() const noexcept;
};
struct AnswersYesOrNo : DeviceArchetype {
  bool Accepts(const DeviceMemory&) noexcept;
};
struct MapMayThrow : DeviceArchetype {
  Result<Imported> Map(const DeviceMemory&);
};
struct LetsGoSilently : DeviceArchetype {
  void Unmap(const Imported&) noexcept;
};

TEST_CASE("Device: the archetype and ours are devices") {
  static_assert(Device<DeviceArchetype> && Device<DeclaredDevice>);
  DeclaredDevice device(Party{});
  DeclaredDevice other(Party{});
  DeviceRef one(device);
  const DeviceRef copy(one);
  CHECK(copy == DeviceRef(device));
  CHECK_FALSE(DeviceRef(device) == DeviceRef(other));
  const Acceptance declared = DeviceRef(other).Accepts({});
  CHECK(declared.verdict == Acceptance::Verdict::kCannotAsk);
  CHECK(declared.error.code() == ENOTSUP);
}

TEST_CASE("Device: a type that breaks one rule is none, and only that rule says so") {
  static_assert(!Device<NamesNoParty> && !DeviceParty<NamesNoParty>);
  static_assert(!Device<AnswersYesOrNo> && !DeviceAccepts<AnswersYesOrNo>);
  static_assert(!Device<MapMayThrow> && !DeviceMap<MapMayThrow>);
  static_assert(!Device<LetsGoSilently> && !DeviceMap<LetsGoSilently>);
  static_assert(DeviceAccepts<NamesNoParty> && DeviceMap<AnswersYesOrNo>);
  static_assert(DeviceParty<MapMayThrow> && DeviceAccepts<LetsGoSilently>);
  static_assert(!std::is_constructible_v<DeviceRef, DeviceArchetype>, "it would dangle");
  CHECK(!Device<NamesNoParty>);
}

struct HasNoName : MoveHolderArchetype {
  void name() const noexcept;
};
struct AsksWithoutDeadline : MoveHolderArchetype {
  Error AskQuiet(uint64_t) noexcept;
};
struct CancelMayThrow : MoveHolderArchetype {
  void Cancel(uint64_t);
};
struct TakesSilently : MoveHolderArchetype {
  void HandOver(const HandedMemory&, Deadline) noexcept;
};

TEST_CASE("MoveHolder: a type that breaks one rule is none, and only that rule says so") {
  static_assert(MoveHolder<MoveHolderArchetype>);
  static_assert(!MoveHolder<HasNoName> && !MoveHolderName<HasNoName>);
  static_assert(!MoveHolder<AsksWithoutDeadline> && !MoveHolderQuiet<AsksWithoutDeadline>);
  static_assert(!MoveHolder<CancelMayThrow> && !MoveHolderQuiet<CancelMayThrow>);
  static_assert(!MoveHolder<TakesSilently> && !MoveHolderTakes<TakesSilently>);
  static_assert(MoveHolderQuiet<HasNoName> && MoveHolderTakes<CancelMayThrow>);
  static_assert(MoveHolderName<TakesSilently> && MoveHolderTakes<AsksWithoutDeadline>);
  static_assert(!std::is_constructible_v<MoveHolderRef, MoveHolderArchetype>, "it would dangle");
  CHECK(!MoveHolder<HasNoName>);
}

}  // namespace
}  // namespace ion
