// The checker's model of workers: rounds, pushes, residuals, the gate.
#include <algorithm>

#include "test/sim/checker.h"
#include "test/sim/checker_values.h"
#include "test/sim/problem.h"

namespace nanduti::sim {

namespace {

constexpr Version kNotChecked{~std::uint64_t{0}};

}  // namespace

Checker::Incarnation& Checker::incarnation(IncarnationOrder order) {
  Incarnation& of = incarnations_[order];
  if (of.residual.empty()) {
    of.checked.assign(shards_.size(), kNotChecked);
    of.pushes.resize(shards_.size());
    of.closed.resize(shards_.size());
    for (const Shard& shard : shards_) of.residual.emplace_back(shard.end - shard.begin);
  }
  return of;
}

void Checker::make_push(Incarnation& of, std::size_t k, std::span<const float> progress, Round round,
                        const SampleRange& range, bool flush) {
  std::vector<float>& residual = of.residual[k];
  for (std::size_t i = 0; i < progress.size(); ++i) residual[i] += progress[i];
  // A flush leaves nothing behind, whatever the job's codec.
  const EncodedUpdate encoded = flush ? DenseFloat32Codec().encode(residual, {})
                                      : codec_->encode(residual, {plan_.seed, round.value()});
  add(residual, encoded.update, -1.0f);
  of.pushes[k].push_back(
      {std::make_shared<const Update>(encoded.update), encoded.payload, round, range, flush, {}});
}

void Checker::on_compute(const ClientCore& core, const ClientCore::ComputeRound& round) {
  ++rounds_;
  const Replica& replica = *core.replica();
  Incarnation& of = incarnation(core.order());
  if (of.computing) fail("round {} begins before round {} has ended", round.round, of.computing->round);
  if (of.next_round && round.round < *of.next_round) fail("round {} comes again", round.round);
  of.computing = round;

  std::vector<const VersionRecord*> records;
  MembershipEpoch newest;
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    records.push_back(&version_at(k, replica.shard(ShardIndex(static_cast<std::uint32_t>(k))).merged()));
    newest = std::max(newest, records[k]->epoch);
  }
  if (newest == MembershipEpoch()) fail("round {} begins without a membership", round.round);
  const Membership& membership = memberships_.at(newest);

  // P1: the replica includes rounds < round - bound of every active worker on every shard.
  for (const Member& member : membership.members) {
    if (member.state != MemberState::kActive || !plan_.bound) continue;
    for (std::size_t k = 0; k < shards_.size(); ++k) {
      const Round clock = std::max(member.entry_clock, value_or_zero(records[k]->clocks, member.order));
      if (clock.value() + *plan_.bound < round.round.value())
        fail(
            "P1: incarnation {} begins round {} at bound {}, but of incarnation {} its replica of shard {} "
            "includes "
            "rounds below {} only",
            core.order(), round.round, *plan_.bound, member.order, k, clock);
    }
  }

  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = replica.shard(ShardIndex(static_cast<std::uint32_t>(k)));
    if (of.pushes[k].size() - state.acknowledged().value() >= plan_.window_rounds_max)
      fail("P7: round {} of incarnation {} begins with {} pushes unacknowledged by shard {}", round.round,
           core.order(), of.pushes[k].size() - state.acknowledged().value(), k);
  }
  if (holds_too_much(replica))
    fail("P7: round {} of incarnation {} begins with {} bytes or more in flight", round.round, core.order(),
         plan_.window_bytes_max);

  // Merge: x = shadow - in flight - rho * residual. Who is dead and does not know it yet hears no verdicts
  // any more; its rounds are void.
  if (dead_.contains(core.order())) return;
  const float rho = 1.0f / static_cast<float>(std::max(count_active(membership), 1u));
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    std::vector<float> x = records[k]->shadow;
    const std::uint64_t settled = value_or_zero(records[k]->settled, core.order());
    for (std::size_t s = settled; s < of.pushes[k].size(); ++s)
      if (!of.pushes[k][s].returned) add(x, *of.pushes[k][s].update, -1.0f);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] -= rho * of.residual[k][i];
    if (!same_bits(x, std::span(*round.parameters).subspan(shards_[k].begin, x.size())))
      fail(
          "merge: the parameters of round {} of incarnation {} on shard {} are not shadow - in flight - rho "
          "* residual",
          round.round, core.order(), k);
  }
}

void Checker::on_computed(IncarnationOrder order, std::span<const float> progress) {
  Incarnation& of = incarnation(order);
  if (!of.computing) fail("incarnation {} ends a round that it has not begun", order);
  for (std::size_t k = 0; k < shards_.size(); ++k)
    make_push(of, k, progress.subspan(shards_[k].begin, shards_[k].end - shards_[k].begin),
              of.computing->round, of.computing->range, false);
  of.next_round = of.computing->round.next();
  of.computing.reset();
}

