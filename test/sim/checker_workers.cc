// The checker's model of workers: rounds, pushes, residuals, the gate.
#include <algorithm>

#include "test/sim/checker.h"
#include "test/sim/checker_values.h"
#include "test/sim/problem.h"
#include "test/support/host_values.h"

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
                        const SampleRange& range, const Codec& codec, bool flush) {
  std::vector<float>& residual = of.residual[k];
  const EncodedUpdate encoded = codec.encode(residual, progress, {round.value(), shards_[k].begin, 0});
  PushRecord push{std::make_shared<const Update>(encoded.update), encoded.payload, round, range, flush};
  of.pushes[k].push_back(std::move(push));
}

Checker::Settings Checker::settings_of(const Incarnation& of, Round round) const {
  const auto later = of.settings.upper_bound(round);
  if (later == of.settings.begin()) return {plan_.bound, plan_.round_samples, plan_.codec};
  return std::prev(later)->second;
}

/// From the round that it names on, or from the next one.
void Checker::on_tuned(IncarnationOrder order, const Replica::TuningTaken& taken) {
  Incarnation& of = incarnation(order);
  const auto tuning = tunings_.find(taken.number);
  if (tuning == tunings_.end())
    fail("incarnation {} takes tuning {}, which does not exist", order, taken.number);
  // Who joins when it is known has it from its first round on.
  const bool joins = of.begun == Round() && taken.from_round == Round();
  const Round from = joins ? Round() : std::max(tuning->second.from_round, of.begun);
  if (taken.from_round != from)
    fail("incarnation {} takes tuning {} from round {} on, not from {}", order, taken.number,
         taken.from_round, from);
  Settings settings = settings_of(of, from);
  settings.bound = tuning->second.bound;
  settings.round_samples = tuning->second.round_samples;
  if (const auto codec = read_settings(tuning->second.settings); codec.ok()) settings.codec = *codec;
  of.settings.erase(of.settings.lower_bound(from), of.settings.end());
  of.settings.emplace(from, settings);
  of.tuned = taken.number;
  of.tuned_from = from;
  coverage_.count("tuning: taken");
}

/// A round that has ended goes on: on samples that follow its own, and its clock does not move.
void Checker::check_extends(const Incarnation& of, const Replica::ComputeRound& round) const {
  if (!of.uncoded || of.uncoded->round != round.round || of.uncoded->range.epoch != round.range.epoch ||
      of.uncoded->range.end != round.range.begin)
    fail("round {} goes on at sample {}, where it has not ended", round.round, round.range.begin);
  if (!plan_.accumulate) fail("round {} goes on in a job whose rounds wait", round.round);
  const std::uint64_t samples = round.range.end - of.uncoded->range.begin;
  if (samples > of.uncoded->samples_max)
    fail("P7: round {} goes on to {} samples; {} are allowed", round.round, samples, of.uncoded->samples_max);
}

void Checker::on_compute(IncarnationOrder order, const Replica& replica, const Replica::ComputeRound& round) {
  Incarnation& of = incarnation(order);
  if (of.computing) fail("round {} begins before round {} has ended", round.round, of.computing->round);
  of.computing = round;
  if (round.extends) {
    check_extends(of, round);
    coverage_.count("round: extended");
    return check_merged(order, replica, round);
  }
  ++rounds_;
  of.begun = round.round.next();
  if (of.next_round && round.round < *of.next_round) fail("round {} comes again", round.round);
  const Settings settings = settings_of(of, round.round);
  if (round.range.size() > settings.round_samples)
    fail("round {} has {} samples where {} are a round", round.round, round.range.size(),
         settings.round_samples);

  std::vector<const VersionRecord*> records;
  MembershipEpoch newest;
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    records.push_back(&version_at(k, replica.shard(ShardIndex(static_cast<std::uint32_t>(k))).merged()));
    newest = std::max(newest, records[k]->epoch);
  }
  if (newest == MembershipEpoch()) fail("round {} begins without a membership", round.round);
  const Membership& membership = memberships_.at(newest);

  // P1: the replica includes rounds < round - bound of every active worker on every shard; its own it
  // includes at once, be they settled or in flight.
  const bool alone = plan_.own_work == 1 && count_active(membership) == 1 && is_active(membership, order);
  for (const Member& member : membership.members) {
    if (member.state != MemberState::kActive || !settings.bound || alone) continue;
    for (std::size_t k = 0; k < shards_.size(); ++k) {
      const Round clock = std::max(member.entry_clock, value_or_zero(records[k]->clocks, member.order));
      if (clock.value() + *settings.bound < round.round.value())
        fail(
            "P1: incarnation {} begins round {} at bound {}, but of incarnation {} its replica of shard {} "
            "includes "
            "rounds below {} only",
            order, round.round, *settings.bound, member.order, k, clock);
    }
  }

  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = replica.shard(ShardIndex(static_cast<std::uint32_t>(k)));
    const std::uint64_t unacknowledged =
        of.pushes[k].size() + (of.uncoded ? 1 : 0) - state.acknowledged().value();
    if (unacknowledged >= plan_.window_rounds_max)
      fail("P7: round {} of incarnation {} begins with {} pushes unacknowledged by shard {}", round.round,
           order, unacknowledged, k);
  }

  if (holds_too_much(replica))
    fail("P7: round {} of incarnation {} begins with {} bytes or more in flight", round.round, order,
         plan_.window_bytes_max);
  check_merged(order, replica, round);
}

