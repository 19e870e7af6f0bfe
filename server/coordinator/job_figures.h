#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "common/protocol/message_archive.h"
#include "server/coordinator/age_histogram.h"
#include "server/coordinator/reports.h"

namespace nanduti {

/// A growing sum over the last while. Pure; one thread.
class RecentWindow {
 public:
  static constexpr Duration kLength = std::chrono::seconds(10);

  /// What the sum is now.
  void set(ProtocolTime now, double sum);
  /// Growth per second over the last kLength, or since the first value if that is less. Adds no values.
  [[nodiscard]] double per_second(ProtocolTime now) const;
  /// Growth over the same stretch.
  [[nodiscard]] double growth(ProtocolTime now) const;
  [[nodiscard]] std::size_t size() const { return points_.size(); }
  [[nodiscard]] double sum() const { return points_.empty() ? 0.0 : points_.back().sum; }
  void shift(Duration by) {
    for (Point& point : points_) point.time += by;
  }

  /// Of its values the last one: a rate begins anew.
  template <class Archive>
  void archive(Archive& a) {
    std::optional<std::pair<ProtocolTime, double>> last;
    if (!points_.empty()) last.emplace(points_.back().time, points_.back().sum);
    a(last);
    if (Archive::kReads && last) points_ = {{last->first, last->second}};
  }

 private:
  struct Point {
    ProtocolTime time;
    double sum = 0;
  };
  [[nodiscard]] const Point* oldest(ProtocolTime now) const;
  std::deque<Point> points_;  // at most one each kLength / 20, and the newest
};

/// What followers of one job see beyond its ledger: sums over all workers that ever took part, rates over the
/// last seconds, times. Fed with events and the time; no clock of its own. Pure; one thread.
class JobFigures {
 public:
  struct Worker {
    WorkerStatus last;
    RecentWindow samples;
    template <class Archive>
    void archive(Archive& a) {
      a(last, samples);
    }
  };
  struct Epoch {
    std::uint32_t epoch = 0;        ///< epochs behind it: 1, 2, ...
    double seconds = 0;             ///< from the start of training until its last sample was settled
    std::optional<double> loss;     ///< mean training loss of what workers reported since the epoch before
    std::uint64_t samples = 0;      ///< that count
    double evaluation_seconds = 0;  ///< of `seconds`: JobFigures::evaluation_seconds
    template <class Archive>
    void archive(Archive& a) {
      a(epoch, seconds, loss, samples, evaluation_seconds);
    }
  };

  /// The worker takes part from now on: its statuses count.
  void on_joined(IncarnationOrder worker);
  /// Sums since joining. Statuses of workers that do not take part are ignored.
  void on_status(ProtocolTime now, IncarnationOrder worker, const WorkerStatus& status);
  /// It died or left; what it did stays counted.
  void on_gone(IncarnationOrder worker);
  /// Of all shards at a cut.
  void on_publish_residual(double norm) { publish_residual_norm_ = norm; }
  void on_push_settled(std::uint32_t age) { ages_.add(age); }
  void on_training(ProtocolTime now);
  /// Samples are lent to a worker that has the model.
  void on_lease(ProtocolTime now);
  /// So many samples count (LeaseBook::counted_in_all).
  void on_samples(ProtocolTime now, std::uint64_t counted);
  /// The last of the next epoch's `samples` is settled.
  void on_epoch_settled(ProtocolTime now, std::uint64_t samples);
  /// The job is over: rates are those of its last moment. Final statuses of its workers still count.
  void on_end() { ended_ = true; }

  [[nodiscard]] const std::vector<Epoch>& epochs() const { return epochs_; }
  [[nodiscard]] const Worker* worker(IncarnationOrder order) const;
  [[nodiscard]] std::uint64_t bytes_up() const;
  [[nodiscard]] std::uint64_t bytes_down() const;
  /// Stall / (compute + stall) over all workers; evaluation and the time without a lease are in neither.
  [[nodiscard]] double stall_fraction() const;
  [[nodiscard]] PipelineReport pipeline() const;
  /// Time in which workers evaluated instead of training: all of it, over those that take part now.
  [[nodiscard]] double evaluation_seconds() const;
  /// Of one worker.
  static PipelineReport pipeline_of(const WorkerStatus& status);
  /// Mean over the samples of the last while; of the last ones known when nothing moves. Empty before any.
  [[nodiscard]] std::optional<double> recent_loss(ProtocolTime now) const;
  /// Mean over the workers that take part; empty if nobody does.
  [[nodiscard]] std::optional<double> staleness() const;
  /// Settled samples per second over the last while.
  [[nodiscard]] double samples_per_second(ProtocolTime now) const;
  /// Seconds until `samples_total` at that rate; empty if nothing moves.
  [[nodiscard]] std::optional<double> seconds_left(ProtocolTime now, std::uint64_t samples_total) const;
  /// From the start of training until the last sample was settled, or until now if some are missing.
  [[nodiscard]] double training_seconds(ProtocolTime now, std::uint64_t samples_total) const;
  /// For how long no sample has been settled; zero before training and after the end.
  [[nodiscard]] Duration quiet(ProtocolTime now) const;

  /// All times are on another clock.
  void shift(Duration by);
  template <class Archive>
  void archive(Archive& a) {
    a(workers_, gone_, gone_utilisation_min_, ages_, publish_residual_norm_, settled_, trained_, loss_sum_,
      last_loss_, epoch_trained_, epoch_loss_sum_, epochs_, training_since_, lent_since_, counted_,
      last_sample_, last_, ended_);
  }

 private:
  [[nodiscard]] WorkerStatus total() const;
  [[nodiscard]] ProtocolTime clamped(ProtocolTime now) const { return ended_ ? last_ : now; }

  std::map<IncarnationOrder, Worker> workers_;
  WorkerStatus gone_;  // sums of those that are no more
  std::optional<double> gone_utilisation_min_;
  AgeHistogram ages_;
  double publish_residual_norm_ = 0;
  RecentWindow settled_;
  RecentWindow trained_;   // samples as workers report them, a second behind at most
  RecentWindow loss_sum_;  // over those
  std::optional<double> last_loss_;
  double epoch_trained_ = 0, epoch_loss_sum_ = 0;  // when the last epoch was settled
  std::vector<Epoch> epochs_;
  std::optional<ProtocolTime> training_since_;
  std::optional<ProtocolTime> lent_since_;
  std::uint64_t counted_ = 0;
  ProtocolTime last_sample_{};
  ProtocolTime last_{};
  bool ended_ = false;
};

}  // namespace nanduti
