// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What must not compile, and the sentence with which it does not.

#include "ion/archetypes.h"
#include "ion/cpu_access.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/move_holder.h"
#include "ion/policies/carveout/buffer_region.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/composed_region.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/carveout/placement.h"
#include "ion/policies/carveout/region.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/size_classes.h"
#include "ion/policies/system_heap.h"
#include "ion/recycler.h"
#include "ion/recycling.h"
#include "ion/request.h"

namespace ion {

// EXPECT backend_name: ion: a backend needs `static constexpr const char* kName`
#if defined(CASE_backend_name)
struct Bad : BackendArchetype {
  static constexpr int kName = 1;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_name_at_run_time: `const char* name() const noexcept`
#if defined(CASE_backend_name_at_run_time)
struct Bad : BackendArchetype {
  std::string_view name() const noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_open: ion: a backend needs a default constructible `Options`
#if defined(CASE_backend_open)
struct Bad : BackendArchetype {};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_heaps: ion: a backend needs `std::span<const KernelHeap> heaps() const noexcept`
#if defined(CASE_backend_heaps)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  int heaps() const noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_allocate: ion: a backend needs `Error Allocate(uint32_t kernel_heap
#if defined(CASE_backend_allocate)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  int Allocate() noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_map: ion: a backend needs `Result<std::byte*> Map(
#if defined(CASE_backend_map)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  int Map() noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_keep: ion: a backend needs `Result<std::byte*> MapToKeep(
#if defined(CASE_backend_keep)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  void Abandon(Block&) noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_sync: ion: a backend needs `Error BeginCpuAccess(
#if defined(CASE_backend_sync)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  int EndCpuAccess() noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_set_name: ion: a backend needs `Error SetName(
#if defined(CASE_backend_set_name)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  int SetName() noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_share: ion: a backend needs `Result<UniqueFd> Share(
#if defined(CASE_backend_share)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  int Share() noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT backend_bounds: ion: a backend needs `Budget& budget() const noexcept`
#if defined(CASE_backend_bounds)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  int budget() const noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT flag_without_hook: ion: kCaps.composes and `Error Compose(
#if defined(CASE_flag_without_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.composes = true};
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT hook_without_flag: ion: kCaps.composes and `Error Compose(
#if defined(CASE_hook_without_flag)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  Error Compose(std::span<const PageRange>, Block&) noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT proof_without_hook: ion: kCaps.proves_unshared and `Result<bool> IsUnshared(
#if defined(CASE_proof_without_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.proves_unshared = true};
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT fences_without_hook: ion: kCaps.fences and `Result<bool> IsIdle(
#if defined(CASE_fences_without_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.fences = true};
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT customs_without_hook: ion: kCaps.customs and `Error Custom(
#if defined(CASE_customs_without_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.customs = true};
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT compares_without_hook: ion: kCaps.compares needs a public `bool SameBuffer(
#if defined(CASE_compares_without_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.compares = true};
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT inspects_without_hook: ion: kCaps.inspects needs `Result<Inspected> Inspect(
#if defined(CASE_inspects_without_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.inspects = true};
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT relists_without_hook: ion: kCaps.relists and `bool LookAgain()
#if defined(CASE_relists_without_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.relists = true};
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT frames_without_hook: ion: kCaps.frames and `Error AllocateFrame(
#if defined(CASE_frames_without_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.frames = true};
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT frame_hook_without_flag: ion: kCaps.frames and `Error AllocateFrame(
#if defined(CASE_frame_hook_without_flag)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  Error AllocateFrame(uint32_t, const Request&, Block&) noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT overloads_without_flag: ion: kCaps.customs and `Error Custom(
#if defined(CASE_overloads_without_flag)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  Error Custom(uint32_t, uint64_t) noexcept;
  Error Custom(uint32_t) noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT private_hook: declare both, or neither; a hook that is private or has another signature
#if defined(CASE_private_hook)
struct Bad : BackendArchetype {
  static Result<Bad> Open(const Options&) noexcept;
  static constexpr BackendCaps kCaps = {.customs = true};

 private:
  Error Custom(uint32_t, uint64_t) noexcept;
};
static_assert(BackendCheck<Bad>::kOk);
#endif

// EXPECT heap_share: ion: kCaps.shares and `Result<UniqueFd> Share(
#if defined(CASE_heap_share)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.shares = true};
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT heap_sync: ion: kCaps.syncs and `Error BeginCpuAccess(
#if defined(CASE_heap_sync)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  Error BeginCpuAccess(const Block&, Direction) noexcept;
  Error EndCpuAccess(const Block&, Direction) noexcept;
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT heap_phys: ion: kCaps.knows_phys and `uint64_t Phys(
#if defined(CASE_heap_phys)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.knows_phys = true};
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT recycler_open: ion: a recycler needs `static Result<R> Open(const Heap&
#if defined(CASE_recycler_open)
struct Bad : RecyclerArchetype {
  static Result<Bad> Open(const HeapArchetype&, const PoolHost&) noexcept;
};
static_assert(RecyclerCheck<Bad, HeapArchetype, BackendArchetype>::kOk);
#endif

// EXPECT recycler_ceiling: ion: a recycler needs `static PoolBounds Ceiling(
#if defined(CASE_recycler_ceiling)
struct Bad : RecyclerArchetype {
  static Result<Bad> Open(const HeapArchetype&, BackendArchetype&, const PoolHost&) noexcept;
  static PoolBounds Ceiling();  // may throw
};
static_assert(RecyclerCheck<Bad, HeapArchetype, BackendArchetype>::kOk);
#endif

// EXPECT recycler_hit_path: ion: a recycler's hit path needs `uint32_t PoolFor(
#if defined(CASE_recycler_hit_path)
struct Bad : RecyclerArchetype {
  static Result<Bad> Open(const HeapArchetype&, BackendArchetype&, const PoolHost&) noexcept;
  bool TryRelease(uint32_t, Block&);  // may throw
};
static_assert(RecyclerCheck<Bad, HeapArchetype, BackendArchetype>::kOk);
#endif

// EXPECT recycler_depot_path: ion: a recycler's depot path needs `Block* AcquireFromDepot(
#if defined(CASE_recycler_depot_path)
struct Bad : RecyclerArchetype {
  static Result<Bad> Open(const HeapArchetype&, BackendArchetype&, const PoolHost&) noexcept;
  void ReleaseToDepot(uint32_t, Block&) noexcept;
};
static_assert(RecyclerCheck<Bad, HeapArchetype, BackendArchetype>::kOk);
#endif

// EXPECT recycler_slow_path: ion: a recycler's slow path needs `PooledBlock SearchIdle(
#if defined(CASE_recycler_slow_path)
struct Bad : RecyclerArchetype {
  static Result<Bad> Open(const HeapArchetype&, BackendArchetype&, const PoolHost&) noexcept;
  Block* SearchIdle(const Request&, PoolDomain) noexcept;
};
static_assert(RecyclerCheck<Bad, HeapArchetype, BackendArchetype>::kOk);
#endif

// EXPECT recycler_upkeep: ion: a recycler's upkeep needs `void Tick() noexcept`
#if defined(CASE_recycler_upkeep)
struct Bad : RecyclerArchetype {
  static Result<Bad> Open(const HeapArchetype&, BackendArchetype&, const PoolHost&) noexcept;
  void Trim(uint64_t, GiveBack) noexcept;
};
static_assert(RecyclerCheck<Bad, HeapArchetype, BackendArchetype>::kOk);
#endif

// EXPECT recycler_report: ion: a recycler's report needs `void ListIdle(
#if defined(CASE_recycler_report)
struct Bad : RecyclerArchetype {
  static Result<Bad> Open(const HeapArchetype&, BackendArchetype&, const PoolHost&) noexcept;
  int unpooled() const noexcept;
};
static_assert(RecyclerCheck<Bad, HeapArchetype, BackendArchetype>::kOk);
#endif

// EXPECT device_party: ion: a device needs `Party party() const noexcept`
#if defined(CASE_device_party)
struct Bad : DeviceArchetype {
  int traits() const noexcept;
};
static_assert(DeviceCheck<Bad>::kOk);
#endif

// EXPECT device_accepts: ion: a device needs `Acceptance Accepts(const DeviceMemory&)
#if defined(CASE_device_accepts)
struct Bad : DeviceArchetype {
  Acceptance Accepts(const DeviceMemory&);  // may throw
};
static_assert(DeviceCheck<Bad>::kOk);
#endif

// EXPECT device_map: ion: a device needs `Result<Imported> Map(const DeviceMemory&)
#if defined(CASE_device_map)
struct Bad : DeviceArchetype {
  bool InUse(uint64_t) const noexcept;
};
static_assert(DeviceCheck<Bad>::kOk);
#endif

// EXPECT move_holder_name: ion: a move holder needs `std::string_view name() const noexcept`
#if defined(CASE_move_holder_name)
struct Bad : MoveHolderArchetype {
  const char* name() const noexcept;
};
static_assert(MoveHolderCheck<Bad>::kOk);
#endif

// EXPECT move_holder_quiet: ion: a move holder needs `Error AskQuiet(uint64_t generation, Deadline)
#if defined(CASE_move_holder_quiet)
struct Bad : MoveHolderArchetype {
  void Cancel(uint64_t);  // may throw
};
static_assert(MoveHolderCheck<Bad>::kOk);
#endif

// EXPECT move_holder_takes: ion: a move holder needs `Error HandOver(const HandedMemory&, Deadline)
#if defined(CASE_move_holder_takes)
struct Bad : MoveHolderArchetype {
  void HandOver(const HandedMemory&, Deadline) noexcept;
};
static_assert(MoveHolderCheck<Bad>::kOk);
#endif

// EXPECT phys_of_unknown: ion: this heap does not know where its memory lies
#if defined(CASE_phys_of_unknown)
constexpr HeapSpec kCarveout{.type = HeapType::kCarveout, .id = 2, .bytes = 4096};
using Unknowing = CarveoutHeap<BackendArchetype, kCarveout>;
uint64_t Ask(const Unknowing& heap, const Block& block) { return PhysOf(heap, block); }
#endif

// EXPECT carveout_without_size: ion: a carveout needs a size
#if defined(CASE_carveout_without_size)
template class CarveoutHeap<BackendArchetype, HeapSpec{.type = HeapType::kCarveout, .id = 2}>;
#endif

// EXPECT carveout_of_another_type: ion: the HeapSpec of a CarveoutHeap says type
#if defined(CASE_carveout_of_another_type)
template class CarveoutHeap<BackendArchetype, HeapSpec{.id = 2, .bytes = 4096}>;
#endif

// EXPECT carveout_alignment: ion: a HeapSpec's alignment is a power of two
#if defined(CASE_carveout_alignment)
template class CarveoutHeap<
    BackendArchetype,
    HeapSpec{.type = HeapType::kCarveout, .id = 2, .bytes = 4096, .alignment = 12288}>;
#endif

// EXPECT phys_without_base: ion: a carveout of physical memory needs to be told where
#if defined(CASE_phys_without_base)
template class CarveoutHeap<BackendArchetype,
                            HeapSpec{.type = HeapType::kCarveout, .id = 2, .bytes = 4096},
                            SegregatedFit, PhysRegion<BackendArchetype>>;
#endif

// EXPECT region_rules: ion: a region needs `static constexpr RegionCaps kCaps`
#if defined(CASE_region_rules)
struct Bad : RegionArchetype {};
static_assert(RegionCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT composed_without_compose: ion: a ComposedRegion needs a backend that declares
#if defined(CASE_composed_without_compose)
template class ComposedRegion<BackendArchetype, BackendArchetype>;
#endif

// EXPECT placement_create: ion: a placement needs `static Result<P> Create(
#if defined(CASE_placement_create)
struct Bad : PlacementArchetype {};
static_assert(PlacementCheck<Bad>::kOk);
#endif

// EXPECT placement_take: ion: a placement needs `std::optional<uint64_t> Take(uint64_t bytes
#if defined(CASE_placement_take)
struct Bad : PlacementArchetype {
  static Result<Bad> Create(const PlacementRegion&) noexcept;
  uint64_t Take(uint64_t, uint64_t) noexcept;
};
static_assert(PlacementCheck<Bad>::kOk);
#endif

// EXPECT placement_give: ion: a placement needs `uint64_t Give(uint64_t offset) noexcept`
#if defined(CASE_placement_give)
struct Bad : PlacementArchetype {
  static Result<Bad> Create(const PlacementRegion&) noexcept;
  void Give(uint64_t) noexcept;
};
static_assert(PlacementCheck<Bad>::kOk);
#endif

// EXPECT placement_figures: ion: a placement needs `PlacementFigures figures() const noexcept`
#if defined(CASE_placement_figures)
struct Bad : PlacementArchetype {
  static Result<Bad> Create(const PlacementRegion&) noexcept;
  PlacementFigures figures() noexcept;
};
static_assert(PlacementCheck<Bad>::kOk);
#endif

// EXPECT heap_identity: ion: a heap needs `static constexpr HeapId kId`
#if defined(CASE_heap_identity)
struct Bad : HeapArchetype {
  static constexpr int kId = 0;
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT heap_bind: ion: a heap needs `static Result<H> Bind(Backend&) noexcept`
#if defined(CASE_heap_bind)
struct Bad : HeapArchetype {};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT heap_properties: ion: a heap needs `std::string_view name() const noexcept`
#if defined(CASE_heap_properties)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  int name() const noexcept;
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT heap_allocate: ion: a heap needs `Error Allocate(const Request&, Block&) noexcept`
#if defined(CASE_heap_allocate)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  int Free() noexcept;
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT heap_map: ion: a heap needs `Result<std::byte*> Map(const Block&
#if defined(CASE_heap_map)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  int Unmap() noexcept;
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT layout_flag_without_hook: ion: kCaps.knows_layout and `Segment SegmentAt(
#if defined(CASE_layout_flag_without_hook)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.knows_layout = true};
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT named_only_flag_without_hook: ion: kCaps.named_only needs a public `bool NamedOnly(
#if defined(CASE_named_only_flag_without_hook)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.named_only = true};
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT heap_frames_flag_without_hook: ion: kCaps.frames needs a public `bool MakesFrames(
#if defined(CASE_heap_frames_flag_without_hook)
struct Bad : HeapArchetype {
  static Result<Bad> Bind(BackendArchetype&) noexcept;
  static constexpr HeapCaps kCaps = {.frames = true};
};
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT segments_of_scattered_memory: ion: this heap does not know how its memory lies
#if defined(CASE_segments_of_scattered_memory)
void Walk(const SystemHeap<BackendArchetype>& heap, const Block& block) {
  ForEachSegment(heap, block, [](const Segment&) {});
}
#endif

// EXPECT twice_an_id: ion: two heaps of a Manager have the same id
#if defined(CASE_twice_an_id)
template class ManagerWith<HighestFirst, BackendArchetype, SystemHeap<BackendArchetype>,
                           SystemHeap<BackendArchetype>>;
#endif

// EXPECT no_heap_and_no_description: ion: an element of a Manager's list is neither a heap
#if defined(CASE_no_heap_and_no_description)
struct Bad {};
template class ManagerWith<HighestFirst, BackendArchetype, Bad>;
#endif

// EXPECT region_over_a_backend: ion: the region of a Carveout is described without a backend
#if defined(CASE_region_over_a_backend)
constexpr HeapSpec kCarveout{.id = 2, .bytes = 4096};
template class ManagerWith<HighestFirst, BackendArchetype,
                           Carveout<kCarveout, PhysRegion<BackendArchetype>>>;
#endif

// EXPECT no_heap: ion: a Manager needs at least one heap
#if defined(CASE_no_heap)
template class ManagerWith<HighestFirst, BackendArchetype>;
#endif

// EXPECT write_through_read_only: ion: this mapping is read-only; take a WritableMapping
#if defined(CASE_write_through_read_only)
auto Write(const ReadOnlyMapping& mapping) { return CpuWrite::Begin(mapping); }
#endif

// EXPECT id_out_of_range: AHeapIdIs0To31
#if defined(CASE_id_out_of_range)
constexpr HeapId kTooHigh{32};
#endif

// EXPECT spec_id_out_of_range: AHeapIdIs0To31
#if defined(CASE_spec_id_out_of_range)
template class KernelHeapPolicy<BackendArchetype, HeapSpec{.id = 32}, HeapType::kSystem>;
#endif

// EXPECT spec_of_another_type: ion: the HeapSpec says another type than this policy serves
#if defined(CASE_spec_of_another_type)
constexpr HeapId kId = DmaHeap<BackendArchetype, HeapSpec{.id = 5}>::kId;
#endif

// EXPECT name_too_long: ion: the name of a heap has at most 63 characters
#if defined(CASE_name_too_long)
constexpr HeapName kName = "0123456789012345678901234567890123456789012345678901234567890123";
#endif

// EXPECT size_table_empty: ion: a SizeTable has at least one size
#if defined(CASE_size_table_empty)
template struct SizeTable<>;
#endif

// EXPECT size_table_twice: ion: the sizes of a SizeTable ascend
#if defined(CASE_size_table_twice)
template struct SizeTable<4096, 4096>;
#endif

// EXPECT private_flag_out_of_range: APrivateFlagIsBit0To15
#if defined(CASE_private_flag_out_of_range)
constexpr Flags kTooHigh = HeapPrivate(16);
#endif

// EXPECT known_not: ion: `!` would take unknown for no: say `.no()`
#if defined(CASE_known_not)
bool IsUncached(const Properties& is) { return !is.cached; }
#endif

}  // namespace ion