void Checker::check_merged(IncarnationOrder order, const Replica& replica,
                           const Replica::ComputeRound& round) {
  const Incarnation& of = incarnation(order);
  // Merge: x = shadow - own_work * (in flight + not coded yet) - rho * residual. Who is dead and does not
  // know it yet hears no verdicts any more; its rounds are void.
  if (dead_.contains(order)) return;
  const auto own_work = static_cast<float>(plan_.own_work), rho = static_cast<float>(plan_.rho);
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const VersionRecord& record =
        version_at(k, replica.shard(ShardIndex(static_cast<std::uint32_t>(k))).merged());
    const std::vector<float>& shadow = record.shadow;
    std::vector<float> x = shadow;
    const std::uint64_t settled = value_or_zero(record.settled, order);
    for (std::size_t s = settled; s < of.pushes[k].size(); ++s)
      if (!of.pushes[k][s].returned || !of.pushes[k][s].refused())
        add_update(x, *of.pushes[k][s].update, -1.0f);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float uncoded = of.uncoded ? of.uncoded->progress[shards_[k].begin + i] : 0.0f;
      x[i] = own_work == 1 ? x[i] - uncoded : shadow[i] - own_work * ((shadow[i] - x[i]) + uncoded);
      x[i] -= rho * of.residual[k][i];
    }
    if (!same_bits(x, round.buffers->parameters.subspan(shards_[k].begin, x.size())))
      fail(
          "merge: the parameters of round {} of incarnation {} on shard {} are not shadow - own_work * (in "
          "flight + not coded) - rho * residual",
          round.round, order, k);
  }
}

void Checker::on_computed(IncarnationOrder order, std::span<const float> progress) {
  Incarnation& of = incarnation(order);
  if (!of.computing) fail("incarnation {} ends a round that it has not begun", order);
  if (of.computing->extends) {
    Uncoded& round = *of.uncoded;
    round.range.end = of.computing->range.end;
    for (std::size_t i = 0; i < progress.size(); ++i) round.progress[i] += progress[i];
    return of.computing.reset();
  }
  if (of.uncoded) fail("round {} of incarnation {} is still not coded", of.uncoded->round, order);
  of.uncoded = {of.computing->round,
                of.computing->range,
                {progress.begin(), progress.end()},
                kAccumulateRounds * settings_of(of, of.computing->round).round_samples,
                settings_of(of, of.computing->round).codec};
  of.next_round = of.computing->round.next();
  of.computing.reset();
}

void Checker::on_coded(IncarnationOrder order, const Replica::RoundCoded& coded) {
  Incarnation& of = incarnation(order);
  if (coded.pushes.size() != shards_.size())
    fail("incarnation {} makes {} pushes", order, coded.pushes.size());
  std::vector<float> progress;
  PlanCodec codec = plan_.codec;
  if (coded.name.range.size() > 0) {
    if (!of.uncoded || of.uncoded->round != coded.name.round || of.uncoded->range != coded.name.range)
      fail("incarnation {} codes round {}, which it has not computed", order, coded.name.round);
    codec = of.uncoded->codec;
    progress = std::exchange(of.uncoded, std::nullopt)->progress;
  } else {  // deterministic jobs: every rank takes part in every step
    if (!plan_.deterministic) fail("incarnation {} makes a round without samples", order);
    if (of.uncoded) fail("incarnation {} codes its rounds out of order", order);
    of.next_round = of.begun = coded.name.round.next();
  }
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    std::span<const float> part;
    if (!progress.empty())
      part = std::span(progress).subspan(shards_[k].begin, shards_[k].end - shards_[k].begin);
    make_push(of, k, part, coded.name.round, coded.name.range, *codecs_.at(codec).push, false);
  }
}

