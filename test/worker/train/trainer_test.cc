// Goal: a round is what the formulas say, to rounding, and the same bits each time. Method: a logistic
// regression written out in double, halves of a batch against the whole, small synthetic data.
#include "worker/train/trainer.h"

#include <cmath>
#include <limits>
#include <thread>

#include "common/compute/onednn/onednn_backend.h"
#include "common/compute/reference/reference_backend.h"
#include "test/support/catch.h"
#include "test/worker/train/synthetic_data.h"
#include "worker/train/host_learner.h"
#include "worker/train/learning_rate.h"
#include "worker/train/network_description.h"
#include "worker/train/optimizer.h"
#include "worker/train/sample_order.h"

using namespace nanduti;

namespace {

using Values = std::vector<float>;

TrainingSpec spec_of(OptimizerType type, double rate, std::uint32_t batch_size, double weight_decay = 0) {
  TrainingSpec spec;
  spec.batch_size = batch_size;
  spec.epochs = 4;
  spec.optimizer = {type, rate, 0.9, weight_decay};
  return spec;
}

ResolvedModel model_of(const char* preset, const JobData& data) {
  return resolve_model({.preset = preset, .layers = {}}, data.shape).value();
}

Values start_of(const ResolvedModel& model, std::uint64_t seed = 1) {
  return initial_values(model, seed, {0, model.space.size()});
}

std::unique_ptr<Trainer> trainer_of(const ResolvedModel& model, const TrainingSpec& spec,
                                    const std::shared_ptr<const JobData>& data,
                                    std::unique_ptr<Backend> backend = make_onednn_backend()) {
  return std::move(
             Trainer::create(make_host_learner(*backend, model, spec.optimizer).value(), model, spec, data))
      .value();
}

/// Trains a round and moves x on by its progress. Any thread: Catch's macros are for the main one only.
BatchLoss advance(Trainer& trainer, Values& x, const RoundSamples& samples) {
  Values progress(x.size());
  const BatchLoss loss = trainer.train_round(x, samples, progress, {}).value();
  for (std::size_t i = 0; i < x.size(); ++i) x[i] -= progress[i];
  return loss;
}

double largest_difference(const Values& a, const Values& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return largest;
}

/// Momentum SGD on a logistic regression, written out in double.
class HandWrittenLogistic {
 public:
  HandWrittenLogistic(const ResolvedModel& model, const TrainingSpec& spec, const JobData& data)
      : spec_(spec),
        data_(data),
        weight_(model.space.tensors()[0].offset),
        bias_(model.space.tensors()[1].offset),
        velocity_(model.space.size(), 0.0) {
    for (const float value : start_of(model)) x.push_back(static_cast<double>(value));
  }

  void step(std::uint32_t epoch, std::uint64_t begin, std::uint64_t end) {
    const auto order = sample_order(spec_.seed, epoch, data_.train.count);
    const std::size_t inputs = data_.train.image_size, classes = data_.shape.classes;
    std::vector<double> gradient(x.size(), 0.0);
    for (std::uint64_t position = begin; position < end; ++position) {
      const std::size_t sample = order[position];
      const auto label = static_cast<std::size_t>(data_.train.labels.view()[sample]);
      const auto pixel = [&](std::size_t i) {
        const auto grey = static_cast<std::size_t>(data_.train.pixels.view()[sample * inputs + i]);
        return static_cast<double>(data_.pixel_values[grey]);
      };
      std::vector<double> share(classes);
      double sum = 0;
      for (std::size_t c = 0; c < classes; ++c) {
        double score = x[bias_ + c];
        for (std::size_t i = 0; i < inputs; ++i) score += x[weight_ + c * inputs + i] * pixel(i);
        share[c] = std::exp(score);
        sum += share[c];
      }
      loss_sum += -std::log(share[label] / sum);
      for (std::size_t c = 0; c < classes; ++c) {
        const double error = (share[c] / sum - (c == label ? 1 : 0)) / static_cast<double>(end - begin);
        gradient[bias_ + c] += error;
        for (std::size_t i = 0; i < inputs; ++i) gradient[weight_ + c * inputs + i] += error * pixel(i);
      }
    }
    const double part = static_cast<double>(begin) / static_cast<double>(data_.train.count);
    const double rate = learning_rate(spec_, epoch + part);
    const double keep = spec_.optimizer.type == OptimizerType::kMomentum ? spec_.optimizer.momentum : 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      velocity_[i] = keep * velocity_[i] + gradient[i] + spec_.optimizer.weight_decay * x[i];
      x[i] -= rate * velocity_[i];
    }
  }

