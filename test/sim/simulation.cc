#include "test/sim/simulation.h"

#include <algorithm>

#include "test/sim/problem.h"
#include "test/sim/simulation_parts.h"

namespace nanduti::sim {

namespace {

constexpr std::uint64_t kEventsMax = 5'000'000;

}  // namespace

Outcome Simulation::run() {
  Outcome outcome;
  try {
    play();
  } catch (const Failure& failure) {
    outcome.failure = failure.what();
    outcome.trace_tail = trace_.tail();
  }
  outcome.trace_hash = trace_.hash();
  outcome.events = trace_.count();
  outcome.rounds = checkers_.at(kJob).rounds() + checkers_.at(kCancelledJob).rounds();
  outcome.simulated = events_.now() - kBeginning;
  for (const auto& [node, host] : hosts_) count_host(*host);
  for (const auto& [name, times] : received_) coverage_.count("message: " + std::string(name), times);
  outcome.coverage = coverage_;
  outcome.story = trace_.story();
  outcome.model = checkers_.at(kJob).result();
  if (coordinator_ && coordinator_->core.view(kJob))
    outcome.warnings = coordinator_->core.view(kJob)->warnings;
  return outcome;
}

void Simulation::play() {
  start_coordinator();
  for (std::uint32_t k = 0; k < plan_.shards; ++k) start_shard(k);
  for (const ServerCrash& c : plan_.crashes) events_.at(c.at, [this, c] { crash(c); });
  for (const Happening& happening : plan_.happenings)
    events_.at(happening.at, [this, happening] { happen(happening); });
  for (const TuningPlan& tuning : plan_.tunings) events_.at(tuning.at, [this, tuning] { tune(tuning); });
  for (const Pause& p : plan_.pauses) events_.at(p.begin, [this, p] { pause(p); });
  for (const Partition& p : plan_.partitions)
    events_.at(p.begin, [this, p] {
      tell("{}'s link is cut{} for {}", to_string(p.target),
           p.up && p.down ? ""
           : p.up         ? " upwards"
                          : " downwards",
           shown(p.end - p.begin));
    });
  events_.at(kBeginning, [this] { audit(); });
  events_.at(kBeginning, [this] { submit(); });
  if (plan_.cancel_at) events_.at(*plan_.cancel_at, [this] { cancel(); });
  events_.at(plan_.heal_at, [this] { heal(); });

  for (std::uint64_t i = 0;; ++i) {
    const JobState state = job_state();
    if (state == JobState::kDone) break;
    if (state == JobState::kFailed) fail("P5: the job fails: {}", coordinator_->core.view(kJob)->reason);
    if (events_.empty()) fail("P5: nothing is left to happen");
    if (i > kEventsMax) fail("P5: the job does not end within {} events", kEventsMax);
    if (events_.now() > plan_.heal_at + kPatience)
      fail("P5: the job does not end within {} s of healing", kPatience.count() / 1'000'000'000);
    events_.run_next();
  }
  const CoordinatorCore::JobView& view = *coordinator_->core.view(kJob);
  checkers_.at(kJob).on_done(view.samples, view.repeated_samples);
  const bool disturbed = coverage_.of("fault: crash") + coverage_.of("fault: drain") +
                             coverage_.of("event: session lost") + coverage_.of("member: dead") >
                         0;
  if (!disturbed && view.repeated_samples != 0)
    fail("P5: {} samples were repeated and nobody died", view.repeated_samples);
  if (view.figures.size() != plan_.epochs) fail("P5: {} epochs have figures", view.figures.size());
  // Before all is well there may be nobody to evaluate for so long that it is given up, or all who try may
  // die: of what has befallen them before as well.
  const bool given_up_in_time =
      gave_up_at_ < plan_.heal_at + std::max(plan_.coordinator.dead_after, plan_.session.forget_after);
  // Nor is there where every process hangs in its work, which healing does not end.
  const bool everybody_hangs = std::all_of(places_.begin(), places_.end(), [&](const Place& place) {
    return !place.host || place.computes_until > events_.now();
  });
  for (const EpochFigures& figures : view.figures)
    if (!((given_up_in_time || everybody_hangs) && figures.total == 0)) check_evaluated(figures);
  for (const EvaluationFigures& figures : view.evaluations) check_evaluated(figures);
  if (plan_.evaluate_every > 0 &&
      view.evaluations.size() + view.evaluations_skipped > view.samples / plan_.evaluate_every)
    fail("{} evaluations were done and {} skipped", view.evaluations.size(), view.evaluations_skipped);
  coverage_.count("evaluation: done within an epoch", view.evaluations.size());
  coverage_.count("evaluation: skipped", view.evaluations_skipped);
}

/// The whole test set's figures are the sums of its parts'.
void Simulation::check_evaluated(const TestFigures& figures) {
  const TestFigures all = evaluated(0, plan_.test_samples);
  if (figures.total != all.total || figures.correct != all.correct || figures.loss_sum != all.loss_sum)
    fail("{} test samples were evaluated, {} of them right with a loss of {}, not {}, {} and {}",
         figures.total, figures.correct, figures.loss_sum, all.total, all.correct, all.loss_sum);
}

void Simulation::submit() {
  JobPlan job;
  job.epochs = plan_.epochs;
  job.batch_size = static_cast<std::uint32_t>(plan_.round_samples);
  job.staleness.bound = plan_.bound;
  if (plan_.auto_staleness) job.staleness = {plan_.bound, true, *plan_.bound, 1, true, kAutoStepsMax};
  job.evaluate_every = plan_.evaluate_every;
  job.deterministic = plan_.deterministic;
  job.workers_to_start = plan_.workers_to_start;
  for (const JobId id : {kCancelledJob, kJob}) {
    if (id == kCancelledJob && !plan_.cancel_at) continue;
    if (coordinator_->core.view(id) != nullptr) continue;  // asked again, as nobody has answered
    job.id = id;
    job.key = 7 * id.value();
    give(*coordinator_, CoordinatorCore::SubmitJob{job});
  }
  settle_down(coordinator_);
}

void Simulation::cancel() {
  if (coordinator_->gone) return;
  give(*coordinator_, CoordinatorCore::CancelJob{kCancelledJob});
  settle_down(coordinator_);
}

JobState Simulation::job_state() const {
  const auto* view = coordinator_->core.view(kJob);
  return view == nullptr ? JobState::kQueued : view->state;
}

void Simulation::audit() {
  events_.at(events_.now() + std::chrono::seconds(1), [this] { audit(); });
  if (coordinator_->gone || events_.now() < coordinator_->stopped_until) return;
  members_.audit(coordinator_->core, now(*coordinator_));
  verdicts_.audit(moment(), coordinator_->core.waits_for_a_shard());
}

std::string Simulation::members_text(const Membership& membership) const {
  std::string text;
  for (const Member& member : membership.members) {
    const auto name = worker_names_.find(member.order);
    text += fmt::format("{}{} ({}) ", text.empty() ? "" : ", ",
                        name == worker_names_.end() ? "someone" : name->second, member.order);
    text += member.state == MemberState::kActive ? fmt::format("active from round {}", member.entry_clock)
            : member.state == MemberState::kIdle ? "idle"
            : member.state == MemberState::kSuspended ? "suspended"
                                                      : "dead";
  }
  return text.empty() ? "nobody" : text;
}

Outcome simulate(const Plan& plan, bool print_trace) { return Simulation(plan, print_trace).run(); }

}  // namespace nanduti::sim