void Checker::on_flushed(IncarnationOrder order, const Replica::Flushed& flushed) {
  Incarnation& of = incarnation(order);
  if (of.uncoded) fail("incarnation {} flushes before round {} is coded", order, of.uncoded->round);
  for (std::size_t k = 0; k < flushed.pushes.size(); ++k) {
    const PushRecord* last = of.pushes[k].empty() ? nullptr : &of.pushes[k].back();
    const bool may_return = plan_.epochs_kept <= 1000 || plan_.age_power > 0;
    if (!plan_.deterministic && last != nullptr && last->flush && (!last->settled || !may_return))
      fail("incarnation {} flushes shard {} twice", order, k);
    const Push& push = flushed.pushes[k];
    // It leaves nothing behind, whatever the job's codec.
    make_push(of, k, {}, push.round, push.range, DenseFloat32Codec(), true);
  }
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
  record.base = push.base_version;
  record.acknowledged = push.acknowledged;
  // P7: what the shard has not acknowledged fits the window, or is a single push.
  const std::uint64_t acknowledged = core.acknowledged(index).value();
  std::size_t bytes = 0;
  for (std::uint64_t s = acknowledged; s <= sequence; ++s) bytes += pushes[s].payload.size();
  if (sequence > acknowledged && bytes > plan_.window_bytes_max)
    fail("P7: {} bytes of pushes of incarnation {} wait for shard {}", bytes, push.order, k);
}

/// What a shard has refused is in the residual again from the moment it is no longer in flight; of what it
/// has weighed, the rest, from the moment its worker knows.
void Checker::take_back(Incarnation& of, std::size_t k, const ShardReplica& state) {
  for (std::uint64_t s = of.closed[k]; s < of.pushes[k].size(); ++s) {
    PushRecord& push = of.pushes[k][s];
    if (!push.returns() || push.returned) continue;
    const auto& held = state.in_flight();
    if (std::any_of(held.begin(), held.end(),
                    [&](const auto& h) { return h.sequence == Sequence(s) && !h.weighed; }))
      continue;
    push.returned = true;
    coverage_.count("push: returned");
    if (push.refused()) {
      add_update(of.residual[k], *push.update, 1.0f);
      continue;
    }
    auto kept = std::make_shared<std::vector<float>>(push.update->values.begin(), push.update->values.end());
    for (std::size_t i = 0; i < kept->size(); ++i) {
      float& residual = of.residual[k][push.update->dense ? i : push.update->indices[i]];
      residual += (*kept)[i];
      (*kept)[i] *= static_cast<float>(push.applied_parts) / static_cast<float>(kAppliedWhole);
      residual -= (*kept)[i];
    }
    Update weighed = *push.update;
    weighed.values = *kept;
    weighed.owner = std::make_shared<std::pair<decltype(kept), decltype(push.update)>>(kept, push.update);
    push.update = std::make_shared<const Update>(std::move(weighed));
  }
}

/// P3: every push is in one state, and what is not in a push is in the residual.
void Checker::check_ledger(Incarnation& of, IncarnationOrder order, std::size_t k,
                           const ShardReplica& state) {
  const std::uint64_t handed_over = value_or_zero(version_at(k, state.merged()).settled, order);
  std::vector<PushRecord>& pushes = of.pushes[k];
  const auto is_closed = [&](std::uint64_t s) {
    return s < handed_over && (!pushes[s].returns() || pushes[s].returned);
  };
  while (of.closed[k] < pushes.size() && is_closed(of.closed[k])) ++of.closed[k];
  auto held = state.in_flight().begin();
  for (std::uint64_t s = of.closed[k]; s < pushes.size(); ++s) {
    const PushRecord& push = pushes[s];
    const bool in_flight = held != state.in_flight().end() && held->sequence == Sequence(s);
    if (in_flight) ++held;
    if (push.returned && push.refused()) {
      if (in_flight) fail("P3: push {} of incarnation {} has returned and is in flight", s, order);
      continue;
    }
    if (in_flight != (s >= handed_over))
      fail("P3: push {} of incarnation {} to shard {} is {}; the merged version holds those below {}", s,
           order, k, in_flight ? "in flight" : "given up", handed_over);
  }
  if (held != state.in_flight().end())
    fail("P3: incarnation {} holds push {} to shard {}, which was never made", order, held->sequence, k);
  const auto residual = host_values(state).residual();
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
  const std::size_t uncoded = replica.pending().empty() ? 0 : 1;
  std::size_t bytes =
      uncoded * 2 * plan_.parameters * sizeof(float);  // what it was computed from, and its result
  std::size_t rounds = 0;
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = replica.shard(ShardIndex(static_cast<std::uint32_t>(k)));
    rounds = std::max(rounds, state.in_flight().size() + uncoded);
    for (const ShardReplica::InFlight& sent : state.in_flight())
      bytes += sent.acknowledged ? 0 : sent.payload_bytes;
    for (const Update& update : host_values(state).in_flight())
      bytes += update.values.size() * sizeof(float) + update.indices.size() * sizeof(std::uint32_t);
  }
  return rounds >= 2 && bytes >= plan_.window_bytes_max;
}

