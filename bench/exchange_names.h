// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/exchange_names.h
//
// What the names of bench/exchanges.h say: contender, exchange, threads.
#ifndef ION_BENCH_EXCHANGE_NAMES_H_
#define ION_BENCH_EXCHANGE_NAMES_H_

#include <optional>
#include <string>
#include <string_view>

namespace ion::bench {

struct Exchange {
  std::string_view id;     // Burst/32
  std::string_view title;  // for people
};

inline constexpr Exchange kExchanges[] = {
    {"Hot", "acquire + touch + release"},
    {"Burst/32", "32 acquired, 32 released"},
    {"HandOver/read", "hand-over, read only"},
    {"HandOver/write", "hand-over, written"},
};

struct ExchangeName {
  std::string contender;  // for people
  std::string_view exchange;
  std::string_view threads;
};

inline std::string ContenderTitle(std::string_view type) {
  constexpr std::string_view kTitles[][2] = {
      {"Pool", "ion::Pool"},
      {"TlsArray", "thread-local array"},
      {"BareRing", "SPSC ring alone"},
      {"DpdkMempool", "DPDK rte_mempool"},
      {"ConcurrentQueue", "moodycamel queue"},
      {"MutexVector", "std::mutex + vector"},
      {"BoostStack", "boost::lockfree stack"},
      {"BoostQueue", "boost::lockfree queue"},
  };
  for (const auto& [id, title] : kTitles) {
    if (type == id) return std::string(title);
  }
  return std::string(type);
}

// BM_PoolBurst/32/threads:2 -> {ion::Pool, Burst/32, 2}; nothing: another benchmark's name.
inline std::optional<ExchangeName> ParseExchangeName(std::string_view name) {
  constexpr std::string_view kPrefix = "BM_";
  constexpr std::string_view kThreads = "/threads:";
  const size_t threads = name.find(kThreads);
  if (!name.starts_with(kPrefix) || threads == std::string_view::npos) return std::nullopt;
  const std::string_view middle = name.substr(kPrefix.size(), threads - kPrefix.size());
  for (const Exchange& exchange : kExchanges) {
    if (!middle.ends_with(exchange.id)) continue;
    return ExchangeName{ContenderTitle(middle.substr(0, middle.size() - exchange.id.size())),
                        exchange.id, name.substr(threads + kThreads.size())};
  }
  return std::nullopt;
}

}  // namespace ion::bench

#endif  // ION_BENCH_EXCHANGE_NAMES_H_
