#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "common/base/protocol_time.h"
#include "common/protocol/message.h"

namespace nanduti {

/// How long rounds take from their pushes to a shadow that holds them, on every shard: what a staleness bound
/// has to cover. Pure; one thread.
class Turnaround {
 public:
  /// Percentiles are over so many rounds, the last ones.
  static constexpr std::size_t kRoundsKept = 512;

  explicit Turnaround(std::size_t shards = 0) : settled_(shards) {}
  /// A round has been pushed under this sequence number, the same on all shards; numbers only grow.
  void on_pushed(ProtocolTime now, Sequence sequence) { open_.push_back({sequence, now}); }
  /// The shadow of this shard holds all pushes below `settled`.
  void on_settled(ProtocolTime now, ShardIndex shard, Sequence settled);
  /// Rounds that some shadow does not hold yet.
  [[nodiscard]] std::size_t in_flight() const { return open_.size(); }
  /// `part` of the last rounds took so long at most; zero if none is known.
  [[nodiscard]] Duration percentile(double part) const;

 private:
  struct Open {
    Sequence sequence;
    ProtocolTime pushed;
  };
  std::vector<Sequence> settled_;  // per shard
  std::deque<Open> open_;
  std::deque<Duration> taken_;
};

}  // namespace nanduti
