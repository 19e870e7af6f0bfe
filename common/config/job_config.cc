#include "common/config/job_config.h"

#include "common/config/job_sections.h"
#include "common/config/yaml_reader.h"

namespace nanduti {
namespace {

void check_conflicts(YamlReader& root, const JobConfig& job) {
  if (job.deterministic && !job.staleness.bound) {
    root.map("staleness")
        .conflict("bound", "\"none\" beside training.deterministic: true",
                  fmt::format("a whole number from 0 to {} in a deterministic job", kStalenessBoundMax));
  }
  if (job.deterministic && (job.staleness.auto_bound || job.staleness.auto_local_steps)) {
    root.map("staleness")
        .conflict(job.staleness.auto_bound ? "bound" : "local_steps",
                  "\"auto\" beside training.deterministic: true", "a whole number in a deterministic job");
  }
  if (job.deterministic && job.staleness.age_power != 0) {
    root.map("staleness")
        .conflict("age_power", "it beside training.deterministic: true", "to leave it out, or 0");
  }
  if (job.deterministic && job.staleness.at_bound == AtBound::kAccumulate) {
    root.map("staleness")
        .conflict("at_bound", "\"accumulate\" beside training.deterministic: true",
                  "wait in a deterministic job");
  }
  if (job.evaluate_every > 0 && !job.data.test) {
    root.map("training")
        .conflict("evaluate_every", fmt::format("\"{}\" without data.test", job.evaluate_every),
                  "0 where there is no test set");
  }
  if (job.target && !job.data.test) {
    root.conflict("target", "a target without data.test", "a target where there is a test set");
  }
}

}  // namespace

Result<JobConfig> load_job_config(const std::filesystem::path& path) {
  auto source = read_config_file(path);
  if (!source.ok()) return source.error();
  return parse_job_text(std::move(source->text), std::move(source->name));
}

Result<JobConfig> parse_job_text(std::string text, std::string name_for_errors) {
  JobConfig job;
  job.source = {std::move(name_for_errors), std::move(text)};
  const auto tree = parse_yaml(job.source);
  if (!tree.ok()) return tree.error();
  ConfigErrors errors(job.source.name);
  YamlReader root(*tree, "", errors);
  root.name("name", job.name);
  read_model_section(root, job.model);
  read_data_section(root, job.data);
  read_training_section(root, job);
  // What is left out; a deterministic job is in lockstep.
  job.staleness.auto_bound = job.staleness.auto_local_steps = !job.deterministic;
  read_staleness_section(root, job.staleness);
  read_compression_section(root, job.compression);
  root.choice<Durability>(
      "durability", {{"memory", Durability::kMemory}, {"log", Durability::kLog}, {"sync", Durability::kSync}},
      {}, job.durability);
  read_target_section(root, job.target);
  root.finish();
  check_conflicts(root, job);
  NANDUTI_RETURN_IF_ERROR(errors.status());
  return job;
}

}  // namespace nanduti
