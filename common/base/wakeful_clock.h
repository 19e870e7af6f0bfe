#pragma once

#include "common/base/protocol_time.h"

namespace nanduti {

/// A process's own time: a steady clock less the spans that the process was stopped for (SIGSTOP, a closed
/// lid), so that it counts nobody's silence while it did not listen. Whoever serves deadlines later than a
/// second was stopped. One thread.
class WakefulClock {
 public:
  /// The time now, which never goes back; `steady` is the steady clock's reading.
  ProtocolTime now(Duration steady);
  /// What is served next; kNever: nothing, and a stop goes unnoticed.
  void set_deadline(ProtocolTime deadline) { deadline_ = deadline; }
  [[nodiscard]] ProtocolTime deadline() const { return deadline_; }
  /// The steady clock's reading at a time to come, if nothing is slept until then. Precondition: not kNever.
  [[nodiscard]] Duration steady_at(ProtocolTime time) const { return time.time_since_epoch() + slept_; }

 private:
  ProtocolTime deadline_ = kNever;
  ProtocolTime last_now_{};
  Duration slept_{0};
};

}  // namespace nanduti
