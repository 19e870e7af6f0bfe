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

#include "common/base/named_count.h"
#include "common/base/storage_work.h"
#include "common/protocol/session_hub.h"
#include "server/coordinator/auto_tuner.h"
#include "server/coordinator/job_figures.h"
#include "server/coordinator/lease_book.h"
#include "server/coordinator/reports.h"

namespace nanduti {

/// What others are waited for, and no longer. Who is silent is suspended and then dead; the rest is for those
/// who are heard of and do not do what they were asked.
struct CoordinatorOptions {
  std::uint32_t shards = 1;  ///< that have to be registered before a job opens
  Duration suspend_after = std::chrono::seconds(10);
  Duration dead_after = std::chrono::minutes(10);
  /// A round, an evaluation or the last updates, without a sign of work: the worker is dead, or the
  /// evaluation somebody else's.
  Duration lease_timeout = std::chrono::seconds(120);
  /// Reading a job's data: the worker counts as unable until it has.
  Duration prepare_timeout = std::chrono::minutes(30);
  /// Opening, fencing, a cut or rest on a shard, or its return when its server has ended: the job fails.
  Duration shard_timeout = std::chrono::minutes(10);
  /// Whether what jobs are like outlives the process: if not, AppendLog never comes.
  bool durable = false;
  /// What others wait for is written once in so long, at most.
  Duration save_every = std::chrono::milliseconds(20);
  /// What a wall clock shows, less ProtocolTime: seconds that are told of a job go on when it does.
  Duration wall_offset{0};
};

/// What nobody waits for is written once in so long.
inline constexpr Duration kSaveIdleEvery = std::chrono::milliseconds(250);
/// A snapshot is due when the log since the last one has become so long, and longer than it.
inline constexpr std::uint64_t kCoordinatorLogBytes = std::uint64_t{4} << 20;

/// Signs of work without a round that counts put the end off for so many lease times: they are claims.
inline constexpr int kUnsettledLeasesMax = 10;
/// A transfer over a thin link is a sign of work while so many bytes move within this time.
inline constexpr std::uint64_t kTrafficBytesMin = std::uint64_t{64} << 10;
inline constexpr Duration kTrafficSpan = std::chrono::minutes(1);
/// A model that leaves more parameters to each shard fails its job. A session may have to hold a version and
/// all cuts of a shard at once.
inline constexpr std::uint64_t kShardParametersMax = std::uint64_t{40} << 20;
static_assert((kCutsMax + 1) * shard_payload_bytes_max(kShardParametersMax) <
              SessionOptions().queue_bytes_max);
/// Workers that have taken part in a job, for its record; later ones are left out, with a warning.
inline constexpr std::size_t kParticipantsMax = 1024;
/// What is kept of a peer's text about its hardware or of why it refuses a job; longer ones are cut off.
inline constexpr std::size_t kKeptTextBytesMax = 1024;
/// So many evaluations of one part of the test set may run into their time-out; then the cut has no figures.
inline constexpr std::uint32_t kEvaluationTriesMax = 5;
/// Samples of a part of the test set, at least, and such parts of one cut, at most, where two for each worker
/// are longer than a round.
inline constexpr std::uint64_t kEvaluationPartMin = 256;
inline constexpr std::uint64_t kEvaluationPartsMax = 64;
/// Cuts that are open, ends of epochs included, when one within an epoch is taken; beyond: it is skipped.
/// Less than what the ends of epochs may have, so that those do not wait for it.
inline constexpr std::size_t kOpenEvaluationsMax = 2;
static_assert(kOpenEvaluationsMax + 1 < kCutsMax);
/// Evaluations within the epochs of one job; later ones are skipped.
inline constexpr std::size_t kEvaluationsMax = 1000;
/// Workers that are gone, for operators.
inline constexpr std::size_t kGoneMax = 16;

/// What the coordinator has to know of a job's YAML.
struct JobPlan {
  JobId id;
  std::uint64_t key = 0;  ///< OpenShard::key
  std::string name;
  std::string spec_text;
  std::uint32_t epochs = 1;
  std::uint32_t batch_size = 1;
  StalenessPlan staleness;
  /// Samples between cuts that are evaluated beside the ends of epochs; 0: none.
  std::uint64_t evaluate_every = 0;
  std::uint32_t workers_to_start = 1;
  std::optional<double> target_accuracy;
  /// Exactly `workers_to_start` workers take part, each with samples of its own by rank: the same model bytes
  /// every time, as long as none of them dies. Others join only then.
  bool deterministic = false;
};

/// What holds for a job's rounds, and since when.
struct Tuning {
  std::uint64_t number = 0;  ///< 0: what the job's own YAML says
  StalenessPlan staleness;
  std::string settings;  ///< Tune::settings
  std::string why;       ///< for people
  Round from_round;      ///< that was asked for
  bool in_force = true;  ///< every active worker has said so...
  Round in_force_from;   ///< ...and for all of them it holds from this round on
  double seconds = 0;    ///< from the start of training until it was asked for
};
/// Tunings of a job that are remembered; beyond, the oldest ones are forgotten.
inline constexpr std::size_t kTuningsMax = 100;

/// Of the parameters of a cut, over the whole test set.
struct TestFigures {
  std::uint64_t correct = 0;
  std::uint64_t total = 0;
  double loss_sum = 0;
};

/// At the end of an epoch.
struct EpochFigures : TestFigures {
  std::uint32_t epoch = 0;  ///< epochs behind it: 1, 2, ...
};

/// Within an epoch.
struct EvaluationFigures : TestFigures {
  std::uint64_t samples = 0;      ///< that counted when the cut was asked for
  double seconds = 0;             ///< from the start of training until then
  double evaluation_seconds = 0;  ///< of these: JobFigures::evaluation_seconds
};

/// Workers, jobs, leases, membership and evaluation. One job runs at a time, the others are queued. No I/O,
/// threads or clock. One thread.
class CoordinatorCore {
 public:
  struct SubmitJob {
    JobPlan plan;
  };
  struct CancelJob {
    JobId job;
    std::string reason = "cancelled by an operator";
  };
  /// Changes a job that trains; what is auto before and after stays as it was chosen. `why`: for people.
  struct TuneJob {
    JobId job;
    StalenessPlan staleness;
    std::string settings;
    std::string why;
  };
  struct PlannedModel {
    std::uint64_t parameters = 0;
    std::uint64_t layout_hash = 0;
  };
  /// Completes PlanModel.
  struct ModelPlanned {
    JobId job;
    Result<PlannedModel> result;
  };
  /// Completes SaveResult.
  struct ResultSaved {
    JobId job;
    Status status;
  };
  using SnapshotEnded = nanduti::SnapshotEnded;
  using Event = std::variant<PeerConnected, PeerClosed, MessageReceived, MessageAcked, SubmitJob, CancelJob,
                             TuneJob, ModelPlanned, ResultSaved, SnapshotEnded>;

