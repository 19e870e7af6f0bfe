// The checker's model of shards: what they settle, refuse and publish.
#include <algorithm>
#include <cmath>

#include "test/sim/checker.h"
#include "test/sim/checker_values.h"
#include "test/sim/problem.h"

namespace nanduti::sim {

void Checker::settle(std::size_t k, IncarnationOrder order, std::uint64_t sequence,
                     std::uint16_t applied_parts) {
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
  const std::uint32_t workers = std::max(count_active(memberships_.at(*push.epoch)), 1u);
  const std::uint16_t parts = too_old ? std::uint16_t(0) : weight_of(shard, order, push);
  if (applied_parts != parts)
    fail("shard {} applies {} parts of push {} of incarnation {}, made in membership {}, at {}, not {}", k,
         applied_parts, sequence, order, *push.epoch, shard.epoch, parts);
  push.settled = true;
  push.applied_parts = parts;
  std::vector<ReturnedPush>& returned = shard.returned[order];
  std::erase_if(returned, [&](const ReturnedPush& r) { return r.sequence < push.acknowledged; });
  if (push.returns()) returned.push_back({Sequence(sequence), parts});
  if (!push.refused()) shard.server->apply(shard.w, 0, *push.made, workers, parts, push.flush);
  if (push.flush) return;
  shard.rounds.push_back({order, too_old ? 0 : 1.0 / workers});
  shard.clocks[order] = std::max(shard.clocks[order], push.round.next());
  for (const auto& pushes : of.pushes)
    if (sequence >= pushes.size() || !pushes[sequence].settled) return;
  // Settled on all shards: its samples count.
  for (std::uint64_t i = push.range.begin; i < push.range.end; ++i)
    if (++counted_.at(push.range.epoch.value()).at(i) > 1)
      fail("P5: sample {} of epoch {} counts twice, now by incarnation {}", i, push.range.epoch, order);
}

/// In parts: by the rounds of others that the shard has settled since the version that the push is based on,
/// but for the one that everybody else does meanwhile.
std::uint16_t Checker::weight_of(const Shard& shard, IncarnationOrder order, const PushRecord& push) const {
  if (push.flush) return kAppliedWhole;
  double age = 1.0 / std::max(count_active(memberships_.at(*push.epoch)), 1u) - 1;
  for (std::size_t i = shard.history.at(push.base)->rounds; i < shard.rounds.size(); ++i)
    if (shard.rounds[i].order != order) age += shard.rounds[i].part;
  const double weight = 1 / std::pow(1 + std::max(age - 1e-9, 0.0), plan_.age_power);
  return static_cast<std::uint16_t>(std::max(1.0, std::round(weight * kAppliedWhole)));
}

void Checker::check_header(std::size_t k, const VersionHeader& header) const {
  const Shard& shard = shards_[k];
  const VersionRecord& record = version_at(k, header);
  if (header.epoch != record.epoch)
    fail("version {} of shard {} names membership {}, not {}", header.version, k, header.epoch, record.epoch);
  for (const Verdict& verdict : header.verdicts) {
    if (verdict.returned != value_or_zero(record.returned, verdict.order))
      fail("P3: version {} of shard {} names other refusals of incarnation {} than there were",
           header.version, k, verdict.order);
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

/// P4: an assignment says what the version holds, at every coordinate that has changed since.
void Checker::check_assign(std::size_t k, const Assign& assign) const {
  const std::vector<float>& shadow = version_at(k, assign.header).shadow;
  const std::span<const float> values = values_of(assign.payload);
  std::vector<float> result(shadow.size());
  if (!assign.whole) {
    const auto from = shards_[k].history.find(assign.from_version);
    if (from == shards_[k].history.end())
      fail("P4: shard {} assigns from version {}, which was never published", k, assign.from_version);
    result = from->second->shadow;
  }
  std::size_t taken = 0;
  for (const AssignedRange& range : assign.ranges) {
    const std::uint64_t size = range.end - range.begin;
    if (range.end > result.size() || range.begin > range.end || size > values.size() - taken)
      fail("P4: shard {} assigns {} to {} of {} with {} values", k, range.begin, range.end, result.size(),
           values.size() - taken);
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(taken), size,
                result.begin() + static_cast<std::ptrdiff_t>(range.begin));
    taken += size;
  }
  if (taken != values.size() || !same_bits(result, shadow))
    fail("P4: shard {} assigns something else than version {} from {}", k, assign.header.version,
         assign.from_version);
}

void Checker::on_take_cut(ShardIndex index, CutId cut) {
  Shard& shard = shards_.at(index.value());
  std::uint32_t epochs = 0;
  const auto counts = [](std::uint8_t times) { return times != 0; };
  while (epochs < plan_.epochs && std::all_of(counted_[epochs].begin(), counted_[epochs].end(), counts))
    ++epochs;
  shard.cuts.try_emplace(cut, CutRecord{shard.w, epochs});
}

void Checker::check_cut(std::size_t k, CutId cut, std::span<const float> values, const char* where) const {
  const auto taken = shards_[k].cuts.find(cut);
  if (taken == shards_[k].cuts.end()) fail("cut {} of shard {} {} and was never asked for", cut, k, where);
  if (!same_bits(values, taken->second.w))
    fail("cut {} of shard {} {} with other values than w had when it was taken", cut, k, where);
}

void Checker::record_version(std::size_t k) {
  Shard& shard = shards_[k];
  shard.history[shard.version] = std::make_shared<const VersionRecord>(VersionRecord{
      shard.shadow, shard.epoch, shard.settled, shard.clocks, shard.returned, shard.rounds.size()});
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
  const EncodedUpdate encoded =
      codecs_.at(shard.codec).publish->encode(change, {}, {shard.version.value(), shard.begin, 0});
  if (message != nullptr) {
    if (message->payload.empty()) return;
    const auto theirs = message->payload.view(), ours = encoded.payload.view();
    if (!std::equal(theirs.begin(), theirs.end(), ours.begin(), ours.end()))
      fail("P4: version {} of shard {} does not carry Q(w - shadow)", shard.version, k);
    return add_update(shard.shadow, encoded.update, 1.0f);
  }
  // Of several steps that nobody was sent only the last one is there to compare with.
  if (takes_steps(shard) && shard.version < core.values()->version())
    return add_update(shard.shadow, encoded.update, 1.0f);
  // Nobody was sent an addition: nothing was added, or Q(w - shadow), or all of it at rest.
  const auto theirs = core.values()->shadow();
  if (same_bits(theirs, shard.shadow)) return;
  std::vector<float> quantised = shard.shadow;
  add_update(quantised, encoded.update, 1.0f);
  if (same_bits(theirs, quantised)) {
    shard.shadow = std::move(quantised);
    return;
  }
  if (!same_bits(theirs, shard.w))
    fail("P4: version {} of shard {} is neither Q(w - shadow) nor w", shard.version, k);
  shard.shadow = shard.w;
}

void Checker::begin_shard(std::size_t k) {
  Shard& shard = shards_[k];
  shard.loaded = true;
  shard.w = shard.shadow = initial_values(shard.begin, shard.end);
  shard.server.emplace(plan_, shard.begin, shard.end);
  record_version(k);
}

void Checker::on_left(ShardIndex index, const Message& message) {
  Shard& shard = shards_.at(index.value());
  const auto on_settled = [&](IncarnationOrder order, Sequence next) {
    std::uint64_t& left = shard.settled_left[order];
    left = std::max(left, next.value());
  };
  const auto on_header = [&](const VersionHeader& header) {
    shard.version_left = std::max(shard.version_left, header.version);
    for (const Verdict& verdict : header.verdicts) on_settled(verdict.order, verdict.next_sequence);
  };
  if (const auto* version = std::get_if<Publish>(&message)) on_header(version->header);
  if (const auto* assign = std::get_if<Assign>(&message)) on_header(assign->header);
  if (const auto* report = std::get_if<SettleReport>(&message))
    for (const SettleEntry& entry : report->entries) on_settled(entry.order, entry.sequence.next());
}

/// The model begins anew and does what the log says. What had been done beyond it is undone; it must not be
/// known outside.
void Checker::on_recovered(ShardIndex index, std::span<const SharedBytes> entries, const ShardCore& core) {
  const std::size_t k = index.value();
  for (auto& [order, of] : incarnations_) {
    for (std::size_t s = 0; s < of.pushes[k].size(); ++s) {
      PushRecord& push = of.pushes[k][s];
      if (!push.settled) continue;
      const bool counted =
          !push.flush && std::all_of(of.pushes.begin(), of.pushes.end(), [&](const auto& pushes) {
            return s < pushes.size() && pushes[s].settled;
          });
      if (counted)
        for (std::uint64_t i = push.range.begin; i < push.range.end; ++i)
          --counted_.at(push.range.epoch.value()).at(i);
      push.settled = false;
    }
  }
  const Shard before = std::exchange(shards_[k], Shard());
  Shard& shard = shards_[k];
  shard.begin = before.begin;
  shard.end = before.end;
  shard.chain = before.chain;
  shard.cuts = before.cuts;
  shard.codec = plan_.codec;
  for (const SharedBytes& entry : entries) {
    const Result<std::vector<ShardRecord>> records = decode_entry(entry);
    if (!records.ok()) fail("a log entry of shard {} does not decode: {}", k, records.error().message);
    for (const ShardRecord& record : *records) replay(k, record, core);
  }
  if (shard.version < before.version_left)
    fail("P2: shard {} recovers at version {}; version {} has left it", k, shard.version,
         before.version_left);
  for (const auto& [order, next] : before.settled_left)
    if (value_or_zero(shard.settled, order) < next)
      fail("P2: shard {} recovers before push {} of incarnation {}, of which it has spoken", k, next - 1,
           order);
  shard.version_left = before.version_left;
  shard.settled_left = before.settled_left;
  for (const auto& [version, record] : before.history)
    if (version <= before.version_left && !same_bits(record->shadow, shard.history.at(version)->shadow))
      fail("P4: version {} of shard {} is another one after its recovery", version, k);
  const ShardValues& values = *core.values();
  if (!same_bits(values.w(), shard.w)) fail("P2: shard {} recovers another w than its log makes", k);
  if (!same_bits(values.shadow(), shard.shadow) || values.version() != shard.version)
    fail("P4: shard {} recovers another shadow than its log makes", k);
  for (const auto& [order, next] : shard.settled)
    if (core.ledger(order) == nullptr || core.ledger(order)->next_sequence().value() != next)
      fail("P2: shard {} recovers another ledger of incarnation {} than its log makes", k, order);
}

void Checker::replay(std::size_t k, const ShardRecord& record, const ShardCore& core) {
  Shard& shard = shards_[k];
  const ShardIndex index(static_cast<std::uint32_t>(k));
  if (std::holds_alternative<OpenShard>(record.message)) {
    begin_shard(k);
  } else if (const auto* push = std::get_if<Push>(&record.message)) {
    settle(k, push->order, push->sequence.value(), static_cast<std::uint16_t>(record.number));
  } else if (const auto* membership = std::get_if<Membership>(&record.message)) {
    on_membership_received(index, membership->epoch);
  } else if (const auto* fence = std::get_if<Fence>(&record.message)) {
    shard.fenced.insert(fence->order);
  } else if (const auto* tuning = std::get_if<Tune>(&record.message)) {
    on_tune_received(index, *tuning);
  } else if (const auto* version = std::get_if<Publish>(&record.message)) {
    if (record.number == kAssignsAll) {
      shard.version = shard.version.next();
      shard.shadow = shard.w;
    } else {
      publish(k, version, core);
    }
    record_version(k);
  }
}

void Checker::after_shard(ProtocolTime now, ShardIndex index, const ShardCore& core,
                          std::span<const ShardCore::Action> actions) {
  const std::size_t k = index.value();
  Shard& shard = shards_.at(k);
  const ShardValues* values = core.values();
  if (values == nullptr) return;
  if (!shard.loaded) {
    begin_shard(k);
    if (!same_bits(values->w(), shard.w)) fail("shard {} does not begin with the initial values", k);
  }

  // What the shard says it has settled, and the versions it has sent.
  struct Settled {
    IncarnationOrder order;
    std::uint64_t sequence = 0;
    std::uint16_t applied_parts = kAppliedWhole;
  };
  std::vector<Settled> settles;
  std::map<IncarnationOrder, std::uint64_t> reported = shard.settled;
  std::map<Version, const Publish*> publishes;
  std::vector<const VersionHeader*> headers;
  std::vector<const Assign*> assigns;
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
        settles.push_back({entry.order, entry.sequence.value(), entry.applied_parts});
        reported[entry.order] = entry.sequence.value() + 1;
      }
    } else if (const auto* publish_message = std::get_if<Publish>(&send->message)) {
      publishes.emplace(publish_message->header.version, publish_message);
      headers.push_back(&publish_message->header);
    } else if (const auto* assign = std::get_if<Assign>(&send->message)) {
      headers.push_back(&assign->header);
      assigns.push_back(assign);
    } else if (const auto* taken = std::get_if<CutTaken>(&send->message)) {
      check_cut(k, taken->cut, values_of(taken->payload), "is reported");
    } else if (const auto* cut = std::get_if<CutValues>(&send->message)) {
      check_cut(k, cut->cut, values_of(cut->payload), "is sent to a worker");
    } else if (const auto* fenced = std::get_if<FenceDone>(&send->message)) {
      fenced_now.insert(fenced->order);
    }
  }
  // Without a coordinator nothing is reported: then the ledgers say how much, in order of incarnation.
  for (auto& [order, of] : incarnations_) {
    const PushLedger* ledger = core.ledger(order);
    const std::uint64_t next = ledger == nullptr ? 0 : ledger->next_sequence().value();
    for (std::uint64_t s = reported[order]; s < next; ++s) {
      std::uint16_t applied_parts = kAppliedWhole;
      for (const ReturnedPush& returned : ledger->returned())
        if (returned.sequence == Sequence(s)) applied_parts = returned.applied_parts;
      settles.push_back({order, s, applied_parts});
    }
  }

  std::map<IncarnationOrder, std::size_t> settled_now;
  // What the version with this header holds; without one: everything, or the next step.
  const auto settle_below = [&](const VersionHeader* header, bool one_step) {
    std::vector<Settled> later;
    std::set<IncarnationOrder> stepped;
    for (const Settled& settled : settles) {
      bool included = header == nullptr && (!one_step || stepped.insert(settled.order).second);
      if (header != nullptr)
        for (const Verdict& verdict : header->verdicts)
          included |= verdict.order == settled.order && settled.sequence < verdict.next_sequence.value();
      if (included)
        settle(k, settled.order, settled.sequence, settled.applied_parts), ++settled_now[settled.order];
      else
        later.push_back(settled);
    }
    settles = std::move(later);
  };
  const Version known = shard.version;
  while (shard.version < values->version()) {
    const auto message = publishes.find(shard.version.next());
    const bool sent = message != publishes.end();
    settle_below(sent ? &message->second->header : nullptr, takes_steps(shard));
    publish(k, sent ? message->second : nullptr, core);
    record_version(k);
  }
  if (shard.version != values->version()) fail("shard {} goes back to version {}", k, values->version());
  settle_below(nullptr, false);
  shard.fenced.insert(fenced_now.begin(), fenced_now.end());
  // Where nothing has changed, what should not have is found by the next change or by the result.
  if (!settled_now.empty() && !same_bits(values->w(), shard.w))
    fail("P2: w of shard {} is not what its settled pushes make it", k);
  if (shard.version != known && !same_bits(values->shadow(), shard.shadow))
    fail("P4: the shadow of shard {} is not what was published", k);
  for (const VersionHeader* header : headers) {
    if (shard.chain == ChainId()) shard.chain = header->chain;
    check_header(k, *header);
  }
  for (const Assign* assign : assigns) check_assign(k, *assign);
  check_publishes(k, core, now);
  check_bounds(k, core, settled_now);
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

