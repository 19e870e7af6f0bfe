#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/protocol_time.h"
#include "common/protocol/bandwidth_estimate.h"
#include "common/protocol/frame.h"
#include "common/protocol/message.h"

namespace nanduti {

struct LinkOptions {
  Duration resend_min = std::chrono::milliseconds(200);
  Duration resend_max = std::chrono::seconds(5);  ///< or the round trip, where that is longer
  Duration ack_delay = std::chrono::milliseconds(20);
  std::size_t credit_bytes = std::size_t{4} << 20;   ///< what this end lets the other have in flight
  std::size_t payload_bytes_max = kPayloadBytesMax;  ///< of a message that the other side may send
  bool background = false;  ///< what this end sends gives way (BandwidthEstimate), in small chunks both ways
};

/// Data frames of one stream in flight, however small; nothing further ahead is kept by the receiver.
inline constexpr std::uint64_t kFramesInFlightMax = 4096;
/// What a peer's credit counts for at most, whatever it says.
inline constexpr std::uint64_t kCreditBytesMax = std::uint64_t{256} << 20;

/// What no honest sender does; the stream takes no data after it.
enum class LinkFault : std::uint8_t {
  kNone,
  kPayloadTooLarge,    ///< a message was announced that is larger than payload_bytes_max
  kPayloadNotAllowed,  ///< a payload was announced for a type of message that has none
  kBrokenCutting,      ///< chunks that are not cut as take_frames() cuts them
};

/// One stream of a session, both directions: cuts messages into data frames, delivers them once and in order
/// over a channel that loses, duplicates and reorders, and keeps each direction within the receiver's credit
/// and what its path is worth (BandwidthEstimate). Pure; the caller fills in destination, session and stream
/// of the frames.
///
/// A frame is sent again when something that was sent after it has arrived, with a tolerance for reordering
/// (as RACK, RFC 8985, with numbers of transmissions in the place of times; what is held beyond a gap is not
/// sent again, as with SACK, RFC 2018). Heartbeats count, so that this needs no guess of the round trip. A
/// timeout is for when nothing comes back at all: it allows for the time that a slow path takes to carry the
/// frame, and sends one frame.
class ReliableLink {
 public:
  explicit ReliableLink(const LinkOptions& options) : options_(options), estimate_(options.background) {}

  /// `tag` other than 0 comes back from take_acked() when the other side has the whole message.
  void queue(EncodedMessage message, std::uint64_t tag);
  /// Takes the acknowledgement of any frame, and the content of a kData.
  void on_frame(ProtocolTime now, const Frame& frame);
  /// The frames to send now: resends, new data within the credit, a due acknowledgement. Without credit one
  /// frame at a time is sent, so that the stream finds out when there is some again.
  std::vector<Frame> take_frames(ProtocolTime now);
  /// An acknowledgement goes with the next take_frames().
  void ack_now() { ack_at_ = ProtocolTime::min(); }
  /// The route is new: what was in flight on the old one may be gone.
  void on_new_route(ProtocolTime now);
  [[nodiscard]] ProtocolTime next_deadline() const;

  std::vector<EncodedMessage> take_messages() { return std::exchange(received_, {}); }
  std::vector<std::uint64_t> take_acked() { return std::exchange(acked_tags_, {}); }
  [[nodiscard]] LinkFault fault() const { return fault_; }

  /// Bytes and entries (messages and frames) that wait to be sent or acknowledged.
  [[nodiscard]] std::size_t outstanding_bytes() const { return queued_bytes_ + in_flight_bytes_; }
  [[nodiscard]] std::size_t outstanding_entries() const { return queue_.size() + in_flight_.size(); }
  /// Of those bytes, what the other side does not have either, be it acknowledged or held beyond a gap.
  [[nodiscard]] std::size_t missing_bytes() const { return outstanding_bytes() - held_by_peer_bytes_; }
  /// Bytes received that make no whole message yet, with the room reserved for more of it.
  [[nodiscard]] std::size_t held_bytes() const {
    return ahead_bytes_ + partial_payload_.capacity() + (partial_ ? partial_->header.size() : 0);
  }
  /// When the other side last took something of what is in flight; kNever if nothing is.
  [[nodiscard]] ProtocolTime waiting_since() const { return in_flight_.empty() ? kNever : progress_at_; }
  [[nodiscard]] Duration round_trip() const { return round_trip_; }
  [[nodiscard]] Duration round_trip_deviation() const { return round_trip_deviation_; }
  [[nodiscard]] const BandwidthEstimate& estimate() const { return estimate_; }
  /// BandwidthEstimate::set_unloaded.
  void set_unloaded(Duration round_trip) { estimate_.set_unloaded(round_trip); }
  /// For pings, which are answered at once too.
  void measure(Duration sample);
  /// What every frame of the stream carries: its number, and the acknowledgement. In the order of sending.
  void stamp(Frame& frame);

