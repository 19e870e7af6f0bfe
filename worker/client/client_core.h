#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "common/base/random.h"
#include "common/codec/codec.h"
#include "common/protocol/session_hub.h"
#include "worker/client/replica.h"
#include "worker/client/turnaround.h"

namespace nanduti {

struct ClientOptions {
  std::string coordinator_endpoint;
  std::string program_version;
  RegisterWorker registration;  ///< without the incarnation, which the core makes up
  Duration status_every = std::chrono::seconds(1);
  std::uint32_t window_rounds_max = 64;  ///< unacknowledged rounds; beyond: the worker waits
  /// Bytes of pushes that a shard has not acknowledged, later ones are held back; and memory of those that
  /// the merged versions do not hold, of all shards: beyond, the worker waits. Less than a session's
  /// queue_bytes_max, and at least two bandwidth-delay products.
  std::size_t window_bytes_max = std::size_t{256} << 20;
  /// Bytes of versions that wait to be merged; one that comes on top is dropped, and its shard subscribed to
  /// again once all are merged: it then sends what has changed in one go.
  std::size_t unmerged_bytes_max = std::size_t{256} << 20;
};

/// What a worker's host has found out about a job.
struct LoadedJob : RoundSettings {  ///< as its own YAML has them
  DataDescription data;
  std::uint64_t layout_hash = 0;
  std::uint64_t parameters = 0;  ///< size of the parameter space
  bool deterministic = false;
  /// What the job begins with, shape [parameters]: then the shards need not send it. Null: they do.
  std::shared_ptr<const std::vector<float>> initial_values = nullptr;
  /// Reads Tune::settings, where there are any. Pure.
  std::function<Result<RoundSettings>(const std::string&)> read_settings;
};

/// Leases that a worker has before it, at most: in lockstep some have no samples.
inline constexpr std::size_t kLeasesMax = 64;

/// What a worker's host has measured on its threads, since a job was loaded.
struct PipelineFigures {
  StallSeconds stall;
  double compute_cpu_seconds = 0;  ///< of the computing thread, evaluations included
  double codec_cpu_seconds = 0;    ///< of the thread that codes and merges
  double residual_norm = 0;        ///< Replica::residual_norm(), now and then
};

/// What a worker's host has counted on its sockets since the process began.
struct TrafficCounters {
  std::uint64_t bytes_up = 0;  ///< that the other sides have acknowledged
  std::uint64_t bytes_down = 0;
  double round_trip_seconds = 0;  ///< 0: not measured
  double round_trip_deviation_seconds = 0;
  double path_bytes_per_second = 0;  ///< 0: never used up
};

/// A worker's side of the protocol: registers, takes a job, leases samples, decides when a round may begin,
/// pushes what it gave, evaluates, drains. No I/O, threads or clock. One thread.
class ClientCore {
 public:
  /// Completes LoadJob.
  struct JobLoaded {
    JobId job;
    Result<LoadedJob> result;
  };
  /// From the job's replica, in the order in which it made them.
  struct ReplicaReported {
    JobId job;
    Replica::Report report;
  };
  /// What the host has measured on the threads of the job, since it was loaded.
  struct PipelineMeasured {
    JobId job;
    PipelineFigures figures;
  };
  /// Completes EvaluateCut.
  struct CutEvaluated {
    JobId job;
    LeaseId lease;
    std::uint64_t correct = 0;
    std::uint64_t total = 0;
    double loss_sum = 0;
    double seconds = 0;
  };
  /// Something of the job cannot be done: a failing device, no memory, a loss that is no number. In place of
  /// a round's or an evaluation's completion, or of what the replica would have reported.
  struct WorkFailed {
    JobId job;
    std::string reason;
  };
  /// SIGTERM: finish the round, hand back the rest, leave.
  struct DrainRequested {};
  using Event = std::variant<PeerConnected, PeerClosed, MessageReceived, MessageAcked, JobLoaded,
                             ReplicaReported, PipelineMeasured, CutEvaluated, WorkFailed, DrainRequested>;

