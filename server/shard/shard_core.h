#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/named_count.h"
#include "common/base/random.h"
#include "common/base/storage_work.h"
#include "common/protocol/session_hub.h"
#include "server/shard/push_ledger.h"
#include "server/shard/round_ages.h"
#include "server/shard/shard_records.h"
#include "server/shard/shard_values.h"

namespace nanduti {

/// Versions that a shard keeps for who returns or was too slow to hear them all, more than a worker's window,
/// and but for lockstep no more bytes than its shadow has: beyond, the oldest goes, and who would have to
/// hear it is sent an assignment instead.
inline constexpr std::size_t kKeptVersionsMax = 256;

struct ShardOptions {
  std::string coordinator_endpoint;
  RegisterShard registration;
  Duration unpublished_age_max =
      std::chrono::milliseconds(500);  ///< settled work waits for the slower workers at most this long
  /// A version that is due waits so long at most for links that are full (Subscriber::draining).
  Duration hold_max = std::chrono::seconds(1);
  /// Unacknowledged versions of a subscriber, beside the one that was sent when nothing was; beyond: caught
  /// up later.
  std::size_t subscriber_bytes_max = std::size_t{32} << 20;
  /// Pushes of one incarnation that cannot settle yet, as much as a worker's window; beyond: only the one
  /// that is next in sequence is taken.
  std::size_t reorder_bytes_max = std::size_t{256} << 20;
  /// Settled pushes that the coordinator has not confirmed; beyond: nothing settles until it has. In lockstep
  /// a step goes through as a whole.
  std::size_t unconfirmed_entries_max = 65536;
  std::size_t epochs_kept = 65536;  ///< memberships whose pushes are applied; those of older ones are refused
  /// A snapshot of a job that is not in memory only is taken when the log has become so long since the last
  /// one began, and half as long as it is...
  std::uint64_t snapshot_log_bytes = std::uint64_t{64} << 20;
  /// ...or holds so many entries, however short.
  std::uint64_t snapshot_log_entries = 32768;
  Term term{1};  ///< how many times this server has been started with the shard's storage
};

/// Parts of a snapshot that are on their way to the disk at a time, beside those that had to be copied.
inline constexpr std::uint64_t kSnapshotPartsAtOnce = 2;

/// What may change while a job runs.
struct ShardSettings {
  JobCodecs codecs;
  double age_power = 0;  ///< weigh_age(); 0: every push is applied as a whole
};

/// How a shard starts into a job.
struct ShardStart : ShardSettings {
  std::vector<float> values;  ///< shape [end - begin] of OpenShard
  bool deterministic = false;
  Durability durability = Durability::kMemory;
  ServerOptimizer optimizer = {};
  /// Reads Tune::settings, where there are any. Pure.
  std::function<Result<ShardSettings>(const std::string&)> read_settings = {};
};

/// What a shard has left on its disk.
struct RecoveredShard {
  /// As for a shard that begins; the values may be left out where there is a snapshot.
  ShardStart start;
  struct Snapshot {
    SharedBytes head;
    std::vector<ValuesPart> parts;
  };
  std::optional<Snapshot> snapshot;
  std::vector<SharedBytes> entries;  ///< of the log, since the snapshot or all
  /// Whether nothing that ever left the shard may be missing. If it may, a new chain begins, and pushes that
  /// workers hold no more are counted as lost.
  bool complete = true;
};

/// One shard of the parameter space: settles pushes, publishes versions, answers the coordinator. No I/O,
/// threads or clock. One thread.
class ShardCore {
 public:
  /// Completes LoadShard.
  struct ShardLoaded {
    JobId job;
    Result<ShardStart> start;
    std::uint64_t key = 0;  ///< OpenShard::key
  };
  using SnapshotPartWritten = nanduti::SnapshotPartWritten;
  using SnapshotEnded = nanduti::SnapshotEnded;
  using Event = std::variant<PeerConnected, PeerClosed, MessageReceived, MessageAcked, ShardLoaded,
                             SnapshotPartWritten, SnapshotEnded>;

  /// Slow work: make the initial values of the shard.
  struct LoadShard {
    OpenShard request;
  };
  /// What hellos of workers must name from now on; empty: none is answered.
  struct Admit {
    std::optional<Admission> admission;
  };
  struct Note {
    std::string text;
    bool warning = false;
  };
  // The log is one job's; its entries are those of shard_records.h.
  using AppendLog = nanduti::AppendLog;
  using DropLog = nanduti::DropLog;
  using BeginSnapshot = nanduti::BeginSnapshot;
  struct SnapshotPart {
    ValuesPart part;
  };
  using Action = std::variant<SendMessage, OpenPeer, ClosePeer, LoadShard, Admit, Note, AppendLog, DropLog,
                              BeginSnapshot, SnapshotPart>;

