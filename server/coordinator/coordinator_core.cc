#include "server/coordinator/coordinator_core.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/overloaded.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

namespace {

constexpr StreamIndex kControl{0};
constexpr std::uint64_t kSamplesMax = std::uint64_t{1} << 40;
constexpr std::uint32_t kSideMax = 1 << 16;  // of a sample, and classes
constexpr std::uint64_t kSampleValuesMax = std::uint64_t{1} << 28;

/// The beginning of a peer's text, in whole UTF-8 characters.
std::string shortened(std::string text) {
  if (text.size() <= kKeptTextBytesMax) return text;
  std::size_t end = kKeptTextBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  text.resize(end);
  return text;
}

/// Whether a job can be planned for such data at all.
Status check(const DataDescription& data) {
  if (data.train_samples == 0)
    return make_error(ErrorCode::kInvalidArgument, "its data has no training samples");
  if (data.train_samples > kSamplesMax || data.test_samples > kSamplesMax)
    return make_error(ErrorCode::kInvalidArgument,
                      "its data has {} training and {} test samples, more than {}", data.train_samples,
                      data.test_samples, kSamplesMax);
  for (const std::uint32_t side : {data.channels, data.height, data.width, data.classes})
    if (side == 0 || side > kSideMax)
      return make_error(ErrorCode::kInvalidArgument,
                        "its data has samples of {} x {} x {} in {} classes; each must be 1 to {}",
                        data.channels, data.height, data.width, data.classes, kSideMax);
  if (std::uint64_t{data.height} * data.width > kSampleValuesMax / data.channels)
    return make_error(ErrorCode::kInvalidArgument,
                      "its data has samples of {} x {} x {}: more than {} values", data.channels, data.height,
                      data.width, kSampleValuesMax);
  return {};
}

}  // namespace

void CoordinatorCore::on_event(ProtocolTime now, const Event& event) {
  now_ = now;
  std::visit([&](const auto& e) { handle(now, e); }, event);
  if (next_check_ == kNever) next_check_ = now + kCheckEvery;
  advance(now);
  end_event();
}

const CoordinatorCore::JobView* CoordinatorCore::view(JobId job) const {
  const auto it = jobs_.find(job);
  return it == jobs_.end() ? nullptr : &it->second;
}

CoordinatorCore::Worker* CoordinatorCore::worker_at(PeerId peer) {
  for (auto& [order, worker] : workers_)
    if (worker.peer == peer) return &worker;
  return nullptr;
}

/// Who is away (nobody is peer 0, and sessions that are over take nothing) is told what matters when it is
/// back.
void CoordinatorCore::tell(PeerId peer, Message message) {
  actions_.push_back(SendMessage{peer, kControl, std::move(message)});
}

void CoordinatorCore::tell_shards(const Message& message) {
  for (std::size_t k = 0; k < run_->places.size(); ++k) tell(shards_[k].peer, message);
}

// ---- sessions ----

void CoordinatorCore::handle(ProtocolTime, const PeerConnected& event) {  // it registers next
  roles_[event.peer] = event.hello.role;
}

/// Closes the session of a peer that registers as what its hello did not name.
bool CoordinatorCore::has_role(PeerId peer, PeerRole role) {
  const auto it = roles_.find(peer);
  if (it == roles_.end()) return false;  // sent away: what came together with its wrong message
  if (it->second == role) return true;
  send_away(peer, fmt::format("it registers as a {}, which its hello did not say",
                              role == PeerRole::kWorker ? "worker" : "shard"));
  return false;
}

void CoordinatorCore::send_away(PeerId peer, const std::string& reason) {
  ++counters_.registrations_refused;
  note(fmt::format("peer {} is sent away: {}", peer, reason), true);
  actions_.push_back(ClosePeer{peer, reason, false});
  handle(now_, PeerClosed{peer, reason, false});
}

