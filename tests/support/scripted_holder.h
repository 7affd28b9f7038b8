// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/scripted_holder.h
//
// ScriptedHolder: a move holder that agrees, declines or fails as a test says, and writes down each
// call.

#ifndef ION_TESTS_SUPPORT_SCRIPTED_HOLDER_H_
#define ION_TESTS_SUPPORT_SCRIPTED_HOLDER_H_

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/poll_until.h"
#include "ion/move_holder.h"

namespace ion::testing {

class ScriptedHolder {
 public:
  explicit ScriptedHolder(std::string name) : name_(std::move(name)) {}
  ScriptedHolder(const ScriptedHolder&) = delete;
  ScriptedHolder& operator=(const ScriptedHolder&) = delete;

  std::string_view name() const noexcept { return name_; }
  Error AskQuiet(uint64_t generation, Deadline deadline) noexcept {
    calls += "ask " + std::to_string(generation) + "\n";
    had_time = deadline > std::chrono::steady_clock::now();
    if (at_ask) at_ask();
    return silent ? SayNothing(deadline) : ask_errno == 0 ? Error() : Fail(ask_errno);
  }
  void Cancel(uint64_t generation) noexcept {
    calls += "cancel " + std::to_string(generation) + "\n";
  }
  Error HandOver(const HandedMemory& memory, Deadline deadline) noexcept {
    calls += "take " + std::to_string(memory.generation) + "\n";
    had_time = deadline > std::chrono::steady_clock::now();
    if (silent_at_take) return SayNothing(deadline);
    if (take_errno != 0) return Fail(take_errno);
    generation = memory.generation;
    image = memory.image != nullptr;
    for (const HandedBuffer& one : memory.buffers) {
      held[one.buffer] = {UniqueFd(::fcntl(one.fd.get(), F_DUPFD_CLOEXEC, 0)), one.bytes};
    }
    return {};
  }

  // The script.
  int ask_errno = 0;
  int take_errno = 0;
  bool silent = false;
  bool silent_at_take = false;
  std::function<void()> at_ask;

  // The record.
  struct Held {
    UniqueFd fd;
    uint64_t bytes = 0;
  };
  std::string calls;
  bool had_time = false;  // the deadline of the last call was ahead
  uint64_t generation = 0;
  bool image = false;
  std::map<uint32_t, Held> held;

 private:
  Error SayNothing(Deadline deadline) const noexcept {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() > 0) ::poll(nullptr, 0, static_cast<int>(left.count()));
    return Fail(ETIMEDOUT);
  }
  Error Fail(int code) const noexcept {
    return Error(code, "the script fails", {"scripted", Operation::kMove, name_});
  }

  std::string name_;
};
static_assert(MoveHolderCheck<ScriptedHolder>::kOk);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SCRIPTED_HOLDER_H_
