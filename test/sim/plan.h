#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/protocol_time.h"
#include "common/protocol/session_hub.h"
#include "server/coordinator/coordinator_core.h"

/// What one simulated job is like and what befalls it: a pure function of a seed, and printable.
namespace nanduti::sim {

/// The network between one worker's place and the servers, both directions.
struct LinkPlan {
  Duration delay{0};   ///< one way, at least
  Duration jitter{0};  ///< on top, uniform
  double bytes_per_second = 1e9;
  double loss = 0;         ///< of a frame
  double duplication = 0;  ///< of a frame; the copy takes a way of its own
  double reordering = 0;   ///< a frame takes several times as long as others
  bool fifo = false;       ///< a connection is an ordered stream, as TCP's: faults delay and do not lose...
  double breaks = 0;       ///< ...but a frame may find the connection broken: what is on it is lost silently
};

/// A time in which frames of one worker's place, or of all, do not pass.
struct Partition {
  ProtocolTime begin;
  ProtocolTime end;
  std::optional<std::size_t> place;  ///< empty: all
  bool up = true;                    ///< worker to server
  bool down = true;
};

enum class HappeningKind { kStart, kCrash, kDrain };

/// Something an operator or fate does to the worker process of a place.
struct Happening {
  ProtocolTime at;
  HappeningKind kind = HappeningKind::kStart;
  std::size_t place = 0;
};

struct Plan {
  std::uint64_t seed = 0;
  std::uint64_t network_seed = 0;  ///< of delays, faults and durations; the job itself depends on `seed` only
  std::uint32_t shards = 1;
  std::uint32_t workers = 1;
  std::uint64_t parameters = 4096;
  std::uint64_t samples = 64;
  std::uint64_t test_samples = 10;
  std::uint32_t epochs = 1;
  std::uint64_t round_samples = 4;
  std::optional<std::uint32_t> bound = 0;
  bool deterministic = false;
  bool sparse = false;  ///< a codec that leaves residuals
  Duration step{0};     ///< of a round on the fastest worker
  CoordinatorOptions coordinator;
  Duration unpublished_age_max = std::chrono::milliseconds(500);
  SessionOptions session;         ///< of servers
  SessionOptions worker_session;  ///< may overflow: then a session is lost at the worker's end only
  LinkPlan local;                 ///< shards to coordinator
  std::vector<LinkPlan> links;    ///< per place
  double replays = 0;  ///< of a push that reached a shard: it comes again later, as over a second session
  double hangs = 0;    ///< of a round or an evaluation: it takes half a minute
  std::vector<double> slowness;  ///< per place, times `step`
  std::vector<Partition> partitions;
  std::vector<Happening> happenings;      ///< by time
  std::optional<ProtocolTime> cancel_at;  ///< of a first job, alike; the second one counts
  ProtocolTime heal_at;                   ///< no fault from here on
  bool crashes = false;
};

inline constexpr ProtocolTime kBeginning{std::chrono::hours(1)};
/// After healing a job has this long to end.
inline constexpr Duration kPatience = std::chrono::minutes(20);

/// The plan of a seed.
Plan make_plan(std::uint64_t seed);
/// The same job (deterministic) for every `network_seed`, over other networks, without crashes.
Plan make_deterministic_plan(std::uint64_t seed, std::uint64_t network_seed);

std::string describe(const Plan& plan);

}  // namespace nanduti::sim
