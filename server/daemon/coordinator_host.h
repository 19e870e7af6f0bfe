#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/config/job_config.h"
#include "common/config/server_config.h"
#include "common/config/tuning.h"
#include "common/model/resolved_model.h"
#include "common/net/core_runner.h"
#include "common/net/event_loop.h"
#include "common/net/zmq_transport.h"
#include "server/admin/job_desk.h"
#include "server/coordinator/coordinator_core.h"
#include "server/storage/storage_directory.h"

namespace nanduti {

/// The coordinator of a server's program: its CoordinatorCore on a thread of its own, the jobs' files, and
/// the desk that operators' requests come to.
class CoordinatorHost final : public JobDesk {
 public:
  /// Files are written on `slow`. Both outlive the host.
  CoordinatorHost(const ServerConfig& config, ZmqTransport& transport, EventLoop& slow,
                  StorageDirectory storage);

  void start();
  /// Takes no more jobs and ends what waits or runs, with this reason; the records are written on `slow`.
  /// Returns whether there was any.
  bool end_jobs(const std::string& reason);
  void stop() { runner_.stop(); }
  /// What counters() gives beside the coordinator's own. Before the first call of that; `others` runs on its
  /// thread.
  void set_process_counters(std::function<ProcessCounters()> others) { others_ = std::move(others); }
  /// Any thread but the core's; also after stop().
  CoreCounters own_counters() { return {"coordinator", runner_.counters()}; }

  Result<JobId> submit(std::string yaml, std::string name) override;
  Status cancel(JobId job) override;
  Status tune(JobId job, std::string yaml, std::string name) override;
  Result<std::vector<JobReport>> jobs() override;
  Result<JobReport> job(JobId job) override;
  Result<WorkersReport> workers() override;
  Result<ProcessCounters> counters() override;

 private:
  /// What is known of a job outside the core.
  struct Job {
    JobConfig config;
    TuningSpec tuned;                    ///< what an operator has asked for last
    std::string started;                 ///< UTC; empty while it waits
    std::optional<ResolvedModel> model;  ///< once the data is known
    JobState state = JobState::kQueued;  ///< that the log has told
    std::size_t epochs_logged = 0;
    bool model_saved = false;
    bool run_saved = false;
  };

  void carry_out(const CoordinatorCore::Action& action);
  void plan(const CoordinatorCore::PlanModel& request);
  void save_checkpoint(const CoordinatorCore::SaveCheckpoint& request);
  Status save_model(const CoordinatorCore::SaveResult& request);
  void on_job_changed(JobId id);
  [[nodiscard]] ResolvedModel model_of(JobId id);
  void write_run(const JobReport& report);
  [[nodiscard]] JobReport with_paths(JobReport report);

  EventLoop& slow_;
  std::function<ProcessCounters()> others_;
  std::mutex mutex_;  // jobs_, ending_
  bool ending_ = false;
  std::map<JobId, Job> jobs_;
  std::mutex storage_mutex_;  // methods of storage_ that read or write files; never together with mutex_
  StorageDirectory storage_;
  JobId next_job_{1};  // with storage_mutex_
  CoreRunner<CoordinatorCore> runner_;
};

}  // namespace nanduti
