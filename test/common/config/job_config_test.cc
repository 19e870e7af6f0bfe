// Goal: a valid job's YAML becomes the struct it says, with the documented defaults. Method: by hand.
#include "common/config/job_config.h"

#include "common/model/resolved_model.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

JobConfig parsed(const std::string& text) {
  auto job = parse_job_text(text, "job.yaml");
  INFO((job.ok() ? "" : job.error().message));
  REQUIRE(job.ok());
  return std::move(job).value();
}

const std::string kShort = "model: {preset: logistic}\ndata: {train: {images: a.gz, labels: /b}}\n";

TEST_CASE("what is left out has its default") {
  const JobConfig job = parsed(kShort);
  CHECK(job.source.name == "job.yaml");
  CHECK(job.source.text == kShort);
  CHECK(job.name == "job");
  CHECK(job.model.preset == "logistic");
  CHECK(job.model.layers == preset_layers("logistic").value());
  CHECK(job.data.format == DataFormat::kIdx);
  CHECK(job.data.normalize == Normalize::kAuto);
  CHECK(job.data.train.images == "a.gz");
  CHECK(job.data.train.labels == "/b");
  CHECK_FALSE(job.data.test);
  CHECK(job.training.batch_size == 64);
  CHECK(job.training.epochs == 1);
  CHECK(job.evaluate_every == 0);
  CHECK(job.training.seed == 1);
  CHECK(job.training.optimizer.type == OptimizerType::kMomentum);
  CHECK(job.training.optimizer.learning_rate == 0.05);
  CHECK(job.training.optimizer.momentum == 0.9);
  CHECK(job.training.optimizer.weight_decay == 0.0);
  CHECK(job.training.schedule.type == ScheduleType::kConstant);
  CHECK_FALSE(job.deterministic);
  CHECK(job.workers_to_start == 1);
  CHECK(job.training.optimizer.kept_at_merge == 1);
  CHECK(job.training.server_optimizer.type == ServerOptimizerType::kAdd);
  CHECK(job.training.server_optimizer.learning_rate == 1);
  CHECK(job.staleness.auto_bound);
  CHECK(job.staleness.bound_max == 16);
  CHECK(job.staleness.bound == 16u);
  CHECK(job.staleness.auto_local_steps);
  CHECK(job.staleness.local_steps_max == 16);
  CHECK(job.staleness.local_steps == 16);
  CHECK(job.staleness.age_power == 0);
  CHECK(job.staleness.own_work == 1);
  CHECK(job.staleness.rho == 1);
  CHECK(job.compression.push == CodingSpec{0.01, 2, 0, {}});
  CHECK(job.compression.publish == CodingSpec{0.02, 4, 0, {}});
  CHECK_FALSE(job.target);
}

TEST_CASE("a deterministic job is in lockstep where it does not say otherwise") {
  const JobConfig job = parsed(kShort + "training: {deterministic: true}\n");
  CHECK_FALSE(job.staleness.auto_bound);
  CHECK_FALSE(job.staleness.auto_local_steps);
  CHECK(job.staleness.bound == 0u);
  CHECK(job.staleness.local_steps == 1);
}

TEST_CASE("every optimizer of workers and servers is read, with the rate of its kind") {
  const auto training = [](const std::string& keys) {
    return parsed(kShort + "training: {" + keys + "}\n").training;
  };
  CHECK(training("optimizer: {type: adamw, kept_at_merge: 0.25}").optimizer.kept_at_merge == 0.25);
  CHECK(training("server_optimizer: {learning_rate: 2}").server_optimizer.learning_rate == 2);
  const ServerOptimizerSpec nesterov =
      training("server_optimizer: {type: nesterov, momentum: 0.5}").server_optimizer;
  CHECK(nesterov.type == ServerOptimizerType::kNesterov);
  CHECK(nesterov.learning_rate == 0.5);
  CHECK(nesterov.momentum == 0.5);
  const ServerOptimizerSpec adagrad =
      training("server_optimizer: {type: adagrad, epsilon: 1e-3}").server_optimizer;
  CHECK(adagrad.type == ServerOptimizerType::kAdagrad);
  CHECK(adagrad.learning_rate == 0.01);
  CHECK(adagrad.epsilon == 1e-3);
}

TEST_CASE("a job without compression sends float32 in both directions") {
  const JobConfig job = parsed(kShort + "compression: none\n");
  CHECK(job.compression.push.is_exact());
  CHECK(job.compression.publish.is_exact());
}

