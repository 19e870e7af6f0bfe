#include "common/config/tuning.h"

#include "common/config/job_sections.h"
#include "common/config/yaml_reader.h"

namespace nanduti {
namespace {

std::string to_yaml(const CodingSpec& spec) {
  std::string tensors;
  for (const CodingSpec::TensorDensity& tensor : spec.tensors)
    tensors += fmt::format("{}{}: {}", tensors.empty() ? "" : ", ", tensor.tensor, tensor.density);
  return fmt::format("{{density: {}, value_bits: {}, warmup_epochs: {}, tensors: {{{}}}}}", spec.density,
                     spec.value_bits, spec.warmup_epochs, tensors);
}

std::string to_yaml(const StalenessConfig& staleness) {
  std::string text = staleness.auto_bound ? fmt::format("bound: auto, bound_max: {}", staleness.bound_max)
                     : staleness.bound    ? fmt::format("bound: {}", *staleness.bound)
                                          : "bound: none";
  text += staleness.auto_local_steps
              ? fmt::format(", local_steps: auto, local_steps_max: {}", staleness.local_steps_max)
              : fmt::format(", local_steps: {}", staleness.local_steps);
  text += staleness.at_bound == AtBound::kAccumulate ? ", at_bound: accumulate" : ", at_bound: wait";
  return text + fmt::format(", age_power: {}, own_work: {}, rho: {}", staleness.age_power, staleness.own_work,
                            staleness.rho);
}

}  // namespace

Result<TuningSpec> parse_tuning(std::string text, std::string name_for_errors, const TuningSpec& before) {
  const ConfigText source{std::move(name_for_errors), std::move(text)};
  const auto tree = parse_yaml(source);
  if (!tree.ok()) return tree.error();
  ConfigErrors errors(source.name);
  YamlReader root(*tree, "", errors);
  TuningSpec spec = before;
  read_staleness_section(root, spec.staleness);
  read_compression_section(root, spec.compression);
  root.finish();
  NANDUTI_RETURN_IF_ERROR(errors.status());
  return spec;
}

std::string to_yaml(const TuningSpec& spec) {
  return fmt::format("staleness: {{{}}}\ncompression:\n  push: {}\n  publish: {}\n", to_yaml(spec.staleness),
                     to_yaml(spec.compression.push), to_yaml(spec.compression.publish));
}

}  // namespace nanduti
