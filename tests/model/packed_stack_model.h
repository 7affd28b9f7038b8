// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/model/packed_stack_model.h
//
// Three threads that push and pop on one PackedStack, three operations each, in every order.
#ifndef ION_TESTS_MODEL_PACKED_STACK_MODEL_H_
#define ION_TESTS_MODEL_PACKED_STACK_MODEL_H_

#include <cstdint>
#include <memory>

#include "ion/policies/pool/packed_stack.h"
#include "tests/model/explorer.h"

namespace ion::model {

struct StackModelPolicy : StackPolicy {
  template <class V>
  using Atomic = model::Atomic<V>;
};

namespace internal {

inline constexpr uint32_t kEntries = 3;
inline constexpr uint32_t kStackOperations = 3;

template <class P>
struct SharedStack {
  PackedStack<P> stack;
  typename PackedStack<P>::Link links[kEntries + 1];
  uint32_t owner[kEntries + 1] = {};  // 0: it should be in the stack
};

// Each operation is a pop, or the push of any entry that the thread has.
template <class P>
void UseStack(Explorer& explorer, SharedStack<P>& shared) {
  uint32_t held[kStackOperations];
  uint32_t count = 0;
  for (uint32_t i = 0; i < kStackOperations; ++i) {
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

}  // namespace internal

template <class P>
Verdict ExploreStack() {
  auto shared = std::make_unique<internal::SharedStack<P>>();
  for (uint32_t entry = internal::kEntries; entry > 0; --entry) {
    shared->stack.Push(shared->links, entry, 1);
  }

  Explorer explorer;
  explorer.Share("shared", shared.get(), sizeof(*shared));
  for (uint32_t i = 0; i < 3; ++i) {
    explorer.Spawn([&] { internal::UseStack(explorer, *shared); });
  }
  explorer.AtEnd([&] {
    uint32_t left = 0;
    for (uint32_t entry = 1; entry <= internal::kEntries; ++entry) {
      left += shared->owner[entry] == 0 ? 1 : 0;
    }
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

}  // namespace ion::model

#endif  // ION_TESTS_MODEL_PACKED_STACK_MODEL_H_
