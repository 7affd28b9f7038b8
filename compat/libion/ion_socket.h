// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/ion_socket.h
//
// The descriptor of an emulated ION client: a socket that is bound to an abstract name of its own,
// and never used as one. It can be duplicated, passed, closed, inherited by fork and by exec like
// any other. The name says that it is ours and which interface it speaks; name and SO_COOKIE
// together tell it from all others. While any copy of it is open, in whatever process, the name is
// taken: by that the library sees that a client has ended.
//
// Cost: two system calls to make one, two to know one, four to see that one has ended. Thread-safe.
#ifndef ION_COMPAT_LIBION_ION_SOCKET_H_
#define ION_COMPAT_LIBION_ION_SOCKET_H_

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "compat/libion/ion_syscalls.h"
#include "ion/base/syscalls.h"

namespace ion::compat {

// The interface that a descriptor speaks.
enum class Abi : char {
  kLegacy = 'l',   // /dev/ion with handles: Linux 3.10 to 4.11
  kModern = 'm',   // /dev/ion with descriptors: Linux 4.12 to 5.10
  kDmaHeap = 'h',  // /dev/dma_heap/system: from Linux 5.6 on
};

// A name of the abstract namespace begins with a 0; then these, the interface's letter, and 32
// digits by chance.
inline constexpr std::string_view kIonSocketPrefix{"\0ion-client-", 12};
inline constexpr size_t kIonSocketNameBytes = kIonSocketPrefix.size() + 1 + 32;

struct IonSocketName {
  sockaddr_un address{};
  socklen_t bytes = offsetof(sockaddr_un, sun_path) + kIonSocketNameBytes;
};

// Identifies a client among all that there are.
struct IonKey {
  char name[kIonSocketNameBytes] = {};
  uint64_t cookie = 0;  // 0: the kernel has none (before Linux 4.12)

  Abi abi() const noexcept { return static_cast<Abi>(name[kIonSocketPrefix.size()]); }
  IonSocketName address() const noexcept {
    IonSocketName of;
    of.address.sun_family = AF_UNIX;
    std::memcpy(of.address.sun_path, name, sizeof(name));
    return of;
  }
  // A cookie that could not be had is no difference.
  friend bool operator==(const IonKey& a, const IonKey& b) noexcept {
    const bool same = a.cookie == b.cookie || a.cookie == 0 || b.cookie == 0;
    return same && std::memcmp(a.name, b.name, sizeof(a.name)) == 0;
  }
};

// Returns the key of a descriptor; none if it is not an emulated client's.
template <IonSyscalls Sys>
std::optional<IonKey> KeyOf(const Sys& sys, int fd) noexcept {
  sockaddr_un address{};
  socklen_t bytes = sizeof(address);
  if (Failed(sys.Getsockname(fd, &address, &bytes))) return std::nullopt;
  if (bytes != IonSocketName().bytes || address.sun_family != AF_UNIX) return std::nullopt;
  IonKey key;
  std::memcpy(key.name, address.sun_path, sizeof(key.name));
  if (!std::string_view(key.name, sizeof(key.name)).starts_with(kIonSocketPrefix))
    return std::nullopt;
  if (key.abi() != Abi::kLegacy && key.abi() != Abi::kModern && key.abi() != Abi::kDmaHeap) {
    return std::nullopt;
  }
  constexpr int kSoCookie = 57;  // SO_COOKIE: Linux 4.12
  bytes = sizeof(key.cookie);
  if (Failed(sys.Getsockopt(fd, kSoCookie, &key.cookie, &bytes))) key.cookie = 0;
  return key;
}

// Makes a descriptor. `flags`: as open's, of which O_CLOEXEC and O_NONBLOCK are looked at. Returns
// it, or a negative errno.
template <IonSyscalls Sys>
long MakeIonSocket(const Sys& sys, Abi abi, int flags) noexcept {
  const long made = sys.Socket();
  if (Failed(made)) return made;
  const int fd = static_cast<int>(made);
  IonKey key;
  kIonSocketPrefix.copy(key.name, kIonSocketPrefix.size());
  key.name[kIonSocketPrefix.size()] = static_cast<char>(abi);
  unsigned char chance[16];
  long answer = sys.Getrandom(chance, sizeof(chance));
  if (!Failed(answer) && answer != sizeof(chance)) answer = -EAGAIN;
  if (!Failed(answer)) {
    char* to = key.name + kIonSocketPrefix.size() + 1;
    for (const unsigned byte : chance) {
      *to++ = "0123456789abcdef"[byte >> 4];
      *to++ = "0123456789abcdef"[byte & 15];
    }
    const IonSocketName name = key.address();
    answer = sys.Bind(fd, &name.address, name.bytes);
  }
  // The socket is close-on-exec from birth; a program that wants less gets it here.
  if (!Failed(answer) && (flags & O_CLOEXEC) == 0) answer = sys.Fcntl(fd, F_SETFD, 0);
  if (!Failed(answer) && (flags & O_NONBLOCK) != 0) answer = sys.Fcntl(fd, F_SETFL, O_NONBLOCK);
  if (!Failed(answer)) return fd;
  sys.Close(fd);
  return answer;
}

// The network namespace of this thread, in which its sockets' names are.
struct NetworkNamespace {
  char text[40] = {};  // "net:[4026531840]"; empty without /proc

  // True if this thread may have left `home`, as far as that is known: without /proc nobody knows
  // where it is now.
  bool MayHaveLeft(const NetworkNamespace& home) const noexcept {
    return home.text[0] != 0 && std::memcmp(text, home.text, sizeof(text)) != 0;
  }
};
template <IonSyscalls Sys>
NetworkNamespace ReadNetworkNamespace(const Sys& sys) noexcept {
  NetworkNamespace network;
  const long bytes = sys.Readlink("/proc/thread-self/ns/net", network.text, sizeof(network.text));
  if (Failed(bytes)) network = {};
  return network;
}

// Returns true if no copy of the client's descriptor is open in any process: its name can be taken.
// `home`: the namespace in which it was seen; in another the name would be free, too.
template <IonSyscalls Sys>
bool HasEnded(const Sys& sys, const IonKey& key, const NetworkNamespace& home) noexcept {
  const long made = sys.Socket();
  if (Failed(made)) return false;
  const IonSocketName name = key.address();
  const bool free = !Failed(sys.Bind(static_cast<int>(made), &name.address, name.bytes));
  sys.Close(static_cast<int>(made));
  return free && !ReadNetworkNamespace(sys).MayHaveLeft(home);
}

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_ION_SOCKET_H_