  struct LoadJob {
    JobId job;
    std::string spec_text;
  };
  /// The job has a replica from now on, until UnloadJob; the host has it where coding and merging are done.
  struct OpenReplica {
    ReplicaOptions options;
  };
  /// For the replica, in this order.
  struct ReplicaWork {
    Replica::Event event;
  };
  /// Whether the job has samples for this worker to train, as far as is known: if not, time without work is
  /// no stall.
  struct WorkExpected {
    bool expected = false;
  };
  /// Slow work, one at a time, between rounds.
  struct EvaluateCut {
    JobId job;
    LeaseId lease;
    std::uint64_t begin = 0;  ///< test samples [begin, end)
    std::uint64_t end = 0;
    std::shared_ptr<const std::vector<float>> parameters;
  };
  /// The job is over here: what still runs for it may stop, and completions of work begun before this are not
  /// to be delivered any more (the same job may begin anew, under another incarnation).
  struct UnloadJob {
    JobId job;
  };
  /// The worker has left (`failure` empty) or cannot go on.
  struct Stopped {
    std::string failure;
  };
  struct Note {
    std::string text;
    bool warning = false;
  };
  using Action = std::variant<SendMessage, OpenPeer, ClosePeer, LoadJob, OpenReplica, ReplicaWork,
                              WorkExpected, EvaluateCut, UnloadJob, Stopped, Note>;

  ClientCore(const ClientOptions& options, RandomStream random);

  void on_event(ProtocolTime now, const Event& event);
  void on_deadline(ProtocolTime now);
  [[nodiscard]] ProtocolTime next_deadline() const;
  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }

  /// The host calls this now and then, at best before events and deadlines: statuses carry what has come to
  /// since the worker took the job.
  void set_traffic(const TrafficCounters& traffic) { traffic_ = traffic; }

  // For checkers.
  [[nodiscard]] IncarnationOrder order() const { return order_; }
  /// Pushes below it are durable at the shard, as it has said. Precondition: a job has been joined.
  [[nodiscard]] Sequence acknowledged(ShardIndex shard) const {
    return job_->links.at(shard.value()).acknowledged;
  }
  /// There is a lease, and nothing of it has been offered to the replica.
  [[nodiscard]] bool withholds_work() const {
    return job_ && job_->joined && !draining_ && !job_->leases.empty() && !job_->offered;
  }

 private:
  static constexpr PeerId kCoordinator{0};
  static constexpr StreamIndex kControl{0};
  static constexpr StreamIndex kBulk{1};
  /// The parameters of a cut, for all evaluations of it that this worker was asked for. Kept while there are
  /// any: kCutsMax at most, as a shard does.
  struct Cut {
    std::set<ShardIndex> missing;
    std::shared_ptr<std::vector<float>> parameters;  // shape [parameters]; null before the first shard's
  };
  /// A shard as the worker's sessions know it.
  struct ShardLink {
    PeerId peer;
    bool subscribed = false;
    std::uint64_t initial_fingerprint = 0;
    // The newest version that was handed to the replica.
    ChainId chain;
    Version version;
    bool has_gap = false;   // asked again for what follows the version
    bool behind = false;    // a version was dropped: unmerged_bytes_max
    std::deque<Push> held;  // not acknowledged, in sequence
    Sequence next_to_send;
    Sequence acknowledged;
    Sequence delivered;  // pushes below it have arrived, settled or not
  };
  struct Job {
    JobId id;
    std::optional<LoadedJob> loaded;
    std::optional<JoinJob> join_asked;  // before it was loaded
    std::optional<Tune> tuning;         // the newest...
    std::optional<Tuned> tuned;         // ...and what the replica has taken last
    std::vector<ShardPlace> places;
    std::map<PeerId, ShardIndex> shards;
    std::vector<ShardLink> links;  // per shard
    Turnaround turnaround;
    bool joined = false;                // the replica is open
    LeaseId newest_lease;               // that was granted; older ones are not new
    std::optional<LeaseGrant> offered;  // to the replica; range.begin moves on as rounds begin
    std::deque<LeaseGrant> leases;      // the ones after it
    std::uint64_t ahead = 0;            // as the newest grant says
    bool lease_asked = false;
    bool lease_refused = false;  // the coordinator grants when there is one
    std::size_t unmerged_bytes = 0;
    bool work_expected = false;
    bool withdrawing = false;   // the replica is asked to give back what it has not begun
    std::uint32_t uncoded = 0;  // rounds that have begun and are not pushed yet
    std::deque<EvaluationLease> evaluations;
    std::map<CutId, Cut> cuts;  // those that evaluations need
    std::optional<EvaluationLease> evaluating;
    bool flush_asked = false;
    bool flush_told = false;  // the coordinator has asked
    bool flush_reported = false;
    bool flush_in_step = false;  // deterministic: the shards wait for a flush of everybody, also an empty one
    bool flushing = false;       // the replica is
    bool flushing_last = false;  // and all pushes were acknowledged before
    bool flushed = false;        // nothing was left then
    bool residual_left = false;  // as far as is known
    bool flush_made = false;     // since the last round: what returns goes when all is acknowledged, at once
    bool flushed_in_step = false;               // the last flush is a step that all have to take
    Replica::Gate gate = Replica::Gate::kOpen;  // as it was found last
    ProtocolTime start_over_at = kNever;        // a shard has closed its session for good
    WorkerStatus status;
    TrafficCounters traffic_before;  // of the job
  };

