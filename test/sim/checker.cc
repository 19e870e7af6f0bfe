#include "test/sim/checker.h"

#include <algorithm>
#include <cstring>

#include "common/tensor/parameter_space.h"
#include "test/sim/problem.h"
#include "test/sim/trace.h"

namespace nanduti::sim {

namespace {

/// ReplicaOptions::window_rounds_max, as it is by default.
constexpr std::uint64_t kWindowRounds = 64;
/// As simulation.cc sets it.
constexpr std::size_t kSubscriberBytesMax = 1 << 16;

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

/// target += factor * update, coordinate by coordinate in float32.
void add(std::span<float> target, const Update& update, float factor) {
  if (update.size != target.size()) fail("an update of {} for {} values", update.size, target.size());
  for (std::size_t i = 0; i < update.values.size(); ++i)
    target[update.dense ? i : update.indices[i]] += factor * update.values[i];
}

std::uint32_t count_active(const Membership& membership) {
  std::uint32_t count = 0;
  for (const Member& member : membership.members) count += member.state == MemberState::kActive ? 1 : 0;
  return count;
}

bool is_active(const Membership& membership, IncarnationOrder order) {
  return std::any_of(membership.members.begin(), membership.members.end(), [&](const Member& member) {
    return member.order == order && member.state == MemberState::kActive;
  });
}

template <class Map, class Key>
auto value_or_zero(const Map& map, const Key& key) {
  const auto it = map.find(key);
  return it == map.end() ? typename Map::mapped_type{} : it->second;
}

}  // namespace

Checker::Checker(const Plan& plan, Coverage& coverage)
    : plan_(plan),
      coverage_(coverage),
      codec_(codec_of(plan)),
      shards_(plan.shards),
      counted_(plan.epochs, std::vector<std::uint8_t>(plan.samples)) {
  const auto ranges = split_into_shards(plan.parameters, plan.shards);
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    shards_[k].begin = ranges[k].begin;
    shards_[k].end = ranges[k].end;
  }
}

// ---- membership ----

void Checker::on_membership_sent(const Membership& membership) {
  const auto [it, is_new] = memberships_.emplace(membership.epoch, membership);
  if (is_new && memberships_.size() != membership.epoch.value())
    fail("membership epoch {} where {} is next", membership.epoch, memberships_.size());
  for (const Member& member : membership.members)
    if (member.state == MemberState::kDead) dead_.insert(member.order);
}

void Checker::on_membership_received(ShardIndex index, MembershipEpoch epoch) {
  const std::size_t k = index.value();
  Shard& shard = shards_.at(k);
  if (epoch <= shard.epoch) return;
  if (epoch != shard.epoch.next())
    fail("shard {} hears of membership {} after {}", index, epoch, shard.epoch);
  shard.epoch = epoch;
  for (const Member& member : memberships_.at(epoch).members) {
    if (member.state == MemberState::kDead)
      shard.fenced.insert(member.order);
    else
      shard.clocks[member.order] = std::max(shard.clocks[member.order], member.entry_clock);
  }
  // In lockstep versions count steps: the first membership comes with version 0.
  if (plan_.deterministic && epoch == MembershipEpoch(1)) record_version(k);
}

// ---- pushes ----

Checker::Incarnation& Checker::incarnation(IncarnationOrder order) {
  Incarnation& of = incarnations_[order];
  if (of.residual.empty()) {
    of.checked.assign(shards_.size(), Version(~std::uint64_t{0}));
    of.pushes.resize(shards_.size());
    of.closed.resize(shards_.size());
    for (const Shard& shard : shards_) {
      of.residual.emplace_back(shard.end - shard.begin);
      of.progress.emplace_back(shard.end - shard.begin);
    }
  }
  return of;
}