  struct Counts {
    std::uint64_t resent = 0;
    std::uint64_t duplicates = 0;
    std::uint64_t beyond_credit = 0;  ///< dropped: further ahead of a gap than the credit or the count allows
    std::uint64_t acks_of_unsent = 0;  ///< or of transmissions that there were not
    std::uint64_t acks_outdated = 0;
    std::uint64_t after_fault = 0;
  };
  /// Since the last call.
  Counts take_counts() { return std::exchange(counts_, {}); }

 private:
  struct Outgoing {
    EncodedMessage message;
    std::size_t offset = 0;  // payload bytes cut off so far
    bool begun = false;
    std::uint64_t tag = 0;
  };
  struct InFlight {
    Frame frame;
    std::size_t bytes = 0;
    ProtocolTime sent_at;             // the last time, frame.attempt
    std::uint64_t transmission = 0;   // the last time
    BandwidthEstimate::Mark mark;     // of the first time
    ProtocolTime resend_at = kNever;  // it is missing: newer ones have arrived
    bool held = false;                // by the receiver, beyond a gap
    bool found_missing = false;
    bool on_old_route = false;  // then: when it arrived, if it did, says nothing of today's
    std::uint64_t tag = 0;      // of the message that ends with this frame
  };
  /// The content of a data frame.
  struct Piece {
    SharedBytes message_header;
    SharedBytes chunk;
    std::uint64_t message_payload_bytes = 0;
    std::uint64_t chunk_offset = 0;
    [[nodiscard]] std::size_t size_bytes() const { return message_header.size() + chunk.size(); }
  };

  void on_ack(ProtocolTime now, const Frame& frame);
  std::size_t take_acked(ProtocolTime now, const Frame& frame);
  bool note_held(const std::vector<HeldRange>& ranges);
  void find_missing(ProtocolTime now, std::uint64_t newest);
  void resend_missing(ProtocolTime now, std::vector<Frame>& out);
  void hold(std::uint64_t sequence, const Piece& piece);
  void accept(const Piece& piece);
  [[nodiscard]] LinkFault fault_of(const Piece& piece) const;
  [[nodiscard]] std::size_t chunk_bytes_max() const {
    return options_.background ? kBackgroundChunkBytesMax : kChunkBytesMax;
  }
  [[nodiscard]] Duration resend_timeout() const;
  [[nodiscard]] Duration reordering_tolerance() const;

  LinkOptions options_;
  Counts counts_;

  // sending
  std::deque<Outgoing> queue_;
  BandwidthEstimate estimate_;
  std::deque<InFlight> in_flight_;  // sequences [acked_through_, next_sequence_)
  std::size_t queued_bytes_ = 0;
  std::size_t in_flight_bytes_ = 0;
  std::size_t held_by_peer_bytes_ = 0;
  std::uint64_t next_sequence_ = 0;
  std::uint64_t acked_through_ = 0;
  std::uint64_t peer_credit_ = std::uint64_t{256} << 10;  // until the other side has said more
  std::uint64_t transmissions_ = 0;
  ProtocolTime progress_at_;
  ProtocolTime timeout_at_ = kNever;
  ProtocolTime missing_at_ = kNever;       // the earliest resend_at in flight
  std::uint32_t timeouts_ = 0;             // since a round trip was measured
  std::uint32_t tolerance_doublings_ = 0;  // what was found missing has come late
  Duration round_trip_{0};
  Duration round_trip_deviation_{0};
  std::vector<std::uint64_t> acked_tags_;

  // receiving
  std::uint64_t next_expected_ = 0;
  std::uint32_t answered_attempt_ = 0;
  std::uint64_t newest_transmission_ = 0;
  std::map<std::uint64_t, Piece> ahead_;
  std::map<std::uint64_t, std::uint64_t> held_;  // the runs in ahead_: begin to end
  std::size_t ahead_bytes_ = 0;
  std::optional<EncodedMessage> partial_;
  std::uint64_t partial_payload_bytes_ = 0;
  std::vector<std::byte> partial_payload_;
  std::size_t unacked_received_bytes_ = 0;
  ProtocolTime ack_at_ = kNever;
  LinkFault fault_ = LinkFault::kNone;
  std::vector<EncodedMessage> received_;
};

}  // namespace nanduti