  /// Done in the order in which it comes, and before what waits for it.
  static bool is_storage_work(const Action& action) {
    return std::holds_alternative<AppendLog>(action) || std::holds_alternative<BeginSnapshot>(action) ||
           std::holds_alternative<SnapshotPart>(action);
  }

  ShardCore(const ShardOptions& options, RandomStream random);
  /// What the recovered shard is of. Errors: kCorrupt.
  static Result<OpenShard> request_of(const RecoveredShard& recovered);
  /// A shard that goes on where its storage ends. Errors: kCorrupt, where that makes no sense.
  static Result<ShardCore> recover(const ShardOptions& options, RandomStream random,
                                   RecoveredShard recovered);

  void on_event(ProtocolTime now, const Event& event);
  void on_deadline(ProtocolTime now);
  [[nodiscard]] ProtocolTime next_deadline() const;
  std::vector<Action> take_actions();

  // For checkers and metrics.
  [[nodiscard]] const ShardValues* values() const;
  [[nodiscard]] const PushLedger* ledger(IncarnationOrder order) const;
  /// What is held now, against the maximum that each has (promise P7).
  struct Occupancy {
    std::size_t cuts = 0;                 ///< kCutsMax
    std::size_t subscriber_bytes = 0;     ///< of the fullest one: subscriber_bytes_max
    std::size_t reorder_bytes = 0;        ///< of the fullest one, without what is next: reorder_bytes_max
    std::size_t unconfirmed_entries = 0;  ///< unconfirmed_entries_max
  };
  [[nodiscard]] Occupancy occupancy() const;
  struct Counters {
    std::uint64_t settled = 0, weighed = 0, refused = 0, duplicates = 0, no_room = 0, fenced = 0,
                  malformed = 0;
    // Of those that are settled, `weighed` returned in part.
    std::uint64_t versions = 0, catch_ups = 0;
    std::uint64_t held = 0;      ///< versions that were due and waited for a link that was full
    std::uint64_t repeated = 0;  ///< requests whose last answer was still under way: answered after it
    std::uint64_t lost = 0;      ///< pushes that this shard had acknowledged and has lost with its storage
    std::uint64_t snapshots = 0;

    /// All of them by name, for people.
    [[nodiscard]] std::vector<NamedCount> named() const {
      return {{"settled", settled},     {"weighed", weighed},
              {"refused", refused},     {"duplicates", duplicates},
              {"no_room", no_room},     {"fenced", fenced},
              {"malformed", malformed}, {"versions", versions},
              {"catch_ups", catch_ups}, {"held", held},
              {"repeated", repeated},   {"lost", lost},
              {"snapshots", snapshots}};
    }
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  static constexpr PeerId kCoordinator{0};
  static constexpr StreamIndex kControl{0};
  static constexpr StreamIndex kBulk{1};
  /// Values to evaluate: nobody's gate waits for them, and versions do not wait behind them.
  static constexpr StreamIndex kCuts{2};

  struct Worker {
    Member member;
    PushLedger ledger;
    Version base;  // of its last settled push
    bool ack_due = false;
    template <class Archive>
    void archive(Archive& a) {
      a(member, ledger, base);
    }
  };
  struct Fetch {
    std::uint64_t tag = 0;  // of CutValues under way
    bool again = false;
  };
  struct Subscriber {
    Subscribe request;      // the last one
    bool asks = true;       // it is not answered: until everything sent before it is acknowledged
    bool answered = false;  // one was, so it is who it says
    bool lagging = false;   // versions are skipped until everything sent is acknowledged
    Version version;        // newest sent
    struct Sent {
      std::size_t bytes = 0;  // that count: 0 for what was sent when nothing else was unacknowledged
      ProtocolTime at;
      bool measures = false;  // a version that was sent when nothing else was unacknowledged
    };
    std::map<std::uint64_t, Sent> unacked;  // by tag, oldest first
    Duration unloaded{0};   // from sending a version to its acknowledgement where nothing else was on the way
    bool draining = false;  // versions took twice as long: none is sent until all are acknowledged
    std::size_t unacked_bytes = 0;
    std::map<CutId, Fetch> fetches;
  };
  struct Job {
    OpenShard request;
    ShardSettings settings;
    std::function<Result<ShardSettings>(const std::string&)> read_settings;
    std::optional<Tune> tuning;  // the newest that the shard has taken
    bool deterministic = false;
    Durability durability = Durability::kMemory;
    std::deque<Publish> kept;  // the newest versions; none is missing between them
    std::size_t kept_bytes = 0;
    std::optional<ShardValues> values;  // empty while loading
    std::uint64_t initial_fingerprint = 0;
    ChainId chain;
    MembershipEpoch epoch;
    std::map<MembershipEpoch, std::uint32_t> active_counts;
    std::map<IncarnationOrder, Worker> workers;
    std::map<PeerId, Subscriber> subscribers;
    std::map<CutId, SharedBytes> cuts;
    VersionHeader published;  // the newest version's: what the shadow holds, which w is ahead of
    double epochs_done = 0;   // before the newest settled round's samples
    Round published_through;  // smallest active clock of the newest version
    bool unpublished = false;
    ProtocolTime unpublished_since;
    bool membership_unpublished = false;
    std::optional<ProtocolTime> held_since;  // a version is due, and waits for a link that is full
    bool at_rest = false;
    bool lossy = false;  // pushes may be lost that workers think are settled
    std::vector<SettleEntry> report;
    RoundAges ages;