void CoordinatorCore::handle(ProtocolTime, const PeerClosed& event) {
  roles_.erase(event.peer);
  if (Worker* worker = worker_at(event.peer)) {
    // Its messages may be lost, so it cannot go on where it was.
    declare_dead(*worker, "its session ended: " + event.reason);
    return;
  }
  for (Shard& shard : shards_) {
    if (shard.peer != event.peer) continue;
    shard.connected = false;
    shard.away_since = now_;
    note(fmt::format("shard {} of '{}' is away: {}", shard.registration.destination,
                     shard.registration.server_name, event.reason),
         true);
  }
}

void CoordinatorCore::handle(ProtocolTime now, const MessageReceived& event) {
  if (const auto* m = std::get_if<RegisterWorker>(&event.message))
    return register_worker(now, event.peer, *m);
  if (const auto* m = std::get_if<RegisterShard>(&event.message)) return register_shard(event.peer, *m);
  if (Worker* worker = worker_at(event.peer)) {
    worker->last_heard = now;
    worker->silent = false;
    return on_worker_message(now, *worker, event.message);
  }
  for (std::size_t k = 0; k < shards_.size(); ++k)
    if (shards_[k].peer == event.peer)
      return on_shard_message(now, ShardIndex(static_cast<std::uint32_t>(k)), event.message);
}

void CoordinatorCore::handle(ProtocolTime, const MessageAcked&) {}

void CoordinatorCore::register_worker(ProtocolTime now, PeerId peer, const RegisterWorker& request) {
  if (!has_role(peer, PeerRole::kWorker)) return;
  if (Worker* before = worker_at(peer)) {
    note(fmt::format("worker '{}' begins a new life", before->registration.name));
    bury(*before, "it has begun a new life");
  }
  if (Worker* known = find_away(request)) {
    if (known->order == request.order && run_ && request.job == run_->job)
      return take_back_worker(*known, peer, request);
    bury(*known, "it has begun a new life");
  }
  // What it was called before says that it is somebody else now.
  if (next_order_ == request.order) next_order_ = next_order_.next();
  Worker worker;
  worker.order = next_order_;
  next_order_ = next_order_.next();
  worker.peer = peer;
  worker.registration = request;
  worker.registration.hardware = shortened(request.hardware);
  worker.last_heard = now;
  worker.last_progress = worker.last_settled = now;
  tell(peer, Registered{worker.order});
  note(fmt::format("worker '{}' of site '{}' is here ({})", request.name, request.site, request.device));
  workers_.emplace(worker.order, std::move(worker));
}

/// One that was there before this process began.
CoordinatorCore::Worker* CoordinatorCore::find_away(const RegisterWorker& request) {
  for (auto& [order, worker] : workers_)
    if (worker.peer == PeerId() && worker.registration.incarnation == request.incarnation) return &worker;
  return nullptr;
}

/// It takes part still. What was on its way to it may be lost, and is said again.
void CoordinatorCore::take_back_worker(Worker& worker, PeerId peer, const RegisterWorker& request) {
  const Run& run = *run_;
  worker.peer = peer;
  worker.registration = request;
  worker.registration.hardware = shortened(request.hardware);
  worker.last_heard = worker.last_progress = worker.last_settled = now_;
  worker.silent = false;
  note(fmt::format("worker '{}' is back", request.name));
  tell(peer, Registered{worker.order});
  if (worker.state == MemberState::kSuspended) activate(worker);
  tell_tuning(peer, view_of_run().tunings.back().from_round);
  for (const LeaseBook::Lease& lease : run.book->leases_of(worker.order))
    tell(peer,
         LeaseGrant{run.job, lease.id, lease.range, worker.active_from, worker.entry_clock, lease.ahead});
  if (run.phase == Phase::kFlushing && !worker.flushed) tell(peer, FlushResidual{run.job});
}

