// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/model/report.h
//
// What a search says: a line for each, and the order of steps that broke a promise.
#ifndef ION_TESTS_MODEL_REPORT_H_
#define ION_TESTS_MODEL_REPORT_H_

#include <cstdio>
#include <string>

#include "tests/model/explorer.h"

namespace ion::model {

inline void Print(const char* what, const Verdict& verdict) {
  std::printf("model: %s: %llu states, %llu transitions, %llu ends: %s\n", what,
              static_cast<unsigned long long>(verdict.states),
              static_cast<unsigned long long>(verdict.transitions),
              static_cast<unsigned long long>(verdict.ends),
              verdict.violation.empty() ? "no violation" : verdict.violation.c_str());
  std::fflush(stdout);
}

inline std::string Words(const Verdict& verdict) {
  std::string words = verdict.violation;
  for (const std::string& step : verdict.trace) words += "\n  " + step;
  return words;
}

}  // namespace ion::model

#endif  // ION_TESTS_MODEL_REPORT_H_