  struct PlanModel {
    JobId job;
    std::string spec_text;
    DataDescription data;
  };
  /// A cut of all shards, in order. Slow work without a completion: a checkpoint that fails is logged.
  struct SaveCheckpoint {
    JobId job;
    std::uint32_t epoch = 0;
    std::vector<CutTaken> shards;
  };
  /// The model at rest.
  struct SaveResult {
    JobId job;
    std::vector<CutTaken> shards;
  };
  /// The job's state is another one, or a cut has its figures.
  struct JobChanged {
    JobId job;
  };
  struct Note {
    std::string text;
    bool warning = false;
  };
  /// What comes after this must not leave before the next entry of the log is durable.
  struct StateChanged {};
  /// An entry is the state as a whole, but for jobs that are as the log has them already.
  using AppendLog = nanduti::AppendLog;
  using BeginSnapshot = nanduti::BeginSnapshot;
  using Action = std::variant<SendMessage, OpenPeer, ClosePeer, PlanModel, SaveCheckpoint, SaveResult,
                              JobChanged, Note, StateChanged, AppendLog, BeginSnapshot>;

  /// Done in the order in which it comes, and before what waits for it.
  static bool is_storage_work(const Action& action) {
    return std::holds_alternative<StateChanged>(action) || std::holds_alternative<AppendLog>(action) ||
           std::holds_alternative<BeginSnapshot>(action);
  }

