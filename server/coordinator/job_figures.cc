#include "server/coordinator/job_figures.h"

#include <algorithm>

namespace nanduti {

namespace {

void add(WorkerStatus& sum, const WorkerStatus& status) {
  sum.samples += status.samples;
  sum.loss_sum += status.loss_sum;
  sum.compute_seconds += status.compute_seconds;
  sum.stall.gate += status.stall.gate;
  sum.stall.codec += status.stall.codec;
  sum.stall.data += status.stall.data;
  sum.stall.merge += status.stall.merge;
  sum.stall.window += status.stall.window;
  sum.compute_cpu_seconds += status.compute_cpu_seconds;
  sum.codec_cpu_seconds += status.codec_cpu_seconds;
  sum.evaluation_seconds += status.evaluation_seconds;
  sum.bytes_up += status.bytes_up;
  sum.bytes_down += status.bytes_down;
  sum.exact_bytes_up += status.exact_bytes_up;
  sum.exact_bytes_down += status.exact_bytes_down;
}

std::optional<double> utilisation(const WorkerStatus& status) {
  const double wall = status.compute_seconds + status.stall.sum();
  if (wall <= 0) return std::nullopt;
  return status.compute_seconds / wall;
}

std::optional<double> lower(std::optional<double> x, std::optional<double> y) {
  return x && y ? std::min(*x, *y) : x ? x : y;
}

}  // namespace

// ---- RecentWindow ----

void RecentWindow::set(ProtocolTime now, double sum) {
  // The newest point moves until it is far enough from the one before.
  const bool moves = points_.size() >= 2 && now - points_[points_.size() - 2].time < kLength / 20;
  if (moves)
    points_.back() = {now, sum};
  else
    points_.push_back({now, sum});
  while (points_.size() > 2 && points_[1].time <= now - kLength) points_.pop_front();
}

const RecentWindow::Point* RecentWindow::oldest(ProtocolTime now) const {
  const Point* oldest = nullptr;
  for (const Point& point : points_)
    if (oldest == nullptr || point.time <= now - kLength) oldest = &point;
  return oldest;
}

double RecentWindow::growth(ProtocolTime now) const {
  const Point* from = oldest(now);
  return from == nullptr ? 0.0 : points_.back().sum - from->sum;
}

double RecentWindow::per_second(ProtocolTime now) const {
  const Point* from = oldest(now);
  if (from == nullptr || now <= from->time) return 0.0;
  return growth(now) / to_seconds(now - from->time);
}

// ---- JobFigures ----

void JobFigures::on_joined(IncarnationOrder worker) { workers_[worker]; }

void JobFigures::on_status(ProtocolTime now, IncarnationOrder order, const WorkerStatus& status) {
  const auto it = workers_.find(order);
  if (it == workers_.end()) return;
  Worker& worker = it->second;
  if (status.samples < worker.last.samples) return;  // sums only grow
  const std::uint64_t new_samples = status.samples - worker.last.samples;
  if (new_samples > 0)
    last_loss_ = (status.loss_sum - worker.last.loss_sum) / static_cast<double>(new_samples);
  worker.last = status;
  worker.samples.set(now, static_cast<double>(status.samples));
  const WorkerStatus all = total();
  trained_.set(now, static_cast<double>(all.samples));
  loss_sum_.set(now, all.loss_sum);
  if (!ended_) last_ = std::max(last_, now);
}

void JobFigures::on_gone(IncarnationOrder worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  add(gone_, it->second.last);
  gone_utilisation_min_ = lower(gone_utilisation_min_, utilisation(it->second.last));
  workers_.erase(it);
}

void JobFigures::on_training(ProtocolTime now) {
  training_since_ = now;
  last_sample_ = last_ = now;
  settled_.set(now, 0);
  trained_.set(now, 0);
  loss_sum_.set(now, 0);
}

void JobFigures::on_lease(ProtocolTime now) {
  if (!lent_since_) lent_since_ = now;
}

void JobFigures::on_samples(ProtocolTime now, std::uint64_t counted) {
  if (!training_since_ || ended_) return;
  last_ = std::max(last_, now);
  if (counted == counted_) return;
  counted_ = counted;
  last_sample_ = now;
  settled_.set(now, static_cast<double>(counted));
}

void JobFigures::on_epoch_settled(ProtocolTime now, std::uint64_t samples) {
  if (!training_since_) return;
  Epoch epoch;
  epoch.epoch = static_cast<std::uint32_t>(epochs_.size()) + 1;
  epoch.seconds = to_seconds(now - *training_since_);
  epoch.samples = samples;
  epoch.evaluation_seconds = evaluation_seconds();
  if (trained_.sum() > epoch_trained_)
    epoch.loss = (loss_sum_.sum() - epoch_loss_sum_) / (trained_.sum() - epoch_trained_);
  epoch_trained_ = trained_.sum();
  epoch_loss_sum_ = loss_sum_.sum();
  epochs_.push_back(epoch);
}

const JobFigures::Worker* JobFigures::worker(IncarnationOrder order) const {
  const auto it = workers_.find(order);
  return it == workers_.end() ? nullptr : &it->second;
}

WorkerStatus JobFigures::total() const {
  WorkerStatus sum = gone_;
  for (const auto& [order, worker] : workers_) add(sum, worker.last);
  return sum;
}

std::uint64_t JobFigures::bytes_up() const { return total().bytes_up; }
std::uint64_t JobFigures::bytes_down() const { return total().bytes_down; }

double JobFigures::stall_fraction() const {
  const WorkerStatus sum = total();
  const double wall = sum.compute_seconds + sum.stall.sum();
  return wall > 0 ? sum.stall.sum() / wall : 0.0;
}

double JobFigures::evaluation_seconds() const {
  return total().evaluation_seconds / static_cast<double>(std::max<std::size_t>(workers_.size(), 1));
}

NamedFigures PipelineReport::named() const {
  const auto whole = [](std::optional<std::uint32_t> value) {
    return value ? std::optional<double>(*value) : std::nullopt;
  };
  return {{"utilisation", utilisation},
          {"utilisation_min", utilisation_min},
          {"compute_seconds", compute_seconds},
          {"stall_gate_seconds", stall.gate},
          {"stall_codec_seconds", stall.codec},
          {"stall_data_seconds", stall.data},
          {"stall_merge_seconds", stall.merge},
          {"stall_window_seconds", stall.window},
          {"compute_cpu_seconds", compute_cpu_seconds},
          {"codec_cpu_seconds", codec_cpu_seconds},
          {"pushes_in_flight", static_cast<double>(pushes_in_flight)},
          {"turnaround_p50_s", turnaround_p50_s},
          {"turnaround_p99_s", turnaround_p99_s},
          {"exact_bytes_up", static_cast<double>(exact_bytes_up)},
          {"exact_bytes_down", static_cast<double>(exact_bytes_down)},
          {"residual_norm", residual_norm},
          {"publish_residual_norm", publish_residual_norm},
          {"start_seconds", start_seconds},
          {"age_p50", whole(age_p50)},
          {"age_p99", whole(age_p99)}};
}

PipelineReport JobFigures::pipeline_of(const WorkerStatus& status) {
  PipelineReport report;
  report.compute_seconds = status.compute_seconds;
  report.stall = {status.stall.gate, status.stall.codec, status.stall.data, status.stall.merge,
                  status.stall.window};
  report.utilisation = report.utilisation_min = utilisation(status);
  report.compute_cpu_seconds = status.compute_cpu_seconds;
  report.codec_cpu_seconds = status.codec_cpu_seconds;
  report.pushes_in_flight = status.pushes_in_flight;
  report.residual_norm = status.residual_norm;
  report.exact_bytes_up = status.exact_bytes_up;
  report.exact_bytes_down = status.exact_bytes_down;
  if (status.turnaround_p50_seconds > 0) report.turnaround_p50_s = status.turnaround_p50_seconds;
  if (status.turnaround_p99_seconds > 0) report.turnaround_p99_s = status.turnaround_p99_seconds;
  return report;
}

PipelineReport JobFigures::pipeline() const {
  PipelineReport report = pipeline_of(total());
  report.utilisation_min = gone_utilisation_min_;
  for (const auto& [order, worker] : workers_) {
    const PipelineReport of = pipeline_of(worker.last);
    report.utilisation_min = lower(report.utilisation_min, of.utilisation);
    report.pushes_in_flight += of.pushes_in_flight;
    report.residual_norm = std::max(report.residual_norm, of.residual_norm);
    report.turnaround_p50_s = std::max(report.turnaround_p50_s, of.turnaround_p50_s);
    report.turnaround_p99_s = std::max(report.turnaround_p99_s, of.turnaround_p99_s);
  }
  report.publish_residual_norm = publish_residual_norm_;
  if (training_since_ && lent_since_) report.start_seconds = to_seconds(*lent_since_ - *training_since_);
  report.age_p50 = ages_.percentile(0.5);
  report.age_p99 = ages_.percentile(0.99);
  return report;
}

std::optional<double> JobFigures::recent_loss(ProtocolTime now) const {
  const ProtocolTime then = clamped(now);
  const double samples = trained_.growth(then);
  if (samples <= 0) return last_loss_;
  return loss_sum_.growth(then) / samples;
}

std::optional<double> JobFigures::staleness() const {
  if (workers_.empty()) return std::nullopt;
  double sum = 0;
  for (const auto& [order, worker] : workers_) sum += worker.last.staleness;
  return sum / static_cast<double>(workers_.size());
}

double JobFigures::samples_per_second(ProtocolTime now) const { return settled_.per_second(clamped(now)); }

std::optional<double> JobFigures::seconds_left(ProtocolTime now, std::uint64_t samples_total) const {
  if (ended_ || samples_total < counted_) return std::nullopt;
  const double rate = samples_per_second(now);
  if (rate <= 0) return std::nullopt;
  return static_cast<double>(samples_total - counted_) / rate;
}

double JobFigures::training_seconds(ProtocolTime now, std::uint64_t samples_total) const {
  if (!training_since_) return 0.0;
  const bool complete = samples_total > 0 && counted_ == samples_total;
  return to_seconds((complete ? last_sample_ : clamped(now)) - *training_since_);
}

Duration JobFigures::quiet(ProtocolTime now) const {
  if (!training_since_ || ended_) return Duration::zero();
  return now - last_sample_;
}

void JobFigures::shift(Duration by) {
  for (auto& [order, worker] : workers_) worker.samples.shift(by);
  for (RecentWindow* window : {&settled_, &trained_, &loss_sum_}) window->shift(by);
  for (std::optional<ProtocolTime>* time : {&training_since_, &lent_since_})
    if (*time) **time += by;
  last_sample_ += by;
  last_ += by;
}

}  // namespace nanduti