  std::vector<double> x;
  double loss_sum = 0;

 private:
  TrainingSpec spec_;
  const JobData& data_;
  std::size_t weight_, bias_;
  std::vector<double> velocity_;
};

}  // namespace

TEST_CASE("sgd, momentum, weight decay and schedules do what is written out in double") {
  const auto data = synthetic_data({1, 5, 4, 3}, 50, 0);
  const ResolvedModel model = model_of("logistic", *data);
  for (const OptimizerType type : {OptimizerType::kSgd, OptimizerType::kMomentum})
    for (const double weight_decay : {0.0, 0.01})
      for (const ScheduleType schedule :
           {ScheduleType::kConstant, ScheduleType::kCosine, ScheduleType::kStep}) {
        TrainingSpec spec = spec_of(type, 0.05, 8, weight_decay);
        spec.schedule.type = schedule;
        const auto trainer = trainer_of(model, spec, data);
        HandWrittenLogistic expected(model, spec, *data);
        Values x = start_of(model);
        double loss_sum = 0;
        for (std::uint32_t epoch = 0; epoch < 2; ++epoch) {
          // Rounds of 3 minibatches; the last has 2, and of those the last is 2 samples.
          loss_sum += advance(*trainer, x, {epoch, 0, 24}).loss_sum;
          loss_sum += advance(*trainer, x, {epoch, 24, 50}).loss_sum;
          for (const auto& [begin, end] :
               {std::pair{0, 8}, {8, 16}, {16, 24}, {24, 32}, {32, 40}, {40, 48}, {48, 50}})
            expected.step(epoch, begin, end);
        }
        CHECK(loss_sum == Approx(expected.loss_sum).epsilon(1e-5));
        for (std::size_t i = 0; i < x.size(); ++i) {
          INFO("parameter " << i);
          REQUIRE(static_cast<double>(x[i]) == Approx(expected.x[i]).margin(2e-5));
        }
      }
}

TEST_CASE("two trainers on half batches, averaged, are one trainer on both: to rounding, round after round") {
  struct Arm {
    const char* preset;
    DataShape shape;
  };
  constexpr double kTolerance = 1e-6;  // 1e-7 was seen; weights move by 8e-3 to 0.2
  for (const Arm& arm :
       {Arm{"logistic", {1, 6, 6, 4}}, Arm{"mlp", {1, 6, 6, 4}}, Arm{"lenet", {1, 16, 16, 4}}})
    for (const OptimizerType type : {OptimizerType::kSgd, OptimizerType::kMomentum}) {
      INFO(arm.preset);
      const auto data = synthetic_data(arm.shape, 160, 0);
      const ResolvedModel model = model_of(arm.preset, *data);
      const auto whole = trainer_of(model, spec_of(type, 0.02, 32, 1e-3), data);
      const auto left = trainer_of(model, spec_of(type, 0.02, 16, 1e-3), data);
      const auto right = trainer_of(model, spec_of(type, 0.02, 16, 1e-3), data);
      Values x = start_of(model), mean = x, a(x.size()), b(x.size());
      const Values start = x;
      for (std::uint32_t epoch = 0; epoch < 2; ++epoch)
        for (std::uint64_t begin = 0; begin < 160; begin += 32) {
          const BatchLoss both = advance(*whole, x, {epoch, begin, begin + 32});
          const auto loss_a = left->train_round(mean, {epoch, begin, begin + 16}, a, {});
          const auto loss_b = right->train_round(mean, {epoch, begin + 16, begin + 32}, b, {});
          REQUIRE((loss_a.ok() && loss_b.ok()));
          for (std::size_t i = 0; i < mean.size(); ++i) mean[i] -= 0.5f * (a[i] + b[i]);
          CHECK(loss_a->loss_sum + loss_b->loss_sum == Approx(both.loss_sum).epsilon(1e-4));
          REQUIRE(largest_difference(x, mean) < kTolerance);
        }
      CHECK(largest_difference(x, start) > 1000 * kTolerance);
    }
}

