// Cuts of the parameters: checkpoints at the ends of epochs, and evaluation by the workers, there and in
// between.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "server/coordinator/coordinator_core.h"

namespace nanduti {

void CoordinatorCore::cut_complete_epochs() {
  const std::uint32_t epochs = view_of_run().plan.epochs;
  // The last epoch's cut is the final one, at rest. Epochs that are faster than their evaluation wait for it:
  // a shard holds no more cuts than this, one of them the final one.
  while (run_->cuts.size() + 1 < kCutsMax && run_->epochs_cut + 1 < epochs &&
         run_->book->is_complete(DataEpoch(run_->epochs_cut)))
    take_cut(++run_->epochs_cut, false);
}

/// Whenever so many further samples count. Those that nobody can evaluate in time are skipped: the next one
/// is soon due.
void CoordinatorCore::cut_within_epochs() {
  JobView& view = view_of_run();
  const std::uint64_t every = view.plan.evaluate_every;
  if (every == 0 || run_->data->test_samples == 0) return;
  const std::uint64_t due = view.samples / every;
  if (std::exchange(run_->evaluations_due, due) == due) return;
  // The end of an epoch has a cut of its own.
  const std::uint64_t epoch = run_->data->train_samples;
  if (due * every % epoch == 0 || view.samples % epoch == 0) return;
  if (run_->cuts.size() >= kOpenEvaluationsMax || run_->evaluations_taken >= kEvaluationsMax) {
    ++view.evaluations_skipped;
    return;
  }
  ++run_->evaluations_taken;
  take_cut(0, false);
}

/// For people.
std::string CoordinatorCore::Cut::name() const {
  return epoch > 0 ? fmt::format("epoch {}", epoch)
                   : fmt::format("the cut after {} samples", figures.samples);
}

void CoordinatorCore::take_cut(std::uint32_t epoch, bool final) {
  const JobView& view = view_of_run();
  Cut cut;
  cut.epoch = epoch;
  cut.final = final;
  cut.since = now_;
  cut.figures.samples = view.samples;
  cut.figures.seconds = view.progress.training_seconds(now_, view.samples_total);
  cut.figures.evaluation_seconds = view.progress.evaluation_seconds();
  const CutId id = run_->next_cut;
  run_->next_cut = id.next();
  run_->cuts.emplace(id, std::move(cut));
  tell_shards(TakeCut{run_->job, id});
}

/// A shard has been away, and with it its cuts: each is taken once more, of all shards.
void CoordinatorCore::take_cuts_anew() {
  for (auto& [id, before] : std::exchange(run_->cuts, {})) {
    Cut cut;
    cut.epoch = before.epoch;
    cut.final = before.final;
    cut.since = now_;
    cut.figures.samples = before.figures.samples;
    cut.figures.seconds = before.figures.seconds;
    cut.figures.evaluation_seconds = before.figures.evaluation_seconds;
    tell_shards(ReleaseCut{run_->job, id});
    const CutId anew = run_->next_cut;
    run_->next_cut = anew.next();
    run_->cuts.emplace(anew, std::move(cut));
    tell_shards(TakeCut{run_->job, anew});
  }
}

void CoordinatorCore::on_cut_taken(ShardIndex shard, const CutTaken& taken) {
  const auto it = run_->cuts.find(taken.cut);
  if (it == run_->cuts.end()) return;
  Cut& cut = it->second;
  const ShardPlace& place = run_->places.at(shard.value());
  if (taken.payload.size() != (place.end - place.begin) * sizeof(float))
    return end_job(JobState::kFailed, fmt::format("shard {} of '{}' sent a cut of {} bytes for {} parameters",
                                                  shard, shards_.at(shard.value()).registration.server_name,
                                                  taken.payload.size(), place.end - place.begin));
  cut.shards.emplace(shard, taken);
  if (cut.shards.size() < run_->places.size() || cut.saved) return;
  cut.saved = true;
  if (cut.epoch > 0) {
    SaveCheckpoint save{run_->job, cut.epoch, {}};
    for (const auto& [index, values] : cut.shards) save.shards.push_back(values);
    actions_.push_back(std::move(save));
  }
  double squares = 0;
  for (const auto& [index, values] : cut.shards) squares += values.residual_norm * values.residual_norm;
  view_of_run().progress.on_publish_residual(std::sqrt(squares));
  if (!cut.final) cut.shards.clear();  // workers get the values from the shards
  // Two parts for each worker: who is faster does more. And more of them, about as long as the rounds that
  // they come between: for a round that is late others wait at the gate.
  std::uint64_t joined = 0;
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kJoined) ++joined;
  const std::uint64_t total = run_->data->test_samples;
  const std::uint64_t short_parts = total / std::max(2 * round_samples(), kEvaluationPartMin);
  const std::uint64_t parts = std::clamp<std::uint64_t>(
      std::max(2 * joined, std::min(short_parts, kEvaluationPartsMax)), 1, std::max<std::uint64_t>(total, 1));
  const bool evaluated = has_figures(cut.epoch);  // before this process began
  for (std::uint64_t i = 0; i < parts && total > 0 && !evaluated; ++i) {
    cut.evaluation.emplace(run_->next_evaluation,
                           EvaluationPart{{}, total * i / parts, total * (i + 1) / parts, {}, {}, 0});
    run_->next_evaluation = run_->next_evaluation.next();
  }
  if (cut.evaluation.empty()) finish_cut(taken.cut);
}

