// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The examples in the comments of our headers, as they stand there: the build cuts them out
// (tools/examples.awk) and each is compiled here, in a namespace with its header's name, after the
// names that its reader has. They are not run.

#include <fcntl.h>
#include <poll.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/allocate_chosen.h"
#include "ion/allocate_frame.h"
#include "ion/archetypes.h"
#include "ion/backends/all_of.h"
#include "ion/backends/any_of.h"
#include "ion/backends/cma_region.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/dma_heap_names.h"
#include "ion/backends/dma_heap_node.h"
#include "ion/backends/drm_dumb.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/memfd.h"
#include "ion/backends/own_device_memory.h"
#include "ion/backends/page_memory.h"
#include "ion/backends/udmabuf.h"
#include "ion/backends/v4l2_export.h"
#include "ion/base/alignment.h"
#include "ion/base/fd_socket.h"
#include "ion/base/linux_release.h"
#include "ion/base/memory_groups.h"
#include "ion/base/memory_top.h"
#include "ion/base/node_hint.h"
#include "ion/base/pressure.h"
#include "ion/base/printable.h"
#include "ion/base/sync_file.h"
#include "ion/base/with_memory.h"
#include "ion/buffer_of.h"
#include "ion/check_pipeline.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/client.h"
#include "ion/client_ref.h"
#include "ion/coherency.h"
#include "ion/constraint_text.h"
#include "ion/constraints.h"
#include "ion/core/account.h"
#include "ion/cpu_access.h"
#include "ion/cpu_copy.h"
#include "ion/cpu_mapping.h"
#include "ion/device.h"
#include "ion/devices/cpu.h"
#include "ion/devices/declared.h"
#include "ion/devices/drm_node.h"
#include "ion/devices/node_file.h"
#include "ion/devices/v4l2_queue.h"
#include "ion/frame_shape.h"
#include "ion/guarantees.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/layout.h"
#include "ion/manager.h"
#include "ion/merge.h"
#include "ion/move_holder.h"
#include "ion/move_socket.h"
#include "ion/pipeline.h"
#include "ion/pixel_check.h"
#include "ion/pixel_format.h"
#include "ion/plane_view.h"
#include "ion/platforms/all.h"
#include "ion/platforms/all_backend.h"
#include "ion/platforms/any_backend.h"
#include "ion/platforms/device_table.h"
#include "ion/platforms/device_tree.h"
#include "ion/platforms/heap_table.h"
#include "ion/platforms/heaps.h"
#include "ion/platforms/platform_backend.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/composed_region.h"
#include "ion/policies/carveout/first_fit.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/claim.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pool/depot.h"
#include "ion/policies/pool/magazine.h"
#include "ion/policies/pool/near_budget.h"
#include "ion/policies/pool/packed_stack.h"
#include "ion/policies/pool/pool.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/size_classes.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/probe.h"
#include "ion/probe_heaps.h"
#include "ion/probe_table.h"
#include "ion/probe_text.h"
#include "ion/recycler.h"
#include "ion/report.h"
#include "ion/shared_buffer.h"
#include "ion/stream.h"
#include "ion/version.h"

// An example ends before its last name is used.
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-local-typedefs"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"

