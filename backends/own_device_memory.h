// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/own_device_memory.h
//
// OwnDeviceMemory: the device's own memory for a probe (ion/probe.h), from a callable that exports
// it: a buffer of the same V4L2 queue (ion/backends/v4l2_export.h), of the same DRM card. It is the
// control: a device that refuses its own memory imports none. The exporter's name, which the kernel
// tells, shows a V4L2 queue of vmalloc memory.
//
// Example:
//   ion::OwnDeviceMemory own([&](uint64_t) noexcept { return ExportOfQueue(); });
//   const ion::ProbeResult result = ion::Probe(device, {.bytes = 8_MiB}, *pages, own);
//
// Cost: four system calls beside the callable's. Thread-compatible.
#ifndef ION_BACKENDS_OWN_DEVICE_MEMORY_H_
#define ION_BACKENDS_OWN_DEVICE_MEMORY_H_

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ion/backends/local_file.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/probe.h"

namespace ion {

// Export: `Result<UniqueFd>(uint64_t bytes) noexcept`, a dma-buf of the device's own. It may have
// more bytes, or fewer; the device is asked about all of it.
template <class Export, Syscalls Sys = LinuxSyscalls>
class OwnDeviceMemory {
  static_assert(std::is_nothrow_invocable_r_v<Result<UniqueFd>, Export&, uint64_t>,
                "ion: the callable is `Result<UniqueFd>(uint64_t bytes) noexcept`");

 public:
  static constexpr Sample kSamples[1] = {Sample::kOwn};

  explicit OwnDeviceMemory(Export make, const Sys& sys = {}) noexcept
      : make_(std::move(make)), sys_(sys) {}

  // Errors: the callable's. EINVAL: no sample of the device's own, or an empty descriptor. A kernel
  // that hides the exporter's name is no error.
  template <class Use>
  Error Lend(Sample which, uint64_t bytes, Use use) noexcept {
    const Origin origin{"own memory", Operation::kShare, {}, bytes};
    if (which != Sample::kOwn) return Error(EINVAL, "only memory of the device's own", origin);
    Result<UniqueFd> made = make_(bytes);
    if (!made.ok()) return made.error();
    const UniqueFd fd = *std::move(made);
    const long size = sys_.Lseek(fd.get(), 0, SEEK_END);
    if (Failed(size)) return Error(ErrnoFrom(size), "lseek", origin);
    if (size == 0) return Error(EINVAL, "lseek: the dma-buf is empty", origin);
    ErrorSink ignored;
    const Result<FdInfo> info = ReadFdInfo(sys_, ignored, fd.get(), origin);
    use(LentMemory{.range = {fd.borrow(), 0, static_cast<uint64_t>(size)},
                   .exporter = info.ok() ? ExporterIn(info->view()) : std::string_view()});
    return {};
  }

 private:
  static std::string_view ExporterIn(std::string_view facts) noexcept {
    constexpr std::string_view kLine = "\nexp_name:\t";
    const size_t at = facts.find(kLine);
    if (at == facts.npos) return {};
    facts.remove_prefix(at + kLine.size());
    return facts.substr(0, facts.find('\n'));
  }

  Export make_;
  [[no_unique_address]] Sys sys_;
};

}  // namespace ion

#endif  // ION_BACKENDS_OWN_DEVICE_MEMORY_H_
