// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/account.h
//
// Account: counts the pages that a client holds, against a limit. Each thread has a cell of credit
// for each account and changes it with plain loads and stores; a reader adds the cells up:
//
//   held = granted to threads - credit in their cells
//
// So an allocation and its release on one thread cost a load and a store each. A cell that runs out
// takes more from the shared figure, one that has too much gives some back: a compare-exchange,
// once in many calls.
//
// Example:
//   ion::Account account;
//   ion::Error error = account.Open(origin, 16'384, ion::Account::UsualCredit(16'384));
//   if (!account.id().Take(pages)) { /* past the limit */ }
//   account.id().Give(pages);
//
// The credit in the cells is granted and not held, so a charge may fail up to `threads x 2 credit`
// before the limit (a cell takes one credit, and keeps at most two); the credit of threads that
// ended is taken back first. An account with no credit is exact, and each call of it is a
// compare-exchange.
//
// An AccountId outlives its account: a closed account ignores the pages that are given back to it.
// Generations have 24 bits and never come back: after 8 to 16 million accounts a slot is not opened
// again.
//
// Cost: 16 KiB of address space for each thread that ever used one, kept for the next thread when
// it ends; 1023 accounts at a time. Thread-safe. Progress: lock-free but for Open. Not for signal
// handlers.
#ifndef ION_ION_CORE_ACCOUNT_H_
#define ION_ION_CORE_ACCOUNT_H_

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ion/base/error.h"
#include "ion/base/library_hash.h"
#include "ion/base/tls_model.h"

namespace ion {
namespace internal {

inline constexpr uint32_t kMaxAccounts = 1024;  // slot 0 is nobody's
inline constexpr unsigned kPageCountBits = 40;  // 4 EiB of 4 KiB pages
inline constexpr uint64_t kPageSpan = uint64_t{1} << kPageCountBits;
inline constexpr unsigned kGenerationBits = 24;
inline constexpr uint32_t kGenerationMask = (1u << kGenerationBits) - 1;

// The shared figure. The word is {generation, pages granted to threads}: one compare-exchange sees
// both.
struct alignas(64) AccountSlot {
  std::atomic<uint64_t> word{0};
  std::atomic<uint64_t> limit{0};   // pages
  std::atomic<uint64_t> credit{0};  // pages that a cell takes at once
  std::atomic<bool> taken{false};
  std::atomic<bool> used_up{false};  // by as many accounts as there are generations: taken for good
};

// Owner writes, anybody reads.
struct AccountCell {
  std::atomic<uint64_t> word{0};  // {generation, pages of credit}
  std::atomic<uint64_t> most{0};  // pages that it keeps; the owner's alone
};
// A thread's cells, by slot.
struct AccountCells {
  AccountCell at[kMaxAccounts] = {};
  std::atomic<uint32_t> owned{0};
  AccountCells* next = nullptr;
};

struct AccountStatics {
  static inline constinit AccountSlot slots[kMaxAccounts] = {};
  static inline constinit std::atomic<AccountCells*> threads{nullptr};
  // Stands for the cells of a thread that has none: never written, and no account's generation is
  // 0, so nothing is taken from it or given to it.
  static inline constinit AccountCells nobodys = {};
  [[ION_INTERNAL_TLS_MODEL]] static inline constinit thread_local AccountCells* cells = &nobodys;
  static inline constinit thread_local bool exited = false;

  // The first generation of a slot: another in each library of a process that has statics of its
  // own, so that none takes another's account for one of its. Not 0, and at most 2^23.
  static uint64_t FirstGeneration() noexcept {
    return 1 + (LibraryHash(&slots) >> (64 - kGenerationBits + 1));
  }