TEST_CASE("a round's progress is the sum of its minibatches' steps, and not in gaps") {
  const auto data = synthetic_data({1, 8, 8, 5}, 100, 0);
  const ResolvedModel model = model_of("mlp", *data);
  const auto spec = spec_of(OptimizerType::kMomentum, 0.05, 16);
  const auto one = trainer_of(model, spec, data), many = trainer_of(model, spec, data);
  const Values x = start_of(model);
  Values progress(x.size(), 7.0f), stepwise = x;
  REQUIRE(one->train_round(x, {0, 0, 100}, progress, {}).ok());
  for (std::uint64_t begin = 0; begin < 100; begin += 16)
    advance(*many, stepwise, {0, begin, std::min<std::uint64_t>(100, begin + 16)});
  std::vector<bool> in_tensor(x.size(), false);
  for (const TensorPlace& place : model.space.tensors())
    std::fill_n(in_tensor.begin() + static_cast<std::ptrdiff_t>(place.offset), place.size(), true);
  std::size_t gaps = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!in_tensor[i]) {
      ++gaps;
      REQUIRE(progress[i] == 7.0f);
      continue;
    }
    REQUIRE(static_cast<double>(x[i] - progress[i]) == Approx(static_cast<double>(stepwise[i])).margin(1e-6));
  }
  CHECK(gaps > 0);
}

TEST_CASE("an empty round moves nothing") {
  const auto data = synthetic_data({1, 4, 4, 3}, 20, 0);
  const ResolvedModel model = model_of("logistic", *data);
  const auto trainer = trainer_of(model, spec_of(OptimizerType::kSgd, 0.1, 8), data);
  Values x = start_of(model), before = x;
  CHECK(advance(*trainer, x, {0, 7, 7}).loss_sum == 0);
  CHECK(x == before);
}

TEST_CASE("the velocity goes on from round to round until it is reset") {
  const auto data = synthetic_data({1, 4, 4, 3}, 40, 0);
  const ResolvedModel model = model_of("logistic", *data);
  const auto spec = spec_of(OptimizerType::kMomentum, 0.05, 8);
  const auto trainer = trainer_of(model, spec, data), fresh = trainer_of(model, spec, data);
  const Values start = start_of(model);
  Values first = start, again = start, after_reset = start, expected = start;
  advance(*trainer, first, {0, 0, 16});
  advance(*trainer, again, {0, 0, 16});
  CHECK(largest_difference(first, again) > 1e-3);
  REQUIRE(trainer->reset_optimizer().ok());
  advance(*trainer, after_reset, {0, 0, 16});
  advance(*fresh, expected, {0, 0, 16});
  CHECK(after_reset == expected);
}

TEST_CASE("two trainers give the same bits, also in threads of their own and after other batch sizes") {
  const auto data = synthetic_data({1, 16, 16, 10}, 150, 40);
  const ResolvedModel model = model_of("lenet", *data);
  const auto spec = spec_of(OptimizerType::kMomentum, 0.02, 32);
  const auto run = [&](bool detour) {
    const auto trainer = trainer_of(model, spec, data);
    Values x = start_of(model), unused(x.size());
    if (detour) {
      (void)trainer->evaluate(x, 3, 40, {}).value();
      (void)trainer->train_round(x, {1, 0, 50}, unused, {}).value();
      REQUIRE(trainer->reset_optimizer().ok());
    }
    for (std::uint32_t epoch = 0; epoch < 2; ++epoch) {
      advance(*trainer, x, {epoch, 0, 96});
      advance(*trainer, x, {epoch, 96, 150});
    }
    return x;
  };
  const Values expected = run(false);
  CHECK(run(true) == expected);
  std::vector<Values> results(2);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < results.size(); ++i)
      threads.emplace_back([&, i] { results[i] = run(i == 1); });
  }
  for (const Values& result : results) CHECK(result == expected);
}

