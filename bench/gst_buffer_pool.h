// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/gst_buffer_pool.h
//
// GStreamer's GstBufferPool, beside the large leases of bench/client_path.cc. Its buffers are of its
// usual allocator: a hit asks no memory anything.
#ifndef ION_BENCH_GST_BUFFER_POOL_H_
#define ION_BENCH_GST_BUFFER_POOL_H_

#include <cstdint>

namespace ion::bench {

// BM_GstBufferPool/threads:n for 1 to `most_threads`: acquire and release of `bytes`.
void RegisterGstBufferPool(uint32_t bytes, int most_threads);

}  // namespace ion::bench

#endif  // ION_BENCH_GST_BUFFER_POOL_H_
