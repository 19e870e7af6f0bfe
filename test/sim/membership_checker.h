#pragma once

#include <map>
#include <set>
#include <vector>

#include "server/coordinator/coordinator_core.h"
#include "test/sim/coverage.h"
#include "test/sim/plan.h"

namespace nanduti::sim {

/// Holds the coordinator to DESIGN's rules of membership: who joins or returns enters at the smallest active
/// clock, the dead stay dead, and nobody who is silent holds the others for longer than the time-outs say.
/// Throws Failure.
class MembershipChecker {
 public:
  MembershipChecker(const Plan& plan, Coverage& coverage) : plan_(plan), coverage_(coverage) {}

  /// The coordinator opens shard `index` at this peer.
  void on_shard(PeerId peer, ShardIndex index) { shards_[peer] = index; }
  /// The coordinator hears of settled rounds.
  void on_settled(const SettleReport& report, PeerId from);
  /// The coordinator sends a membership; false if it has sent it to another shard before.
  bool on_sent(const Membership& membership);
  // By the last membership.
  [[nodiscard]] bool knows(IncarnationOrder order) const { return members_.contains(order); }
  [[nodiscard]] bool is_active(IncarnationOrder order) const;
  [[nodiscard]] Round clock_of(IncarnationOrder order) const { return clock(members_.at(order)); }
  /// 0 if nobody is active.
  [[nodiscard]] Round smallest_active_clock() const;
  /// Once a second, in the coordinator's time.
  void audit(const CoordinatorCore& coordinator, ProtocolTime now) const;

 private:
  [[nodiscard]] Round clock(const Member& member) const;
  [[nodiscard]] std::vector<Round> entry_clocks(const std::map<IncarnationOrder, Member>& members) const;

  const Plan& plan_;
  Coverage& coverage_;
  std::map<PeerId, ShardIndex> shards_;
  std::map<IncarnationOrder, std::vector<Round>> clocks_;  // per shard, by what the coordinator has heard
  std::map<IncarnationOrder, Member> members_;             // of the last membership
  std::set<IncarnationOrder> dead_;
  JobId job_;
  MembershipEpoch epoch_;
};

}  // namespace nanduti::sim
