// Goal: sums lose nothing when workers leave, rates are those of the last seconds, times are what they say.
// Method: statuses and counts at made-up times.
#include "server/coordinator/job_figures.h"

#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

constexpr IncarnationOrder kFirst{1}, kSecond{2};

ProtocolTime at(Duration since_start) { return ProtocolTime(1h) + since_start; }

WorkerStatus status(std::uint64_t samples, double loss_sum, double compute = 0, double stall = 0) {
  WorkerStatus status;
  status.job = JobId(1);
  status.samples = samples;
  status.loss_sum = loss_sum;
  status.compute_seconds = compute;
  status.stall.gate = stall;
  status.evaluation_seconds = 100;
  status.bytes_up = samples * 10;
  status.bytes_down = samples * 100;
  return status;
}

}  // namespace

TEST_CASE("what a worker did stays counted when it dies or leaves, once") {
  JobFigures figures;
  figures.on_joined(kFirst);
  figures.on_joined(kSecond);
  figures.on_training(at(0s));
  figures.on_status(at(1s), kFirst, status(10, 20, 3, 1));
  figures.on_status(at(1s), kSecond, status(5, 5, 4, 0));
  CHECK(figures.bytes_up() == 150);
  CHECK(figures.stall_fraction() == Approx(1.0 / 8));
  figures.on_gone(kFirst);
  figures.on_gone(kFirst);
  CHECK(figures.bytes_up() == 150);
  CHECK(figures.bytes_down() == 1500);
  CHECK(figures.stall_fraction() == Approx(1.0 / 8));
  figures.on_status(at(2s), kFirst, status(1000, 0));  // from beyond the grave
  CHECK(figures.bytes_up() == 150);
  figures.on_status(at(2s), kSecond, status(6, 6, 4, 0));
  CHECK(figures.bytes_up() == 160);
}

TEST_CASE("statuses of workers that do not take part, and sums that shrink, change nothing") {
  JobFigures figures;
  figures.on_status(at(0s), kFirst, status(10, 20, 3, 1));
  CHECK(figures.bytes_up() == 0);
  CHECK_FALSE(figures.recent_loss(at(1s)));
  CHECK_FALSE(figures.staleness());
  figures.on_joined(kFirst);
  figures.on_status(at(1s), kFirst, status(10, 20));
  figures.on_status(at(2s), kFirst, status(9, 1));
  CHECK(figures.bytes_up() == 100);
  CHECK(figures.recent_loss(at(2s)) == 2.0);
}

