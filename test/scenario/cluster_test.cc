// Goal: the three cores train a job together and keep promises P1 to P5 under every order of events.
// Method: seeded interleavings of the real cores in memory (cluster.h); dyadic progress, so that sums are
// exact.
#include "test/scenario/cluster.h"

#include <cstring>
#include <functional>

#include "test/support/catch.h"

using namespace nanduti;
using namespace nanduti::scenario;

namespace {

std::uint64_t seeds(std::uint64_t count) {
  const char* percent = std::getenv("NANDUTI_SEEDS_PERCENT");
  return percent == nullptr ? count
                            : std::max<std::uint64_t>(count * std::strtoull(percent, nullptr, 10) / 100, 3);
}

JobShape shape_of(std::uint64_t seed) {
  JobShape shape;
  shape.workers = 1 + static_cast<std::uint32_t>(seed % 4);
  shape.shards = 1 + static_cast<std::uint32_t>(seed % 3);
  shape.samples = 40 + seed * 7 % 60;
  if (seed % 5 == 4)
    shape.bound = std::nullopt;
  else
    shape.bound = static_cast<std::uint32_t>(seed % 5);
  return shape;
}

/// Every sample of a round counts 1/64 at every parameter.
std::vector<float> count_samples(IncarnationOrder, const Replica::ComputeRound& round) {
  return std::vector<float>(round.buffers->parameters.size(), static_cast<float>(round.range.size()) / 64.0f);
}

}  // namespace

TEST_CASE("a job ends with every sample counted, every push applied once and the gate kept") {
  for (std::uint64_t seed = 1; seed <= seeds(120); ++seed) {
    INFO("seed " << seed);
    const JobShape shape = shape_of(seed);
    double pushed = 0;
    Cluster cluster(shape, seed, [&](IncarnationOrder order, const Replica::ComputeRound& round) {
      pushed += static_cast<double>(round.range.size()) / 64.0;
      return count_samples(order, round);
    });
    cluster.on_round = [&](std::size_t worker, const Replica::ComputeRound& round) {
      // P1, looked at from outside: rounds settled on every shard by all who are active in the newest
      // membership this worker has merged.
      if (!shape.bound) return;
      const Replica& replica = *cluster.replica(worker);
      const VersionHeader* newest = &replica.shard(ShardIndex(0)).merged();
      for (std::uint32_t k = 0; k < shape.shards; ++k)
        if (replica.shard(ShardIndex(k)).merged().epoch > newest->epoch)
          newest = &replica.shard(ShardIndex(k)).merged();
      if (newest->active.size() == 1) return;  // its own rounds it includes at once
      for (const MemberClock& member : newest->active)
        for (std::uint32_t k = 0; k < shape.shards; ++k) {
          const Round clock = std::max(member.entry_clock, cluster.shard(k).ledger(member.order)->clock());
          REQUIRE(clock.value() + *shape.bound >= round.round.value());
        }
    };
    cluster.run();
    REQUIRE(cluster.view().state == JobState::kDone);
    REQUIRE(cluster.view().samples == shape.samples * shape.epochs);
    REQUIRE(cluster.view().repeated_samples == 0);
    REQUIRE(cluster.view().figures.size() == shape.epochs);
    for (const EpochFigures& figures : cluster.view().figures) REQUIRE(figures.total == 10);
    REQUIRE(pushed == static_cast<double>(shape.samples * shape.epochs) / 64.0);
    REQUIRE(cluster.result.size() == shape.parameters);
    // Thirds are rounded, and shards add in different orders.
    for (const float value : cluster.result) REQUIRE(value == Approx(cluster.result[0]).epsilon(1e-5));
    // Between 1/W of the pushed mass (all active throughout) and all of it.
    const double applied = 1.0 - cluster.result[0];
    REQUIRE(applied <= pushed * 1.0001);
    REQUIRE(applied >= pushed / shape.workers * 0.9999);
  }
}

