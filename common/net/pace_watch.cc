#include "common/net/pace_watch.h"

#include <algorithm>

namespace nanduti {

namespace {

constexpr double kStarvedPart = 0.25;
/// A delay that nobody minds, where the round trip is shorter.
constexpr Duration kShort = std::chrono::milliseconds(50);

}  // namespace

bool PaceCheck::is_starved(const SendPace& pace) {
  best_ = std::max(best_, pace.delivered_bytes_per_second);
  if (pace.unsent_bytes == 0 || pace.bytes_per_second > kStarvedPart * best_) return false;
  const double patience = std::chrono::duration<double>(std::max(pace.round_trip, kShort)).count();
  if (static_cast<double>(pace.unsent_bytes) <= patience * pace.bytes_per_second) return false;
  best_ = 0;
  return true;
}

bool PaceWatch::look(const std::vector<TcpConnection>& connections) {
  std::map<std::uint64_t, PaceCheck> checks;
  bool unsent = false;
  for (const TcpConnection& connection : connections) {
    const std::optional<SendPace> pace = connection.send_pace();
    if (!pace) continue;
    unsent = unsent || pace->unsent_bytes > 0;
    PaceCheck& check = checks[connection.cookie()] = checks_[connection.cookie()];
    if (check.is_starved(*pace) && connection.restart_congestion_control()) ++restarts_;
  }
  checks_ = std::move(checks);
  return unsent;
}

}  // namespace nanduti