void CoordinatorCore::register_shard(PeerId peer, const RegisterShard& request) {
  if (!has_role(peer, PeerRole::kShard)) return;
  for (Shard& shard : shards_) {
    if (shard.registration.endpoint != request.endpoint ||
        shard.registration.destination != request.destination)
      continue;
    const auto index = static_cast<std::size_t>(&shard - shards_.data());
    // One process has one name; one of another name has to know the job's key.
    if (run_ && index < run_->places.size() && shard.registration.server_name != request.server_name &&
        !has_job_of_run(request))
      return send_away(peer, fmt::format("it registers as a shard of '{}', whose job it has not",
                                         shard.registration.server_name));
    shard.peer = peer;
    shard.connected = true;
    shard.last_heard.reset();
    shard.silent = false;
    shard.settled = shard.confirmed = 0;
    shard.registration = request;
    shard.registration.hardware = shortened(request.hardware);
    // It is over, or another coordinator's.
    if (request.job != JobId() && !has_job_of_run(request)) tell(peer, CloseShard{request.job});
    if (run_ && index < run_->places.size()) take_back_shard(ShardIndex(static_cast<std::uint32_t>(index)));
    return;
  }
  if (!run_ || run_->places.empty()) std::erase_if(shards_, [](const Shard& s) { return !s.connected; });
  if (shards_.size() >= kShardsMax) {
    ++counters_.registrations_refused;
    note(fmt::format("there are {} shards already: one more of '{}' is not used", kShardsMax,
                     request.server_name),
         true);
    return;
  }
  if (run_ && run_->phase >= Phase::kOpening) note("a new shard waits for the next job");
  Shard& shard = shards_.emplace_back(Shard());
  shard.peer = peer;
  shard.registration = request;
  shard.connected = true;
  shard.registration.hardware = shortened(request.hardware);
  if (request.job != JobId()) tell(peer, CloseShard{request.job});
}

bool CoordinatorCore::has_job_of_run(const RegisterShard& registration) const {
  return run_ && registration.job == run_->job && registration.key == jobs_.at(run_->job).plan.key;
}

/// A shard of the running job has been away, and perhaps its process was another one. What was on its way to
/// it is lost.
void CoordinatorCore::take_back_shard(ShardIndex index) {
  Run& run = *run_;
  Shard& shard = shards_.at(index.value());
  const bool has_it = has_job_of_run(shard.registration);
  if (run.phase == Phase::kSaving) return;
  if (run.phase == Phase::kOpening) {
    shard.opened = false;
    return open_shard(index);
  }
  if (!has_it)
    return end_job(JobState::kFailed,
                   fmt::format("a shard of '{}' was lost", shard.registration.server_name));
  note(fmt::format("shard {} of '{}' is back", index, shard.registration.server_name));
  begin_waiting_anew();
  tell_tuning(shard.peer, view_of_run().tunings.back().from_round);
  if (shard.registration.epoch.value() > run.epoch.value() + kEarlierEpochsMax)
    return end_job(JobState::kFailed,
                   fmt::format("a shard of '{}' knows memberships that there have not been",
                               shard.registration.server_name));
  // Where this coordinator's own log has lost its end.
  for (; run.epoch < shard.registration.epoch; run.membership_changed = true) {
    run.epoch = run.epoch.next();
    run.active_counts.push_back(count_active());
  }
  const std::uint64_t known = shard.registration.epoch.value();
  if (run.epoch.value() > known) {
    Membership missed = membership();
    const auto first = static_cast<std::ptrdiff_t>(std::max<std::uint64_t>(
        known, run.epoch.value() - std::min(run.epoch.value(), std::uint64_t{kEarlierEpochsMax})));
    missed.earlier_active.assign(run.active_counts.begin() + first, run.active_counts.end() - 1);
    tell(shard.peer, missed);
  }
  for (auto& [order, wait] : run.fences)
    if ((wait.shards >> index.value() & 1) != 0) tell(shard.peer, Fence{run.job, order});
  shard.at_rest = false;
  if (run.phase == Phase::kResting) tell(shard.peer, Rest{run.job});
  take_cuts_anew();
}

// ---- workers ----

