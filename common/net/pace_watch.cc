#include "common/net/pace_watch.h"

#include <algorithm>
#include <optional>

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

std::vector<std::uint64_t> PaceWatch::find_starved(const SendPaces& paces) {
  std::vector<std::uint64_t> starved;
  std::erase_if(checks_, [&](const auto& known) { return !paces.contains(known.first); });
  for (const auto& [cookie, pace] : paces)
    if (checks_[cookie].is_starved(pace)) starved.push_back(cookie);
  return starved;
}

bool PaceWatch::look(const std::vector<TcpConnection>& connections) {
  SendPaces paces;
  std::map<std::uint64_t, TcpConnection> by_cookie;
  bool unsent = false;
  for (const TcpConnection& connection : connections) {
    const std::optional<SendPace> pace = connection.send_pace();
    if (!pace) continue;
    paces.emplace(connection.cookie(), *pace);
    by_cookie.emplace(connection.cookie(), connection);
    unsent = unsent || pace->unsent_bytes > 0;
  }
  for (const std::uint64_t cookie : find_starved(paces))
    if (by_cookie.at(cookie).restart_congestion_control()) ++restarts_;
  return unsent;
}

}  // namespace nanduti
