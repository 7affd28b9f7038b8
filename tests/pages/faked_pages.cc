// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// For LD_PRELOAD: sysconf(_SC_PAGESIZE) answers ION_TEST_PAGE_BYTES, as on an arm64 machine with
// larger pages. The kernel still takes any multiple of its own smaller pages, so what is whole
// pages for the program is whole pages for the kernel, too.

#include <dlfcn.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cstdlib>

extern "C" [[gnu::visibility("default")]] long sysconf(int name) noexcept {
  if (name == _SC_PAGESIZE) {
    const char* faked = std::getenv("ION_TEST_PAGE_BYTES");
    return faked != nullptr ? std::atol(faked) : static_cast<long>(::getauxval(AT_PAGESZ));
  }
  static const auto real = reinterpret_cast<long (*)(int)>(::dlsym(RTLD_NEXT, "sysconf"));
  return real(name);
}
