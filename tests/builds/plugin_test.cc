// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Plug-ins: shared libraries, built with -fPIC and no macro of ours, that are opened while the
// program runs.

#include "tests/builds/plugin.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "doctest/doctest.h"

namespace {

namespace fs = std::filesystem;

fs::path Built(const std::string& name) {
  return fs::path(std::getenv("TEST_SRCDIR")) / std::getenv("TEST_WORKSPACE") / "tests/builds" /
         name;
}

// DF_STATIC_TLS is what bionic and musl refuse a library for.
bool WantsStaticTls(void* library) {
  link_map* map = nullptr;
  REQUIRE(::dlinfo(library, RTLD_DI_LINKMAP, &map) == 0);
  for (const ElfW(Dyn)* at = map->l_ld; at->d_tag != DT_NULL; ++at) {
    if (at->d_tag == DT_FLAGS && (at->d_un.d_val & DF_STATIC_TLS) != 0) return true;
  }
  return false;
}

// A copy is another library to the loader.
struct Copy {
  Copy(const std::string& name, int number)
      : path(fs::path(std::getenv("TEST_TMPDIR")) / (std::to_string(number) + name)) {
    fs::copy_file(Built(name), path, fs::copy_options::overwrite_existing);
    library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    const char* why = ::dlerror();
    REQUIRE_MESSAGE(library != nullptr, (why == nullptr ? "" : why));
    use = static_cast<const Plugin*>(::dlsym(library, "ion_test_plugin"));
    REQUIRE(use != nullptr);
  }

  fs::path path;
  void* library;
  const Plugin* use;
};

TEST_CASE("Plug-ins: a library wants no static TLS") {
  for (const char* name : {"libplugin.so", "libplugin_hidden.so"}) {
    CAPTURE(name);
    CHECK_FALSE(WantsStaticTls(Copy(name, 0).library));
  }
}

TEST_CASE("Plug-ins: a library that was built with ION_TLS_INITIAL_EXEC wants static TLS") {
  CHECK(WantsStaticTls(Copy("libplugin_initial_exec.so", 0).library));
}

TEST_CASE("Plug-ins: twenty in one process, each with statics of its own, used by two threads") {
  std::vector<Copy> copies;
  for (int i = 1; i <= 20; ++i) copies.emplace_back("libplugin_hidden.so", i);
  const auto use_all = [&copies] {
    for (const Copy& copy : copies) CHECK(copy.use->lease(10) == 9);
  };
  use_all();
  std::thread(use_all).join();
  for (const Copy& copy : copies) CHECK(::dlclose(copy.library) == 0);
}

}  // namespace