TEST_CASE(
    "a worker dies, another drains, a third joins: each sample counts once and the job ends by itself") {
  std::uint64_t repeated = 0;
  for (std::uint64_t seed = 1; seed <= seeds(120); ++seed) {
    INFO("seed " << seed);
    JobShape shape = shape_of(seed);
    shape.workers = 2;
    shape.epochs = 3;
    Cluster cluster(shape, seed, count_samples);
    RandomStream random(seed, 9);
    const std::uint64_t die_at = 100 + random.below(400), drain_at = 300 + random.below(600);
    for (std::uint64_t i = 0; !cluster.over(); ++i) {
      REQUIRE(i < 2'000'000);
      if (i == die_at) {
        cluster.kill(0);
        (void)cluster.add_worker();
      }
      if (i == drain_at) {
        cluster.drain(1);
        (void)cluster.add_worker();
      }
      REQUIRE(cluster.step());
    }
    REQUIRE(cluster.view().state == JobState::kDone);
    REQUIRE(cluster.view().samples == shape.samples * shape.epochs);
    repeated += cluster.view().repeated_samples;
  }
  CHECK(repeated > 0);  // some deaths must have fallen between the shards' settling
}

TEST_CASE("two workers at bound 0 follow the trajectory of one process on the mean gradient, to rounding") {
  JobShape shape;
  shape.samples = 160;
  shape.epochs = 1;
  shape.parameters = kBlockSize;
  // Loss of a sample: (x - target)^2 / 2, another target for every worker and round; SGD at rate 0.1.
  const auto target = [](std::uint64_t worker, std::uint64_t round) {
    return 3.0f * static_cast<float>(worker) - static_cast<float>(round % 7);
  };
  std::map<std::uint64_t, std::uint64_t> rounds;
  Cluster cluster(shape, 3, [&](IncarnationOrder order, const Replica::ComputeRound& round) {
    rounds[order.value()] = std::max(rounds[order.value()], round.round.value() + 1);
    std::vector<float> progress(round.buffers->parameters.size());
    for (std::size_t i = 0; i < progress.size(); ++i)
      progress[i] = 0.1f * (round.buffers->parameters[i] - target(order.value(), round.round.value()));
    return progress;
  });
  std::map<std::uint64_t, std::vector<float>> seen;
  cluster.on_round = [&](std::size_t, const Replica::ComputeRound& round) {
    seen[round.round.value()].push_back(round.buffers->parameters[11]);
  };
  cluster.run();
  double x = 1.0;
  const std::uint64_t common = std::min(rounds.at(1), rounds.at(2));
  REQUIRE(common >= 8);
  for (std::uint64_t r = 0; r < common; ++r) {
    for (const float value : seen.at(r)) CHECK(value == Approx(x).epsilon(1e-5));
    x -= 0.1 * (x - (target(1, r) + target(2, r)) / 2.0);
  }
}

TEST_CASE("epochs that end faster than they are evaluated keep all their figures") {
  JobShape shape;
  shape.epochs = 12;
  shape.bound = std::nullopt;
  Cluster cluster(shape, 5, count_samples);
  cluster.slow_evaluator = 0;
  for (int i = 0; i < 2'000'000 && cluster.step(); ++i) {
  }
  CHECK(cluster.view().samples > 2 * kCutsMax * shape.samples);
  CHECK(cluster.view().figures.size() < kCutsMax);
  cluster.slow_evaluator.reset();
  cluster.run();
  CHECK(cluster.view().state == JobState::kDone);
  CHECK(cluster.view().figures.size() == shape.epochs);
}