/// What is evaluated is the cut that the coordinator named, in all its shards.
void Checker::on_evaluate(const ClientCore::EvaluateCut& work) const {
  const auto lease = evaluations_.find(work.lease);
  if (lease == evaluations_.end()) fail("evaluation {} was lent to nobody", work.lease);
  if (work.begin != lease->second.begin || work.end != lease->second.end)
    fail("test samples {} to {} are evaluated for {} to {}", work.begin, work.end, lease->second.begin,
         lease->second.end);
  for (std::size_t k = 0; k < shards_.size(); ++k)
    check_cut(k, lease->second.cut,
              std::span(*work.parameters).subspan(shards_[k].begin, shards_[k].end - shards_[k].begin),
              "is evaluated");
}

void Checker::on_version_received(IncarnationOrder order, ShardIndex shard) {
  incarnation(order).checked[shard.value()] = kNotChecked;
}

void Checker::on_push_sent(const ClientCore& core, const Push& push, ShardIndex index) {
  const std::size_t k = index.value();
  Incarnation& of = incarnation(push.order);
  if (push.order != core.order())
    fail("a push under incarnation {} leaves incarnation {}", push.order, core.order());
  const std::uint64_t sequence = push.sequence.value();
  std::vector<PushRecord>& pushes = of.pushes[k];
  if (sequence >= pushes.size())
    fail("push {} of incarnation {} comes from nowhere", push.sequence, push.order);
  PushRecord& record = pushes[sequence];
  const auto theirs = push.payload.view(), ours = record.payload.view();
  const bool same = push.round == record.round && push.range == record.range &&
                    (push.lease == LeaseId()) == record.flush &&
                    std::equal(theirs.begin(), theirs.end(), ours.begin(), ours.end());
  if (!same)
    fail("push {} of incarnation {} to shard {} is not what its round gave", push.sequence, push.order, k);
  for (const auto& other : of.pushes)
    if (sequence < other.size() && other[sequence].epoch && *other[sequence].epoch != push.epoch)
      fail("push {} of incarnation {} names epochs {} and {}", push.sequence, push.order, push.epoch,
           *other[sequence].epoch);
  record.epoch = push.epoch;
  // P7: what the shard has not acknowledged fits the window, or is a single push.
  const std::uint64_t acknowledged = core.replica()->shard(index).acknowledged().value();
  std::size_t bytes = 0;
  for (std::uint64_t s = acknowledged; s <= sequence; ++s) bytes += pushes[s].payload.size();
  if (sequence > acknowledged && bytes > plan_.window_bytes_max)
    fail("P7: {} bytes of pushes of incarnation {} wait for shard {}", bytes, push.order, k);
}

/// What a shard has refused is in the residual again from the moment it is no longer in flight.
void Checker::take_back(Incarnation& of, std::size_t k, const ShardReplica& state) {
  for (std::uint64_t s = of.closed[k]; s < of.pushes[k].size(); ++s) {
    PushRecord& push = of.pushes[k][s];
    if (!push.refused || push.returned) continue;
    const auto& held = state.in_flight();
    if (std::any_of(held.begin(), held.end(), [&](const auto& h) { return h.push.sequence == Sequence(s); }))
      continue;
    push.returned = true;
    add(of.residual[k], *push.update, 1.0f);
    coverage_.count("push: returned");
  }
}

/// Pushes that no round with samples has given: a flush, or a round without samples.
void Checker::take_up_pushes(Incarnation& of, std::size_t k, const ShardReplica& state) {
  for (const ShardReplica::InFlight& sent : state.in_flight()) {
    const Push& push = sent.push;
    if (push.sequence.value() < of.pushes[k].size()) continue;
    const bool flush = push.lease == LeaseId();
    if (push.sequence.value() != of.pushes[k].size() || (!flush && push.range.size() != 0))
      fail("push {} of incarnation {} to shard {} comes from nowhere", push.sequence, push.order, k);
    if (!flush && !plan_.deterministic) fail("incarnation {} makes a round without samples", push.order);
    if (flush && !plan_.deterministic && !of.pushes[k].empty() && of.pushes[k].back().flush &&
        plan_.epochs_kept > 1000)
      fail("incarnation {} flushes shard {} twice", push.order, k);
    make_push(of, k, {}, push.round, push.range, flush);
    if (!flush) of.next_round = push.round.next();
  }
}