namespace examples {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

// The names that several examples take for granted.
using Memory = ion::Manager<ion::MemfdBackend<>, ion::System>;
constexpr ion::HeapSpec kPhysical{
    .type = ion::HeapType::kCarveout, .id = 2, .base = 0x80000000, .bytes = 32_MiB};
using Carveout = ion::Carveout<kPhysical, ion::Physical>;
using Ranges = ion::Manager<ion::MemfdBackend<>, Carveout>;
struct Queue {
  void Submit(ion::FdRef) {}
};
struct Message {
  int number = 0;
};
void Log(const ion::Error&) {}
void SendOverSocket(int, ion::FdRef) {}
void QueueToDriver(ion::FdRef, uint64_t) {}
void UseAsIs() {}
void CopyOnce() {}
uint64_t Sum(std::span<const std::byte> bytes) { return bytes.size(); }
const char* Absent(const ion::LinuxRelease&) { return "load acme.ko"; }
ion::Block* FromTheKernel() { return nullptr; }
void GiveToTheKernel(ion::Block&) {}
void TakeContent(ion::Magazine<>&) {}

namespace backends_all_of_h {
void Example() {
#define EXAMPLE_backends_all_of_h
#include "tests/header_examples.inc"
}
}  // namespace backends_all_of_h

namespace backends_any_of_h {
void Example() {
#define EXAMPLE_backends_any_of_h
#include "tests/header_examples.inc"
}
}  // namespace backends_any_of_h

namespace backends_cma_region_h {
void Example(const ion::LinuxSyscalls& sys, std::span<const std::string_view> names) {
#define EXAMPLE_backends_cma_region_h
#include "tests/header_examples.inc"
}
}  // namespace backends_cma_region_h

namespace backends_dma_heap_h {
void Example() {
#define EXAMPLE_backends_dma_heap_h
#include "tests/header_examples.inc"
}
}  // namespace backends_dma_heap_h

namespace backends_dma_heap_names_h {
void Example() {
#define EXAMPLE_backends_dma_heap_names_h
#include "tests/header_examples.inc"
}
}  // namespace backends_dma_heap_names_h

namespace backends_dma_heap_node_h {
void Example(const ion::LinuxSyscalls& sys, ion::ErrorSink& errors, const std::string& path,
             dev_t st_rdev) {
#define EXAMPLE_backends_dma_heap_node_h
#include "tests/header_examples.inc"
}
}  // namespace backends_dma_heap_node_h

namespace backends_drm_dumb_h {
void Example() {
#define EXAMPLE_backends_drm_dumb_h
#include "tests/header_examples.inc"
}
}  // namespace backends_drm_dumb_h

namespace backends_ion_h {
void Example() {
#define EXAMPLE_backends_ion_h
#include "tests/header_examples.inc"
}
}  // namespace backends_ion_h

namespace backends_ion_legacy_h {
void Example() {
#define EXAMPLE_backends_ion_legacy_h
#include "tests/header_examples.inc"
}
}  // namespace backends_ion_legacy_h

namespace backends_memfd_h {
void Example() {
#define EXAMPLE_backends_memfd_h
#include "tests/header_examples.inc"
}
}  // namespace backends_memfd_h

namespace backends_udmabuf_h {
void Example() {
#define EXAMPLE_backends_udmabuf_h
#include "tests/header_examples.inc"
}
}  // namespace backends_udmabuf_h

namespace backends_v4l2_export_h {
void Example() {
#define EXAMPLE_backends_v4l2_export_h
#include "tests/header_examples.inc"
}
}  // namespace backends_v4l2_export_h

namespace ion_backend_h {
using MyBackend = ion::BackendArchetype;
#define EXAMPLE_ion_backend_h
#include "tests/header_examples.inc"
}  // namespace ion_backend_h

namespace ion_base_alignment_h {
ion::Error Example(const ion::Request& request, const ion::Origin& origin) {
  using namespace ion;
#define EXAMPLE_ion_base_alignment_h
#include "tests/header_examples.inc"
  return {};
}
}  // namespace ion_base_alignment_h

namespace ion_base_budget_h {
void Example() {
#define EXAMPLE_ion_base_budget_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_budget_h

namespace ion_base_bytes_h {
void Example(Memory& manager) {
#define EXAMPLE_ion_base_bytes_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_bytes_h

namespace ion_base_error_h {
ion::Error Example(std::string_view path, uint64_t bytes) {
  using namespace ion;
  constexpr const char* kName = "acme";
#define EXAMPLE_ion_base_error_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_error_h

namespace ion_base_error_sink_h {
void Example() {
#define EXAMPLE_ion_base_error_sink_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_error_sink_h

namespace ion_base_fd_h {
void Example(Memory::Client& client, const ion::Handle& handle, int socket) {
#define EXAMPLE_ion_base_fd_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_fd_h

namespace ion_base_fd_socket_h {
void Example(ion::FdRef socket, ion::FdRef fd, Message message, Memory::Client& client) {
#define EXAMPLE_ion_base_fd_socket_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_fd_socket_h

namespace ion_base_known_h {
void Example(const ion::Buffer& buffer) {
#define EXAMPLE_ion_base_known_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_known_h

namespace ion_base_linux_release_h {
void Example(const ion::LinuxSyscalls& sys) {
#define EXAMPLE_ion_base_linux_release_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_linux_release_h

namespace ion_base_memory_groups_h {
void Example(const ion::LinuxSyscalls& sys) {
  uint64_t smallest = UINT64_MAX;
#define EXAMPLE_ion_base_memory_groups_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_memory_groups_h

namespace ion_base_memory_top_h {
void Example() {
#define EXAMPLE_ion_base_memory_top_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_memory_top_h

namespace ion_base_node_hint_h {
ion::Error Example(const ion::LinuxSyscalls& sys, const char* path, long opened,
                   const ion::Origin& origin) {
  using namespace ion;
#define EXAMPLE_ion_base_node_hint_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_node_hint_h

namespace ion_base_pressure_h {
void Example() {
#define EXAMPLE_ion_base_pressure_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_pressure_h

namespace ion_base_printable_h {
void Example(std::string& text, std::string_view name) {
#define EXAMPLE_ion_base_printable_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_printable_h

namespace ion_base_sync_file_h {
absl::Status Example(ion::FdRef dma_buf, ion::Deadline deadline) {
#define EXAMPLE_ion_base_sync_file_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_sync_file_h

namespace ion_base_syscalls_h {
void Example() {
#define EXAMPLE_ion_base_syscalls_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_syscalls_h

namespace ion_base_with_memory_h {
ion::Result<ion::MemfdBackend<>> Example(const ion::MemfdBackend<>::Options& options,
                                         const ion::Origin& origin) {
  using namespace ion;
  using ion::internal::WithMemory;
  const auto OpenOrThrow = ion::MemfdBackend<>::OpenOrThrow;
#define EXAMPLE_ion_base_with_memory_h
#include "tests/header_examples.inc"
}
}  // namespace ion_base_with_memory_h

namespace ion_buffer_h {
void Example(Memory::Client& client, Queue& queue) {
#define EXAMPLE_ion_buffer_h
#include "tests/header_examples.inc"
}
}  // namespace ion_buffer_h

namespace ion_buffer_of_h {
void Example(Ranges::Client& client, ion::Buffer any) {
  using Carveout = Carveout::On<ion::MemfdBackend<>>;
#define EXAMPLE_ion_buffer_of_h
#include "tests/header_examples.inc"
}
}  // namespace ion_buffer_of_h

namespace ion_allocate_chosen_h {
void Example(Memory::Client& client, const ion::Choice& choice, const ion::ImageLayout& layout) {
#define EXAMPLE_ion_allocate_chosen_h
#include "tests/header_examples.inc"
}
}  // namespace ion_allocate_chosen_h

namespace ion_allocate_frame_h {
void Program(ion::FdRef, uint64_t, uint64_t) {}
absl::Status Example(Memory::Client& client, const ion::Choice& choice) {
#define EXAMPLE_ion_allocate_frame_h
#include "tests/header_examples.inc"
  return absl::OkStatus();
}
}  // namespace ion_allocate_frame_h

namespace ion_frame_shape_h {
constexpr ion::HeapId kDisplay{0};
void Example(Memory::Client& client) {
#define EXAMPLE_ion_frame_shape_h
#include "tests/header_examples.inc"
  (void)stated;
}
}  // namespace ion_frame_shape_h

namespace ion_check_pipeline_h {
struct Npu {
  static constexpr ion::PartyName kName = "npu";
  static constexpr ion::Constraints kConstraints{};
};
using Preview = ion::Pipeline<Npu>;
constexpr ion::HeapSpec kBoard[] = {{.type = ion::HeapType::kSystem, .id = 0}};
absl::Status Example(Memory& manager) {
#define EXAMPLE_ion_check_pipeline_h
#include "tests/header_examples.inc"
  return absl::OkStatus();
}
}  // namespace ion_check_pipeline_h

namespace ion_choice_h {
#define EXAMPLE_ion_choice_h
#include "tests/header_examples.inc"
}  // namespace ion_choice_h

namespace ion_choice_text_h {
void Example() {
#define EXAMPLE_ion_choice_text_h
#include "tests/header_examples.inc"
}
}  // namespace ion_choice_text_h

namespace ion_client_h {
void Example(Memory& manager, ion::UniqueFd received) {
#define EXAMPLE_ion_client_h
#include "tests/header_examples.inc"
}
}  // namespace ion_client_h

namespace ion_client_ref_h {
void Example(absl::StatusOr<Memory::Client>& client) {
#define EXAMPLE_ion_client_ref_h
#include "tests/header_examples.inc"
}
}  // namespace ion_client_ref_h

namespace ion_coherency_h {
void Example(const ion::Buffer& buffer) {
  const auto begin = [](ion::Direction) { return ion::Error(); };
  const auto end = begin, wait = begin;
  ion::Error error;
#define EXAMPLE_ion_coherency_h
#include "tests/header_examples.inc"
}
}  // namespace ion_coherency_h

namespace ion_constraint_text_h {
absl::Status Example() {
#define EXAMPLE_ion_constraint_text_h
#include "tests/header_examples.inc"
  return {};
}
}  // namespace ion_constraint_text_h

namespace ion_constraints_h {
#define EXAMPLE_ion_constraints_h
#include "tests/header_examples.inc"
}  // namespace ion_constraints_h

namespace ion_core_account_h {
void Example(const ion::Origin& origin, uint64_t pages) {
#define EXAMPLE_ion_core_account_h
#include "tests/header_examples.inc"
}
}  // namespace ion_core_account_h

namespace ion_cpu_access_h {
absl::Status Example(ion::WritableMapping& mapping) {
#define EXAMPLE_ion_cpu_access_h
#include "tests/header_examples.inc"
}
}  // namespace ion_cpu_access_h

namespace ion_cpu_copy_h {
void Example(ion::Buffer& buffer, std::vector<uint32_t> table, std::vector<uint32_t> header,
             uint64_t sum) {
#define EXAMPLE_ion_cpu_copy_h
#include "tests/header_examples.inc"
}
}  // namespace ion_cpu_copy_h

namespace ion_cpu_mapping_h {
void Example(ion::Buffer& buffer) {
#define EXAMPLE_ion_cpu_mapping_h
#include "tests/header_examples.inc"
}
}  // namespace ion_cpu_mapping_h

namespace ion_guarantees_h {
#define EXAMPLE_ion_guarantees_h
#include "tests/header_examples.inc"
}  // namespace ion_guarantees_h

namespace ion_handle_h {
void Example(Memory::Client& client, absl::StatusOr<ion::Buffer> buffer) {
#define EXAMPLE_ion_handle_h
#include "tests/header_examples.inc"
}
}  // namespace ion_handle_h

namespace ion_heap_h {
template <ion::Backend B>
using MyHeap = ion::SystemHeap<B>;
#define EXAMPLE_ion_heap_h
#include "tests/header_examples.inc"
}  // namespace ion_heap_h

namespace ion_heap_id_h {
void Example(Memory& manager, uint64_t n) {
#define EXAMPLE_ion_heap_id_h
#include "tests/header_examples.inc"
}
}  // namespace ion_heap_id_h

namespace ion_heap_list_h {
template <ion::Backend B>
using SpareHeap = ion::DmaHeap<B>;
#define EXAMPLE_ion_heap_list_h
#include "tests/header_examples.inc"
}  // namespace ion_heap_list_h

namespace ion_heap_offers_h {
void Example(Memory& manager, std::span<const ion::Party> parties) {
#define EXAMPLE_ion_heap_offers_h
#include "tests/header_examples.inc"
}
}  // namespace ion_heap_offers_h

namespace ion_heap_spec_h {
#define EXAMPLE_ion_heap_spec_h
#include "tests/header_examples.inc"
}  // namespace ion_heap_spec_h

namespace ion_image_layout_h {
void Example() {
#define EXAMPLE_ion_image_layout_h
#include "tests/header_examples.inc"
}
}  // namespace ion_image_layout_h

namespace ion_layout_h {
absl::StatusOr<ion::Buffer> Example(Memory& manager) {
#define EXAMPLE_ion_layout_h
#include "tests/header_examples.inc"
}
}  // namespace ion_layout_h

namespace ion_manager_h {
void Example() {
#define EXAMPLE_ion_manager_h
#include "tests/header_examples.inc"
}
}  // namespace ion_manager_h

namespace ion_pixel_format_h {
void Example() {
#define EXAMPLE_ion_pixel_format_h
#include "tests/header_examples.inc"
}
}  // namespace ion_pixel_format_h

namespace ion_plane_view_h {
absl::Status Example(const ion::WritableMapping& mapping, const ion::ImageLayout& layout) {
#define EXAMPLE_ion_plane_view_h
#include "tests/header_examples.inc"
}
}  // namespace ion_plane_view_h

namespace ion_merge_h {
std::pair<uint64_t, uint64_t> Example() {
#define EXAMPLE_ion_merge_h
#include "tests/header_examples.inc"
  return {};
}
}  // namespace ion_merge_h

namespace ion_pipeline_h {
#define EXAMPLE_ion_pipeline_h
#include "tests/header_examples.inc"
}  // namespace ion_pipeline_h

namespace devices_declared_h {
void Example() {
#define EXAMPLE_devices_declared_h
#include "tests/header_examples.inc"
}
}  // namespace devices_declared_h

namespace devices_cpu_h {
bool Example(const ion::DeviceArchetype& camera, const ion::HeapOffers& offers) {
#define EXAMPLE_devices_cpu_h
#include "tests/header_examples.inc"
  return choice.ok();
}
}  // namespace devices_cpu_h

namespace devices_drm_node_h {
absl::Status Example(const ion::Buffer& buffer) {
#define EXAMPLE_devices_drm_node_h
#include "tests/header_examples.inc"
  return ion::ToStatus(error);
}
}  // namespace devices_drm_node_h

namespace devices_node_file_h {
void Example() {
#define EXAMPLE_devices_node_file_h
#include "tests/header_examples.inc"
}
}  // namespace devices_node_file_h

namespace devices_v4l2_queue_h {
absl::Status Example(const ion::Buffer& buffer) {
#define EXAMPLE_devices_v4l2_queue_h
#include "tests/header_examples.inc"
  return ion::ToStatus(error);
}
}  // namespace devices_v4l2_queue_h

namespace ion_probe_h {
constexpr ion::HeapId kCma{4};
void Example(ion::DeviceArchetype& device, ion::ClientRef* client) {
#define EXAMPLE_ion_probe_h
#include "tests/header_examples.inc"
}
}  // namespace ion_probe_h

namespace ion_probe_heaps_h {
void Example(ion::DeviceArchetype& device, Memory* manager, ion::ClientRef* client,
             ion::Constraints& needs) {
#define EXAMPLE_ion_probe_heaps_h
#include "tests/header_examples.inc"
}
}  // namespace ion_probe_heaps_h

namespace ion_probe_table_h {
void Example(ion::DeviceArchetype& device, ion::PageMemory<>* pages, const ion::ProbeTarget& target,
             const std::string& text) {
#define EXAMPLE_ion_probe_table_h
#include "tests/header_examples.inc"
}
}  // namespace ion_probe_table_h

namespace ion_probe_text_h {
void Example(const ion::ProbeResult& result, const ion::HeapAnswers& answers) {
#define EXAMPLE_ion_probe_text_h
#include "tests/header_examples.inc"
}
}  // namespace ion_probe_text_h

namespace backends_page_memory_h {
void Example() {
#define EXAMPLE_backends_page_memory_h
#include "tests/header_examples.inc"
}
}  // namespace backends_page_memory_h

namespace backends_own_device_memory_h {
ion::Result<ion::UniqueFd> ExportOfQueue() noexcept { return ion::UniqueFd(); }
void Example(ion::DeviceArchetype& device, ion::PageMemory<>* pages) {
#define EXAMPLE_backends_own_device_memory_h
#include "tests/header_examples.inc"
}
}  // namespace backends_own_device_memory_h

namespace ion_device_h {
using MyCodec = ion::DeviceArchetype;
#define EXAMPLE_ion_device_h
#include "tests/header_examples.inc"
}  // namespace ion_device_h

namespace ion_move_holder_h {
using MyHolder = ion::MoveHolderArchetype;
#define EXAMPLE_ion_move_holder_h
#include "tests/header_examples.inc"
}  // namespace ion_move_holder_h

namespace ion_move_socket_h {
void Show(ion::FdRef, uint64_t) {}
absl::Status Example(ion::Stream& stream, ion::UniqueFd ours, ion::UniqueFd theirs) {
#define EXAMPLE_ion_move_socket_h
#include "tests/header_examples.inc"
  return absl::OkStatus();
}
}  // namespace ion_move_socket_h

namespace ion_recycler_h {
using MyRecyclerOf = ion::RecyclerArchetype;
template <class>
using MyRecycler = ion::RecyclerArchetype;
using H = ion::HeapArchetype;
using B = ion::BackendArchetype;
#define EXAMPLE_ion_recycler_h
#include "tests/header_examples.inc"
}  // namespace ion_recycler_h

namespace ion_report_h {
void Example(Memory& manager) {
#define EXAMPLE_ion_report_h
#include "tests/header_examples.inc"
}
}  // namespace ion_report_h

namespace ion_request_h {
void Example(Memory& manager) {
  constexpr ion::HeapId kCamera{4};
#define EXAMPLE_ion_request_h
#include "tests/header_examples.inc"
}
}  // namespace ion_request_h

namespace ion_shared_buffer_h {
void Example(Memory::Client& client) {
#define EXAMPLE_ion_shared_buffer_h
#include "tests/header_examples.inc"
}
}  // namespace ion_shared_buffer_h

namespace ion_pixel_check_h {
ion::Error CaptureOne(const ion::DeviceMemory&, const ion::Buffer&) { return {}; }
void Example(ion::ClientRef client, const ion::HeapOffers& offers, ion::DeclaredDevice& camera) {
#define EXAMPLE_ion_pixel_check_h
#include "tests/header_examples.inc"
}
}  // namespace ion_pixel_check_h

namespace ion_stream_h {
absl::Status Example(ion::ClientRef client, const ion::HeapOffers& offers,
                     const ion::ImageSpec& image, ion::DeclaredDevice& queue) {
#define EXAMPLE_ion_stream_h
#include "tests/header_examples.inc"
  return absl::OkStatus();
}
}  // namespace ion_stream_h

namespace ion_version_h {
void Example() {
#define EXAMPLE_ion_version_h
#include "tests/header_examples.inc"
}
}  // namespace ion_version_h

namespace platforms_all_backend_h {
void Example() {
#define EXAMPLE_platforms_all_backend_h
#include "tests/header_examples.inc"
}
}  // namespace platforms_all_backend_h

namespace platforms_any_backend_h {
void Example() {
#define EXAMPLE_platforms_any_backend_h
#include "tests/header_examples.inc"
}
}  // namespace platforms_any_backend_h

namespace platforms_device_table_h {
#define EXAMPLE_platforms_device_table_h
#include "tests/header_examples.inc"
}  // namespace platforms_device_table_h

namespace platforms_device_tree_h {
void Example() {
#define EXAMPLE_platforms_device_tree_h
#include "tests/header_examples.inc"
}
}  // namespace platforms_device_tree_h

namespace platforms_heap_table_h {
#define EXAMPLE_platforms_heap_table_h
#include "tests/header_examples.inc"
}  // namespace platforms_heap_table_h

namespace platforms_heaps_h {
void Example() {
#define EXAMPLE_platforms_heaps_h
#include "tests/header_examples.inc"
}
}  // namespace platforms_heaps_h

namespace platforms_linux_h {
void Example() {
#define EXAMPLE_platforms_linux_h
#include "tests/header_examples.inc"
}
}  // namespace platforms_linux_h

namespace platforms_named_h {
void Example() {
#define EXAMPLE_platforms_named_h
#include "tests/header_examples.inc"
}
}  // namespace platforms_named_h

namespace platforms_platform_backend_h {
void Example() {
#define EXAMPLE_platforms_platform_backend_h
#include "tests/header_examples.inc"
}
}  // namespace platforms_platform_backend_h

namespace platforms_pooled_h {
void Example() {
#define EXAMPLE_platforms_pooled_h
#include "tests/header_examples.inc"
}
}  // namespace platforms_pooled_h

namespace policies_carveout_carveout_heap_h {
constexpr ion::HeapSpec kRange = kPhysical;
#define EXAMPLE_policies_carveout_carveout_heap_h
#include "tests/header_examples.inc"
}  // namespace policies_carveout_carveout_heap_h

namespace policies_carveout_composed_region_h {
constexpr ion::HeapSpec kFrames{.type = ion::HeapType::kCarveout, .id = 2, .bytes = 32_MiB};
#define EXAMPLE_policies_carveout_composed_region_h
#include "tests/header_examples.inc"
}  // namespace policies_carveout_composed_region_h

namespace policies_carveout_first_fit_h {
void Example() {
#define EXAMPLE_policies_carveout_first_fit_h
#include "tests/header_examples.inc"
}
}  // namespace policies_carveout_first_fit_h

namespace policies_carveout_placement_h {
using MyPlacement = ion::FirstFit;
#define EXAMPLE_policies_carveout_placement_h
#include "tests/header_examples.inc"
}  // namespace policies_carveout_placement_h

namespace policies_carveout_segregated_fit_h {
void Example() {
#define EXAMPLE_policies_carveout_segregated_fit_h
#include "tests/header_examples.inc"
}
}  // namespace policies_carveout_segregated_fit_h

namespace policies_claim_h {
void Example(ion::MemfdBackend<>& backend, const ion::HeapSpec& spec) {
#define EXAMPLE_policies_claim_h
#include "tests/header_examples.inc"
}
}  // namespace policies_claim_h

namespace policies_dma_heap_h {
#define EXAMPLE_policies_dma_heap_h
#include "tests/header_examples.inc"
}  // namespace policies_dma_heap_h

namespace policies_pool_depot_h {
void Example(size_t count, uint32_t* indices) {
#define EXAMPLE_policies_pool_depot_h
#include "tests/header_examples.inc"
}
}  // namespace policies_pool_depot_h

namespace policies_pool_magazine_h {
void Example(ion::Magazine<>& magazine, uint64_t open) {
  using namespace ion;
#define EXAMPLE_policies_pool_magazine_h
#include "tests/header_examples.inc"
}
}  // namespace policies_pool_magazine_h

namespace policies_pool_near_budget_h {
void Example(std::vector<ion::Block>& blocks) {
#define EXAMPLE_policies_pool_near_budget_h
#include "tests/header_examples.inc"
}
}  // namespace policies_pool_near_budget_h

namespace policies_pool_packed_stack_h {
void Example(size_t count) {
#define EXAMPLE_policies_pool_packed_stack_h
#include "tests/header_examples.inc"
}
}  // namespace policies_pool_packed_stack_h

namespace policies_pool_pool_h {
void Example(std::span<ion::Block> blocks) {
#define EXAMPLE_policies_pool_pool_h
#include "tests/header_examples.inc"
}
}  // namespace policies_pool_pool_h

namespace policies_pooled_heap_h {
#define EXAMPLE_policies_pooled_heap_h
#include "tests/header_examples.inc"
}  // namespace policies_pooled_heap_h

namespace policies_recycling_pool_spec_h {
#define EXAMPLE_policies_recycling_pool_spec_h
#include "tests/header_examples.inc"
}  // namespace policies_recycling_pool_spec_h

namespace policies_size_classes_h {
using B = ion::MemfdBackend<>;
#define EXAMPLE_policies_size_classes_h
#include "tests/header_examples.inc"
}  // namespace policies_size_classes_h

namespace policies_system_contig_heap_h {
#define EXAMPLE_policies_system_contig_heap_h
#include "tests/header_examples.inc"
}  // namespace policies_system_contig_heap_h

namespace policies_system_heap_h {
#define EXAMPLE_policies_system_heap_h
#include "tests/header_examples.inc"
}  // namespace policies_system_heap_h

// An error here: a header has an example, and nothing above compiles it.
#define EXAMPLES
#include "tests/header_examples.inc"

TEST_CASE("Headers: the examples in their comments compile") {
  static_assert(ion_heap_list_h::Spare::On<ion::BackendArchetype>::kType == ion::HeapType::kDma);
}

}  // namespace examples
