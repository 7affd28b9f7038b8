// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/policies/pool/magazine.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "doctest/doctest.h"

namespace {

using Magazine = ion::Magazine<>;
constexpr uint64_t kOpen = Magazine::OpenGate(7);

// Bound to a pool of generation 7, empty.
struct Bound {
  explicit Bound(uint32_t room = Magazine::kSlots) {
    magazine->SetBusy();
    magazine->Bind(kOpen, 3, 4096, room);
    magazine->Leave();
  }
  bool Put(void* object) { return magazine->Enter(kOpen) && magazine->PushAndLeave(object); }
  void* Take() { return magazine->Enter(kOpen) ? magazine->PopAndLeave() : nullptr; }

  std::unique_ptr<Magazine> magazine = std::make_unique<Magazine>();
  int things[64] = {};
};

TEST_CASE("Magazine: 320 bytes") { CHECK(sizeof(Magazine) == 320); }

TEST_CASE("Magazine: one that is bound to nothing is not entered, and not claimed") {
  auto magazine = std::make_unique<Magazine>();
  CHECK_FALSE(magazine->Enter(kOpen));
  CHECK_FALSE(magazine->busy());
  CHECK_FALSE(magazine->Claim(kOpen));
}

TEST_CASE("Magazine: what was put last is taken first") {
  Bound b;
  CHECK(b.Take() == nullptr);
  for (int i = 0; i < 32; ++i) CHECK(b.Put(&b.things[i]));
  CHECK(b.magazine->count() == 32);
  for (int i = 32; i-- > 0;) CHECK(b.Take() == &b.things[i]);
  CHECK(b.Take() == nullptr);
}

TEST_CASE("Magazine: it holds no more than it has room for") {
  for (uint32_t room : {0u, 1u, 5u, 32u}) {
    Bound b(room);
    for (uint32_t i = 0; i < room; ++i) CHECK(b.Put(&b.things[i]));
    CHECK_FALSE(b.Put(&b.things[room]));
    CHECK(b.magazine->count() == room);
  }
}

TEST_CASE("Magazine: each pause is twice as long as the one before, to a bound") {
  Bound b;
  CHECK_FALSE(b.magazine->Pauses());
  uint32_t before = 0;
  for (int i = 0; i < 10; ++i) {
    b.magazine->Pause();
    uint32_t length = 0;
    while (b.magazine->Pauses()) ++length;
    CHECK((before == 0 ? length > 0 : length == std::min(2 * before, 255u)));
    before = length;
  }
}

TEST_CASE("Magazine: no operation leaves it busy") {
  Bound b(/*room=*/1);
  b.Take();
  CHECK_FALSE(b.magazine->busy());
  b.Put(&b.things[0]);
  CHECK_FALSE(b.magazine->busy());
  b.Put(&b.things[1]);
  CHECK_FALSE(b.magazine->busy());
  b.Take();
  CHECK_FALSE(b.magazine->busy());
}

TEST_CASE("Magazine: one of another generation is not entered, and not claimed") {
  Bound b;
  CHECK_FALSE(b.magazine->Enter(Magazine::OpenGate(6)));
  CHECK_FALSE(b.magazine->Enter(Magazine::OpenGate(8)));
  CHECK_FALSE(b.magazine->Claim(Magazine::OpenGate(8)));
  CHECK_FALSE(b.magazine->busy());
}

TEST_CASE("Magazine: who is inside is not entered again, and stays inside") {
  Bound b;
  REQUIRE(b.magazine->Enter(kOpen));
  CHECK_FALSE(b.magazine->Enter(kOpen));
  CHECK(b.magazine->busy());
  b.magazine->Leave();
  CHECK(b.magazine->Enter(kOpen));
}

TEST_CASE("Magazine: one claimer at a time, and the owner passes by") {
  Bound b;
  b.Put(&b.things[0]);
  REQUIRE(b.magazine->Claim(kOpen));
  CHECK_FALSE(b.magazine->Claim(kOpen));
  CHECK_FALSE(b.magazine->Enter(kOpen));
  CHECK_FALSE(b.magazine->busy());
  b.magazine->Open(kOpen);
  CHECK(b.Take() == &b.things[0]);
}

TEST_CASE("Magazine: a request to flush keeps the owner out until it takes it up") {
  Bound b;
  b.Put(&b.things[0]);
  REQUIRE(b.magazine->Claim(kOpen));
  CHECK(b.magazine->OpenFlush(kOpen));
  CHECK_FALSE(b.magazine->Enter(kOpen));
  CHECK(b.magazine->TakeFlush(kOpen));
  CHECK(b.Take() == &b.things[0]);
  CHECK_FALSE(b.magazine->TakeFlush(kOpen));
}

TEST_CASE("Magazine: a drainer may take a request to flush back") {
  Bound b;
  REQUIRE(b.magazine->Claim(kOpen));
  CHECK(b.magazine->OpenFlush(kOpen));
  bool was_flush = false;
  CHECK(b.magazine->Claim(kOpen, &was_flush));
  CHECK(was_flush);
  CHECK_FALSE(b.magazine->TakeFlush(kOpen));
  b.magazine->Open(kOpen);
  CHECK(b.magazine->Claim(kOpen, &was_flush));
  CHECK_FALSE(was_flush);
}

TEST_CASE("Magazine: what an owner that has claimed is told is there when it lets go") {
  Bound b;
  REQUIRE(b.magazine->Claim(kOpen));
  CHECK(b.magazine->Tell(kOpen));
  b.magazine->Unclaim();
  bool was_flush = false;
  CHECK(b.magazine->Claim(kOpen, &was_flush));
  CHECK(was_flush);
  b.magazine->Unclaim();
  CHECK(b.magazine->Enter(kOpen));
}

TEST_CASE("Magazine: only who has claimed can be told, as often as one likes") {
  Bound b;
  CHECK_FALSE(b.magazine->Tell(kOpen));
  REQUIRE(b.magazine->Claim(kOpen));
  CHECK(b.magazine->Tell(kOpen));
  CHECK(b.magazine->Tell(kOpen));
  b.magazine->Open(kOpen);
  CHECK(b.magazine->Enter(kOpen));
}

TEST_CASE("Magazine: a claimer that was told cannot leave the content to the owner") {
  Bound b;
  REQUIRE(b.magazine->Claim(kOpen));
  REQUIRE(b.magazine->Tell(kOpen));
  CHECK_FALSE(b.magazine->OpenFlush(kOpen));
  CHECK_FALSE(b.magazine->Claim(kOpen));
  CHECK_FALSE(b.magazine->Enter(kOpen));
  b.magazine->Open(kOpen);
  CHECK(b.magazine->Enter(kOpen));
}

TEST_CASE("Magazine: the lowest go first, and the others keep their order") {
  Bound b;
  for (int i = 0; i < 5; ++i) b.Put(&b.things[i]);
  CHECK(b.magazine->slot(0) == &b.things[0]);
  b.magazine->DropLowest(2);
  CHECK(b.magazine->count() == 3);
  for (int i : {4, 3, 2}) CHECK(b.Take() == &b.things[i]);
}

TEST_CASE("Magazine: each take is a hit; puts, empty takes and drops are not") {
  Bound b;
  b.Take();
  for (int i = 0; i < 10; ++i) b.Put(&b.things[i]);
  CHECK(b.magazine->hits() == 0);
  for (int i = 0; i < 4; ++i) b.Take();
  b.magazine->DropLowest(3);
  CHECK(b.magazine->hits() == 4);
  CHECK(b.magazine->count() == 3);
}

TEST_CASE("Magazine: hits beyond what the level holds are folded, and none is lost") {
  Bound b;
  b.Put(&b.things[0]);
  uint64_t refused = 0;
  constexpr uint64_t kHits = (uint64_t{1} << 24) + 1000;
  for (uint64_t i = 0; i < kHits; ++i) {
    void* object = b.Take();
    if (object == nullptr) {
      ++refused;
      b.magazine->FoldHits();
      object = b.Take();
    }
    REQUIRE(object == &b.things[0]);
    b.Put(object);
  }
  CHECK(refused == 1);
  CHECK(b.magazine->hits() == kHits);
  CHECK(b.magazine->count() == 1);
}

TEST_CASE("Magazine: unbound, it forgets what it held") {
  Bound b;
  b.Put(&b.things[0]);
  b.magazine->Unbind();
  CHECK(b.magazine->count() == 0);
  CHECK(b.magazine->generation() == 0);
  CHECK_FALSE(b.magazine->Enter(kOpen));
}

TEST_CASE("Magazine: spills in a row grow to a block, and a refill between halves them") {
  Bound b;
  CHECK(b.magazine->NextSpill() == 15);
  CHECK(b.magazine->NextSpill() == 15);
  std::vector<uint32_t> halves, grown;
  for (int i = 0; i < 5; ++i) {
    b.magazine->NoteRefill();
    halves.push_back(b.magazine->NextSpill());
  }
  CHECK(halves == std::vector<uint32_t>{7, 3, 1, 1, 1});
  for (int i = 0; i < 4; ++i) grown.push_back(b.magazine->NextSpill());
  CHECK(grown == std::vector<uint32_t>{3, 7, 15, 15});
}

}  // namespace
