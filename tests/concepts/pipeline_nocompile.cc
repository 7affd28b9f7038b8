// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pipelines that must not compile, and the sentence with which they do not: the field, and the types
// of the two devices.

#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_spec.h"
#include "ion/pipeline.h"

namespace ion {

struct Camera {
  static constexpr PartyName kName = "camera";
  static constexpr Constraints kConstraints{
      .held = 2, .segments_max = 1, .stride_multiple = 64, .formats = {{1, 0}}};
};
struct Npu {
  static constexpr PartyName kName = "npu";
  static constexpr Constraints kConstraints{.stride_multiple = 16};
};
constexpr HeapSpec kBoard[] = {{.type = HeapType::kSystem, .id = 0},
                               {.type = HeapType::kDma, .id = 4, .name = "linux,cma"}};
static_assert(Pipeline<Camera, Npu>::Over<kBoard>::kHeap == HeapId{4});

struct Narrow {
  static constexpr PartyName kName = "narrow";
  static constexpr Constraints kConstraints{.stride_max = 32};
};

// EXPECT stride: ion: stride_max: one party takes no stride as large as another one needs
#if defined(CASE_stride)
static_assert(Pipeline<Camera, Npu, Narrow>::Over<kBoard>::kHeap == HeapId{4});
#endif

// EXPECT stride_types: DevicesCanShare<ion::Field::kStrideMax, ion::Field::kStrideMultiple, false, ion::Narrow, ion::Camera>
#if defined(CASE_stride_types)
static_assert(Pipeline<Camera, Npu, Narrow>::Over<kBoard>::kHeap == HeapId{4});
#endif

struct Secure {
  static constexpr PartyName kName = "secure display";
  static constexpr Constraints kConstraints{.protection = Protection::kRequired};
};
struct Uvc {
  static constexpr PartyName kName = "uvc";
  static constexpr Constraints kConstraints{.kernel_cpu_writes = true};
};

// EXPECT protection: ion: protection: one party needs protected memory and another one cannot use it
#if defined(CASE_protection)
static_assert(Pipeline<Uvc, Npu, Secure>::Over<kBoard>::kHeap == HeapId{4});
#endif

// EXPECT protection_types: DevicesCanShare<ion::Field::kProtection, ion::Field::kKernelCpuWrites, false, ion::Secure, ion::Uvc>
#if defined(CASE_protection_types)
static_assert(Pipeline<Uvc, Npu, Secure>::Over<kBoard>::kHeap == HeapId{4});
#endif

struct Rga {
  static constexpr PartyName kName = "rga";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(32)};
};

// EXPECT no_heap: ion: no heap is known to satisfy all devices: the first one fails at segments_max
#if defined(CASE_no_heap)
static_assert(Pipeline<Camera, Npu, Rga>::Over<kBoard>::kHeap == HeapId{4});
#endif

// EXPECT no_heap_types: SomeHeapSuits<ion::Field::kSegmentsMax, ion::Field::kAddressLimit, false, ion::Camera, ion::Rga>
#if defined(CASE_no_heap_types)
static_assert(Pipeline<Camera, Npu, Rga>::Over<kBoard>::kHeap == HeapId{4});
#endif

struct OtherFormat {
  static constexpr PartyName kName = "other format";
  static constexpr Constraints kConstraints{.formats = {{2, 0}}};
};

// EXPECT formats: ion: formats: the parties have no format and modifier in common
#if defined(CASE_formats)
static_assert(Pipeline<Camera, OtherFormat>::Over<kBoard>::kHeap == HeapId{4});
#endif

struct Unsound {
  static constexpr PartyName kName = "unsound";
  static constexpr Constraints kConstraints{.segment_multiple = 48};
};

// EXPECT unsound: ion: a device's own segment_multiple is refused, or its other demands exclude it
#if defined(CASE_unsound)
static_assert(Pipeline<Camera, Unsound>::Over<kBoard>::kHeap == HeapId{4});
#endif

struct Nameless {
  static constexpr Constraints kConstraints{};
};

// EXPECT no_name: ion: a device of a Pipeline needs its name
#if defined(CASE_no_name)
static_assert(Pipeline<Camera, Nameless>::Over<kBoard>::kHeap == HeapId{4});
#endif

struct Undemanding {
  static constexpr PartyName kName = "undemanding";
};

// EXPECT no_demands: ion: a device of a Pipeline needs its demands
#if defined(CASE_no_demands)
static_assert(Pipeline<Camera, Undemanding>::Over<kBoard>::kHeap == HeapId{4});
#endif

// EXPECT no_guarantees: ion: a heap of a Pipeline needs its guarantees
#if defined(CASE_no_guarantees)
static_assert(Pipeline<Camera>::On<Nameless>::kHeap == HeapId{4});
#endif

constexpr HeapSpec kOneId[] = {{.id = 1}, {.type = HeapType::kDma, .id = 1}};

// EXPECT one_id: ion: two heaps of a Pipeline have one id
#if defined(CASE_one_id)
static_assert(Pipeline<Camera>::Over<kOneId>::kHeap == HeapId{1});
#endif

// EXPECT no_device: ion: a Pipeline has 1 to 16 devices
#if defined(CASE_no_device)
static_assert(Pipeline<>::Over<kBoard>::kHeap == HeapId{4});
#endif

// EXPECT long_name: ion: the name of a party has at most 31 bytes
#if defined(CASE_long_name)
constexpr PartyName kLong = "a name of a party that is too long";
#endif

}  // namespace ion
