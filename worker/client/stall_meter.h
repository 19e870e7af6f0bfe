#pragma once

#include <cstdint>
#include <deque>

#include "common/base/protocol_time.h"
#include "common/protocol/message.h"

namespace nanduti {

/// Why the computing thread has nothing to do.
enum class Wait : std::uint8_t {
  kNone,  ///< it has; or there is nothing to train
  kGate,  ///< StallSeconds::gate, and so on
  kCodec,
  kData,
  kMerge,
  kWindow,
};

/// Divides the time in which a thread computes nothing among its causes. The thread's own stretches of work
/// are exact; causes are those that the thread which feeds it has named for the time in between. Pure; one
/// thread.
class StallMeter {
 public:
  /// From `now` on, the computing thread, should it be idle, waits because of `cause`. Times never decrease.
  void set_cause(ProtocolTime now, Wait cause);
  /// It has computed a round, or evaluated, from `begin` to `end`: since the end of the work before, it has
  /// waited. The first round's wait does not count.
  void on_work(ProtocolTime begin, ProtocolTime end);
  [[nodiscard]] const StallSeconds& stall() const { return stall_; }

 private:
  struct Change {
    ProtocolTime at;
    Wait cause;
  };
  void charge(Wait cause, Duration duration);

  std::deque<Change> changes_;  // the first one holds at idle_since_
  ProtocolTime idle_since_ = kNever;
  StallSeconds stall_;
};

}  // namespace nanduti