void Checker::make_push(Incarnation& of, std::size_t k, std::span<const float> progress, Round round,
                        const SampleRange& range, bool flush) {
  std::vector<float>& residual = of.residual[k];
  for (std::size_t i = 0; i < progress.size(); ++i) {
    residual[i] += progress[i];
    of.progress[k][i] += static_cast<double>(progress[i]);
  }
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
    if (of.pushes[k].size() - state.acknowledged().value() >= kWindowRounds)
      fail("P7: round {} of incarnation {} begins with {} pushes unacknowledged by shard {}", round.round,
           core.order(), of.pushes[k].size() - state.acknowledged().value(), k);
  }

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
}

// ---- shards ----

void Checker::settle(std::size_t k, IncarnationOrder order, std::uint64_t sequence, bool refused) {
  Shard& shard = shards_[k];
  std::uint64_t& next = shard.settled[order];
  if (sequence != next)
    fail("P2: shard {} settles push {} of incarnation {} where push {} is next", k, sequence, order, next);
  ++next;
  if (shard.fenced.contains(order))
    fail("P2: shard {} settles push {} of dead incarnation {}", k, sequence, order);
  Incarnation& of = incarnation(order);
  if (sequence >= of.pushes[k].size())
    fail("P2: shard {} settles push {} of incarnation {}, which was never made", k, sequence, order);
  PushRecord& push = of.pushes[k][sequence];
  if (!push.epoch)
    fail("P2: shard {} settles push {} of incarnation {}, which was never sent", k, sequence, order);
  if (*push.epoch > shard.epoch)
    fail("shard {} settles a push of membership {} at {}", k, *push.epoch, shard.epoch);
  const bool too_old = push.epoch->value() + plan_.epochs_kept <= shard.epoch.value();
  if (refused != too_old)
    fail("shard {} {} push {} of incarnation {}, made in membership {}, at {}", k,
         refused ? "refuses" : "applies", sequence, order, *push.epoch, shard.epoch);
  push.settled = true;
  push.refused = refused;
  if (refused) {
    shard.refused[order].push_back(Sequence(sequence));
  } else {
    const std::uint32_t workers = std::max(count_active(memberships_.at(*push.epoch)), 1u);
    const float multiplier = 1.0f / static_cast<float>(workers);
    for (std::size_t i = 0; i < push.update->values.size(); ++i)
      shard.w[push.update->dense ? i : push.update->indices[i]] -= multiplier * push.update->values[i];
  }
  if (push.flush) return;
  shard.clocks[order] = std::max(shard.clocks[order], push.round.next());
  for (const auto& pushes : of.pushes)
    if (sequence >= pushes.size() || !pushes[sequence].settled) return;
  // Settled on all shards: its samples count.
  for (std::uint64_t i = push.range.begin; i < push.range.end; ++i)
    if (++counted_.at(push.range.epoch.value()).at(i) > 1)
      fail("P5: sample {} of epoch {} counts twice, now by incarnation {}", i, push.range.epoch, order);
}

void Checker::check_header(std::size_t k, const VersionHeader& header) const {
  const Shard& shard = shards_[k];
  const VersionRecord& record = version_at(k, header);
  if (header.epoch != record.epoch)
    fail("version {} of shard {} names membership {}, not {}", header.version, k, header.epoch, record.epoch);
  for (const Verdict& verdict : header.verdicts) {
    if (verdict.refused != value_or_zero(record.refused, verdict.order))
      fail("P3: version {} of shard {} names other refusals of incarnation {} than there were", header.version,
           k, verdict.order);
    if (verdict.next_sequence.value() != value_or_zero(record.settled, verdict.order))
      fail(
          "P4: version {} of shard {} says that it holds pushes of incarnation {} below {}; it holds those "
          "below {}",
          header.version, k, verdict.order, verdict.next_sequence,
          value_or_zero(record.settled, verdict.order));
  }
  for (const MemberClock& member : header.active)
    if (member.clock != value_or_zero(record.clocks, member.order))
      fail("P4: version {} of shard {} says clock {} of incarnation {}, not {}", header.version, k,
           member.clock, member.order, value_or_zero(record.clocks, member.order));
  if (header.chain != shard.chain) fail("shard {} has changed its chain", k);
}

