#include "worker/client/stall_meter.h"

#include <algorithm>

namespace nanduti {

void StallMeter::set_cause(ProtocolTime now, Wait cause) {
  if (!changes_.empty() && changes_.back().cause == cause) return;
  changes_.push_back({now, cause});
}

void StallMeter::on_work(ProtocolTime begin, ProtocolTime end) {
  if (idle_since_ != kNever) {
    for (std::size_t i = 0; i < changes_.size(); ++i) {
      const ProtocolTime from = std::max(changes_[i].at, idle_since_);
      const ProtocolTime to = i + 1 < changes_.size() ? std::min(changes_[i + 1].at, begin) : begin;
      if (from < to) charge(changes_[i].cause, to - from);
    }
  }
  idle_since_ = end;
  while (changes_.size() > 1 && changes_[1].at <= end) changes_.pop_front();
}

void StallMeter::charge(Wait cause, Duration duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  switch (cause) {
    case Wait::kNone:
      break;
    case Wait::kGate:
      stall_.gate += seconds;
      break;
    case Wait::kCodec:
      stall_.codec += seconds;
      break;
    case Wait::kData:
      stall_.data += seconds;
      break;
    case Wait::kMerge:
      stall_.merge += seconds;
      break;
    case Wait::kWindow:
      stall_.window += seconds;
      break;
  }
}

}  // namespace nanduti
