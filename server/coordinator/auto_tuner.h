#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/protocol/message.h"

namespace nanduti {

/// What a job says of its staleness, as far as it is the coordinator's affair. Where a value is auto, the one
/// that it begins with, and then the one that was chosen last.
struct StalenessPlan {
  std::optional<std::uint32_t> bound = 0;  ///< empty: none
  bool auto_bound = false;
  std::uint32_t bound_max = 16;
  std::uint32_t local_steps = 1;
  bool auto_local_steps = false;
  std::uint32_t local_steps_max = 16;
  [[nodiscard]] bool is_auto() const { return auto_bound || auto_local_steps; }
  friend bool operator==(const StalenessPlan&, const StalenessPlan&) = default;
};

/// Chooses the staleness bound s and the local steps H of a job by what its workers measure, so that distance
/// stalls nobody (DESIGN section 2, `auto`). For each worker
///   T = unloaded round trip, with its jitter, + bytes of a round / rate + coding and applying,
/// and s is twice the rounds that T lasts; or, where rounds leave the link room and nothing queues there, as
/// many as nearly all rounds have taken and half as much again: lost packets make some take several times T.
/// H is as small as it can be while the link carries what rounds give, what a round costs beside its steps
/// stays small, and s is within its maximum. Where even the worker that waits least waits for the others'
/// rounds, T is longer than it looks: s grows, and H where s cannot.
///
/// What has been seen to last longer, be it for a queue, keeps s and H from falling; and so does how far
/// workers have been apart without waiting for each other: one that evaluates falls behind, and s rounds are
/// all that others may be ahead. For the same reason s falls no further than to kBoundFloor. What has to
/// grow grows once it is known for kRaiseAfter; what may fall waits for kLowerAfter, and for a reason of some
/// weight. So s begins with its maximum, for what is rare is not seen at once; H is chosen as soon as
/// something is known. Pure; one thread.
class AutoTuner {
 public:
  /// Figures are taken over so long and kRoundsMin rounds; over two rounds, if these take longer.
  static constexpr Duration kWindow = std::chrono::seconds(10);
  static constexpr std::uint64_t kRoundsMin = 8;
  static constexpr std::size_t kStatusesMax = 128;  ///< that are remembered of a worker
  static constexpr Duration kStatusEvery = std::chrono::milliseconds(400);  ///< more often is too often
  static constexpr Duration kWindowMin = std::chrono::seconds(2);           ///< less says nothing
  static constexpr Duration kSilence =
      std::chrono::seconds(5);  ///< who is not heard for so long is not known
  static constexpr Duration kRoundTripAge =
      std::chrono::seconds(20);  ///< the smallest jitter of so long counts
  /// The shortest round trip of so long is unloaded: a queue may stand for a while. Where the way has become
  /// longer in truth, everybody waits, and s grows for that.
  static constexpr Duration kShortestAge = std::chrono::minutes(5);
  static constexpr Duration kRaiseAfter = std::chrono::seconds(2);
  static constexpr Duration kLowerAfter = std::chrono::seconds(30);
  static constexpr Duration kRateAge = std::chrono::minutes(5);  ///< a rate is known for, once used up
  /// A worker that evaluates a part, which takes about a round, and then another, is two rounds behind before
  /// that has been seen once.
  static constexpr std::uint32_t kBoundFloor = 4;
  static constexpr Duration kApartAge = std::chrono::minutes(5);  ///< the farthest of so long counts

  explicit AutoTuner(std::uint32_t batch_size) : batch_size_(batch_size) {}

  void on_status(ProtocolTime now, IncarnationOrder worker, const WorkerStatus& status);
  void on_gone(IncarnationOrder worker) { workers_.erase(worker); }

  struct Choice {
    std::optional<std::uint32_t> bound;
    std::uint32_t local_steps = 1;
    std::string why;  ///< for the log
  };
  /// Something better than `plan`, which holds now, if there is anything: to be carried out at once. Never
  /// beyond the plan's maxima, and what is not auto stays. `active`: whose figures count.
  std::optional<Choice> choose(ProtocolTime now, const StalenessPlan& plan,
                               std::span<const IncarnationOrder> active);
  /// For a bound that an operator has chosen: what to say if it cannot hide the delay that is measured, and
  /// compute would be below kUtilisationMin for that. Once for each plan.
  std::optional<std::string> warning(ProtocolTime now, const StalenessPlan& plan,
                                     std::span<const IncarnationOrder> active);
  static constexpr double kUtilisationMin = 0.9;
  /// Figures from before are of other rounds.
  void on_changed();

 private:
  struct Point {
    ProtocolTime time;
    WorkerStatus status;
  };
  struct RoundTrip {
    ProtocolTime time;
    double mean = 0, deviation = 0;
  };
  struct Worker {
    std::optional<ProtocolTime> heard;
    std::deque<Point> points;           // statuses since a while
    std::deque<RoundTrip> round_trips;  // of kRoundTripAge
    double shortest = 0;                // round trip of kShortestAge
    ProtocolTime shortest_at{};
    double rate = 0;  // the largest of a while
    ProtocolTime rate_at{};
  };
  /// Of one worker, in seconds and bytes.
  struct Figures {
    double step = 0;  // of one minibatch
    double round_trip = 0;
    double jitter = 0;
    double codec = 0;      // of a round, there and on the shards
    double beside = 0;     // of a round: what its steps wait for but others' rounds
    double bytes = 0;      // of a round, one way, the larger one
    double rate = 0;       // bytes per second; 0: more than is used
    bool queued = false;   // the way's round trips are much longer than its shortest: something queues there
    double gate_part = 0;  // of its time, in which it waits for others' rounds
    double clock = 0;      // in rounds, as it will be by now
    double slowest = 0;  // from a push to a shadow that holds it, of 99 in 100 rounds; its own queue included

    [[nodiscard]] double transfer() const { return rate > 0 ? bytes / rate : 0; }
    [[nodiscard]] double delay() const { return round_trip + jitter + transfer() + codec; }
  };
  struct Wanted {
    std::uint32_t bound = 0;  // not within its maximum yet
    // What holds is not lowered below these.
    std::uint32_t bound_kept = 0, local_steps_kept = 0;
    std::uint32_t local_steps = 1;
    std::string why;
  };
  [[nodiscard]] std::optional<Figures> figures(ProtocolTime now, IncarnationOrder worker) const;
  [[nodiscard]] std::vector<Figures> figures(ProtocolTime now,
                                             std::span<const IncarnationOrder> active) const;
  [[nodiscard]] Wanted want(const StalenessPlan& plan, std::span<const Figures> all) const;
  void note_apart(ProtocolTime now, const StalenessPlan& plan, std::span<const Figures> all);

  std::uint32_t batch_size_;
  std::map<IncarnationOrder, Worker> workers_;
  bool has_chosen_ = false;  // the plan's own steps are a guess
  double apart_ = 0;         // the first worker and the last, in minibatches
  ProtocolTime apart_at_{};
  std::optional<ProtocolTime> raise_since_, lower_since_;
  std::optional<ProtocolTime> short_since_;  // the bound is too small
  std::optional<StalenessPlan> warned_of_;
};

}  // namespace nanduti
