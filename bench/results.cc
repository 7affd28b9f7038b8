// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/results.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"

#if ION_HAVE_NLOHMANN_JSON
#include <nlohmann/json.hpp>
#endif

namespace ion::bench {

const Figure* Results::Find(std::string_view name) const {
  for (const Figure& figure : figures) {
    if (figure.name == name) return &figure;
  }
  return nullptr;
}

#if ION_HAVE_NLOHMANN_JSON
namespace {

using Json = nlohmann::json;

// The library throws where a type is not the one that is asked for; these ask first.
std::string String(const Json& object, std::string_view key) {
  const auto value = object.find(std::string(key));
  return value != object.end() && value->is_string() ? value->get<std::string>() : "";
}
double Number(const Json& object, std::string_view key) {
  const auto value = object.find(std::string(key));
  return value != object.end() && value->is_number() ? value->get<double>() : 0;
}
bool Failed(const Json& entry) {
  const auto value = entry.find("error_occurred");
  return value != entry.end() && *value == true;
}

// What Google Benchmark writes for every benchmark; any other number is a counter.
bool IsCounter(std::string_view key, const Json& value) {
  constexpr std::string_view kKnown[] = {
      "cpu_time",  "family_index", "iterations", "per_family_instance_index",
      "real_time", "repetitions",  "threads",    "repetition_index",
  };
  return value.is_number() &&
         std::find(std::begin(kKnown), std::end(kKnown), key) == std::end(kKnown);
}

double NanosecondsOf(std::string_view unit) {
  if (unit == "us") return 1e3;
  if (unit == "ms") return 1e6;
  return unit == "s" ? 1e9 : 1;
}

Figure MakeFigure(const Json& entry) {
  Figure figure;
  figure.name = String(entry, "run_name");
  if (Failed(entry)) {
    figure.error = String(entry, "error_message");
    if (figure.error.empty()) figure.error = "failed";
    return figure;
  }
  const bool manual = figure.name.ends_with("/manual_time");
  figure.ns =
      Number(entry, manual ? "real_time" : "cpu_time") * NanosecondsOf(String(entry, "time_unit"));
  figure.label = String(entry, "label");
  for (const auto& [key, value] : entry.items()) {
    if (IsCounter(key, value)) figure.counters[key] = value.get<double>();
  }
  return figure;
}

// The others are means and deviations, or repetitions that have a median.
bool Counts(const Json& entry) {
  if (Failed(entry)) return true;
  if (String(entry, "run_type") == "aggregate") return String(entry, "aggregate_name") == "median";
  return Number(entry, "repetitions") <= 1;
}

std::map<std::string, std::string> MakeContext(const Json& context) {
  std::map<std::string, std::string> words;
  for (const auto& [key, value] : context.items()) {
    if (value.is_string()) words[key] = value.get<std::string>();
  }
  const auto load = context.find("load_avg");
  if (load != context.end() && load->is_array() && !load->empty())
    words["load"] = (*load)[0].dump();
  return words;
}

}  // namespace

absl::StatusOr<Results> ParseResults(std::string_view json) {
  const absl::Status refused =
      absl::InvalidArgumentError("not the JSON of Google Benchmark: was its run interrupted?");
  const Json document = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return refused;
  const auto context = document.find("context");
  const auto entries = document.find("benchmarks");
  if (context == document.end() || !context->is_object()) return refused;
  if (entries == document.end() || !entries->is_array()) return refused;

  Results results;
  results.context = MakeContext(*context);
  for (const Json& entry : *entries) {
    if (!entry.is_object() || String(entry, "run_name").empty()) return refused;
    if (!Counts(entry)) continue;
    Figure figure = MakeFigure(entry);
    if (results.Find(figure.name) == nullptr) results.figures.push_back(std::move(figure));
  }
  return results;
}

#else

absl::StatusOr<Results> ParseResults(std::string_view) {
  return absl::UnimplementedError(
      "built without JSON: install the Debian package nlohmann-json3-dev");
}

#endif

}  // namespace ion::bench
