// Goal: rounds on a device are those of a CPU. Method: the reference backend and the CPU's optimiser beside
// DeviceLearner on the emulated device, from the same parameters over the same minibatches.
#include "cuda/compute/device_learner.h"

#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "test/cuda/compute/small_job.h"
#include "test/cuda/device_vector.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

/// A job's rounds on both.
struct Bench {
  explicit Bench(OptimizerType type)
      : model(small_model()),
        spec(optimizer_of(type)),
        optimizer(spec, model.space),
        x(initial_values(model, 1, {0, model.space.size()})),
        gradient(x.size(), 0.0f) {
    fakecuda::reset();
    const NetworkDescription description = describe_network(model);
    network = std::move(make_reference_backend()->compile(description)).value();
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    auto made = DeviceLearner::create(description, options_of(spec, model.space), stream);
    REQUIRE(made.ok());
    learner = std::move(made).value();
  }
  ~Bench() {
    learner.reset();
    (void)cudaStreamDestroy(stream);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  double step_on_cpu(const Minibatch& minibatch, double rate) {
    const auto input = network->input(minibatch.labels.size()).value();
    std::copy(minibatch.images.begin(), minibatch.images.end(), input.begin());
    const BatchLoss loss = network->gradient(x, minibatch.labels, gradient).value();
    optimizer.step(rate, gradient, x);
    return loss.loss_sum;
  }
  void step_on_device(const Minibatch& minibatch, double rate) {
    float* const to = learner->images(minibatch.labels.size()).value();
    REQUIRE(cudaMemcpyAsync(to, minibatch.images.data(), minibatch.images.size() * sizeof(float),
                            cudaMemcpyHostToDevice, stream) == cudaSuccess);
    const DeviceVector<std::uint8_t> labels(minibatch.labels);
    REQUIRE(learner->step(labels.data(), rate).ok());
  }

  ResolvedModel model;
  OptimizerSpec spec;
  Optimizer optimizer;
  std::vector<float> x, gradient;
  std::unique_ptr<Network> network;
  cudaStream_t stream = nullptr;  // of its own: what is handed to another one is not there in time
  std::unique_ptr<DeviceLearner> learner;
};

}  // namespace

TEST_CASE("device: rounds with each optimiser, merges between them, are those of the CPU") {
  for (const OptimizerType type : {OptimizerType::kSgd, OptimizerType::kMomentum, OptimizerType::kAdamW}) {
    INFO("type " << static_cast<int>(type));
    {
      Bench bench(type);
      const double rate = type == OptimizerType::kAdamW ? 0.01 : 0.1;
      RandomStream random(1);
      for (int round = 0; round < 4; ++round) {
        INFO("round " << round);
        if (round == 2) {
          bench.optimizer.on_merge();
          REQUIRE(bench.learner->on_merge().ok());
        }
        if (round == 3) {
          bench.optimizer.reset();
          REQUIRE(bench.learner->reset().ok());
        }
        const std::vector<float> before = bench.x;
        const DeviceVector<float> x(before), progress(std::vector<float>(before.size(), 99.0f));
        REQUIRE(bench.learner->begin_round(x.data()).ok());
        double loss = 0;
        for (const std::size_t batch : {4, 4, 3}) {
          const Minibatch minibatch = some_minibatch(random, batch);
          loss += bench.step_on_cpu(minibatch, rate);
          bench.step_on_device(minibatch, rate);
        }
        const RoundResult result = bench.learner->finish_round(progress.data()).value();
        CHECK(result.is_finite);
        CHECK(result.sums.loss == Approx(loss).epsilon(1e-4));
        const std::vector<float> moved = progress.to_host();
        CHECK(x.to_host() == before);
        for (const ParameterRange& range : tensor_ranges(bench.model.space))
          for (std::uint64_t i = range.begin; i < range.end; ++i)
            REQUIRE(moved[i] == Approx(before[i] - bench.x[i]).margin(2e-4));
        CHECK(moved[bench.model.space.buffers_begin() - 1] == 99.0f);  // a gap
      }
    }
    CHECK(fakecuda::leaks().empty());
  }
}

TEST_CASE("device: steps are the CPU's, bit for bit, where gradients are") {
  for (const OptimizerType type : {OptimizerType::kSgd, OptimizerType::kMomentum, OptimizerType::kAdamW}) {
    fakecuda::reset();
    constexpr std::size_t kCount = 1000;
    RandomStream random(2);
    const auto some = [&] {
      std::vector<float> values(kCount);
      for (float& value : values) value = static_cast<float>(random.uniform(-1, 1));
      return values;
    };
    const ParameterSpace space({{"a", {kCount}}});
    const OptimizerSpec spec = optimizer_of(type);
    Optimizer optimizer(spec, space);
    std::vector<float> x = some();
    x.resize(space.size());
    DeviceVector<float> on_device(x), velocity(std::vector<float>(kCount, 0.0f)),
        square(std::vector<float>(kCount, 0.0f));
    for (int round = 1; round <= 5; ++round) {
      std::vector<float> gradient = some();
      gradient.resize(space.size());
      optimizer.step(0.02, gradient, x);
      const DeviceVector<float> g(gradient);
      device::OptimizerStep step{};
      step.kind = options_of(spec, space).kind;
      step.count = kCount;
      step.gradient = g.data();
      step.x = on_device.data();
      step.velocity = velocity.data();
      step.square = square.data();
      step.momentum = static_cast<float>(spec.momentum);
      step.weight_decay = static_cast<float>(spec.weight_decay);
      step.learning_rate = 0.02f;
      if (type == OptimizerType::kAdamW) {
        step.learning_rate = static_cast<float>(0.02 / (1 - std::pow(spec.beta1, round)));
        step.root = static_cast<float>(1 / std::sqrt(1 - std::pow(spec.beta2, round)));
        step.beta1 = static_cast<float>(spec.beta1);
        step.beta2 = static_cast<float>(spec.beta2);
        step.epsilon = static_cast<float>(spec.epsilon);
        step.keep = static_cast<float>(1 - 0.02 * spec.weight_decay);
      }
      REQUIRE(device::optimizer_step(step, nullptr) == cudaSuccess);
      CHECK(on_device.to_host() == x);
    }
  }
}

