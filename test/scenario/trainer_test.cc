// Goal: real training through the protocol is what one process would do. Method: the trainer under the cores
// in memory, against the mean gradient of both workers' batches computed in one place.
#include "worker/train/trainer.h"

#include <cmath>

#include "common/compute/onednn/onednn_backend.h"
#include "test/scenario/cluster.h"
#include "test/support/catch.h"
#include "test/support/host_values.h"
#include "test/worker/train/synthetic_data.h"
#include "worker/train/host_learner.h"
#include "worker/train/network_description.h"
#include "worker/train/optimizer.h"
#include "worker/train/sample_order.h"

using namespace nanduti;
using namespace nanduti::scenario;

namespace {

/// One process that holds the model and takes steps on the mean gradient of several batches.
class OneProcess {
 public:
  OneProcess(const ResolvedModel& model, const TrainingSpec& training, std::shared_ptr<const JobData> data,
             std::vector<float> initial)
      : training_(training),
        data_(std::move(data)),
        network_(make_onednn_backend()->compile(describe_network(model)).value()),
        optimizer_(training.optimizer, model.space),
        x_(std::move(initial)) {}

  void step(const std::vector<SampleRange>& batches) {
    std::vector<float> mean(x_.size());
    for (const SampleRange& batch : batches) {
      const std::vector<float> gradient = gradient_of(batch);
      for (std::size_t i = 0; i < mean.size(); ++i)
        mean[i] += gradient[i] / static_cast<float>(batches.size());
    }
    optimizer_.step(training_.optimizer.learning_rate, mean, x_);
  }
  [[nodiscard]] const std::vector<float>& x() const { return x_; }

 private:
  std::vector<float> gradient_of(const SampleRange& batch) {
    const ImageSet& set = data_->train;
    const auto order = sample_order(training_.seed, batch.epoch.value(), set.count);
    const std::span<float> input = network_->input(batch.size()).value();
    std::vector<std::uint8_t> labels;
    for (std::uint64_t i = 0; i < batch.size(); ++i) {
      const std::size_t sample = order[batch.begin + i];
      for (std::uint64_t p = 0; p < set.image_size; ++p)
        input[i * set.image_size + p] =
            data_->pixel_values[static_cast<std::size_t>(set.pixels.view()[sample * set.image_size + p])];
      labels.push_back(static_cast<std::uint8_t>(set.labels.view()[sample]));
    }
    std::vector<float> gradient(x_.size());
    REQUIRE(network_->gradient(x_, labels, gradient).ok());
    return gradient;
  }

  TrainingSpec training_;
  std::shared_ptr<const JobData> data_;
  std::unique_ptr<Network> network_;
  Optimizer optimizer_;
  std::vector<float> x_;
};

}  // namespace

TEST_CASE("two trainers at bound 0 go where one process goes on both batches' mean gradient, to rounding") {
  for (const char* preset : {"logistic", "mlp", "lenet"}) {
    INFO(preset);
    const auto data = synthetic_data({1, 28, 28, 10}, 160, 0);
    const ResolvedModel model = resolve_model({preset, preset_layers(preset).value()}, data->shape).value();
    TrainingSpec training;
    training.batch_size = 8;
    training.epochs = 2;
    training.optimizer = {OptimizerType::kMomentum, 0.02, 0.9, 1e-3};
    JobShape shape;
    shape.samples = data->train.count;
    shape.epochs = training.epochs;
    shape.round_samples = training.batch_size;
    shape.parameters = model.space.size();
    shape.initial = initial_values(model, training.seed, {0, model.space.size()});

    std::map<IncarnationOrder, std::unique_ptr<Trainer>> trainers;
    std::map<Round, std::map<IncarnationOrder, SampleRange>> batches;
    // Not every seed will do: where a unit lies at a ReLU's kink, rounding decides and its row goes another
    // way.
    Cluster cluster(shape, 13, [&](IncarnationOrder order, const Replica::ComputeRound& round) {
      auto& trainer = trainers[order];
      if (!trainer) {
        const auto backend = make_onednn_backend();
        trainer = Trainer::create(make_host_learner(*backend, model, training.optimizer).value(), model,
                                  training, data)
                      .value();
      }
      batches[round.round][order] = round.range;
      std::vector<float> progress(round.buffers->parameters.size());
      const RoundSamples samples{round.range.epoch.value(), round.range.begin, round.range.end};
      REQUIRE(trainer->train_round(round.buffers->parameters, samples, progress, {}).ok());
      return progress;
    });
    std::map<Round, std::vector<float>> seen;
    cluster.on_round = [&](std::size_t, const Replica::ComputeRound& round) {
      const auto [it, is_first] = seen.emplace(round.round, vector_of(round.buffers->parameters));
      REQUIRE(it->second == vector_of(round.buffers->parameters));  // both workers compute on the same bits
    };
    cluster.run();
    REQUIRE(cluster.view().state == JobState::kDone);

    OneProcess one(model, training, data, shape.initial);
    double moved = 0;
    std::size_t steps = 0;
    for (const auto& [round, of_workers] : batches) {
      double difference = 0;
      for (std::size_t i = 0; i < shape.parameters; ++i) {
        difference = std::max(difference, std::abs(static_cast<double>(seen.at(round)[i]) - one.x()[i]));
        moved = std::max(moved, std::abs(static_cast<double>(shape.initial[i]) - one.x()[i]));
      }
      INFO("round " << round.value());
      CHECK(difference <= 1e-5);
      if (of_workers.size() < 2) break;  // the other one is out of samples: no mean of two any more
      std::vector<SampleRange> both;
      for (const auto& [order, range] : of_workers) both.push_back(range);
      one.step(both);
      ++steps;
    }
    CHECK(steps >= 15);
    CHECK(moved > 1e-2);
  }
}
