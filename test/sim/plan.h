#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/protocol_time.h"
#include "common/model/training_spec.h"
#include "common/protocol/session_hub.h"
#include "server/coordinator/coordinator_core.h"

/// What one simulated job is like and what befalls it: made from a seed (plan.cc) or read from a scenario
/// file (scenario_file.h).
namespace nanduti::sim {

/// The network between one worker's place and the servers, both directions.
struct LinkPlan {
  Duration delay{0};   ///< one way, at least
  Duration jitter{0};  ///< on top, uniform
  Duration skew{0};    ///< on top, uniform, drawn once for each connection: streams reorder among each other
  double bytes_per_second = 1e9;
  double loss = 0;         ///< of a frame
  double duplication = 0;  ///< of a frame; the copy takes a way of its own
  double reordering = 0;   ///< a frame takes several times as long as others
  double refusals = 0;     ///< a send finds the transport's queue full: the frame is dropped
  bool fifo = false;       ///< a connection is an ordered stream, as TCP's: faults delay and do not lose...
  double breaks = 0;       ///< ...but a frame may find the connection broken: what is on it is lost silently
};

/// A process, or several.
struct Target {
  enum class Kind { kWorker, kShard, kCoordinator, kServers, kAll };
  Kind kind = Kind::kAll;
  std::size_t index = 0;  ///< of a worker's place or a shard
};
std::string to_string(const Target& target);
std::optional<Target> parse_target(std::string_view text);

/// A time in which frames to and from the target do not pass. kAll: those of every worker.
struct Partition {
  ProtocolTime begin;
  ProtocolTime end;
  Target target;
  bool up = true;  ///< from the dialling side (workers; shards towards the coordinator) to the other
  bool down = true;
  bool only_coordinator = false;  ///< of these, those to and from the coordinator
};

/// A time in which the target's processes are stopped, as by SIGSTOP.
struct Pause {
  ProtocolTime begin;
  ProtocolTime end;
  Target target;
};

/// The process of a shard or of the coordinator ends at once; what its storage holds by then is left, and
/// some of what was being written. Another one goes on with it.
struct ServerCrash {
  ProtocolTime at;
  Duration down{0};
  Target target;
  bool amid_write = false;  ///< not before it writes something, if it does before healing
};

enum class HappeningKind { kStart, kCrash, kDrain };

/// Something an operator or fate does to the worker process of a place.
struct Happening {
  ProtocolTime at;
  HappeningKind kind = HappeningKind::kStart;
  std::size_t place = 0;
};

/// One per worker that may exist.
struct PlacePlan {
  double slowness = 1;  ///< times Plan::step
  LinkPlan link;
};

/// What pushes and versions are coded with (problem.h).
enum class PlanCodec : std::uint8_t {
  kDense,    ///< float32, everything
  kQuarter,  ///< float32, a quarter of the coordinates in turns
  kBlocks,   ///< the product's: a quarter of the coordinates, exact in pushes and with 2 bits in versions
};

/// A job that is tuned while it runs.
struct TuningPlan {
  ProtocolTime at;
  std::optional<std::uint32_t> bound;
  std::uint32_t local_steps = 1;  ///< times Plan::round_samples are a round
  PlanCodec codec = PlanCodec::kDense;
};

struct Plan {
  std::uint64_t seed = 0;
  std::uint64_t network_seed = 0;  ///< of delays, faults and durations; the job itself depends on `seed` only
  std::uint32_t shards = 1;
  std::uint32_t workers = 1;
  std::uint32_t workers_to_start = 1;
  std::uint64_t parameters = 4096;
  std::uint64_t samples = 64;
  std::uint64_t test_samples = 10;
  std::uint32_t epochs = 1;
  std::uint64_t round_samples = 4;
  std::uint64_t evaluate_every = 0;  ///< samples between cuts within epochs
  std::optional<std::uint32_t> bound = 0;
  /// The coordinator chooses the bound, up to `bound`, and local steps, up to kAutoStepsMax.
  bool auto_staleness = false;
  bool accumulate = false;  ///< at the bound the round that has ended goes on
  bool deterministic = false;
  PlanCodec codec = PlanCodec::kDense;
  ServerOptimizerType server_optimizer = ServerOptimizerType::kAdd;
  double age_power = 0;            ///< old pushes count less, and the rest of them returns
  double own_work = 1, rho = 1;    ///< weights in workers' replicas
  Duration step{0};                ///< of a round on the fastest worker
  CoordinatorOptions coordinator;  ///< `shards` is set from above
  Duration unpublished_age_max = std::chrono::milliseconds(500);
  std::uint32_t window_rounds_max = 64;  ///< that a worker may have unacknowledged
  std::size_t window_bytes_max = std::size_t{256} << 20;
  std::size_t unmerged_bytes_max = std::size_t{256} << 20;
  std::size_t epochs_kept = 65536;        ///< by shards; pushes of older memberships are refused
  SessionOptions session;                 ///< of servers
  SessionOptions worker_session;          ///< may overflow: then a session is lost at the worker's end only
  std::uint32_t queue_frames_max = 4096;  ///< of a connection and direction; beyond, sends are refused
  LinkPlan local;                         ///< shards to coordinator
  double drift = 0;                       ///< clocks run fast or slow by up to this fraction
  double replays = 0;  ///< of a push that reached a shard: it comes again later, as over a second session
  double overtaking =
      0;             ///< of a push that reached a shard: later ones are taken first, as of several streams
  double hangs = 0;  ///< of a round or an evaluation...
  Duration hang = std::chrono::seconds(30);  ///< ...to take this long
  std::vector<PlacePlan> places;
  std::vector<Partition> partitions;
  std::vector<Pause> pauses;
  std::vector<ServerCrash> crashes;
  Duration write{0};                          ///< of a record or a part of a snapshot, at most
  std::uint64_t snapshot_log_entries = 1000;  ///< ShardOptions
  std::vector<Happening> happenings;          ///< by time
  std::vector<TuningPlan> tunings;            ///< of the job that counts, while it trains
  std::optional<ProtocolTime> cancel_at;      ///< of a first job, alike; the second one counts
  ProtocolTime heal_at;                       ///< no fault from here on
};

inline constexpr std::uint32_t kAutoStepsMax = 6;
inline constexpr std::uint32_t kAccumulateRounds =
    3;  ///< where rounds go on, up to so many times their length
inline constexpr ProtocolTime kBeginning{std::chrono::hours(1)};
/// After healing a job has this long to end.
inline constexpr Duration kPatience = std::chrono::minutes(20);

/// The plan of a seed.
Plan make_plan(std::uint64_t seed);
/// The same job (deterministic) for every `network_seed`, over other networks, without crashes.
Plan make_deterministic_plan(std::uint64_t seed, std::uint64_t network_seed);

/// In a line.
std::string describe(const Plan& plan);

}  // namespace nanduti::sim
