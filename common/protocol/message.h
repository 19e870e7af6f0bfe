#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/protocol_time.h"
#include "common/base/result.h"

/// The protocol's messages as plain structs. messages.fbs is their form on the wire; encode_message and
/// decode_message are the only way between the two, and decode_message is where bytes are verified and texts,
/// but for a job's YAML, made printable (printable_text.h).
namespace nanduti {

inline constexpr std::uint32_t kProtocolVersion = 11;

/// Version of the codecs' byte formats.
inline constexpr std::uint32_t kCodecFormat = 2;

// ---- limits, checked on decoding ----
inline constexpr std::size_t kNameBytesMax = 256;
inline constexpr std::size_t kTextBytesMax = 1 << 20;  ///< job specs, reasons, hardware descriptions
inline constexpr std::size_t kMembersMax = 1024;       ///< worker incarnations in one message
inline constexpr std::size_t kShardsMax = 64;
inline constexpr std::size_t kEarlierEpochsMax = 65536;  ///< Membership::earlier_active
inline constexpr std::size_t kReturnedMax = 4096;        ///< ReturnedPush of one worker in one message
inline constexpr std::size_t kSettleEntriesMax = 4096;
inline constexpr std::size_t kCutsMax = 4;  ///< cuts that a shard holds at once; beyond: the oldest goes
inline constexpr std::size_t kPayloadBytesMax = std::size_t{1} << 32;
/// A message's FlatBuffer; with its frame's own fields it fits into one part of the transport.
inline constexpr std::size_t kMessageHeaderBytesMax = (std::size_t{4} << 20) - 8192;

/// Most payload bytes of a push, a version or a cut of so many parameters: float32 for each (the densest),
/// and an eighth of that and a page as slack for what a codec writes beside the values.
constexpr std::size_t shard_payload_bytes_max(std::uint64_t parameters) {
  constexpr std::uint64_t kSlackBytes = 4096;
  if (parameters >= kPayloadBytesMax / 8) return kPayloadBytesMax;
  const std::uint64_t bytes = parameters * sizeof(float);
  return static_cast<std::size_t>(bytes + bytes / 8 + kSlackBytes);
}

/// What the data of a job is, as a worker has found it; equal on all workers of a job.
struct DataDescription {
  std::uint64_t train_samples = 0;
  std::uint64_t test_samples = 0;
  std::uint32_t channels = 1;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::uint32_t classes = 0;
  std::uint64_t fingerprint = 0;
  friend bool operator==(const DataDescription&, const DataDescription&) = default;
};

/// A run of positions [begin, end) in the shuffled order of one pass over the training set.
struct SampleRange {
  DataEpoch epoch;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t size() const { return end - begin; }
  /// Passes over a training set of `samples` that come before it.
  [[nodiscard]] double epochs_before(std::uint64_t samples) const {
    const double within = samples == 0 ? 0 : static_cast<double>(begin) / static_cast<double>(samples);
    return static_cast<double>(epoch.value()) + within;
  }
  friend bool operator==(const SampleRange&, const SampleRange&) = default;
};

// ---- worker to coordinator ----

/// First message of a worker, answered by Registered. Again on the same session: a new incarnation, the one
/// before is dead.
struct RegisterWorker {
  std::string name;
  std::string site;
  IncarnationId incarnation;
  std::string device;    ///< "cpu (oneDNN)"
  std::string hardware;  ///< processor model, cores
  /// What it is called and takes part in, where it goes on after a lost session; 0: it begins.
  IncarnationOrder order = {};
  JobId job = {};
};
/// The worker has read the job's data.
struct JobPrepared {
  JobId job;
  DataDescription data;
  std::uint64_t layout_hash = 0;  ///< of the parameter space that the worker derives from job and data
};
/// The worker cannot do the job: bad data, no memory, a failing device. Ends the job if nobody can.
struct JobRefused {
  JobId job;
  std::string reason;
};
/// Asks for samples before the held ones run out.
struct LeaseRequest {
  JobId job;
};
/// What the worker will not train: [range.begin, range.end) of the lease is free again (drain).
struct LeaseReturn {
  JobId job;
  LeaseId lease;
  SampleRange range;
};
struct EvaluationDone {
  JobId job;
  LeaseId lease;
  std::uint64_t correct = 0;
  std::uint64_t total = 0;
  double loss_sum = 0;
};
/// Sent about once a second, also when idle: liveness and what followers of the job see. Sums since joining
/// the job.
/// Time in which a worker's computing thread had nothing to do but wait, between its job's first round and
/// its last, by cause. Evaluations and the time without samples to train are in none.
struct StallSeconds {
  double gate = 0;    ///< other workers too far behind, or a shard without a first word
  double codec = 0;   ///< progress was being coded
  double data = 0;    ///< samples: a lease
  double merge = 0;   ///< versions were being merged, parameters being made, threads being woken
  double window = 0;  ///< too much of its own was not acknowledged: the link, not the staleness bound
  [[nodiscard]] double sum() const { return gate + codec + data + merge + window; }
};
struct WorkerStatus {
  JobId job;  ///< 0: none
  Round clock;
  std::uint64_t samples = 0;
  double loss_sum = 0;  ///< over `samples`
  double compute_seconds = 0;
  StallSeconds stall;
  double compute_cpu_seconds = 0;  ///< of the computing thread, evaluations included
  double codec_cpu_seconds = 0;    ///< of the thread that codes and merges
  double evaluation_seconds = 0;
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  std::uint32_t staleness = 0;  ///< rounds between this worker and the slowest one at its last round's start
  bool at_gate = false;         ///< waiting for other workers' rounds now
  double round_trip_seconds = 0;       ///< 0: not measured
  std::uint32_t pushes_in_flight = 0;  ///< rounds that are not part of the shadow on every shard
  double turnaround_p50_seconds = 0;   ///< from a round's pushes to a shadow that holds them; 0: not measured
  double turnaround_p99_seconds = 0;
  double residual_norm = 0;  ///< Euclidean, of what compression has left unsent
  /// Of the bytes, the float32 values that are no part of a round: what the last flushes push; whole shadows,
  /// assignments, and cuts to evaluate.
  std::uint64_t exact_bytes_up = 0;
  std::uint64_t exact_bytes_down = 0;
  double round_trip_deviation_seconds = 0;  ///< of single round trips from their mean
  double path_bytes_per_second = 0;         ///< that the way to a shard carries; 0: never used up
};
/// Answers Tune.
struct Tuned {
  JobId job;
  std::uint64_t number = 0;  ///< of the tuning
  Round from_round;          ///< it holds for this round of the worker and later ones
};
/// Everything this worker had left has been pushed (FlushResidual, drain) and acknowledged.
struct ResidualFlushed {
  JobId job;
};
/// The worker is about to stop (SIGTERM): no more leases; it will flush and send Leave.
struct Draining {};
/// Nothing of this incarnation is outstanding; the session closes.
struct Leave {};

// ---- coordinator to worker ----

struct Registered {
  IncarnationOrder order;
};
/// Read the job's data and say whether it can be done.
struct PrepareJob {
  JobId job;
  std::string spec_text;  ///< the job's YAML
};
struct ShardPlace {
  std::string endpoint;           ///< "tcp://10.1.2.3:7070"
  ShardIndex index;               ///< in the parameter space
  std::uint32_t destination = 0;  ///< which core behind the endpoint (Frame::destination)
  std::uint64_t begin = 0;        ///< parameters [begin, end)
  std::uint64_t end = 0;
};
/// Connect to the shards and subscribe; rounds begin with a lease.
struct JoinJob {
  JobId job;
  std::uint64_t layout_hash = 0;
  std::vector<ShardPlace> shards;  ///< in order; together the whole parameter space
};
struct LeaseGrant {
  JobId job;
  LeaseId lease;
  SampleRange range;
  /// The worker is active from this membership epoch on: it begins rounds once its replica has merged it on
  /// every shard.
  MembershipEpoch active_from;
  /// Its next round is at least this one.
  Round entry_clock;
  /// While it has fewer samples before it than this, or none, it asks for more.
  std::uint64_t ahead = 0;
};
/// No samples now; the worker is idle (out of the gate and out of W) until the next grant.
struct NoLease {
  JobId job;
};
/// Evaluate test samples [begin, end) with the parameters of a cut, between rounds.
struct EvaluationLease {
  JobId job;
  LeaseId lease;
  CutId cut;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};
/// What of the job has changed, in full; also to shards. Numbers grow, and a later one replaces an earlier
/// one.
struct Tune {
  JobId job;
  std::uint64_t number = 0;
  Round from_round;  ///< it holds from this round on; where a worker is past it, from its next one on
  std::optional<std::uint32_t> bound;  ///< staleness bound; empty: none
  std::uint64_t round_samples = 1;     ///< local_steps * batch_size
  std::string settings;                ///< YAML: the job's staleness and compression; empty: as the job's own
};
/// Push what is left in the residual, exactly, and say ResidualFlushed.
struct FlushResidual {
  JobId job;
};
/// Leave the job's shards and forget the job.
struct EndJob {
  JobId job;
  std::string reason;
};
/// This incarnation is dead to the job: nothing it sends counts. The worker starts over as a new incarnation.
struct Fenced {
  std::string reason;
};

// ---- shard to coordinator ----

struct RegisterShard {
  std::string server_name;
  std::string endpoint;  ///< where workers reach it; a wildcard host is replaced by the coordinator's view
  std::uint32_t destination = 0;  ///< Frame::destination behind that endpoint
  std::string hardware;
  JobId job;                   ///< open here already (coordinator or shard have been away); 0: none
  MembershipEpoch epoch = {};  ///< the newest of that job that the shard knows
  std::uint64_t key = 0;       ///< OpenShard::key of that job
};
struct ShardOpened {
  JobId job;
};
struct ShardFailed {
  JobId job;
  std::string reason;
};
/// How much of a push is applied, in parts; what is not, returns to its worker. 0: it is refused.
inline constexpr std::uint16_t kAppliedWhole = 256;
inline float kept_part(std::uint16_t applied_parts) {
  return static_cast<float>(applied_parts) / static_cast<float>(kAppliedWhole);
}
/// What became of one push.
struct SettleEntry {
  IncarnationOrder order;
  Sequence sequence;
  Round round;
  LeaseId lease;      ///< 0 for a flush
  SampleRange range;  ///< samples of the round
  std::uint16_t applied_parts = kAppliedWhole;
  std::uint32_t age = 0;  ///< rounds that the shard had settled since the push's base version
};
/// Pushes settled durably since the last report, in settling order. Sent again with a new session until
/// SettleConfirmed names it.
struct SettleReport {
  JobId job;
  std::vector<SettleEntry> entries;
  std::uint64_t number = 0;  ///< larger than the one's before
};
/// The incarnation is fenced here: nothing of it settles after `next_sequence`.
struct FenceDone {
  JobId job;
  IncarnationOrder order;
  Sequence next_sequence;
};
/// Position of one incarnation in a shard's ledger.
struct SettledPosition {
  IncarnationOrder order;
  Sequence next_sequence;
  Round clock;
};
/// The parameters of the shard at the cut. Payload: float32, shape [end - begin].
struct CutTaken {
  JobId job;
  CutId cut;
  Version version;
  std::vector<SettledPosition> settled;
  SharedBytes payload;
  double residual_norm = 0;  ///< Euclidean, of what the shadow lacks: w - shadow
};
/// shadow == w bit for bit and no push is open.
struct ShardAtRest {
  JobId job;
  Version version;
};

// ---- coordinator to shard ----

struct OpenShard {
  JobId job;
  std::string spec_text;
  DataDescription data;
  ShardIndex index;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t layout_hash = 0;
  /// Random, and another one when the job begins again: two coordinators' jobs may have one id.
  std::uint64_t key = 0;
};
enum class MemberState : std::uint8_t { kActive = 1, kIdle = 2, kSuspended = 3, kDead = 4 };
struct Member {
  IncarnationOrder order;
  IncarnationId incarnation;
  MemberState state = MemberState::kIdle;
  Round entry_clock;  ///< rounds below it do not exist for this worker
};
/// A numbered membership: all incarnations that may still push, and those that died since the last one. Who
/// is not named is dead.
struct Membership {
  JobId job;
  MembershipEpoch epoch;
  std::vector<Member> members;
  /// How many were active in each of the epochs before this one that a shard has missed, in order.
  std::vector<std::uint32_t> earlier_active = {};
};
/// Answered by FenceDone; the order also dies in the next membership.
struct Fence {
  JobId job;
  IncarnationOrder order;
};
struct TakeCut {
  JobId job;
  CutId cut;
};
struct ReleaseCut {
  JobId job;
  CutId cut;
};
/// No more pushes are coming: assign shadow from w, publish, answer ShardAtRest.
struct Rest {
  JobId job;
};
struct CloseShard {
  JobId job;
};
/// The coordinator cannot forget what reports up to this one say, whatever befalls it.
struct SettleConfirmed {
  JobId job;
  std::uint64_t number = 0;  ///< SettleReport::number
};

// ---- worker to shard ----

/// What Subscribe names of a shard's initial values; never 0.
inline std::uint64_t initial_fingerprint(std::span<const float> values) {
  Fingerprint fingerprint;
  fingerprint.add(values.size());
  fingerprint.add_words(std::as_bytes(values));
  return std::max<std::uint64_t>(fingerprint.value(), 1);
}

struct Subscribe {
  JobId job;
  IncarnationOrder order;
  IncarnationId incarnation;
  ChainId chain;            ///< 0: has nothing
  Version version;          ///< of its shadow on that chain
  Sequence oldest_held;     ///< first push it can still resend; equals its next sequence if it holds none
  Round oldest_round = {};  ///< of that push, or its next round
  /// Of the shard's initial values, which it has made itself and holds as version 0 of whatever chain it will
  /// be told of: Fingerprint::add_words of the float32. 0: it does not. With a chain it means nothing.
  std::uint64_t initial_fingerprint = 0;
};
/// Payload: the coded update. Applied as w -= multiplier * update.
struct Push {
  JobId job;
  IncarnationOrder order;
  Sequence sequence;
  Round round;
  MembershipEpoch
      epoch;  ///< newest the replica has merged; its active workers are the multiplier's denominator
  Version base_version;  ///< of this shard, on which the round was computed
  LeaseId lease;         ///< 0 for a flush, which is no round and moves no clock
  SampleRange range;
  std::uint32_t stands_for = 1;  ///< workers behind this push; more than one behind a site relay
  Round smallest_clock;          ///< theirs; equals round without a relay
  std::uint8_t coding = 0;
  Sequence acknowledged;  ///< what became of pushes below it the worker knows
  SharedBytes payload;
};
/// Asks for the parameters of a cut, to evaluate them.
struct FetchCut {
  JobId job;
  CutId cut;
};

// ---- shard to worker ----

/// Answer to Subscribe, before the first Assign.
struct Subscribed {
  JobId job;
  Sequence next_sequence;  ///< first one not settled: the worker resends from here
};
/// A push that is settled and was not applied as a whole: the rest of its mass returns to the residual, once.
struct ReturnedPush {
  Sequence sequence;
  std::uint16_t applied_parts = 0;  ///< below kAppliedWhole
  friend bool operator==(const ReturnedPush&, const ReturnedPush&) = default;
};
enum class AckLevel : std::uint8_t { kReceived = 1, kDurableHere = 2, kDurableAtHome = 3 };
struct PushAck {
  JobId job;
  AckLevel level = AckLevel::kDurableHere;
  Sequence next_sequence;              ///< everything below is settled for good, applied or refused
  std::vector<ReturnedPush> returned;  ///< since Push::acknowledged; may repeat what a publish says
};
/// An active worker's clock at a shard: its rounds below `clock` are in the shard's parameters.
struct MemberClock {
  IncarnationOrder order;
  Round entry_clock;
  Round clock;
};
/// Verdicts about one incarnation's pushes.
struct Verdict {
  IncarnationOrder order;
  Sequence next_sequence;              ///< everything below is settled
  std::vector<ReturnedPush> returned;  ///< among those, since Push::acknowledged
};
/// What every version carries, whether it adds or assigns.
struct VersionHeader {
  JobId job;
  Term term{1};
  ChainId chain;
  Version version;
  MembershipEpoch epoch;
  std::vector<MemberClock> active;  ///< all active workers of `epoch`
  std::vector<Verdict> verdicts;    ///< every incarnation that may still push
};
/// shadow += update; from version - 1 to version. An empty payload adds nothing.
struct Publish {
  VersionHeader header;
  std::uint8_t coding = 0;
  SharedBytes payload;
};
/// A run of whole-block values: shadow[begin, end) of the shard.
struct AssignedRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};
/// shadow = values at `ranges`; from any version >= from_version of this chain, or from nothing if `whole`.
struct Assign {
  VersionHeader header;
  Version from_version;
  bool whole = false;
  std::vector<AssignedRange> ranges;
  SharedBytes payload;  ///< float32, ranges one after the other
};
/// Payload: float32, the shard's parameters at the cut.
struct CutValues {
  JobId job;
  CutId cut;
  SharedBytes payload;
};
/// The request cannot be served; the reason is for an operator.
struct ShardRefusal {
  JobId job;
  std::string reason;
  CutId cut;  ///< the one that was asked for and is not held any more: others have evaluated it; 0: none
};

