#include "common/protocol/reliable_link.h"

#include <algorithm>

namespace nanduti {

namespace {

/// Frames sent again at once: on a new route, and of those that are missing, at every acknowledgement or
/// tolerance.
constexpr std::size_t kResendBurst = 8;
/// The tolerance for reordering begins with this part of the unloaded round trip, and doubles up to the
/// smoothed one while it proves too short.
constexpr int kToleranceDivisor = 4;
constexpr std::uint32_t kToleranceDoublingsMax = 4;
/// Who acknowledges without taking anything has no more sent again than kResendBurst in this time.
constexpr Duration kToleranceMin = std::chrono::milliseconds(20);
/// The slowest path on which the first frames are not sent twice: half of it may be somebody else's.
constexpr double kBytesPerSecondMin = 64 * 1024;
constexpr double kSharing = 2;
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
  newest_transmission_ = std::max(newest_transmission_, frame.transmission);
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
    hold(frame.sequence, piece);
    ack_now();
    return;
  }
  answered_attempt_ = frame.attempt;
  accept(piece);
  if (!held_.empty()) {  // a gap is filled, or moves: the sender wants to know
    if (held_.begin()->first == next_expected_) held_.erase(held_.begin());
    ack_now();
  }
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

void ReliableLink::hold(std::uint64_t sequence, const Piece& piece) {
  ahead_bytes_ += piece.size_bytes();
  ahead_.emplace(sequence, piece);
  auto after = held_.upper_bound(sequence);
  std::uint64_t begin = sequence, end = sequence + 1;
  if (after != held_.end() && after->first == end) {
    end = after->second;
    after = held_.erase(after);
  }
  if (after != held_.begin() && std::prev(after)->second == begin)
    std::prev(after)->second = end;
  else
    held_.emplace_hint(after, begin, end);
}

LinkFault ReliableLink::fault_of(const Piece& piece) const {
  const bool begins = !piece.message_header.empty();
  if (begins == partial_.has_value()) return LinkFault::kBrokenCutting;
  const std::uint64_t payload_bytes = begins ? piece.message_payload_bytes : partial_payload_bytes_;
  const std::uint64_t offset = begins ? 0 : partial_payload_.size();
  if (payload_bytes > options_.payload_bytes_max) return LinkFault::kPayloadTooLarge;
  if (piece.message_payload_bytes != payload_bytes || piece.chunk_offset != offset ||
      piece.chunk.size() != std::min<std::uint64_t>(chunk_bytes_max(), payload_bytes - offset))
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
  if (frame.next_expected > next_sequence_ || frame.newest_transmission > transmissions_ ||
      (!frame.held.empty() && frame.held.back().end > next_sequence_)) {
    ++counts_.acks_of_unsent;
    return;
  }
  if (frame.next_expected < acked_through_) {  // overtaken by a newer one, whose credit is newer too
    ++counts_.acks_outdated;
    return;
  }
  peer_credit_ = std::min(frame.credit_bytes, kCreditBytesMax);
  const std::size_t acked_bytes = take_acked(now, frame);
  const bool more_is_held = note_held(frame.held);
  if (acked_bytes > 0) progress_at_ = now;
  if (acked_bytes > 0 || more_is_held) timeout_at_ = in_flight_.empty() ? kNever : now + resend_timeout();
  find_missing(now, frame.newest_transmission);
}

/// Forgets what has arrived; its bytes.
std::size_t ReliableLink::take_acked(ProtocolTime now, const Frame& frame) {
  acked_through_ = frame.next_expected;
  std::size_t bytes = 0;
  bool measured = false, was_missing = false;
  std::optional<BandwidthEstimate::Mark> newest;
  for (; !in_flight_.empty() && in_flight_.front().frame.sequence < acked_through_; in_flight_.pop_front()) {
    const InFlight& first = in_flight_.front();
    // The last one's arrival is what is answered, unless it had to wait for a later sending of another.
    const bool is_last = first.frame.sequence + 1 == acked_through_;
    if (is_last && frame.answered_attempt == 0 && !first.on_old_route) {
      measure(now - first.mark.sent_at);
      newest = first.mark;
      measured = true;
    } else if (is_last && frame.answered_attempt > 0 && frame.answered_attempt == first.frame.attempt) {
      measure(now - first.sent_at);
      measured = true;
    }
    if (first.tag != 0) acked_tags_.push_back(first.tag);
    was_missing = was_missing || (first.found_missing && first.frame.attempt > 0);
    bytes += first.bytes;
    if (first.held) held_by_peer_bytes_ -= first.bytes;
  }
  if (bytes == 0) return 0;
  in_flight_bytes_ -= bytes;
  estimate_.on_acked(now, bytes, newest ? &*newest : nullptr);
  // RFC 6298, 5.7: a timeout that has grown stays so until a round trip is known.
  if (measured) timeouts_ = 0;
  // As Eifel (RFC 3522) has it: the first sending is answered, so it was only late.
  if (was_missing && frame.answered_attempt == 0)
    tolerance_doublings_ = std::min(tolerance_doublings_ + 1, kToleranceDoublingsMax);
  else if (was_missing && tolerance_doublings_ > 0)
    --tolerance_doublings_;
  return bytes;
}

/// Whether the receiver holds more than it was known to.
bool ReliableLink::note_held(const std::vector<HeldRange>& ranges) {
  bool more = false;
  for (const HeldRange& range : ranges)
    for (std::uint64_t sequence = range.begin; sequence < range.end; ++sequence) {
      InFlight& sent = in_flight_[sequence - acked_through_];
      if (std::exchange(sent.held, true)) continue;
      sent.resend_at = kNever;
      held_by_peer_bytes_ += sent.bytes;
      more = true;
    }
  return more;
}

/// What was sent before a transmission that has arrived, and is not there, is missing.
void ReliableLink::find_missing(ProtocolTime now, std::uint64_t newest) {
  for (InFlight& sent : in_flight_) {
    // First sendings are numbered in order, later ones are newer still.
    if (sent.frame.attempt == 0 && sent.transmission >= newest) break;
    if (sent.held || sent.transmission >= newest) continue;
    if (sent.resend_at == kNever) sent.resend_at = now + reordering_tolerance();
    sent.found_missing = true;
    missing_at_ = std::min(missing_at_, sent.resend_at);
  }
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

/// Precondition: something is in flight.
Duration ReliableLink::resend_timeout() const {
  Duration timeout =
      round_trip_ == Duration(0) ? std::chrono::seconds(1) : round_trip_ + 4 * round_trip_deviation_;
  timeout = std::max(timeout + options_.ack_delay, options_.resend_min);
  const double rate = std::max(estimate_.bytes_per_second(), kBytesPerSecondMin) / kSharing;
  timeout += Duration(static_cast<std::int64_t>(static_cast<double>(in_flight_.front().bytes) / rate * 1e9));
  const Duration longest = std::max(timeout, options_.resend_max);
  for (std::uint32_t i = 0; i < std::min(timeouts_, 8u); ++i) timeout *= 2;
  return std::min(timeout, longest);
}

Duration ReliableLink::reordering_tolerance() const {
  const Duration unloaded = estimate_.round_trip() > Duration(0) ? estimate_.round_trip() : round_trip_;
  const Duration tolerance = unloaded / kToleranceDivisor * (1 << tolerance_doublings_);
  return std::max(std::min(tolerance, round_trip_), kToleranceMin);
}

void ReliableLink::on_new_route(ProtocolTime now) {
  timeouts_ = 0;
  if (in_flight_.empty()) return;
  std::size_t count = 0;
  for (InFlight& sent : in_flight_) {
    sent.on_old_route = true;
    if (!sent.held && count++ < kResendBurst) sent.resend_at = now;
  }
  missing_at_ = now;
  timeout_at_ = now + resend_timeout();
}

void ReliableLink::stamp(Frame& frame) {
  frame.transmission = ++transmissions_;
  frame.next_expected = next_expected_;
  frame.answered_attempt = answered_attempt_;
  frame.credit_bytes = options_.credit_bytes;
  frame.newest_transmission = newest_transmission_;
  for (const auto& [begin, end] : held_) {
    if (frame.held.size() == kHeldRangesMax) break;
    frame.held.push_back({begin, end});
  }
}

void ReliableLink::resend_missing(ProtocolTime now, std::vector<Frame>& out) {
  missing_at_ = kNever;
  for (InFlight& sent : in_flight_) {
    if (sent.resend_at == kNever) continue;
    if (sent.resend_at > now || out.size() == kResendBurst) {
      missing_at_ = std::min(missing_at_, std::max(sent.resend_at, now + reordering_tolerance()));
      continue;
    }
    ++sent.frame.attempt;
    ++counts_.resent;
    sent.sent_at = now;
    sent.resend_at = kNever;
    out.push_back(sent.frame);
  }
}

std::vector<Frame> ReliableLink::take_frames(ProtocolTime now) {
  std::vector<Frame> out;
  if (now >= timeout_at_) {
    ++timeouts_;
    in_flight_.front().resend_at = missing_at_ = now;
  }
  if (now >= missing_at_) resend_missing(now, out);
  if (!out.empty()) timeout_at_ = now + resend_timeout();
  while (!queue_.empty() && in_flight_.size() < kFramesInFlightMax) {
    Outgoing& first = queue_.front();
    const std::size_t payload_bytes = first.message.payload.size();
    const std::size_t chunk_bytes = std::min(chunk_bytes_max(), payload_bytes - first.offset);
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
    if (timeout_at_ == kNever) timeout_at_ = now + resend_timeout();
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
  for (Frame& frame : out) {
    stamp(frame);
    if (frame.kind == FrameKind::kData)
      in_flight_[frame.sequence - acked_through_].transmission = frame.transmission;
  }
  return out;
}

ProtocolTime ReliableLink::next_deadline() const { return std::min({timeout_at_, missing_at_, ack_at_}); }

}  // namespace nanduti