/// P3: every push is in one state, and what is not in a push is in the residual.
void Checker::check_ledger(Incarnation& of, IncarnationOrder order, std::size_t k,
                           const ShardReplica& state) {
  const std::uint64_t handed_over = value_or_zero(version_at(k, state.merged()).settled, order);
  std::vector<PushRecord>& pushes = of.pushes[k];
  const auto is_closed = [&](std::uint64_t s) {
    return s < handed_over && (!pushes[s].refused || pushes[s].returned);
  };
  while (of.closed[k] < pushes.size() && is_closed(of.closed[k])) ++of.closed[k];
  auto held = state.in_flight().begin();
  for (std::uint64_t s = of.closed[k]; s < pushes.size(); ++s) {
    const PushRecord& push = pushes[s];
    const bool in_flight = held != state.in_flight().end() && held->push.sequence == Sequence(s);
    if (in_flight) ++held;
    if (push.returned) {
      if (in_flight) fail("P3: push {} of incarnation {} has returned and is in flight", s, order);
      continue;
    }
    if (in_flight != (s >= handed_over))
      fail("P3: push {} of incarnation {} to shard {} is {}; the merged version holds those below {}", s,
           order, k, in_flight ? "in flight" : "given up", handed_over);
  }
  if (held != state.in_flight().end())
    fail("P3: incarnation {} holds push {} to shard {}, which was never made", order, held->push.sequence, k);
  const auto residual = state.residual();
  if (!same_bits(residual, of.residual[k]) &&
      !std::equal(residual.begin(), residual.end(), of.residual[k].begin(), of.residual[k].end()))
    fail("P3: the residual of incarnation {} towards shard {} is not progress - pushed + returned", order, k);
}

/// A version names the clocks of those who are active in it, and of nobody else.
Round Checker::smallest_seen(const Replica& replica, const Membership& membership) const {
  Round smallest(~std::uint64_t{0});
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const VersionRecord& seen =
        version_at(k, replica.shard(ShardIndex(static_cast<std::uint32_t>(k))).merged());
    for (const Member& member : membership.members) {
      if (member.state != MemberState::kActive) continue;
      const bool named =
          seen.epoch != MembershipEpoch() && is_active(memberships_.at(seen.epoch), member.order);
      const Round clock = named ? value_or_zero(seen.clocks, member.order) : Round();
      smallest = std::min(smallest, std::max(member.entry_clock, clock));
    }
  }
  return smallest;
}

/// Whether the window has ended by its bytes.
bool Checker::holds_too_much(const Replica& replica) const {
  if (replica.is_lockstep()) return false;
  std::size_t bytes = 0, rounds = 0;
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const auto& in_flight = replica.shard(ShardIndex(static_cast<std::uint32_t>(k))).in_flight();
    rounds = std::max(rounds, in_flight.size());
    for (const ShardReplica::InFlight& sent : in_flight)
      bytes += sent.push.payload.size() + sent.update.values.size() * sizeof(float) +
               sent.update.indices.size() * sizeof(std::uint32_t);
  }
  return rounds >= 2 && bytes >= plan_.window_bytes_max;
}

/// P5: nobody waits at an open gate.
void Checker::check_waiting(const ClientCore& core, const Incarnation& of) {
  const LeaseGrant* lease = core.next_lease();
  if (lease == nullptr || core.is_busy()) return;
  const Replica& replica = *core.replica();
  if (replica.is_lockstep()) return coverage_.count("gate: lockstep");
  MembershipEpoch newest;
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = replica.shard(ShardIndex(static_cast<std::uint32_t>(k)));
    if (!state.has_shadow()) return coverage_.count("gate: no parameters");
    if (state.merged().epoch < lease->active_from) return coverage_.count("gate: not active yet");
    newest = std::max(newest, state.merged().epoch);
  }
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = replica.shard(ShardIndex(static_cast<std::uint32_t>(k)));
    if (of.pushes[k].size() - state.acknowledged().value() >= plan_.window_rounds_max)
      return coverage_.count("gate: window");
  }
  if (holds_too_much(replica)) return coverage_.count("gate: bytes");
  Round round = std::max(core.next_round(), lease->entry_clock);
  for (const Member& member : memberships_.at(newest).members)
    if (member.order == core.order() && member.state == MemberState::kActive)
      round = std::max(round, member.entry_clock);
  const bool open = !plan_.bound || smallest_seen(replica, memberships_.at(newest)).value() >=
                                        round.value() - std::min<std::uint64_t>(round.value(), *plan_.bound);
  if (open) fail("P5: incarnation {} waits before round {} though the gate is open", core.order(), round);
  coverage_.count("gate: staleness");
}

void Checker::after_worker(const ClientCore& core) {
  const Replica* replica = core.replica();
  if (replica == nullptr || core.order() == IncarnationOrder()) return;
  Incarnation& of = incarnation(core.order());
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = replica->shard(ShardIndex(static_cast<std::uint32_t>(k)));
    take_back(of, k, state);
    take_up_pushes(of, k, state);
    if (!state.has_shadow()) continue;
    // Who is dead and does not know it yet hears no verdicts any more.
    if (!dead_.contains(core.order()) && !shards_[k].fenced.contains(core.order()))
      check_ledger(of, core.order(), k, state);
    if (state.merged().version == of.checked[k]) continue;
    of.checked[k] = state.merged().version;
    if (state.merged().chain != shards_[k].chain) fail("P4: a replica of shard {} is on another chain", k);
    if (!same_bits(state.shadow(), version_at(k, state.merged()).shadow))
      fail("P4: incarnation {} holds another version {} of shard {} than was published", core.order(),
           state.merged().version, k);
  }
  check_waiting(core, of);
}

}  // namespace nanduti::sim
