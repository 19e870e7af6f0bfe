#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "common/config/worker_config.h"
#include "common/net/core_runner.h"
#include "common/net/event_loop.h"
#include "common/net/zmq_transport.h"
#include "worker/client/client_core.h"
#include "worker/device/compute_device.h"

namespace nanduti {

/// A worker's program around its ClientCore, on threads of their own: the core; coding and merging (the
/// replica); computing (loading, training, evaluating). Each is fed by a queue in order:
///
///   core --versions, acks, the next round's samples--> replica --x--> compute
///   core <--pushes, verdicts-- replica <--progress-- compute
///
/// What waits in them is bounded: one round offered, one computed, ClientOptions::unmerged_bytes_max of
/// versions. The computing thread takes no lock but its own queue's.
class WorkerHost {
 public:
  /// `on_stopped` is called once, on the core's thread, when the worker has left or cannot go on.
  WorkerHost(const WorkerConfig& config, ZmqTransport& transport, std::shared_ptr<ComputeDevice> device,
             std::function<void()> on_stopped);
  ~WorkerHost();
  WorkerHost(const WorkerHost&) = delete;
  WorkerHost& operator=(const WorkerHost&) = delete;

  void start();
  /// Finish the round, hand the rest back, leave; on_stopped follows unless the coordinator is away.
  void drain();
  /// Any thread but the core's.
  std::vector<NamedCount> counters() { return runner_.counters(); }
  /// Why the worker cannot go on; empty if it has left as asked. Valid after on_stopped.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  struct Work;      // what the computing thread holds of a job
  struct Pipeline;  // what the coding thread does

  void carry_out(const ClientCore::Action& action);
  void load(const ClientCore::LoadJob& request, std::stop_token stop);
  void compute(const Replica::ComputeRound& request, std::stop_token stop);
  void evaluate(const ClientCore::EvaluateCut& request, std::stop_token stop);
  Result<LoadedJob> load_job(const ClientCore::LoadJob& request);
  // Coding thread.
  void open_replica(const ReplicaOptions& options, std::stop_token stop);
  void feed(Replica::Event event, const std::stop_token& stop);
  void carry_out(const Replica::Action& action, const std::stop_token& stop);
  void worked(ProtocolTime begin, ProtocolTime end, double cpu_seconds);
  // Computing and coding threads.
  void fail(JobId job, const Error& error, const std::stop_token& stop);

  WorkerConfig config_;
  std::shared_ptr<ComputeDevice> device_;
  std::function<void()> on_stopped_;
  std::string failure_;
  std::mutex device_mutex_;
  std::string device_failure_;  // nothing can be computed any more; under the mutex
  // Core's thread. Ends what still runs for the job, and keeps its completions from a later life of it.
  std::stop_source job_stop_;
  std::unique_ptr<Work> work_;          // computing thread
  std::unique_ptr<Pipeline> pipeline_;  // coding thread
  EventLoop compute_;
  EventLoop coding_;
  CoreRunner<ClientCore> runner_;
};

}  // namespace nanduti
