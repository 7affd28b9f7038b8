// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/prime_source.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "examples/frame.h"
#include "examples/vgem.h"
#include "ion/base/status.h"
#include "ion/cpu_access.h"

namespace ion::demo {
namespace {

absl::Status Refusal(const char* what) {
  const int code = errno;
  return MakeStatus(code, absl::StrCat("vgem: ", what, ": ", ErrnoName(code)));
}

}  // namespace

absl::StatusOr<PrimeSource::Imported> PrimeSource::Imported::Import(FdRef vgem,
                                                                    const FrameBuffer& buffer) {
  drm::PrimeHandle in{.handle = 0, .flags = 0, .fd = buffer.memory.fd().get()};
  if (::ioctl(vgem.get(), drm::kPrimeFdToHandle, &in) != 0) {
    return Refusal("DRM_IOCTL_PRIME_FD_TO_HANDLE");
  }
  Imported imported(vgem, in.handle);
  drm::PrimeHandle out{.handle = in.handle, .flags = O_CLOEXEC | O_RDWR, .fd = -1};
  if (::ioctl(vgem.get(), drm::kPrimeHandleToFd, &out) != 0) {
    return Refusal("DRM_IOCTL_PRIME_HANDLE_TO_FD");
  }
  const UniqueFd fd(out.fd);
  void* const at = ::mmap(nullptr, buffer.memory.bytes(), PROT_READ, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) return Refusal("mmap");
  imported.bytes_ = {static_cast<const std::byte*>(at), buffer.memory.bytes()};
  return imported;
}

PrimeSource::Imported::~Imported() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  drm::GemClose close{.handle = handle_, .pad = 0};
  if (handle_ != 0) ::ioctl(vgem_.get(), drm::kGemClose, &close);
}

absl::StatusOr<std::unique_ptr<FrameSource>> PrimeSource::Around(
    std::unique_ptr<FrameSource> frames) {
  UniqueFd vgem = drm::OpenVgem();
  if (!vgem.valid()) return absl::NotFoundError("no vgem under /dev/dri: load it (modprobe vgem)");
  return std::unique_ptr<FrameSource>(new PrimeSource(std::move(vgem), std::move(frames)));
}

absl::Status PrimeSource::Start(std::span<const FrameBuffer> buffers) {
  imported_.clear();
  buffers_ = buffers;
  for (const FrameBuffer& buffer : buffers) {
    absl::StatusOr<Imported> imported = Imported::Import(vgem_.borrow(), buffer);
    if (!imported.ok()) {
      imported_.clear();
      return imported.status();
    }
    imported_.push_back(*std::move(imported));
  }
  absl::Status status = frames_->Start(buffers);
  if (!status.ok()) imported_.clear();
  return status;
}

absl::StatusOr<std::optional<Frame>> PrimeSource::Dequeue() {
  absl::StatusOr<std::optional<Frame>> frame = frames_->Dequeue();
  if (!frame.ok() || !frame->has_value()) return frame;
  absl::StatusOr<CpuRead> cpu = CpuRead::Begin(buffers_[(*frame)->buffer].mapping);
  if (!cpu.ok()) return cpu.status();
  const bool same = ChecksumOf(format(), imported_[(*frame)->buffer].bytes()) == (*frame)->checksum;
  if (absl::Status status = std::move(*cpu).End(); !status.ok()) return status;
  if (!same) return absl::DataLossError("vgem has other bytes than the source wrote");
  return frame;
}

}  // namespace ion::demo