void Checker::record_version(std::size_t k) {
  Shard& shard = shards_[k];
  shard.history[shard.version] = std::make_shared<const VersionRecord>(
      VersionRecord{shard.shadow, shard.epoch, shard.settled, shard.clocks, shard.refused});
  shard.published_through = smallest_active_clock(shard).value_or(shard.published_through);
}

const Checker::VersionRecord& Checker::version_at(std::size_t k, const VersionHeader& merged) const {
  const Shard& shard = shards_[k];
  const auto it = shard.history.find(merged.version);
  if (it == shard.history.end()) fail("P4: version {} of shard {} was never published", merged.version, k);
  return *it->second;
}

void Checker::publish(std::size_t k, const Publish* message, const ShardCore& core) {
  Shard& shard = shards_[k];
  shard.version = shard.version.next();
  std::vector<float> change(shard.w.size());
  for (std::size_t i = 0; i < change.size(); ++i) change[i] = shard.w[i] - shard.shadow[i];
  const EncodedUpdate encoded = codec_->encode(change, {plan_.seed, shard.version.value()});
  if (message != nullptr) {
    if (message->payload.empty()) return;
    const auto theirs = message->payload.view(), ours = encoded.payload.view();
    if (!std::equal(theirs.begin(), theirs.end(), ours.begin(), ours.end()))
      fail("P4: version {} of shard {} does not carry Q(w - shadow)", shard.version, k);
    return add(shard.shadow, encoded.update, 1.0f);
  }
  // Nobody was sent an addition: nothing was added, or Q(w - shadow), or all of it at rest.
  const auto theirs = core.values()->shadow();
  if (same_bits(theirs, shard.shadow)) return;
  std::vector<float> quantised = shard.shadow;
  add(quantised, encoded.update, 1.0f);
  if (same_bits(theirs, quantised)) {
    shard.shadow = std::move(quantised);
    return;
  }
  if (!same_bits(theirs, shard.w))
    fail("P4: version {} of shard {} is neither Q(w - shadow) nor w", shard.version, k);
  shard.shadow = shard.w;
}

