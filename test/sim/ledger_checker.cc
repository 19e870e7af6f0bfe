#include "test/sim/ledger_checker.h"

#include <algorithm>
#include <cmath>

#include "common/tensor/parameter_space.h"
#include "test/sim/checker_values.h"
#include "test/sim/problem.h"

namespace nanduti::sim {

LedgerChecker::LedgerChecker(const Plan& plan) : plan_(plan), codecs_(codecs_of(plan.codec)) {
  const std::vector<float> initial = initial_values(0, plan.parameters);
  w_.assign(initial.begin(), initial.end());
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
  const ParameterRange range = split_into_shards(plan_.parameters, plan_.shards).at(shard.value());
  for (const SettleEntry& entry : report.entries) {
    Sequence& next = reported_[{shard, entry.order}];
    if (entry.sequence < next) continue;  // reported again
    next = entry.sequence.next();
    const auto it = arrived_.find({shard, entry.order, entry.sequence});
    if (it == arrived_.end())
      fail("P3: shard {} reports push {} of incarnation {}, which has not reached it", shard, entry.sequence,
           entry.order);
    if (!entry.refused) apply(it->second, range.begin, range.size());
    arrived_.erase(it);
  }
}

void LedgerChecker::apply(const Push& push, std::uint64_t begin, std::uint64_t size) {
  const Result<Update> update = decode_update(push.coding, push.payload, size, *codecs_.push);
  if (!update.ok()) fail("a push does not decode: {}", update.error().message);
  std::vector<double>& sum = applied_[push.order];
  sum.resize(plan_.parameters);
  const double workers = std::max(active_.at(push.epoch), 1u);
  for (std::size_t i = 0; i < update->values.size(); ++i) {
    const std::size_t at = begin + (update->dense ? i : update->indices[i]);
    const auto value = static_cast<double>(update->values[i]);
    sum[at] += value;
    w_[at] -= value / workers;
  }
  ++applications_;
}

void LedgerChecker::on_result(std::span<const float> w) const {
  // Exact: all values are multiples of 2^-10. A dead incarnation's rest is lost.
  for (const auto& [order, progress] : progress_) {
    if (dead_.contains(order)) continue;
    const auto applied = applied_.find(order);
    if (applied == applied_.end() || applied->second != progress)
      fail("P3: at rest the shards have applied something else of incarnation {} than it has computed",
           order);
  }
  // In float32 every application rounds once, and so does its multiplier.
  double largest = 64;
  for (const float value : w) largest = std::max(largest, static_cast<double>(std::abs(value)));
  const double tolerance = static_cast<double>(applications_ + 1) * largest * std::ldexp(1.0, -23);
  for (std::size_t i = 0; i < w_.size(); ++i)
    if (!(std::abs(static_cast<double>(w[i]) - w_[i]) <= tolerance))
      fail("P3: at rest parameter {} is {}, what has been applied makes {}", i, w[i], w_[i]);
}

}  // namespace nanduti::sim