TEST_CASE("the backends train alike") {
  const auto data = synthetic_data({2, 9, 9, 4}, 48, 0);
  const ModelSpec stack{.preset = "",
                        .layers = {Conv2dSpec{.channels = 6, .kernel = 3, .stride = 1, .padding = 1},
                                   ReluSpec{}, AveragePoolSpec{}, Conv2dSpec{.channels = 5, .kernel = 2},
                                   MaxPoolSpec{}, FlattenSpec{}, DenseSpec{}}};
  const ResolvedModel model = resolve_model(stack, data->shape).value();
  const auto spec = spec_of(OptimizerType::kMomentum, 0.02, 16, 1e-3);
  const auto fast = trainer_of(model, spec, data),
             reference = trainer_of(model, spec, data, make_reference_backend());
  Values x = start_of(model), y = x;
  for (std::uint32_t epoch = 0; epoch < 2; ++epoch) {
    advance(*fast, x, {epoch, 0, 48});
    advance(*reference, y, {epoch, 0, 48});
  }
  CHECK(largest_difference(x, y) < 1e-5);
}

TEST_CASE("the backends train a residual network alike, running statistics included") {
  const auto data = synthetic_data({2, 9, 9, 4}, 50, 30);
  const auto convolution = [](std::uint32_t stride) { return Conv2dSpec{6, 3, stride, 1, false}; };
  const ModelSpec spec{
      .preset = "",
      .layers = {
          convolution(1), BatchNormSpec{}, ReluSpec{},
          ResidualSpec{{convolution(1), BatchNormSpec{}, ReluSpec{}, convolution(1), BatchNormSpec{}}, {}},
          ReluSpec{}, ResidualSpec{{convolution(2), BatchNormSpec{}}, {Conv2dSpec{6, 1, 2}}}, ReluSpec{},
          GlobalAveragePoolSpec{}, DenseSpec{}}};
  const ResolvedModel model = resolve_model(spec, data->shape).value();
  TrainingSpec training = spec_of(OptimizerType::kMomentum, 0.05, 16, 1e-3);
  training.augment = {2, true};
  const auto fast = trainer_of(model, training, data),
             reference = trainer_of(model, training, data, make_reference_backend());
  Values x = start_of(model), y = x;
  for (std::uint32_t epoch = 0; epoch < 3; ++epoch) {  // the last batch has two images
    const BatchLoss got = advance(*fast, x, {epoch, 0, 50}),
                    expected = advance(*reference, y, {epoch, 0, 50});
    CHECK(got.loss_sum == Approx(expected.loss_sum).epsilon(1e-4));
  }
  CHECK(largest_difference(x, y) < 2e-4);
  CHECK(fast->evaluate(x, 0, 30, {})->loss_sum ==
        Approx(reference->evaluate(y, 0, 30, {})->loss_sum).epsilon(1e-3));
  const TensorPlace& mean = model.space.tensors()[*model.layers[1].running_mean];
  CHECK(x[mean.offset] != 0.0f);
}

TEST_CASE("augmented images are other images each epoch, those to evaluate are as they were") {
  const auto data = synthetic_data({1, 8, 8, 3}, 30, 20);
  const ResolvedModel model = model_of("logistic", *data);
  TrainingSpec plain = spec_of(OptimizerType::kSgd, 1e-9, 30), augmented = plain;
  augmented.augment = {3, true};
  const auto with = trainer_of(model, augmented, data), without = trainer_of(model, plain, data);
  const Values x = start_of(model);
  const auto loss = [&](Trainer& trainer, std::uint32_t epoch) {
    Values copy = x;
    return advance(trainer, copy, {epoch, 0, 30}).loss_sum;
  };
  CHECK(loss(*without, 0) == Approx(loss(*without, 1)).epsilon(1e-6));
  CHECK(loss(*with, 0) != Approx(loss(*with, 1)).epsilon(1e-3));
  CHECK(with->evaluate(x, 0, 20, {})->loss_sum == without->evaluate(x, 0, 20, {})->loss_sum);
  augmented.augment.crop = 8;
  const auto backend = make_onednn_backend();
  CHECK(
      Trainer::create(make_host_learner(*backend, model, augmented.optimizer).value(), model, augmented, data)
          .error()
          .message == "training.augment.crop is 8 pixels: it must be less than the images' sides, 8 x 8");
}

