#pragma once

#include <cstdint>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/protocol/message.h"

/// What a shard writes into its log. An entry is what one event has changed, and takes effect as a whole. It
/// is a row of records, each a message and a number:
///   bytes 0..7    number
///   bytes 8..15   length of the message's FlatBuffer
///   bytes 16..23  length of its payload
///   then          FlatBuffer and payload, each padded with zeros to a multiple of 8
///   OpenShard     the job begins, with the initial values, or a new chain; number: the chain
///   Push          it settles; number: how many parts are applied
///   Publish       the next version; number: 1 if it assigns w to the shadow, and its payload is empty then
///   Membership, Fence, Tune as they came
///   Subscribe     pushes below oldest_held are lost, and are not waited for
namespace nanduti {

struct ShardRecord {
  std::uint64_t number = 0;
  Message message;
};

/// Of the publish record that assigns.
inline constexpr std::uint64_t kAssignsAll = 1;

/// Adds the record to an entry that is being put together; the payload is shared, not copied.
void append_record(std::vector<SharedBytes>& entry, std::uint64_t number, const Message& message);

/// Records share the entry's bytes, which begin at a multiple of 8. Errors: kCorrupt.
Result<std::vector<ShardRecord>> decode_entry(const SharedBytes& entry);

}  // namespace nanduti