/// P5: a round that every active worker has done is published, and so is a new membership; the former may
/// wait for a link that is full, but not for long.
void Checker::check_publishes(std::size_t k, const ShardCore& core, ProtocolTime now) {
  Shard& shard = shards_[k];
  if (takes_steps(shard)) return;
  const VersionRecord& newest = *shard.history.at(shard.version);
  if (newest.epoch != shard.epoch) fail("P5: shard {} has not published membership {}", k, shard.epoch);
  const std::optional<Round> clock = smallest_active_clock(shard);
  if (!clock || *clock <= shard.published_through) {
    shard.withheld_since.reset();
    return;
  }
  if (!shard.withheld_since) shard.withheld_since = now;
  // A process that was stopped has its deadline still before it.
  if (now > *shard.withheld_since + ShardOptions().hold_max && core.next_deadline() > now)
    fail("P5: shard {} withholds the rounds below {} of all active workers", k, *clock);
}

/// P7: what a shard holds has its maximum.
void Checker::check_bounds(std::size_t k, const ShardCore& core,
                           const std::map<IncarnationOrder, std::size_t>& settled) const {
  const ShardCore::Occupancy held = core.occupancy();
  if (held.cuts > kCutsMax) fail("P7: shard {} holds {} cuts", k, held.cuts);
  // In lockstep a worker may have to hear every version: its session's queue is the maximum.
  if (!plan_.deterministic && held.subscriber_bytes > kSubscriberBytesMax)
    fail("P7: shard {} has sent {} bytes that a worker has not acknowledged", k, held.subscriber_bytes);
  // No worker can do more without the coordinator than it has on lease.
  if (held.unconfirmed_entries > incarnations_.size() * (kLeaseRoundsAheadMax + kLeaseRoundsMax + 8))
    fail("P7: shard {} keeps {} settled pushes to report", k, held.unconfirmed_entries);
  // What has been settled in this event was held as well, at its peak.
  for (const auto& [order, of] : incarnations_)
    if (const PushLedger* ledger = core.ledger(order);
        ledger && ledger->waiting_count() + value_or_zero(settled, order) > kReorderMax)
      fail("P7: shard {} holds {} pushes of incarnation {}", k,
           ledger->waiting_count() + value_or_zero(settled, order), order);
}

}  // namespace nanduti::sim