TEST_CASE("synthetic classes are learned") {
  const auto data = synthetic_data({1, 8, 8, 6}, 600, 300, 110);
  struct Arm {
    const char* preset;
    double rate;
    std::uint32_t epochs;
    std::uint64_t least;  // correct answers of 300
  };
  for (const Arm& arm :
       {Arm{"logistic", 0.05, 4, 285}, Arm{"mlp", 0.02, 4, 285}, Arm{"resnet20", 0.05, 6, 265}}) {
    INFO(arm.preset);
    const ResolvedModel model = model_of(arm.preset, *data);
    const auto trainer = trainer_of(model, spec_of(OptimizerType::kMomentum, arm.rate, 32), data);
    Values x = start_of(model);
    const BatchLoss before = trainer->evaluate(x, 0, 300, {}).value();
    CHECK(before.correct < 150);
    for (std::uint32_t epoch = 0; epoch < arm.epochs; ++epoch) advance(*trainer, x, {epoch, 0, 600});
    const BatchLoss after = trainer->evaluate(x, 0, 300, {}).value();
    CHECK(after.correct > arm.least);
    CHECK(after.loss_sum < before.loss_sum / 4);
  }
}

TEST_CASE("evaluation's parts add up to the whole, whatever the batches") {
  const auto data = synthetic_data({1, 6, 6, 4}, 20, 700);
  const ResolvedModel model = model_of("mlp", *data);
  const auto trainer = trainer_of(model, spec_of(OptimizerType::kSgd, 0.1, 8), data);
  const Values x = start_of(model);
  const BatchLoss whole = trainer->evaluate(x, 0, 700, {}).value();
  BatchLoss sum;
  for (const auto& [begin, end] : {std::pair{0, 1}, {1, 258}, {258, 258}, {258, 699}, {699, 700}}) {
    const BatchLoss part = trainer->evaluate(x, begin, end, {}).value();
    sum.loss_sum += part.loss_sum;
    sum.correct += part.correct;
  }
  CHECK(sum.correct == whole.correct);
  CHECK(sum.loss_sum == Approx(whole.loss_sum).epsilon(1e-6));
}

TEST_CASE("a stop is seen between minibatches") {
  const auto data = synthetic_data({1, 4, 4, 3}, 20, 20);
  const ResolvedModel model = model_of("logistic", *data);
  const auto trainer = trainer_of(model, spec_of(OptimizerType::kSgd, 0.1, 8), data);
  const Values x = start_of(model);
  Values progress(x.size());
  std::stop_source source;
  REQUIRE(trainer->train_round(x, {0, 0, 20}, progress, source.get_token()).ok());
  source.request_stop();
  const auto round = trainer->train_round(x, {0, 0, 20}, progress, source.get_token());
  REQUIRE_FALSE(round.ok());
  CHECK(round.error().code == ErrorCode::kCancelled);
  const auto evaluation = trainer->evaluate(x, 0, 20, source.get_token());
  REQUIRE_FALSE(evaluation.ok());
  CHECK(evaluation.error().code == ErrorCode::kCancelled);
}

TEST_CASE("a rate that is too high ends the round with that reason") {
  const auto data = synthetic_data({1, 6, 6, 4}, 200, 0);
  const ResolvedModel model = model_of("mlp", *data);
  const auto trainer = trainer_of(model, spec_of(OptimizerType::kMomentum, 1e20, 8), data);
  const Values x = start_of(model);
  Values progress(x.size());
  const auto round = trainer->train_round(x, {2, 0, 200}, progress, {});
  REQUIRE_FALSE(round.ok());
  CHECK(round.error().code == ErrorCode::kInvalidArgument);
  CHECK(round.error().message.find("the loss is not a number in epoch 2, samples ") == 0);
  CHECK(round.error().message.find(": lower the learning rate") != std::string::npos);
  // One step overflows without a loss to show it.
  const auto once = trainer_of(model, spec_of(OptimizerType::kSgd, 1e39, 8), data);
  const auto overflow = once->train_round(x, {2, 0, 8}, progress, {});
  REQUIRE_FALSE(overflow.ok());
  CHECK(overflow.error().message ==
        "the parameters are not numbers after sample 8 of epoch 2: lower the learning rate");
}

TEST_CASE("an evaluation without a number for its loss ends with that reason") {
  const auto data = synthetic_data({1, 4, 4, 3}, 20, 300);
  const ResolvedModel model = model_of("logistic", *data);
  const auto trainer = trainer_of(model, spec_of(OptimizerType::kSgd, 0.1, 8), data);
  const Values x(model.space.size(), std::numeric_limits<float>::quiet_NaN());
  CHECK(trainer->evaluate(x, 10, 300, {}).error().message ==
        "the loss is not a number on the test samples 10 to 300: lower the learning rate");
}