void CoordinatorCore::on_worker_message(ProtocolTime now, Worker& worker, const Message& message) {
  const auto is_ours = [&](JobId job) { return run_ && run_->job == job; };
  if (worker.state == MemberState::kSuspended && run_) activate(worker);  // it is back
  std::visit(
      Overloaded{
          [&](const JobPrepared& m) {
            if (is_ours(m.job)) on_prepared(worker, m);
          },
          [&](const JobRefused& m) {
            if (is_ours(m.job)) on_refused(worker, m.reason);
          },
          [&](const LeaseRequest& m) {
            if (!is_ours(m.job) || worker.part != Part::kJoined) return;
            worker.wants_lease = true;
          },
          [&](const LeaseReturn& m) {
            if (!is_ours(m.job) || !run_->book) return;
            // Ranks never lend again what comes back to them.
            if (is_lockstep() && worker.part == Part::kJoined) end_lockstep(worker);
            const Status status = run_->book->give_back(worker.order, m.lease, m.range);
            if (!status.ok()) declare_dead(worker, status.error().message);
          },
          [&](const EvaluationDone& m) {
            if (is_ours(m.job)) on_evaluated(worker, m);
          },
          [&](const WorkerStatus& m) { on_status(now, worker, m); },
          [&](const ResidualFlushed& m) {
            if (is_ours(m.job) && worker.part == Part::kJoined) worker.flushed = true;
          },
          [&](const Tuned& m) {
            if (is_ours(m.job)) on_tuned(worker, m);
          },
          [&](const Draining&) { on_draining(worker); }, [&](const Leave&) { bury(worker, "it has left"); },
          [&](const auto&) { declare_dead(worker, fmt::format("it sent a {}", message_name(message))); }},
      message);
}

void CoordinatorCore::on_prepared(Worker& worker, const JobPrepared& m) {
  if (worker.part == Part::kRefused && worker.overdue) worker.part = Part::kPreparing;  // late is not never
  if (worker.part != Part::kPreparing) return;
  if (const Status status = check(m.data); !status.ok()) return on_refused(worker, status.error().message);
  worker.differs = true;
  if (run_->data && *run_->data != m.data)
    return on_refused(worker, "its data differs from the other workers' data");
  if (run_->layout_hash != 0 && run_->layout_hash != m.layout_hash)
    return on_refused(worker, "it lays the model out differently");
  worker.differs = worker.overdue = false;
  run_->data = m.data;
  run_->layout_hash = m.layout_hash;
  worker.part = Part::kPrepared;
}

void CoordinatorCore::on_refused(Worker& worker, std::string reason) {
  reason = shortened(std::move(reason));
  note(fmt::format("worker '{}' cannot do job {}: {}", worker.registration.name, run_->job, reason), true);
  if (worker.part == Part::kJoined) take_out(worker);
  worker.part = Part::kRefused;
  run_->refusal = reason;
  worker.refusal = std::move(reason);
  forget_data_of_nobody();
}

/// The first worker's data is the job's. If it goes before others have the same, it was nobody's, and those
/// who differed from it are asked again.
void CoordinatorCore::forget_data_of_nobody() {
  if (!run_ || run_->phase != Phase::kPreparing || !run_->data) return;
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kPrepared) return;
  run_->data.reset();
  run_->layout_hash = 0;
  for (auto& [order, worker] : workers_)
    if (worker.part == Part::kRefused && worker.differs) worker.part = Part::kNone;
}

/// Nobody who is here can do the job, and at least one has said so. Without any worker the job waits.
void CoordinatorCore::end_if_all_refused() {
  if (run_->phase == Phase::kSaving) return;
  bool any = false;
  for (const auto& [order, worker] : workers_) {
    if (worker.draining && worker.part == Part::kNone) continue;  // it is not asked
    if (worker.part != Part::kRefused) return;
    any = true;
  }
  if (!any) return;
  end_job(JobState::kFailed, std::string(run_->refusal));
}

