// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/probe_text.h
//
// The results of probes (ion/probe.h, ion/probe_heaps.h) as text, for logs and for people:
//
//   118784 bytes: contiguous_only: forward refuses (VIDIOC_PREPARE_BUF: EFAULT), reversed refuses
//   (VIDIOC_PREPARE_BUF: EFAULT), contiguous takes
//
//   118784 bytes
//   heap 0 system: refuses (VIDIOC_PREPARE_BUF: EFAULT)
//   heap 4 reserved: takes
//
// Not for a text that is read again: ion/probe_table.h.
//
// Example:
//   std::puts(ion::ToText(result).c_str());
//   std::puts(ion::ToText(answers).c_str());
//
// Cost: cold; allocates the text. Thread-safe.
#ifndef ION_ION_PROBE_TEXT_H_
#define ION_ION_PROBE_TEXT_H_

#include <cstddef>
#include <string>

#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/heap_id.h"
#include "ion/probe.h"
#include "ion/probe_heaps.h"

namespace ion {

// "takes", "refuses (VIDIOC_PREPARE_BUF: EFAULT)".
[[nodiscard]] inline std::string ToText(const ProbeAnswer& answer) {
  std::string text(AnswerName(answer.kind));
  if (answer.code == 0) return text;
  text += " (";
  if (*answer.what != 0) text += std::string(answer.what) + ": ";
  return text + ErrnoName(answer.code) + ")";
}

// One line, without its end: the size, the verdict, and each answer that there is.
[[nodiscard]] inline std::string ToText(const ProbeResult& result) {
  std::string text = std::to_string(result.bytes) + " bytes: ";
  text += VerdictName(result.verdict);
  const char* before = ": ";
  for (size_t i = 0; i < kQuestions; ++i) {
    if (result.answers[i].kind == ProbeAnswer::Kind::kNotAsked) continue;
    text += before;
    text += QuestionName(static_cast<Question>(i));
    text += " " + ToText(result.answers[i]);
    before = ", ";
  }
  if (result.needs_vmap.yes()) text += "; the kernel's CPU uses it, by vmap";
  return text;
}

// A line for the size and for each heap, each with its end.
[[nodiscard]] inline std::string ToText(const HeapAnswers& answers) {
  std::string text = std::to_string(answers.bytes()) + " bytes\n";
  for (const HeapAnswer& each : answers.span()) {
    text += "heap " + std::to_string(each.heap.value());
    if (!each.name.view().empty()) text += " " + Printable(each.name.view());
    text += ": " + ToText(each.answer) + "\n";
  }
  return text;
}

}  // namespace ion

#endif  // ION_ION_PROBE_TEXT_H_
