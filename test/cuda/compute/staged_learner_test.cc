// Goal: what the host feeds is what the device computes, whatever overlaps, and whatever fails is an error
// after which nothing is left. Method: StagedLearner beside a DeviceLearner that is fed by hand, on the
// emulated device, where a stream works when somebody waits for it and not before.
#include "cuda/compute/staged_learner.h"

#include <memory>
#include <utility>
#include <vector>

#include "cuda/compute/device_rates.h"
#include "test/cuda/compute/small_job.h"
#include "test/cuda/device_vector.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

std::unique_ptr<StagedLearner> staged_learner(const ResolvedModel& model) {
  auto made = StagedLearner::create(describe_network(model),
                                    options_of(optimizer_of(OptimizerType::kMomentum), model.space), {});
  REQUIRE(made.ok());
  return std::move(made).value();
}

Status feed(StagedLearner& learner, const Minibatch& minibatch) {
  const Result<std::span<float>> input = learner.input(minibatch.labels.size());
  if (!input.ok()) return input.error();
  NANDUTI_CHECK(input->size() == minibatch.images.size());
  std::copy(minibatch.images.begin(), minibatch.images.end(), input->begin());
  return {};
}

Status step(StagedLearner& learner, const Minibatch& minibatch) {
  NANDUTI_RETURN_IF_ERROR(feed(learner, minibatch));
  return learner.step(minibatch.labels, 0.1);
}

Status evaluate(StagedLearner& learner, const Minibatch& minibatch) {
  NANDUTI_RETURN_IF_ERROR(feed(learner, minibatch));
  return learner.evaluate(minibatch.labels);
}

}  // namespace

TEST_CASE("device: minibatches that the host feeds are computed as they are, in their order") {
  const ResolvedModel model = small_model();
  const std::vector<float> start = initial_values(model, 1, {0, model.space.size()});
  RandomStream random(1);
  std::vector<Minibatch> minibatches;
  for (const std::size_t batch : {4, 4, 4, 4, 4, 4, 3, 6, 1, 4})
    minibatches.push_back(some_minibatch(random, batch));

  fakecuda::reset();
  std::vector<float> expected;
  double loss = 0;
  {
    DeviceStream stream;
    REQUIRE(stream.make().ok());
    auto learner =
        std::move(DeviceLearner::create(describe_network(model),
                                        options_of(optimizer_of(OptimizerType::kMomentum), model.space),
                                        stream.get()))
            .value();
    const DeviceVector<float> x(start), progress(std::vector<float>(start.size(), 0.0f));
    REQUIRE(learner->begin_round(x.data()).ok());
    for (const Minibatch& minibatch : minibatches) {
      float* const to = learner->images(minibatch.labels.size()).value();
      REQUIRE(cudaMemcpyAsync(to, minibatch.images.data(), minibatch.images.size() * sizeof(float),
                              cudaMemcpyHostToDevice, stream.get()) == cudaSuccess);
      const DeviceVector<std::uint8_t> labels(minibatch.labels);
      REQUIRE(learner->step(labels.data(), 0.1).ok());
      REQUIRE(stream.wait().ok());
    }
    loss = learner->finish_round(progress.data())->sums.loss;
    expected = progress.to_host();
  }
  {
    auto learner = staged_learner(model);
    const DeviceVector<float> x(start), progress(std::vector<float>(start.size(), 0.0f));
    for (int round = 0; round < 2; ++round) {
      REQUIRE(learner->reset().ok());
      REQUIRE(learner->begin_round(x.data()).ok());
      for (const Minibatch& minibatch : minibatches) REQUIRE(step(*learner, minibatch).ok());
      const Result<RoundResult> result = learner->finish_round(progress.data());
      REQUIRE(result.ok());
      CHECK(result->sums.loss == loss);
      CHECK(progress.to_host() == expected);
    }
  }
  CHECK(fakecuda::leaks().empty());
}

