#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/named_figure.h"

/// What operators see of jobs and workers: plain values, made by CoordinatorCore, shown by server/admin.
namespace nanduti {

enum class JobState { kQueued, kRunning, kDone, kFailed, kCancelled };

/// "queued", "running", "done", "failed", "cancelled".
std::string_view to_string(JobState state);
[[nodiscard]] inline bool is_over(JobState state) {
  return state != JobState::kQueued && state != JobState::kRunning;
}

/// An epoch that is settled. Test figures come a little later than the rest, or never without a test set.
struct EpochReport {
  std::uint32_t epoch = 0;         ///< epochs behind it: 1, 2, ...
  double seconds = 0;              ///< from the start of training until its last sample was settled
  std::optional<double> accuracy;  ///< on the test set
  std::optional<double> test_loss;
  std::optional<double> loss;     ///< mean training loss of what workers reported during it
  std::uint64_t samples = 0;      ///< that count
  double evaluation_seconds = 0;  ///< of `seconds`, in which a worker evaluated, in the mean
};

/// Test figures of the parameters within an epoch.
struct EvaluationReport {
  std::uint64_t samples = 0;      ///< that counted then
  double seconds = 0;             ///< from the start of training
  double evaluation_seconds = 0;  ///< of these, in which a worker evaluated, in the mean
  double accuracy = 0;
  double test_loss = 0;
};

/// A worker that has taken part in a job, in one life or several.
struct ParticipantReport {
  std::string name;
  std::string site;
  std::string device;
  std::string hardware;
  friend bool operator==(const ParticipantReport&, const ParticipantReport&) = default;
};

/// How well distance was hidden from those who compute, from a worker's first round to its last; evaluations
/// and the time without samples are apart.
struct PipelineReport {
  struct Stall {
    double gate = 0, codec = 0, data = 0, merge = 0, window = 0;  ///< seconds, as StallSeconds
  };
  double compute_seconds = 0;
  Stall stall;
  std::optional<double> utilisation;      ///< compute / (compute + stall), over all workers
  std::optional<double> utilisation_min;  ///< of the worker with the lowest
  double compute_cpu_seconds = 0;         ///< of computing threads, evaluations included
  double codec_cpu_seconds = 0;           ///< of the threads that code and merge
  std::uint32_t pushes_in_flight = 0;     ///< now: rounds that their workers' shadows do not hold
  /// Of the last rounds, from a push to a shadow that holds it; the slowest worker's.
  std::optional<double> turnaround_p50_s;
  std::optional<double> turnaround_p99_s;
  double residual_norm = 0;  ///< what compression has left unsent, Euclidean; the worker with the largest
  std::uint64_t exact_bytes_up = 0;  ///< as WorkerStatus; part of the job's bytes
  std::uint64_t exact_bytes_down = 0;
  double publish_residual_norm = 0;  ///< what the shadow lacked at the last cut, all shards
  /// From the start of training until samples were lent first: connecting, and the model's first download.
  std::optional<double> start_seconds;
  std::optional<std::uint32_t> age_p50;  ///< rounds settled between a push's base version and itself
  std::optional<std::uint32_t> age_p99;

