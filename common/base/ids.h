#pragma once

#include <array>
#include <string>

#include "common/base/strong_id.h"

namespace nanduti {

using JobId =
    StrongId<struct JobIdTag>;  ///< given by the coordinator, from 1, unique in one storage directory
using ShardIndex =
    StrongId<struct ShardIndexTag, std::uint32_t>;  ///< position of a shard in the parameter space, from 0
using StreamIndex = StrongId<struct StreamIndexTag, std::uint32_t>;  ///< 0 is control, 1 and up are bulk
using PeerId = StrongId<struct PeerIdTag>;  ///< names one session at this end only; never reused

/// The coordinator's order number of a worker incarnation: unique, and larger for later ones.
using IncarnationOrder = StrongId<struct IncarnationOrderTag>;
using Sequence = StrongId<struct SequenceTag>;  ///< a push of one incarnation to one shard: 0, 1, 2, ...
using Round = StrongId<struct RoundTag>;        ///< a worker's clock: how many rounds it has behind it
using Version = StrongId<struct VersionTag>;    ///< publishes of a shard's shadow so far
using MembershipEpoch = StrongId<struct MembershipEpochTag>;     ///< from 1; 0 is "none seen yet"
using DataEpoch = StrongId<struct DataEpochTag, std::uint32_t>;  ///< passes over the training set, from 0
using LeaseId = StrongId<struct LeaseIdTag>;
using CutId = StrongId<struct CutIdTag>;      ///< a named state of all shards: a checkpoint, an evaluation
using ChainId = StrongId<struct ChainIdTag>;  ///< a shard's unbroken line of versions; a new one begins with
                                              ///< the whole shadow
using Term = StrongId<struct TermTag>;        ///< of a shard's leadership; 1 until there are standbys

/// A random 128-bit name.
struct RandomId {
  std::array<std::uint64_t, 2> words{};
  friend auto operator<=>(const RandomId&, const RandomId&) = default;
  [[nodiscard]] bool is_zero() const { return words[0] == 0 && words[1] == 0; }
  /// 32 hexadecimal digits.
  [[nodiscard]] std::string to_string() const { return fmt::format("{:016x}{:016x}", words[0], words[1]); }
};

struct IncarnationId : RandomId {};  ///< one life of a worker process
struct SessionId : RandomId {};      ///< one conversation between two peers, across reconnects

}  // namespace nanduti
