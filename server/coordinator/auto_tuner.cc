#include "server/coordinator/auto_tuner.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace nanduti {

namespace {

/// Jitter makes the smallest bound that covers the delay stall (DESIGN section 2).
constexpr double kBoundFactor = 2;
/// What is left for what the next rounds may take beyond the last ones, 99 in 100 of which took no longer.
constexpr double kTailFactor = 1.5;
/// A link of which rounds need no larger part has no queue of theirs to speak of, as far as one worker knows;
/// others may share it: then round trips are so many times longer than the shortest one.
constexpr double kUnqueuedPart = 0.35;
constexpr double kQueuedRoundTrips = 1.5;
/// Single round trips are so many deviations longer than the shortest, at most, nearly always.
constexpr double kDeviations = 4;
/// The part of the link's rate that rounds may need.
constexpr double kRatePart = 0.7;
/// What a round may cost beside its steps, in parts of them.
constexpr double kBesidePart = 0.01;
/// Waiting for others that is taken for delay, where everybody waits so much.
constexpr double kGatePart = 0.02;
/// A clock that was heard of a while ago is known to a round.
constexpr double kClockError = 1;
/// No minibatch takes less, in seconds.
constexpr double kStepMin = 1e-9;
/// What falls by less than this stays.
constexpr double kLowerPart = 0.7;

std::uint32_t ceiling(double value) {
  if (!(value > 0)) return 0;
  return static_cast<std::uint32_t>(std::ceil(std::clamp(value - 1e-9, 0.0, 1e6)));
}

}  // namespace

void AutoTuner::on_status(ProtocolTime now, IncarnationOrder order, const WorkerStatus& status) {
  Worker& worker = workers_[order];
  if (worker.heard && now - *worker.heard < kStatusEvery) return;
  worker.heard = now;
  std::deque<Point>& points = worker.points;
  // Rounds may be longer than the time between statuses.
  if (points.empty() || points.back().status.clock != status.clock) points.push_back({now, status});
  const auto is_enough_from = [&](const Point& first) {
    return now - first.time >= kWindow && status.clock.value() >= first.status.clock.value() + kRoundsMin;
  };
  while (points.size() > kStatusesMax || (points.size() > 1 && is_enough_from(points[1]))) points.pop_front();
  if (status.round_trip_seconds > 0 &&
      (worker.shortest == 0 || status.round_trip_seconds <= worker.shortest ||
       now - worker.shortest_at > kShortestAge)) {
    worker.shortest = status.round_trip_seconds;
    worker.shortest_at = now;
  }
  if (status.round_trip_seconds > 0)
    worker.round_trips.push_back({now, status.round_trip_seconds, status.round_trip_deviation_seconds});
  while (!worker.round_trips.empty() &&
         (now - worker.round_trips.front().time > kRoundTripAge || worker.round_trips.size() > kStatusesMax))
    worker.round_trips.pop_front();
  if (status.path_bytes_per_second > 0 &&
      (status.path_bytes_per_second >= worker.rate || now - worker.rate_at > kRateAge)) {
    worker.rate = status.path_bytes_per_second;
    worker.rate_at = now;
  }
}

void AutoTuner::on_changed() {
  for (auto& [order, worker] : workers_) worker.points.clear();
  raise_since_.reset();
  lower_since_.reset();
  short_since_.reset();
}

std::optional<AutoTuner::Figures> AutoTuner::figures(ProtocolTime now, IncarnationOrder order) const {
  const auto found = workers_.find(order);
  if (found == workers_.end() || found->second.round_trips.empty()) return std::nullopt;
  const Worker& worker = found->second;
  if (worker.points.empty() || now - *worker.heard > kSilence) return std::nullopt;
  const Duration span = worker.points.back().time - worker.points.front().time;
  if (span < kWindowMin) return std::nullopt;
  const WorkerStatus &first = worker.points.front().status, &last = worker.points.back().status;
  if (last.samples <= first.samples || last.clock <= first.clock) return std::nullopt;
  const std::uint64_t rounds_min = span >= kWindow ? 2 : kRoundsMin;
  if (last.clock.value() - first.clock.value() < rounds_min) return std::nullopt;
  const auto rounds = static_cast<double>(last.clock.value() - first.clock.value());
  const auto grown = [](auto before, auto after) {  // a status may say anything
    return after > before ? static_cast<double>(after - before) : 0.0;
  };
  Figures figures;
  const double computed = grown(first.compute_seconds, last.compute_seconds);
  if (computed <= 0) return std::nullopt;
  figures.step = computed / grown(first.samples, last.samples) * batch_size_;
  figures.round_trip = worker.shortest;
  figures.jitter = 1e9;
  for (const RoundTrip& round_trip : worker.round_trips)
    figures.jitter = std::min(figures.jitter, kDeviations * round_trip.deviation);
  figures.queued = worker.round_trips.back().mean > kQueuedRoundTrips * figures.round_trip;
  if (!(figures.step > kStepMin)) return std::nullopt;
  // A shard applies and codes what a worker codes and merges.
  figures.codec = 2 * grown(first.codec_cpu_seconds, last.codec_cpu_seconds) / rounds;
  figures.beside =
      (grown(first.stall.merge, last.stall.merge) + grown(first.stall.codec, last.stall.codec)) / rounds;
  const auto bytes = [&](auto sum, auto exact) {
    return std::max(grown(first.*sum, last.*sum) - grown(first.*exact, last.*exact), 0.0) / rounds;
  };
  figures.bytes = std::max(bytes(&WorkerStatus::bytes_up, &WorkerStatus::exact_bytes_up),
                           bytes(&WorkerStatus::bytes_down, &WorkerStatus::exact_bytes_down));
  if (now - worker.rate_at <= kRateAge) figures.rate = worker.rate;
  figures.slowest = last.turnaround_p99_seconds;
  const double waited =
      grown(first.stall.gate, last.stall.gate) + grown(first.stall.window, last.stall.window);
  figures.gate_part = waited / (computed + waited);
  figures.clock = static_cast<double>(last.clock.value()) +
                  to_seconds(now - worker.points.back().time) * rounds / to_seconds(span);
  return figures;
}