TEST_CASE("every key is read") {
  const JobConfig job = parsed(R"(# a comment
name: "a-b_c.1"
model:
  layers:
    - conv2d: {channels: 20, kernel: 5, stride: 2, padding: 1}
    - conv2d: {channels: 3, kernel: 1, bias: false}
    - batch_norm: {epsilon: 1e-3, momentum: 0.2}
    - residual: {body: [batch_norm, {residual: {body: [relu]}}], shortcut: [relu]}
    - global_average_pool
    - relu
    - max_pool
    - average_pool: {kernel: 3, stride: 1}
    - flatten: {}
    - dense: {units: 500}
    - dense: classes
    - dense: {units: classes}
    - dense
data:
  format: idx
  normalize: none
  train: {images: a, labels: b}
  test: {images: c, labels: d}
training:
  batch_size: 65536
  epochs: 7
  evaluate_every: 6000
  seed: 18446744073709551615
  workers: 3
  deterministic: true
  optimizer: {type: sgd, learning_rate: 1e-3, weight_decay: 5e-4}
  schedule: {type: step, factor: 0.5, epochs: 2, warmup_epochs: 0.5}
  augment: {crop: 4, flip: true}
staleness: {bound: 1024, local_steps: 4, at_bound: wait, own_work: 0, rho: 0.25}
compression:
  push: {density: 0.01, value_bits: 2, warmup_epochs: 1.5, tensors: {0.weight: 0.05, 2.weight: 1}}
  publish: {density: 1, value_bits: 32}
durability: memory
target: {metric: accuracy, at_least: 0.89}
)");
  CHECK(job.name == "a-b_c.1");
  CHECK(job.model.preset.empty());
  const ResidualSpec inner{{ReluSpec{}}, {}};
  CHECK(job.model.layers ==
        std::vector<LayerSpec>{Conv2dSpec{20, 5, 2, 1}, Conv2dSpec{3, 1, 1, 0, false},
                               BatchNormSpec{1e-3, 0.2}, ResidualSpec{{BatchNormSpec{}, inner}, {ReluSpec{}}},
                               GlobalAveragePoolSpec{}, ReluSpec{}, MaxPoolSpec{2, 2}, AveragePoolSpec{3, 1},
                               FlattenSpec{}, DenseSpec{500}, DenseSpec{0}, DenseSpec{0}, DenseSpec{0}});
  CHECK(job.training.schedule.warmup_epochs == 0.5);
  CHECK(job.training.augment.crop == 4);
  CHECK(job.training.augment.flip);
  CHECK(job.data.normalize == Normalize::kNone);
  CHECK(job.data.test->labels == "d");
  CHECK(job.training.batch_size == 65536);
  CHECK(job.training.epochs == 7);
  CHECK(job.evaluate_every == 6000);
  CHECK(job.training.seed == ~std::uint64_t{0});
  CHECK(job.workers_to_start == 3);
  CHECK(job.deterministic);
  CHECK(job.durability == Durability::kMemory);
  CHECK(job.training.optimizer.type == OptimizerType::kSgd);
  CHECK(job.training.optimizer.learning_rate == 1e-3);
  CHECK(job.training.optimizer.weight_decay == 5e-4);
  CHECK(job.training.schedule.type == ScheduleType::kStep);
  CHECK(job.training.schedule.step_factor == 0.5);
  CHECK(job.training.schedule.step_epochs == 2);
  CHECK(job.staleness.bound == 1024u);
  CHECK(job.staleness.local_steps == 4);
  CHECK(job.compression.push == CodingSpec{0.01, 2, 1.5, {{"0.weight", 0.05}, {"2.weight", 1}}});
  CHECK(job.compression.publish.is_exact());
  CHECK(job.staleness.own_work == 0);
  CHECK(job.staleness.rho == 0.25);
  CHECK(job.target->at_least == 0.89);
}

TEST_CASE("a bound of none is no bound, and cosine may end above zero") {
  const JobConfig job = parsed(kShort +
                               "staleness: {bound: none, age_power: 0.5}\ntraining: {schedule: {type: "
                               "cosine, final_fraction: 0.1}}\n");
  CHECK_FALSE(job.staleness.bound);
  CHECK(job.staleness.age_power == 0.5);
  CHECK(job.training.schedule.type == ScheduleType::kCosine);
  CHECK(job.training.schedule.final_fraction == 0.1);
}

TEST_CASE("a job that does not exist names the file") {
  const auto job = load_job_config("/nowhere/job.yaml");
  REQUIRE_FALSE(job.ok());
  CHECK(job.error().code == ErrorCode::kNotFound);
  CHECK(job.error().message == "/nowhere/job.yaml: cannot be read: No such file or directory");
}

}  // namespace
}  // namespace nanduti