  /// What followers see.
  struct JobView {
    JobPlan plan;
    JobState state = JobState::kQueued;
    std::string reason;
    std::uint64_t samples = 0;
    std::uint64_t samples_total = 0;
    std::uint64_t repeated_samples = 0;
    std::vector<EpochFigures> figures;
    std::vector<EvaluationFigures> evaluations;  ///< by samples
    std::uint64_t evaluations_skipped = 0;
    JobFigures progress;
    std::vector<Tuning> tunings;        ///< the newest last; empty before training
    std::vector<std::string> warnings;  ///< what the job's owner should know, such as lost reproducibility
    std::vector<ParticipantReport> participants;
    std::optional<ProtocolTime> started;  ///< it runs since then

    void shift(Duration by);
  };

  explicit CoordinatorCore(const CoordinatorOptions& options) : options_(options) {}
  /// A coordinator that goes on where its log ends: jobs that train go on when their shards and workers are
  /// back, those that had not begun to train begin again. `complete`: nothing that ever left it is missing.
  /// Errors: kCorrupt, where that makes no sense; kRefused, where a newer program has written it.
  static Result<CoordinatorCore> recover(const CoordinatorOptions& options, ProtocolTime now,
                                         const std::optional<SharedBytes>& snapshot,
                                         const std::vector<SharedBytes>& entries, bool complete);

  /// Workers and shards of any job; workers send no payload, shards the cuts of theirs.
  static Admission admission() { return {JobId(), 0, 0, kPayloadBytesMax}; }

  void on_event(ProtocolTime now, const Event& event);
  void on_deadline(ProtocolTime now);
  /// The host calls this now and then, at best before events and deadlines: when anything was heard of the
  /// peer's session, whoever its messages are for. Of shards; others are ignored.
  void set_last_heard(PeerId peer, ProtocolTime time);
  /// Whose sessions the host is to ask about.
  [[nodiscard]] std::vector<PeerId> shard_peers() const;
  [[nodiscard]] ProtocolTime next_deadline() const { return std::min(next_check_, save_due()); }
  /// So many entries of the log are durable, of all since the beginning.
  void on_durable(std::uint64_t entries) { durable_ = entries; }
  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }

  [[nodiscard]] const JobView* view(JobId job) const;
  /// Whether TuneJob would do anything. Errors: kNotFound; kRefused for a deterministic job and one that does
  /// not train, with a whole sentence for the operator.
  [[nodiscard]] Status check_tunable(JobId job) const;
  /// What operators see, as of `now` (coordinator_reports.cc).
  [[nodiscard]] std::optional<JobReport> job_report(ProtocolTime now, JobId job) const;
  [[nodiscard]] std::vector<JobReport> job_reports(ProtocolTime now) const;
  [[nodiscard]] WorkersReport workers_report(ProtocolTime now) const;
  [[nodiscard]] MembershipEpoch epoch() const { return run_ ? run_->epoch : MembershipEpoch(); }
  [[nodiscard]] std::size_t worker_count() const { return workers_.size(); }
  struct Counters {
    std::uint64_t registrations_refused = 0;  ///< of peers that are not what they say, or somebody else is
    std::uint64_t workers_dead = 0;           ///< declared dead, whatever the reason

    /// All of them by name, for people.
    [[nodiscard]] std::vector<NamedCount> named() const {
      return {{"registrations_refused", registrations_refused}, {"workers_dead", workers_dead}};
    }
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }
  /// A shard of the running job is not there: nobody is blamed for what does not settle.
  [[nodiscard]] bool waits_for_a_shard() const { return run_ && is_a_shard_away(); }
  /// The running job's data, once its workers have named it.
  [[nodiscard]] std::optional<DataDescription> data_of(JobId job) const {
    return run_ && run_->job == job ? run_->data : std::nullopt;
  }

