#include "test/sim/ledger_checker.h"

#include <algorithm>
#include <cmath>

#include "common/codec/coding_spec.h"
#include "common/tensor/parameter_space.h"
#include "test/sim/checker_values.h"
#include "test/sim/problem.h"

namespace nanduti::sim {

LedgerChecker::LedgerChecker(const Plan& plan) : plan_(plan), codecs_(codecs_of(plan.codec)) {
  const std::vector<float> initial = initial_values(0, plan.parameters);
  w_.assign(initial.begin(), initial.end());
  ranges_ = split_into_shards(plan.parameters, plan.shards);
  for (const ParameterRange& range : ranges_) servers_.emplace_back(plan, range.begin, range.end);
}

void LedgerChecker::on_membership(const Membership& membership) {
  active_[membership.epoch] = count_active(membership);
  for (const Member& member : membership.members)
    if (member.state == MemberState::kDead) dead_.insert(member.order);
}

void LedgerChecker::on_progress(IncarnationOrder order, std::span<const float> progress) {
  std::vector<double>& sum = progress_[order];
  sum.resize(plan_.parameters);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(progress[i]);
}

void LedgerChecker::on_push_arrived(ShardIndex shard, const Push& push) {
  if (push.sequence < value_or_zero(reported_, std::pair(shard, push.order))) return;
  arrived_.try_emplace({shard, push.order, push.sequence}, push);
}

void LedgerChecker::on_report(ShardIndex shard, const SettleReport& report) {
  for (const SettleEntry& entry : report.entries) {
    Sequence& next = reported_[{shard, entry.order}];
    if (entry.sequence < next) continue;  // reported again
    next = entry.sequence.next();
    const auto it = arrived_.find({shard, entry.order, entry.sequence});
    if (it == arrived_.end())
      fail("P3: shard {} reports push {} of incarnation {}, which has not reached it", shard, entry.sequence,
           entry.order);
    if (entry.applied_parts > 0) apply(it->second, shard, entry.applied_parts);
    arrived_.erase(it);
  }
}

void LedgerChecker::apply(const Push& push, ShardIndex shard, std::uint16_t applied_parts) {
  const auto [begin, end] = ranges_.at(shard.value());
  const Result<Update> update = decode_update(push.coding, push.payload, end - begin, *codecs_.push);
  if (!update.ok()) fail("a push does not decode: {}", update.error().message);
  std::vector<double>& sum = applied_[push.order];
  sum.resize(plan_.parameters);
  for (std::size_t i = 0; i < update->values.size(); ++i)
    sum[begin + (update->dense ? i : update->indices[i])] +=
        static_cast<double>(update->values[i]) * applied_parts / kAppliedWhole;
  servers_.at(shard.value())
      .apply(w_, begin, *update, std::max(active_.at(push.epoch), 1u), applied_parts,
             push.lease == LeaseId());
  ++applications_;
}

void LedgerChecker::on_result(std::span<const float> w) const {
  // In float32 every application rounds once, and so does its multiplier; a server's momentum and its roots
  // a few times more.
  double largest = 64;
  for (const float value : w) largest = std::max(largest, static_cast<double>(std::abs(value)));
  const double rounding = static_cast<double>(applications_ + 1) * largest * std::ldexp(1.0, -23);
  const double tolerance = plan_.server_optimizer == ServerOptimizerType::kAdd ? rounding : 8 * rounding;
  // Exact: all values are multiples of 2^-10, but for those of pushes that were weighed by their age. A dead
  // incarnation's rest is lost.
  const double lost_max = plan_.age_power == 0 ? 0 : rounding;
  for (const auto& [order, progress] : progress_) {
    if (dead_.contains(order)) continue;
    const auto applied = applied_.find(order);
    const bool is_same = applied != applied_.end() &&
                         std::equal(progress.begin(), progress.end(), applied->second.begin(),
                                    [&](double a, double b) { return std::abs(a - b) <= lost_max; });
    if (!is_same)
      fail("P3: at rest the shards have applied something else of incarnation {} than it has computed",
           order);
  }
  for (std::size_t i = 0; i < w_.size(); ++i)
    if (!(std::abs(static_cast<double>(w[i]) - w_[i]) <= tolerance))
      fail("P3: at rest parameter {} is {}, what has been applied makes {}", i, w[i], w_[i]);
}

}  // namespace nanduti::sim
