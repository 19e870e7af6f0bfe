#include "common/base/wakeful_clock.h"

#include <algorithm>

namespace nanduti {

namespace {

/// A deadline that is served later than this was slept through.
constexpr Duration kLatenessMax = std::chrono::seconds(1);

}  // namespace

ProtocolTime WakefulClock::now(Duration steady) {
  ProtocolTime now(steady - slept_);
  if (deadline_ != kNever && now > deadline_ + kLatenessMax) {
    const ProtocolTime resumed = std::max(deadline_, last_now_);
    slept_ += now - resumed;
    now = resumed;
  }
  last_now_ = std::max(last_now_, now);
  return last_now_;
}

}  // namespace nanduti
