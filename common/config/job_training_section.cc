#include "common/config/job_sections.h"
#include "common/protocol/message.h"

namespace nanduti {
namespace {

constexpr std::uint32_t kBatchSizeMax = 65536;
constexpr std::uint32_t kEpochsMax = 100000;
constexpr std::uint32_t kCropMax = 1024;
/// AdamW's steps are about as long as its learning rate, whatever the gradient: the default.
constexpr double kAdamWLearningRate = 0.001;
constexpr double kAdagradLearningRate = 0.01;

void read_optimizer(YamlReader& training, OptimizerSpec& optimizer) {
  YamlReader reader = training.map("optimizer");
  reader.choice<OptimizerType>("type",
                               {{"sgd", OptimizerType::kSgd},
                                {"momentum", OptimizerType::kMomentum},
                                {"adamw", OptimizerType::kAdamW}},
                               {}, optimizer.type);
  if (optimizer.type == OptimizerType::kAdamW) optimizer.learning_rate = kAdamWLearningRate;
  reader.real_number(
      "learning_rate", [](double value) { return value > 0 && value <= 1000; },
      "a number above 0, at most 1000", optimizer.learning_rate);
  reader.real_number(
      "momentum", [](double value) { return value >= 0 && value < 1; }, "a number from 0 to below 1",
      optimizer.momentum);
  reader.real_number(
      "weight_decay", [](double value) { return value >= 0 && value <= 1; }, "a number from 0 to 1",
      optimizer.weight_decay);
  const auto is_part = [](double value) { return value >= 0 && value < 1; };
  reader.real_number("beta1", is_part, "a number from 0 to below 1", optimizer.beta1);
  reader.real_number("beta2", is_part, "a number from 0 to below 1", optimizer.beta2);
  reader.real_number(
      "epsilon", [](double value) { return value > 0 && value <= 1; }, "a number above 0, at most 1",
      optimizer.epsilon);
  reader.real_number(
      "kept_at_merge", [](double value) { return value >= 0 && value <= 1; }, "a number from 0 to 1",
      optimizer.kept_at_merge);
  reader.finish();
  const auto check_belongs = [&](std::string_view key, std::string_view type, OptimizerType of) {
    if (optimizer.type == of || reader.find(key) == nullptr) return;
    reader.conflict(key, "it beside another type of optimizer",
                    fmt::format("to leave it out, or type: {}", type));
  };
  check_belongs("momentum", "momentum", OptimizerType::kMomentum);
  if (reader.find("kept_at_merge") != nullptr && optimizer.type == OptimizerType::kSgd)
    reader.conflict("kept_at_merge", "it beside sgd, which has nothing to keep",
                    "to leave it out, or type: momentum or adamw");
  for (const std::string_view key : {"beta1", "beta2", "epsilon"})
    check_belongs(key, "adamw", OptimizerType::kAdamW);
}

void read_server_optimizer(YamlReader& training, ServerOptimizerSpec& optimizer) {
  YamlReader reader = training.map("server_optimizer");
  reader.choice<ServerOptimizerType>("type",
                                     {{"add", ServerOptimizerType::kAdd},
                                      {"nesterov", ServerOptimizerType::kNesterov},
                                      {"adagrad", ServerOptimizerType::kAdagrad}},
                                     {}, optimizer.type);
  reader.real_number(
      "momentum", [](double value) { return value >= 0 && value < 1; }, "a number from 0 to below 1",
      optimizer.momentum);
  // Pushes are whole steps already: with momentum they go as far, in the end, as added.
  if (optimizer.type == ServerOptimizerType::kNesterov) optimizer.learning_rate = 1 - optimizer.momentum;
  if (optimizer.type == ServerOptimizerType::kAdagrad) optimizer.learning_rate = kAdagradLearningRate;
  reader.real_number(
      "learning_rate", [](double value) { return value > 0 && value <= 1000; },
      "a number above 0, at most 1000", optimizer.learning_rate);
  reader.real_number(
      "epsilon", [](double value) { return value > 0 && value <= 1; }, "a number above 0, at most 1",
      optimizer.epsilon);
  reader.finish();
  const auto check_belongs = [&](std::string_view key, std::string_view types, bool belongs) {
    if (belongs || reader.find(key) == nullptr) return;
    reader.conflict(key, "it beside another type of server_optimizer",
                    fmt::format("to leave it out, or type: {}", types));
  };
  check_belongs("momentum", "nesterov", optimizer.type == ServerOptimizerType::kNesterov);
  check_belongs("epsilon", "adagrad", optimizer.type == ServerOptimizerType::kAdagrad);
}

std::vector<Choice<ScheduleType>> schedules() {
  return {{"constant", ScheduleType::kConstant},
          {"cosine", ScheduleType::kCosine},
          {"step", ScheduleType::kStep}};
}

/// A value that only one type of schedule has.
void check_belongs(YamlReader& reader, std::string_view key, std::string_view type, bool belongs) {
  if (belongs || reader.find(key) == nullptr) return;
  reader.conflict(key, "it beside another type of schedule",
                  fmt::format("to leave it out, or type: {}", type));
}

void read_schedule(YamlReader& training, ScheduleSpec& schedule) {
  const YamlNode* node = training.find("schedule");
  if (node == nullptr || node->kind != YamlNode::Kind::kMap) {
    return training.choice<ScheduleType>("schedule", schedules(), {}, schedule.type);
  }
  YamlReader reader = training.map("schedule");
  reader.require("type", "constant, cosine or step");
  reader.choice<ScheduleType>("type", schedules(), {}, schedule.type);
  reader.real_number(
      "warmup_epochs", [](double value) { return value >= 0 && value <= kWarmupEpochsMax; },
      "a number from 0 to 1000", schedule.warmup_epochs);
  reader.real_number(
      "final_fraction", [](double value) { return value >= 0 && value <= 1; }, "a number from 0 to 1",
      schedule.final_fraction);
  reader.real_number(
      "factor", [](double value) { return value > 0 && value <= 1; }, "a number above 0, at most 1",
      schedule.step_factor);
  reader.whole_number("epochs", 1, kEpochsMax, schedule.step_epochs);
  reader.finish();
  check_belongs(reader, "final_fraction", "cosine", schedule.type == ScheduleType::kCosine);
  check_belongs(reader, "factor", "step", schedule.type == ScheduleType::kStep);
  check_belongs(reader, "epochs", "step", schedule.type == ScheduleType::kStep);
}

void read_augment(YamlReader reader, AugmentSpec& augment) {
  reader.whole_number("crop", 0, kCropMax, augment.crop);
  reader.boolean("flip", augment.flip);
  reader.finish();
}

}  // namespace

void read_training_section(YamlReader& root, JobConfig& job) {
  YamlReader training = root.map("training");
  training.whole_number("batch_size", 1, kBatchSizeMax, job.training.batch_size);
  training.whole_number("epochs", 1, kEpochsMax, job.training.epochs);
  training.whole_number("evaluate_every", 0, kEvaluateEveryMax, job.evaluate_every);
  training.whole_number("seed", 0, ~std::uint64_t{0}, job.training.seed);
  training.whole_number("workers", 1, kMembersMax, job.workers_to_start);
  training.boolean("deterministic", job.deterministic);
  read_optimizer(training, job.training.optimizer);
  read_server_optimizer(training, job.training.server_optimizer);
  read_schedule(training, job.training.schedule);
  read_augment(training.map("augment"), job.training.augment);
  training.finish();
}

}  // namespace nanduti