void Checker::after_shard(ShardIndex index, const ShardCore& core,
                          std::span<const ShardCore::Action> actions) {
  const std::size_t k = index.value();
  Shard& shard = shards_.at(k);
  const ShardValues* values = core.values();
  if (values == nullptr) return;
  if (!shard.loaded) {
    shard.loaded = true;
    shard.w = shard.shadow = initial_values(shard.begin, shard.end);
    if (!same_bits(values->w(), shard.w)) fail("shard {} does not begin with the initial values", k);
    record_version(k);
  }

  // What the shard says it has settled, and the versions it has sent.
  struct Settled {
    IncarnationOrder order;
    std::uint64_t sequence = 0;
    bool refused = false;
  };
  std::vector<Settled> settles;
  std::map<IncarnationOrder, std::uint64_t> reported = shard.settled;
  std::map<Version, const Publish*> publishes;
  std::vector<const VersionHeader*> headers;
  std::set<IncarnationOrder> fenced_now;
  for (const ShardCore::Action& action : actions) {
    if (const auto* admit = std::get_if<ShardCore::Admit>(&action)) {
      if (!admit->admission) return;  // closed
      continue;
    }
    const auto* send = std::get_if<SendMessage>(&action);
    if (send == nullptr) continue;
    if (const auto* report = std::get_if<SettleReport>(&send->message)) {
      for (const SettleEntry& entry : report->entries) {
        if (entry.sequence.value() < reported[entry.order]) continue;  // reported again
        settles.push_back({entry.order, entry.sequence.value(), entry.refused});
        reported[entry.order] = entry.sequence.value() + 1;
      }
    } else if (const auto* publish_message = std::get_if<Publish>(&send->message)) {
      publishes.emplace(publish_message->header.version, publish_message);
      headers.push_back(&publish_message->header);
    } else if (const auto* assign = std::get_if<Assign>(&send->message)) {
      headers.push_back(&assign->header);
    } else if (const auto* fenced = std::get_if<FenceDone>(&send->message)) {
      fenced_now.insert(fenced->order);
    }
  }
  // Without a coordinator nothing is reported: then the ledgers say how much, in order of incarnation.
  for (auto& [order, of] : incarnations_) {
    const PushLedger* ledger = core.ledger(order);
    const std::uint64_t next = ledger == nullptr ? 0 : ledger->next_sequence().value();
    for (std::uint64_t s = reported[order]; s < next; ++s) {
      const auto& refused = ledger->refused();
      settles.push_back({order, s, std::find(refused.begin(), refused.end(), Sequence(s)) != refused.end()});
    }
  }

  std::size_t done = 0;
  const auto settle_below = [&](const VersionHeader* header) {
    std::vector<Settled> later;
    for (const Settled& settled : settles) {
      bool included = header == nullptr;
      if (header != nullptr)
        for (const Verdict& verdict : header->verdicts)
          included |= verdict.order == settled.order && settled.sequence < verdict.next_sequence.value();
      if (included)
        settle(k, settled.order, settled.sequence, settled.refused), ++done;
      else
        later.push_back(settled);
    }
    settles = std::move(later);
  };
  while (shard.version < values->version()) {
    const auto message = publishes.find(shard.version.next());
    const bool sent = message != publishes.end();
    settle_below(sent ? &message->second->header : nullptr);
    publish(k, sent ? message->second : nullptr, core);
    record_version(k);
  }
  if (shard.version != values->version()) fail("shard {} goes back to version {}", k, values->version());
  settle_below(nullptr);
  shard.fenced.insert(fenced_now.begin(), fenced_now.end());
  if (!same_bits(values->w(), shard.w))
    fail("P2: w of shard {} is not what its settled pushes make it ({} settled in this event)", k, done);
  if (!same_bits(values->shadow(), shard.shadow))
    fail("P4: the shadow of shard {} is not what was published", k);
  for (const VersionHeader* header : headers) {
    if (shard.chain == ChainId()) shard.chain = header->chain;
    check_header(k, *header);
  }
  check_publishes(k);
  check_bounds(k, core);
}

std::optional<Round> Checker::smallest_active_clock(const Shard& shard) const {
  std::optional<Round> smallest;
  if (shard.epoch == MembershipEpoch()) return smallest;
  for (const Member& member : memberships_.at(shard.epoch).members) {
    if (member.state != MemberState::kActive) continue;
    const Round clock = value_or_zero(shard.clocks, member.order);
    smallest = std::min(smallest.value_or(clock), clock);
  }
  return smallest;
}

/// P5: a round that every active worker has done is published, and so is a new membership.
void Checker::check_publishes(std::size_t k) const {
  const Shard& shard = shards_[k];
  if (plan_.deterministic && shard.epoch <= MembershipEpoch(1)) return;  // every step is a version
  const VersionRecord& newest = *shard.history.at(shard.version);
  if (newest.epoch != shard.epoch)
    fail("P5: shard {} has not published membership {}", k, shard.epoch);
  const std::optional<Round> clock = smallest_active_clock(shard);
  if (clock && *clock > shard.published_through)
    fail("P5: shard {} withholds the rounds below {} of all active workers", k, *clock);
}

