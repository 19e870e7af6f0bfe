#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "common/base/protocol_time.h"
#include "common/base/random.h"
#include "test/wan/link_profile.h"

namespace nanduti::wan {

/// Packets under way in one direction at most, beyond the queue; more are lost and count as dropped_queue.
inline constexpr std::size_t kInFlightPacketsMax = 131'072;

/// Packets that wait behind one whose delay was longer arrive at so many times the rate, not all at once.
inline constexpr int kDrainFactor = 4;

/// An IP packet.
using Packet = std::vector<std::byte>;
/// Since the link's start.
using LinkTime = Duration;

/// What one direction has done so far. Bytes are of IP packets.
struct LinkCounters {
  std::uint64_t packets_in = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t packets_out = 0;  ///< duplicates included
  std::uint64_t bytes_out = 0;
  std::uint64_t dropped_queue = 0;
  std::uint64_t dropped_loss = 0;
  std::uint64_t dropped_blackout = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t reordered = 0;  ///< arrived after one that was sent later
  std::uint64_t queue_bytes_peak = 0;
};

/// One direction of a link, without I/O or clock. A packet waits in a drop-tail queue for its turn at the
/// rate; there it is lost, or not, and perhaps doubled; then it travels for the delay and the jitter of that
/// moment. Times never go back from one call to the next. What happens does not depend on how often it is
/// asked: the same packets at the same times leave at the same times.
class LinkWay {
 public:
  struct Arrival {
    LinkTime due{0};
    Packet packet;
  };

  /// The same seed and stream draw the same numbers.
  LinkWay(const WayProfile& profile, std::uint64_t queue_bytes_max, std::uint64_t seed, std::uint64_t stream);

  /// A packet that is not empty enters.
  void offer(LinkTime now, Packet packet);
  /// The next packet that arrives by `now`.
  std::optional<Arrival> take(LinkTime now);
  /// No packet arrives before; empty: none is under way.
  [[nodiscard]] std::optional<LinkTime> next_arrival_at_least() const;

  /// Holds for what leaves the queue from now on; a packet that is being sent goes out at the old rate.
  void change(LinkTime now, const WayProfile& profile, std::uint64_t queue_bytes_max);
  /// What leaves the queue from now until `end` is lost; what is beyond arrives. The newest call counts.
  void black_out(LinkTime now, LinkTime end);

  [[nodiscard]] const LinkCounters& counters() const { return counters_; }
  [[nodiscard]] std::uint64_t queue_bytes() const { return queue_bytes_; }
  [[nodiscard]] LinkTime blackout_end() const { return blackout_end_; }

 private:
  struct Flight {
    LinkTime due{0};
    std::uint64_t order = 0;     ///< of entries into flight
    std::uint64_t sequence = 0;  ///< of packets
    Packet packet;
  };
  static bool later(const Flight& a, const Flight& b) {
    return a.due != b.due ? a.due > b.due : a.order > b.order;
  }

  /// Lets all leave the queue whose turn is over by `now`.
  void advance(LinkTime now);
  /// A packet has left the queue.
  void transmit(LinkTime at, Packet packet);
  void fly(LinkTime due, Packet packet);
  [[nodiscard]] LinkTime sending_time(const Packet& packet) const;
  bool is_lost();
  LinkTime jitter_at(LinkTime at);

  WayProfile profile_;
  std::uint64_t queue_bytes_max_;
  std::uint64_t seed_;
  std::uint64_t stream_;
  RandomStream loss_random_;
  RandomStream duplicate_random_;
  RandomStream reorder_random_;

  std::deque<Packet> queue_;
  std::uint64_t queue_bytes_ = 0;
  LinkTime head_end_{0};  ///< when the first of the queue has been sent
  bool in_burst_ = false;
  LinkTime blackout_end_{0};
  std::uint64_t jitter_index_ = ~std::uint64_t{0};
  LinkTime jitter_{0};
  LinkTime last_due_{0};
  std::vector<Flight> flights_;  ///< a heap, the earliest first
  std::uint64_t next_order_ = 0;
  std::uint64_t next_sequence_ = 0;
  std::uint64_t arrived_sequence_ = 0;
  LinkCounters counters_;
};

}  // namespace nanduti::wan
