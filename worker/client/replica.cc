#include "worker/client/replica.h"

#include <algorithm>
#include <cmath>

#include "common/base/check.h"

namespace nanduti {

namespace {

const VersionHeader& header_of(const std::variant<Publish, Assign>& version) {
  return std::visit([](const auto& v) -> const VersionHeader& { return v.header; }, version);
}

/// A deterministic job's first membership, which holds as long as nobody dies.
constexpr MembershipEpoch kFirstEpoch{1};

}  // namespace

Replica::Replica(const ReplicaOptions& options) : options_(options) {
  NANDUTI_CHECK(!options_.shards.empty());
  for (const ParameterRange& range : options_.shards)
    shards_.push_back({range, ShardReplica(range.size(), options_.own), {}});
}

Status Replica::on_version(ShardIndex index, std::variant<Publish, Assign> version) {
  Shard& shard = shards_.at(index.value());
  if (!options_.deterministic) return merge_one(shard, version);
  if (!shard.state.has_shadow()) return merge_one(shard, version);
  NANDUTI_RETURN_IF_ERROR(check_arrival(index, version));
  shard.arrived.push_back(std::move(version));
  // Only versions of undisturbed lockstep wait for their round; anything else is merged as it comes.
  if (is_lockstep()) return {};
  Status result;
  for (Shard& other : shards_) {
    for (; !other.arrived.empty(); other.arrived.pop_front()) {
      const Status status = merge_one(other, other.arrived.front());
      if (!status.ok()) result = status;
    }
  }
  return result;
}

/// What waits must be sure to merge later.
Status Replica::check_arrival(ShardIndex index, const std::variant<Publish, Assign>& version) const {
  const auto [chain, newest] = arrived(index);
  const VersionHeader& header = header_of(version);
  const auto* publish = std::get_if<Publish>(&version);
  const Version from = publish != nullptr ? newest.next() : newest;
  if (header.chain != chain || header.version < from || (publish != nullptr && header.version != from))
    return make_error(ErrorCode::kCorrupt, "version {} of chain {} does not follow version {} of chain {}",
                      header.version, header.chain, newest, chain);
  if (publish == nullptr) {
    const Assign& assign = std::get<Assign>(version);
    if (!assign.whole && assign.from_version > newest)
      return make_error(ErrorCode::kCorrupt, "an assignment from version {} does not fit version {}",
                        assign.from_version, newest);
    return shard(index).check_values(assign);
  }
  if (publish->payload.empty()) return {};
  if (publish->coding != static_cast<std::uint8_t>(options_.codec->coding()))
    return make_error(ErrorCode::kCorrupt, "a version in coding {}, which this job does not use",
                      publish->coding);
  const Result<Update> update = options_.codec->decode(publish->payload, shard(index).size());
  return update.ok() ? Status() : Status(update.error());
}

Status Replica::merge_one(Shard& shard, const std::variant<Publish, Assign>& version) {
  if (const auto* publish = std::get_if<Publish>(&version))
    return shard.state.merge(*publish, *options_.codec);
  return shard.state.merge(std::get<Assign>(version));
}

std::pair<ChainId, Version> Replica::arrived(ShardIndex index) const {
  const Shard& shard = shards_.at(index.value());
  const VersionHeader& last = shard.arrived.empty() ? shard.state.merged() : header_of(shard.arrived.back());
  return {last.chain, last.version};
}

void Replica::on_ack(ShardIndex index, const PushAck& ack) {
  shards_.at(index.value()).state.acknowledge(ack.next_sequence, ack.refused);
}

const VersionHeader& Replica::newest() const {
  const Shard* best = &shards_.front();
  for (const Shard& shard : shards_)
    if (shard.state.merged().epoch > best->state.merged().epoch) best = &shard;
  return best->state.merged();
}

bool Replica::is_lockstep() const {
  if (!options_.deterministic) return false;
  for (const Shard& shard : shards_) {
    if (shard.state.has_shadow() && shard.state.merged().epoch != kFirstEpoch) return false;
    for (const auto& version : shard.arrived)
      if (header_of(version).epoch != kFirstEpoch) return false;
  }
  return true;
}

Version Replica::due(Round round) const {
  const std::uint64_t bound = options_.bound.value_or(0);
  return Version(round.value() > bound ? round.value() - bound : 0);
}

std::optional<Round> Replica::slowest() const {
  // The gate of promise P1: on every shard, rounds of every worker that is active in the newest membership.
  // A shard that has not heard of a worker yet holds none of its rounds, and none below its entry exist.
  std::optional<Round> smallest;
  for (const MemberClock& member : newest().active) {
    for (const Shard& shard : shards_) {
      Round clock = member.entry_clock;
      for (const MemberClock& known : shard.state.merged().active)
        if (known.order == member.order) clock = std::max(clock, known.clock);
      smallest = smallest ? std::min(*smallest, clock) : clock;
    }
  }
  return smallest;
}

Replica::Gate Replica::gate(Round round, MembershipEpoch active_from) const {
  if (!has_shadow()) return Gate::kNoParameters;
  for (const Shard& shard : shards_)
    if (shard.state.merged().epoch < active_from) return Gate::kNotActive;
  if (is_window_full()) return Gate::kWindow;
  if (is_lockstep()) {
    for (std::size_t k = 0; k < shards_.size(); ++k)
      if (arrived(ShardIndex(static_cast<std::uint32_t>(k))).second < due(round)) return Gate::kStaleness;
    return Gate::kOpen;
  }
  if (!options_.bound) return Gate::kOpen;
  const std::optional<Round> smallest = slowest();
  if (smallest && *smallest < round && round.value() - smallest->value() > *options_.bound)
    return Gate::kStaleness;
  return Gate::kOpen;
}

bool Replica::is_window_full() const {
  std::size_t held_bytes = 0, held_rounds = 0;
  for (const Shard& shard : shards_) {
    const std::uint64_t unacknowledged =
        shard.state.next_sequence().value() - shard.state.acknowledged().value();
    if (unacknowledged >= options_.window_rounds_max) return true;
    held_bytes += shard.state.in_flight_bytes();
    held_rounds = std::max(held_rounds, shard.state.in_flight().size());
  }
  return held_rounds >= 2 && held_bytes >= options_.window_bytes_max && !is_lockstep();
}

Round Replica::own_entry_clock() const {
  for (const MemberClock& member : newest().active)
    if (member.order == options_.own) return member.entry_clock;
  return {};
}

std::uint64_t Replica::staleness(Round round) const {
  const std::optional<Round> smallest = slowest();
  return smallest && *smallest < round ? round.value() - smallest->value() : 0;
}

std::vector<float> Replica::begin_round(Round round) {
  const Version through = due(round);
  for (Shard& shard : shards_) {
    // An assignment may leap over the version that is due; then there is no other way to hold that one.
    while (!shard.arrived.empty() && shard.state.merged().version < through) {
      const Status status = merge_one(shard, shard.arrived.front());
      NANDUTI_CHECK(status.ok(), "{}", status.error().message);
      shard.arrived.pop_front();
    }
  }
  const std::size_t workers = std::max<std::size_t>(newest().active.size(), 1);
  const float rho = 1.0f / static_cast<float>(workers);
  std::vector<float> x(shards_.back().range.end);
  for (const Shard& shard : shards_)
    shard.state.compute_parameters(std::span(x).subspan(shard.range.begin, shard.range.size()), rho);
  return x;
}

std::vector<Push> Replica::finish_round(const RoundName& name, std::span<const float> progress) {
  return make_pushes(name, progress, *options_.codec);
}

std::vector<Push> Replica::make_pushes(const RoundName& name, std::span<const float> progress,
                                       const Codec& codec) {
  std::vector<Push> pushes;
  for (Shard& shard : shards_) {
    Push push = shard.state.push(progress.subspan(shard.range.begin, shard.range.size()), codec,
                                 {options_.seed, name.round.value()});
    push.job = name.job;
    push.order = options_.own;
    push.round = name.round;
    push.epoch = epoch();
    push.lease = name.lease;
    push.range = name.range;
    push.smallest_clock = name.round;
    shard.state.record(push);
    pushes.push_back(std::move(push));
  }
  return pushes;
}

std::vector<Push> Replica::flush(JobId job, Round clock) {
  const std::vector<float> nothing(shards_.back().range.end);
  return make_pushes({job, clock, LeaseId(), SampleRange()}, nothing, DenseFloat32Codec());
}

bool Replica::has_residual() const {
  for (const Shard& shard : shards_)
    for (const float value : shard.state.residual())
      if (value != 0.0f && std::isfinite(value)) return true;
  return false;
}

bool Replica::has_shadow() const {
  return std::all_of(shards_.begin(), shards_.end(), [](const Shard& s) { return s.state.has_shadow(); });
}

bool Replica::is_acknowledged() const {
  for (const Shard& shard : shards_)
    if (shard.state.acknowledged() < shard.state.next_sequence()) return false;
  return true;
}

}  // namespace nanduti
