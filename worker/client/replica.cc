#include "worker/client/replica.h"

#include <algorithm>
#include <cmath>

#include "common/base/check.h"
#include "common/codec/coding_spec.h"
#include "worker/client/host_memory.h"

namespace nanduti {

namespace {

/// So many rounds ago at most was the membership that the residual's weight goes by.
constexpr std::uint64_t kResidualRounds = 64;

const VersionHeader& header_of(const std::variant<Publish, Assign>& version) {
  return std::visit([](const auto& v) -> const VersionHeader& { return v.header; }, version);
}

/// The version holds pushes of others than `own` that the one before does not.
bool has_more_of_others(const VersionHeader& version, const VersionHeader& before, IncarnationOrder own) {
  for (const Verdict& verdict : version.verdicts) {
    if (verdict.order == own) continue;
    Sequence known;
    for (const Verdict& earlier : before.verdicts)
      if (earlier.order == verdict.order) known = earlier.next_sequence;
    if (verdict.next_sequence > known) return true;
  }
  return false;
}

/// A deterministic job's first membership, which holds as long as nobody dies.
constexpr MembershipEpoch kFirstEpoch{1};

ShardIndex index_of(std::size_t k) { return ShardIndex(static_cast<std::uint32_t>(k)); }

}  // namespace

std::size_t version_bytes(const std::variant<Publish, Assign>& version) {
  const VersionHeader& header = header_of(version);
  const std::size_t payload = std::visit([](const auto& v) { return v.payload.size(); }, version);
  std::size_t returned = 0;
  for (const Verdict& verdict : header.verdicts) returned += verdict.returned.size();
  return payload + sizeof(version) + header.active.size() * sizeof(MemberClock) +
         header.verdicts.size() * sizeof(Verdict) + returned * sizeof(ReturnedPush);
}

Replica::Replica(const ReplicaOptions& options)
    : options_(options),
      memory_(options.memory ? options.memory : std::make_shared<HostMemory>()),
      settings_{{Round(), options}} {
  NANDUTI_CHECK(!options_.shards.empty());
  const auto initial = std::exchange(options_.initial_values, nullptr);
  for (const ParameterRange& range : options_.shards) {
    std::span<const float> part;
    if (initial) part = std::span(*initial).subspan(range.begin, range.size());
    shards_.push_back(
        {range,
         ShardReplica(memory_->make_shard(range, part), range.size(), options_.own, initial != nullptr),
         {}});
  }
}

void Replica::on_event(Event event) {
  std::visit([this](auto& e) { handle(e); }, event);
  advance();
}

void Replica::handle(MergeVersion& event) {
  const std::size_t bytes = version_bytes(event.version);
  const bool adds = std::holds_alternative<Publish>(event.version);
  const Status status = merge(event.shard, std::move(event.version));
  if (status.ok()) return report(VersionTaken{event.shard, bytes});
  const auto [chain, version] = arrived(event.shard);
  report(MergeFailed{event.shard, chain, version, status.error().message, adds, bytes});
}

void Replica::handle(TakeAck& event) {
  ShardReplica& state = shards_.at(event.shard.value()).state;
  state.acknowledge(event.next_sequence, event.returned);
  if (take_returned(state)) report(Verdicts{event.shard, state.settled(), true});
}

void Replica::handle(WithdrawRounds&) { report(RoundsWithdrawn{std::exchange(offered_, std::nullopt)}); }

void Replica::handle(TakeTuning& event) {
  const Round from = std::max(event.from_round, round_);
  settings_.erase(settings_.lower_bound(from), settings_.end());
  settings_.emplace(from, std::move(event.settings));
  report(TuningTaken{event.number, from});
}

const RoundSettings& Replica::settings(Round round) const {
  return std::prev(settings_.upper_bound(round))->second;
}

void Replica::handle(Flush& event) {
  if (pending_) code(*std::exchange(pending_, std::nullopt));
  const bool joined = epoch() > MembershipEpoch();
  std::vector<Push> pushes;
  if ((event.in_step && joined && is_lockstep()) || has_residual()) {
    Computation flush{{options_.job, round_, LeaseId(), SampleRange()}, {}, nullptr, nullptr};
    for (const Shard& shard : shards_) flush.base_versions.push_back(shard.state.merged().version);
    pushes = make_pushes(flush, {}, DenseFloat32Codec(), residual_epoch());
  }
  const bool in_step = is_lockstep() && !pushes.empty();
  report(Flushed{std::move(pushes), !has_residual(), in_step});
}

void Replica::handle(RoundComputed& event) {
  NANDUTI_CHECK(computing_ && event.buffers && event.buffers->progress.size() == parameters());
  if (pending_) code(*std::exchange(pending_, std::nullopt));
  Computation computed = *std::exchange(computing_, std::nullopt);
  computed.buffers = std::move(event.buffers);
  computed.loss_sum = event.loss_sum;
  computed.compute_seconds = event.compute_seconds;
  if (computed.done) {
    memory_->add(computed.done->progress, computed.buffers->progress);
    spare_.push_back(std::exchange(computed.buffers, std::exchange(computed.done, nullptr)));
  }
  if (extend(computed)) return;
  pending_ = std::move(computed);
  if (options_.deterministic) return code(*std::exchange(pending_, std::nullopt));
  advance();  // the next round comes first
  actions_.emplace_back(CodeRound());
}

void Replica::handle(TimeToCode&) {
  if (pending_) code(*std::exchange(pending_, std::nullopt));
}

void Replica::advance() {
  Gate closed = Gate::kOpen;
  while (offered_ && !computing_ && closed == Gate::kOpen) {
    const Round round = next_offered();
    closed = gate(round, offered_->active_from);
    if (closed == Gate::kOpen) {
      round_ = round;
      begin_round();
      reported_gate_ = Gate::kOpen;
    }
  }
  if (closed != reported_gate_) report(GateChanged{reported_gate_ = closed});
}

/// Who was suspended enters again further on, with the leases it has.
Round Replica::next_offered() const { return std::max({round_, offered_->entry_clock, own_entry_clock()}); }

/// The first of the samples that are offered.
SampleRange Replica::take_samples(std::uint64_t samples_max) {
  SampleRange range = offered_->range;
  range.end = range.begin + std::min(range.size(), samples_max);
  offered_->range.begin = range.end;
  if (offered_->range.size() == 0) offered_.reset();
  return range;
}

/// At the bound: a round that has ended goes on with the samples that follow its own, where the next one
/// would have to wait. Its clock does not move, so that nobody's gate does.
bool Replica::extend(Computation& computation) {
  const RoundSettings& now = settings(computation.name.round);
  RoundName& name = computation.name;
  if (now.accumulate_rounds_max <= 1 || options_.deterministic || !offered_) return false;
  if (offered_->lease != name.lease || offered_->range.begin != name.range.end) return false;
  if (gate(next_offered(), offered_->active_from) != Gate::kStaleness) return false;
  const std::uint64_t samples_max = now.accumulate_rounds_max * now.round_samples;
  if (name.range.size() + now.round_samples > samples_max) return false;
  const SampleRange range = take_samples(now.round_samples);
  report(RoundExtended{name.round, range, name.range.size() - computation.reported, computation.loss_sum,
                       computation.compute_seconds});
  computation.reported = name.range.size();
  name.range.end = range.end;
  computation.done = std::exchange(computation.buffers, nullptr);
  compute(std::move(computation), range);
  return true;
}

void Replica::begin_round() {
  const Round oldest = pending_ ? pending_->name.round : round_;
  settings_.erase(settings_.begin(), std::prev(settings_.upper_bound(oldest)));
  const OfferRounds offer = *offered_;
  const SampleRange range = take_samples(settings(round_).round_samples);
  const std::optional<Round> smallest = slowest(round_);
  const bool ahead = smallest && *smallest < round_;
  report(
      RoundBegun{round_, range, ahead ? static_cast<std::uint32_t>(round_.value() - smallest->value()) : 0});
  merge_due(round_);
  Computation computation{{options_.job, round_, offer.lease, range}, {}, nullptr, nullptr};
  for (const Shard& shard : shards_) computation.base_versions.push_back(shard.state.merged().version);
  round_ = round_.next();
  if (range.size() == 0) return code(std::move(computation));  // every rank takes part in every step
  compute(std::move(computation), range);
}

/// Of a round, the samples in `range`.
void Replica::compute(Computation computation, const SampleRange& range) {
  const RoundBuffers* before = pending_ ? pending_->buffers.get() : computation.done.get();
  computation.buffers = take_buffers();
  const std::span<float> x = computation.buffers->parameters;
  for (Shard& shard : shards_) {
    const std::span<float> part = x.subspan(shard.range.begin, shard.range.size());
    std::span<const float> uncoded;
    if (before != nullptr) uncoded = before->progress.subspan(shard.range.begin, shard.range.size());
    shard.state.compute_parameters(part, uncoded, settings(computation.name.round).weights);
  }
  const bool extends = computation.done != nullptr;
  const bool merged = !extends && std::exchange(merged_others_, false);
  actions_.emplace_back(
      ComputeRound{options_.job, computation.name.round, range, computation.buffers, extends, merged});
  computing_ = std::move(computation);
}

/// Deterministic jobs: merges up to the version that the gate of `round` demands.
void Replica::merge_due(Round round) {
  const Version through = due(round);
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    Shard& shard = shards_[k];
    // An assignment may leap over the version that is due; then there is no other way to hold that one.
    while (!shard.arrived.empty() && shard.state.merged().version < through) {
      const Status status = merge_one(index_of(k), shard.arrived.front());
      NANDUTI_CHECK(status.ok(), "{}", status.error().message);
      shard.arrived.pop_front();
    }
  }
}

