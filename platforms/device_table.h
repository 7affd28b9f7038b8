// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/device_table.h
//
// The demands of known devices, and of common uses, as data: for a Pipeline (ion/pipeline.h), which
// takes the types, and for Choose (ion/choice.h), which takes the table. Each comment names the
// source of its values. They are declared values: those that the kernel tells of the device at hand
// (stride and size of TRY_FMT, the DMA mask of a PCI device) go before them, so copy the constant
// and set them. Image sizes and formats depend on the stream and are not here.
//
// A new device is a type with a name and its demands; it needs no place in the table.
//
// Example:
//   struct MyNpu {
//     static constexpr ion::PartyName kName = "my npu";
//     static constexpr ion::Constraints kConstraints{
//         .address_limit = ion::AddressOfBits(32),
//         .exporter_needs = ion::ExporterNeeds::kExportByUs,
//         .stride_multiple = 64};
//   };
//   constexpr ion::Party kParties[] = {ion::platforms::PartyOf<ion::platforms::devices::Uvc>(),
//                                      ion::platforms::PartyOf<MyNpu>(),
//                                      ion::platforms::PartyOf<ion::platforms::uses::ScanOut>()};
//
// Cost: constants, 1.6 KiB for each device that a program uses; FindDevice is a linear search.
// Thread-safe.
#ifndef ION_PLATFORMS_DEVICE_TABLE_H_
#define ION_PLATFORMS_DEVICE_TABLE_H_

#include <string_view>

#include "ion/constraints.h"

namespace ion::platforms {

// A device type as a party.
template <class Device>
constexpr Party PartyOf(Party::Kind kind = Party::Kind::kNeeded) noexcept {
  return {Device::kName, Device::kConstraints, kind};
}

namespace internal {

// A device imports the memory by a descriptor.
inline constexpr ExporterNeeds kImported = ExporterNeeds::kExportByUs;

}  // namespace internal

namespace devices {

using internal::kImported;

// Raspberry Pi up to 4: camera receiver and ISP. They reach the lowest GiB through an alias, and
// take one run. anholt/linux#12, raspberrypi/linux#3390, #4669 (1088 rows for 1080).
struct RpiUnicam {
  static constexpr PartyName kName = "rpi unicam";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(30),
                                            .segments_max = 1,
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 32,
                                            .height_multiple = 16};
};
// The same boards' video codec; the sources are the same.
struct RpiCodec {
  static constexpr PartyName kName = "rpi codec";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(30),
                                            .segments_max = 1,
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 64,
                                            .height_multiple = 16};
};
// The same boards' display engine: raspberrypi/linux#5727 (a silent bounce), #5734 (refused since).
struct RpiHvs {
  static constexpr PartyName kName = "rpi hvs";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(30),
                                            .segments_max = 1,
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported};
};
// Raspberry Pi 5: an IOMMU before the display engine; raspberrypi/linux#6706.
struct Rpi5Hvs {
  static constexpr PartyName kName = "rpi5 hvs";
  static constexpr Constraints kConstraints{
      .coherency = Coherency::kNeedsSync, .exporter_needs = kImported, .translated = true};
};
// Raspberry Pi 5: the ISP works in groups of 16 pixels; raspberrypi/libcamera#211.
struct Rpi5Pisp {
  static constexpr PartyName kName = "rpi5 pisp";
  static constexpr Constraints kConstraints{
      .coherency = Coherency::kNeedsSync, .exporter_needs = kImported, .width_multiple = 16};
};
// Broadcom V3D: an MMU of its own; reads 64 rows past an imported image. ivi-homescreen#598.
struct V3d {
  static constexpr PartyName kName = "v3d";
  static constexpr Constraints kConstraints{.tail_rows = 64,
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .translated = true};
};
// i.MX8M hantro G1 and G2: macroblocks of 16 by 16 pixels (drivers/media/platform/verisilicon).
// Their motion vectors lie behind the frame and are in sizeimage.
struct Imx8mHantro {
  static constexpr PartyName kName = "imx8m hantro";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(32),
                                            .segments_max = 1,
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .width_multiple = 16,
                                            .height_multiple = 16};
};
// The GPU beside it (etnaviv): an MMU of its own. xbmc#6922 has the values of i.MX6.
struct Etnaviv {
  static constexpr PartyName kName = "etnaviv";
  static constexpr Constraints kConstraints{.coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 64,
                                            .translated = true};
};
// Rockchip RGA2: 4 GiB of physical addresses. librga#133, #120, #49; mpp#493.
struct RockchipRga2 {
  static constexpr PartyName kName = "rockchip rga2";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(32),
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 16};
};
// Rockchip RGA3: 40 bits of addresses; the sources are the same.
struct RockchipRga3 {
  static constexpr PartyName kName = "rockchip rga3";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(40),
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 16};
};
// Rockchip's video codec, behind an IOMMU. mpp#507 (the stride), #943 (stripes without syncs).
struct RockchipVpu {
  static constexpr PartyName kName = "rockchip vpu";
  static constexpr Constraints kConstraints{.coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 64,
                                            .translated = true};
};
// Rockchip's NPU, behind an IOMMU. radxa/kernel#588.
struct RockchipNpu {
  static constexpr PartyName kName = "rockchip npu";
  static constexpr Constraints kConstraints{
      .coherency = Coherency::kNeedsSync, .exporter_needs = kImported, .translated = true};
};
// Mali GPUs before v10: strides of 64 bytes; mpp#507.
struct MaliBefore10 {
  static constexpr PartyName kName = "mali before v10";
  static constexpr Constraints kConstraints{
      .exporter_needs = kImported, .stride_multiple = 64, .translated = true};
};
// Qualcomm venus, NV12: drivers/media/platform/qcom/venus/helpers.c; the tail until it was fixed in
// 2026. openpilot#31681 (the rows).
struct QualcommVenus {
  static constexpr PartyName kName = "qualcomm venus";
  static constexpr Constraints kConstraints{.size_multiple = 4096,
                                            .tail_bytes = 8192,
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 128,
                                            .height_multiple = 32,
                                            .translated = true};
};
// Qualcomm fastrpc (DSP): 32 bits; 34 on Kaanapali since Linux commit 8314d2c28d33.
struct QualcommFastrpc {
  static constexpr PartyName kName = "qualcomm fastrpc";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(32),
                                            .coherency = Coherency::kNeedsSync,
                                            .exporter_needs = kImported};
};
// Intel's integrated GPUs, linear images. media-driver#169 (one page more than YUY2 has), #1929.
struct IntelGpu {
  static constexpr PartyName kName = "intel gpu";
  static constexpr Constraints kConstraints{.tail_bytes = 4096,
                                            .address_limit = AddressOfBits(39),
                                            .coherency = Coherency::kSnoops,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 64};
};
// AMD GPUs, linear images. xbmc#27895, Apollo-Linux#22, #23 (rows).
struct AmdGpu {
  static constexpr PartyName kName = "amd gpu";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(39),
                                            .coherency = Coherency::kSnoops,
                                            .exporter_needs = kImported,
                                            .stride_multiple = 256,
                                            .height_multiple = 16};
};
// USB cameras: the kernel's CPU writes, through vmap (videobuf2-vmalloc).
struct Uvc {
  static constexpr PartyName kName = "uvc camera";
  static constexpr Constraints kConstraints{.kernel_cpu_writes = true, .exporter_needs = kImported};
};
// The virtual video driver with its default queue: as a USB camera.
struct VividVmalloc {
  static constexpr PartyName kName = "vivid vmalloc";
  static constexpr Constraints kConstraints{.kernel_cpu_writes = true, .exporter_needs = kImported};
};
// The same with allocators=1: a 32-bit mask, one run, and its CPU writes (vivid-core.c). On x86.
struct VividDmaContig {
  static constexpr PartyName kName = "vivid dma-contig";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(32),
                                            .segments_max = 1,
                                            .kernel_cpu_writes = true,
                                            .coherency = Coherency::kSnoops,
                                            .exporter_needs = kImported};
};

}  // namespace devices

