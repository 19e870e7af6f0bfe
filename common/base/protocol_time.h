#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

namespace nanduti {

using Duration = std::chrono::nanoseconds;

inline double to_seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// The time that cores live in: handed to them, never read by them. The daemons feed it from a steady clock,
/// the simulator from its own. It has no now().
struct ProtocolClock {
  using rep = Duration::rep;
  using period = Duration::period;
  using duration = Duration;
  using time_point = std::chrono::time_point<ProtocolClock>;
  static constexpr bool is_steady = true;
};
using ProtocolTime = ProtocolClock::time_point;

/// A deadline that never comes.
inline constexpr ProtocolTime kNever = ProtocolTime::max();

}  // namespace nanduti
