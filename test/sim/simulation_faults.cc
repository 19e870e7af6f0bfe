// What an operator or fate does to processes.
#include <algorithm>

#include "test/sim/checker_values.h"
#include "test/sim/problem.h"
#include "test/sim/simulation_parts.h"

namespace nanduti::sim {

bool Simulation::holds_up(ShardHost& host, const SessionEvent& event) {
  const auto* received = std::get_if<MessageReceived>(&event);
  if (received == nullptr || !std::holds_alternative<Push>(received->message)) return false;
  if (events_.now() >= plan_.heal_at || !random_.chance(plan_.overtaking)) return false;
  coverage_.count("fault: push overtaken");
  later(host, duration(0, 1000), [this, e = *received](ShardHost& h) { give(h, e); });
  return true;
}

void Simulation::happen(const Happening& happening) {
  Place& place = places_.at(happening.place);
  switch (happening.kind) {
    case HappeningKind::kStart:
      return start(happening.place);
    case HappeningKind::kCrash:
      if (!place.host) return;
      coverage_.count("fault: crash");
      tell("{} crashes", name_of(*place.host));
      return end(*place.host);
    case HappeningKind::kDrain:
      if (!place.host) return;
      coverage_.count("fault: drain");
      place.draining = true;
      verdicts_.on_drain(place.host->node);
      tell("{} is told to drain", name_of(*place.host));
      return on_host(place.host, [this, host = place.host] { give(*host, ClientCore::DrainRequested{}); });
  }
}

/// An operator changes the job that counts.
void Simulation::tune(const TuningPlan& tuning) {
  if (coordinator_->gone) return;
  on_host(coordinator_, [this, tuning] {
    StalenessPlan staleness;
    staleness.bound = tuning.bound;
    staleness.local_steps = tuning.local_steps;
    give(*coordinator_, CoordinatorCore::TuneJob{kJob, staleness, settings_text(tuning.codec), "a whim"});
  });
}

void Simulation::start(std::size_t at) {
  Place& place = places_[at];
  if (place.host) return;
  if (place.started_before)
    coverage_.count("fault: restart");
  else if (events_.now() > kBeginning + std::chrono::seconds(1))
    coverage_.count("event: late join");
  place.started_before = true;
  place.draining = false;
  const int node = kFirstWorkerNode + static_cast<int>(nodes_started_++);
  ClientOptions options;
  options.coordinator_endpoint = "server";
  options.registration.name = fmt::format("w{}", at);
  options.window_rounds_max = plan_.window_rounds_max;
  options.window_bytes_max = plan_.window_bytes_max;
  options.unmerged_bytes_max = plan_.unmerged_bytes_max;
  place.host = std::make_shared<WorkerHost>(
      *this, node, 0, plan_,
      ClientCore(options, RandomStream(plan_.network_seed, 10000 + static_cast<std::uint64_t>(node))));
  unload(place);
  node_places_[node] = at;
  verdicts_.on_start(node, at);
  tell("{} starts", name_of(*place.host));
  add(place.host, at);
}

void Simulation::end(Host& host) {
  count_host(host);
  const std::shared_ptr<Host> keep_alive = hosts_.at(host.node);
  host.gone = true;
  verdicts_.on_end(host.node, events_.now());
  host.backlog.clear();
  network_.remove_node(host.node);
  Place& place = places_[node_places_.at(host.node)];
  place.host.reset();
  unload(place);
  hosts_.erase(host.node);
}

void Simulation::crash(const ServerCrash& crash) {
  const bool of_shard = crash.target.kind == Target::Kind::kShard;
  const auto it = hosts_.find(of_shard ? static_cast<int>(crash.target.index) + 1 : 0);
  if (it == hosts_.end()) return;  // it is down
  const std::shared_ptr<Host> host = it->second;
  if (crash.amid_write && !disks_[host->node].busy && events_.now() < plan_.heal_at) {
    events_.at(events_.now() + std::chrono::milliseconds(5), [this, crash] { this->crash(crash); });
    return;
  }
  coverage_.count(of_shard ? "fault: shard crash" : "fault: coordinator crash");
  tell("{} crashes", name_of(*host));
  count_host(*host);
  host->gone = true;
  host->backlog.clear();
  network_.remove_node(host->node);
  hosts_.erase(it);
  const std::uint64_t left = tear(disks_[host->node]);
  verdicts_.on_server_trouble(events_.now(), events_.now() + crash.down);
  if (!of_shard) {
    members_.on_crash(left);
    verdicts_.on_coordinator_crash();
  }
  events_.at(events_.now() + crash.down, [this, of_shard, index = crash.target.index] {
    of_shard ? start_shard(static_cast<std::uint32_t>(index)) : start_coordinator();
  });
}

void Simulation::may_crash_soon(double chance) {
  if (!plan_.coordinator.durable || events_.now() >= plan_.heal_at || !random_.chance(chance)) return;
  ServerCrash soon{events_.now() + duration(0, 60), duration(1, 500), {Target::Kind::kCoordinator, 0}, false};
  events_.at(soon.at, [this, soon] { crash(soon); });
}

std::uint64_t Simulation::tear(Disk& disk) {
  const std::size_t survive = disk.writing.empty() ? 0 : random_.below(disk.writing.size() + 1);
  if (survive > 0) coverage_.count("crash: records without an acknowledgement survive");
  if (survive < disk.writing.size()) coverage_.count("crash: records are lost");
  disk.entries.insert(disk.entries.end(), disk.writing.begin(),
                      disk.writing.begin() + static_cast<std::ptrdiff_t>(survive));
  disk.writing.clear();
  if (disk.being_written) coverage_.count("crash: within a snapshot");
  disk.being_written.reset();
  disk.busy = false;
  return std::exchange(disk.written, 0) + survive;
}

void Simulation::start_coordinator() {
  Disk& disk = disks_[0];
  const std::uint64_t life = disk.life++;
  coordinator_ =
      std::make_shared<CoordinatorHost>(*this, 0, 0, plan_, CoordinatorCore(plan_.coordinator), life);
  if (!disk.entries.empty()) {
    const std::size_t first = disk.snapshot ? disk.snapshot->entries : 0;
    const std::vector<SharedBytes> entries(disk.entries.begin() + static_cast<std::ptrdiff_t>(first),
                                           disk.entries.end());
    Result<CoordinatorCore> core = CoordinatorCore::recover(
        plan_.coordinator, now(*coordinator_),
        disk.snapshot ? std::optional(disk.snapshot->content.head) : std::nullopt, entries, true);
    if (!core.ok()) fail("P2: the coordinator does not recover: {}", core.error().message);
    coordinator_->core = std::move(core).value();
    coverage_.count("recovery: of the coordinator");
    tell("the coordinator recovers from {} entries", disk.entries.size());
  }
  coordinator_->hub.set_admission(CoordinatorCore::admission());
  verdicts_.on_coordinator_back(moment());
  add(coordinator_, std::nullopt);
  if (life == 0) return;
  submit();
  if (plan_.cancel_at && events_.now() >= *plan_.cancel_at) cancel();
}

void Simulation::start_shard(std::uint32_t k) {
  const int node = static_cast<int>(k) + 1;
  Disk& disk = disks_[node];
  const std::uint64_t life = disk.life++;
  ShardOptions options = shard_options(k);
  options.term = Term(disk.life);
  const RandomStream random(plan_.network_seed, 100 + k + life * 1000000);
  if (disk.entries.empty()) {
    if (life > 0) tell("shard {} starts with nothing", k);
    add(std::make_shared<ShardHost>(*this, node, k + 1, plan_, ShardCore(options, random), life),
        std::nullopt);
    return;
  }
  RecoveredShard recovered;
  const std::size_t first = disk.snapshot ? disk.snapshot->entries : 0;
  if (disk.snapshot) {
    coverage_.count("recovery: from a snapshot");
    recovered.snapshot = disk.snapshot->content;
  }
  recovered.entries.assign(disk.entries.begin() + static_cast<std::ptrdiff_t>(first), disk.entries.end());
  const OpenShard request = ShardCore::request_of(recovered).value();
  recovered.start = shard_start(request);
  if (disk.snapshot) recovered.start.values.clear();
  Result<ShardCore> core = ShardCore::recover(options, random, std::move(recovered));
  if (!core.ok()) fail("P2: shard {} does not recover: {}", k, core.error().message);
  jobs_[node] = request.job;
  shard_indices_[node] = request.index;
  tell("shard {} recovers job {} at version {} from {} entries, {} of them in a snapshot", k, request.job,
       core->values()->version(), disk.entries.size(), first);
  checkers_.at(request.job).on_recovered(request.index, disk.entries, *core);
  coverage_.count("recovery: of a shard");
  add(std::make_shared<ShardHost>(*this, node, k + 1, plan_, std::move(core).value(), life), std::nullopt);
}

ShardOptions Simulation::shard_options(std::uint32_t k) const {
  ShardOptions options;
  options.coordinator_endpoint = "server";
  options.registration = {"server", "server", k + 1, "", JobId(), {}};
  options.unpublished_age_max = plan_.unpublished_age_max;
  options.subscriber_bytes_max = kSubscriberBytesMax;
  options.epochs_kept = plan_.epochs_kept;
  options.snapshot_log_bytes = std::uint64_t{1} << 18;
  options.snapshot_log_entries = plan_.snapshot_log_entries;
  return options;
}

void Simulation::heal() {
  const auto stays = [](const Place& p) { return p.host && !p.draining; };
  auto manned = static_cast<std::uint32_t>(std::count_if(places_.begin(), places_.end(), stays));
  for (std::size_t i = 0; i < places_.size() && manned < plan_.workers_to_start; ++i) {
    if (places_[i].host) continue;
    start(i);
    ++manned;
  }
  events_.at(events_.now() + std::chrono::seconds(5), [this] { heal(); });
}

void Simulation::pause(const Pause& pause) {
  for (const std::shared_ptr<Host>& host : hosts_of(pause.target)) {
    tell("{} is stopped for {}", name_of(*host), shown(pause.end - pause.begin));
    coverage_.count(host->node >= kFirstWorkerNode ? "fault: worker stopped"
                    : host->node > 0               ? "fault: shard stopped"
                                                   : "fault: coordinator stopped");
    host->stopped_until = std::max(host->stopped_until, pause.end);
    events_.at(host->stopped_until, [this, host] { resume(host); });
  }
}

void Simulation::resume(const std::shared_ptr<Host>& host) {
  if (host->gone || events_.now() < host->stopped_until) return;
  tell("{} goes on", name_of(*host));
  // Deadlines that have passed and what has come may be served in either order.
  const bool deadlines_first = random_.chance(0.5);
  if (deadlines_first) serve_deadlines(host);
  while (!host->gone && !host->backlog.empty()) {
    const auto what = std::move(host->backlog.front());
    host->backlog.pop_front();
    what();
    settle_down(host);
  }
  if (!host->gone) serve_deadlines(host);
}

std::vector<std::shared_ptr<Host>> Simulation::hosts_of(const Target& target) const {
  std::vector<std::shared_ptr<Host>> found;
  for (const auto& [node, host] : hosts_) {
    const bool worker = node >= kFirstWorkerNode;
    bool meant = target.kind == Target::Kind::kAll;
    if (target.kind == Target::Kind::kServers) meant = !worker;
    if (target.kind == Target::Kind::kCoordinator) meant = node == 0;
    if (target.kind == Target::Kind::kShard) meant = node == static_cast<int>(target.index) + 1;
    if (target.kind == Target::Kind::kWorker) meant = worker && node_places_.at(node) == target.index;
    if (meant) found.push_back(host);
  }
  return found;
}

}  // namespace nanduti::sim
