// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What a client's user cannot write, and the sentence with which it does not compile.

#include <cstddef>
#include <span>

#include "ion/client_ref.h"
#include "ion/cpu_copy.h"
#include "ion/cpu_mapping.h"
#include "ion/platforms/linux.h"
#include "ion/shared_buffer.h"

namespace ion {

// EXPECT copy_to_read_only: ion: CopyTo writes, and this mapping is read-only; take a
// WritableMapping
#if defined(CASE_copy_to_read_only)
auto Write(const ReadOnlyMapping& mapping, std::span<const std::byte> bytes) {
  return CopyTo(mapping, bytes);
}
#endif

// EXPECT ref_of_a_temporary: deleted function
#if defined(CASE_ref_of_a_temporary)
ClientRef Refer(platforms::Memfd& manager) { return *manager.CreateClient({.name = "gone"}); }
#endif

// EXPECT copy_shared_buffer: SharedBuffer
#if defined(CASE_copy_shared_buffer)
SharedBuffer Copy(const SharedBuffer& buffer) { return buffer; }
#endif

}  // namespace ion