  // The thread's cells, taken if it has none; nullptr: no memory, or the thread is in its exit.
  // Such a caller uses the shared figure.
  [[gnu::noinline]] static AccountCells* Bind() noexcept {
    if (cells != &nobodys) return cells;
    if (exited) return nullptr;
    AccountCells* mine = TakeFree();
    if (mine == nullptr) mine = Add();
    if (mine == nullptr) return nullptr;
    cells = mine;
    static thread_local ExitGuard guard;
    asm volatile("" : : "r"(&guard));  // the compiler must not think it unused
    return mine;
  }

 private:
  // The credit in the cells stays there for the next thread.
  struct ExitGuard {
    ~ExitGuard() {
      exited = true;
      std::exchange(cells, &nobodys)->owned.store(0, std::memory_order_release);
    }
  };
  static AccountCells* TakeFree() noexcept {
    for (AccountCells* at = threads.load(std::memory_order_acquire); at != nullptr; at = at->next) {
      uint32_t free = 0;
      if (at->owned.compare_exchange_strong(free, 1, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
        return at;
      }
    }
    return nullptr;
  }
  // Zero pages are a good AccountCells. Never unmapped: somebody may be adding them up.
  static AccountCells* Add() noexcept {
    void* at = ::mmap(nullptr, sizeof(AccountCells), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return nullptr;
    auto* made = static_cast<AccountCells*>(at);
    made->owned.store(1, std::memory_order_relaxed);
    AccountCells* head = threads.load(std::memory_order_relaxed);
    do made->next = head;
    while (!threads.compare_exchange_weak(head, made, std::memory_order_release,
                                          std::memory_order_relaxed));
    return made;
  }
};

}  // namespace internal

// Names an account; it may outlive the account. Amounts are in pages.
class AccountId {
 public:
  // The generation has the bits that it has in a word, and the slot has bits from which two
  // instructions make a cell's address. The bits below are free for other use.
  static constexpr unsigned kFreeBits = 22;

  // Names no account: every charge is granted, and none is counted.
  constexpr AccountId() = default;
  // The free bits are ignored, but by ==.
  static constexpr AccountId FromBits(uint64_t bits) noexcept { return AccountId(bits); }
  constexpr uint64_t bits() const noexcept { return bits_; }
  constexpr bool anybody() const noexcept { return slot() != 0; }
  friend constexpr bool operator==(AccountId, AccountId) = default;

  // Charges `pages`, no more than Account::kUnlimited. False: past the limit; or the account is
  // closed.
  [[nodiscard, gnu::always_inline]] bool Take(uint64_t pages) const noexcept {
    std::atomic<uint64_t>& word = Statics::cells->at[slot()].word;
    const uint64_t left = word.load(std::memory_order_relaxed) - pages;
    // One compare: the generation is ours, and the credit suffices. No credit has the topmost bit,
    // but one that was too small does.
    if ((left ^ bits_) >> (internal::kPageCountBits - 1) == 0) [[likely]] {
      word.store(left, std::memory_order_relaxed);
      return true;
    }
    return TakeSlow(*this, pages);
  }
  // Gives back what Take charged, on any thread.
  [[gnu::always_inline]] void Give(uint64_t pages) const noexcept {
    internal::AccountCell& cell = Statics::cells->at[slot()];
    const uint64_t word = cell.word.load(std::memory_order_relaxed) + pages;
    if (word - base() <= cell.most.load(std::memory_order_relaxed)) [[likely]] {
      cell.word.store(word, std::memory_order_relaxed);
      return;
    }
    GiveSlow(*this, pages);
  }

  // False once the account is closed.
  bool open() const noexcept {
    return Slot().word.load(std::memory_order_acquire) - base() < internal::kPageSpan;
  }
  // Pages that are charged; exact while no call is under way. 0 once it is closed.
  uint64_t held() const noexcept {
    const uint64_t word = Slot().word.load(std::memory_order_acquire);
    if (word - base() >= internal::kPageSpan) return 0;
    uint64_t credit = 0;
    for (auto* at = Statics::threads.load(std::memory_order_acquire); at != nullptr;
         at = at->next) {
      const uint64_t here = at->at[slot()].word.load(std::memory_order_relaxed) - base();
      if (here < internal::kPageSpan) credit += here;
    }
    const uint64_t granted = word - base();
    return granted - std::min(granted, credit);
  }
  // Pages that may be charged.
  uint64_t limit() const noexcept { return Slot().limit.load(std::memory_order_relaxed); }

