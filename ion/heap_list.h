// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/heap_list.h
//
// The elements of a Manager's list of heaps. An element is a heap over the Manager's backend,
// alone or with a recycler (Recycled, ion/recycler.h), or a description: a type that names no
// backend, and whose `On<B>` is such an element over B. So one list of
// descriptions works over any backend.
//
// Example:
//   struct Spare {  // a description
//     template <ion::Backend B>
//     using On = SpareHeap<B>;
//   };
//   using Memory = ion::Manager<ion::MemfdBackend<>, ion::System, Spare>;
//
// Cost: none at run time.
#ifndef ION_ION_HEAP_LIST_H_
#define ION_ION_HEAP_LIST_H_

#include "ion/backend.h"
#include "ion/heap.h"
#include "ion/recycler.h"

namespace ion {

// D describes something that On<B> makes for the backend B: a heap, or a region of a carveout.
template <class D, class B>
concept Description = requires { typename D::template On<B>; };

namespace internal {

// The heap that an element stands for over B.
template <class Element, Backend B>
struct Bound {
  static_assert(HeapIdentity<HeapPart<Element>>,
                "ion: an element of a Manager's list is neither a heap over its backend (with "
                "kId, kType and kCaps: ion/heap.h) nor a description of one (with `template "
                "<ion::Backend B> using On`, such as ion::System: ion/heap_list.h)");
  using type = Element;
};
template <class Element, Backend B>
  requires Description<Element, B>
struct Bound<Element, B> {
  using type = typename Element::template On<B>;
};
template <class Element, Backend B>
using BoundTo = typename Bound<Element, B>::type;

}  // namespace internal

}  // namespace ion

#endif  // ION_ION_HEAP_LIST_H_
