// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/tls_model.h
//
// ION_INTERNAL_TLS_MODEL: how variables of a thread that a hit reads are reached.
//
// In an executable: initial-exec, one load and an offset. In a library (-fPIC): the compiler's
// default, as bionic and musl open no library that has initial-exec variables, and glibc only until
// its room for them (some 1.5 KiB for all libraries that are opened later) is used up. TLS
// descriptors make the default cheap: they are the default on arm64; g++ on x86 wants
// -mtls-dialect=gnu2. The linker turns both into initial-exec where -fPIC objects end up in an
// executable.
//
// ION_TLS_INITIAL_EXEC, which a build may define, takes initial-exec in a library, too: for one
// that each program is linked to, and that is not opened later. All translation units that one
// library is made of must agree.
//
// Cost: bench/README.md has it. In a library with the default model, a thread's first use may take
// memory from malloc: glibc ends the process where there is none, and the first use must not be in
// a signal handler.
#ifndef ION_ION_BASE_TLS_MODEL_H_
#define ION_ION_BASE_TLS_MODEL_H_

#if !defined(__PIC__) || defined(__PIE__) || defined(ION_TLS_INITIAL_EXEC)
#define ION_INTERNAL_TLS_MODEL gnu::tls_model("initial-exec")
#else
#define ION_INTERNAL_TLS_MODEL
#endif

#endif  // ION_ION_BASE_TLS_MODEL_H_
