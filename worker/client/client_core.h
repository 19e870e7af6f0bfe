#pragma once

#include <cstdint>
#include <deque>
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
};

/// What a worker's host has found out about a job.
struct LoadedJob {
  DataDescription data;
  std::uint64_t layout_hash = 0;
  std::uint64_t parameters = 0;     ///< size of the parameter space
  std::uint64_t round_samples = 1;  ///< local_steps * batch_size
  std::optional<std::uint32_t> bound;
  bool deterministic = false;
  std::uint64_t seed = 0;
  std::shared_ptr<const Codec> codec;
};

/// What a worker's host has counted on its sockets since the process began.
struct TrafficCounters {
  std::uint64_t bytes_up = 0;  ///< that the other sides have acknowledged
  std::uint64_t bytes_down = 0;
  double round_trip_seconds = 0;  ///< 0: not measured
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
  /// Completes ComputeRound.
  struct RoundComputed {
    JobId job;
    std::vector<float> progress;  ///< x_before - x_after, shape [parameters]
    double loss_sum = 0;
    double compute_seconds = 0;
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
  /// A round or an evaluation cannot be done: a failing device, a loss that is no number. Completes either.
  struct WorkFailed {
    JobId job;
    std::string reason;
  };
  /// SIGTERM: finish the round, hand back the rest, leave.
  struct DrainRequested {};
  using Event = std::variant<PeerConnected, PeerClosed, MessageReceived, MessageAcked, JobLoaded,
                             RoundComputed, CutEvaluated, WorkFailed, DrainRequested>;

  struct LoadJob {
    JobId job;
    std::string spec_text;
  };
  /// Slow work, one at a time: rounds and evaluations never overlap.
  struct ComputeRound {
    JobId job;
    Round round;
    SampleRange range;
    std::shared_ptr<const std::vector<float>> parameters;  ///< x, shape [parameters]
  };
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
  using Action = std::variant<SendMessage, OpenPeer, ClosePeer, LoadJob, ComputeRound, EvaluateCut, UnloadJob,
                              Stopped, Note>;

  ClientCore(const ClientOptions& options, RandomStream random);

  void on_event(ProtocolTime now, const Event& event);
  void on_deadline(ProtocolTime now);
  [[nodiscard]] ProtocolTime next_deadline() const;
  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }

  /// The host calls this now and then, at best before events and deadlines: statuses carry what has come to
  /// since the worker took the job.
  void set_traffic(const TrafficCounters& traffic) { traffic_ = traffic; }

  // For checkers.
  [[nodiscard]] const Replica* replica() const;
  [[nodiscard]] IncarnationOrder order() const { return order_; }
  [[nodiscard]] Round next_round() const { return job_ ? job_->round : Round(); }
  /// What the next round is to come from; null without a lease.
  [[nodiscard]] const LeaseGrant* next_lease() const {
    return job_ && !job_->leases.empty() ? &job_->leases.front() : nullptr;
  }
  /// Computing or evaluating, or about to stop.
  [[nodiscard]] bool is_busy() const { return draining_ || (job_ && (job_->computing || job_->evaluating)); }

 private:
  /// The parameters of a cut, for all evaluations of it that this worker was asked for. Kept while there are
  /// any: kCutsMax at most, as a shard does.
  struct Cut {
    std::set<ShardIndex> missing;
    std::shared_ptr<std::vector<float>> parameters;  // shape [parameters]; null before the first shard's
  };
  struct Job {
    JobId id;
    std::optional<LoadedJob> loaded;
    std::optional<JoinJob> join_asked;  // before it was loaded
    std::vector<ShardPlace> places;
    std::map<PeerId, ShardIndex> shards;
    std::vector<bool> subscribed;
    std::vector<bool> has_gap;           // per shard: asked again for what follows its last version
    std::vector<Sequence> next_to_send;  // per shard
    std::vector<Sequence> delivered;     // per shard: pushes below it have arrived, settled or not
    std::optional<Replica> replica;
    std::deque<LeaseGrant> leases;  // range.begin moves on as rounds are begun
    bool lease_asked = false;
    bool lease_refused = false;  // the coordinator grants when there is one
    Round round;                 // the next one
    std::optional<RoundName> computing;
    std::deque<EvaluationLease> evaluations;
    std::map<CutId, Cut> cuts;  // those that evaluations need
    std::optional<EvaluationLease> evaluating;
    bool flush_asked = false;
    bool flush_reported = false;
    bool flush_in_step = false;  // deterministic: the shards wait for a flush of everybody, also an empty one
    ProtocolTime waiting_since = kNever;
    Replica::Gate gate = Replica::Gate::kOpen;  // as it was found last
    bool at_gate = false;
    ProtocolTime start_over_at = kNever;  // a shard has closed its session for good
    WorkerStatus status;
    TrafficCounters traffic_before;  // of the job
  };

  void handle(ProtocolTime now, const PeerConnected& event);
  void handle(ProtocolTime now, const PeerClosed& event);
  void handle(ProtocolTime now, const MessageReceived& event);
  void handle(ProtocolTime now, const MessageAcked& event);
  void handle(ProtocolTime now, const JobLoaded& event);
  void handle(ProtocolTime now, const RoundComputed& event);
  void handle(ProtocolTime now, const CutEvaluated& event);
  void handle(ProtocolTime now, const WorkFailed& event);
  void handle(ProtocolTime now, const DrainRequested& event);

  void on_coordinator_message(ProtocolTime now, const Message& message);
  void on_shard_message(ProtocolTime now, PeerId peer, ShardIndex shard, const Message& message);
  void register_worker();
  void prepare(const PrepareJob& request);
  void join(const JoinJob& request);
  void leave_job(const std::string& reason);
  void start_over(const std::string& reason);
  void give_up(ProtocolTime now, const std::string& reason);
  void subscribe(PeerId peer, ShardIndex shard);
  void on_version(PeerId peer, ShardIndex shard, std::variant<Publish, Assign> version);
  void on_subscribed(PeerId peer, ShardIndex shard, Sequence next_sequence);
  void on_evaluation_lease(const EvaluationLease& lease);
  void on_cut_values(ProtocolTime now, ShardIndex shard, const CutValues& values);
  void drop_unneeded_cuts();
  /// Does whatever can be done now.
  void advance(ProtocolTime now);
  [[nodiscard]] bool begin_evaluation();
  /// False if it has ended already: a round without samples.
  bool begin_round(ProtocolTime now);
  void ask_for_lease();
  void flush_if_asked();
  [[nodiscard]] bool waits_for_others() const;
  void finish_drain(ProtocolTime now);
  void send_pushes();
  void send_status(ProtocolTime now);
  void tell_status(ProtocolTime now);
  void account_waiting(ProtocolTime now);
  void tell_coordinator(Message message);
  void note(std::string text, bool warning = false) { actions_.push_back(Note{std::move(text), warning}); }

  ClientOptions options_;
  RandomStream random_;
  IncarnationId incarnation_;
  IncarnationOrder order_;
  bool connected_ = false;
  bool draining_ = false;
  bool stopped_ = false;
  std::uint64_t next_peer_ = 1;
  ProtocolTime next_status_ = kNever;
  TrafficCounters traffic_;
  std::optional<Job> job_;
  std::vector<Action> actions_;
};

}  // namespace nanduti