  /// All of it, under the names that JSON has.
  [[nodiscard]] NamedFigures named() const;
};

/// Staleness and compression as they are, or are to be as soon as every active worker has taken it.
struct TuningReport {
  std::uint64_t number = 0;  ///< how many there have been; 0: as submitted
  std::optional<std::uint32_t> bound;
  bool auto_bound = false;
  std::uint32_t local_steps = 1;
  bool auto_local_steps = false;
  std::uint64_t from_round = 0;  ///< that was asked for; once it is in force, from which it is
  bool in_force = true;
  double seconds = 0;  ///< from the start of training until it was asked for
  std::string why;
  std::string settings;  ///< YAML; empty: as in the job's own
};

struct JobReport {
  JobId id;
  std::string name;
  JobState state = JobState::kQueued;
  std::string reason;              ///< why it failed or was cancelled
  std::optional<double> target;    ///< accuracy
  std::optional<bool> target_met;  ///< once done
  std::uint32_t epoch = 0;         ///< the one being trained, from 1; 0 before training
  std::uint32_t epochs = 0;
  std::uint64_t samples = 0;        ///< that count
  std::uint64_t samples_total = 0;  ///< over all epochs; 0 before training
  std::uint64_t repeated_samples = 0;
  double samples_per_s = 0;         ///< settled, over the last ten seconds
  std::optional<double> accuracy;   ///< on the test set, of the last epoch evaluated
  std::optional<double> test_loss;  ///< the same
  std::optional<double> loss;       ///< mean training loss of recent work
  std::optional<double> staleness;  ///< rounds, mean over the workers
  double stall_fraction = 0;        ///< stall / (compute + stall), all workers, whole job
  PipelineReport pipeline;          ///< all workers, whole job
  std::uint64_t bytes_up = 0;       ///< workers to servers, whole job, dead workers too
  std::uint64_t bytes_down = 0;
  std::optional<double> eta_s;      ///< until the last sample, at the rate of now
  std::string waiting_for;          ///< "2 workers (1 is here)"; empty if it moves
  std::uint32_t workers = 0;        ///< that take part now
  std::string model;                ///< path of the trained model; filled by the host when it is there
  std::string run;                  ///< path of run.json; the same
  double training_seconds = 0;      ///< from the start of training to the last settled sample
  std::optional<double> started_s;  ///< when it began to run: seconds since 1970
  std::vector<EpochReport> figures;
  std::vector<EvaluationReport> evaluations;    ///< within epochs, by samples
  std::uint64_t evaluations_skipped = 0;        ///< workers were busy with those before
  std::vector<TuningReport> tunings;            ///< the newest last; empty before training
  std::vector<ParticipantReport> participants;  ///< in the order in which they joined first
  std::vector<std::string> warnings;  ///< such as a deterministic job that cannot be repeated any more
};

struct WorkerReport {
  IncarnationOrder order;
  std::string name;
  std::string site;
  /// "active" (in the gate), "idle" (no samples), "suspended" (silent), "draining" (about to leave),
  /// "preparing" (reads a job's data), "ready" (has read it), "unable" (cannot do the job).
  std::string state;
  std::string device;
  std::string hardware;
  std::string refusal;                       ///< why it is unable to do the job
  std::optional<JobId> job;                  ///< in which it takes part
  std::optional<std::uint64_t> entry_clock;  ///< rounds below it do not exist for this worker
  std::optional<std::uint64_t> clock;        ///< its rounds below it are settled on every shard
  std::uint64_t leased_samples = 0;          ///< lent to it and not counted yet
  bool at_gate = false;                      ///< waits for other workers' rounds
  bool slowest = false;                      ///< active, and nobody active has a smaller clock
  double samples_per_s = 0;
  double stall_fraction = 0;
  PipelineReport pipeline;  ///< in its job; without ages
  std::uint32_t staleness = 0;
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  double last_heard_s = 0;  ///< for so long it has been silent
  std::optional<double> round_trip_s;
};

/// The running job's membership.
struct MembershipReport {
  JobId job;
  std::uint64_t epoch = 0;
  std::uint32_t active = 0;
  std::optional<std::uint64_t> smallest_clock;  ///< of the active ones
  std::vector<std::string> gate_waits_for;  ///< if somebody waits: the slowest that do not wait themselves
};

/// An incarnation that is no more.
struct GoneReport {
  IncarnationOrder order;
  std::string name;
  std::string site;
  std::string reason;
  std::optional<JobId> job;  ///< in which it took part
  std::uint64_t clock = 0;
  double seconds_ago = 0;
};

struct WorkersReport {
  std::optional<MembershipReport> membership;
  std::vector<WorkerReport> workers;  ///< the oldest incarnation first
  std::vector<GoneReport> gone;       ///< the last ones, the newest first
};

}  // namespace nanduti
