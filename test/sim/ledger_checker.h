#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <tuple>
#include <vector>

#include "common/codec/codec.h"
#include "common/protocol/message.h"
#include "test/sim/plan.h"
#include "test/sim/server_model.h"

namespace nanduti::sim {

/// Promise P3 from the outside, without the books of Checker: what virtual workers have computed, against
/// what the bytes that shards took and reported as applied add up to, against w at rest. One per job. Throws
/// Failure.
class LedgerChecker {
 public:
  explicit LedgerChecker(const Plan& plan);

  void on_membership(const Membership& membership);
  /// Computed under this incarnation, shape [parameters].
  void on_progress(IncarnationOrder order, std::span<const float> progress);
  void on_push_arrived(ShardIndex shard, const Push& push);
  void on_report(ShardIndex shard, const SettleReport& report);
  void on_result(std::span<const float> w) const;

 private:
  using Key = std::tuple<ShardIndex, IncarnationOrder, Sequence>;
  void apply(const Push& push, ShardIndex shard, std::uint16_t applied_parts);

  const Plan& plan_;
  JobCodecs codecs_;
  std::map<MembershipEpoch, std::uint32_t> active_;
  std::set<IncarnationOrder> dead_;
  std::map<Key, Push> arrived_;  // and not reported yet
  std::map<std::pair<ShardIndex, IncarnationOrder>, Sequence> reported_;
  // Shape [parameters] each.
  std::map<IncarnationOrder, std::vector<double>> progress_;
  std::map<IncarnationOrder, std::vector<double>> applied_;
  std::vector<double> w_;
  std::vector<ParameterRange> ranges_;        // of shards
  std::vector<ServerModel<double>> servers_;  // of shards
  std::uint64_t applications_ = 0;
};

}  // namespace nanduti::sim
