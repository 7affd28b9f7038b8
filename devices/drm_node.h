// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: devices/drm_node.h
//
// DrmNode: a DRM node (a GPU, a display) that imports dma-bufs by PRIME. It has a file of the node
// for itself: the handles of a file are not counted, so that one DRM_IOCTL_GEM_CLOSE ends those of
// all who share it. The program's own file is never used.
//
// Map gives a GEM handle, which is valid with file() only, or with Options::framebuffers the id of
// a framebuffer of the image, which any file of the card can show. Many drivers import without
// mapping the memory (vgem, vkms, udl): their yes says nothing, and no driver's yes counts unless
// the caller declares that it maps (DeviceTraits::maps_at_import).
//
// The kernel drops all that a file has when it is closed. So Accepts asks through a file of its
// own, and the file is closed if the device has vanished, and with the last Unmap if the driver did
// not close a handle; the next Map opens another.
//
// Example:
//   auto gpu = ion::DrmNode<>::Open({.node = "/dev/dri/renderD128", .name = "gpu"});
//   if (!gpu.ok()) return ion::ToStatus(gpu.error());
//   const ion::Result<ion::Imported> handle = gpu->Map({.range = buffer.range()});
//   if (!handle.ok()) return ion::ToStatus(handle.error());
//   ion::Error error = gpu->Take(*handle);  // for ioctls of the program's on gpu->file()
//   error = gpu->Return(*handle);
//   error = gpu->Unmap(*handle);
//
// Cost: four system calls to open, five or six for Accepts, one or two for Map and Unmap; one
// descriptor. Thread-compatible.
#ifndef ION_DEVICES_DRM_NODE_H_
#define ION_DEVICES_DRM_NODE_H_

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/known.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/devices/node_file.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "ion/uapi/drm.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class DrmNode {
 public:
  static constexpr const char* kName = "drm_node";

  struct Options {
    Sys sys = {};
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string node = "/dev/dri/card0";          // a card's, or a render node
    bool framebuffers = false;                    // each Map makes one; of a card only
    PartyName name = {};                          // empty: the node's
    Party::Kind need = Party::Kind::kNeeded;
    Constraints constraints = {};
    DeviceTraits traits = {};
  };

  // Opens the node, and does not stay the card's master. ENODEV: it is no node of DRM.
  static Result<DrmNode> Open(const Options& options) noexcept {
    return internal::WithMemory(
        [&] { return OpenOrThrow(options); },
        [&]() -> Result<DrmNode> {
          return Error(ENOMEM, "operator new", {kName, Operation::kOpen, options.node});
        });
  }
  DrmNode(DrmNode&&) noexcept = default;
  DrmNode& operator=(DrmNode&&) noexcept = default;

  Party party() const noexcept {
    return Party(state_->options.name, state_->options.constraints, state_->options.need);
  }
  DeviceTraits traits() const noexcept { return state_->options.traits; }

  // The driver's name (DRM_IOCTL_VERSION): "vgem", "i915".
  std::string_view driver() const noexcept { return {state_->driver.data(), state_->driver_bytes}; }
  const std::string& node() const noexcept { return state_->options.node; }
  // The file of its handles, for ioctls of the caller's own. It is another after an error that
  // closed it.
  FdRef file() const noexcept {
    return state_->file.has_value() ? FdRef(state_->file->get()) : FdRef();
  }

  // Imports the memory, makes a framebuffer if those are wanted, and closes the file that did it.
  // kNoEvidence: the driver imported it, and is not known to map what it imports.
  Acceptance Accepts(const DeviceMemory& memory) noexcept {
    using enum Acceptance::Verdict;
    State& s = *state_;
    const Origin origin = s.At(Operation::kAttach, memory.range.bytes);
    if (const Error error = s.Fits(memory, origin); !error.ok()) return {kRefuses, error};
    const Result<NodeFile<Sys>> file = OpenNode(s.options, s.errors, Operation::kAttach);
    if (!file.ok()) return {kCannotAsk, file.error()};
    Use use;
    const Error error = Import(*file, memory, s.options.framebuffers, origin, use);
    if (!error.ok()) return {SaysNothing(error.code()) ? kCannotAsk : kRefuses, error};
    return {s.options.traits.maps_at_import.yes() ? kTakes : kNoEvidence, {}};
  }

  // Imports the memory. The same dma-buf twice is the same handle, which lives until the last
  // Unmap. EINVAL: the range begins inside the dma-buf and no framebuffer is wanted, or one is and
  // there is no image; else the driver's errno.
  Result<Imported> Map(const DeviceMemory& memory) noexcept {
    State& s = *state_;
    const Origin origin = s.At(Operation::kAttach, memory.range.bytes);
    if (const Error error = s.Fits(memory, origin); !error.ok()) return error;
    if (!internal::TryWithMemory([&] { s.uses.reserve(s.uses.size() + 1); })) {
      return Error(ENOMEM, "operator new", origin);
    }
    if (!s.file.has_value()) {
      Result<NodeFile<Sys>> file = OpenNode(s.options, s.errors, Operation::kAttach);
      if (!file.ok()) return file.error();
      s.file.emplace(*std::move(file));
    }
    Use use;
    const Error error = Import(*s.file, memory, s.options.framebuffers, origin, use);
    if (!error.ok()) {
      if (s.Vanished(error.code())) {
        s.Close();
      } else if (use.handle != 0) {
        s.errors->Report(s.Drop(use, origin));
      }
      return error;
    }
    s.uses.push_back(use);
    return use.imported();
  }

  // Removes the framebuffer, and closes the handle if no other Map gave it. No error, if the device
  // has vanished. EBUSY: it is taken; EINVAL: it is not mapped. Another error is the driver's: the
  // file holds the memory then, until nothing is mapped.
  Error Unmap(const Imported& mapped) noexcept {
    State& s = *state_;
    const auto at = s.Find(mapped);
    const Origin origin = s.At(Operation::kDetach, at != s.uses.end() ? at->bytes : 0);
    if (at == s.uses.end()) return Error(EINVAL, "not mapped", origin);
    if (InUse(mapped)) {
      return Error(EBUSY, "the handle or framebuffer is taken", origin, "call Return before");
    }
    const Use use = *at;
    s.uses.erase(at);
    return s.Drop(use, origin);
  }

  // True while it is taken.
  bool InUse(const Imported& mapped) const noexcept {
    return std::ranges::any_of(
        state_->uses, [&](const Use& use) { return use.taken != 0 && use.imported() == mapped; });
  }

  // Says that the caller uses the handle or framebuffer on its own: it shows it, or gave it to a
  // graphics library. Each Take needs a Return. EINVAL: it is not mapped.
  Error Take(const Imported& mapped) noexcept { return Count(mapped, Operation::kStream, 1); }
  // Ends that. EINVAL: it is not mapped, or not taken.
  Error Return(const Imported& mapped) noexcept { return Count(mapped, Operation::kStream, -1); }

 private:
  // One Map.
  struct Use {
    uint32_t handle = 0;
    uint32_t framebuffer = 0;  // 0: none
    uint64_t bytes = 0;
    int taken = 0;
    bool gone = false;  // its file is closed

    Imported imported() const noexcept {
      return framebuffer != 0 ? Imported{Imported::Kind::kFramebuffer, framebuffer}
                              : Imported{Imported::Kind::kGemHandle, handle};
    }
  };

  struct State {
    explicit State(const Options& from)
        : options(from),
          errors(from.errors != nullptr ? from.errors : std::make_shared<ErrorSink>()) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    Origin At(Operation operation, uint64_t bytes = 0) const noexcept {
      return {kName, operation, options.node, bytes};
    }
    auto Find(const Imported& mapped) noexcept {
      return std::ranges::find(uses, mapped, &Use::imported);
    }

    Error Fits(const DeviceMemory& memory, const Origin& origin) const noexcept {
      if (!options.framebuffers) {
        if (memory.range.offset == 0) return {};
        return Error(EINVAL, "the range begins inside the dma-buf", origin,
                     "a GEM handle is of a whole dma-buf: give it a buffer of its own, none of a "
                     "carveout");
      }
      if (memory.image == nullptr) {
        return Error(EINVAL, "a framebuffer needs the layout of an image", origin);
      }
      if (DrmCodeOf(memory.image->spec.format) == 0) {
        return Error(EINVAL, "DRM has no code for the image's format", origin);
      }
      if (memory.range.offset + memory.image->total_bytes > UINT32_MAX) {
        return Error(EINVAL, "DRM counts the bytes of a framebuffer in 32 bits", origin);
      }
      return {};
    }

    void Close() noexcept {
      file.reset();
      kept = false;
      for (Use& use : uses) {
        use.gone = true;
        use.taken = 0;
      }
    }
    // True if the device has gone: to DRM_IOCTL_VERSION as well it is not there.
    bool Vanished(int code) noexcept {
      ion_uapi::drm_version told{};
      return code == ENODEV && file->Ask(ion_uapi::kDrmIoctlVersion, &told) == -ENODEV;
    }

    // Gives back one use, which is in the list no more.
    Error Drop(const Use& use, const Origin& origin) noexcept {
      if (use.gone) return {};
      Error first;
      if (use.framebuffer != 0) {
        uint32_t framebuffer = use.framebuffer;
        const long answer = file->Ask(ion_uapi::kDrmIoctlModeRmFb, &framebuffer);
        if (Failed(answer)) {
          first = Error(ErrnoFrom(answer), "DRM_IOCTL_MODE_RMFB", origin, kKept);
        }
      }
      const bool shared = std::ranges::any_of(
          uses, [&](const Use& other) { return !other.gone && other.handle == use.handle; });
      if (!shared) {
        ion_uapi::drm_gem_close close{.handle = use.handle, .pad = 0};
        const long answer = file->Ask(ion_uapi::kDrmIoctlGemClose, &close);
        if (Failed(answer) && first.ok()) {
          first = Error(ErrnoFrom(answer), "DRM_IOCTL_GEM_CLOSE", origin, kKept);
        }
      }
      if (Vanished(first.code())) {
        Close();
        return {};
      }
      if (!first.ok()) kept = true;
      if (kept && std::ranges::all_of(uses, &Use::gone)) Close();
      return first;
    }

    static constexpr const char* kKept = "the file holds the memory until nothing is mapped";

    Options options;
    std::shared_ptr<ErrorSink> errors;
    std::optional<NodeFile<Sys>> file = {};
    std::array<char, 32> driver = {};
    size_t driver_bytes = 0;
    std::vector<Use> uses = {};
    bool kept = false;  // the file has a handle or a framebuffer that could not be given back
  };

  explicit DrmNode(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

  static Result<DrmNode> OpenOrThrow(const Options& options) {
    auto state = std::make_unique<State>(options);
    State& s = *state;
    Result<NodeFile<Sys>> file = OpenNode(options, s.errors, Operation::kOpen);
    if (!file.ok()) return file.error();
    s.file.emplace(*std::move(file));
    ion_uapi::drm_version told{};
    told.name = s.driver.data();
    told.name_len = s.driver.size();
    const long answer = s.file->Ask(ion_uapi::kDrmIoctlVersion, &told);
    if (Failed(answer)) {
      return Error(ErrnoFrom(answer), "DRM_IOCTL_VERSION", s.At(Operation::kOpen));
    }
    s.driver_bytes = std::min(told.name_len, s.driver.size());
    const std::string_view driver(s.driver.data(), s.driver_bytes);
    Known& maps = s.options.traits.maps_at_import;
    if (std::ranges::find(kMapsNothing, driver) != kMapsNothing.end()) maps = false;
    Constraints& c = s.options.constraints;
    c.exporter_needs =
        (c.exporter_needs.stated() ? c.exporter_needs.value() : ExporterNeeds::kNone) |
        ExporterNeeds::kExportByUs;
    c.planes = PlaneFds::kOne;
    if (s.options.name.view().empty()) s.options.name = PartyName::From(options.node);
    return DrmNode(std::move(state));
  }

  // The node, open, and no master of the card: the first program that opens a card is its master.
  static Result<NodeFile<Sys>> OpenNode(const Options& options,
                                        const std::shared_ptr<ErrorSink>& errors,
                                        Operation operation) noexcept {
    const Origin origin{kName, operation, options.node};
    Result<NodeFile<Sys>> file =
        NodeFile<Sys>::Open(options.sys, errors, origin, options.node.c_str(), O_RDWR, kNode);
    if (!file.ok()) return file;
    // EINVAL: another program is the master. EACCES: a render node, or before Linux 5.8 it takes
    // root.
    const long dropped = file->Ask(ion_uapi::kDrmIoctlDropMaster, nullptr);
    if (Failed(dropped) && dropped != -EINVAL && dropped != -EACCES) {
      return Error(ErrnoFrom(dropped), "DRM_IOCTL_DROP_MASTER", origin);
    }
    return file;
  }

  // Fills `use`. After an error it has the handle, if there is one.
  static Error Import(const NodeFile<Sys>& file, const DeviceMemory& memory, bool framebuffer,
                      const Origin& origin, Use& use) noexcept {
    ion_uapi::drm_prime_handle prime{.handle = 0, .flags = 0, .fd = memory.range.fd.get()};
    const long imported = file.Ask(ion_uapi::kDrmIoctlPrimeFdToHandle, &prime);
    if (Failed(imported)) {
      return Error(ErrnoFrom(imported), "DRM_IOCTL_PRIME_FD_TO_HANDLE", origin,
                   ImportHint(ErrnoFrom(imported)));
    }
    use = {.handle = prime.handle, .bytes = memory.range.bytes};
    if (!framebuffer) return {};
    const ImageLayout& image = *memory.image;
    ion_uapi::drm_mode_fb_cmd2 add{};
    add.width = static_cast<uint32_t>(image.spec.width);
    add.height = static_cast<uint32_t>(image.spec.height);
    add.pixel_format = DrmCodeOf(image.spec.format);
    const bool tiled = image.spec.modifier != kLinearModifier;
    if (tiled) add.flags = ion_uapi::kDrmModeFbModifiers;
    for (unsigned i = 0; i < image.planes; ++i) {
      add.handles[i] = prime.handle;
      add.pitches[i] = static_cast<uint32_t>(image.plane[i].stride);
      add.offsets[i] = static_cast<uint32_t>(memory.range.offset + image.plane[i].offset);
      if (tiled) add.modifier[i] = image.spec.modifier;
    }
    const long added = file.Ask(ion_uapi::kDrmIoctlModeAddFb2, &add);
    if (Failed(added)) {
      return Error(ErrnoFrom(added), "DRM_IOCTL_MODE_ADDFB2", origin,
                   FramebufferHint(ErrnoFrom(added)));
    }
    use.framebuffer = add.fb_id;
    return {};
  }

  Error Count(const Imported& mapped, Operation operation, int by) noexcept {
    const auto at = state_->Find(mapped);
    const Origin origin = state_->At(operation);
    if (at == state_->uses.end()) return Error(EINVAL, "not mapped", origin);
    if (at->taken + by < 0) return Error(EINVAL, "not taken", origin);
    if (!at->gone) at->taken += by;
    return {};
  }

  // An errno that is of the node or this program, and says nothing of the memory.
  static constexpr bool SaysNothing(int code) noexcept {
    switch (code) {
      case EACCES:
      case EAGAIN:
      case EBADF:
      case EBUSY:
      case EIO:
      case EMFILE:
      case ENFILE:
      case ENODEV:
      case ENOSYS:
      case ENOTTY:
      case EOPNOTSUPP:
      case EPERM:
        return true;
      default:
        return false;
    }
  }
  static constexpr const char* ImportHint(int code) noexcept {
    switch (code) {
      case EINVAL:
        return "no dma-buf, or memory that the device cannot use: in pieces where it wants one, or "
               "past its addresses; try contiguous or low memory";
      case ENOMEM:
        return "out of memory, or a driver's word for memory that it cannot map";
      case ENOSYS:
      case EOPNOTSUPP:
        return "the driver imports no dma-bufs: name another node";
      case EACCES:
        return "before Linux 5.3 a card imports only for its master, and for programs that it "
               "authenticated: name the render node";
      case ENODEV:
        return "the device has vanished";
      default:
        return nullptr;
    }
  }
  static constexpr const char* FramebufferHint(int code) noexcept {
    switch (code) {
      case EINVAL:
        return "the display does not take this format, modifier, pitch or size";
      case ERANGE:
        return "the planes do not fit into the size";
      case EOPNOTSUPP:
      case EACCES:
        return "no framebuffers are made here: name the node of a card with a display";
      default:
        return nullptr;
    }
  }

  // Drivers that import without mapping.
  static constexpr std::array<std::string_view, 2> kMapsNothing = {"vgem", "vkms"};

  static constexpr NodeAdvice kAdvice = {
      .absent = [](const LinuxRelease&) -> const char* {
        return "the kernel has no such node: it needs the driver of a display or GPU, or "
               "CONFIG_DRM_VGEM";
      },
      .rule =
          "join the node's group (video, or render), or add a udev rule: SUBSYSTEM==\"drm\", "
          "GROUP=\"video\", MODE=\"0660\"",
      .sysfs = "/sys/class/drm/card0"};
  static constexpr NodeKind kNode = {
      .major = ion_uapi::kDrmMajor,
      .other = "fstat: not a device of major 226 (DRM), as /dev/dri/card0 is",
      .advice = &kAdvice};

  std::unique_ptr<State> state_;
};
static_assert(DeviceCheck<DrmNode<>>::kOk);

}  // namespace ion

#endif  // ION_DEVICES_DRM_NODE_H_