/// Fenced for ever; it hears why and may begin a new life.
void CoordinatorCore::declare_dead(Worker& worker, const std::string& reason) {
  ++counters_.workers_dead;
  note(fmt::format("worker '{}' is dead to us: {}", worker.registration.name, reason), true);
  tell(worker.peer, Fenced{reason});
  bury(worker, reason);
}

/// The incarnation is no more.
void CoordinatorCore::bury(Worker& worker, const std::string& reason) {
  const IncarnationOrder order = worker.order;
  Gone gone{order, worker.registration.name, worker.registration.site, reason, {}, clock(worker), now_};
  if (run_ && worker.part == Part::kJoined) {
    gone.job = run_->job;
    take_out(worker);
  }
  gone_.push_back(std::move(gone));
  if (gone_.size() > kGoneMax) gone_.pop_front();
  for (auto& [id, job] : jobs_) job.progress.on_gone(order);
  if (run_ && run_->tuner) run_->tuner->on_gone(order);
  workers_.erase(order);
  forget_data_of_nobody();
}

/// The incarnation does nothing more for the running job: what it had settled counts, the rest is lent again.
void CoordinatorCore::take_out(Worker& worker) {
  const IncarnationOrder order = worker.order;
  if (is_lockstep()) end_lockstep(worker);
  run_->dying.insert(order);
  run_->membership_changed = true;
  run_->fences[order] = {~std::uint64_t{0} >> (kShardsMax - run_->places.size()), now_};
  tell_shards(Fence{run_->job, order});
  release_evaluations(order, !worker.draining);
  worker.state = MemberState::kIdle;
  worker.wants_lease = false;
}

void CoordinatorCore::on_draining(Worker& worker) {
  worker.draining = true;
  if (is_lockstep() && worker.part == Part::kJoined) end_lockstep(worker);
}

/// Someone leaves a deterministic job: the next membership ends the shards' lockstep.
void CoordinatorCore::end_lockstep(const Worker& worker) {
  run_->ranks.clear();
  run_->membership_changed = true;
  std::vector<std::string>& warnings = view_of_run().warnings;
  warnings.push_back(fmt::format(
      "worker '{}' has left this deterministic job: it goes on, but its result cannot be reproduced",
      worker.registration.name));
  note(warnings.back(), true);
}

// ---- shards ----

void CoordinatorCore::on_shard_message(ProtocolTime now, ShardIndex index, const Message& message) {
  const auto is_ours = [&](JobId job) {
    return run_ && run_->job == job && index.value() < run_->places.size();
  };
  Shard& shard = shards_.at(index.value());
  std::visit(Overloaded{[&](const ShardOpened& m) {
                          if (is_ours(m.job)) shard.opened = true;
                        },
                        [&](const ShardFailed& m) {
                          if (is_ours(m.job)) end_job(JobState::kFailed, m.reason);
                        },
                        [&](const SettleReport& m) {
                          if (is_ours(m.job)) on_settled(now, index, m);
                        },
                        [&](const FenceDone& m) {
                          if (!is_ours(m.job)) return;
                          const auto fence = run_->fences.find(m.order);
                          if (fence == run_->fences.end()) return;
                          fence->second.shards &= ~(std::uint64_t{1} << index.value());
                          if (fence->second.shards != 0) return;
                          run_->book->fence(m.order);
                          run_->fences.erase(fence);
                        },
                        [&](const CutTaken& m) {
                          if (is_ours(m.job)) on_cut_taken(index, m);
                        },
                        [&](const ShardAtRest& m) {
                          if (is_ours(m.job) && run_->phase == Phase::kResting) shard.at_rest = true;
                        },
                        [&](const auto&) {
                          note(fmt::format("shard {} sent a {}", index, message_name(message)), true);
                        }},
             message);
}