using Message =
    std::variant<RegisterWorker, JobPrepared, JobRefused, LeaseRequest, LeaseReturn, EvaluationDone,
                 WorkerStatus, ResidualFlushed, Draining, Leave, Registered, PrepareJob, JoinJob, LeaseGrant,
                 NoLease, EvaluationLease, FlushResidual, EndJob, Fenced, RegisterShard, ShardOpened,
                 ShardFailed, SettleReport, FenceDone, CutTaken, ShardAtRest, OpenShard, Membership, Fence,
                 TakeCut, ReleaseCut, Rest, CloseShard, Subscribe, Push, FetchCut, Subscribed, PushAck,
                 Publish, Assign, CutValues, ShardRefusal, Tune, Tuned, SettleConfirmed>;

/// The name of the message's type, as messages.fbs spells it.
std::string_view message_name(const Message& message);

/// A message in its form on the wire: a FlatBuffer and, for bulk messages, the payload beside it.
struct EncodedMessage {
  SharedBytes header;
  SharedBytes payload;
  [[nodiscard]] std::size_t size_bytes() const { return header.size() + payload.size(); }
};

EncodedMessage encode_message(const Message& message);

/// Whether a message of this type may have a payload, as far as its FlatBuffer says; false if it is none.
bool may_carry_payload(const SharedBytes& header);

/// Verifies (FlatBuffers, then the limits above and each field's range) and decodes. Errors: kCorrupt, with
/// the field.
Result<Message> decode_message(const EncodedMessage& encoded);

}  // namespace nanduti
