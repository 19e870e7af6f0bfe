#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
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
#include "server/daemon/storage_thread.h"
#include "server/storage/storage_directory.h"

namespace nanduti {

/// The coordinator of a server's program: its CoordinatorCore on a thread of its own and its log on another,
/// the jobs' files, and the desk that operators' requests come to.
class CoordinatorHost final : public JobDesk {
 public:
  /// Files are written on `slow`. Both outlive the host. It goes on where `log` ends. Errors: those of
  /// CoordinatorCore::recover, and of a job that this program does not understand.
  static Result<std::unique_ptr<CoordinatorHost>> create(const ServerConfig& config, ZmqTransport& transport,
                                                         EventLoop& slow, StorageDirectory storage,
                                                         LogStorage log);

  void start();
  void stop();
  /// Jobs that wait or run, for people. As counters().
  std::vector<JobId> unfinished_jobs();
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
    std::optional<ResolvedModel> model;  ///< once the data is known
    JobState state = JobState::kQueued;  ///< that the log has told
    std::size_t epochs_logged = 0;
    bool model_saved = false;
    bool run_saved = false;
  };

  CoordinatorHost(const ServerConfig& config, ZmqTransport& transport, EventLoop& slow,
                  StorageDirectory storage, CoordinatorCore core);
  Status know_again(const JobReport& report, const std::string& spec_text,
                    const std::optional<DataDescription>& data);
  Status do_durably(std::function<void(CoordinatorCore&, ProtocolTime)> work);
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
  std::mutex mutex_;  // jobs_
  std::map<JobId, Job> jobs_;
  std::mutex storage_mutex_;  // methods of storage_ that read or write files; never together with mutex_
  StorageDirectory storage_;
  JobId next_job_{1};  // with storage_mutex_
  CoreRunner<CoordinatorCore> runner_;
  std::unique_ptr<StorageThread> log_;
};

}  // namespace nanduti