void CoordinatorCore::on_settled(ProtocolTime now, ShardIndex shard, const SettleReport& report) {
  if (!run_->book) return;
  shards_.at(shard.value()).settled = report.number;
  for (const SettleEntry& entry : report.entries) {
    const auto it = workers_.find(entry.order);
    const bool joined = it != workers_.end() && it->second.part == Part::kJoined;
    // What a dead incarnation had settled counts until every shard has fenced it.
    if (!joined && !run_->fences.contains(entry.order)) continue;
    Result<std::uint64_t> counted = run_->book->settle(shard, entry);
    if (!joined) continue;
    Worker& worker = it->second;
    Round& clock = worker.clocks.at(shard.value());
    const bool is_round = entry.lease != LeaseId();
    // The next one, or where the worker was let in; older ones are reported again after a lost session.
    if (counted.ok() && is_round && entry.round > std::max(clock, worker.entry_clock))
      counted = make_error(ErrorCode::kInvalidArgument, "it pushed round {} where round {} was next",
                           entry.round, std::max(clock, worker.entry_clock));
    if (!counted.ok()) {
      declare_dead(worker, counted.error().message);
      continue;
    }
    worker.last_progress = now;
    if (is_round) {
      clock = std::max(clock, entry.round.next());
      view_of_run().progress.on_push_settled(entry.age);
    }
    // A flush, a round without samples and one that other shards have not settled yet are no end of the wait.
    if (*counted == 0) continue;
    worker.last_settled = now;
    run_->expired_in_a_row = 0;
  }
}

Round CoordinatorCore::clock(const Worker& worker) const {
  if (worker.clocks.empty()) return worker.entry_clock;
  return std::max(worker.entry_clock, *std::min_element(worker.clocks.begin(), worker.clocks.end()));
}

std::optional<Round> CoordinatorCore::smallest_active_clock() const {
  std::optional<Round> smallest;
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kJoined && worker.state == MemberState::kActive)
      smallest = smallest ? std::min(*smallest, clock(worker)) : clock(worker);
  return smallest;
}

/// Where joiners and returners enter: the smallest active clock. With nobody active, the largest clock of
/// those who take part: whoever is active first, nobody has to wait for rounds that the others are past.
Round CoordinatorCore::entry_clock() const {
  if (const std::optional<Round> smallest = smallest_active_clock()) return *smallest;
  Round largest;
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kJoined) largest = std::max(largest, clock(worker));
  return largest;
}

/// In the gate and in W from the next membership on.
void CoordinatorCore::activate(Worker& worker) {
  worker.entry_clock = std::max(clock(worker), entry_clock());
  worker.state = MemberState::kActive;
  worker.active_from = run_->epoch.next();
  worker.last_progress = worker.last_settled = now_;
  run_->membership_changed = true;
}

/// Nobody waits for it; it stays what it is otherwise.
void CoordinatorCore::make_idle(Worker& worker) {
  worker.state = MemberState::kIdle;
  run_->membership_changed = true;
}

std::size_t CoordinatorCore::count_connected_shards() const {
  return static_cast<std::size_t>(
      std::count_if(shards_.begin(), shards_.end(), [](const Shard& shard) { return shard.connected; }));
}

bool CoordinatorCore::is_a_shard_away() const {
  return std::any_of(shards_.begin(), shards_.begin() + static_cast<std::ptrdiff_t>(run_->places.size()),
                     [](const Shard& shard) { return !shard.connected || shard.silent; });
}

void CoordinatorCore::set_last_heard(PeerId peer, ProtocolTime time) {
  for (Shard& shard : shards_)
    if (shard.connected && shard.peer == peer && time != kNever) shard.last_heard = time;
}

std::vector<PeerId> CoordinatorCore::shard_peers() const {
  std::vector<PeerId> peers;
  for (const Shard& shard : shards_)
    if (shard.connected) peers.push_back(shard.peer);
  return peers;
}

std::uint32_t CoordinatorCore::count_active() const {
  std::uint32_t active = 0;
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kJoined && worker.state == MemberState::kActive) ++active;
  return active;
}

}  // namespace nanduti