/// P7: what a shard holds has its maximum.
void Checker::check_bounds(std::size_t k, const ShardCore& core) const {
  const ShardCore::Occupancy held = core.occupancy();
  if (held.cuts > kCutsMax) fail("P7: shard {} holds {} cuts", k, held.cuts);
  // In lockstep a worker may have to hear every version: its session's queue is the maximum.
  if (!plan_.deterministic && held.subscriber_bytes > kSubscriberBytesMax)
    fail("P7: shard {} has sent {} bytes that a worker has not acknowledged", k, held.subscriber_bytes);
  // No worker can do more without the coordinator than it has on lease.
  if (held.unacknowledged_entries > incarnations_.size() * (2 * kLeaseRoundsMax + 8))
    fail("P7: shard {} keeps {} settled pushes to report", k, held.unacknowledged_entries);
  for (const auto& [order, of] : incarnations_)
    if (const PushLedger* ledger = core.ledger(order); ledger && ledger->waiting_count() > kReorderMax)
      fail("P7: shard {} holds {} pushes of incarnation {}", k, ledger->waiting_count(), order);
}

// ---- workers ----

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
    if (!flush && !plan_.deterministic)
      fail("incarnation {} makes a round without samples", push.order);
    if (flush && !plan_.deterministic && !of.pushes[k].empty() && of.pushes[k].back().flush &&
        plan_.epochs_kept > 1000)
      fail("incarnation {} flushes shard {} twice", push.order, k);
    make_push(of, k, {}, push.round, push.range, flush);
    if (!flush) of.next_round = push.round.next();
  }
}

/// P3: every push is in one state, and what is not in a push is in the residual.
void Checker::check_ledger(Incarnation& of, IncarnationOrder order, std::size_t k, const ShardReplica& state) {
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
      fail("P3: push {} of incarnation {} to shard {} is {}; the merged version holds those below {}", s, order,
           k, in_flight ? "in flight" : "given up", handed_over);
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
      const bool named = seen.epoch != MembershipEpoch() && is_active(memberships_.at(seen.epoch), member.order);
      const Round clock = named ? value_or_zero(seen.clocks, member.order) : Round();
      smallest = std::min(smallest, std::max(member.entry_clock, clock));
    }
  }
  return smallest;
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
    if (of.pushes[k].size() - state.acknowledged().value() >= kWindowRounds)
      return coverage_.count("gate: window");
  }
  const Round round = std::max(core.next_round(), lease->entry_clock);
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

// ---- the end ----

void Checker::on_result(const std::vector<CutTaken>& shards) {
  if (shards.size() != shards_.size()) fail("a result of {} shards", shards.size());
  for (std::size_t k = 0; k < shards.size(); ++k) {
    const auto* values = reinterpret_cast<const float*>(shards[k].payload.data());
    const std::span<const float> cut(values, shards[k].payload.size() / sizeof(float));
    if (!same_bits(cut, shards_[k].w)) fail("the result of shard {} is not its w", k);
    if (!same_bits(shards_[k].shadow, shards_[k].w))
      fail("P4: shard {} is at rest with another shadow than w", k);
    result_.insert(result_.end(), cut.begin(), cut.end());
  }
  check_conservation();
}

/// P3: what all rounds have given is settled, lost with a dead incarnation, or, of nobody else, still on its
/// way. Exact: all values are multiples of 2^-10.
void Checker::check_conservation() const {
  for (const auto& [order, of] : incarnations_) {
    for (std::size_t k = 0; k < shards_.size(); ++k) {
      const bool dead = dead_.contains(order) || shards_[k].fenced.contains(order);
      std::vector<double> sum(of.residual[k].begin(), of.residual[k].end());
      for (const PushRecord& push : of.pushes[k]) {
        if (!dead && !push.settled) fail("P3: at rest a push of incarnation {} to shard {} is open", order, k);
        if (push.returned) continue;
        if (!dead && push.refused) fail("P3: at rest a push of incarnation {} is refused for good", order);
        for (std::size_t i = 0; i < push.update->values.size(); ++i)
          sum[push.update->dense ? i : push.update->indices[i]] += static_cast<double>(push.update->values[i]);
      }
      if (sum != of.progress[k])
        fail("P3: progress of incarnation {} on shard {} is neither settled, lost, in flight nor residual",
             order, k);
      if (!dead && std::any_of(of.residual[k].begin(), of.residual[k].end(), [](float v) { return v != 0; }))
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