TEST_CASE(
    "a deterministic job ends with the same bytes under every order of events, its latecomers left out") {
  for (std::uint64_t job = 0; job < 12; ++job) {
    INFO("job " << job);
    JobShape shape = shape_of(job);
    shape.deterministic = true;
    shape.bound = static_cast<std::uint32_t>(job % 3);
    shape.parameters = kBlockSize;
    // Progress depends on x, on the samples and, by 1/3, on the order of additions.
    const auto gradient = [](IncarnationOrder, const Replica::ComputeRound& round) {
      std::vector<float> progress(round.buffers->parameters.size());
      for (std::size_t i = 0; i < progress.size(); ++i)
        progress[i] = (round.buffers->parameters[i] - static_cast<float>(round.range.begin % 7)) / 3.0f;
      return progress;
    };
    std::vector<float> result;
    for (std::uint64_t seed = 1; seed <= seeds(10); ++seed) {
      INFO("seed " << seed);
      Cluster cluster(shape, seed, gradient);
      (void)cluster.add_worker();
      cluster.run();
      REQUIRE(cluster.view().state == JobState::kDone);
      REQUIRE(cluster.view().samples == shape.samples * shape.epochs);
      REQUIRE(cluster.view().warnings.empty());
      if (seed == 1) result = cluster.result;
      REQUIRE(std::memcmp(result.data(), cluster.result.data(), result.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("a deterministic job whose worker dies goes on, takes the next worker in and says what is lost") {
  std::size_t warned = 0;
  for (std::uint64_t seed = 1; seed <= seeds(60); ++seed) {
    INFO("seed " << seed);
    JobShape shape = shape_of(seed);
    shape.workers = 2;
    shape.deterministic = true;
    Cluster cluster(shape, seed, count_samples);
    (void)cluster.add_worker();
    const std::uint64_t end_at = 60 + RandomStream(seed, 9).below(200);
    for (std::uint64_t i = 0; !cluster.over(); ++i) {
      if (i == end_at && seed % 2 == 0) cluster.kill(0);
      if (i == end_at && seed % 2 == 1) cluster.drain(0);
      REQUIRE(cluster.step());
    }
    REQUIRE(cluster.view().state == JobState::kDone);
    REQUIRE(cluster.view().samples == shape.samples * shape.epochs);
    REQUIRE(cluster.view().warnings.size() <= 1);  // none if it was not one of the two, or the job was over
    if (cluster.view().warnings.empty()) continue;
    ++warned;
    CHECK_THAT(cluster.view().warnings[0], Catch::Contains("its result cannot be reproduced"));
  }
  CHECK(warned > 0);
}

TEST_CASE(
    "parameters are evaluated within epochs, beside every epoch's end, and never more than a few at once") {
  std::uint64_t evaluated = 0, skipped = 0;
  for (std::uint64_t seed = 1; seed <= seeds(100); ++seed) {
    INFO("seed " << seed);
    JobShape shape;
    shape.workers = 1 + seed % 3;
    shape.bound = 2;
    shape.evaluate_every = 5 + seed % 60;
    Cluster cluster(shape, seed, count_samples);
    cluster.run();
    const CoordinatorCore::JobView& view = cluster.view();
    REQUIRE(view.state == JobState::kDone);
    REQUIRE(view.figures.size() == shape.epochs);
    std::uint64_t before = 0;
    for (const EvaluationFigures& figures : view.evaluations) {
      REQUIRE(figures.total == 10);
      REQUIRE(figures.samples >= before / shape.evaluate_every * shape.evaluate_every + shape.evaluate_every);
      REQUIRE(figures.samples < shape.epochs * shape.samples);
      before = figures.samples;
    }
    REQUIRE(view.evaluations.size() + view.evaluations_skipped <=
            shape.epochs * shape.samples / shape.evaluate_every);
    evaluated += view.evaluations.size();
    skipped += view.evaluations_skipped;
  }
  CHECK(evaluated > 0);
  CHECK(skipped > 0);
}

TEST_CASE("evaluations that do not keep up are skipped, and the ends of epochs are not") {
  JobShape shape;
  shape.epochs = 2;
  shape.samples = 400;
  shape.bound = std::nullopt;
  shape.evaluate_every = 40;
  Cluster cluster(shape, 5, count_samples);
  cluster.slow_evaluator = 0;
  for (int i = 0; i < 2'000'000 && cluster.step(); ++i) {
  }
  CHECK(cluster.view().samples == 800);
  CHECK(cluster.view().evaluations.empty());
  CHECK(cluster.view().evaluations_skipped > 10);
  cluster.slow_evaluator.reset();
  cluster.run();
  CHECK(cluster.view().evaluations.size() == kOpenEvaluationsMax);
  CHECK(cluster.view().figures.size() == 2);
}

TEST_CASE("a deterministic job gives the same bytes, whether and when it is evaluated within epochs") {
  std::vector<float> expected;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    INFO("seed " << seed);
    JobShape shape;
    shape.bound = 2;
    shape.deterministic = true;
    shape.evaluate_every = 30 * (seed % 3);
    Cluster cluster(shape, seed, count_samples);
    cluster.run();
    REQUIRE(cluster.view().state == JobState::kDone);
    REQUIRE(cluster.view().evaluations.empty() == (shape.evaluate_every == 0));
    if (expected.empty()) expected = cluster.result;
    REQUIRE(cluster.result == expected);
  }
}

TEST_CASE("a job is done when every epoch has its figures, however fast the epochs are") {
  for (std::uint64_t seed = 1; seed <= seeds(300); ++seed) {
    INFO("seed " << seed);
    JobShape shape;
    shape.workers = 3;
    shape.shards = 1;
    shape.samples = 4 + seed % 9;
    shape.epochs = 2 + static_cast<std::uint32_t>(seed % 7);
    shape.parameters = kBlockSize;
    shape.bound = std::nullopt;
    Cluster cluster(shape, seed, count_samples);
    cluster.run();
    REQUIRE(cluster.view().figures.size() == shape.epochs);
    for (std::uint32_t epoch = 0; epoch < shape.epochs; ++epoch)
      REQUIRE(cluster.view().figures[epoch].epoch == epoch + 1);
  }
}

TEST_CASE("data that nobody can use ends the job with the reason, and the workers live on") {
  Cluster cluster({}, 1, count_samples);
  cluster.on_load = [](std::size_t, LoadedJob) -> Result<LoadedJob> {
    return make_error(ErrorCode::kCorrupt, "train-images.idx: holds 3 images where 60000 are due");
  };
  cluster.run();
  CHECK(cluster.view().state == JobState::kFailed);
  CHECK(cluster.view().reason == "train-images.idx: holds 3 images where 60000 are due");
  CHECK(cluster.stopped == 0);
  CHECK(cluster.coordinator().worker_count() == 2);
}

TEST_CASE("a worker with other data is left out and the job goes on without it") {
  JobShape shape;
  shape.workers = 1;
  Cluster cluster(shape, 2, count_samples);
  (void)cluster.add_worker();
  cluster.on_load = [](std::size_t worker, LoadedJob job) -> Result<LoadedJob> {
    job.data.fingerprint += worker;
    return job;
  };
  cluster.run();
  CHECK(cluster.view().state == JobState::kDone);
}

TEST_CASE("a cancelled job ends at once and the next one runs") {
  Cluster cluster({}, 4, count_samples);
  for (int i = 0; i < 150; ++i) REQUIRE(cluster.step());
  JobPlan next = cluster.view().plan;
  next.id = JobId(2);
  cluster.coordinator().on_event(ProtocolTime(std::chrono::hours(2)), CoordinatorCore::SubmitJob{next});
  cluster.coordinator().on_event(ProtocolTime(std::chrono::hours(2)), CoordinatorCore::CancelJob{JobId(1)});
  CHECK(cluster.view().state == JobState::kCancelled);
  for (int i = 0; i < 2'000'000 && cluster.coordinator().view(JobId(2))->state == JobState::kRunning; ++i)
    REQUIRE(cluster.step());
  CHECK(cluster.coordinator().view(JobId(2))->state == JobState::kDone);
}
