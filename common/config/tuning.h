#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/config/job_config.h"

namespace nanduti {

/// What of a job can be changed while it runs.
struct TuningSpec {
  StalenessConfig staleness;
  CompressionSpec compression;
  friend bool operator==(const TuningSpec&, const TuningSpec&) = default;
};

/// Reads the sections `staleness` and `compression` of a job, or keys of them, on top of what holds: keys
/// that are left out stay as they are. Errors: kInvalidArgument as for a job's own file.
Result<TuningSpec> parse_tuning(std::string text, std::string name_for_errors, const TuningSpec& before);

/// YAML that parse_tuning() reads to the same, whatever it is on top of; but for a bound and steps that are
/// auto, which begin anew.
std::string to_yaml(const TuningSpec& spec);

}  // namespace nanduti