/// Of the end of an epoch.
bool CoordinatorCore::has_figures(std::uint32_t epoch) {
  const std::vector<EpochFigures>& figures = view_of_run().figures;
  return std::any_of(figures.begin(), figures.end(), [&](const auto& f) { return f.epoch == epoch; });
}

void CoordinatorCore::lend_evaluations() {
  give_up_evaluations();
  for (auto& [id, cut] : run_->cuts) {
    for (auto& [lease, part] : cut.evaluation) {
      if (part.order != IncarnationOrder()) continue;
      // To the worker with the fewest parts, at best one that is in time and was not asked for this part
      // before.
      Worker* best = nullptr;
      std::tuple<bool, bool, std::size_t> fewest{true, true, ~std::size_t{0}};
      for (auto& [order, worker] : workers_) {
        if (worker.part != Part::kJoined || worker.draining || worker.silent) continue;
        if (worker.peer == PeerId()) continue;
        std::size_t held = 0;
        for (const auto& [other, lent] : cut.evaluation) held += lent.order == order ? 1 : 0;
        const std::tuple rank{worker.evaluates_late, part.asked.contains(order), held};
        if (rank < fewest) best = &worker, fewest = rank;
      }
      if (best == nullptr) return;
      part.order = best->order;
      part.since = now_;
      part.asked.insert(best->order);
      tell(best->peer, EvaluationLease{run_->job, lease, id, part.begin, part.end});
    }
  }
}

void CoordinatorCore::on_evaluated(Worker& worker, const EvaluationDone& done) {
  for (auto& [id, cut] : run_->cuts) {
    const auto part = cut.evaluation.find(done.lease);
    // Who was asked first may answer first, even if the part is somebody else's by now.
    if (part == cut.evaluation.end() || !part->second.asked.contains(worker.order)) continue;
    if (done.total != part->second.end - part->second.begin)
      return declare_dead(worker, "it evaluated another number of samples than it was asked for");
    if (done.correct > done.total)
      return declare_dead(worker,
                          fmt::format("it found {} of {} samples to be right", done.correct, done.total));
    worker.evaluates_late = false;
    // Fetching a cut shares its link with its rounds, and nobody evaluates for ever: no cut is taken while no
    // sample counts.
    worker.last_settled = now_;
    cut.figures.correct += done.correct;
    cut.figures.total += done.total;
    cut.figures.loss_sum += done.loss_sum;
    cut.evaluation.erase(part);
    if (cut.evaluation.empty()) finish_cut(id);
    return;
  }
}

void CoordinatorCore::finish_cut(CutId id) {
  const Cut cut = std::move(run_->cuts.at(id));
  run_->cuts.erase(id);
  JobView& view = view_of_run();
  if (has_figures(cut.epoch)) {
    // Its evaluation was done, and only its saving was not.
  } else if (cut.epoch > 0) {
    const EpochFigures figures{cut.figures, cut.epoch};
    const auto by_epoch = [](const EpochFigures& x, const EpochFigures& y) { return x.epoch < y.epoch; };
    view.figures.insert(std::upper_bound(view.figures.begin(), view.figures.end(), figures, by_epoch),
                        figures);
  } else if (cut.figures.total > 0) {
    const auto by_samples = [](const EvaluationFigures& x, const EvaluationFigures& y) {
      return x.samples < y.samples;
    };
    view.evaluations.insert(
        std::upper_bound(view.evaluations.begin(), view.evaluations.end(), cut.figures, by_samples),
        cut.figures);
  } else {
    ++view.evaluations_skipped;
  }
  tell_shards(ReleaseCut{run_->job, id});
  actions_.push_back(JobChanged{run_->job});
  if (cut.final)
    for (const auto& [index, values] : cut.shards) run_->result.push_back(values);
  if (run_->result.empty() || !run_->cuts.empty()) return;
  run_->phase = Phase::kSaving;
  actions_.push_back(SaveResult{run_->job, std::move(run_->result)});
}

/// What nobody does: the cut has no test figures, and the job goes on. With the training done, nor is
/// somebody who could do it waited for without end.
void CoordinatorCore::give_up_evaluations() {
  std::vector<CutId> given_up;
  for (const auto& [id, cut] : run_->cuts) {
    const auto is_hopeless = [&](const auto& part) {
      const EvaluationPart& p = part.second;
      if (p.order != IncarnationOrder()) return false;
      if (p.tries_failed >= kEvaluationTriesMax) return true;
      return run_->phase == Phase::kFinalCut &&
             now_ - std::max(p.since, run_->phase_since) >= kEvaluationTriesMax * options_.lease_timeout;
    };
    if (std::any_of(cut.evaluation.begin(), cut.evaluation.end(), is_hopeless)) given_up.push_back(id);
  }
  for (const CutId id : given_up) {
    Cut& cut = run_->cuts.at(id);
    const std::string text =
        fmt::format("{} has no test figures: no worker evaluated all of the test set", cut.name());
    note(text, true);
    if (cut.epoch > 0) view_of_run().warnings.push_back(text);
    cut.evaluation.clear();
    static_cast<TestFigures&>(cut.figures) = {};
    finish_cut(id);
  }
}

/// Evaluations that were lent to this worker are free again; `failed`: each was a try.
void CoordinatorCore::release_evaluations(IncarnationOrder order, bool failed) {
  for (auto& [id, cut] : run_->cuts) {
    for (auto& [lease, part] : cut.evaluation) {
      if (part.order != order) continue;
      part.order = IncarnationOrder();
      part.since = now_;
      if (failed) ++part.tries_failed;
    }
  }
}

}  // namespace nanduti
