#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/base/protocol_time.h"

namespace nanduti {

/// How much one stream should have in flight, learnt from its acknowledgements: twice what the path holds by
/// itself, its rate times its unloaded round trip. So a fast path far away is never idle, and a slow one is
/// not flooded with bytes that everything later has to wait behind.
///
/// A stream in the background begins with one chunk after every rest, and has more in flight with every
/// round trip, up to that, only while these are hardly longer than the unloaded one: once anything queues,
/// its own bytes or others', it halves, and grows by a chunk from then on (as LEDBAT, RFC 6817: once a round
/// trip, by the shortest one that was seen in it, so that a lost packet or jitter is not taken for a queue).
///
/// As BBR models a path (Cardwell et al., "BBR: congestion-based congestion control", 2016): the rate is the
/// largest of the last rounds', the round trip the smallest of the last while. Pure: events and the time go
/// in.
class BandwidthEstimate {
 public:
  explicit BandwidthEstimate(bool background = false) : background_(background) {}

  /// What is kept of a frame that was sent, until it is acknowledged.
  struct Mark {
    ProtocolTime sent_at;
    ProtocolTime earlier_sent_at;  ///< of the newest frame that had been acknowledged by then
    ProtocolTime delivered_at;     ///< when that was
    std::uint64_t delivered = 0;   ///< bytes acknowledged by then
    bool limited = false;          ///< the sender had no more to send
    bool alone = false;            ///< nothing else was in flight
  };

  /// A frame is sent, while so much is in flight.
  Mark on_sent(ProtocolTime now, std::size_t in_flight_bytes);
  /// The sender has nothing more to send, with so much in flight.
  void on_idle(std::size_t in_flight_bytes);
  /// So many bytes are acknowledged at once. `newest`: of their frames, the newest one that was sent only
  /// once; nullptr if there is none.
  void on_acked(ProtocolTime now, std::size_t bytes, const Mark* newest);

  /// The shortest round trip that others have measured on the same path. In the background: what this stream
  /// has seen by itself may all have been in a queue of others.
  void set_unloaded(Duration round_trip) { unloaded_ = round_trip; }

  /// What may be in flight. One frame always may.
  [[nodiscard]] std::size_t window_bytes() const;
  /// 0 until measured. Less than what the path carries where the sender has had less to send.
  [[nodiscard]] double bytes_per_second() const;
  /// Of these, what was measured while the sender had more to send; 0: it has not had of late.
  [[nodiscard]] double path_bytes_per_second() const;
  /// The unloaded one; 0 until measured.
  [[nodiscard]] Duration round_trip() const { return round_trip_; }

 private:
  static constexpr std::size_t kRounds = 4;

  void measure_rate(ProtocolTime now, const Mark& mark);
  void measure_round_trip(ProtocolTime now, const Mark& mark);
  void give_way(Duration sample, const Mark& mark);
  [[nodiscard]] Duration unloaded() const;
  [[nodiscard]] std::size_t path_window_bytes() const;

  std::uint64_t delivered_ = 0;
  ProtocolTime delivered_at_;
  ProtocolTime newest_sent_at_;      // of the acknowledged frames
  std::uint64_t limited_until_ = 0;  // samples of frames sent before so much is delivered say too little

  std::array<double, kRounds> rates_{};       // largest of each round, in bytes per second
  ProtocolTime full_at_;                      // when the newest of these was measured
  std::array<double, kRounds> full_rates_{};  // the same, of samples that are not limited
  std::size_t round_ = 0;                     // index in both
  std::uint64_t round_ends_ = 0;              // with the first frame sent when so much was delivered

  Duration round_trip_{0};
  ProtocolTime round_trip_at_;
  bool draining_ = false;  // until a frame has gone alone

  bool background_;
  bool rests_ = true;           // had nothing to send
  bool has_given_way_ = false;  // since it rested
  Duration unloaded_{0};
  std::size_t given_window_ = 0;       // what a stream in the background may have in flight
  std::uint64_t given_round_end_ = 0;  // the round of a decision: until so much is delivered
  Duration given_round_min_ = Duration::max();
};

}  // namespace nanduti