std::vector<AutoTuner::Figures> AutoTuner::figures(ProtocolTime now,
                                                   std::span<const IncarnationOrder> active) const {
  std::vector<Figures> all;
  for (const IncarnationOrder order : active)
    if (const auto known = figures(now, order)) all.push_back(*known);
  if (all.size() < active.size()) all.clear();  // the slowest may be the one that is missing
  return all;
}

void AutoTuner::note_apart(ProtocolTime now, const StalenessPlan& plan, std::span<const Figures> all) {
  const auto [last, first] = std::minmax_element(
      all.begin(), all.end(), [](const Figures& a, const Figures& b) { return a.clock < b.clock; });
  // Who waits for the others is as far apart as the bound lets it: a larger one would only delay that.
  const bool somebody_waits =
      std::any_of(all.begin(), all.end(), [](const Figures& of) { return of.gate_part > kGatePart; });
  const double apart =
      somebody_waits ? 0 : std::max(first->clock - last->clock - kClockError, 0.0) * plan.local_steps;
  if (!somebody_waits && apart < apart_ && now - apart_at_ <= kApartAge) return;
  apart_ = apart;
  apart_at_ = now;
}

AutoTuner::Wanted AutoTuner::want(const StalenessPlan& plan, std::span<const Figures> all) const {
  Wanted wanted;
  wanted.local_steps = plan.local_steps;
  std::string steps_why;
  double gate_part = 1;
  for (const Figures& of : all) gate_part = std::min(gate_part, of.gate_part);
  if (plan.auto_local_steps) {
    wanted.local_steps = 1;
    for (const Figures& of : all) {
      const auto need = [&](double steps, const std::string& why) {
        const std::uint32_t whole = std::min(ceiling(steps), plan.local_steps_max);
        if (whole <= wanted.local_steps) return;
        wanted.local_steps = whole;
        steps_why = why;
      };
      need(of.transfer() / (kRatePart * of.step),
           fmt::format("a round's {:.0f} kB take {:.0f} ms", of.bytes / 1e3, of.transfer() * 1e3));
      need(of.beside / (kBesidePart * of.step),
           fmt::format("a round costs {:.1f} ms beside its steps", of.beside * 1e3));
      if (plan.auto_bound || plan.bound)
        need(kBoundFactor * of.delay() /
                 (std::max(plan.auto_bound ? plan.bound_max : *plan.bound, 1u) * of.step),
             fmt::format("no larger bound than {} is allowed",
                         plan.auto_bound ? plan.bound_max : *plan.bound));
    }
  }
  wanted.bound = 1;
  for (const Figures& of : all) {
    const double round = wanted.local_steps * of.step;
    const std::uint32_t smooth = ceiling(kBoundFactor * std::ceil(of.delay() / round - 1e-9));
    const bool unqueued = !of.queued && of.transfer() <= kUnqueuedPart * round;
    const std::uint32_t uneven =
        of.slowest > 0 && unqueued ? ceiling(kTailFactor * of.slowest / round) + 1 : 0;
    if (std::max(smooth, uneven) < wanted.bound) continue;
    wanted.bound = std::max({smooth, uneven, 1u});
    wanted.why = fmt::format(
        "{:.0f} ms to hide (round trip {:.0f}, jitter {:.0f}, bytes {:.0f}, coding {:.0f}) in rounds of "
        "{:.1f} ms",
        of.delay() * 1e3, of.round_trip * 1e3, of.jitter * 1e3, of.transfer() * 1e3, of.codec * 1e3,
        round * 1e3);
    if (uneven > smooth) wanted.why += fmt::format("; some rounds took {:.0f} ms", of.slowest * 1e3);
  }
  for (const Figures& of : all) {
    const double round = wanted.local_steps * of.step;
    const std::uint32_t apart = ceiling(apart_ / wanted.local_steps);
    wanted.bound_kept =
        std::max({wanted.bound_kept, ceiling(of.slowest / round), apart + ceiling(of.delay() / round)});
    const std::uint32_t bound = std::max(plan.auto_bound ? plan.bound_max : plan.bound.value_or(1), 1u);
    wanted.local_steps_kept = std::max(wanted.local_steps_kept, ceiling(of.slowest / (bound * of.step)));
  }
  if (!steps_why.empty()) wanted.why += "; " + steps_why;
  if (all.size() > 1 && gate_part > kGatePart && plan.bound) {
    // Longer than it looks. What has grown for that stays: less was seen not to do.
    wanted.bound = std::max(wanted.bound, *plan.bound + std::max(*plan.bound / 2, 1u));
    if (plan.auto_local_steps && (!plan.auto_bound || *plan.bound >= plan.bound_max))
      wanted.local_steps =
          std::max(wanted.local_steps,
                   std::min(plan.local_steps + std::max(plan.local_steps / 2, 1u), plan.local_steps_max));
    wanted.why += fmt::format("; all wait for others' rounds for {:.0f} % of the time", gate_part * 100);
  }
  return wanted;
}

