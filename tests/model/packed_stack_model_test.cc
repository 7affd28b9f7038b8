// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include <cstdint>
#include <memory>

#include "doctest/doctest.h"
#include "policies/packed_stack.h"
#include "tests/model/explorer.h"
#include "tests/model/report.h"

namespace {

using ion::model::Explorer;
using ion::model::Verdict;

struct ModelPolicy : ion::StackPolicy {
  template <class V>
  using Atomic = ion::model::Atomic<V>;
};
struct RelaxedPush : ModelPolicy {
  static constexpr std::memory_order kPush = std::memory_order_relaxed;
};
struct NoTag : ModelPolicy {
  static constexpr uint64_t kTagStep = 0;
};

constexpr uint32_t kEntries = 3;
constexpr uint32_t kOperations = 3;

template <class P>
struct Shared {
  ion::PackedStack<P> stack;
  typename ion::PackedStack<P>::Link links[kEntries + 1];
  uint32_t owner[kEntries + 1] = {};  // 0: it should be in the stack
};

// Each operation is a pop, or the push of any entry that the thread has.
template <class P>
void Thread(Explorer& explorer, Shared<P>& shared) {
  uint32_t held[kOperations];
  uint32_t count = 0;
  for (uint32_t i = 0; i < kOperations; ++i) {
    const uint32_t what = explorer.Choose(count + 1);
    if (what == count) {
      const uint32_t entry = shared.stack.Pop(shared.links);
      explorer.Note("popped", entry);
      if (entry == 0) continue;
      if (entry > kEntries || shared.owner[entry] != 0) explorer.Fail("an entry was popped twice");
      shared.owner[entry] = explorer.self() + 1;
      explorer.Touch(entry);
      held[count++] = entry;
    } else {
      const uint32_t entry = held[what];
      held[what] = held[--count];
      held[count] = 0;
      explorer.Note("pushes", entry);
      explorer.Touch(entry);
      shared.owner[entry] = 0;
      shared.stack.Push(shared.links, entry, 1);
    }
  }
}

template <class P>
Verdict Explore(uint32_t threads) {
  auto shared = std::make_unique<Shared<P>>();
  for (uint32_t entry = kEntries; entry > 0; --entry) shared->stack.Push(shared->links, entry, 1);

  Explorer explorer;
  explorer.Share("shared", shared.get(), sizeof(*shared));
  for (uint32_t i = 0; i < threads; ++i) {
    explorer.Spawn([&] { Thread(explorer, *shared); });
  }
  explorer.AtEnd([&] {
    uint32_t left = 0;
    for (uint32_t entry = 1; entry <= kEntries; ++entry) left += shared->owner[entry] == 0 ? 1 : 0;
    const bool weighs_right = shared->stack.weight(shared->links) == left;
    while (const uint32_t entry = shared->stack.Pop(shared->links)) {
      if (shared->owner[entry] != 0) return explorer.Fail("an entry is in the stack twice");
      shared->owner[entry] = 1;
      --left;
    }
    if (left != 0) return explorer.Fail("an entry was lost");
    if (!weighs_right) explorer.Fail("the weight is wrong");
  });
  return explorer.Explore();
}

TEST_CASE("PackedStack: 3 threads with 3 operations each, in every order") {
  const Verdict verdict = Explore<ModelPolicy>(3);
  ion::model::Print("PackedStack, 3 threads x 3 operations", verdict);
  CHECK_MESSAGE(verdict.violation.empty(), ion::model::Words(verdict));
  CHECK(verdict.ends > 0);
}

TEST_CASE("PackedStack: without the tag, an older head is taken for the present one") {
  const Verdict verdict = Explore<NoTag>(3);
  ion::model::Print("PackedStack without its tag", verdict);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("PackedStack: with a relaxed push, what was written before it is not seen") {
  const Verdict verdict = Explore<RelaxedPush>(3);
  ion::model::Print("PackedStack with a relaxed push", verdict);
  CHECK(verdict.violation.find("did not happen before") != std::string::npos);
}

}  // namespace
