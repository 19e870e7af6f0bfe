// Staleness and compression of a job that trains: changed by an operator, or chosen by what is measured.
#include <algorithm>

#include "server/coordinator/coordinator_core.h"

namespace nanduti {

namespace {

std::string described(const StalenessPlan& plan) {
  return fmt::format("bound {}{}, local_steps {}{}", plan.bound ? std::to_string(*plan.bound) : "none",
                     plan.auto_bound ? " (auto)" : "", plan.local_steps,
                     plan.auto_local_steps ? " (auto)" : "");
}

}  // namespace

Status CoordinatorCore::check_tunable(JobId job) const {
  const JobView* found = view(job);
  if (found == nullptr) return make_error(ErrorCode::kNotFound, "no job has the id {}", job);
  if (is_over(found->state))
    return make_error(ErrorCode::kRefused, "job {} is over: {}", job, to_string(found->state));
  if (found->plan.deterministic)
    return make_error(ErrorCode::kRefused,
                      "job {} is deterministic: what it computes may not depend on when it is tuned", job);
  if (!run_ || run_->job != job || run_->phase < Phase::kTraining)
    return make_error(ErrorCode::kRefused, "job {} does not train yet: try again when it does", job);
  if (run_->phase > Phase::kTraining)
    return make_error(ErrorCode::kRefused, "job {} has trained all its samples", job);
  return {};
}

void CoordinatorCore::handle(ProtocolTime, const TuneJob& event) {
  if (!check_tunable(event.job).ok()) return;
  const Tuning& now = view_of_run().tunings.back();
  StalenessPlan staleness = event.staleness;
  if (staleness.auto_bound && now.staleness.bound)
    staleness.bound = std::clamp(*now.staleness.bound, 1u, staleness.bound_max);
  if (staleness.auto_local_steps)
    staleness.local_steps = std::min(now.staleness.local_steps, staleness.local_steps_max);
  if (staleness == now.staleness && event.settings == now.settings) return;
  tune(staleness, event.settings, event.why);
}

/// What the job begins with. Where it is auto, workers are told what that is.
void CoordinatorCore::begin_tuning() {
  JobView& view = view_of_run();
  Tuning tuning;
  tuning.staleness = view.plan.staleness;
  tuning.number = tuning.staleness.is_auto() ? 1 : 0;
  tuning.why = tuning.number == 0 ? "as submitted" : "before anything is measured";
  view.tunings = {tuning};
  run_->tuner.emplace(view.plan.batch_size);
}

void CoordinatorCore::tune(StalenessPlan staleness, std::string settings, std::string why) {
  JobView& view = view_of_run();
  Tuning tuning{view.tunings.back().number + 1,
                staleness,
                std::move(settings),
                std::move(why),
                {},
                false,
                {},
                view.progress.training_seconds(now_, view.samples_total)};
  // No active worker has begun it, as far as is known; but whoever is far behind is not to wait for it long.
  const std::uint64_t latest = smallest_active_clock().value_or(Round()).value() + kLeaseRoundsMax;
  for (const IncarnationOrder order : active_workers()) {
    const Worker& worker = workers_.at(order);
    std::uint64_t next = clock(worker).value();
    if (worker.status.job == run_->job) next = std::max(next, worker.status.clock.value());
    tuning.from_round = std::max(tuning.from_round, Round(std::min(next, latest) + 1));
  }
  note(fmt::format("job {}: {} from round {} on: {}", run_->job, described(staleness), tuning.from_round,
                   tuning.why));
  const Round from_round = tuning.from_round;
  view.tunings.push_back(std::move(tuning));
  if (view.tunings.size() > kTuningsMax) view.tunings.erase(view.tunings.begin());
  run_->book->set_round_samples(round_samples());
  run_->tuner->on_changed();
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kJoined) tell_tuning(worker.peer, from_round);
  for (std::size_t k = 0; k < run_->places.size(); ++k) tell_tuning(shards_[k].peer, from_round);
  actions_.push_back(JobChanged{run_->job});
}

void CoordinatorCore::tell_tuning(PeerId peer, Round from_round) {
  const Tuning& tuning = view_of_run().tunings.back();
  if (tuning.number == 0) return;
  tell(peer,
       Tune{run_->job, tuning.number, from_round, tuning.staleness.bound, round_samples(), tuning.settings});
}

void CoordinatorCore::on_tuned(Worker& worker, const Tuned& tuned) {
  const std::vector<Tuning>& tunings = view_of_run().tunings;
  if (worker.part != Part::kJoined || tunings.empty()) return;
  if (tuned.number > tunings.back().number)
    return declare_dead(worker, fmt::format("it has taken tuning {}, which does not exist", tuned.number));
  if (tuned.number <= worker.tuned) return;
  worker.tuned = tuned.number;
  worker.tuned_from = tuned.from_round;
}

/// It holds once every active worker has said so; suspended ones say so when they are back.
void CoordinatorCore::advance_tuning(ProtocolTime now) {
  Tuning& tuning = view_of_run().tunings.back();
  if (tuning.in_force && (now < run_->tuner_at || view_of_run().plan.deterministic)) return;
  const std::vector<IncarnationOrder> active = active_workers();
  if (!tuning.in_force) {
    if (active.empty()) return;
    Round from = tuning.from_round;
    for (const IncarnationOrder order : active) {
      const Worker& worker = workers_.at(order);
      if (worker.tuned < tuning.number) return;
      from = std::max(from, worker.tuned_from);
    }
    tuning.in_force = true;
    tuning.in_force_from = from;
    run_->tuner->on_changed();
    actions_.push_back(JobChanged{run_->job});
  }
  if (run_->phase != Phase::kTraining || now < run_->tuner_at) return;
  run_->tuner_at = now + kCheckEvery;
  if (const auto choice = run_->tuner->choose(now, tuning.staleness, active)) {
    StalenessPlan better = tuning.staleness;
    better.bound = choice->bound;
    better.local_steps = choice->local_steps;
    return tune(better, tuning.settings, choice->why);
  }
  if (auto warning = run_->tuner->warning(now, tuning.staleness, active)) {
    note(fmt::format("job {}: {}", run_->job, *warning), true);
    std::vector<std::string>& warnings = view_of_run().warnings;
    if (warnings.size() < kTuningsMax) warnings.push_back(std::move(*warning));
  }
}

std::vector<IncarnationOrder> CoordinatorCore::active_workers() const {
  std::vector<IncarnationOrder> active;
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kJoined && worker.state == MemberState::kActive) active.push_back(order);
  return active;
}

/// As it is or is to be.
std::uint64_t CoordinatorCore::round_samples() const {
  const JobView& view = jobs_.at(run_->job);
  return std::uint64_t{view.tunings.back().staleness.local_steps} * view.plan.batch_size;
}

}  // namespace nanduti
