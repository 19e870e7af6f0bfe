#pragma once

#include <map>
#include <set>
#include <utility>
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
  /// The coordinator makes a membership, of what it has heard by then.
  void on_made(const Membership& membership) {
    made_.try_emplace({membership.job, membership.epoch}, membership,
                      membership.job == job_ ? clocks_ : Clocks());
  }
  /// The coordinator sends a membership. Gives those that have come into force with it: none if it has sent
  /// it to another shard before, several if all shards were away when it made others.
  std::vector<Membership> on_sent(const Membership& membership);
  /// What the coordinator has made and heard so far is in an entry of its log.
  void on_logged() { logged_.push_back({made_, clocks_}); }
  /// The coordinator's process has ended: so many of its entries are left.
  void on_crash(std::uint64_t entries);
  // By the last membership.
  [[nodiscard]] bool knows(IncarnationOrder order) const { return members_.contains(order); }
  [[nodiscard]] bool is_active(IncarnationOrder order) const;
  [[nodiscard]] Round clock_of(IncarnationOrder order) const { return clock(members_.at(order)); }
  /// 0 if nobody is active.
  [[nodiscard]] Round smallest_active_clock() const;
  /// Once a second, in the coordinator's time.
  void audit(const CoordinatorCore& coordinator, ProtocolTime now) const;

 private:
  void check(const Membership& membership);
  [[nodiscard]] Round clock(const Member& member) const;
  [[nodiscard]] std::vector<Round> entry_clocks(const std::map<IncarnationOrder, Member>& members) const;

  const Plan& plan_;
  Coverage& coverage_;
  std::map<PeerId, ShardIndex> shards_;
  using Clocks = std::map<IncarnationOrder, std::vector<Round>>;
  Clocks clocks_;  // per shard, by what the coordinator has heard
  using Made = std::map<std::pair<JobId, MembershipEpoch>, std::pair<Membership, Clocks>>;
  Made made_;  // and what the clocks were then; those that no shard has been sent
  struct Logged {
    Made made;
    Clocks clocks;
  };
  std::vector<Logged> logged_;                  // by this process of the coordinator
  Logged recovered_;                            // that it began with
  std::map<IncarnationOrder, Member> members_;  // of the last membership
  std::set<IncarnationOrder> dead_;
  JobId job_;
  MembershipEpoch epoch_;
};

}  // namespace nanduti::sim
