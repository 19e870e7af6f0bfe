#pragma once

#include <vector>

#include "common/base/check.h"
#include "worker/client/host_memory.h"
#include "worker/client/shard_replica.h"

namespace nanduti {

/// The numbers of a replica, which are in the host's memory.
inline const HostShard& host_values(const ShardReplica& replica) {
  const auto* values = dynamic_cast<const HostShard*>(&replica.values());
  NANDUTI_CHECK(values != nullptr);
  return *values;
}

/// A replica of so many values in the host's memory.
inline ShardReplica host_replica(std::uint64_t size, IncarnationOrder own) {
  return {std::make_unique<HostShard>(size, std::span<const float>()), size, own};
}

inline std::vector<float> vector_of(std::span<const float> values) { return {values.begin(), values.end()}; }

}  // namespace nanduti