    /// But for what sessions have made of it, and for what the job's YAML says.
    template <class Archive>
    void archive(Archive& a) {
      a(request, tuning, kept, initial_fingerprint, chain, epoch, active_counts, workers, published,
        epochs_done, published_through, unpublished, membership_unpublished, at_rest, lossy, report, ages);
    }
  };

  void handle(const PeerConnected& event);
  void handle(const PeerClosed& event);
  void handle(const MessageReceived& event);
  void handle(const MessageAcked& event);
  void handle(const ShardLoaded& event);
  void handle(const SnapshotPartWritten& event);
  void handle(const SnapshotEnded& event);

  void on_coordinator_message(const Message& message);
  void open(const OpenShard& request);
  void close();
  void merge(const Membership& membership);
  void fence(IncarnationOrder order);
  void take_cut(CutId cut);
  void rest();
  void tune(const Tune& tuning);

  void on_subscribe(PeerId peer, const Subscribe& request);
  void on_acked(PeerId peer, Subscriber& subscriber, std::uint64_t tag);
  void on_push(PeerId peer, const Push& push);
  void on_fetch_cut(PeerId peer, const FetchCut& request);
  void refuse(PeerId peer, std::string reason, CutId cut = {});

  void settle();
  [[nodiscard]] const PushLedger::Waiting* next_to_settle(IncarnationOrder order, Worker& worker);
  [[nodiscard]] bool settle_head(IncarnationOrder order, Worker& worker);
  [[nodiscard]] std::uint16_t parts_to_apply(IncarnationOrder order, const Push& push) const;
  void take_head(IncarnationOrder order, Worker& worker, std::uint16_t applied_parts);
  [[nodiscard]] bool is_unconfirmed() const {
    return unconfirmed_entries_ >= options_.unconfirmed_entries_max;
  }
  /// One push of every active worker is one step, and one version: as long as the first membership holds.
  [[nodiscard]] bool is_lockstep() const;
  void publish_if_due();
  [[nodiscard]] bool is_a_link_full();
  void keep(const Publish& version);
  void forget_oldest_kept();
  void catch_up(PeerId peer, Subscriber& subscriber, Version since);
  void publish(bool exactly);
  void finish_version(Publish& message, bool exactly);
  void answer_subscribers();
  void skip_lost(Worker& worker, const Subscribe& request);
  [[nodiscard]] bool has_initial_values(const Subscribe& request) const;
  void send_assign(PeerId peer, Subscriber& subscriber, Version since, bool whole);
  void send_version(PeerId peer, Subscriber& subscriber, Message message, std::size_t bytes);
  [[nodiscard]] VersionHeader make_header();
  [[nodiscard]] Round smallest_active_clock() const;
  void send_acks();
  void send_reports();
  void on_confirmed(std::uint64_t number);
  void send_to_coordinator(Message message);
  void note(std::string text, bool warning = false);

  // What outlives the process (shard_durability.cc).
  [[nodiscard]] bool is_durable() const { return job_ && job_->durability != Durability::kMemory; }
  void log(std::uint64_t number, const Message& message);
  void end_entry();
  void snapshot_if_due();
  void send_parts();
  Status restore(RecoveredShard::Snapshot& snapshot);
  Status replay(const ShardRecord& record);
  Status replay(std::uint16_t applied_parts, const Push& push);
  Status replay(bool exactly, Publish version);
  void begin_chain(ChainId chain);
  void admit();

  ShardOptions options_;
  RandomStream random_;
  bool coordinator_connected_ = false;
  std::uint64_t next_tag_ = 1;
  std::uint64_t next_report_ = 1;
  std::deque<SettleReport> unconfirmed_reports_;
  std::size_t unconfirmed_entries_ = 0;  // of the reports, those not sent yet included
  std::optional<Job> job_;
  Counters counters_;
  bool replaying_ = false;
  std::vector<SharedBytes> entry_;  // of the log, what the event in hand has changed
  std::optional<Durability> entry_begins_;
  std::uint64_t log_bytes_ = 0, log_entries_ = 0;  // since the last snapshot began
  bool snapshotting_ = false;
  std::uint64_t parts_under_way_ = 0;
  ProtocolTime now_;  // of the event in hand
  std::vector<Action> actions_;
};

}  // namespace nanduti
