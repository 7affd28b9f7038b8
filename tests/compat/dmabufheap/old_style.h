// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/compat/dmabufheap/old_style.h
//
// Programs in the style of those that were written for libdmabufheap, which print what they find.
#ifndef ION_TESTS_COMPAT_DMABUFHEAP_OLD_STYLE_H_
#define ION_TESTS_COMPAT_DMABUFHEAP_OLD_STYLE_H_

#ifdef __cplusplus
extern "C" {
#endif

// By the C wrapper, compiled as C. Returns 0.
int OldStyleC(void);

#ifdef __cplusplus
}
#endif

#endif  // ION_TESTS_COMPAT_DMABUFHEAP_OLD_STYLE_H_
