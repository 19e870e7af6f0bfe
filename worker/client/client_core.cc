#include "worker/client/client_core.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/overloaded.h"
#include "common/protocol/endpoint_text.h"

namespace nanduti {

namespace {

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

void ClientCore::on_event(ProtocolTime now, const Event& event) {
  if (stopped_) return;
  std::visit([&](const auto& e) { handle(now, e); }, event);
  advance();
}

void ClientCore::on_deadline(ProtocolTime now) {
  if (stopped_) return;
  send_status(now);
  if (!job_ || now < job_->start_over_at) return;
  note("a shard has closed its session and the job has not ended: starting over", true);
  start_over("a shard is gone");
  advance();
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
  if (const auto shard = job_->shards.find(event.peer); shard != job_->shards.end()) subscribe(shard->second);
}

void ClientCore::handle(ProtocolTime now, const PeerClosed& event) {
  if (event.peer == kCoordinator) {
    connected_ = registered_ = false;
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
  job_->links.at(shard->second.value()).subscribed = false;
  note(fmt::format("shard {} is away: {}", shard->second, event.reason), true);
  // At a job's regular end the coordinator's word follows soon.
  if (!event.redialling && job_->start_over_at == kNever) job_->start_over_at = now + kShardGoneMax;
}

void ClientCore::handle(ProtocolTime, const MessageReceived& event) {
  if (event.peer == kCoordinator) return on_coordinator_message(event.message);
  if (!job_) return;
  const auto shard = job_->shards.find(event.peer);
  if (shard != job_->shards.end()) on_shard_message(shard->second, event.message);
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

void ClientCore::handle(ProtocolTime now, const ReplicaReported& event) {
  if (!job_ || job_->id != event.job || !job_->joined) return;
  std::visit([&](const auto& report) { take(now, report); }, event.report);
}

void ClientCore::take(ProtocolTime, const Replica::RoundBegun& report) {
  on_begun(report.range);
  job_->gate = Replica::Gate::kOpen;
  ++job_->uncoded;
  job_->status.staleness = report.staleness;
}

void ClientCore::take(ProtocolTime, const Replica::RoundExtended& report) {
  on_begun(report.range);
  count_work(report.samples, report.loss_sum, report.compute_seconds);
}

void ClientCore::count_work(std::uint64_t samples, double loss_sum, double compute_seconds) {
  job_->status.samples += samples;
  job_->status.loss_sum += loss_sum;
  job_->status.compute_seconds += compute_seconds;
}

void ClientCore::on_begun(const SampleRange& range) {
  LeaseGrant& lease = job_->offered.value();
  lease.range.begin = range.end;
  if (lease.range.size() == 0) job_->offered.reset();
}

void ClientCore::take(ProtocolTime now, const Replica::RoundCoded& report) {
  Job& job = *job_;
  --job.uncoded;
  job.residual_left = true;
  job.flushed = job.flush_made = false;
  job.turnaround.on_pushed(now, report.pushes.front().sequence);
  hold(report.pushes);
  job.status.clock = report.name.round.next();
  count_work(report.samples, report.loss_sum, report.compute_seconds);
}

void ClientCore::take(ProtocolTime, const Replica::RoundsWithdrawn& report) {
  job_->withdrawing = false;
  if (report.offer) job_->leases.push_front(*std::exchange(job_->offered, std::nullopt));
}

void ClientCore::take(ProtocolTime, const Replica::TuningTaken& report) {
  job_->tuned = Tuned{job_->id, report.number, report.from_round};
  tell_coordinator(*job_->tuned);
}

void ClientCore::take(ProtocolTime, const Replica::Flushed& report) {
  job_->flushing = false;
  job_->flushed_in_step = report.in_step;
  job_->residual_left = !report.complete;
  job_->flushed = job_->flushing_last && report.complete && report.pushes.empty();
  job_->flush_made = job_->flush_made || !report.pushes.empty();
  hold(report.pushes);
  for (const Push& push : report.pushes) job_->status.exact_bytes_up += push.payload.size();
}

void ClientCore::take(ProtocolTime, const Replica::GateChanged& report) { job_->gate = report.gate; }

void ClientCore::handle(ProtocolTime, const PipelineMeasured& event) {
  if (!job_ || job_->id != event.job) return;
  job_->status.stall = event.figures.stall;
  job_->status.compute_cpu_seconds = event.figures.compute_cpu_seconds;
  job_->status.codec_cpu_seconds = event.figures.codec_cpu_seconds;
  job_->status.residual_norm = event.figures.residual_norm;
}

void ClientCore::handle(ProtocolTime, const WorkFailed& event) {
  if (job_ && job_->id == event.job) give_up(event.reason);
}

/// The job cannot go on here; the coordinator hears why.
void ClientCore::give_up(const std::string& reason) {
  note(fmt::format("cannot go on with job {}: {}", job_->id, reason), true);
  tell_status();
  tell_coordinator(JobRefused{job_->id, reason});
  leave_job(reason);
}

void ClientCore::handle(ProtocolTime, const DrainRequested&) {
  if (draining_) return;
  draining_ = true;
  tell_coordinator(Draining{});
}

void ClientCore::on_coordinator_message(const Message& message) {
  const auto is_ours = [&](JobId id) { return job_ && job_->id == id; };
  std::visit(Overloaded{[&](const Registered& m) { on_registered(m.order); },
                        [&](const PrepareJob& m) { prepare(m); }, [&](const JoinJob& m) { join(m); },
                        [&](const LeaseGrant& m) {
                          if (is_ours(m.job)) on_lease(m);
                        },
                        [&](const NoLease& m) {
                          if (!is_ours(m.job)) return;
                          job_->lease_asked = false;
                          job_->lease_refused = true;
                        },
                        [&](const Tune& m) {
                          if (is_ours(m.job)) tune(m);
                        },
                        [&](const EvaluationLease& m) {
                          if (is_ours(m.job) && job_->joined) on_evaluation_lease(m);
                        },
                        [&](const FlushResidual& m) {
                          if (!is_ours(m.job)) return;
                          job_->flush_reported = false;
                          if (std::exchange(job_->flush_told, true)) return;  // its answer was lost
                          job_->flush_asked = job_->flush_in_step = true;
                          job_->flushed = false;
                        },
                        [&](const EndJob& m) {
                          if (!is_ours(m.job)) return;
                          tell_status();  // the last one: what it did since the one before counts
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

void ClientCore::start_over(const std::string& reason) {
  leave_job(reason);
  order_ = IncarnationOrder();
  incarnation_.words = {random_.next_u64(), random_.next_u64() | 1};
  register_worker();
}

void ClientCore::register_worker() {
  registered_ = false;
  RegisterWorker registration = options_.registration;
  registration.incarnation = incarnation_;
  registration.order = order_;
  if (job_ && job_->joined) registration.job = job_->id;
  tell_coordinator(registration);
  if (draining_) tell_coordinator(Draining{});
}

/// Another number is another life: the coordinator knows nothing of the old one, or has declared it dead.
void ClientCore::on_registered(IncarnationOrder order) {
  if (order != order_) leave_job("the coordinator has given another order number");
  order_ = order;
  registered_ = true;
  if (!job_) return;
  // What was on its way may be lost.
  job_->lease_asked = job_->lease_refused = false;
}

/// The coordinator grants again what may not have arrived.
void ClientCore::on_lease(const LeaseGrant& lease) {
  Job& job = *job_;
  if (lease.lease <= job.newest_lease) return;
  job.newest_lease = lease.lease;
  job.lease_asked = job.lease_refused = false;
  job.ahead = lease.ahead;
  if (!draining_)
    job.leases.push_back(lease);
  else if (lease.range.size() > 0)
    tell_coordinator(LeaseReturn{lease.job, lease.lease, lease.range});
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
  if (job_->joined) {  // asked again after a lost session, which may have lost the answer to a request
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
  static_cast<RoundSettings&>(options) = *job.loaded;
  options.job = request.job;
  options.own = order_;
  options.deterministic = job.loaded->deterministic;
  options.epoch_samples = job.loaded->data.train_samples;
  options.window_rounds_max = options_.window_rounds_max;
  options.window_bytes_max = options_.window_bytes_max;
  options.initial_values = std::exchange(job.loaded->initial_values, nullptr);
  job.places = request.shards;
  job.links.resize(request.shards.size());
  if (options.initial_values)
    for (const ShardPlace& place : request.shards)
      job.links.at(place.index.value()).initial_fingerprint = initial_fingerprint(
          std::span(*options.initial_values).subspan(place.begin, place.end - place.begin));
  job.turnaround = Turnaround(request.shards.size());
  job.joined = true;
  actions_.push_back(OpenReplica{std::move(options)});
  if (job.tuning) apply_tuning();
  if (!job_) return;  // it cannot be read
  for (const ShardPlace& place : request.shards) {
    const PeerId peer(next_peer_++);
    job.shards.emplace(peer, place.index);
    job.links.at(place.index.value()).peer = peer;
    Hello hello = make_hello(options_);
    hello.job = request.job;
    hello.layout_hash = request.layout_hash;
    hello.stream_count = kStreamsMax;
    actions_.push_back(OpenPeer{peer, dialable(place.endpoint, options_.coordinator_endpoint),
                                place.destination, hello, shard_payload_bytes_max(place.end - place.begin)});
  }
}

void ClientCore::tune(const Tune& request) {
  if (job_->tuned && job_->tuned->number == request.number) tell_coordinator(*job_->tuned);
  if (job_->tuning && request.number <= job_->tuning->number) return;
  job_->tuning = request;
  if (job_->joined) apply_tuning();
}

void ClientCore::apply_tuning() {
  const Tune& tuning = *job_->tuning;
  RoundSettings settings = *job_->loaded;
  if (!tuning.settings.empty()) {
    Result<RoundSettings> read = job_->loaded->read_settings(tuning.settings);
    if (!read.ok()) return give_up("a tuning that this worker cannot read: " + read.error().message);
    settings = std::move(read).value();
  }
  settings.bound = tuning.bound;
  settings.round_samples = tuning.round_samples;
  tell_replica(Replica::TakeTuning{tuning.number, tuning.from_round, std::move(settings)});
}

void ClientCore::leave_job(const std::string& reason) {
  if (!job_) return;
  for (const auto& [peer, shard] : job_->shards) actions_.push_back(ClosePeer{peer, reason, false});
  actions_.push_back(UnloadJob{job_->id});
  job_.reset();
}

void ClientCore::advance() {
  if (stopped_) return;
  if (job_ && job_->joined) {
    begin_evaluation();
    offer_rounds();
    ask_for_lease();
    flush_if_asked();
    send_pushes();
    tell_whether_work_is_expected();
  }
  if (draining_) finish_drain();
}

void ClientCore::tell_whether_work_is_expected() {
  Job& job = *job_;
  const bool expected = job.offered || !job.leases.empty() || (!job.lease_refused && !draining_);
  if (expected != job.work_expected) actions_.push_back(WorkExpected{job.work_expected = expected});
}

/// The replica has the next rounds' samples before it needs them.
void ClientCore::offer_rounds() {
  Job& job = *job_;
  if (job.offered || job.leases.empty() || draining_) return;
  job.offered = std::move(job.leases.front());
  job.leases.pop_front();
  const LeaseGrant& lease = *job.offered;
  tell_replica(Replica::OfferRounds{lease.lease, lease.range, lease.active_from, lease.entry_clock});
}

void ClientCore::ask_for_lease() {
  Job& job = *job_;
  if (job.lease_asked || job.lease_refused || draining_ || job.leases.size() >= kLeasesMax) return;
  const std::uint64_t round = job.tuning ? job.tuning->round_samples : job.loaded->round_samples;
  // The next round's are as good as begun.
  std::uint64_t before_it = job.offered ? job.offered->range.size() : 0;
  before_it -= std::min(before_it, round);
  for (const LeaseGrant& lease : job.leases) before_it += lease.range.size();
  if (before_it >= std::max<std::uint64_t>(job.ahead, 1)) return;
  // A lease's time runs: no download of the model is part of it.
  for (const ShardLink& link : job.links)
    if (!link.subscribed || link.chain == ChainId()) return;
  if (!registered_) return;
  job.lease_asked = true;
  tell_coordinator(LeaseRequest{job.id});
}

void ClientCore::flush_if_asked() {
  Job& job = *job_;
  const bool training = job.offered || job.uncoded > 0 || !job.leases.empty();
  if (!job.flush_asked || job.flush_reported || job.flushing || training) return;
  if (job.flushed) {
    if (!registered_) return;
    job.flush_reported = true;
    tell_coordinator(ResidualFlushed{job.id});
    return;
  }
  // The last flush is one that finds nothing after all pushes have been acknowledged: what is not applied of
  // them returns.
  job.flushing_last = is_acknowledged();
  const bool to_flush = job.residual_left && !job.flush_made;
  const bool to_step = job.flush_in_step && job.loaded->deterministic;
  if (!job.flushing_last && !to_flush && !to_step) return;
  job.flushing = true;
  tell_replica(Replica::Flush{std::exchange(job.flush_in_step, false)});
}

/// All that was asked of it has arrived at the shards, and it cannot go on before the others have done the
/// same.
bool ClientCore::waits_for_others() const {
  const Job& job = *job_;
  if (job.uncoded > 0 || job.evaluating) return false;
  const bool flushes = job.flushed_in_step && !job.flush_reported;
  // In lockstep a step settles when everybody has taken it: so a full window empties with the others', and
  // also the last one of who has no samples left.
  const bool in_lockstep = job.loaded->deterministic;
  const bool is_held =
      job.gate == Replica::Gate::kStaleness || (in_lockstep && job.gate == Replica::Gate::kWindow);
  const bool has_ended = in_lockstep && !job.offered && job.leases.empty() &&
                         (job.lease_asked || job.lease_refused) && !job.flush_reported;
  if (!is_held && !flushes && !has_ended) return false;
  return std::all_of(job.links.begin(), job.links.end(), [&](const ShardLink& link) {
    if (!link.subscribed) return false;
    // What the window's bytes hold back goes when the shard has settled what was sent: in lockstep, with the
    // others.
    const bool all_sent = link.held.empty() || link.held.back().sequence < link.next_to_send;
    return (all_sent || in_lockstep) && (link.held.empty() || link.next_to_send <= link.delivered);
  });
}

void ClientCore::finish_drain() {
  if (job_ && job_->joined) {
    // Away: what is held here belongs to a life that may be over.
    if (!registered_) return;
    Job& job = *job_;
    if (job.offered) {
      if (!std::exchange(job.withdrawing, true)) tell_replica(Replica::WithdrawRounds());
      return;
    }
    if (job.uncoded > 0 || job.evaluating) return;
    for (const LeaseGrant& lease : job.leases)
      if (lease.range.size() > 0) tell_coordinator(LeaseReturn{lease.job, lease.lease, lease.range});
    job.leases.clear();
    job.flush_asked = true;
    flush_if_asked();
    send_pushes();
    if (!job.flush_reported) return;
  }
  // Where it is away and nothing here is needed, the coordinator finds out by itself.
  tell_status();
  tell_coordinator(Leave{});
  leave_job("the worker has drained");
  actions_.push_back(ClosePeer{kCoordinator, "the worker has drained", true});
  actions_.push_back(Stopped{});
  stopped_ = true;
}

void ClientCore::send_status(ProtocolTime now) {
  if (next_status_ > now) return;
  next_status_ = now + options_.status_every;
  tell_status();
}

void ClientCore::tell_status() {
  WorkerStatus status;
  if (job_) {
    status = job_->status;
    status.at_gate = job_->joined && waits_for_others();
    status.pushes_in_flight = static_cast<std::uint32_t>(job_->turnaround.in_flight());
    status.turnaround_p50_seconds = seconds(job_->turnaround.percentile(0.5));
    status.turnaround_p99_seconds = seconds(job_->turnaround.percentile(0.99));
    status.bytes_up = traffic_.bytes_up - job_->traffic_before.bytes_up;
    status.bytes_down = traffic_.bytes_down - job_->traffic_before.bytes_down;
  }
  status.round_trip_seconds = traffic_.round_trip_seconds;
  status.round_trip_deviation_seconds = traffic_.round_trip_deviation_seconds;
  status.path_bytes_per_second = traffic_.path_bytes_per_second;
  tell_coordinator(status);
}

void ClientCore::tell_coordinator(Message message) {
  if (connected_) actions_.push_back(SendMessage{kCoordinator, kControl, std::move(message)});
}

}  // namespace nanduti
