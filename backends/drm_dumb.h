// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/drm_dumb.h
//
// DrmDumbBackend: dma-bufs from the dumb buffers of a DRM card, exported by PRIME. The memory is the
// display's own: on a desktop without dma-heaps, and for a display that takes no memory but its
// own. A request for an image gets a frame, with the pitch that the driver states.
//
// Not for memory of a GPU's shaders or of a video engine: dumb buffers are for scan-out and the CPU,
// and a driver may place them where other devices are slow. A render node (/dev/dri/renderD*) makes
// none. The driver tells nothing of the memory's caching, of its place or of its old bytes, so none
// of that is promised.
//
// The first program that opens a card becomes its master, and a compositor that starts later could
// not show anything. So Open gives that up at once; Linux before 5.8 lets only root do it.
//
// Example:
//   ion::Result<ion::DrmDumbBackend<>> backend = ion::DrmDumbBackend<>::Open({});
//   ion::Block block;
//   const ion::FrameShape image{.width = 640, .height = 480, .stride = 2560};
//   ion::Error error =
//       backend->AllocateFrame(0, {.bytes = 480 * 2560, .frame = image}, block);
//   const uint32_t pitch = backend->StatedOf(block).pitch;
//
// Cost: four system calls an allocation, one more for a name; one descriptor in all. Thread-safe but
// for Open.
#ifndef ION_BACKENDS_DRM_DUMB_H_
#define ION_BACKENDS_DRM_DUMB_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/backends/start_mapped_backend.h"
#include "ion/base/bytes.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/poll_until.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/frame_shape.h"
#include "ion/request.h"
#include "ion/uapi/drm.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class DrmDumbBackend : public StartMappedBackend<Sys> {
  using Base = StartMappedBackend<Sys>;

 public:
  static constexpr const char* kName = "drm_dumb";
  // It proves nothing unshared: an import by PRIME into the same card takes the driver's object, and
  // leaves no trace at the dma-buf.
  static constexpr BackendCaps kCaps = {.fences = true, .compares = true, .frames = true};

  // The most that the kernel makes in one piece: it computes the bytes, whole pages, in 32 bits
  // (drm_mode_create_dumb, Linux 2.6.39 to 7.2).
  static constexpr uint64_t kLargestBytes = UINT32_MAX - uint64_t{4095};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    // A card's node, such as "/dev/dri/card0". Empty: the first of `directory`, by its number,
    // whose driver makes dumb buffers.
    std::string node = {};
    std::string directory = "/dev/dri";
  };

  // Opens the node. ENOENT: there is none. ENODEV: it is no node of DRM, or no card of the directory
  // makes dumb buffers. EACCES: it is a render node, or its mode forbids it. ENOSYS: its driver
  // makes none. A card that cannot be asked is an error, not passed over: which card is taken does
  // not depend on a failure.
  static Result<DrmDumbBackend> Open(const Options& options) noexcept {
    return DrmDumbBackend::OpenWithMemory(kName, [&] { return OpenOrThrow(options); });
  }
  // Not for users: Open, which may throw bad_alloc.
  static Result<DrmDumbBackend> OpenOrThrow(const Options& options) {
    auto shared = Base::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    ErrorSink& errors = *(*shared)->errors;
    if (!options.node.empty()) {
      Result<ScopedFd<Sys>> node = OpenNode(options, errors, options.node);
      if (!node.ok()) return node.error();
      return DrmDumbBackend(options.sys, std::move(*shared), *std::move(node), options.node);
    }
    const Result<std::vector<std::string>> cards = Cards(options, errors);
    if (!cards.ok()) return cards.error();
    for (const std::string& card : *cards) {
      Result<ScopedFd<Sys>> node = OpenNode(options, errors, card);
      if (node.ok()) return DrmDumbBackend(options.sys, std::move(*shared), *std::move(node), card);
      if (node.error().code() != ENOSYS) return node.error();
    }
    return Error(ENODEV, "no card here makes dumb buffers", Opening(options.directory),
                 "a driver with a display makes them, as CONFIG_DRM_VKMS and CONFIG_DRM_VGEM do");
  }

  bool SameBuffer(FdRef a, FdRef b) const noexcept { return this->SameFile(a, b); }
  Result<bool> IsIdle(const Block& block) noexcept { return this->PollFences(block); }
  Error AwaitFences(const Block& block, Direction direction, Deadline deadline) noexcept {
    return this->PollFencesUntil(block, direction, deadline);
  }

  // The card's node.
  const std::string& node() const noexcept { return path_; }

  // EINVAL: 0 bytes, past kLargestBytes, or a heap-private flag. ENOMEM: past the bound, or the
  // driver's. EIO: the driver stated less than it was asked for.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    const Origin origin{kName, Operation::kAllocate, path_, bytes};
    if (HeapPrivateBits(flags) != 0) {
      return Error(EINVAL, "dumb buffers have no private flags", origin);
    }
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    if (charge->bytes() > kLargestBytes) return TooLarge(origin);
    return Make(LinesOf(charge->bytes()), *charge, origin, name, block);
  }

  // As Allocate, of a frame whose lines have at least frame.stride bytes; all its planes follow each
  // other in them. The format is no matter. EINVAL also: no stride, or a frame that the driver does
  // not make: virtio-gpu makes none whose stride is no multiple of 4.
  Error AllocateFrame(uint32_t kernel_heap, const Request& request, Block& block) noexcept {
    const uint64_t stride = request.frame.stride;
    const Origin origin{kName, Operation::kAllocate, path_, request.bytes};
    if (HeapPrivateBits(request.flags) != 0) {
      return Error(EINVAL, "dumb buffers have no private flags", origin);
    }
    if (stride == 0 || request.bytes == 0) {
      return Error(EINVAL, "a frame without a stride or bytes", origin);
    }
    const uint64_t lines = (request.bytes - 1) / stride + 1;
    uint64_t bytes = 0;
    if (stride > kLongestLine || __builtin_mul_overflow(lines, stride, &bytes) ||
        bytes > kLargestBytes) {
      return TooLarge(origin);
    }
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    // The largest pixel that a line is a whole number of: one of 32 bits is what every driver makes.
    const uint32_t pixel = stride % 4 == 0 ? 4 : stride % 2 == 0 ? 2 : 1;
    const Lines asked{.width = static_cast<uint32_t>(stride / pixel),
                      .height = static_cast<uint32_t>(lines),
                      .bits_per_pixel = 8 * pixel};
    if (Error error = Make(asked, *charge, origin, request.name, block); !error.ok()) return error;
    block.cookie |= kIsFrame;
    return {};
  }
  StatedFrame StatedOf(const Block& block) const noexcept {
    if ((block.cookie & kIsFrame) == 0 || block.foreign) return {};
    const auto pitch = static_cast<uint32_t>(block.cookie);
    return {.pitch = pitch, .bytes = uint64_t{pitch} * (block.cookie >> kLinesAt & kMostLines)};
  }

 private:
  // A question to the driver: pixels of whole bytes, line after line.
  struct Lines {
    uint32_t width = 0;   // pixels
    uint32_t height = 0;  // lines
    uint32_t bits_per_pixel = 32;
  };
  // Before Linux 7.0 drivers count a line's bits in 32 bits.
  static constexpr uint64_t kLongestLine = uint64_t{1} << 28;  // bytes
  // A block's cookie: the pitch in its lower half, the number of lines above, and if it is a frame.
  static constexpr unsigned kLinesAt = 32;
  static constexpr uint64_t kMostLines = (uint64_t{1} << 31) - 1;
  static constexpr uint64_t kIsFrame = uint64_t{1} << 63;

  // Dumb buffers have their handle only until they are exported.
  class Handle {
   public:
    Handle(const DrmDumbBackend& backend, uint32_t handle, uint64_t bytes) noexcept
        : backend_(backend), handle_(handle), bytes_(bytes) {}
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() {
      ion_uapi::drm_mode_destroy_dumb destroy{.handle = handle_};
      const long answer = IoctlRetrying(backend_.sys(), backend_.node_.get(),
                                        ion_uapi::kDrmIoctlModeDestroyDumb, &destroy);
      if (!Failed(answer)) return;
      backend_.errors().Report(Error(ErrnoFrom(answer), "DRM_IOCTL_MODE_DESTROY_DUMB",
                                     {kName, Operation::kRelease, backend_.path_, bytes_},
                                     "the card holds the memory until the backend is destroyed"));
    }

   private:
    const DrmDumbBackend& backend_;
    uint32_t handle_;
    uint64_t bytes_;
  };

  DrmDumbBackend(const Sys& sys, std::unique_ptr<typename Base::Shared> shared, ScopedFd<Sys> node,
                 const std::string& path)
      : Base(kName, sys, std::move(shared)), path_(path), node_(std::move(node)) {
    this->AddHeap({.name = kName,
                   .type = HeapType::kSystem,
                   .properties = {.cpu_mappable = true, .alignment = PageBytes()},
                   .unusable = {},
                   .largest = kLargestBytes,
                   .frames = MakesFrames::kAlso});
  }

  static Origin Opening(const std::string& path) noexcept {
    return {kName, Operation::kOpen, path};
  }

  // The paths of the cards of the directory, by their numbers.
  static Result<std::vector<std::string>> Cards(const Options& options, ErrorSink& errors) {
    const std::string& directory = options.directory;
    const long opened = OpenRetrying(options.sys, directory.c_str(), O_RDONLY | O_DIRECTORY);
    if (Failed(opened)) {
      return Error(ErrnoFrom(opened), "open", Opening(directory),
                   NodeHint(options.sys, directory.c_str(), opened, O_RDONLY, kAdvice));
    }
    const ScopedFd<Sys> folder(static_cast<int>(opened), options.sys, errors, kName);
    std::vector<unsigned> numbers;
    alignas(dirent64) char entries[4096];
    for (;;) {
      const long got = options.sys.Getdents(folder.get(), entries, sizeof(entries));
      if (Failed(got)) return Error(ErrnoFrom(got), "getdents64", Opening(directory));
      if (got == 0) break;
      for (long at = 0; at < got;) {
        const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
        at += entry->d_reclen;
        constexpr std::string_view kCard = "card";
        std::string_view name = entry->d_name;
        if (!name.starts_with(kCard)) continue;
        name.remove_prefix(kCard.size());
        unsigned number = 0;
        const auto [end, fault] = std::from_chars(name.data(), name.data() + name.size(), number);
        if (fault == std::errc{} && end == name.data() + name.size()) numbers.push_back(number);
      }
    }
    std::ranges::sort(numbers);
    std::vector<std::string> cards;
    for (const unsigned number : numbers) {
      cards.push_back(directory + "/card" + std::to_string(number));
    }
    return cards;
  }

  // The node, open, no master, and of a driver that makes dumb buffers; ENOSYS: of one that makes
  // none. Nothing but a node of DRM gets an ioctl.
  static Result<ScopedFd<Sys>> OpenNode(const Options& options, ErrorSink& errors,
                                        const std::string& path) noexcept {
    const Sys& sys = options.sys;
    const long opened = OpenRetrying(sys, path.c_str(), O_RDWR);
    if (Failed(opened)) {
      return Error(ErrnoFrom(opened), "open", Opening(path),
                   NodeHint(sys, path.c_str(), opened, O_RDWR, kAdvice));
    }
    ScopedFd<Sys> node(static_cast<int>(opened), sys, errors, kName);
    struct stat status {};
    if (const long answer = sys.Fstat(node.get(), &status); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstat", Opening(path));
    }
    if (!S_ISCHR(status.st_mode) || major(status.st_rdev) != ion_uapi::kDrmMajor) {
      return Error(ENODEV, "fstat: not a device of major 226 (DRM), as /dev/dri/card0 is",
                   Opening(path));
    }
    if (minor(status.st_rdev) - ion_uapi::kDrmRenderMinor < ion_uapi::kDrmRenderMinors) {
      return Error(EACCES, "fstat: a render node, which makes no dumb buffers", Opening(path),
                   "name the card's node, /dev/dri/card0 or the like");
    }
    // EINVAL: another program is the master. EACCES: before Linux 5.8 it takes root.
    const long dropped = IoctlRetrying(sys, node.get(), ion_uapi::kDrmIoctlDropMaster, nullptr);
    if (Failed(dropped) && dropped != -EINVAL && dropped != -EACCES) {
      return Error(ErrnoFrom(dropped), "DRM_IOCTL_DROP_MASTER", Opening(path));
    }
    if (Error error = CheckMakesDumb(sys, node.get(), errors, path); !error.ok()) return error;
    return node;
  }

  // No error where the driver makes dumb buffers; ENOSYS: it makes none. A driver without a display
  // (vgem) does not answer the question, so it is asked for a buffer.
  static Error CheckMakesDumb(const Sys& sys, int node, ErrorSink& errors,
                              const std::string& path) noexcept {
    ion_uapi::drm_get_cap cap{.capability = ion_uapi::kDrmCapDumbBuffer, .value = 0};
    const long told = IoctlRetrying(sys, node, ion_uapi::kDrmIoctlGetCap, &cap);
    if (!Failed(told)) return cap.value != 0 ? Error() : MakesNone("DRM_IOCTL_GET_CAP", path);
    if (told != -EOPNOTSUPP) return Error(ErrnoFrom(told), "DRM_IOCTL_GET_CAP", Opening(path));
    ion_uapi::drm_mode_create_dumb create = Question({.width = 1, .height = 1});
    const long made = IoctlRetrying(sys, node, ion_uapi::kDrmIoctlModeCreateDumb, &create);
    if (made == -ENOSYS) return MakesNone("DRM_IOCTL_MODE_CREATE_DUMB", path);
    if (Failed(made)) {
      return Error(ErrnoFrom(made), "DRM_IOCTL_MODE_CREATE_DUMB", Opening(path));
    }
    ion_uapi::drm_mode_destroy_dumb destroy{.handle = create.handle};
    const long answer = IoctlRetrying(sys, node, ion_uapi::kDrmIoctlModeDestroyDumb, &destroy);
    if (Failed(answer)) {
      errors.Report(Error(ErrnoFrom(answer), "DRM_IOCTL_MODE_DESTROY_DUMB",
                          {kName, Operation::kRelease, path}));
    }
    return {};
  }
  static Error MakesNone(const char* what, const std::string& path) noexcept {
    return Error(ENOSYS, what, Opening(path),
                 "its driver makes no dumb buffers: name another card");
  }

  static ion_uapi::drm_mode_create_dumb Question(const Lines& frame) noexcept {
    return {.height = frame.height,
            .width = frame.width,
            .bpp = frame.bits_per_pixel,
            .flags = 0,
            .handle = 0,
            .pitch = 0,
            .size = 0};
  }
  static constexpr uint64_t LineBytes(const Lines& frame) noexcept {
    return uint64_t{frame.width} * (frame.bits_per_pixel / 8);
  }
  // One line of so many bytes, whole pages, of pixels of 32 bits: those that every driver makes.
  // Before Linux 7.0 drivers count a line's bits in 32 bits (drm_gem_shmem_dumb_create of 6.12: 512
  // MiB are ENOSPC, and a page more is one page), so more than half of that is lines of a page each,
  // which is a multiple of the pitch that drivers round up to.
  static constexpr Lines LinesOf(uint64_t bytes) noexcept {
    constexpr uint64_t kPixel = 4, kShortLine = 4096;  // bytes
    if (bytes <= kLongestLine) {
      return {.width = static_cast<uint32_t>(bytes / kPixel), .height = 1};
    }
    return {.width = static_cast<uint32_t>(kShortLine / kPixel),
            .height = static_cast<uint32_t>(bytes / kShortLine)};
  }

  static Error TooLarge(const Origin& origin) noexcept {
    return Error(EINVAL, "past the largest dumb buffer, which the kernel counts in 32 bits", origin,
                 "take several buffers")
        .With(Limit{kLargestBytes});
  }

  // Asks the driver, and fills the block with all that came.
  Error Make(const Lines& frame, Charge& charge, const Origin& origin, std::string_view name,
             Block& block) noexcept {
    ion_uapi::drm_mode_create_dumb create = Question(frame);
    const long made =
        IoctlRetrying(this->sys(), node_.get(), ion_uapi::kDrmIoctlModeCreateDumb, &create);
    if (Failed(made)) {
      return Error(ErrnoFrom(made), "DRM_IOCTL_MODE_CREATE_DUMB", origin,
                   made == -EINVAL ? "the driver makes no frame of this width, height or bits per "
                                     "pixel: 32 bits is what every driver makes"
                                   : nullptr);
    }
    const Handle handle(*this, create.handle, create.size);
    ion_uapi::drm_prime_handle prime{
        .handle = create.handle, .flags = ion_uapi::kDrmCloexec | ion_uapi::kDrmRdwr, .fd = -1};
    const long exported =
        IoctlRetrying(this->sys(), node_.get(), ion_uapi::kDrmIoctlPrimeHandleToFd, &prime);
    if (Failed(exported)) {
      return Error(ErrnoFrom(exported), "DRM_IOCTL_PRIME_HANDLE_TO_FD", origin,
                   ExportHint(exported));
    }
    ScopedFd<Sys> fd = this->Own(prime.fd);
    // Drivers of contiguous memory state a size that is no whole pages: the descriptor knows.
    const long end = this->sys().Lseek(fd.get(), 0, SEEK_END);
    if (Failed(end)) return Error(ErrnoFrom(end), "lseek", origin);
    const auto came = static_cast<uint64_t>(end);
    if (create.pitch < LineBytes(frame) || create.size > came ||
        uint64_t{create.pitch} * frame.height > create.size) {
      return Error(EIO, "the driver stated a pitch or a size that does not hold the frame", origin);
    }
    if (Error error = this->AdmitMore(charge, came, origin); !error.ok()) return error;
    this->Fill(block, std::move(fd), came, 0, this->heaps()[0].properties);
    charge.Keep();
    block.cookie = create.pitch | uint64_t{frame.height} << kLinesAt;
    this->NameOrReport(block, name);
    return {};
  }
  static const char* ExportHint(long answer) noexcept {
    switch (-answer) {
      case ENOSYS:
      case EOPNOTSUPP:
        return "the driver exports no dma-bufs: name another card";
      case EACCES:
        return "before Linux 5.3 a card exports only to its master, and to programs that it "
               "authenticated";
      case EINVAL:
        return "before Linux 4.6 nothing that is exported can be written";
      default:
        return nullptr;
    }
  }

  static constexpr NodeAdvice kAdvice = {
      .absent = [](const LinuxRelease&) -> const char* {
        return "the kernel has no card: it needs the driver of a display, or CONFIG_DRM_VKMS";
      },
      .rule =
          "join the node's group (video, or render), or add a udev rule: SUBSYSTEM==\"drm\", "
          "KERNEL==\"card*\", GROUP=\"video\", MODE=\"0660\"",
      .sysfs = "/sys/class/drm/card0"};

  std::string path_;
  ScopedFd<Sys> node_;
};
static_assert(BackendCheck<DrmDumbBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_DRM_DUMB_H_
