// Slow work: loading, planning, computing, saving take their time.
#include "test/sim/problem.h"
#include "test/sim/simulation_parts.h"

namespace nanduti::sim {

namespace {

constexpr std::uint64_t kLayoutHash = 5;

}  // namespace

void Simulation::act(ShardHost& host, const ShardCore::LoadShard& load) {
  later(host, duration(1, 300), [this, load](ShardHost& h) {
    give(h, ShardCore::ShardLoaded{load.request.job, shard_start(load.request), load.request.key});
  });
}

ShardStart Simulation::shard_start(const OpenShard& request) {
  const auto [begin, end] = std::pair(request.begin, request.end);
  return {shard_settings(plan_, plan_.codec),
          initial_values(begin, end),
          plan_.deterministic,
          Durability::kLog,
          ServerOptimizer(server_optimizer_of(plan_), end - begin, end - begin, rows_of(begin, end)),
          [this](const std::string& text) -> Result<ShardSettings> {
            const Result<PlanCodec> codec = read_settings(text);
            return codec.ok() ? Result<ShardSettings>(shard_settings(plan_, *codec)) : codec.error();
          }};
}

// ---- storage ----

template <class AnyHost>
void Simulation::act(AnyHost& host, const AppendLog& append) {
  std::vector<std::byte> bytes;
  for (const SharedBytes& piece : append.pieces)
    bytes.insert(bytes.end(), piece.view().begin(), piece.view().end());
  Disk& disk = disks_[host.node];
  if (append.begins) {
    // The log before it was dropped.
    if (!disk.entries.empty() || !disk.writing.empty()) fail("a log begins where there is one");
  }
  disk.writing.push_back(SharedBytes::take(std::move(bytes)));
  if (!disk.busy) write_entries(host);
}
template void Simulation::act(ShardHost&, const AppendLog&);
template void Simulation::act(CoordinatorHost&, const AppendLog&);

template <class AnyHost>
void Simulation::write_entries(AnyHost& host) {
  Disk& disk = disks_[host.node];
  disk.busy = true;
  later(host, write_time(), [this, count = disk.writing.size()](AnyHost& h) {
    Disk& d = disks_[h.node];
    d.busy = false;
    d.written += count;
    for (std::size_t left = count; left > 0 && !d.writing.empty(); --left) {
      d.entries.push_back(std::move(d.writing.front()));
      d.writing.pop_front();
    }
    h.on_durable(d.written);
    if (!d.busy && !d.writing.empty()) write_entries(h);
  });
}

void Simulation::act(ShardHost& host, const DropLog&) {
  Disk& disk = disks_[host.node];
  disk.entries.clear();
  disk.writing.clear();
  disk.snapshot.reset();
  disk.being_written.reset();
}

template <class AnyHost>
void Simulation::act(AnyHost& host, const BeginSnapshot& snapshot) {
  Disk& disk = disks_[host.node];
  disk.being_written =
      Disk::Snapshot{disk.entries.size() + disk.writing.size(), snapshot.parts, {snapshot.head, {}}};
  if (snapshot.parts == 0) later(host, write_time(), [this](AnyHost& h) { end_snapshot(h); });
}
template void Simulation::act(ShardHost&, const BeginSnapshot&);
template void Simulation::act(CoordinatorHost&, const BeginSnapshot&);

void Simulation::act(ShardHost& host, const ShardCore::SnapshotPart& part) {
  later(host, write_time(), [this, part](ShardHost& h) {
    Disk& disk = disks_[h.node];
    if (!disk.being_written) return;
    disk.being_written->content.parts.push_back(part.part);
    give(h, SnapshotPartWritten{});
    if (disk.being_written && disk.being_written->content.parts.size() == disk.being_written->parts)
      end_snapshot(h);
  });
}

/// Some cannot be put in their place.
template <class AnyHost>
void Simulation::end_snapshot(AnyHost& host) {
  Disk& disk = disks_[host.node];
  if (!disk.being_written) return;
  // The entries before it come first.
  if (disk.entries.size() < disk.being_written->entries)
    return later(host, std::chrono::milliseconds(5), [this](AnyHost& h) { end_snapshot(h); });
  if (plan_.write > Duration(0) && events_.now() < plan_.heal_at && random_.chance(0.1)) {
    coverage_.count("fault: snapshot not written");
    disk.being_written.reset();
    return give(host, SnapshotEnded{make_error(ErrorCode::kIo, "the disk is full")});
  }
  coverage_.count("snapshot: taken");
  disk.snapshot = std::exchange(disk.being_written, std::nullopt);
  give(host, SnapshotEnded{});
}

void Simulation::act(CoordinatorHost& host, const CoordinatorCore::PlanModel& plan) {
  later(host, duration(1, 200), [this, plan](CoordinatorHost& h) {
    give(h, CoordinatorCore::ModelPlanned{plan.job,
                                          CoordinatorCore::PlannedModel{plan_.parameters, kLayoutHash}});
  });
}

void Simulation::act(CoordinatorHost&, const CoordinatorCore::SaveCheckpoint& save) {
  checkers_.at(save.job).on_saved(save.epoch, save.shards);
}

void Simulation::act(CoordinatorHost& host, const CoordinatorCore::SaveResult& save) {
  checkers_.at(save.job).on_result(save.shards);
  ledgers_.at(save.job).on_result(checkers_.at(save.job).result());
  may_crash_soon(0.5);
  later(host, duration(1, 300), [this, job = save.job](CoordinatorHost& h) {
    give(h, CoordinatorCore::ResultSaved{job, Status()});
  });
}

void Simulation::act(CoordinatorHost& host, const CoordinatorCore::JobChanged& changed) {
  // Once the membership has left that comes with it.
  if (plan_.coordinator.durable) later(host, Duration(0), [this](CoordinatorHost& h) { look_at_tunings(h); });
  const CoordinatorCore::JobView& view = *host.core.view(changed.job);
  for (; figures_seen_ < view.figures.size() && changed.job == kJob; ++figures_seen_)
    if (view.figures[figures_seen_].total == 0) gave_up_at_ = events_.now();
  tell("job {} is {}, {} epochs are evaluated{}{}", changed.job, to_string(view.state), view.figures.size(),
       view.reason.empty() ? "" : ": ", view.reason);
}

void Simulation::act(WorkerHost& host, const ClientCore::LoadJob& load) {
  LoadedJob job;
  static_cast<RoundSettings&>(job) = round_settings(plan_, plan_.codec);
  job.data = {plan_.samples, plan_.test_samples, 1, 1, 1, 2, 3};
  job.layout_hash = kLayoutHash;
  job.parameters = plan_.parameters;
  job.deterministic = plan_.deterministic;
  // Some workers can make what the job begins with, others cannot, and some make something else.
  const std::size_t kind = node_places_.at(host.node) % 3;
  std::vector<float> values = initial_values(0, plan_.parameters);
  if (kind == 1) values.back() += 1.0f;
  if (kind != 2) job.initial_values = std::make_shared<const std::vector<float>>(std::move(values));
  job.read_settings = [this](const std::string& text) -> Result<RoundSettings> {
    const Result<PlanCodec> codec = read_settings(text);
    return codec.ok() ? Result<RoundSettings>(round_settings(plan_, *codec)) : codec.error();
  };
  later(host, duration(5, 1000), [this, id = load.job, job](WorkerHost& h) {
    give(h, ClientCore::JobLoaded{id, job});
  });
}

void Simulation::unload(Place& place) {
  place.replica.clear();
  place.replica_busy = false;
  place.computes_until = {};
  ++place.life;
}

void Simulation::feed_replica(WorkerHost& host, const ClientCore::Action& action) {
  place_of(host).replica.take(action);
  work_on_replica(host);
}

void Simulation::work_on_replica(WorkerHost& host) {
  Place& place = place_of(host);
  if (place.replica_busy || !place.replica.has_work()) return;
  place.replica_busy = true;
  const bool codes = std::holds_alternative<Replica::TimeToCode>(place.replica.next());
  const Duration takes(static_cast<std::int64_t>(static_cast<double>(plan_.step.count()) *
                                                 random_.uniform(0, codes ? 0.4 : 0.05)));
  for_this_life(host, takes, [this](WorkerHost& h) {
    place_of(h).replica_busy = false;
    step_replica(h);
    work_on_replica(h);
  });
}

void Simulation::step_replica(WorkerHost& host) {
  ReplicaHost& replica = place_of(host).replica;
  const IncarnationOrder order = host.core.order();
  if (const auto* merge = std::get_if<Replica::MergeVersion>(&replica.next()))
    checker(host).on_version_received(order, merge->shard);
  if (const auto* computed = std::get_if<Replica::RoundComputed>(&replica.next()))
    checker(host).on_computed(order, computed->buffers->progress);
  replica.step();
  checker(host).after_replica(order, *replica.replica(), replica.actions());
  for (const Replica::ComputeRound& round : replica.take_begun()) {
    note_event(host, "computes", "round", round.round.value(), round.range.begin);
    const Duration takes = step_of(host);
    compute(host, takes, [this, takes](WorkerHost& h) {
      ReplicaHost& of = place_of(h).replica;
      const std::vector<float> progress =
          progress_of(of.computing()->buffers->parameters, of.computing()->range);
      ledger(h).on_progress(h.core.order(), progress);
      of.finish_round(progress, 1.0, std::chrono::duration<double>(takes).count());
      work_on_replica(h);
    });
  }
  for (auto& report : replica.take_reports()) give(host, std::move(report));
}

void Simulation::act(WorkerHost& host, const ClientCore::EvaluateCut& cut) {
  note_event(host, "evaluates", "cut", cut.begin, cut.end);
  checker(host).on_evaluate(cut);
  compute(host, step_of(host), [this, cut](WorkerHost& h) {
    const TestFigures part = evaluated(cut.begin, cut.end);
    give(h, ClientCore::CutEvaluated{cut.job, cut.lease, part.correct, part.total, part.loss_sum, 0.01});
  });
}

void Simulation::act(WorkerHost& host, const ClientCore::Stopped& stopped) {
  tell("{} has left", name_of(host));
  if (!stopped.failure.empty()) fail("worker {} stops: {}", host.node, stopped.failure);
  stopping_.insert(host.node);
}

Duration Simulation::step_of(const WorkerHost& host) {
  if (events_.now() < plan_.heal_at && random_.chance(plan_.hangs)) {
    coverage_.count("fault: work hangs");
    tell("{} hangs in its work", name_of(host));
    verdicts_.on_trouble(host.node, events_.now(), events_.now() + plan_.hang);
    return plan_.hang;
  }
  return Duration(static_cast<std::int64_t>(static_cast<double>(plan_.step.count()) *
                                            plan_.places[node_places_.at(host.node)].slowness *
                                            random_.uniform(0.8, 1.3)));
}

}  // namespace nanduti::sim
