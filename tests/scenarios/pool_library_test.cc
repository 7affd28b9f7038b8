// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pool: in two shared libraries of one process, one of which is unloaded.

#include "tests/scenarios/pool_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <latch>
#include <string>
#include <thread>

#include "doctest/doctest.h"

namespace {

struct Library {
  explicit Library(const std::string& name)
      : path(std::string(std::getenv("TEST_SRCDIR")) + "/" + std::getenv("TEST_WORKSPACE") +
             "/tests/" + name),
        handle(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    const char* why = ::dlerror();
    REQUIRE_MESSAGE(handle != nullptr, (why == nullptr ? "" : why));
    use = static_cast<const PoolLibrary*>(::dlsym(handle, "pool_library"));
    REQUIRE(use != nullptr);
  }
  void Unload() {
    CHECK(::dlclose(handle) == 0);
    use = nullptr;
  }
  bool Loaded() const {
    void* again = ::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    if (again != nullptr) ::dlclose(again);
    return again != nullptr;
  }

  std::string path;
  void* handle;
  const PoolLibrary* use = nullptr;
};

void UseBothAndUnloadOne(const std::string& kind) {
  Library a("libpool_" + kind + "_a.so"), b("libpool_" + kind + "_b.so");
  std::latch used(1), unloaded(1);
  int after = 0;
  std::thread other([&] {
    REQUIRE(a.use->open());
    REQUIRE(b.use->open());
    CHECK(a.use->swing(40) == 40);
    CHECK(b.use->swing(40) == 40);
    used.count_down();
    unloaded.wait();
    after = b.use->swing(100);
    // Ends with a's magazines, and its exit handler.
  });
  used.wait();
  CHECK(a.use->swing(50) == 50);
  CHECK(b.use->swing(50) == 50);
  CHECK(a.use->close() == 100);
  a.Unload();
  unloaded.count_down();
  other.join();
  CHECK(after == 100);
  CHECK(b.use->swing(100) == 100);
  CHECK(b.use->close() == 100);
  b.Unload();
}

TEST_CASE("Pool: one of two libraries is unloaded, default visibility") {
  UseBothAndUnloadOne("default");
}

TEST_CASE("Pool: one of two libraries is unloaded, hidden visibility") {
  UseBothAndUnloadOne("hidden");
}

TEST_CASE("Pool: with hidden visibility, each library has its own statics") {
  Library a("libpool_hidden_a.so"), b("libpool_hidden_b.so");
  CHECK(a.use->statics() != b.use->statics());
}

TEST_CASE("Pool: with hidden visibility, a library goes when the threads that used it have ended") {
  Library c("libpool_hidden_c.so");
  std::thread([&] {
    REQUIRE(c.use->open());
    CHECK(c.use->swing(100) == 100);
    CHECK(c.use->close() == 100);
  }).join();
  CHECK(c.Loaded());
  c.Unload();
  CHECK_FALSE(c.Loaded());
}

}  // namespace
