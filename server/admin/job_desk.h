#pragma once

#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/named_count.h"
#include "common/base/result.h"
#include "server/coordinator/reports.h"

namespace nanduti {

/// What this process has counted while it runs. Names are the same in code, JSON and logs.
struct CoreCounters {
  std::string core;  ///< "coordinator", "shard 1"
  std::vector<NamedCount> counts;
};
struct ProcessCounters {
  std::vector<NamedCount> transport;
  std::vector<CoreCounters> cores;
};

/// Where requests of operators go: the host implements it by posting to the coordinator's thread and waiting
/// for the answer. Called on the HTTP server's thread. Any call may give kUnavailable while the server starts
/// or stops.
class JobDesk {
 public:
  virtual ~JobDesk() = default;

  /// Queues the job that `yaml` describes; `name` stands for its file in errors. Errors: kInvalidArgument
  /// with a whole sentence for the operator; kExhausted if too many jobs wait.
  virtual Result<JobId> submit(std::string yaml, std::string name) = 0;
  /// Ends a job that waits or runs. Errors: kNotFound.
  virtual Status cancel(JobId job) = 0;
  /// Changes staleness and compression of a job that trains: the keys that `yaml` names, as in a job's file;
  /// `name` stands for the file in errors. Errors: kInvalidArgument with a whole sentence for the operator,
  /// kNotFound, kRefused.
  virtual Status tune(JobId job, std::string yaml, std::string name) = 0;
  /// All jobs, oldest first.
  virtual Result<std::vector<JobReport>> jobs() = 0;
  /// Errors: kNotFound.
  virtual Result<JobReport> job(JobId job) = 0;
  virtual Result<WorkersReport> workers() = 0;
  virtual Result<ProcessCounters> counters() = 0;
};

}  // namespace nanduti
