#include "test/sim/checker.h"

#include <algorithm>

#include "common/tensor/parameter_space.h"
#include "test/sim/checker_values.h"
#include "test/sim/problem.h"

namespace nanduti::sim {

Checker::Checker(const Plan& plan, Coverage& coverage)
    : plan_(plan),
      coverage_(coverage),
      shards_(plan.shards),
      counted_(plan.epochs, std::vector<std::uint8_t>(plan.samples)) {
  const auto ranges = split_into_shards(plan.parameters, plan.shards);
  for (const PlanCodec codec : {PlanCodec::kDense, PlanCodec::kQuarter, PlanCodec::kBlocks})
    codecs_.emplace(codec, codecs_of(codec));
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    shards_[k].codec = plan.codec;
    shards_[k].begin = ranges[k].begin;
    shards_[k].end = ranges[k].end;
  }
}

void Checker::on_membership_sent(const Membership& membership) {
  const auto [it, is_new] = memberships_.emplace(membership.epoch, membership);
  if (is_new && memberships_.size() != membership.epoch.value())
    fail("membership epoch {} where {} is next", membership.epoch, memberships_.size());
  for (const Member& member : membership.members)
    if (member.state == MemberState::kDead) dead_.insert(member.order);
}

void Checker::on_tune_sent(const Tune& tuning) {
  const auto [it, is_new] = tunings_.emplace(tuning.number, tuning);
  Tune& known = it->second;
  known.from_round = std::max(known.from_round, tuning.from_round);  // 0: to who joins
  // Another one may have been meant for who was away.
  const std::uint64_t next = tunings_.size() > 1 ? std::prev(it)->first + 1 : 1;
  if (is_new && (plan_.coordinator.durable ? tuning.number < next : tuning.number != next))
    fail("tuning {} is not the next one", tuning.number);
  if (known.bound != tuning.bound || known.round_samples != tuning.round_samples ||
      (tuning.from_round > Round() && known.from_round > Round() && known.from_round != tuning.from_round) ||
      known.settings != tuning.settings)
    fail("tuning {} says one thing to one and another to another", tuning.number);
  if (!plan_.auto_staleness || !plan_.tunings.empty()) return;
  if (!tuning.bound || *tuning.bound < 1 || *tuning.bound > *plan_.bound)
    fail("auto chooses the bound {} where {} is the most", tuning.bound.value_or(0), *plan_.bound);
  if (tuning.round_samples < plan_.round_samples ||
      tuning.round_samples > kAutoStepsMax * plan_.round_samples)
    fail("auto chooses rounds of {} samples", tuning.round_samples);
}

void Checker::on_in_force(std::uint64_t number, Round from) const {
  coverage_.count("tuning: in force");
  for (const Member& member : memberships_.rbegin()->second.members) {
    if (member.state != MemberState::kActive) continue;
    const auto of = incarnations_.find(member.order);
    if (of == incarnations_.end() || of->second.tuned < number)
      fail("tuning {} is in force, and active incarnation {} has not taken it", number, member.order);
    if (of->second.tuned == number && of->second.tuned_from > from)
      fail("tuning {} is in force from round {} on, but for incarnation {} from {}", number, from,
           member.order, of->second.tuned_from);
  }
}

void Checker::on_tune_received(ShardIndex shard, const Tune& tuning) {
  if (const auto codec = read_settings(tuning.settings); codec.ok()) shards_.at(shard.value()).codec = *codec;
}

void Checker::on_membership_received(ShardIndex index, MembershipEpoch epoch) {
  const std::size_t k = index.value();
  Shard& shard = shards_.at(k);
  if (epoch <= shard.epoch) return;
  if (epoch != shard.epoch.next() && plan_.crashes.empty())
    fail("shard {} hears of membership {} after {}", index, epoch, shard.epoch);
  while (shard.epoch < epoch) {
    shard.epoch = shard.epoch.next();
    for (const Member& member : memberships_.at(shard.epoch).members)
      if (member.state == MemberState::kDead) shard.fenced.insert(member.order);
  }
  for (const Member& member : memberships_.at(epoch).members)
    if (member.state != MemberState::kDead)
      shard.clocks[member.order] = std::max(shard.clocks[member.order], member.entry_clock);
  // In lockstep versions count steps: the first membership comes with version 0.
  if (plan_.deterministic && epoch == MembershipEpoch(1)) record_version(k);
}

void Checker::on_saved(std::uint32_t epoch, const std::vector<CutTaken>& shards) const {
  if (shards.size() != shards_.size()) fail("a checkpoint of {} shards", shards.size());
  for (std::size_t k = 0; k < shards.size(); ++k) {
    check_cut(k, shards[k].cut, values_of(shards[k].payload), "is saved");
    const std::uint32_t epochs = shards_[k].cuts.at(shards[k].cut).epochs;
    if (epochs < epoch)
      fail("cut {} of shard {} is saved as the model of {} epochs; it was taken after {}", shards[k].cut, k,
           epoch, epochs);
  }
}

void Checker::on_result(const std::vector<CutTaken>& shards) {
  if (shards.size() != shards_.size()) fail("a result of {} shards", shards.size());
  for (std::size_t k = 0; k < shards.size(); ++k) {
    const std::span<const float> cut = values_of(shards[k].payload);
    if (!same_bits(cut, shards_[k].w)) fail("the result of shard {} is not its w", k);
    if (!same_bits(shards_[k].shadow, shards_[k].w))
      fail("P4: shard {} is at rest with another shadow than w", k);
    result_.insert(result_.end(), cut.begin(), cut.end());
  }
  check_at_rest();
}

/// P3: what all rounds have given is settled, or lost with a dead incarnation. LedgerChecker adds it up.
void Checker::check_at_rest() const {
  for (const auto& [order, of] : incarnations_) {
    for (std::size_t k = 0; k < shards_.size(); ++k) {
      if (dead_.contains(order) || shards_[k].fenced.contains(order)) continue;
      for (const PushRecord& push : of.pushes[k]) {
        if (!push.settled) fail("P3: at rest a push of incarnation {} to shard {} is open", order, k);
        if (push.returns() && !push.returned)
          fail("P3: at rest what was not applied of a push of incarnation {} has not returned", order);
      }
      if (std::any_of(of.residual[k].begin(), of.residual[k].end(), [](float v) { return v != 0; }))
        fail("P3: at rest incarnation {} has a residual towards shard {}", order, k);
    }
  }
}

void Checker::on_done(std::uint64_t samples, std::uint64_t repeated_samples) const {
  for (std::uint32_t epoch = 0; epoch < plan_.epochs; ++epoch)
    for (std::uint64_t i = 0; i < plan_.samples; ++i)
      if (counted_[epoch][i] != 1)
        fail("P5: sample {} of epoch {} counts {} times", i, epoch, counted_[epoch][i]);
  if (samples != plan_.samples * plan_.epochs) fail("P5: the coordinator counts {} samples", samples);
  std::uint64_t repeated = 0;
  for (const auto& [order, of] : incarnations_)
    for (std::size_t s = 0; s < of.pushes[0].size(); ++s) {
      std::size_t settled = 0;
      for (const auto& pushes : of.pushes) settled += s < pushes.size() && pushes[s].settled ? 1 : 0;
      if (!of.pushes[0][s].flush && settled != 0 && settled != shards_.size())
        repeated += of.pushes[0][s].range.size();
    }
  if (repeated != repeated_samples)
    fail("P5: {} samples were trained again in part, the coordinator says {}", repeated, repeated_samples);
}

}  // namespace nanduti::sim
