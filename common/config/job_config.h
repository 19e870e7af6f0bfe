#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/base/durability.h"
#include "common/base/result.h"
#include "common/codec/coding_spec.h"
#include "common/config/config_text.h"
#include "common/model/model_spec.h"
#include "common/model/training_spec.h"

namespace nanduti {

inline constexpr std::uint32_t kStalenessBoundMax = 1024;
inline constexpr std::uint32_t kLocalStepsMax = 1024;
inline constexpr double kAgePowerMax = 10;
inline constexpr std::uint64_t kEvaluateEveryMax = 1'000'000'000'000;
inline constexpr std::uint32_t kClassesMax = 256;  ///< labels are bytes

/// The files of one set: images and labels for kIdx, else files, which are read one after the other.
/// Absolute, or relative to a worker's data root (resolve_data_file).
struct DataFiles {
  std::string images;
  std::string labels;
  std::vector<std::string> files;
};
inline constexpr std::size_t kDataFilesMax = 64;

/// kAuto: mean 0 and deviation 1 over the training set's pixels. kNone: pixels / 255.
enum class Normalize { kAuto, kNone };

struct DataConfig {
  DataFormat format = DataFormat::kIdx;
  Normalize normalize = Normalize::kAuto;
  /// Labels are below it. 0: the largest training label + 1, which must not be an outlier.
  std::uint32_t classes = 0;
  DataFiles train;
  std::optional<DataFiles> test;
};

/// What a worker does that has reached the staleness bound.
enum class AtBound {
  kWait,
  kAccumulate,  ///< the round that has ended goes on, up to kAccumulateRoundsMax times its length
};
inline constexpr std::uint32_t kAccumulateRoundsMax = 4;

struct StalenessConfig {
  /// How many rounds a worker may run ahead of the slowest one. 0: in lockstep. Empty: no bound.
  std::optional<std::uint32_t> bound = 0;
  bool auto_bound = false;        ///< the coordinator chooses it by what it measures, up to bound_max
  std::uint32_t bound_max = 16;   ///< at least 1
  std::uint32_t local_steps = 1;  ///< minibatches of a round
  bool auto_local_steps = false;  ///< the coordinator chooses them too, up to local_steps_max
  std::uint32_t local_steps_max = 16;
  AtBound at_bound = AtBound::kWait;
  double age_power = 0;  ///< how much less old pushes count (server/shard/round_ages.h); 0: not at all
  // The weights in a worker's replica, for experiments: 0 to 1.
  double own_work = 1.0;  ///< of its own pushes that are on their way: what read-my-writes is worth
  double rho = 1.0;       ///< of what compression has left unsent
  friend bool operator==(const StalenessConfig&, const StalenessConfig&) = default;
};

inline constexpr double kWarmupEpochsMax = 1000;

enum class TargetMetric { kAccuracy };
struct Target {
  TargetMetric metric = TargetMetric::kAccuracy;
  double at_least = 0.0;
};

/// What a job's YAML says; configs/README.md documents every key. A key that is left out has the value that
/// stands here, but for staleness: auto, unless it is deterministic. Model and data have to be there.
struct JobConfig {
  ConfigText source;
  std::string name = "job";
  ModelSpec model;  ///< a preset's name, or layers
  DataConfig data;
  TrainingSpec training;
  bool deterministic = false;  ///< the same bytes every time; training.deterministic
  /// Samples between evaluations, beside those at the ends of epochs; 0: none. training.evaluate_every.
  std::uint64_t evaluate_every = 0;
  std::uint32_t workers_to_start = 1;  ///< workers that have to be there before it starts; training.workers
  StalenessConfig staleness;
  CompressionSpec compression;
  Durability durability = Durability::kLog;
  std::optional<Target> target;
};

/// Reads and checks a job. The error is a whole sentence for the operator: file, line, key, what was found,
/// what is allowed.
Result<JobConfig> load_job_config(const std::filesystem::path& path);

/// The same from text, as jobs arrive over HTTP and in messages; `name_for_errors` stands for the file.
Result<JobConfig> parse_job_text(std::string text, std::string name_for_errors);

}  // namespace nanduti