#if defined(__SSE2__)
TEST_CASE("a velocity that fades out becomes zero, not denormal") {
  const ParameterSpace space({{"weight", {4}}});
  Optimizer optimizer({OptimizerType::kMomentum, 1, 0.9, 0}, space);
  Values x(space.size(), 0.0f), gradient(space.size(), 1.2e-38f);
  optimizer.step(1e38, gradient, x);
  CHECK(x[0] == Approx(-1.2));
  std::fill(gradient.begin(), gradient.end(), 0.0f);
  optimizer.step(1e38, gradient, x);
  CHECK(x[0] == Approx(-1.2));
  CHECK(std::numeric_limits<float>::denorm_min() / 1.0f > 0.0f);  // the setting does not leak
}
#endif

TEST_CASE("samples that do not exist are refused") {
  const auto data = synthetic_data({1, 4, 4, 3}, 20, 10), untested = synthetic_data({1, 4, 4, 3}, 20, 0);
  const ResolvedModel model = model_of("logistic", *data);
  const auto spec = spec_of(OptimizerType::kSgd, 0.1, 8);
  const auto trainer = trainer_of(model, spec, data);
  const Values x = start_of(model);
  Values progress(x.size());
  CHECK(trainer->train_round(x, {0, 0, 21}, progress, {}).error().message ==
        "samples 0 to 21 of a training set of 20");
  CHECK(trainer->train_round(x, {0, 8, 7}, progress, {}).error().code == ErrorCode::kInvalidArgument);
  CHECK(trainer->evaluate(x, 5, 11, {}).error().message == "samples 5 to 11 of a test set of 10");
  CHECK(trainer_of(model, spec, untested)->evaluate(x, 0, 1, {}).error().message ==
        "the job has no test data");
}

TEST_CASE("a model that does not fit the data is refused") {
  const auto data = synthetic_data({1, 4, 4, 3}, 20, 0);
  const auto backend = make_onednn_backend();
  const auto refusal = [&](DataShape shape, std::uint32_t batch_size = 8) {
    const ResolvedModel model = resolve_model({.preset = "logistic", .layers = {}}, shape).value();
    const TrainingSpec spec = spec_of(OptimizerType::kSgd, 0.1, batch_size);
    const auto created =
        Trainer::create(make_host_learner(*backend, model, spec.optimizer).value(), model, spec, data);
    return created.ok() ? std::string() : created.error().message;
  };
  CHECK(refusal({1, 4, 4, 3}) == "");
  CHECK(refusal({1, 4, 4, 7}) == "");
  CHECK(refusal({1, 4, 4, 2}) ==
        "the model's last layer gives 2 scores, but the training set has classes 0 to 2");
  CHECK(refusal({1, 4, 5, 3}) == "the model takes images of 1 x 4 x 5, but the data's are 1 x 4 x 4");
  CHECK(refusal({1, 4, 4, 3}, 0) == "the batch size is 0");
}

TEST_CASE("a network's description has the model's layers, shapes and offsets") {
  const ResolvedModel model = resolve_model({.preset = "lenet", .layers = {}},
                                            {.channels = 1, .height = 28, .width = 28, .classes = 10})
                                  .value();
  const NetworkDescription description = describe_network(model);
  CHECK(description.parameter_space_size == model.space.size());
  REQUIRE(description.layers.size() == 8);
  const NetworkLayer& conv = description.layers[2];
  CHECK(conv.kind == LayerKind::kConv2d);
  CHECK(conv.input == Extent{20, 12, 12});
  CHECK(conv.output == Extent{50, 8, 8});
  CHECK((conv.kernel == 5 && conv.stride == 1 && conv.padding == 0));
  CHECK(conv.weight_offset == model.space.tensors()[2].offset);
  CHECK(conv.bias_offset == model.space.tensors()[3].offset);
  CHECK(description.layers[3].kind == LayerKind::kMaxPool);
  CHECK(description.layers[4].kind == LayerKind::kFlatten);
  CHECK(description.layers[5].output == Extent{500, 1, 1});
  CHECK(description.layers[6].kind == LayerKind::kRelu);
}