// Common uses, to be added to the devices as parties of their own. The numbers of held buffers are
// arbitrary: one that is worked on, and one that waits.
namespace uses {

using internal::kImported;

// A program that reads each byte.
struct SoftwareRead {
  static constexpr PartyName kName = "software read";
  static constexpr Constraints kConstraints{.held = 1, .cpu_read = CpuUse::kOften};
};
// A program that writes each byte.
struct SoftwareWrite {
  static constexpr PartyName kName = "software write";
  static constexpr Constraints kConstraints{.held = 1, .cpu_write = CpuUse::kOften};
};
// A camera's queue, with a spare buffer for a late consumer.
struct Camera {
  static constexpr PartyName kName = "camera";
  static constexpr Constraints kConstraints{
      .held = 2, .shared_slack = 1, .exporter_needs = kImported};
};
// A video encoder's queue.
struct Encoder {
  static constexpr PartyName kName = "encoder";
  static constexpr Constraints kConstraints{.held = 2, .exporter_needs = kImported};
};
// A texture that a GPU samples while the next one is made.
struct Texture {
  static constexpr PartyName kName = "texture";
  static constexpr Constraints kConstraints{.held = 2, .exporter_needs = kImported};
};
// A display: the frame on the screen, and the one that waits for the next refresh.
struct ScanOut {
  static constexpr PartyName kName = "scan-out";
  static constexpr Constraints kConstraints{.held = 2, .exporter_needs = kImported};
};

}  // namespace uses

// All devices and uses above.
inline constexpr Party kDevices[] = {
    PartyOf<devices::RpiUnicam>(),
    PartyOf<devices::RpiCodec>(),
    PartyOf<devices::RpiHvs>(),
    PartyOf<devices::Rpi5Hvs>(),
    PartyOf<devices::Rpi5Pisp>(),
    PartyOf<devices::V3d>(),
    PartyOf<devices::Imx8mHantro>(),
    PartyOf<devices::Etnaviv>(),
    PartyOf<devices::RockchipRga2>(),
    PartyOf<devices::RockchipRga3>(),
    PartyOf<devices::RockchipVpu>(),
    PartyOf<devices::RockchipNpu>(),
    PartyOf<devices::MaliBefore10>(),
    PartyOf<devices::QualcommVenus>(),
    PartyOf<devices::QualcommFastrpc>(),
    PartyOf<devices::IntelGpu>(),
    PartyOf<devices::AmdGpu>(),
    PartyOf<devices::Uvc>(),
    PartyOf<devices::VividVmalloc>(),
    PartyOf<devices::VividDmaContig>(),
    PartyOf<uses::SoftwareRead>(),
    PartyOf<uses::SoftwareWrite>(),
    PartyOf<uses::Camera>(),
    PartyOf<uses::Encoder>(),
    PartyOf<uses::Texture>(),
    PartyOf<uses::ScanOut>(),
};

// The device or use of this name; nullptr: there is none.
constexpr const Party* FindDevice(std::string_view name) noexcept {
  for (const Party& device : kDevices) {
    if (device.name.view() == name) return &device;
  }
  return nullptr;
}

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_DEVICE_TABLE_H_