TEST_CASE("device: a round that ends with what is no number says so") {
  Bench bench(OptimizerType::kMomentum);
  RandomStream random(1);
  std::vector<float> from = bench.x;
  from[bench.model.space.tensors().back().offset] = std::numeric_limits<float>::infinity();
  const DeviceVector<float> x(from), progress(from.size());
  REQUIRE(bench.learner->begin_round(x.data()).ok());
  bench.step_on_device(some_minibatch(random, 2), 0.1);
  CHECK_FALSE(bench.learner->finish_round(progress.data())->is_finite);
}

TEST_CASE("device: an evaluation is that of the CPU, and leaves the round alone") {
  RandomStream random(1);
  const Minibatch first = some_minibatch(random, 4), second = some_minibatch(random, 4),
                  other = some_minibatch(random, 6);
  /// Progress and loss of a round of two minibatches, with an evaluation behind each or without.
  const auto round = [&](bool evaluates) {
    Bench bench(OptimizerType::kMomentum);
    std::vector<float> elsewhere = bench.x;
    for (float& value : elsewhere) value *= 0.5f;
    const DeviceVector<float> x(bench.x), test_x(elsewhere),
        progress(std::vector<float>(bench.x.size(), 0.0f));
    const DeviceVector<std::uint8_t> labels(other.labels);
    const DeviceVector<device::LossSums> sums(std::vector<device::LossSums>(1));
    const auto evaluate = [&] {
      if (!evaluates) return;
      float* const to = bench.learner->images(6).value();
      REQUIRE(cudaMemcpyAsync(to, other.images.data(), other.images.size() * sizeof(float),
                              cudaMemcpyHostToDevice, bench.stream) == cudaSuccess);
      REQUIRE(bench.learner->evaluate(test_x.data(), labels.data(), sums.data()).ok());
    };
    REQUIRE(bench.learner->begin_round(x.data()).ok());
    bench.step_on_device(first, 0.1);
    evaluate();
    bench.step_on_device(second, 0.1);
    evaluate();
    const RoundResult result = bench.learner->finish_round(progress.data()).value();
    if (evaluates) {
      const auto input = bench.network->input(6).value();
      std::copy(other.images.begin(), other.images.end(), input.begin());
      const BatchLoss expected = bench.network->loss(elsewhere, other.labels).value();
      CHECK(sums.to_host()[0].loss == Approx(2 * expected.loss_sum).epsilon(1e-5));
      CHECK(sums.to_host()[0].correct == 2 * expected.correct);
    }
    return std::pair(progress.to_host(), result.sums.loss);
  };
  const auto alone = round(false), disturbed = round(true);
  CHECK(alone.first == disturbed.first);
  CHECK(alone.second == disturbed.second);
  CHECK(std::isfinite(alone.second));
}

TEST_CASE("device: whatever call of a round fails, it is an error, and nothing is left behind") {
  const char* const calls[] = {"cudaMalloc",
                               "cudaMemcpyAsync",
                               "cudaMemsetAsync",
                               "cudaLaunchKernel",
                               "cudnnBatchNormalizationBackward",
                               "cublasSgemm_v2"};
  const ResolvedModel model = small_model();
  const NetworkDescription description = describe_network(model);
  RandomStream random(1);
  const Minibatch minibatch = some_minibatch(random, 2);
  const std::vector<float> values = initial_values(model, 1, {0, model.space.size()});
  for (const char* call : calls) {
    for (std::uint64_t nth = 1;; ++nth) {
      INFO(call << ", call " << nth);
      fakecuda::reset();
      Status status;
      {
        const DeviceVector<float> x(values), progress(values.size());
        const DeviceVector<std::uint8_t> labels(minibatch.labels);
        cudaStream_t stream = nullptr;
        REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
        fakecuda::fail_call(call, nth, cudaErrorMemoryAllocation);
        const auto run = [&]() -> Status {
          auto learner = DeviceLearner::create(
              description, options_of(optimizer_of(OptimizerType::kAdamW), model.space), stream);
          if (!learner.ok()) return learner.error();
          const auto to = (*learner)->images(2);
          if (!to.ok()) return to.error();
          NANDUTI_RETURN_IF_ERROR((*learner)->begin_round(x.data()));
          NANDUTI_RETURN_IF_ERROR((*learner)->step(labels.data(), 0.1));
          NANDUTI_RETURN_IF_ERROR((*learner)->on_merge());
          const auto result = (*learner)->finish_round(progress.data());
          return result.ok() ? (*learner)->reset() : Status(result.error());
        };
        status = run();
        (void)cudaStreamDestroy(stream);
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

}  // namespace nanduti