TEST_CASE("the rate is that of the last ten seconds and falls to nothing when nothing moves") {
  JobFigures figures;
  figures.on_training(at(0s));
  CHECK(figures.samples_per_second(at(0s)) == 0);
  CHECK_FALSE(figures.seconds_left(at(0s), 10'000));
  for (int ms = 100; ms <= 20'000; ms += 100)  // 100 per second, and after 10 s 50
    figures.on_samples(at(1ms * ms),
                       static_cast<std::uint64_t>(ms <= 10'000 ? ms / 10 : 1000 + (ms - 10'000) / 20));
  CHECK(figures.samples_per_second(at(20s)) == Approx(50).epsilon(0.05));
  CHECK(*figures.seconds_left(at(20s), 2500) == Approx(20).epsilon(0.05));
  CHECK(figures.quiet(at(23s)) == 3s);
  CHECK(figures.samples_per_second(at(25s)) == Approx(25).epsilon(0.1));
  CHECK(figures.samples_per_second(at(31s)) == 0);
  CHECK_FALSE(figures.seconds_left(at(31s), 2500));
}

TEST_CASE("the loss is the mean over recent samples, weighted by them, and the last known one at a halt") {
  JobFigures figures;
  figures.on_joined(kFirst);
  figures.on_joined(kSecond);
  figures.on_training(at(0s));
  figures.on_status(at(1s), kFirst, status(30, 30));
  figures.on_status(at(1s), kSecond, status(10, 50));
  CHECK(*figures.recent_loss(at(1s)) == Approx(2.0));
  figures.on_status(at(30s), kFirst, status(40, 35));
  CHECK(*figures.recent_loss(at(30s)) == Approx(0.5));
  CHECK(*figures.recent_loss(at(90s)) == Approx(0.5));
}

TEST_CASE("staleness is the mean over the workers that take part") {
  JobFigures figures;
  figures.on_joined(kFirst);
  figures.on_joined(kSecond);
  WorkerStatus stale = status(1, 1);
  stale.staleness = 3;
  figures.on_status(at(1s), kFirst, stale);
  CHECK(figures.staleness() == 1.5);
  figures.on_gone(kSecond);
  CHECK(figures.staleness() == 3.0);
}

TEST_CASE("epochs have their time from the start of training and their own mean loss") {
  JobFigures figures;
  figures.on_joined(kFirst);
  figures.on_training(at(5s));
  figures.on_status(at(6s), kFirst, status(100, 200));
  figures.on_samples(at(7s), 100);
  figures.on_epoch_settled(at(7s), 100);
  figures.on_epoch_settled(at(8s), 100);  // so short that nobody had reported anything
  figures.on_status(at(9s), kFirst, status(300, 300));
  figures.on_samples(at(10s), 300);
  figures.on_epoch_settled(at(10s), 100);
  REQUIRE(figures.epochs().size() == 3);
  CHECK(figures.epochs()[0].seconds == 2.0);
  CHECK(figures.epochs()[0].loss == 2.0);
  CHECK_FALSE(figures.epochs()[1].loss);
  CHECK(figures.epochs()[2].epoch == 3);
  CHECK(figures.epochs()[2].seconds == 5.0);
  CHECK(figures.epochs()[2].loss == 0.5);
}

TEST_CASE("training time ends with the last sample, and everything stands still after the end") {
  JobFigures figures;
  CHECK(figures.training_seconds(at(9s), 300) == 0);
  figures.on_joined(kFirst);
  figures.on_training(at(0s));
  figures.on_samples(at(4s), 200);
  CHECK(figures.training_seconds(at(5s), 300) == 5.0);
  figures.on_samples(at(6s), 300);
  figures.on_samples(at(8s), 300);  // evaluation, saving
  CHECK(figures.training_seconds(at(9s), 300) == 6.0);
  figures.on_end();
  const double rate = figures.samples_per_second(at(8s));
  CHECK(figures.samples_per_second(at(100s)) == rate);
  CHECK(figures.training_seconds(at(100s), 300) == 6.0);
  CHECK(figures.quiet(at(100s)) == Duration::zero());
  figures.on_status(at(9s), kFirst, status(300, 3));  // the final one
  CHECK(figures.bytes_up() == 3000);
}

TEST_CASE("a cancelled job's training time stops with it") {
  JobFigures figures;
  figures.on_training(at(0s));
  figures.on_samples(at(4s), 200);
  figures.on_end();
  CHECK(figures.training_seconds(at(100s), 300) == 4.0);
}

TEST_CASE("a window keeps a bounded number of points whatever is fed") {
  RecentWindow window;
  for (int i = 0; i <= 1'000'000; ++i) window.set(at(1ms * (i / 10)), i);
  CHECK(window.per_second(at(100s)) == Approx(10'000).epsilon(0.05));
  CHECK(window.size() <= 23);
}

TEST_CASE("the pipeline's figures are sums, the worst worker's, and ages of pushes") {
  JobFigures figures;
  figures.on_joined(kFirst);
  figures.on_joined(kSecond);
  figures.on_training(at(0s));
  CHECK_FALSE(figures.pipeline().utilisation);
  CHECK_FALSE(figures.pipeline().age_p50);
  WorkerStatus slow = status(10, 20, 3, 1);
  slow.stall.codec = 0.75;
  slow.stall.window = 0.25;
  slow.pushes_in_flight = 2;
  slow.residual_norm = 2;
  slow.exact_bytes_up = 30;
  slow.turnaround_p50_seconds = 0.5;
  WorkerStatus fast = status(5, 5, 5, 0);
  fast.turnaround_p50_seconds = 0.1;
  fast.pushes_in_flight = 1;
  fast.residual_norm = 3;
  fast.exact_bytes_up = 12;
  fast.exact_bytes_down = 5;
  CHECK_FALSE(figures.pipeline().start_seconds);
  figures.on_lease(at(3s));
  figures.on_lease(at(4s));  // the second one is nobody's start
  figures.on_status(at(1s), kFirst, slow);
  figures.on_status(at(1s), kSecond, fast);
  figures.on_publish_residual(0.5);
  for (std::uint32_t age = 1; age <= 100; ++age) figures.on_push_settled(age);
  PipelineReport report = figures.pipeline();
  CHECK(report.compute_seconds == 8);
  CHECK(report.stall.gate == 1);
  CHECK(report.stall.codec == 0.75);
  CHECK(report.stall.window == 0.25);
  CHECK(*report.utilisation == Approx(0.8));
  CHECK(*report.utilisation_min == Approx(0.6));
  CHECK(report.pushes_in_flight == 3);
  CHECK(report.turnaround_p50_s == 0.5);
  CHECK_FALSE(report.turnaround_p99_s);
  CHECK(report.residual_norm == 3);
  CHECK(report.publish_residual_norm == 0.5);
  CHECK(report.start_seconds == 3.0);
  CHECK(report.exact_bytes_up == 42);
  CHECK(report.exact_bytes_down == 5);
  CHECK(report.age_p50 == 50);
  CHECK(report.age_p99 == 99);
  // The one that is gone counts, but for what is under way now.
  figures.on_gone(kFirst);
  report = figures.pipeline();
  CHECK(*report.utilisation == Approx(0.8));
  CHECK(*report.utilisation_min == Approx(0.6));
  CHECK(report.pushes_in_flight == 1);
  for (int i = 0; i < 300; ++i) figures.on_push_settled(5000);
  CHECK(figures.pipeline().age_p50 == AgeHistogram::kAgeMax);
}