 private:
  static constexpr Duration kCheckEvery = std::chrono::seconds(1);
  enum class Part { kNone, kPreparing, kPrepared, kRefused, kJoined };
  struct Worker {
    IncarnationOrder order;
    PeerId peer;  // 0: it has not come back since this process began
    RegisterWorker registration;
    ProtocolTime last_heard;
    Part part = Part::kNone;
    std::string refusal;
    bool differs = false;        // refused for what it differs in from another worker
    bool overdue = false;        // refused because it took too long
    ProtocolTime prepare_since;  // asked to read the job's data
    MemberState state = MemberState::kIdle;
    Round entry_clock;
    MembershipEpoch active_from;
    std::vector<Round> clocks;        // per shard
    ProtocolTime last_progress;       // settled a push, or gave a sign of work
    ProtocolTime last_settled;        // a round that counts or an evaluation, or began to be waited for
    std::uint64_t traffic_bytes = 0;  // that it had reported at traffic_since
    ProtocolTime traffic_since;
    bool wants_lease = false;
    bool draining = false;
    bool told_full = false;  // noted that it waits for room in the job
    bool flushed = false;
    bool at_gate = false;
    bool evaluates_late = false;  // has let an evaluation run into its time-out
    bool silent = false;          // for suspend_after or longer
    WorkerStatus status;          // the last one
    std::uint64_t tuned = 0;      // the number of the newest tuning that it has taken...
    Round tuned_from;             // ...and from which round on
    template <class Archive>
    void archive(Archive& a) {
      a(order, registration, part, state, entry_clock, active_from, clocks, draining, flushed, evaluates_late,
        tuned, tuned_from);
    }
  };
  struct Gone {
    IncarnationOrder order;
    std::string name;
    std::string site;
    std::string reason;
    std::optional<JobId> job;
    Round clock;
    ProtocolTime at;
  };
  struct Shard {
    PeerId peer;
    RegisterShard registration;
    bool connected = false;
    bool opened = false;
    bool at_rest = false;
    ProtocolTime away_since;                 // where it is not connected
    std::optional<ProtocolTime> last_heard;  // as far as the host says
    bool silent = false;                     // for suspend_after or longer
    std::uint64_t settled = 0;               // number of the newest SettleReport
    std::uint64_t confirmed = 0;             // as far as it has been told
  };
  struct EvaluationPart {
    IncarnationOrder order;  // 0: nobody's
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    ProtocolTime since;                // lent
    std::set<IncarnationOrder> asked;  // whose answer counts
    std::uint32_t tries_failed = 0;    // time-outs, and workers that died over it
  };
  struct FenceWait {
    std::uint64_t shards = 0;  // that have not answered yet, as bits
    ProtocolTime since;
    template <class Archive>
    void archive(Archive& a) {
      a(shards);
    }
  };
  struct Cut {
    std::uint32_t epoch = 0;  // that ends; 0: within one
    bool final = false;
    bool saved = false;
    ProtocolTime since;
    std::map<ShardIndex, CutTaken> shards;
    std::map<LeaseId, EvaluationPart> evaluation;
    EvaluationFigures figures;