TEST_CASE("device: what is evaluated is the host's parameters, over all that is fed") {
  const ResolvedModel model = small_model();
  const std::vector<float> start = initial_values(model, 1, {0, model.space.size()});
  const auto reference = std::move(make_reference_backend()->compile(describe_network(model))).value();
  RandomStream random(3);
  fakecuda::reset();
  {
    auto learner = staged_learner(model);
    for (int time = 0; time < 2; ++time) {
      double loss = 0;
      std::uint64_t correct = 0;
      REQUIRE(learner->begin_evaluation(start).ok());
      for (const std::size_t batch : {5, 5, 2}) {
        const Minibatch minibatch = some_minibatch(random, batch);
        REQUIRE(evaluate(*learner, minibatch).ok());
        const auto input = reference->input(batch).value();
        std::copy(minibatch.images.begin(), minibatch.images.end(), input.begin());
        const BatchLoss expected = reference->loss(start, minibatch.labels).value();
        loss += expected.loss_sum;
        correct += expected.correct;
      }
      const Result<device::LossSums> sums = learner->finish_evaluation();
      REQUIRE(sums.ok());
      CHECK(sums->loss == Approx(loss).epsilon(1e-5));
      CHECK(sums->correct == correct);
    }
  }
  CHECK(fakecuda::leaks().empty());
}

TEST_CASE("device: of a step only images and labels cross, of a round two numbers come back") {
  const ResolvedModel model = small_model();
  const std::vector<float> start = initial_values(model, 1, {0, model.space.size()});
  RandomStream random(4);
  fakecuda::reset();
  auto learner = staged_learner(model);
  const DeviceVector<float> x(start), progress(start.size());
  const fakecuda::Crossed before = fakecuda::crossed();
  REQUIRE(learner->begin_round(x.data()).ok());
  std::uint64_t bytes = 0;
  for (int i = 0; i < 5; ++i) {
    const Minibatch minibatch = some_minibatch(random, 4);
    bytes += minibatch.images.size() * sizeof(float) + minibatch.labels.size();
    REQUIRE(step(*learner, minibatch).ok());
  }
  REQUIRE(learner->finish_round(progress.data()).ok());
  CHECK(fakecuda::crossed().to_device - before.to_device == bytes);
  CHECK(fakecuda::crossed().to_host - before.to_host == sizeof(device::LossSums) + sizeof(unsigned));
}

TEST_CASE("device: whatever call fails while the host feeds, it is an error, and nothing is left behind") {
  const ResolvedModel model = small_model();
  const std::vector<float> start = initial_values(model, 1, {0, model.space.size()});
  RandomStream random(1);
  const Minibatch minibatch = some_minibatch(random, 2);
  for (const char* call :
       {"cudaMallocHost", "cudaMalloc", "cudaMemcpyAsync", "cudaEventRecord", "cudaEventSynchronize",
        "cudaStreamWaitEvent", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags"}) {
    for (std::uint64_t nth = 1;; ++nth) {
      INFO(call << ", call " << nth);
      fakecuda::reset();
      Status status;
      {
        const DeviceVector<float> x(start), progress(start.size());
        fakecuda::fail_call(call, nth, cudaErrorMemoryAllocation);
        const auto run = [&]() -> Status {
          auto made = StagedLearner::create(
              describe_network(model), options_of(optimizer_of(OptimizerType::kMomentum), model.space), {});
          if (!made.ok()) return made.error();
          StagedLearner& learner = **made;
          NANDUTI_RETURN_IF_ERROR(learner.begin_round(x.data()));
          NANDUTI_RETURN_IF_ERROR(step(learner, minibatch));
          const auto round = learner.finish_round(progress.data());
          if (!round.ok()) return round.error();
          NANDUTI_RETURN_IF_ERROR(learner.begin_evaluation(start));
          NANDUTI_RETURN_IF_ERROR(evaluate(learner, minibatch));
          const auto sums = learner.finish_evaluation();
          return sums.ok() ? Status() : Status(sums.error());
        };
        status = run();
        (void)cudaDeviceSynchronize();
      }
      if (fakecuda::has_failures_left()) {
        CHECK(status.ok());
        CHECK(nth > 1);
        break;
      }
      REQUIRE_FALSE(status.ok());
      CHECK(fakecuda::leaks().empty());
    }
  }
}

TEST_CASE("device: rates are measured, or the error is one, and nothing is left behind") {
  fakecuda::reset();
  const Result<MeasuredRates> rates = measure_device(0, false);
  REQUIRE(rates.ok());
  CHECK(rates->copy_bytes_per_second > 0);
  CHECK(rates->flops_per_second > 0);
  CHECK(rates->peak_flops_per_second == 0);  // the fake has no clock
  CHECK(fakecuda::leaks().empty());
  for (const char* call : {"cudaMalloc", "cudaEventRecord", "cudaEventElapsedTime", "cublasSgemm_v2"}) {
    fakecuda::reset();
    fakecuda::fail_call(call, 2, cudaErrorMemoryAllocation);
    CHECK_FALSE(measure_device(0, false).ok());
    CHECK(fakecuda::leaks().empty());
  }
}

}  // namespace nanduti
