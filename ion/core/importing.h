// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/importing.h
//
// Imports a descriptor into a Manager: a block of memory from elsewhere, or a second one of the
// Manager's own. The latter is charged again, and marks what it leads to.
//
// Not for users.
//
// Cost: the backend's Import and Identify, or its one look, and a look at each block that was lent.
#ifndef ION_ION_CORE_IMPORTING_H_
#define ION_ION_CORE_IMPORTING_H_

#include <cerrno>
#include <cstdint>
#include <utility>

#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/buffer_identity.h"
#include "ion/core/account.h"
#include "ion/core/asker.h"
#include "ion/core/own_memory.h"
#include "ion/core/refusals.h"
#include "ion/slab.h"

namespace ion::internal {

struct Imported {
  Buffer lease;
  BufferIdentity identity;
};

// The descriptor of an import: one that stays the caller's, or an inspected one (`own`), which
// becomes the block's. If `own` is still valid after an error, it is the caller's to close.
struct ImportSource {
  FdRef fd;
  bool known = false;  // Identify told the identity of `fd`
  UniqueFd own = {};
  Inspected seen = {};  // of `own`
};

template <class Core>
class Importing {
 public:
  Importing(Core& core, const Asker& asker) noexcept : core_(core), asker_(asker) {}

  // EDQUOT: past a bound of the client.
  Result<Imported> Run(ImportSource& source, CallSite where) noexcept {
    const Origin origin{Core::kBackendName, Operation::kImport};
    if (AtMostBuffers(asker_)) return Error(EDQUOT, kPastBuffers, origin);
    Block* block = core_.blocks_.New();
    if (block == nullptr) return Error(ENOMEM, "operator new: a block", origin);
    const Result<BufferIdentity> identity = Fill(source, *block);
    if (!block->filled()) {
      core_.blocks_.Delete(block);
      return identity.error();
    }
    block->heap = Core::kImported;
    block->Mark(Block::kKept);
    Error error = identity.ok() ? MarkLent(*identity, *block) : identity.error();
    LeaseToken token;
    if (error.ok()) error = Charge(*identity, *block, token);
    if (!error.ok()) {
      core_.backend_.errors().Report(core_.backend_.Release(*block));
      core_.blocks_.Delete(block);
      return error;
    }
    BlockNote note = core_.Note(*block, {}, asker_, where);
    note.identity = *identity;
    return Imported{core_.Lease(block, token, std::move(note)), *identity};
  }

 private:
  // The identity of the memory that the block has from then on. After an error the block is empty,
  // or filled all the same.
  Result<BufferIdentity> Fill(ImportSource& source, Block& block) noexcept {
    if constexpr (Core::kInspects) {
      if (source.own.valid()) {
        core_.backend_.TakeOver(std::move(source.own), source.seen, block);
        return source.seen.identity;
      }
      if (source.known) return core_.backend_.ImportKnown(source.fd, block);
    }
    if (Error error = core_.backend_.Import(source.fd, block); !error.ok()) return error;
    // Here, as legacy ION identifies a buffer by a handle that lasts only as long as a block holds
    // it.
    return core_.backend_.Identify(FdRef(block.fd), Operation::kImport);
  }
  // Memory that the Manager allocated is on the account of each client that has it, and once in the
  // Budget. EDQUOT, ENOMEM: one of them has no room for it.
  Error Charge(const BufferIdentity& identity, Block& import, LeaseToken& token) noexcept {
    const Origin origin{Core::kBackendName, Operation::kImport, {}, import.bytes};
    const OwnMemory::Import whose = core_.own_.Imported(identity, import.bytes);
    if (whose == OwnMemory::Import::kForeign) return {};
    if (whose == OwnMemory::Import::kPastBudget) {
      return Error(ENOMEM, "our own memory, past the bound on the bytes held", origin,
                   "release some buffers, or give the backend a larger Budget");
    }
    if (!asker_.account.Take(PagesIn(import.bytes))) {
      core_.own_.ImportEnds(identity, import.bytes);
      return Error(EDQUOT, "past the client's quota", origin);
    }
    import.Mark(Block::kKnown);
    token = LeaseToken::Of(asker_.account.bits(), 0, 0);
    return {};
  }
  // Marks the Manager's memory that an import leads to by a descriptor that was lent: a pool takes
  // it back once nobody else holds it. Without identities it marks all that it may be. EPERM: it is
  // a region in which other trust domains have memory.
  Error MarkLent(const BufferIdentity& identity, const Block& import) noexcept {
    bool refused = false;
    // The calls under the table's lock cannot wait: a lent block's descriptor is of the kernel's
    // own memory, as Import takes no file of a server, and is asked once for its identity.
    core_.blocks_.ForEachLent([&](Block& block, BlockNote& note) {
      if (!note.identity.known()) {
        const Result<BufferIdentity> mine =
            core_.backend_.Identify(FdRef(block.fd), Operation::kImport);
        if (mine.ok()) note.identity = *mine;
      }
      if (!MayBeOne(block, note.identity, import, identity)) return;
      block.Mark(Block::kImported);
      if (Core::SharesItsDescriptor(block)) {
        refused |= !core_.heaps_.region(block.heap).Seal(asker_.domain);
      } else if (identity.known() && note.identity.known() && !block.foreign &&
                 !block.Marked(Block::kKnown) &&
                 core_.own_.Shared(identity, block.bytes, /*charged=*/true)) {
        block.Mark(Block::kKnown);
      }
    });
    if (!refused) return {};
    return Error(EPERM, "the descriptor shows memory of several trust domains",
                 {Core::kBackendName, Operation::kImport, {}, import.bytes},
                 "keep the lease, and share it by a handle");
  }
  bool MayBeOne(const Block& block, const BufferIdentity& mine, const Block& import,
                const BufferIdentity& theirs) const noexcept {
    if (mine.known() && theirs.known()) return mine == theirs;
    if (!Core::SharesItsDescriptor(block)) return block.bytes == import.bytes;
    return core_.AreOne(FdRef(block.fd), FdRef(import.fd));
  }

  Core& core_;
  const Asker& asker_;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_IMPORTING_H_