/// The computed round becomes one push per shard.
void Replica::code(Computation computation) {
  std::span<const float> progress;  // none: nothing was computed
  if (computation.buffers) progress = computation.buffers->progress;
  std::vector<Push> pushes =
      make_pushes(computation, progress, *settings(computation.name.round).codecs.push, epoch());
  const std::size_t active = newest().active.size();
  if (active >= crowded_.active || computation.name.round.value() > crowded_.round.value() + kResidualRounds)
    crowded_ = {epoch(), active, computation.name.round};
  if (computation.buffers) spare_.push_back(std::move(computation.buffers));
  const std::uint64_t samples = computation.name.range.size() - computation.reported;
  report(RoundCoded{computation.name, std::move(pushes), samples, computation.loss_sum,
                    computation.compute_seconds});
}

/// Refused is what was made in a membership of long ago: it goes again in the newest.
bool Replica::take_returned(ShardReplica& state) {
  const ShardReplica::Returned returned = state.take_returned();
  if (returned.refused) crowded_ = {};
  return returned.any;
}

MembershipEpoch Replica::residual_epoch() const { return crowded_.active > 0 ? crowded_.epoch : epoch(); }

std::vector<Push> Replica::make_pushes(const Computation& computation, std::span<const float> progress,
                                       const Codec& codec, MembershipEpoch epoch) {
  const RoundName& name = computation.name;
  std::vector<Push> pushes;
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    Shard& shard = shards_[k];
    std::span<const float> part;
    if (!progress.empty()) part = progress.subspan(shard.range.begin, shard.range.size());
    Push push = shard.state.push(
        part, codec,
        {name.round.value(), shard.range.begin, name.range.epochs_before(options_.epoch_samples)});
    push.job = name.job;
    push.order = options_.own;
    push.round = name.round;
    push.epoch = epoch;
    push.base_version = computation.base_versions[k];
    push.lease = name.lease;
    push.range = name.range;
    push.smallest_clock = name.round;
    pushes.push_back(std::move(push));
  }
  return pushes;
}

