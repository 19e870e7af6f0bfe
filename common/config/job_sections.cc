#include "common/config/job_sections.h"

namespace nanduti {
namespace {

void read_idx_files(YamlReader& reader, DataFiles& files) {
  constexpr std::string_view kAllowed = "an IDX file's path, absolute or relative to a data root";
  reader.require("images", kAllowed);
  reader.require("labels", kAllowed);
  reader.path_text("images", kAllowed, files.images);
  reader.path_text("labels", kAllowed, files.labels);
}

void read_cifar_files(YamlReader& reader, DataFiles& files) {
  const std::string allowed = fmt::format(
      "a list of 1 to {} paths of files in CIFAR's binary version, absolute or relative to a data root",
      kDataFilesMax);
  reader.require("files", allowed);
  const YamlNode* list = reader.find("files");
  if (list == nullptr) return;
  if (list->kind != YamlNode::Kind::kList || list->items.empty() || list->items.size() > kDataFilesMax)
    return reader.reject("files", allowed);
  for (std::size_t i = 0; i < list->items.size(); ++i) {
    const YamlNode& node = list->items[i].value;
    const bool is_path =
        node.kind == YamlNode::Kind::kScalar && !node.text.empty() && node.text.size() <= kConfigPathBytesMax;
    if (!is_path) {
      return reader.errors().add(ConfigErrors::Rank::kWrong, node.line,
                                 fmt::format("{}[{}]", reader.path_of("files"), i), describe(node),
                                 "a file's path");
    }
    files.files.push_back(node.text);
  }
}

void read_files(YamlReader reader, DataFormat format, DataFiles& files) {
  if (format == DataFormat::kIdx) {
    read_idx_files(reader, files);
  } else {
    read_cifar_files(reader, files);
  }
  reader.finish();
}

constexpr std::string_view kDensityAllowed = "a number from 0.00025 to 1";
bool is_density(double value) { return value >= kDensityMin && value <= 1; }

void read_value_bits(YamlReader& coding, std::uint32_t& value_bits) {
  constexpr std::string_view kAllowed = "2, 4, 8 or 32 (float32)";
  const YamlNode* node = coding.scalar("value_bits", kAllowed);
  if (node == nullptr) return;
  const auto value = parse_whole_number(node->text);
  if (node->is_quoted || (value != 2 && value != 4 && value != 8 && value != 32))
    return coding.reject("value_bits", kAllowed);
  value_bits = static_cast<std::uint32_t>(*value);
}

void read_coding(YamlReader coding, CodingSpec& spec) {
  coding.real_number("density", is_density, kDensityAllowed, spec.density);
  read_value_bits(coding, spec.value_bits);
  coding.real_number(
      "warmup_epochs", [](double value) { return value >= 0 && value <= kWarmupEpochsMax; },
      "a number from 0 to 1000", spec.warmup_epochs);
  YamlReader tensors = coding.map("tensors");
  if (tensors.is_present()) spec.tensors.clear();
  for (const std::string& tensor : tensors.keys()) {
    double density = 1;
    tensors.real_number(tensor, is_density, kDensityAllowed, density);
    spec.tensors.push_back({tensor, density});
  }
  tensors.finish();
  coding.finish();
}

void read_bound(YamlReader& reader, StalenessConfig& staleness) {
  const std::string allowed = fmt::format("a whole number from 0 to {}, auto, or none", kStalenessBoundMax);
  const YamlNode* node = reader.scalar("bound", allowed);
  if (node == nullptr) return;
  const auto value = parse_whole_number(node->text);
  const bool is_auto = node->text == "auto", is_none = node->text == "none";
  if (!is_auto && !is_none && (node->is_quoted || !value || *value > kStalenessBoundMax))
    return reader.reject("bound", allowed);
  staleness.auto_bound = is_auto;
  if (is_none) staleness.bound.reset();
  if (value) staleness.bound = static_cast<std::uint32_t>(*value);
}

void read_local_steps(YamlReader& reader, StalenessConfig& staleness) {
  const std::string allowed = fmt::format("a whole number from 1 to {}, or auto", kLocalStepsMax);
  const YamlNode* node = reader.scalar("local_steps", allowed);
  if (node == nullptr) return;
  const auto value = parse_whole_number(node->text);
  const bool is_auto = node->text == "auto";
  if (!is_auto && (node->is_quoted || !value || *value < 1 || *value > kLocalStepsMax))
    return reader.reject("local_steps", allowed);
  staleness.auto_local_steps = is_auto;
  if (value) staleness.local_steps = static_cast<std::uint32_t>(*value);
}

/// What auto begins with, before anything is measured: the most that is allowed, which stalls the least.
void begin_auto(StalenessConfig& staleness) {
  if (staleness.auto_bound) staleness.bound = staleness.bound_max;
  if (staleness.auto_local_steps) staleness.local_steps = staleness.local_steps_max;
}

}  // namespace

void read_data_section(YamlReader& root, DataConfig& data) {
  root.require("data", "a map with train, and test to evaluate on");
  YamlReader reader = root.map("data");
  std::optional<DataFormat> format;
  if (reader.find("format") == nullptr) format = data.format;
  reader.choice<std::optional<DataFormat>>(
      "format",
      {{"idx", DataFormat::kIdx}, {"cifar10", DataFormat::kCifar10}, {"cifar100", DataFormat::kCifar100}}, {},
      format);
  reader.choice<Normalize>("normalize", {{"auto", Normalize::kAuto}, {"none", Normalize::kNone}}, {},
                           data.normalize);
  reader.whole_number("classes", 2, kClassesMax, data.classes);
  reader.require("train", "a map with the training set's files");
  const bool has_test = reader.find("test") != nullptr;
  if (format) {  // else nobody knows which keys are right
    data.format = *format;
    read_files(reader.map("train"), data.format, data.train);
    if (has_test) read_files(reader.map("test"), data.format, data.test.emplace());
  }
  reader.finish();
}

void read_staleness_section(YamlReader& root, StalenessConfig& staleness) {
  YamlReader reader = root.map("staleness");
  read_bound(reader, staleness);
  read_local_steps(reader, staleness);
  reader.whole_number("bound_max", 1, kStalenessBoundMax, staleness.bound_max);
  reader.whole_number("local_steps_max", 1, kLocalStepsMax, staleness.local_steps_max);
  begin_auto(staleness);
  reader.choice<AtBound>("at_bound", {{"wait", AtBound::kWait}, {"accumulate", AtBound::kAccumulate}}, {},
                         staleness.at_bound);
  reader.real_number(
      "age_power", [](double value) { return value >= 0 && value <= kAgePowerMax; }, "a number from 0 to 10",
      staleness.age_power);
  constexpr std::string_view kWeightAllowed = "a number from 0 to 1";
  const auto is_weight = [](double value) { return value >= 0 && value <= 1; };
  reader.real_number("own_work", is_weight, kWeightAllowed, staleness.own_work);
  reader.real_number("rho", is_weight, kWeightAllowed, staleness.rho);
  reader.finish();
  const auto check_cap = [&](std::string_view cap, std::string_view of, bool is_auto) {
    if (reader.find(cap) != nullptr && !is_auto)
      reader.conflict(cap, fmt::format("it beside {} that is not auto", of), "to leave it out");
  };
  check_cap("bound_max", "a bound", staleness.auto_bound);
  check_cap("local_steps_max", "local_steps", staleness.auto_local_steps);
}

void read_compression_section(YamlReader& root, CompressionSpec& compression) {
  const YamlNode* node = root.find("compression");
  if (node != nullptr && node->kind == YamlNode::Kind::kScalar) {
    if (node->text != "none") return root.reject("compression", "none, or a map with push and publish");
    compression = CompressionSpec::exact();
    return;
  }
  YamlReader reader = root.map("compression");
  read_coding(reader.map("push"), compression.push);
  read_coding(reader.map("publish"), compression.publish);
  reader.finish();
}

void read_target_section(YamlReader& root, std::optional<Target>& target) {
  constexpr std::string_view kAllowed = "a number above 0, at most 1";
  if (root.find("target") == nullptr) return;
  target.emplace();
  YamlReader reader = root.map("target");
  reader.choice<TargetMetric>("metric", {{"accuracy", TargetMetric::kAccuracy}}, {}, target->metric);
  reader.require("at_least", kAllowed);
  reader.real_number(
      "at_least", [](double value) { return value > 0 && value <= 1; }, kAllowed, target->at_least);
  reader.finish();
}

}  // namespace nanduti