    [[nodiscard]] std::string name() const;
    /// It is taken anew.
    template <class Archive>
    void archive(Archive& a) {
      a(epoch, final, figures.samples, figures.seconds, figures.evaluation_seconds);
    }
  };
  enum class Phase { kPreparing, kPlanning, kOpening, kTraining, kFlushing, kResting, kFinalCut, kSaving };
  struct Run {
    JobId job;
    Phase phase = Phase::kPreparing;
    std::optional<DataDescription> data;
    std::string refusal;  // the last one
    std::uint64_t layout_hash = 0;
    std::optional<PlannedModel> planned;  // the shards that take it may have to come yet
    std::vector<ShardPlace> places;       // empty until then
    std::optional<LeaseBook> book;
    std::optional<AutoTuner> tuner;
    ProtocolTime tuner_at{};              // it is asked next
    std::vector<IncarnationOrder> ranks;  // deterministic: who takes part; empty once one has died
    MembershipEpoch epoch;
    std::vector<std::uint32_t> active_counts;  // of epochs 1 to `epoch`
    bool membership_changed = false;
    bool participants_full = false;    // has been warned of
    std::set<IncarnationOrder> dying;  // to be named dead in the next membership
    std::map<IncarnationOrder, FenceWait> fences;
    ProtocolTime phase_since;
    std::uint32_t epochs_cut = 0;
    std::uint64_t evaluations_due = 0;   // times that evaluate_every samples have counted
    std::size_t evaluations_taken = 0;   // cuts within epochs
    std::uint32_t expired_in_a_row = 0;  // leases, without a push that settled in between
    ProtocolTime last_expired;
    std::map<CutId, Cut> cuts;
    std::vector<CutTaken> result;  // the final cut once it has its figures; saved when no other cut is open
    CutId next_cut{1};
    LeaseId next_evaluation{1};
    /// From kTraining on.
    template <class Archive>
    void archive(Archive& a) {
      a(job, phase, data, refusal, layout_hash, places, book, ranks, epoch, active_counts, participants_full,
        fences, epochs_cut, evaluations_due, evaluations_taken, expired_in_a_row, cuts, next_cut,
        next_evaluation);
    }
  };
  struct Entry;  // of the log

  void handle(ProtocolTime now, const PeerConnected& event);
  void handle(ProtocolTime now, const PeerClosed& event);
  void handle(ProtocolTime now, const MessageReceived& event);
  void handle(ProtocolTime now, const MessageAcked& event);
  void handle(ProtocolTime now, const SubmitJob& event);
  void handle(ProtocolTime now, const CancelJob& event);
  void handle(ProtocolTime now, const TuneJob& event);
  void handle(ProtocolTime now, const ModelPlanned& event);
  void handle(ProtocolTime now, const ResultSaved& event);
  void handle(ProtocolTime now, const SnapshotEnded& event);

  void register_worker(ProtocolTime now, PeerId peer, const RegisterWorker& request);
  [[nodiscard]] Worker* find_away(const RegisterWorker& request);
  void take_back_worker(Worker& worker, PeerId peer, const RegisterWorker& request);
  void register_shard(PeerId peer, const RegisterShard& request);
  void take_back_shard(ShardIndex index);
  void on_worker_message(ProtocolTime now, Worker& worker, const Message& message);
  void on_shard_message(ProtocolTime now, ShardIndex shard, const Message& message);
  void on_prepared(Worker& worker, const JobPrepared& m);
  void on_refused(Worker& worker, std::string reason);
  void end_if_all_refused();
  void on_settled(ProtocolTime now, ShardIndex shard, const SettleReport& report);
  void on_cut_taken(ShardIndex shard, const CutTaken& taken);
  void on_evaluated(Worker& worker, const EvaluationDone& done);

  /// Does whatever can be done now.
  void advance(ProtocolTime now);
  void start_next_job();
  void plan_when_prepared();
  void open_shards();
  void open_shard(ShardIndex index);
  void begin_training(ProtocolTime now);
  void join(Worker& worker);
  void record_participant(const Worker& worker);
  void serve_leases();
  [[nodiscard]] std::uint64_t rounds_in_round_trip(const Worker& worker) const;
  void grant(Worker& worker, const LeaseBook::Lease& lease);
  void serve_ranks();
  [[nodiscard]] bool is_lockstep() const { return run_ && !run_->ranks.empty(); }
  void retire_idle();
  void cut_complete_epochs();
  void cut_within_epochs();
  void take_cut(std::uint32_t epoch, bool final);
  void take_cuts_anew();
  [[nodiscard]] bool has_figures(std::uint32_t epoch);
  void lend_evaluations();
  void finish_cut(CutId id);
  void give_up_evaluations();
  void advance_end();
  void send_membership();
  [[nodiscard]] Membership membership() const;
  void take_out(Worker& worker);
  void enter(Phase phase);
  void activate(Worker& worker);
  void make_idle(Worker& worker);