std::shared_ptr<RoundBuffers> Replica::take_buffers() {
  if (spare_.empty()) return memory_->make_buffers(parameters());
  std::shared_ptr<RoundBuffers> buffers = std::move(spare_.back());
  spare_.pop_back();
  return buffers;
}

Status Replica::merge(ShardIndex index, std::variant<Publish, Assign> version) {
  Shard& shard = shards_.at(index.value());
  if (!options_.deterministic || !shard.state.has_shadow()) return merge_one(index, version);
  NANDUTI_RETURN_IF_ERROR(check_arrival(index, version));
  shard.arrived.push_back(std::move(version));
  // Only versions of undisturbed lockstep wait for their round; anything else is merged as it comes.
  if (is_lockstep()) return {};
  Status result;
  for (std::size_t k = 0; k < shards_.size(); ++k) {
    for (auto& arrived = shards_[k].arrived; !arrived.empty(); arrived.pop_front()) {
      const Status status = merge_one(index_of(k), arrived.front());
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
  const Result<Update> update =
      decode_update(publish->coding, publish->payload, shard(index).size(), *options_.codecs.publish);
  return update.ok() ? Status() : Status(update.error());
}

Status Replica::merge_one(ShardIndex index, const std::variant<Publish, Assign>& version) {
  ShardReplica& state = shards_.at(index.value()).state;
  const auto* publish = std::get_if<Publish>(&version);
  const bool brings_others = has_more_of_others(header_of(version), state.merged(), options_.own);
  NANDUTI_RETURN_IF_ERROR(publish != nullptr ? state.merge(*publish, *options_.codecs.publish)
                                             : state.merge(std::get<Assign>(version)));
  merged_others_ = merged_others_ || brings_others;
  report(Verdicts{index, state.settled(), take_returned(state)});
  return {};
}

std::pair<ChainId, Version> Replica::arrived(ShardIndex index) const {
  const Shard& shard = shards_.at(index.value());
  const VersionHeader& last = shard.arrived.empty() ? shard.state.merged() : header_of(shard.arrived.back());
  return {last.chain, last.version};
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
  const std::uint64_t bound = settings(round).bound.value_or(0);
  return Version(round.value() > bound ? round.value() - bound : 0);
}

std::optional<Round> Replica::slowest(Round round) const {
  // The gate of promise P1: on every shard, rounds of every worker that is active in the newest membership.
  // A shard that has not heard of a worker yet holds none of its rounds, and none below its entry exist.
  std::optional<Round> smallest;
  const std::vector<MemberClock>& active = newest().active;
  // Its own it includes from the moment they are computed: alone, a worker waits for nobody at any distance.
  if (settings(round).weights.own_work == 1 && active.size() == 1 && active.front().order == options_.own)
    return smallest;
  for (const MemberClock& member : active) {
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
  for (const Shard& shard : shards_)
    if (!shard.state.has_shadow()) return Gate::kNoParameters;
  for (const Shard& shard : shards_)
    if (shard.state.merged().epoch < active_from) return Gate::kNotActive;
  if (is_window_full()) return Gate::kWindow;
  if (is_lockstep()) {
    for (std::size_t k = 0; k < shards_.size(); ++k)
      if (arrived(index_of(k)).second < due(round)) return Gate::kStaleness;
    return Gate::kOpen;
  }
  const std::optional<std::uint32_t> bound = settings(round).bound;
  if (!bound) return Gate::kOpen;
  const std::optional<Round> smallest = slowest(round);
  if (smallest && round > *smallest && round.value() - smallest->value() > *bound) return Gate::kStaleness;
  return Gate::kOpen;
}

bool Replica::is_window_full() const {
  const std::uint64_t uncoded = pending_ ? 1 : 0;
  std::size_t held_bytes = uncoded * 2 * parameters() * sizeof(float);  // its buffers
  std::size_t held_rounds = 0;
  for (const Shard& shard : shards_) {
    const std::uint64_t unacknowledged =
        shard.state.next_sequence().value() - shard.state.acknowledged().value() + uncoded;
    if (unacknowledged >= options_.window_rounds_max) return true;
    held_bytes += shard.state.in_flight_bytes();
    held_rounds = std::max(held_rounds, shard.state.in_flight().size() + uncoded);
  }
  return held_rounds >= 2 && held_bytes >= options_.window_bytes_max && !is_lockstep();
}

Round Replica::own_entry_clock() const {
  for (const MemberClock& member : newest().active)
    if (member.order == options_.own) return member.entry_clock;
  return {};
}

bool Replica::has_residual() const {
  return std::ranges::any_of(
      shards_, [](const Shard& shard) { return shard.state.values().measure_residual().is_left; });
}

double Replica::residual_norm() const {
  double squares = 0;
  for (const Shard& shard : shards_) squares += shard.state.values().measure_residual().squares;
  return std::isfinite(squares) ? std::sqrt(squares) : 0;
}

std::string_view to_string(Replica::Gate gate) {
  switch (gate) {
    case Replica::Gate::kOpen:
      return "open";
    case Replica::Gate::kNoParameters:
      return "no parameters yet";
    case Replica::Gate::kNotActive:
      return "not active yet";
    case Replica::Gate::kStaleness:
      return "staleness";
    case Replica::Gate::kWindow:
      return "window";
  }
  return "?";
}

}  // namespace nanduti
