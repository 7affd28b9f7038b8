// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Client: handed from one shared library of hidden visibility to another.

#include "tests/scenarios/client_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "doctest/doctest.h"

namespace {

struct Library {
  explicit Library(const std::string& name) {
    const std::string path = std::string(std::getenv("TEST_SRCDIR")) + "/" +
                             std::getenv("TEST_WORKSPACE") + "/tests/" + name;
    void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    const char* why = ::dlerror();
    REQUIRE_MESSAGE(handle != nullptr, (why == nullptr ? "" : why));
    use = static_cast<const ClientLibrary*>(::dlsym(handle, "client_library"));
    REQUIRE(use != nullptr);
  }
  const ClientLibrary* use = nullptr;
};

TEST_CASE("Client: it is used by another library of hidden visibility as by its own") {
  const Library a("libclient_hidden_a.so"), b("libclient_hidden_b.so");
  void* theirs = b.use->open();
  void* manager = a.use->open();
  REQUIRE((theirs != nullptr && manager != nullptr));
  // The first of each library: the same slot.
  void* other = b.use->create(theirs);
  void* client = a.use->create(manager);
  REQUIRE((other != nullptr && client != nullptr));
  CHECK(b.use->use(other) == 0);
  CHECK(b.use->use(client) == 0);
  CHECK(a.use->use(client) == 0);
  std::thread([&] {
    CHECK(b.use->use(client) == 0);
    CHECK(b.use->use(other) == 0);
  }).join();
  CHECK(b.use->held(client) == 0);
  CHECK(b.use->held(other) == 0);
  // A client is made by the library that opened the Manager.
  CHECK(b.use->create(manager) == nullptr);
  CHECK(b.use->idle(manager) > 1);
  // Each is ended by the other, and nobody ends the wrong one's.
  b.use->close(client);
  CHECK(b.use->use(other) == 0);
  a.use->close(other);
  b.use->end(manager);
  a.use->end(theirs);
}

}  // namespace
