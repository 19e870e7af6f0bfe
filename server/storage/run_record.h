#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/named_figure.h"

namespace nanduti {

/// What run.json says about a job: what was asked for, by which program on which machines, and what came of
/// it.
struct RunRecord {
  struct Worker {
    std::string name;
    std::string site;
    std::string device;
    std::string hardware;
  };
  /// Figures of one pass over the training set.
  struct Epoch {
    std::uint32_t epoch = 0;          ///< from 1
    std::optional<double> accuracy;   ///< on the test set, 0 to 1; empty without one
    std::optional<double> test_loss;  ///< mean over the test set
    double loss = 0;                  ///< mean over the samples trained
    double seconds = 0;             ///< from the start of training until the epoch's last sample was settled
    std::uint64_t samples = 0;      ///< that count
    double evaluation_seconds = 0;  ///< of `seconds`, in which a worker evaluated, in the mean
  };
  /// Test figures of the parameters within an epoch.
  struct Evaluation {
    std::uint64_t samples = 0;  ///< that counted then, all epochs
    double accuracy = 0;
    double test_loss = 0;
    double seconds = 0;             ///< from the start of training
    double evaluation_seconds = 0;  ///< the same
  };

  /// What held for the rounds from one on.
  struct Tuning {
    std::uint64_t from_round = 0;
    double seconds = 0;                  ///< from the start of training
    std::optional<std::uint32_t> bound;  ///< empty: none
    std::uint32_t local_steps = 1;
    std::string why;
    std::string settings;  ///< YAML; empty: as in the job's own
    bool in_force = true;  ///< every active worker had said so when the job ended
  };

  JobId job;
  std::string name;
  std::string job_text;            ///< the job's YAML as it was submitted
  std::string state;               ///< queued, running, done, failed or cancelled
  std::string reason;              ///< why it failed or was cancelled
  std::optional<double> target;    ///< accuracy that was asked for
  std::optional<double> accuracy;  ///< of the last epoch evaluated
  std::optional<bool> target_met;
  std::string program_version;
  std::map<std::string, std::string> library_versions;
  std::string server_hardware;
  std::vector<Worker> workers;
  std::uint64_t seed = 0;
  std::uint64_t parameter_count = 0;
  std::string started;  ///< UTC, as the caller writes it: "2024-05-17T12:00:00Z"; empty: not yet
  std::string ended;
  double training_seconds = 0;
  std::uint64_t samples = 0;  ///< that count, all epochs
  std::uint64_t repeated_samples = 0;
  double stall_fraction = 0;  ///< stall / (compute + stall), all workers
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  NamedFigures pipeline;  ///< how well distance was hidden
  std::vector<Epoch> epochs;
  std::vector<Evaluation> evaluations;
  std::uint64_t evaluations_skipped = 0;
  std::vector<Tuning> tunings;  ///< the last ones
};

/// Indented JSON with a line end at its end; keys in a fixed order. Numbers read back to the same double;
/// what JSON has no number for (nan, inf) is null. Text must be UTF-8.
std::string to_json(const RunRecord& record);

}  // namespace nanduti