  // Staleness and compression that change (coordinator_tuning.cc).
  void begin_tuning();
  void tune(StalenessPlan staleness, std::string settings, std::string why);
  void begin_waiting_anew();
  void tell_tuning(PeerId peer, Round from_round);
  void on_tuned(Worker& worker, const Tuned& tuned);
  void advance_tuning(ProtocolTime now);
  [[nodiscard]] std::vector<IncarnationOrder> active_workers() const;
  [[nodiscard]] std::uint64_t round_samples() const;

  // Whoever does not answer (coordinator_deadlines.cc).
  void look_around();
  void check_silence(Shard& shard);
  void check_silence(Worker& worker);
  void check_answers(Worker& worker);
  void check_round(Worker& worker);
  void check_evaluations();
  void check_shards();
  void expire_lease(Worker& worker);
  [[nodiscard]] bool waits_for_others(const Worker& worker) const;
  [[nodiscard]] bool is_stuck(const Worker& worker, ProtocolTime since) const;

  void release_evaluations(IncarnationOrder order, bool failed);
  void on_draining(Worker& worker);
  void end_lockstep(const Worker& worker);
  void declare_dead(Worker& worker, const std::string& reason);
  void bury(Worker& worker, const std::string& reason);
  void end_job(JobState state, const std::string& reason);
  [[nodiscard]] std::optional<Round> smallest_active_clock() const;
  [[nodiscard]] Round entry_clock() const;
  void forget_data_of_nobody();
  [[nodiscard]] Round clock(const Worker& worker) const;
  [[nodiscard]] std::uint32_t count_active() const;
  [[nodiscard]] std::size_t count_connected_shards() const;
  [[nodiscard]] bool is_a_shard_away() const;
  [[nodiscard]] bool has_job_of_run(const RegisterShard& registration) const;
  [[nodiscard]] Worker* worker_at(PeerId peer);
  [[nodiscard]] bool has_role(PeerId peer, PeerRole role);
  void send_away(PeerId peer, const std::string& reason);
  [[nodiscard]] bool moves_bytes(Worker& worker, const WorkerStatus& status) const;
  void on_status(ProtocolTime now, Worker& worker, const WorkerStatus& status);
  void record_progress(ProtocolTime now);
  [[nodiscard]] JobReport report(ProtocolTime now, const JobView& view) const;
  [[nodiscard]] std::string waits_for(ProtocolTime now, const JobView& view) const;
  [[nodiscard]] WorkerReport report(ProtocolTime now, const Worker& worker) const;
  [[nodiscard]] static std::string state_of(const Worker& worker);
  [[nodiscard]] std::optional<MembershipReport> membership_report() const;
  [[nodiscard]] JobView& view_of_run() { return jobs_.at(run_->job); }

  // What outlives the process (coordinator_durability.cc).
  void end_event();
  [[nodiscard]] ProtocolTime save_due() const;
  void save();
  [[nodiscard]] SharedBytes encode_entry(bool whole);
  void confirm_settled();
  Status restore(const SharedBytes& bytes, std::string_view what);
  Status go_on(bool complete);

  void tell(PeerId peer, Message message);
  void tell_shards(const Message& message);
  void note(std::string text, bool warning = false) { actions_.push_back(Note{std::move(text), warning}); }

  CoordinatorOptions options_;
  ProtocolTime now_;  // of the event or deadline in hand
  std::map<IncarnationOrder, Worker> workers_;
  std::deque<Gone> gone_;  // the newest last
  std::vector<Shard> shards_;
  std::map<PeerId, PeerRole> roles_;  // of open sessions, as their hellos said
  std::map<JobId, JobView> jobs_;
  std::optional<Run> run_;
  IncarnationOrder next_order_{1};
  ProtocolTime next_check_ = kNever;
  Counters counters_;
  bool changed_ = false;          // since the last entry of the log
  bool awaited_ = false;          // and something that has been said depends on it
  std::set<JobId> jobs_changed_;  // also those that do not run
  ProtocolTime last_save_{};
  std::uint64_t appended_ = 0, durable_ = 0;  // entries
  bool log_begun_ = false;
  std::uint64_t log_bytes_ = 0, snapshot_bytes_ = 0;  // since the last snapshot, and its own
  bool snapshotting_ = false;
  std::vector<Action> actions_;
};

}  // namespace nanduti
