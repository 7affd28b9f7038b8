// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Every member of what users name, instantiated: compile_test.sh compiles it after every public
// header, as the builds of users do. Never run.

#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/platforms/linux.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/composed_region.h"
#include "ion/policies/carveout/first_fit.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pool/pool.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"

namespace {

using B = ion::DmaHeapBackend<>;
using Memfds = ion::MemfdBackend<>;
using Udmabufs = ion::UdmabufBackend<>;

constexpr ion::HeapSpec kCut{
    .type = ion::HeapType::kCarveout, .id = 2, .name = "linux,cma", .bytes = 16 << 20};
constexpr ion::HeapSpec kPhys{
    .type = ion::HeapType::kCarveout, .id = 3, .base = 1 << 30, .bytes = 16 << 20};
constexpr ion::HeapSpec kComposed{.type = ion::HeapType::kCarveout, .id = 2, .bytes = 16 << 20};

using Cut = ion::CarveoutHeap<B, kCut>;
using Phys = ion::CarveoutHeap<B, kPhys, ion::FirstFit, ion::PhysRegion<B>>;
using Composed = ion::CarveoutHeap<Udmabufs, kComposed, ion::SegregatedFit,
                                   ion::ComposedRegion<Udmabufs, Memfds>>;
using Whole = ion::Manager<B, ion::PooledHeap<ion::SystemHeap<B>>, ion::SystemContigHeap<B>,
                           ion::DmaHeap<B>, Cut, Phys>;
using Any = ion::platforms::Any;

}  // namespace

template class ion::ManagerWith<ion::HighestFirst, B, ion::PooledHeap<ion::SystemHeap<B>>,
                                ion::SystemContigHeap<B>, ion::DmaHeap<B>, Cut, Phys>;
template class ion::DmaHeapBackend<>;
template class ion::IonBackend<>;
template class ion::IonLegacyBackend<>;
template class ion::MemfdBackend<>;
template class ion::UdmabufBackend<>;
template class ion::Pool<ion::Block>;
template class ion::CarveoutHeap<Udmabufs, kComposed, ion::SegregatedFit,
                                 ion::ComposedRegion<Udmabufs, Memfds>>;
template class ion::CpuAccess<ion::Direction::kRead>;
template class ion::CpuAccess<ion::Direction::kReadWrite>;
template class ion::CpuMapping<ion::MapMode::kReadOnly>;
template class ion::CpuMapping<ion::MapMode::kWritable>;

namespace ion_use {

// Of no unnamed namespace: nothing calls it.
template <class M>
absl::Status Use(M& manager) {
  absl::StatusOr<typename M::Client> client = manager.CreateClient({.name = "client"});
  if (!client.ok()) return client.status();
  absl::StatusOr<ion::Buffer> lease = client->Allocate({.bytes = 1});
  if (!lease.ok()) return lease.status();
  absl::StatusOr<ion::WritableMapping> mapping = ion::WritableMapping::Of(*lease);
  if (!mapping.ok()) return mapping.status();
  if (absl::StatusOr<ion::CpuWrite> cpu = ion::CpuWrite::Begin(*mapping); cpu.ok()) {
    cpu->bytes()[0] = std::byte{1};
  }
  absl::StatusOr<ion::Handle> handle = client->MakeHandle(*std::move(lease));
  if (!handle.ok()) return handle.status();
  absl::StatusOr<ion::UniqueFd> fd = client->Share(*handle);
  if (!fd.ok()) return fd.status();
  absl::StatusOr<ion::Handle> again = client->Import(fd->borrow());
  if (!again.ok()) return again.status();
  if (auto seen = client->template Map<ion::MapMode::kReadOnly>(*again); !seen.ok()) {
    return seen.status();
  }
  const ion::FdRef lent = fd->borrow();
  std::byte payload[1] = {};
  ion::UniqueFd got[1];
  if (absl::Status sent = ion::SendFds(lent, payload, {&lent, 1}); !sent.ok()) return sent;
  if (const auto received = ion::ReceiveFds(lent, payload, got); !received.ok()) {
    return ion::ToStatus(received);
  }
  (void)ion::PoolText(manager.MakeReport());
  (void)ion::HeapText(manager.MakeReport(), ion::HeapId{0});
  if (const auto started = manager.StartReclaimer(); !started.ok()) return started.status();
  manager.Tick();
  (void)manager.Trim();
  return client->Free(*handle);
}

template absl::Status Use(Whole&);
template absl::Status Use(Any&);

}  // namespace ion_use
