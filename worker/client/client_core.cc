#include "worker/client/client_core.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/base/check.h"
#include "common/base/overloaded.h"
#include "common/protocol/endpoint_text.h"

namespace nanduti {

namespace {

constexpr PeerId kCoordinator{0};
constexpr StreamIndex kControl{0};
constexpr StreamIndex kBulk{1};
/// A shard that has closed its session for good is waited for so long: either the job ends, or the worker
/// starts over.
constexpr Duration kShardGoneMax = std::chrono::seconds(10);

Hello make_hello(const ClientOptions& options) {
  Hello hello;
  hello.protocol_version = kProtocolVersion;
  hello.codec_format = kCodecFormat;
  hello.program_version = options.program_version;
  hello.role = PeerRole::kWorker;
  hello.name = options.registration.name;
  return hello;
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

ClientCore::ClientCore(const ClientOptions& options, RandomStream random)
    : options_(options), random_(random) {
  incarnation_.words = {random_.next_u64(), random_.next_u64() | 1};
  actions_.push_back(
      OpenPeer{kCoordinator, options_.coordinator_endpoint, kCoordinatorDestination, make_hello(options_)});
}

const Replica* ClientCore::replica() const { return job_ && job_->replica ? &*job_->replica : nullptr; }

void ClientCore::on_event(ProtocolTime now, const Event& event) {
  if (stopped_) return;
  std::visit([&](const auto& e) { handle(now, e); }, event);
  advance(now);
}

void ClientCore::on_deadline(ProtocolTime now) {
  if (stopped_) return;
  send_status(now);
  if (!job_ || now < job_->start_over_at) return;
  note("a shard has closed its session and the job has not ended: starting over", true);
  start_over("a shard is gone");
  advance(now);
}

ProtocolTime ClientCore::next_deadline() const {
  if (stopped_) return kNever;
  return std::min(next_status_, job_ ? job_->start_over_at : kNever);
}

void ClientCore::handle(ProtocolTime now, const PeerConnected& event) {
  if (event.peer == kCoordinator) {
    connected_ = true;
    next_status_ = now + options_.status_every;
    return register_worker();
  }
  if (!job_) return;
  if (const auto shard = job_->shards.find(event.peer); shard != job_->shards.end())
    subscribe(event.peer, shard->second);
}

void ClientCore::handle(ProtocolTime now, const PeerClosed& event) {
  if (event.peer == kCoordinator) {
    connected_ = false;
    next_status_ = kNever;
    if (event.redialling) return note("the coordinator is away, trying again: " + event.reason, true);
    leave_job(event.reason);
    stopped_ = true;
    actions_.push_back(Stopped{"the coordinator has closed the connection: " + event.reason});
    return;
  }
  if (!job_) return;
  const auto shard = job_->shards.find(event.peer);
  if (shard == job_->shards.end()) return;
  job_->subscribed.at(shard->second.value()) = false;
  note(fmt::format("shard {} is away: {}", shard->second, event.reason), true);
  // At a job's regular end the coordinator's word follows soon.
  if (!event.redialling && job_->start_over_at == kNever) job_->start_over_at = now + kShardGoneMax;
}

void ClientCore::handle(ProtocolTime now, const MessageReceived& event) {
  if (event.peer == kCoordinator) return on_coordinator_message(now, event.message);
  if (!job_) return;
  const auto shard = job_->shards.find(event.peer);
  if (shard != job_->shards.end()) on_shard_message(now, event.peer, shard->second, event.message);
}

/// Only pushes have a tag: the sequence that follows.
void ClientCore::handle(ProtocolTime, const MessageAcked& event) {
  if (!job_) return;
  const auto shard = job_->shards.find(event.peer);
  if (shard == job_->shards.end()) return;
  Sequence& delivered = job_->delivered.at(shard->second.value());
  delivered = std::max(delivered, Sequence(event.tag));
}

void ClientCore::handle(ProtocolTime, const JobLoaded& event) {
  if (!job_ || job_->id != event.job) return;
  if (!event.result.ok()) {
    note(fmt::format("cannot do job {}: {}", event.job, event.result.error().message), true);
    tell_coordinator(JobRefused{event.job, event.result.error().message});
    job_.reset();
    return;
  }
  job_->loaded = event.result.value();
  tell_coordinator(JobPrepared{event.job, job_->loaded->data, job_->loaded->layout_hash});
  if (job_->join_asked) join(*std::exchange(job_->join_asked, std::nullopt));
}

void ClientCore::handle(ProtocolTime, const RoundComputed& event) {
  if (!job_ || job_->id != event.job || !job_->computing) return;
  Job& job = *job_;
  const RoundName name = *std::exchange(job.computing, std::nullopt);
  job.replica->finish_round(name, event.progress);
  job.round = name.round.next();
  job.status.clock = job.round;
  job.status.samples += name.range.size();
  job.status.loss_sum += event.loss_sum;
  job.status.compute_seconds += event.compute_seconds;
}

void ClientCore::handle(ProtocolTime, const CutEvaluated& event) {
  if (!job_ || job_->id != event.job) return;
  job_->evaluating.reset();
  drop_unneeded_cuts();
  job_->status.evaluation_seconds += event.seconds;
  tell_coordinator(EvaluationDone{event.job, event.lease, event.correct, event.total, event.loss_sum});
}

void ClientCore::handle(ProtocolTime now, const WorkFailed& event) {
  if (job_ && job_->id == event.job) give_up(now, event.reason);
}

/// The job cannot go on here; the coordinator hears why.
void ClientCore::give_up(ProtocolTime now, const std::string& reason) {
  note(fmt::format("cannot go on with job {}: {}", job_->id, reason), true);
  tell_status(now);
  tell_coordinator(JobRefused{job_->id, reason});
  leave_job(reason);
}

void ClientCore::handle(ProtocolTime, const DrainRequested&) {
  if (draining_) return;
  draining_ = true;
  tell_coordinator(Draining{});
}

void ClientCore::on_coordinator_message(ProtocolTime now, const Message& message) {
  const auto is_ours = [&](JobId id) { return job_ && job_->id == id; };
  std::visit(Overloaded{[&](const Registered& m) {
                          // Another number is another life: after a lost session the old one is dead.
                          if (m.order != order_) leave_job("the coordinator has given another order number");
                          order_ = m.order;
                        },
                        [&](const PrepareJob& m) { prepare(m); }, [&](const JoinJob& m) { join(m); },
                        [&](const LeaseGrant& m) {
                          if (!is_ours(m.job)) return;
                          job_->lease_asked = false;
                          job_->lease_refused = false;
                          if (!draining_)
                            job_->leases.push_back(m);
                          else if (m.range.size() > 0)
                            tell_coordinator(LeaseReturn{m.job, m.lease, m.range});
                        },
                        [&](const NoLease& m) {
                          if (!is_ours(m.job)) return;
                          job_->lease_asked = false;
                          job_->lease_refused = true;
                        },
                        [&](const EvaluationLease& m) {
                          if (is_ours(m.job) && job_->replica) on_evaluation_lease(m);
                        },
                        [&](const FlushResidual& m) {
                          if (!is_ours(m.job)) return;
                          job_->flush_asked = job_->flush_in_step = true;
                          job_->flush_reported = false;
                        },
                        [&](const EndJob& m) {
                          if (!is_ours(m.job)) return;
                          tell_status(now);  // the last one: what it did since the one before counts
                          leave_job(m.reason);
                        },
                        [&](const Fenced& m) {
                          note("declared dead by the coordinator, starting over: " + m.reason, true);
                          start_over(m.reason);
                        },
                        [&](const auto&) {
                          note(fmt::format("the coordinator sent a {}, which is not for workers",
                                           message_name(message)),
                               true);
                        }},
             message);
}

void ClientCore::on_shard_message(ProtocolTime now, PeerId peer, ShardIndex shard, const Message& message) {
  std::visit(Overloaded{[&](const Subscribed& m) { on_subscribed(peer, shard, m.next_sequence); },
                        [&](const PushAck& m) { job_->replica->on_ack(shard, m); },
                        [&](const Publish& m) { on_version(peer, shard, m); },
                        [&](const Assign& m) { on_version(peer, shard, m); },
                        [&](const CutValues& m) { on_cut_values(now, shard, m); },
                        [&](const ShardRefusal& m) {
                          note(fmt::format("shard {} refuses: {}", shard, m.reason), true);
                          if (m.cut == CutId()) return;
                          std::erase_if(job_->evaluations,
                                        [&](const EvaluationLease& e) { return e.cut == m.cut; });
                          drop_unneeded_cuts();
                        },
                        [&](const auto&) {
                          note(fmt::format("shard {} sent a {}, which is not for workers", shard,
                                           message_name(message)),
                               true);
                        }},
             message);
}

void ClientCore::start_over(const std::string& reason) {
  leave_job(reason);
  order_ = IncarnationOrder();
  incarnation_.words = {random_.next_u64(), random_.next_u64() | 1};
  register_worker();
}

void ClientCore::register_worker() {
  RegisterWorker registration = options_.registration;
  registration.incarnation = incarnation_;
  tell_coordinator(registration);
  if (draining_) tell_coordinator(Draining{});
}

void ClientCore::prepare(const PrepareJob& request) {
  if (job_ && job_->id == request.job) {  // asked again after a lost session
    if (job_->loaded)
      tell_coordinator(JobPrepared{request.job, job_->loaded->data, job_->loaded->layout_hash});
    return;
  }
  leave_job("another job begins");
  job_.emplace(Job());
  job_->id = request.job;
  job_->status.job = request.job;
  job_->traffic_before = traffic_;
  actions_.push_back(LoadJob{request.job, request.spec_text});
}

void ClientCore::join(const JoinJob& request) {
  if (!job_ || job_->id != request.job) return;
  if (!job_->loaded) {  // the coordinator goes by what this worker has said before a lost session
    job_->join_asked = request;
    return;
  }
  if (job_->replica) {  // asked again after a lost session, which may have lost the answer to a request
    job_->lease_asked = false;
    return;
  }
  Job& job = *job_;
  ReplicaOptions options;
  std::uint64_t covered = 0;
  bool covers = !request.shards.empty();
  for (std::size_t k = 0; k < request.shards.size(); ++k) {
    const ShardPlace& place = request.shards[k];
    covers = covers && place.index.value() == k && place.begin == covered && place.begin <= place.end;
    covered = place.end;
    options.shards.push_back({place.begin, place.end});
  }
  covers = covers && covered == job.loaded->parameters;
  if (!covers || request.layout_hash != job.loaded->layout_hash) {
    tell_coordinator(JobRefused{request.job, "the shards hold another model than this worker's"});
    return;
  }
  options.own = order_;
  options.bound = job.loaded->bound;
  options.deterministic = job.loaded->deterministic;
  options.codec = job.loaded->codec;
  options.seed = job.loaded->seed;
  options.window_rounds_max = options_.window_rounds_max;
  options.window_bytes_max = options_.window_bytes_max;
  job.places = request.shards;
  job.subscribed.assign(request.shards.size(), false);
  job.has_gap.assign(request.shards.size(), false);
  job.next_to_send.assign(request.shards.size(), Sequence());
  job.delivered.assign(request.shards.size(), Sequence());
  job.replica.emplace(options);
  for (const ShardPlace& place : request.shards) {
    const PeerId peer(next_peer_++);
    job.shards.emplace(peer, place.index);
    Hello hello = make_hello(options_);
    hello.job = request.job;
    hello.layout_hash = request.layout_hash;
    hello.stream_count = 2;
    actions_.push_back(OpenPeer{peer, dialable(place.endpoint, options_.coordinator_endpoint),
                                place.destination, hello, shard_payload_bytes_max(place.end - place.begin)});
  }
}

void ClientCore::leave_job(const std::string& reason) {
  if (!job_) return;
  for (const auto& [peer, shard] : job_->shards) actions_.push_back(ClosePeer{peer, reason, false});
  actions_.push_back(UnloadJob{job_->id});
  job_.reset();
}

void ClientCore::subscribe(PeerId peer, ShardIndex shard) {
  job_->has_gap.at(shard.value()) = false;
  const auto [chain, version] = job_->replica->arrived(shard);
  actions_.push_back(SendMessage{
      peer, kControl,
      Subscribe{job_->id, order_, incarnation_, chain, version, job_->replica->shard(shard).acknowledged()}});
}

void ClientCore::on_version(PeerId peer, ShardIndex shard, std::variant<Publish, Assign> version) {
  const bool adds = std::holds_alternative<Publish>(version);
  const Status status = job_->replica->on_version(shard, std::move(version));
  if (status.ok()) {
    job_->has_gap.at(shard.value()) = false;
    return;
  }
  // Those that were under way when it asked again do not fit either.
  if (adds && job_->has_gap.at(shard.value())) return;
  note(fmt::format("shard {}: {}; subscribing again", shard, status.error().message), true);
  subscribe(peer, shard);
  job_->has_gap.at(shard.value()) = true;
}

void ClientCore::on_subscribed(PeerId peer, ShardIndex shard, Sequence next_sequence) {
  job_->subscribed.at(shard.value()) = true;
  job_->replica->on_ack(shard, {job_->id, AckLevel::kDurableHere, next_sequence, {}});
  // What is held from there on goes again, in advance().
  job_->next_to_send.at(shard.value()) = next_sequence;
  job_->delivered.at(shard.value()) = next_sequence;
  for (const auto& [id, cut] : job_->cuts)
    if (cut.missing.contains(shard)) actions_.push_back(SendMessage{peer, kControl, FetchCut{job_->id, id}});
}

void ClientCore::on_evaluation_lease(const EvaluationLease& lease) {
  Job& job = *job_;
  const auto is_same = [&](const EvaluationLease& other) { return other.lease == lease.lease; };
  if (job.evaluating && is_same(*job.evaluating)) return;
  if (std::any_of(job.evaluations.begin(), job.evaluations.end(), is_same)) return;
  job.evaluations.push_back(lease);
  const auto [cut, is_new] = job.cuts.try_emplace(lease.cut);
  if (!is_new) return;
  for (const auto& [peer, shard] : job.shards) {
    cut->second.missing.insert(shard);
    actions_.push_back(SendMessage{peer, kControl, FetchCut{job.id, lease.cut}});
  }
  if (job.cuts.size() <= kCutsMax) return;
  const CutId oldest = job.cuts.begin()->first;
  std::erase_if(job.evaluations, [&](const EvaluationLease& e) { return e.cut == oldest; });
  job.cuts.erase(oldest);
}

void ClientCore::on_cut_values(ProtocolTime now, ShardIndex shard, const CutValues& values) {
  Job& job = *job_;
  const ShardPlace& place = job.places.at(shard.value());
  if (values.payload.size() != (place.end - place.begin) * sizeof(float))
    return give_up(now, fmt::format("shard {} sent a cut of {} bytes for {} parameters", shard,
                                    values.payload.size(), place.end - place.begin));
  const auto cut = job.cuts.find(values.cut);
  if (cut == job.cuts.end() || cut->second.missing.erase(shard) == 0) return;
  std::shared_ptr<std::vector<float>>& parameters = cut->second.parameters;
  if (!parameters) parameters = std::make_shared<std::vector<float>>(job.loaded->parameters);
  if (!values.payload.empty())
    std::memcpy(parameters->data() + place.begin, values.payload.data(), values.payload.size());
}

void ClientCore::drop_unneeded_cuts() {
  Job& job = *job_;
  std::erase_if(job.cuts, [&](const auto& cut) {
    const auto needs = [&](const EvaluationLease& e) { return e.cut == cut.first; };
    if (job.evaluating && needs(*job.evaluating)) return false;
    return std::none_of(job.evaluations.begin(), job.evaluations.end(), needs);
  });
}

void ClientCore::advance(ProtocolTime now) {
  if (stopped_) return;
  if (job_ && job_->replica) {
    account_waiting(now);
    if (!job_->computing && !job_->evaluating && !begin_evaluation())
      while (!begin_round(now)) continue;
    ask_for_lease();
    flush_if_asked();
    send_pushes();
    job_->at_gate = waits_for_others();
    const bool waits = !job_->computing && !job_->evaluating && !job_->leases.empty();
    job_->waiting_since = waits ? now : kNever;
  }
  if (draining_) finish_drain(now);
}

bool ClientCore::begin_evaluation() {
  Job& job = *job_;
  if (job.evaluations.empty()) return false;
  const EvaluationLease next = job.evaluations.front();
  const Cut& cut = job.cuts.at(next.cut);
  if (!cut.missing.empty()) return false;
  job.evaluating = next;
  job.evaluations.pop_front();
  actions_.push_back(EvaluateCut{job.id, next.lease, next.begin, next.end, cut.parameters});
  return true;
}

bool ClientCore::begin_round(ProtocolTime) {
  Job& job = *job_;
  job.gate = Replica::Gate::kOpen;
  if (job.leases.empty() || draining_) return true;
  LeaseGrant& lease = job.leases.front();
  // Who was suspended enters again further on, with the leases it has.
  const Round round = std::max({job.round, lease.entry_clock, job.replica->own_entry_clock()});
  job.gate = job.replica->gate(round, lease.active_from);
  if (job.gate != Replica::Gate::kOpen) return true;
  constexpr std::uint64_t kStalenessShownMax = std::numeric_limits<std::uint32_t>::max();
  job.status.staleness =
      static_cast<std::uint32_t>(std::min(job.replica->staleness(round), kStalenessShownMax));
  SampleRange range = lease.range;
  range.end = range.begin + std::min(range.size(), job.loaded->round_samples);
  const RoundName name{job.id, round, lease.lease, range};
  lease.range.begin = range.end;
  if (lease.range.size() == 0) job.leases.pop_front();
  auto parameters = std::make_shared<const std::vector<float>>(job.replica->begin_round(round));
  if (range.size() == 0) {  // deterministic jobs: every rank takes part in every step
    job.replica->finish_round(name, std::vector<float>(parameters->size()));
    job.round = round.next();
    job.status.clock = job.round;
    return false;
  }
  job.computing = name;
  actions_.push_back(ComputeRound{job.id, round, range, std::move(parameters)});
  return true;
}

void ClientCore::ask_for_lease() {
  Job& job = *job_;
  // One lease ahead, so that the answer is there when this one is used up.
  if (job.lease_asked || job.lease_refused || draining_ || job.leases.size() > 1) return;
  if (std::find(job.subscribed.begin(), job.subscribed.end(), false) != job.subscribed.end()) return;
  // A lease's time runs: no download of the model is part of it.
  if (!job.replica->has_shadow() || !connected_) return;
  job.lease_asked = true;
  tell_coordinator(LeaseRequest{job.id});
}

void ClientCore::flush_if_asked() {
  Job& job = *job_;
  if (!job.flush_asked || job.flush_reported || job.computing || !job.leases.empty()) return;
  const bool joined = job.replica->epoch() > MembershipEpoch();
  const bool in_step = job.flush_in_step && joined && job.replica->is_lockstep();
  if (in_step || job.replica->has_residual()) {
    job.flush_in_step = false;
    job.replica->flush(job.id, job.round);
  }
  if (!job.replica->is_acknowledged() || !connected_) return;
  job.flush_reported = true;
  tell_coordinator(ResidualFlushed{job.id});
}

/// All that was asked of it has arrived at the shards, and it cannot go on before the others have done the
/// same.
bool ClientCore::waits_for_others() const {
  const Job& job = *job_;
  if (job.computing || job.evaluating) return false;
  const bool at_gate = job.gate == Replica::Gate::kStaleness;
  const bool flushes = job.flush_asked && !job.flush_in_step && !job.flush_reported;
  if (!at_gate && !(flushes && job.replica->is_lockstep())) return false;
  for (const auto& [peer, index] : job.shards) {
    const ShardReplica& shard = job.replica->shard(index);
    const Sequence arrived = std::max(job.delivered.at(index.value()), shard.acknowledged());
    if (!job.subscribed.at(index.value()) || arrived < shard.next_sequence()) return false;
  }
  return true;
}

void ClientCore::finish_drain(ProtocolTime now) {
  if (job_ && job_->replica) {
    Job& job = *job_;
    if (job.computing || job.evaluating) return;
    for (const LeaseGrant& lease : job.leases)
      if (lease.range.size() > 0) tell_coordinator(LeaseReturn{lease.job, lease.lease, lease.range});
    job.leases.clear();
    job.flush_asked = true;
    flush_if_asked();
    send_pushes();
    if (!job.flush_reported) return;
  }
  // Away, but nothing here that the coordinator needs: it finds out by itself.
  if (!connected_ && job_ && job_->replica) return;
  tell_status(now);
  tell_coordinator(Leave{});
  leave_job("the worker has drained");
  actions_.push_back(ClosePeer{kCoordinator, "the worker has drained", true});
  actions_.push_back(Stopped{});
  stopped_ = true;
}

/// Hands pushes that are held to their sessions, oldest first, as far as the window allows: a session's queue
/// has a maximum, and one that overflows loses everything.
void ClientCore::send_pushes() {
  Job& job = *job_;
  for (const auto& [peer, shard] : job.shards) {
    // Not subscribed: held until the shard has said where to go on.
    if (!job.subscribed.at(shard.value())) continue;
    Sequence& next = job.next_to_send.at(shard.value());
    if (next >= job.replica->shard(shard).next_sequence()) continue;
    std::size_t unacknowledged_bytes = 0;
    for (const ShardReplica::InFlight& held : job.replica->shard(shard).in_flight()) {
      if (held.acknowledged) continue;
      const std::size_t bytes = held.push.payload.size();
      if (held.push.sequence >= next) {
        if (unacknowledged_bytes > 0 && unacknowledged_bytes + bytes > options_.window_bytes_max) break;
        next = held.push.sequence.next();
        actions_.push_back(SendMessage{peer, kBulk, held.push, next.value()});
      }
      unacknowledged_bytes += bytes;
    }
  }
}

void ClientCore::account_waiting(ProtocolTime now) {
  if (job_->waiting_since == kNever) return;
  job_->status.stall_seconds += seconds(now - job_->waiting_since);
  job_->waiting_since = now;
}

void ClientCore::send_status(ProtocolTime now) {
  if (next_status_ > now) return;
  next_status_ = now + options_.status_every;
  tell_status(now);
}

void ClientCore::tell_status(ProtocolTime now) {
  WorkerStatus status;
  if (job_) {
    account_waiting(now);
    status = job_->status;
    status.at_gate = job_->at_gate;
    status.bytes_up = traffic_.bytes_up - job_->traffic_before.bytes_up;
    status.bytes_down = traffic_.bytes_down - job_->traffic_before.bytes_down;
  }
  status.round_trip_seconds = traffic_.round_trip_seconds;
  tell_coordinator(status);
}

void ClientCore::tell_coordinator(Message message) {
  if (connected_) actions_.push_back(SendMessage{kCoordinator, kControl, std::move(message)});
}

}  // namespace nanduti
