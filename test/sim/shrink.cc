#include "test/sim/shrink.h"

#include <algorithm>

#include "common/tensor/parameter_space.h"

namespace nanduti::sim {

namespace {

/// Changes the plan to a smaller one; false if there is nothing to change.
using Step = std::function<bool(Plan& plan)>;

/// Other draws of the network that are tried where the first one does not fail any more.
constexpr std::uint64_t kNetworksTried = 3;

template <class T>
bool set(T& value, const T& to) {
  if (value == to) return false;
  value = to;
  return true;
}

/// Less of a number, halfway to the least.
template <class T>
bool halve(T& value, T least) {
  return value > least && set(value, static_cast<T>(least + (value - least) / 2));
}

bool concerns(const Target& target, Target::Kind kind, std::size_t index) {
  return target.kind == kind && target.index == index;
}

/// Takes out what concerns worker or shard `index` and renumbers the later ones.
template <class T>
void forget(std::vector<T>& faults, Target::Kind kind, std::size_t index) {
  std::erase_if(faults, [&](const T& fault) { return concerns(fault.target, kind, index); });
  for (T& fault : faults)
    if (fault.target.kind == kind && fault.target.index > index) --fault.target.index;
}

bool remove_place(Plan& plan, std::size_t place) {
  if (plan.places.size() < 2 || place >= plan.places.size()) return false;
  plan.places.erase(plan.places.begin() + static_cast<std::ptrdiff_t>(place));
  plan.workers = static_cast<std::uint32_t>(plan.places.size());
  plan.workers_to_start = std::min(plan.workers_to_start, plan.workers);
  forget(plan.partitions, Target::Kind::kWorker, place);
  forget(plan.pauses, Target::Kind::kWorker, place);
  std::erase_if(plan.happenings, [&](const Happening& happening) { return happening.place == place; });
  for (Happening& happening : plan.happenings)
    if (happening.place > place) --happening.place;
  return true;
}

bool remove_shard(Plan& plan) {
  if (plan.shards < 2) return false;
  --plan.shards;
  plan.coordinator.shards = plan.shards;
  plan.parameters = std::min<std::uint64_t>(plan.parameters, plan.shards * kBlockSize);
  forget(plan.partitions, Target::Kind::kShard, plan.shards);
  forget(plan.pauses, Target::Kind::kShard, plan.shards);
  forget(plan.crashes, Target::Kind::kShard, plan.shards);
  return true;
}

template <class T>
void add_removals(std::vector<Step>& steps, std::vector<T> Plan::*list, std::size_t size) {
  steps.push_back([list](Plan& plan) {
    const bool any = !(plan.*list).empty();
    (plan.*list).clear();
    return any;
  });
  for (std::size_t i = size; i-- > 0;)
    steps.push_back([list, i](Plan& plan) {
      if (i >= (plan.*list).size()) return false;
      (plan.*list).erase((plan.*list).begin() + static_cast<std::ptrdiff_t>(i));
      return true;
    });
}

void add_link_steps(std::vector<Step>& steps, const std::function<LinkPlan*(Plan&)>& link_of) {
  for (double LinkPlan::*fault : {&LinkPlan::loss, &LinkPlan::duplication, &LinkPlan::reordering,
                                  &LinkPlan::refusals, &LinkPlan::breaks})
    steps.push_back([link_of, fault](Plan& plan) {
      LinkPlan* link = link_of(plan);
      return link != nullptr && set(link->*fault, 0.0);
    });
  for (Duration LinkPlan::*part : {&LinkPlan::skew, &LinkPlan::jitter})
    steps.push_back([link_of, part](Plan& plan) {
      LinkPlan* link = link_of(plan);
      return link != nullptr && set(link->*part, Duration(0));
    });
  steps.push_back([link_of](Plan& plan) {
    LinkPlan* link = link_of(plan);
    if (link == nullptr) return false;
    const bool slower = set(link->bytes_per_second, 1e9);
    const Duration rounded = std::chrono::ceil<std::chrono::milliseconds>(link->delay);
    return set(link->delay, rounded) || slower;
  });
}

void add_job_steps(std::vector<Step>& steps) {
  steps.push_back([](Plan& plan) { return set<std::optional<ProtocolTime>>(plan.cancel_at, std::nullopt); });
  steps.push_back([](Plan& plan) { return halve(plan.epochs, 1u); });
  steps.push_back([](Plan& plan) { return halve(plan.samples, std::uint64_t{1}); });
  steps.push_back([](Plan& plan) { return halve(plan.round_samples, std::uint64_t{1}); });
  steps.push_back([](Plan& plan) { return set(plan.evaluate_every, std::uint64_t{0}); });
  steps.push_back([](Plan& plan) { return set(plan.test_samples, std::uint64_t{1}); });
  steps.push_back([](Plan& plan) { return set(plan.parameters, std::uint64_t{plan.shards} * kBlockSize); });
  steps.push_back([](Plan& plan) { return set(plan.deterministic, false); });
  steps.push_back([](Plan& plan) { return set(plan.auto_staleness, false); });
  steps.push_back([](Plan& plan) { return set(plan.age_power, 0.0); });
  steps.push_back([](Plan& plan) { return set(plan.server_optimizer, ServerOptimizerType::kAdd); });
  steps.push_back([](Plan& plan) { return set(plan.accumulate, false); });
  steps.push_back([](Plan& plan) {
    const bool any = set(plan.codec, PlanCodec::kDense);
    for (TuningPlan& tuning : plan.tunings) tuning.codec = PlanCodec::kDense;
    return any;
  });
  steps.push_back([](Plan& plan) { return set(plan.workers_to_start, 1u); });
  const Plan usual;
  steps.push_back([usual](Plan& plan) { return set(plan.epochs_kept, usual.epochs_kept); });
  steps.push_back([usual](Plan& plan) { return set(plan.window_rounds_max, usual.window_rounds_max); });
  steps.push_back([usual](Plan& plan) { return set(plan.snapshot_log_entries, usual.snapshot_log_entries); });
  steps.push_back([](Plan& plan) { return set(plan.write, Duration(0)); });
  steps.push_back([usual](Plan& plan) { return set(plan.queue_frames_max, usual.queue_frames_max); });
  for (SessionOptions Plan::*session : {&Plan::session, &Plan::worker_session}) {
    steps.push_back([usual, session](Plan& plan) {
      SessionOptions& options = plan.*session;
      const bool control = set(options.control_credit_bytes, usual.session.control_credit_bytes);
      return set(options.bulk_credit_bytes, usual.session.bulk_credit_bytes) || control;
    });
    steps.push_back([usual, session](Plan& plan) {
      return set((plan.*session).queue_bytes_max, usual.session.queue_bytes_max);
    });
  }
  for (double Plan::*fault : {&Plan::drift, &Plan::replays, &Plan::overtaking, &Plan::hangs})
    steps.push_back([fault](Plan& plan) { return set(plan.*fault, 0.0); });
}

std::vector<Step> steps_for(const Plan& plan) {
  std::vector<Step> steps;
  for (std::size_t place = plan.places.size(); place-- > 0;)
    steps.push_back([place](Plan& p) { return remove_place(p, place); });
  steps.push_back(remove_shard);
  add_removals(steps, &Plan::pauses, plan.pauses.size());
  add_removals(steps, &Plan::partitions, plan.partitions.size());
  add_removals(steps, &Plan::crashes, plan.crashes.size());
  add_removals(steps, &Plan::happenings, plan.happenings.size());
  add_removals(steps, &Plan::tunings, plan.tunings.size());
  add_job_steps(steps);
  add_link_steps(steps, [](Plan& p) { return &p.local; });
  for (std::size_t place = 0; place < plan.places.size(); ++place) {
    add_link_steps(steps,
                   [place](Plan& p) { return place < p.places.size() ? &p.places[place].link : nullptr; });
    steps.push_back(
        [place](Plan& p) { return place < p.places.size() && set(p.places[place].slowness, 1.0); });
  }
  return steps;
}

}  // namespace

std::string kind_of_failure(const std::string& failure) {
  std::string kind;
  for (const char c : failure)
    if (c < '0' || c > '9') kind += c;
  return kind;
}

Plan shrink(const Plan& plan, const Play& play, std::uint32_t plays_max,
            const std::function<void(const std::string&)>& progress) {
  Plan best = plan;
  const std::string kind = kind_of_failure(play(plan));
  std::uint32_t plays = 1;
  const auto fails = [&](Plan& candidate) {
    for (std::uint64_t network = 0; network <= kNetworksTried && plays < plays_max; ++network) {
      if (network > 0) candidate.network_seed = network;
      ++plays;
      if (kind_of_failure(play(candidate)) == kind) return true;
    }
    return false;
  };
  for (bool smaller = true; smaller && plays < plays_max;) {
    smaller = false;
    for (const Step& step : steps_for(best)) {
      // The same step again as long as it helps.
      for (Plan candidate = best; plays < plays_max && step(candidate) && fails(candidate);
           candidate = best) {
        best = candidate;
        smaller = true;
        progress(fmt::format("{} plans played; {}", plays, describe(best)));
      }
    }
  }
  return best;
}

}  // namespace nanduti::sim
