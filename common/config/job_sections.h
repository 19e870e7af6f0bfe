#pragma once

#include "common/config/job_config.h"
#include "common/config/yaml_reader.h"

namespace nanduti {

/// Each reads one section of a job, with the keys below it.
void read_model_section(YamlReader& root, ModelSpec& model);
void read_data_section(YamlReader& root, DataConfig& data);
void read_training_section(YamlReader& root, JobConfig& job);
void read_staleness_section(YamlReader& root, StalenessConfig& staleness);
void read_compression_section(YamlReader& root, CompressionSpec& compression);
void read_target_section(YamlReader& root, std::optional<Target>& target);

}  // namespace nanduti
