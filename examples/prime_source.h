// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/prime_source.h
//
// Frames of another source, each seen by a GPU's driver as well: every buffer is imported into vgem
// (PRIME), and every frame that comes is read through what vgem has, before anybody else gets it.
#ifndef ION_EXAMPLES_PRIME_SOURCE_H_
#define ION_EXAMPLES_PRIME_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/frame_source.h"
#include "ion/base/fd.h"

namespace ion::demo {

class PrimeSource final : public FrameSource {
 public:
  // NOT_FOUND: there is no vgem.
  static absl::StatusOr<std::unique_ptr<FrameSource>> Around(std::unique_ptr<FrameSource> frames);

  std::string_view name() const override { return name_; }
  std::string_view act() const override { return frames_->act(); }
  const FrameFormat& format() const override { return frames_->format(); }
  absl::Status Start(std::span<const FrameBuffer> buffers) override;
  absl::Status Queue(uint32_t buffer) override { return frames_->Queue(buffer); }
  FdRef readable() const override { return frames_->readable(); }
  // DATA_LOSS: vgem has other bytes than the source wrote.
  absl::StatusOr<std::optional<Frame>> Dequeue() override;

 private:
  // A buffer that vgem holds, mapped as vgem hands it out.
  class Imported {
   public:
    static absl::StatusOr<Imported> Import(FdRef vgem, const FrameBuffer& buffer);
    Imported(Imported&& other) noexcept
        : vgem_(other.vgem_),
          handle_(std::exchange(other.handle_, 0)),
          bytes_(std::exchange(other.bytes_, {})) {}
    Imported& operator=(Imported&&) = delete;
    ~Imported();

    std::span<const std::byte> bytes() const { return bytes_; }

   private:
    Imported(FdRef vgem, uint32_t handle) : vgem_(vgem), handle_(handle) {}

    FdRef vgem_;
    uint32_t handle_;
    std::span<const std::byte> bytes_;
  };

  PrimeSource(UniqueFd vgem, std::unique_ptr<FrameSource> frames)
      : vgem_(std::move(vgem)),
        frames_(std::move(frames)),
        name_(std::string(frames_->name()) + ", seen by vgem") {}

  UniqueFd vgem_;
  std::unique_ptr<FrameSource> frames_;
  std::string name_;
  std::span<const FrameBuffer> buffers_;
  std::vector<Imported> imported_;
};

}  // namespace ion::demo

#endif  // ION_EXAMPLES_PRIME_SOURCE_H_