std::optional<AutoTuner::Choice> AutoTuner::choose(ProtocolTime now, const StalenessPlan& plan,
                                                   std::span<const IncarnationOrder> active) {
  if (!plan.is_auto()) return std::nullopt;
  const std::vector<Figures> all = figures(now, active);
  if (all.empty()) {  // what nobody saw did not last
    raise_since_.reset();
    lower_since_.reset();
    return std::nullopt;
  }
  note_apart(now, plan, all);
  const Wanted wanted = want(plan, all);
  Choice choice{plan.bound, plan.local_steps, wanted.why};
  if (plan.auto_bound)
    choice.bound =
        std::min(std::max(wanted.bound, std::min(std::max(wanted.bound_kept, kBoundFloor), *plan.bound)),
                 plan.bound_max);
  if (plan.auto_local_steps)
    choice.local_steps =
        std::clamp(std::max(wanted.local_steps, std::min(wanted.local_steps_kept, plan.local_steps)), 1u,
                   plan.local_steps_max);
  if (!std::exchange(has_chosen_, true)) {
    // What the steps begin with is a guess. The bound begins with the most: what is rare has not been seen.
    choice.bound = std::max(choice.bound, plan.bound);
    if (choice.bound == plan.bound && choice.local_steps == plan.local_steps) return std::nullopt;
    return choice;
  }
  const bool raises =
      (plan.auto_bound && *choice.bound > *plan.bound) || choice.local_steps > plan.local_steps;
  const bool lowers = !raises && ((plan.auto_bound && *choice.bound <= kLowerPart * *plan.bound) ||
                                  choice.local_steps <= kLowerPart * plan.local_steps);
  const auto lasts = [&](bool holds, std::optional<ProtocolTime>& since, Duration after) {
    if (!holds)
      since.reset();
    else if (!since)
      since = now;
    return holds && now - *since >= after;
  };
  const bool raise = lasts(raises, raise_since_, kRaiseAfter),
             lower = lasts(lowers, lower_since_, kLowerAfter);
  if (!raise && !lower) return std::nullopt;
  if (raise) {  // one thing grows, and nothing falls beside it
    if (choice.bound && plan.bound) choice.bound = std::max(choice.bound, plan.bound);
    choice.local_steps = std::max(choice.local_steps, plan.local_steps);
  }
  return choice;
}

std::optional<std::string> AutoTuner::warning(ProtocolTime now, const StalenessPlan& plan,
                                              std::span<const IncarnationOrder> active) {
  if (plan.auto_bound || !plan.bound || active.size() < 2 || warned_of_ == plan) return std::nullopt;
  const std::vector<Figures> all = figures(now, active);
  double utilisation = 1;
  for (const Figures& of : all) {
    const double round = plan.local_steps * of.step;
    utilisation = std::min(utilisation, (*plan.bound + 1) * round / (round + of.delay()));
  }
  if (utilisation >= kUtilisationMin) {
    short_since_.reset();
    return std::nullopt;
  }
  if (!short_since_) short_since_ = now;
  if (now - *short_since_ < kRaiseAfter) return std::nullopt;
  warned_of_ = plan;
  const Wanted wanted = want(plan, all);
  return fmt::format(
      "staleness.bound {} cannot hide the delay: workers will compute for about {:.0f} % of the time. A "
      "bound "
      "of {} would hide it: {}",
      *plan.bound, utilisation * 100, wanted.bound, wanted.why);
}

}  // namespace nanduti
