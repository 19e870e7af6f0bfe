#include "common/protocol/reliable_link.h"

#include <algorithm>

namespace nanduti {

namespace {

/// Frames sent again at once on a new route, and at most per acknowledgement while recovering. After a
/// timeout it is one, which acknowledgements double: the time may have been too short.
constexpr std::size_t kResendBurst = 8;
/// A round trip longer than this is an outage.
constexpr Duration kRoundTripMax = std::chrono::seconds(10);
/// Received bytes after which an acknowledgement does not wait.
constexpr std::size_t kAckBytes = 512 * 1024;

}  // namespace

void ReliableLink::queue(EncodedMessage message, std::uint64_t tag) {
  queued_bytes_ += message.size_bytes();
  queue_.push_back({std::move(message), 0, false, tag});
}

void ReliableLink::on_frame(ProtocolTime now, const Frame& frame) {
  on_ack(now, frame);
  if (frame.kind != FrameKind::kData) return;
  if (fault_ != LinkFault::kNone) {
    ++counts_.after_fault;
    return;
  }
  if (frame.sequence < next_expected_ || ahead_.contains(frame.sequence)) {
    ++counts_.duplicates;
    if (frame.sequence < next_expected_) answered_attempt_ = frame.attempt;
    ack_now();
    return;
  }
  const Piece piece{frame.message_header, frame.chunk, frame.message_payload_bytes, frame.chunk_offset};
  if (frame.sequence != next_expected_) {
    if (ahead_bytes_ + piece.size_bytes() > options_.credit_bytes ||
        frame.sequence - next_expected_ >= kFramesInFlightMax) {
      ++counts_.beyond_credit;
      return;
    }
    ahead_bytes_ += piece.size_bytes();
    ahead_.emplace(frame.sequence, piece);
    ack_now();
    return;
  }
  answered_attempt_ = frame.attempt;
  accept(piece);
  while (!ahead_.empty() && ahead_.begin()->first == next_expected_) {
    ahead_bytes_ -= ahead_.begin()->second.size_bytes();
    accept(ahead_.begin()->second);
    ahead_.erase(ahead_.begin());
  }
  if (unacked_received_bytes_ >= kAckBytes)
    ack_now();
  else
    ack_at_ = std::min(ack_at_, now + options_.ack_delay);
}

LinkFault ReliableLink::fault_of(const Piece& piece) const {
  const bool begins = !piece.message_header.empty();
  if (begins == partial_.has_value()) return LinkFault::kBrokenCutting;
  const std::uint64_t payload_bytes = begins ? piece.message_payload_bytes : partial_payload_bytes_;
  const std::uint64_t offset = begins ? 0 : partial_payload_.size();
  if (payload_bytes > options_.payload_bytes_max) return LinkFault::kPayloadTooLarge;
  if (piece.message_payload_bytes != payload_bytes || piece.chunk_offset != offset ||
      piece.chunk.size() != std::min<std::uint64_t>(kChunkBytesMax, payload_bytes - offset))
    return LinkFault::kBrokenCutting;
  // A message in one piece is decoded at once, which finds the same.
  if (begins && piece.chunk.size() < payload_bytes && !may_carry_payload(piece.message_header))
    return LinkFault::kPayloadNotAllowed;
  return LinkFault::kNone;
}

void ReliableLink::accept(const Piece& piece) {
  ++next_expected_;
  unacked_received_bytes_ += piece.size_bytes();
  if (fault_ == LinkFault::kNone) fault_ = fault_of(piece);
  if (fault_ != LinkFault::kNone) return;
  if (!piece.message_header.empty()) {
    if (piece.chunk.size() == piece.message_payload_bytes) {
      received_.push_back({piece.message_header, piece.chunk});
      return;
    }
    partial_ = EncodedMessage{piece.message_header, {}};
    partial_payload_bytes_ = piece.message_payload_bytes;
  }
  // Room for what has come, doubling, and never for more than was announced.
  const std::size_t size = partial_payload_.size() + piece.chunk.size();
  if (size > partial_payload_.capacity())
    partial_payload_.reserve(
        std::min<std::size_t>(partial_payload_bytes_, std::max(size, 2 * partial_payload_.capacity())));
  partial_payload_.insert(partial_payload_.end(), piece.chunk.view().begin(), piece.chunk.view().end());
  if (partial_payload_.size() < partial_payload_bytes_) return;
  partial_->payload = SharedBytes::take(std::exchange(partial_payload_, {}));
  received_.push_back(std::move(*partial_));
  partial_.reset();
}

void ReliableLink::on_ack(ProtocolTime now, const Frame& frame) {
  const std::uint64_t next_expected = frame.next_expected;
  if (next_expected > next_sequence_) {
    ++counts_.acks_of_unsent;
    return;
  }
  if (next_expected < acked_through_) {  // overtaken by a newer one, whose credit is newer too
    ++counts_.acks_outdated;
    return;
  }
  acked_through_ = next_expected;
  peer_credit_ = std::min(frame.credit_bytes, kCreditBytesMax);
  std::size_t bytes = 0;
  bool measured = false;
  std::optional<BandwidthEstimate::Mark> newest;
  for (; !in_flight_.empty() && in_flight_.front().frame.sequence < next_expected; in_flight_.pop_front()) {
    const InFlight& first = in_flight_.front();
    // The last one's arrival is what is answered, unless it had to wait for a later sending of another.
    const bool is_last = first.frame.sequence + 1 == next_expected;
    if (is_last && frame.answered_attempt == 0 && !first.on_old_route) {
      measure(now - first.mark.sent_at);
      newest = first.mark;
      measured = true;
    } else if (is_last && frame.answered_attempt > 0 && frame.answered_attempt == first.frame.attempt) {
      measure(now - first.sent_at);
      measured = true;
    }
    if (first.tag != 0) acked_tags_.push_back(first.tag);
    bytes += first.bytes;
  }
  if (bytes == 0) return;
  in_flight_bytes_ -= bytes;
  estimate_.on_acked(now, bytes, newest ? &*newest : nullptr);
  // RFC 6298, 5.7: a timeout that has grown stays so until a round trip is known.
  if (measured) timeouts_ = 0;
  progress_at_ = now;
  resend_at_ = in_flight_.empty() ? kNever : now + resend_timeout();
  // As Eifel (RFC 3522) has it: what was supposed lost was late. Else a recovery goes on, if there is one.
  if (frame.answered_attempt == 0 && lost_by_timeout_) lost_end_ = lost_begin_;
  resend_next_ = resend_burst_;
  resend_burst_ = std::min(2 * resend_burst_, kResendBurst);
}

void ReliableLink::measure(Duration sample) {
  // RFC 6298, section 2.
  sample = std::min(sample, kRoundTripMax);
  if (round_trip_ == Duration(0)) {
    round_trip_ = sample;
    round_trip_deviation_ = sample / 2;
    return;
  }
  const Duration difference = sample > round_trip_ ? sample - round_trip_ : round_trip_ - sample;
  round_trip_deviation_ += (difference - round_trip_deviation_) / 4;
  round_trip_ += (sample - round_trip_) / 8;
}

Duration ReliableLink::resend_timeout() const {
  Duration timeout =
      round_trip_ == Duration(0) ? std::chrono::seconds(1) : round_trip_ + 4 * round_trip_deviation_;
  timeout = std::max(timeout + options_.ack_delay, options_.resend_min);
  const Duration longest = std::max(timeout, options_.resend_max);
  for (std::uint32_t i = 0; i < std::min(timeouts_, 8u); ++i) timeout *= 2;
  return std::min(timeout, longest);
}

void ReliableLink::on_new_route(ProtocolTime now) {
  timeouts_ = 0;
  if (in_flight_.empty()) return;
  suppose_all_lost(kResendBurst);
  lost_by_timeout_ = false;
  for (InFlight& sent : in_flight_) sent.on_old_route = true;
  resend_at_ = now + resend_timeout();
}

void ReliableLink::suppose_all_lost(std::size_t burst) {
  lost_begin_ = acked_through_;
  lost_end_ = next_sequence_;
  resend_next_ = burst;
  resend_burst_ = std::min(2 * burst, kResendBurst);
}

void ReliableLink::fill_ack(Frame& frame) const {
  frame.next_expected = next_expected_;
  frame.answered_attempt = answered_attempt_;
  frame.credit_bytes = options_.credit_bytes;
}

void ReliableLink::resend(ProtocolTime now, std::size_t count, std::vector<Frame>& out) {
  lost_begin_ = std::max(lost_begin_, acked_through_);
  for (; count > 0 && lost_begin_ < lost_end_; --count, ++lost_begin_) {
    InFlight& sent = in_flight_[lost_begin_ - acked_through_];
    ++sent.frame.attempt;
    sent.sent_at = now;
    ++counts_.resent;
    out.push_back(sent.frame);
  }
}

std::vector<Frame> ReliableLink::take_frames(ProtocolTime now) {
  std::vector<Frame> out;
  if (now >= resend_at_) {
    ++timeouts_;
    const bool recovering = std::max(lost_begin_, acked_through_) < lost_end_;
    lost_by_timeout_ = !recovering || lost_by_timeout_;
    suppose_all_lost(1);
    resend_at_ = now + resend_timeout();
  }
  if (resend_next_ > 0) resend(now, std::exchange(resend_next_, 0), out);
  while (!queue_.empty() && in_flight_.size() < kFramesInFlightMax) {
    Outgoing& first = queue_.front();
    const std::size_t payload_bytes = first.message.payload.size();
    const std::size_t chunk_bytes = std::min(kChunkBytesMax, payload_bytes - first.offset);
    const std::size_t bytes = chunk_bytes + (first.begun ? 0 : first.message.header.size());
    if (in_flight_bytes_ > 0 && in_flight_bytes_ + bytes > peer_credit_) break;
    if (in_flight_bytes_ > 0 && in_flight_bytes_ + bytes > estimate_.window_bytes()) break;
    InFlight sent;
    sent.frame.kind = FrameKind::kData;
    sent.frame.sequence = next_sequence_++;
    sent.frame.message_payload_bytes = payload_bytes;
    sent.frame.chunk_offset = first.offset;
    if (!first.begun) sent.frame.message_header = first.message.header;
    if (chunk_bytes > 0) sent.frame.chunk = first.message.payload.slice(first.offset, chunk_bytes);
    sent.bytes = bytes;
    sent.sent_at = now;
    sent.mark = estimate_.on_sent(now, in_flight_bytes_);
    if (in_flight_.empty()) progress_at_ = now;
    first.begun = true;
    first.offset += chunk_bytes;
    queued_bytes_ -= bytes;
    in_flight_bytes_ += bytes;
    if (first.offset == payload_bytes) {
      sent.tag = first.tag;
      queue_.pop_front();
    }
    out.push_back(sent.frame);
    in_flight_.push_back(std::move(sent));
    if (resend_at_ == kNever) resend_at_ = now + resend_timeout();
  }
  if (queue_.empty()) estimate_.on_idle(in_flight_bytes_);
  if (out.empty() && now >= ack_at_) {
    Frame ack;
    ack.kind = FrameKind::kAck;
    out.push_back(std::move(ack));
  }
  if (!out.empty()) {
    ack_at_ = kNever;
    unacked_received_bytes_ = 0;
  }
  for (Frame& frame : out) fill_ack(frame);
  return out;
}

ProtocolTime ReliableLink::next_deadline() const { return std::min(resend_at_, ack_at_); }

}  // namespace nanduti
