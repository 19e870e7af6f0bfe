// Goal: what is wrong with a job is one error that names file, line, key, what was found and what is allowed.
// Method: a table of changes to a valid job, each with the exact message.
#include <string>
#include <string_view>

#include "common/config/job_config.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

constexpr std::string_view kValid = R"(name: tiny
model: {preset: mlp}
data:
  train: {images: a, labels: b}
  test: {images: c, labels: d}
training:
  batch_size: 8
  optimizer: {type: momentum, learning_rate: 0.1}
  schedule: cosine
staleness: {bound: 2}
target: {at_least: 0.5}
)";

/// The valid job in which `from` has become `to`.
struct Change {
  std::string_view from;
  std::string_view to;
  std::string_view message;
};

std::string changed(const Change& change) {
  std::string text(kValid);
  const std::size_t at = text.find(change.from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, change.from.size(), change.to);
}

void check_all(std::initializer_list<Change> changes) {
  for (const Change& change : changes) {
    const std::string text = changed(change);
    const auto job = parse_job_text(text, "job.yaml");
    INFO(text);
    REQUIRE_FALSE(job.ok());
    CHECK(job.error().message == change.message);
    CHECK(job.error().code == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("the job that the changes below begin with is valid") {
  const auto job = parse_job_text(std::string(kValid), "job.yaml");
  INFO((job.ok() ? "" : job.error().message));
  CHECK(job.ok());
}

TEST_CASE("a number of the wrong form, type or size") {
  check_all({
      {"batch_size: 8", "batch_size: zero",
       "job.yaml:7: training.batch_size: found \"zero\", allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "batch_size: 0",
       "job.yaml:7: training.batch_size: found \"0\", allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "batch_size: 65537",
       "job.yaml:7: training.batch_size: found \"65537\", allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "batch_size: -1",
       "job.yaml:7: training.batch_size: found \"-1\", allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "batch_size: 8.0",
       "job.yaml:7: training.batch_size: found \"8.0\", allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "batch_size: 010",
       "job.yaml:7: training.batch_size: found \"010\", allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "batch_size: '8'",
       "job.yaml:7: training.batch_size: found the quoted text \"8\", allowed: a whole number from 1 to "
       "65536"},
      {"batch_size: 8", "batch_size: 99999999999999999999999",
       "job.yaml:7: training.batch_size: found \"99999999999999999999999\", allowed: a whole number from 1 "
       "to 65536"},
      {"batch_size: 8", "batch_size:",
       "job.yaml:7: training.batch_size: found nothing, allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "batch_size: [8]",
       "job.yaml:7: training.batch_size: found a list, allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "batch_size: {value: 8}",
       "job.yaml:7: training.batch_size: found a map, allowed: a whole number from 1 to 65536"},
      {"batch_size: 8", "epochs: 0",
       "job.yaml:7: training.epochs: found \"0\", allowed: a whole number from 1 to 100000"},
      {"batch_size: 8", "workers: 1025",
       "job.yaml:7: training.workers: found \"1025\", allowed: a whole number from 1 to 1024"},
      {"batch_size: 8", "seed: 18446744073709551616",
       "job.yaml:7: training.seed: found \"18446744073709551616\", allowed: a whole number from 0 to "
       "18446744073709551615"},
      {"learning_rate: 0.1", "learning_rate: 0",
       "job.yaml:8: training.optimizer.learning_rate: found \"0\", allowed: a number above 0, at most 1000"},
      {"learning_rate: 0.1", "learning_rate: nan",
       "job.yaml:8: training.optimizer.learning_rate: found \"nan\", allowed: a number above 0, at most "
       "1000"},
      {"learning_rate: 0.1", "learning_rate: 1e999",
       "job.yaml:8: training.optimizer.learning_rate: found \"1e999\", allowed: a number above 0, at most "
       "1000"},
      {"learning_rate: 0.1", "learning_rate: 0.1x",
       "job.yaml:8: training.optimizer.learning_rate: found \"0.1x\", allowed: a number above 0, at most "
       "1000"},
      {"learning_rate: 0.1", "momentum: 1",
       "job.yaml:8: training.optimizer.momentum: found \"1\", allowed: a number from 0 to below 1"},
      {"learning_rate: 0.1", "weight_decay: -0.1",
       "job.yaml:8: training.optimizer.weight_decay: found \"-0.1\", allowed: a number from 0 to 1"},
      {"data:", "data:\n  classes: 1",
       "job.yaml:4: data.classes: found \"1\", allowed: a whole number from 2 to 256"},
      {"at_least: 0.5", "at_least: 89",
       "job.yaml:11: target.at_least: found \"89\", allowed: a number above 0, at most 1"},
      {"bound: 2", "bound: auto, bound_max: 0",
       "job.yaml:10: staleness.bound_max: found \"0\", allowed: a whole number from 1 to 1024"},
      {"bound: 2", "bound: 2, bound_max: 16",
       "job.yaml:10: staleness.bound_max: found it beside a bound that is not auto, allowed: to leave it "
       "out"},
      {"bound: 2", "bound: 2, local_steps: 4, local_steps_max: 8",
       "job.yaml:10: staleness.local_steps_max: found it beside local_steps that is not auto, allowed: to "
       "leave it out"},
  });
}

TEST_CASE("a word that is not one of the allowed ones") {
  check_all({
      {"preset: mlp", "preset: resnet",
       "job.yaml:2: model.preset: found \"resnet\", allowed: logistic, mlp, lenet, convnet or resnet20"},
      {"type: momentum", "type: adam",
       "job.yaml:8: training.optimizer.type: found \"adam\", allowed: sgd, momentum or adamw"},
      {"schedule: cosine", "schedule: linear",
       "job.yaml:9: training.schedule: found \"linear\", allowed: constant, cosine or step"},
      {"schedule: cosine", "schedule: [cosine]",
       "job.yaml:9: training.schedule: found a list, allowed: constant, cosine or step"},
      {"schedule: cosine", "evaluate_every: 1e4",
       "job.yaml:9: training.evaluate_every: found \"1e4\", allowed: a whole number from 0 to 1000000000000"},
      {"schedule: cosine", "evaluate_every: 1000000000001",
       "job.yaml:9: training.evaluate_every: found \"1000000000001\", allowed: a whole number from 0 to "
       "1000000000000"},
      {"schedule: cosine", "deterministic: yes",
       "job.yaml:9: training.deterministic: found \"yes\", allowed: true or false"},
      {"data:", "data:\n  format: csv",
       "job.yaml:4: data.format: found \"csv\", allowed: idx, cifar10 or cifar100"},
      {"data:", "data:\n  normalize: true",
       "job.yaml:4: data.normalize: found \"true\", allowed: auto or none"},
      {"at_least: 0.5", "metric: loss, at_least: 0.5",
       "job.yaml:11: target.metric: found \"loss\", allowed: accuracy"},
      {"name: tiny", "name: a name",
       "job.yaml:1: name: found \"a name\", allowed: 1 to 64 letters, digits, dots, hyphens and underscores"},
      {"name: tiny", "name: ''",
       "job.yaml:1: name: found the quoted text \"\", allowed: 1 to 64 letters, digits, dots, hyphens and "
       "underscores"},
      {"name: tiny", "name: [tiny]",
       "job.yaml:1: name: found a list, allowed: 1 to 64 letters, digits, dots, hyphens and underscores"},
      {"images: a", "images: ''",
       "job.yaml:4: data.train.images: found the quoted text \"\", allowed: an IDX file's path, absolute or "
       "relative to a data root"},
  });
}

TEST_CASE("staleness and compression outside what will ever be allowed") {
  check_all({
      {"bound: 2", "bound: 1025",
       "job.yaml:10: staleness.bound: found \"1025\", allowed: a whole number from 0 to 1024, auto, or none"},
      {"bound: 2", "bound: never",
       "job.yaml:10: staleness.bound: found \"never\", allowed: a whole number from 0 to 1024, auto, or "
       "none"},
      {"bound: 2", "bound: [1, 2]",
       "job.yaml:10: staleness.bound: found a list, allowed: a whole number from 0 to 1024, auto, or none"},
      {"bound: 2", "local_steps: 0",
       "job.yaml:10: staleness.local_steps: found \"0\", allowed: a whole number from 1 to 1024, or auto"},
      {"bound: 2", "at_bound: stop",
       "job.yaml:10: staleness.at_bound: found \"stop\", allowed: wait or accumulate"},
      {"name: tiny", "compression: {push: {density: 0}}",
       "job.yaml:1: compression.push.density: found \"0\", allowed: a number from 0.00025 to 1"},
      {"name: tiny", "compression: {publish: {density: 1.5}}",
       "job.yaml:1: compression.publish.density: found \"1.5\", allowed: a number from 0.00025 to 1"},
      {"name: tiny", "compression: {push: {value_bits: 16}}",
       "job.yaml:1: compression.push.value_bits: found \"16\", allowed: 2, 4, 8 or 32 (float32)"},
      {"name: tiny", "compression: {publish: {warmup_epochs: -1}}",
       "job.yaml:1: compression.publish.warmup_epochs: found \"-1\", allowed: a number from 0 to 1000"},
      {"name: tiny", "compression: {push: {tensors: {0.weight: 2}}}",
       "job.yaml:1: compression.push.tensors.0.weight: found \"2\", allowed: a number from 0.00025 to 1"},
      {"name: tiny", "compression: {push: {tensors: 0.1}}",
       "job.yaml:1: compression.push.tensors: found \"0.1\", allowed: a map, keys: none"},
      {"name: tiny", "compression: dense",
       "job.yaml:1: compression: found \"dense\", allowed: none, or a map with push and publish"},
      {"name: tiny", "compression: [push]",
       "job.yaml:1: compression: found a list, allowed: a map, keys: push, publish"},
      {"name: tiny", "durability: disk",
       "job.yaml:1: durability: found \"disk\", allowed: memory, log or sync"},
  });
}

TEST_CASE("an unknown key, with the one that was probably meant") {
  check_all({
      {"batch_size: 8", "bach_size: 8",
       "job.yaml:7: training.bach_size: found an unknown key (did you mean \"batch_size\"?), allowed: "
       "batch_size, epochs, evaluate_every, seed, workers, deterministic, optimizer, server_optimizer, "
       "schedule, augment"},
      {"batch_size: 8", "optimiser: {}",
       "job.yaml:7: training.optimiser: found an unknown key (did you mean \"optimizer\"?), allowed: "
       "batch_size, epochs, evaluate_every, seed, workers, deterministic, optimizer, server_optimizer, "
       "schedule, augment"},
      {"batch_size: 8", "gpu: 1",
       "job.yaml:7: training.gpu: found an unknown key, allowed: batch_size, epochs, evaluate_every, "
       "seed, workers, deterministic, optimizer, server_optimizer, schedule, augment"},
      {"model:", "modle:",
       "job.yaml:2: modle: found an unknown key (did you mean \"model\"?), allowed: name, model, data, "
       "training, staleness, compression, durability, target"},
      {"name: tiny", "\"two words\": 1",
       "job.yaml:1: \"two words\": found an unknown key, allowed: name, model, data, training, staleness, "
       "compression, durability, target"},
      {"name: tiny", "? ''\n: 1",
       "job.yaml:1: \"\": found an unknown key, allowed: name, model, data, training, staleness, "
       "compression, durability, target"},
  });
}

TEST_CASE("a key that is missing or there twice") {
  check_all({
      {"model: {preset: mlp}\n", "",
       "job.yaml:1: model: found nothing, allowed: a map with preset or layers"},
      {", labels: b", "",
       "job.yaml:4: data.train.labels: found nothing, allowed: an IDX file's path, absolute or relative to a "
       "data root"},
      {"  train: {images: a, labels: b}\n", "",
       "job.yaml:3: data.train: found nothing, allowed: a map with the training set's files"},
      {"at_least: 0.5", "metric: accuracy",
       "job.yaml:11: target.at_least: found nothing, allowed: a number above 0, at most 1"},
      {"  batch_size: 8\n", "  batch_size: 8\n  seed: 1\n  batch_size: 9\n",
       "job.yaml:9: training.batch_size: found a second time (first in line 7), allowed: once"},
      {"name: tiny\n", "name: tiny\nname: tiny\n",
       "job.yaml:2: name: found a second time (first in line 1), allowed: once"},
      {"{preset: mlp}", "{layers: [{dense: {units: 1, units: 2}}]}",
       "job.yaml:2: model.layers[0].dense.units: found a second time (first in line 2), allowed: once"},
  });
}

TEST_CASE("keys that do not go together") {
  check_all({
      {"  schedule: cosine\nstaleness: {bound: 2}", "  deterministic: true\nstaleness: {bound: none}",
       "job.yaml:10: staleness.bound: found \"none\" beside training.deterministic: true, allowed: a whole "
       "number from 0 to 1024 in a deterministic job"},
      {"  test: {images: c, labels: d}\n", "",
       "job.yaml:10: target: found a target without data.test, allowed: a target where there is a test set"},
      {"  test: {images: c, labels: d}\ntraining:\n  batch_size: 8\n  optimizer: {type: momentum, "
       "learning_rate: "
       "0.1}\n  schedule: cosine\nstaleness: {bound: 2}\ntarget: {at_least: 0.5}\n",
       "training:\n  evaluate_every: 6000\n",
       "job.yaml:6: training.evaluate_every: found \"6000\" without data.test, allowed: 0 where there is no "
       "test "
       "set"},
      {"type: momentum", "type: sgd, momentum: 0.5",
       "job.yaml:8: training.optimizer.momentum: found it beside another type of optimizer, allowed: to "
       "leave "
       "it out, or type: momentum"},
      {"type: momentum", "type: momentum, beta1: 0.5",
       "job.yaml:8: training.optimizer.beta1: found it beside another type of optimizer, allowed: to leave "
       "it "
       "out, or type: adamw"},
      {"type: momentum", "type: sgd, kept_at_merge: 0.5",
       "job.yaml:8: training.optimizer.kept_at_merge: found it beside sgd, which has nothing to keep, "
       "allowed: "
       "to leave it out, or type: momentum or adamw"},
      {"  schedule: cosine\n", "  server_optimizer: {momentum: 0.5}\n",
       "job.yaml:9: training.server_optimizer.momentum: found it beside another type of server_optimizer, "
       "allowed: to leave it out, or type: nesterov"},
      {"  schedule: cosine\n", "  server_optimizer: {type: nesterov, epsilon: 0.5}\n",
       "job.yaml:9: training.server_optimizer.epsilon: found it beside another type of server_optimizer, "
       "allowed: to leave it out, or type: adagrad"},
      {"  schedule: cosine\nstaleness: {bound: 2}", "  deterministic: true\nstaleness: {age_power: 1}",
       "job.yaml:10: staleness.age_power: found it beside training.deterministic: true, allowed: to leave it "
       "out, or 0"},
      {"schedule: cosine", "schedule: {type: cosine, factor: 0.5}",
       "job.yaml:9: training.schedule.factor: found it beside another type of schedule, allowed: to leave it "
       "out, or "
       "type: step"},
      {"schedule: cosine", "schedule: {type: step, final_fraction: 0.5}",
       "job.yaml:9: training.schedule.final_fraction: found it beside another type of schedule, allowed: to "
       "leave it "
       "out, or type: cosine"},
      {"schedule: cosine", "schedule: {factor: 0.5}",
       "job.yaml:9: training.schedule.type: found nothing, allowed: constant, cosine or step"},
      {"schedule: cosine", "schedule: {type: step, epochs: 0}",
       "job.yaml:9: training.schedule.epochs: found \"0\", allowed: a whole number from 1 to 100000"},
  });
}

TEST_CASE("a model that cannot be one") {
  check_all({
      {"{preset: mlp}", "{}",
       "job.yaml:2: model: found neither preset nor layers, allowed: preset or layers, one of them"},
      {"{preset: mlp}", "mlp", "job.yaml:2: model: found \"mlp\", allowed: a map, keys: preset, layers"},
      {"{preset: mlp}", "{preset: mlp, layers: [relu]}",
       "job.yaml:2: model: found both preset and layers, allowed: preset or layers, one of them"},
      {"{preset: mlp}", "{preset: {name: mlp}}",
       "job.yaml:2: model.preset: found a map, allowed: logistic, mlp, lenet, convnet or resnet20"},
      {"{preset: mlp}", "{layers: relu}",
       "job.yaml:2: model.layers: found \"relu\", allowed: a list of 1 to 1024 layers"},
      {"{preset: mlp}", "{layers: []}",
       "job.yaml:2: model.layers: found a list of 0, allowed: a list of 1 to 1024 layers"},
      {"{preset: mlp}", "{layers: [dense, softmax]}",
       "job.yaml:2: model.layers[1]: found \"softmax\", allowed: conv2d, dense, relu, max_pool, "
       "average_pool, "
       "global_average_pool, flatten, batch_norm or residual, or one of them with its values, such as dense: "
       "{units: 500}"},
      {"{preset: mlp}", "{layers: [[relu]]}",
       "job.yaml:2: model.layers[0]: found a list, allowed: conv2d, dense, relu, max_pool, average_pool, "
       "global_average_pool, flatten, batch_norm or residual, or one of them with its values, such as dense: "
       "{units: 500}"},
      {"{preset: mlp}", "{layers: [{relu: {}, dense: {}}]}",
       "job.yaml:2: model.layers[0]: found a map of 2 keys, allowed: conv2d, dense, relu, max_pool, "
       "average_pool, global_average_pool, flatten, batch_norm or residual, or one of them with its values, "
       "such as dense: {units: 500}"},
      {"{preset: mlp}", "{layers: [{dense: }]}",
       "job.yaml:2: model.layers[0].dense: found nothing, allowed: a map, keys: units"},
      {"{preset: mlp}", "{layers: [{dense: 500}]}",
       "job.yaml:2: model.layers[0].dense: found \"500\", allowed: a map, keys: units"},
      {"{preset: mlp}", "{layers: [{dense: {units: 0}}]}",
       "job.yaml:2: model.layers[0].dense.units: found \"0\", allowed: a whole number from 1 to 1048576, or "
       "classes"},
      {"{preset: mlp}", "{layers: [{relu: {slope: 1}}]}",
       "job.yaml:2: model.layers[0].relu.slope: found an unknown key, allowed: no keys here"},
      {"{preset: mlp}", "{layers: [conv2d]}",
       "job.yaml:2: model.layers[0].conv2d.channels: found nothing, allowed: a whole number from 1 to 65536"},
      {"{preset: mlp}", "{layers: [{conv2d: {channels: 2, kernel: 3, padding: 3}}]}",
       "job.yaml:2: model.layers[0].conv2d.padding: found 3 beside a kernel of 3, allowed: less than the "
       "kernel"},
      {"{preset: mlp}", "{layers: [{conv2d: {channels: 2, kernel: 3, strid: 1}}]}",
       "job.yaml:2: model.layers[0].conv2d.strid: found an unknown key (did you mean \"stride\"?), allowed: "
       "channels, kernel, stride, padding, bias"},
      {"test: {images: c, labels: d}", "format: cifar",
       "job.yaml:5: data.format: found \"cifar\", allowed: idx, cifar10 or cifar100"},
      {"train: {images: a, labels: b}\n  test: {images: c, labels: d}",
       "format: cifar10\n  train: {files: []}",
       "job.yaml:5: data.train.files: found a list, allowed: a list of 1 to 64 paths of files in CIFAR's "
       "binary version, absolute or relative to a data root"},
      {"train: {images: a, labels: b}\n  test: {images: c, labels: d}",
       "format: cifar10\n  train: {files: [a, [b]]}",
       "job.yaml:5: data.train.files[1]: found a list, allowed: a file's path"},
      {"schedule: cosine", "augment: {crop: 2000}",
       "job.yaml:9: training.augment.crop: found \"2000\", allowed: a whole number from 0 to 1024"},
      {"schedule: cosine", "augment: {flip: 1}",
       "job.yaml:9: training.augment.flip: found \"1\", allowed: true or false"},
      {"schedule: cosine", "schedule: {type: cosine, warmup_epochs: -1}",
       "job.yaml:9: training.schedule.warmup_epochs: found \"-1\", allowed: a number from 0 to 1000"},
      {"{preset: mlp}",
       "{layers: [{residual: {body: [{residual: {body: [{residual: {body: [{conv2d: {}}]}}]}}]}}]}",
       "job.yaml:2: model.layers[0].residual.body[0].residual.body[0].residual.body[0].conv2d.channels: "
       "found "
       "nothing, allowed: a whole number from 1 to 65536"},
      {"train: {images: a, labels: b}", "format: cifar10\n  train: {images: a, labels: b}",
       "job.yaml:5: data.train.images: found an unknown key, allowed: files"},
      {"train: {images: a, labels: b}\n  test: {images: c, labels: d}",
       "format: cifar100\n  train: {files: a}",
       "job.yaml:5: data.train.files: found \"a\", allowed: a list of 1 to 64 paths of files in CIFAR's "
       "binary "
       "version, absolute or relative to a data root"},
      {"{preset: mlp}", "{layers: [{batch_norm: {momentum: 0}}]}",
       "job.yaml:2: model.layers[0].batch_norm.momentum: found \"0\", allowed: a number above 0, at most 1"},
      {"{preset: mlp}", "{layers: [{batch_norm: {epsilon: 0}}]}",
       "job.yaml:2: model.layers[0].batch_norm.epsilon: found \"0\", allowed: a number from 1e-12 to 1"},
      {"{preset: mlp}", "{layers: [residual]}",
       "job.yaml:2: model.layers[0].residual.body: found nothing, allowed: a list of layers"},
      {"{preset: mlp}", "{layers: [{residual: {body: []}}]}",
       "job.yaml:2: model.layers[0].residual.body: found a list of 0, allowed: a list of 1 to 1024 layers"},
      {"{preset: mlp}", "{layers: [{residual: {body: [relu], shortcut: [relu, {dense: {unit: 2}}]}}]}",
       "job.yaml:2: model.layers[0].residual.shortcut[1].dense.unit: found an unknown key (did you mean "
       "\"units\"?), allowed: units"},
      {"{preset: mlp}", "{layers: [dense, {max_pool: {kernel: 2, stride: 0}}]}",
       "job.yaml:2: model.layers[1].max_pool.stride: found \"0\", allowed: a whole number from 1 to 1024"},
  });
}

TEST_CASE("of several errors the first line's is shown, and wrong comes before missing") {
  check_all({
      {"batch_size: 8", "batch_size: x\n  epochs: y",
       "job.yaml:7: training.batch_size: found \"x\", allowed: a whole number from 1 to 65536"},
      {"model: {preset: mlp}", "mode: {preset: mlp}",
       "job.yaml:2: mode: found an unknown key (did you mean \"model\"?), allowed: name, model, data, "
       "training, staleness, compression, durability, target"},
  });
}

}  // namespace
}  // namespace nanduti
