// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/gst_buffer_pool.h"

#include <benchmark/benchmark.h>

#if ION_HAVE_GSTREAMER
#include <gst/gst.h>

#include <cstdlib>
#include <memory>

#include "bench/pinned.h"
#include "bench/sleeper.h"
#include "ion/base/check.h"

namespace ion::bench {
namespace {

class GstPool {
 public:
  GstPool(uint32_t bytes, uint32_t count) : pool_(gst_buffer_pool_new()) {
    GstStructure* const config = gst_buffer_pool_get_config(pool_);
    gst_buffer_pool_config_set_params(config, nullptr, bytes, count, count);
    ION_CHECK(gst_buffer_pool_set_config(pool_, config) && gst_buffer_pool_set_active(pool_, TRUE),
              "a GstBufferPool does not start");
  }
  GstPool(const GstPool&) = delete;
  GstPool& operator=(const GstPool&) = delete;
  ~GstPool() {
    gst_buffer_pool_set_active(pool_, FALSE);
    gst_object_unref(pool_);
  }

  // nullptr: there is none.
  GstBuffer* Acquire() {
    GstBuffer* buffer = nullptr;
    gst_buffer_pool_acquire_buffer(pool_, &buffer, nullptr);
    return buffer;
  }
  static void Release(GstBuffer* buffer) { gst_buffer_unref(buffer); }

 private:
  GstBufferPool* const pool_;
  const Sleeper sleeper_;
};

std::unique_ptr<GstPool> current;
uint32_t buffer_bytes = 0;

void SetUp(const benchmark::State& state) {
  current = std::make_unique<GstPool>(buffer_bytes, static_cast<uint32_t>(state.threads()));
}
void TearDown(const benchmark::State&) { current.reset(); }

void Run(benchmark::State& state) {
  const Pinned pinned(state);
  for (auto _ : state) {
    GstBuffer* const buffer = current->Acquire();
    if (buffer == nullptr) [[unlikely]]
      return state.SkipWithError("there was no buffer");
    benchmark::DoNotOptimize(buffer);
    GstPool::Release(buffer);
  }
}

}  // namespace

void RegisterGstBufferPool(uint32_t bytes, int most_threads) {
  ::setenv("GST_REGISTRY_DISABLE", "yes", /*overwrite=*/1);  // no plugin is looked for
  ION_CHECK(gst_init_check(nullptr, nullptr, nullptr), "GStreamer does not start");
  buffer_bytes = bytes;
  for (int threads = 1; threads <= most_threads; ++threads) {
    benchmark::RegisterBenchmark("BM_GstBufferPool", Run)
        ->Setup(SetUp)
        ->Teardown(TearDown)
        ->Threads(threads);
  }
}

}  // namespace ion::bench

#else

namespace ion::bench {

void RegisterGstBufferPool(uint32_t, int most_threads) {
  for (int threads = 1; threads <= most_threads; ++threads) {
    benchmark::RegisterBenchmark("BM_GstBufferPool", [](benchmark::State& state) {
      state.SkipWithError("missing: install the Debian package libgstreamer1.0-dev");
    })->Threads(threads);
  }
}

}  // namespace ion::bench

#endif
