#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "common/base/ids.h"
#include "common/codec/codec.h"
#include "common/protocol/message.h"

namespace nanduti {

/// Pushes of one incarnation held because an earlier one is missing or their epoch is not known yet. More
/// than a worker's window (64 rounds) and its flushes; each may be as large as the shard.
inline constexpr std::size_t kReorderMax = 256;

/// What a shard knows about one worker incarnation's pushes: settled strictly in sequence, each once.
class PushLedger {
 public:
  struct Waiting {
    Push push;      ///< without its payload
    Update update;  ///< decoded
  };
  enum class Offer {
    kTaken,
    kSettledBefore,  ///< a duplicate: acknowledge again
    kHeldAlready,    ///< a duplicate of one that waits
    kNoRoom,         ///< beyond kReorderMax, which no window reaches: dropped
    kFenced,
  };

  Offer offer(Waiting waiting);
  /// The push that is next in sequence, or null.
  [[nodiscard]] const Waiting* head() const;
  /// Takes the head out, as settled. Its round, if it is one, moves the clock.
  Waiting settle_head(bool refused);

  /// Rounds below it do not exist for this worker.
  void enter_at(Round entry);
  /// Nothing settles any more; what waits is dropped.
  void fence();

  [[nodiscard]] bool fenced() const { return fenced_; }
  [[nodiscard]] Sequence next_sequence() const { return next_sequence_; }
  [[nodiscard]] std::size_t waiting_count() const { return waiting_.size(); }
  /// Rounds below it are settled, or do not exist.
  [[nodiscard]] Round clock() const { return clock_; }

  /// The last kRefusedMax refusals: acks and versions repeat them all, the worker counts each once.
  [[nodiscard]] const std::vector<Sequence>& refused() const { return refused_; }

 private:
  std::map<Sequence, Waiting> waiting_;
  Sequence next_sequence_;
  Round clock_;
  bool fenced_ = false;
  std::vector<Sequence> refused_;
};

}  // namespace nanduti
