#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "common/base/ids.h"
#include "common/codec/codec.h"
#include "common/protocol/message_archive.h"

namespace nanduti {

/// Pushes of one incarnation held because they cannot settle yet: an earlier one is missing, their epoch is
/// not known, others are behind, or too much is unconfirmed. More than a worker's window (64 rounds) and its
/// flushes.
inline constexpr std::size_t kReorderMax = 256;
/// The last pushes of which mass returns, which acks and versions repeat: a worker has no more pushes than
/// this without a verdict.
inline constexpr std::size_t kReturnedKept = 128;

/// What a shard knows about one worker incarnation's pushes: settled strictly in sequence, each once.
class PushLedger {
 public:
  struct Waiting {
    Push push;      ///< its payload, too, where it is to be written into a log
    Update update;  ///< decoded
    [[nodiscard]] std::size_t size_bytes() const {
      return push.payload.size() + update.values.size_bytes() + update.indices.size_bytes();
    }
  };
  enum class Offer {
    kTaken,
    kSettledBefore,  ///< a duplicate: acknowledge again
    kHeldAlready,    ///< a duplicate of one that waits
    kNoRoom,         ///< beyond kReorderMax or the bytes, which no window reaches: dropped
    kFenced,
  };

  /// The push that is next in sequence is taken whatever its size, others while all together are no larger
  /// than `bytes_max`.
  Offer offer(Waiting waiting, std::size_t bytes_max);
  /// The push that is next in sequence, or null.
  [[nodiscard]] const Waiting* head() const;
  /// Takes the head out, as settled; of what is not applied its worker hears. Its round, if it is one, moves
  /// the clock.
  Waiting settle_head(std::uint16_t applied_parts);
  /// The head is forgotten, as if it had never come. Precondition: there is one.
  void drop_head() { (void)take_head(); }

  /// Pushes below it are lost with what this shard has lost: they are not waited for, nor are rounds below
  /// `clock`. What has come of them is dropped.
  void skip_to(Sequence sequence, Round clock);
  /// Rounds below it do not exist for this worker.
  void enter_at(Round entry);
  /// Nothing settles any more; what waits is dropped.
  void fence();

  [[nodiscard]] bool fenced() const { return fenced_; }
  [[nodiscard]] Sequence next_sequence() const { return next_sequence_; }
  [[nodiscard]] std::size_t waiting_count() const { return waiting_.size(); }
  [[nodiscard]] std::size_t waiting_bytes() const { return waiting_bytes_; }
  /// Rounds below it are settled, or do not exist.
  [[nodiscard]] Round clock() const { return clock_; }

  /// Pushes of which mass returns: acks and versions repeat those that the worker had no verdict on as it
  /// made the last one that has settled, the last kReturnedKept at most. The worker counts each once.
  [[nodiscard]] const std::vector<ReturnedPush>& returned() const { return returned_; }

  /// Without what waits.
  template <class Archive>
  void archive(Archive& a) {
    a(next_sequence_, clock_, fenced_, returned_);
  }

 private:
  Waiting take_head();

  std::map<Sequence, Waiting> waiting_;
  std::size_t waiting_bytes_ = 0;
  Sequence next_sequence_;
  Round clock_;
  bool fenced_ = false;
  std::vector<ReturnedPush> returned_;
};

}  // namespace nanduti