  void handle(ProtocolTime now, const PeerConnected& event);
  void handle(ProtocolTime now, const PeerClosed& event);
  void handle(ProtocolTime now, const MessageReceived& event);
  void handle(ProtocolTime now, const MessageAcked& event);
  void handle(ProtocolTime now, const JobLoaded& event);
  void handle(ProtocolTime now, const ReplicaReported& event);
  void handle(ProtocolTime now, const PipelineMeasured& event);
  void handle(ProtocolTime now, const CutEvaluated& event);
  void handle(ProtocolTime now, const WorkFailed& event);
  void handle(ProtocolTime now, const DrainRequested& event);

  void on_coordinator_message(const Message& message);
  void on_shard_message(ShardIndex shard, const Message& message);
  void register_worker();
  void on_registered(IncarnationOrder order);
  void prepare(const PrepareJob& request);
  void join(const JoinJob& request);
  void on_lease(const LeaseGrant& lease);
  void tune(const Tune& request);
  void apply_tuning();
  void leave_job(const std::string& reason);
  void start_over(const std::string& reason);
  void give_up(const std::string& reason);
  void subscribe(ShardIndex shard);
  void on_version(ShardIndex shard, std::variant<Publish, Assign> version);
  void on_gap(ShardIndex shard, bool adds, const std::string& reason);
  void on_subscribed(ShardIndex shard, Sequence next_sequence);
  void on_evaluation_lease(const EvaluationLease& lease);
  void on_cut_values(ShardIndex shard, const CutValues& values);
  void drop_unneeded_cuts();
  void on_ack(ShardIndex shard, Sequence next_sequence, std::vector<ReturnedPush> returned);
  // From the replica.
  void take(ProtocolTime now, const Replica::Verdicts& report);
  void take(ProtocolTime now, const Replica::VersionTaken& report);
  void take(ProtocolTime now, const Replica::MergeFailed& report);
  void take(ProtocolTime now, const Replica::RoundBegun& report);
  void take(ProtocolTime now, const Replica::RoundExtended& report);
  void take(ProtocolTime now, const Replica::RoundCoded& report);
  void take(ProtocolTime now, const Replica::RoundsWithdrawn& report);
  void take(ProtocolTime now, const Replica::TuningTaken& report);
  void take(ProtocolTime now, const Replica::Flushed& report);
  void take(ProtocolTime now, const Replica::GateChanged& report);
  void hold(const std::vector<Push>& pushes);
  [[nodiscard]] bool is_acknowledged() const;
  void tell_replica(Replica::Event event) { actions_.push_back(ReplicaWork{std::move(event)}); }
  /// Does whatever can be done now.
  void advance();
  void begin_evaluation();
  void offer_rounds();
  void on_begun(const SampleRange& range);
  void count_work(std::uint64_t samples, double loss_sum, double compute_seconds);
  void tell_whether_work_is_expected();
  void on_merged(std::size_t bytes);
  void ask_for_lease();
  void flush_if_asked();
  [[nodiscard]] bool waits_for_others() const;
  void finish_drain();
  void send_pushes();
  void send_status(ProtocolTime now);
  void tell_status();
  void tell_coordinator(Message message);
  void note(std::string text, bool warning = false) { actions_.push_back(Note{std::move(text), warning}); }

  ClientOptions options_;
  RandomStream random_;
  IncarnationId incarnation_;
  IncarnationOrder order_;
  bool connected_ = false;
  bool registered_ =
      false;  // in this session: what is told of a job is of the life that the coordinator knows
  bool draining_ = false;
  bool stopped_ = false;
  std::uint64_t next_peer_ = 1;
  ProtocolTime next_status_ = kNever;
  TrafficCounters traffic_;
  std::optional<Job> job_;
  std::vector<Action> actions_;
};

}  // namespace nanduti
