// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/libion.h
//
// Libion: the functions of <ion/ion.h> over the kernel's ION if there is one, else over EmulatedIon.
// A descriptor says itself which of the two it is of, so both may be open at once. libion.cc gives
// them C linkage.
//
// Cost: that of the ioctl. Of an emulated client's descriptor the kernel is asked first, as the
// preload, if the program runs under it, serves those that it opened. Thread-safe.
#ifndef ION_COMPAT_LIBION_LIBION_H_
#define ION_COMPAT_LIBION_LIBION_H_

#include <fcntl.h>
#include <ion/ion.h>
#include <linux/ion.h>
#include <linux/ion_4.12.h>
#include <sys/mman.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "compat/libion/emulated_ion.h"
#include "compat/libion/ion_socket.h"
#include "compat/libion/ion_syscalls.h"
#include "compat/libion/user_memory.h"
#include "ion/base/syscalls.h"

namespace ion::compat {

template <IonSyscalls Sys = LinuxIonSyscalls>
class Libion {
 public:
  // `abi`: of the clients that are emulated.
  constexpr Libion(EmulatedIon<Sys>& emulated, const Sys& sys, Abi abi) noexcept
      : emulated_(emulated), sys_(sys), abi_(abi) {}

  int Open() const noexcept {
    const long fd = OpenRetrying(sys_, "/dev/ion", O_RDONLY | O_CLOEXEC);
    // Without a driver behind it the node may be there all the same.
    const bool absent = fd == -ENOENT || fd == -ENXIO || fd == -ENODEV;
    return static_cast<int>(absent ? emulated_.Open(abi_, O_CLOEXEC) : fd);
  }
  int Close(int fd) const noexcept { return static_cast<int>(emulated_.Close(fd)); }

  int Alloc(int fd, size_t len, size_t align, unsigned mask, unsigned flags,
            ion_user_handle_t* handle) const noexcept {
    if (handle == nullptr || !IsLegacy(fd)) return -EINVAL;
    ion_allocation_data data{
        .len = len, .align = align, .heap_id_mask = mask, .flags = flags, .handle = 0};
    const int answer = Ioctl(fd, ION_IOC_ALLOC, &data);
    if (answer < 0) return answer;
    const int told = Tell(handle, data.handle);
    if (told < 0) Free(fd, data.handle);
    return told < 0 ? told : answer;
  }
  int AllocFd(int fd, size_t len, size_t align, unsigned mask, unsigned flags,
              int* handle_fd) const noexcept {
    if (handle_fd == nullptr) return -EINVAL;
    if (IsLegacy(fd)) {
      ion_user_handle_t handle;
      const int answer = Alloc(fd, len, align, mask, flags, &handle);
      if (answer < 0) return answer;
      const int shared = Share(fd, handle, handle_fd);
      Free(fd, handle);
      return shared;
    }
    ion_new_allocation_data data{
        .len = len, .heap_id_mask = mask, .flags = flags, .fd = 0, .unused = 0};
    const int answer = Ioctl(fd, ION_IOC_NEW_ALLOC, &data);
    return answer < 0 ? answer : TellFd(handle_fd, static_cast<int>(data.fd), answer);
  }
  int SyncFd(int fd, int handle_fd) const noexcept {
    if (!IsLegacy(fd)) return -EINVAL;
    ion_fd_data data{.handle = 0, .fd = handle_fd};
    return Ioctl(fd, ION_IOC_SYNC, &data);
  }
  int Free(int fd, ion_user_handle_t handle) const noexcept {
    ion_handle_data data{.handle = handle};
    return Ioctl(fd, ION_IOC_FREE, &data);
  }
  int Map(int fd, ion_user_handle_t handle, size_t length, int protection, int flags, off_t offset,
          unsigned char** ptr, int* map_fd) const noexcept {
    if (!IsLegacy(fd) || map_fd == nullptr || ptr == nullptr) return -EINVAL;
    ion_fd_data data{.handle = handle, .fd = 0};
    const int answer = Ioctl(fd, ION_IOC_MAP, &data);
    if (answer < 0) return answer;
    if (data.fd < 0) return -EINVAL;
    // The caller's flags, of which the Syscalls policy knows MAP_SHARED alone.
    void* const at = ::mmap(nullptr, length, protection, flags, data.fd, offset);
    int failed = at == MAP_FAILED ? -errno : 0;
    if (failed == 0) failed = Tell(ptr, static_cast<unsigned char*>(at));
    if (failed == 0) failed = Tell(map_fd, data.fd);
    if (failed == 0) return answer;
    if (at != MAP_FAILED) sys_.Munmap(at, length);
    sys_.Close(data.fd);
    return failed;
  }
  int Share(int fd, ion_user_handle_t handle, int* share_fd) const noexcept {
    if (!IsLegacy(fd) || share_fd == nullptr) return -EINVAL;
    ion_fd_data data{.handle = handle, .fd = 0};
    const int answer = Ioctl(fd, ION_IOC_SHARE, &data);
    if (answer < 0) return answer;
    return data.fd < 0 ? -EINVAL : TellFd(share_fd, data.fd, answer);
  }
  int Import(int fd, int share_fd, ion_user_handle_t* handle) const noexcept {
    if (!IsLegacy(fd) || handle == nullptr) return -EINVAL;
    ion_fd_data data{.handle = 0, .fd = share_fd};
    const int answer = Ioctl(fd, ION_IOC_IMPORT, &data);
    if (answer < 0) return answer;
    const int told = Tell(handle, data.handle);
    if (told < 0) Free(fd, data.handle);
    return told < 0 ? told : answer;
  }
  int QueryHeapCnt(int fd, int* cnt) const noexcept {
    if (cnt == nullptr) return -EINVAL;
    ion_heap_query query{};
    const int answer = Ioctl(fd, ION_IOC_HEAP_QUERY, &query);
    if (answer < 0) return answer;
    const int told = Tell(cnt, static_cast<int>(query.cnt));
    return told < 0 ? told : answer;
  }
  int QueryGetHeaps(int fd, int cnt, void* buffers) const noexcept {
    ion_heap_query query{};
    query.cnt = static_cast<uint32_t>(cnt);
    query.heaps = reinterpret_cast<uintptr_t>(buffers);
    return Ioctl(fd, ION_IOC_HEAP_QUERY, &query);
  }
  // As the original: no handle is 0, and the interface without handles has no FREE.
  bool IsLegacy(int fd) const noexcept { return Free(fd, 0) != -ENOTTY; }
  bool IsUsingModularHeaps(int fd) const noexcept {
    uint32_t version = 0;
    return !IsLegacy(fd) && Ioctl(fd, ION_IOC_ABI_VERSION, &version) >= 0 && version == 2;
  }

 private:
  // A socket has no ioctl of ours; before Linux 5.15 it reads some bytes before it says so.
  int Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    const long answer = sys_.Ioctl(fd, request, argument);
    if ((answer != -ENOTTY && answer != -EFAULT) || !emulated_.AbiOf(fd).has_value()) {
      return static_cast<int>(answer);
    }
    return static_cast<int>(emulated_.Ioctl(fd, request, argument));
  }
  template <class T>
  int Tell(T* to, T value) const noexcept {
    return static_cast<int>(CopyOut(sys_, to, &value, sizeof(value)));
  }
  int TellFd(int* to, int fd, int answer) const noexcept {
    const int told = Tell(to, fd);
    if (told == 0) return answer;
    sys_.Close(fd);
    return told;
  }

  EmulatedIon<Sys>& emulated_;
  const Sys sys_;
  const Abi abi_;
};

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_LIBION_H_