 private:
  friend class Account;
  using Statics = internal::AccountStatics;
  constexpr explicit AccountId(uint64_t bits) : bits_(bits) {}

  static constexpr AccountId Of(uint64_t generation, uint64_t slot) noexcept {
    return AccountId(generation << internal::kPageCountBits | slot << kFreeBits);
  }
  constexpr uint32_t slot() const noexcept { return (bits_ >> kFreeBits) % internal::kMaxAccounts; }
  // The generation, in the bits that it has in a word.
  uint64_t base() const noexcept {
    return bits_ >> internal::kPageCountBits << internal::kPageCountBits;
  }
  internal::AccountSlot& Slot() const noexcept { return Statics::slots[slot()]; }

  // The pages of credit in this thread's cell; 0 if the cell belongs to another generation.
  uint64_t Credit(const internal::AccountCells* cells) const noexcept {
    if (cells == nullptr) return 0;
    const uint64_t here = cells->at[slot()].word.load(std::memory_order_relaxed) - base();
    return here < internal::kPageSpan ? here : 0;
  }
  // Sets the credit in this thread's cell.
  void Store(internal::AccountCells& cells, uint64_t credit) const noexcept {
    internal::AccountCell& cell = cells.at[slot()];
    cell.word.store(base() + credit, std::memory_order_relaxed);
    cell.most.store(2 * Slot().credit.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  // Adds to, or takes from, the shared figure by f(granted) -> granted. False: closed, or f refused
  // by answering kPageSpan.
  template <class F>
  bool Change(F f) const noexcept {
    std::atomic<uint64_t>& word = Slot().word;
    uint64_t was = word.load(std::memory_order_relaxed);
    for (;;) {
      if (was - base() >= internal::kPageSpan) return false;
      const uint64_t granted = f(was - base());
      if (granted >= internal::kPageSpan) return false;
      if (word.compare_exchange_weak(was, base() + granted, std::memory_order_acq_rel,
                                     std::memory_order_relaxed)) {
        return true;
      }
    }
  }

  // By value: an id whose address a call takes would lie in memory on the fast path, too.
  [[gnu::noinline, gnu::cold]] static bool TakeSlow(AccountId id, uint64_t pages) noexcept {
    return !id.anybody() || id.TakeShared(pages);
  }
  [[gnu::noinline, gnu::cold]] static void GiveSlow(AccountId id, uint64_t pages) noexcept {
    if (id.anybody()) id.GiveShared(pages);
  }

  bool TakeShared(uint64_t pages) const noexcept {
    internal::AccountCells* cells = Statics::Bind();
    const uint64_t here = Credit(cells);
    const uint64_t need = pages - std::min(pages, here);
    const uint64_t wanted = cells == nullptr ? need : std::max(need, Slot().credit.load());
    const uint64_t limit = this->limit();
    uint64_t grant = 0;
    const auto take = [&](uint64_t granted) {
      const uint64_t room = limit - std::min(granted, limit);
      if (need > room) return internal::kPageSpan;
      grant = std::min(wanted, room);
      return granted + grant;
    };
    if (!Change(take)) {
      TakeBack();
      if (!Change(take)) return false;
    }
    if (cells != nullptr) {
      Store(*cells, here + grant - pages);
    }
    return true;
  }
  // Gives back what lies in the cells of threads that ended.
  void TakeBack() const noexcept {
    for (auto* at = Statics::threads.load(std::memory_order_acquire); at != nullptr;
         at = at->next) {
      uint32_t free = 0;
      if (!at->owned.compare_exchange_strong(free, 1, std::memory_order_acquire,
                                             std::memory_order_relaxed)) {
        continue;
      }
      if (const uint64_t here = Credit(at); here != 0) {
        at->at[slot()].word.store(base(), std::memory_order_relaxed);
        (void)Change([&](uint64_t granted) { return granted - std::min(granted, here); });
      }
      at->owned.store(0, std::memory_order_release);
    }
  }
  void GiveShared(uint64_t pages) const noexcept {
    internal::AccountCells* cells = Statics::Bind();
    const uint64_t all = Credit(cells) + pages;
    const uint64_t keep = cells == nullptr ? 0 : std::min(all, Slot().credit.load());
    if (!Change([&](uint64_t granted) { return granted - std::min(granted, all - keep); })) return;
    if (cells != nullptr) {
      Store(*cells, keep);
    }
  }

  uint64_t bits_ = 0;
};

// Opens and closes an account.
class Account {
 public:
  static constexpr uint64_t kUnlimited = internal::kPageSpan / 2;

  Account() = default;
  Account(Account&& other) noexcept : id_(std::exchange(other.id_, AccountId())) {}
  Account& operator=(Account&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Account() { Close(); }

  // The default credit of an account, in pages: a sixteenth of the limit. At most 2^18 pages, so
  // that an unlimited account stays unlimited with a hundred thousand threads.
  static constexpr uint64_t UsualCredit(uint64_t limit) noexcept {
    return std::min(limit / 16, uint64_t{1} << 18);
  }

  // Requires: it is not open. `credit`: pages that a thread takes at once; 0 makes it exact.
  // ENOSPC: 1023 are open, or were so often that their slots are used up.
  Error Open(const Origin& origin, uint64_t limit, uint64_t credit) noexcept {
    for (uint32_t at = 1; at < internal::kMaxAccounts; ++at) {
      internal::AccountSlot& slot = AccountId::Statics::slots[at];
      bool free = false;
      if (slot.taken.load(std::memory_order_relaxed) ||
          !slot.taken.compare_exchange_strong(free, true, std::memory_order_acquire)) {
        continue;
      }
      limit = std::min(limit, kUnlimited);
      // A cell has at most three times as much: its topmost bit stays 0.
      credit = std::min({credit, limit, kUnlimited / 4});
      slot.limit.store(limit, std::memory_order_relaxed);
      slot.credit.store(credit, std::memory_order_relaxed);
      // Close has gone to the next one already.
      uint64_t generation = slot.word.load(std::memory_order_relaxed) >> internal::kPageCountBits;
      if (generation == 0) generation = AccountId::Statics::FirstGeneration();
      slot.word.store(generation << internal::kPageCountBits, std::memory_order_release);
      id_ = AccountId::Of(generation, at);
      return {};
    }
    const bool used_up = std::ranges::any_of(AccountId::Statics::slots, [](const auto& slot) {
      return slot.used_up.load(std::memory_order_relaxed);
    });
    if (used_up) {
      return Error(ENOSPC, "clients are open in all places of this process that are not used up",
                   origin,
                   "close some; a place is used up by 8 million clients, one after another");
    }
    return Error(ENOSPC, "1023 clients are open in this process", origin, "close some");
  }
  // Ends the account: later calls with its id charge and count nothing.
  void Close() noexcept {
    if (!id_.anybody()) return;
    const AccountId id = std::exchange(id_, AccountId());
    internal::AccountSlot& slot = id.Slot();
    const uint64_t used = id.bits() >> internal::kPageCountBits;
    if (used == internal::kGenerationMask) {
      // Generations never come back: the slot is nobody's any more. No account's generation is 0.
      slot.word.store(0, std::memory_order_release);
      slot.used_up.store(true, std::memory_order_relaxed);
      return;
    }
    slot.word.store((used + 1) << internal::kPageCountBits, std::memory_order_release);
    slot.taken.store(false, std::memory_order_release);
  }

  AccountId id() const noexcept { return id_; }

 private:
  AccountId id_;
};

}  // namespace ion

#endif  // ION_ION_CORE_ACCOUNT_H_