/// P5: nobody waits at an open gate.
void Checker::check_waiting(IncarnationOrder order, const Replica& replica, const Incarnation& of) {
  if (!replica.offered() || of.computing) return;
  const Replica::OfferRounds& offer = *replica.offered();
  if (replica.is_lockstep()) return coverage_.count("gate: lockstep");
  MembershipEpoch newest;
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = replica.shard(ShardIndex(static_cast<std::uint32_t>(k)));
    if (!state.has_shadow()) fail("P5: incarnation {} has a lease and no shadow", order);
    if (state.merged().epoch < offer.active_from) return coverage_.count("gate: not active yet");
    newest = std::max(newest, state.merged().epoch);
  }
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = replica.shard(ShardIndex(static_cast<std::uint32_t>(k)));
    const std::uint64_t unacknowledged =
        of.pushes[k].size() + (of.uncoded ? 1 : 0) - state.acknowledged().value();
    if (unacknowledged >= plan_.window_rounds_max) return coverage_.count("gate: window");
  }
  if (holds_too_much(replica)) return coverage_.count("gate: bytes");
  const Membership& membership = memberships_.at(newest);
  Round round = std::max(replica.next_round(), offer.entry_clock);
  for (const Member& member : membership.members)
    if (member.order == order && member.state == MemberState::kActive)
      round = std::max(round, member.entry_clock);
  const bool alone = plan_.own_work == 1 && count_active(membership) == 1 && is_active(membership, order);
  const std::optional<std::uint32_t> bound = settings_of(of, round).bound;
  const bool open = !bound || alone ||
                    smallest_seen(replica, membership).value() >=
                        round.value() - std::min<std::uint64_t>(round.value(), *bound);
  if (open) fail("P5: incarnation {} waits before round {} though the gate is open", order, round);
  coverage_.count("gate: staleness");
}

void Checker::after_replica(IncarnationOrder order, const Replica& replica,
                            std::span<const Replica::Action> actions) {
  Incarnation& of = incarnation(order);
  const auto state_of = [&](std::size_t k) -> const ShardReplica& {
    return replica.shard(ShardIndex(static_cast<std::uint32_t>(k)));
  };
  for (std::size_t k = 0; k < shards_.size(); ++k) take_back(of, k, state_of(k));
  for (const Replica::Action& action : actions) {
    if (const auto* round = std::get_if<Replica::ComputeRound>(&action)) on_compute(order, replica, *round);
    const auto* report = std::get_if<Replica::Report>(&action);
    if (report == nullptr) continue;
    if (const auto* coded = std::get_if<Replica::RoundCoded>(report)) on_coded(order, *coded);
    if (const auto* taken = std::get_if<Replica::TuningTaken>(report)) on_tuned(order, *taken);
    if (const auto* flushed = std::get_if<Replica::Flushed>(report)) on_flushed(order, *flushed);
  }
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    const ShardReplica& state = state_of(k);
    if (!state.has_shadow()) continue;
    // Who is dead and does not know it yet hears no verdicts any more.
    if (!dead_.contains(order) && !shards_[k].fenced.contains(order)) check_ledger(of, order, k, state);
    if (state.merged().version == of.checked[k]) continue;
    of.checked[k] = state.merged().version;
    if (state.merged().chain != shards_[k].chain) fail("P4: a replica of shard {} is on another chain", k);
    if (!same_bits(host_values(state).shadow(), version_at(k, state.merged()).shadow))
      fail("P4: incarnation {} holds another version {} of shard {} than was published", order,
           state.merged().version, k);
  }
  check_waiting(order, replica, of);
}

}  // namespace nanduti::sim
