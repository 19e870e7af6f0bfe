#include "common/protocol/bandwidth_estimate.h"

#include <algorithm>
#include <utility>

#include "common/protocol/frame.h"

namespace nanduti {

namespace {

/// In flight, in what the path holds. DESIGN section 4: two at least.
constexpr double kGain = 2;
/// Before anything is measured.
constexpr std::size_t kWindowInitial = std::size_t{1} << 20;
/// Added to what the path holds: two chunks, of which one can be on its way while the other is acknowledged.
constexpr std::size_t kWindowMin = 2 * kChunkBytesMax;
/// Added to the round trip: acknowledgements wait for company, and threads for their turn.
constexpr Duration kAckSlack = std::chrono::milliseconds(20);
/// Over the unloaded round trip, in which a stream in the background takes the path for free: a quarter, and
/// kAckSlack.
constexpr int kFreeShare = 4;
/// A round trip that nothing has confirmed for so long is measured again, by a frame that nothing is in front
/// of: a pause of two round trips.
constexpr Duration kRoundTripAge = std::chrono::seconds(30);
/// What was measured while the sender had more to send says nothing of the path any more.
constexpr Duration kFullRateAge = std::chrono::seconds(10);
/// Longer ones are not part of that while.
constexpr Duration kSilence = std::chrono::seconds(1);

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

BandwidthEstimate::Mark BandwidthEstimate::on_sent(ProtocolTime now, std::size_t in_flight_bytes) {
  const bool alone = in_flight_bytes == 0;
  if (alone) newest_sent_at_ = delivered_at_ = now;  // rest is not slowness
  if (alone && rests_) {
    given_window_ = kChunkBytesMax;
    has_given_way_ = false;
  }
  rests_ = false;
  const bool limited = draining_ || (limited_until_ > 0 && delivered_ <= limited_until_);
  return {now, newest_sent_at_, delivered_at_, delivered_, limited, alone};
}

void BandwidthEstimate::on_idle(std::size_t in_flight_bytes) {
  rests_ = true;
  limited_until_ = std::max<std::uint64_t>(delivered_ + in_flight_bytes, 1);
}

void BandwidthEstimate::on_acked(ProtocolTime now, std::size_t bytes, const Mark* newest) {
  if (now - delivered_at_ > kSilence) round_trip_at_ += now - delivered_at_;
  delivered_ += bytes;
  delivered_at_ = now;
  if (newest == nullptr) return;
  newest_sent_at_ = newest->sent_at;
  measure_rate(now, *newest);
  measure_round_trip(now, *newest);
  if (background_) give_way(now - newest->sent_at, *newest);
}

void BandwidthEstimate::measure_rate(ProtocolTime now, const Mark& mark) {
  // The slower of sending and hearing of it: acknowledgements may come in a heap.
  const Duration span = std::max(now - mark.delivered_at, mark.sent_at - mark.earlier_sent_at);
  if (span <= Duration(0)) return;
  const double rate = static_cast<double>(delivered_ - mark.delivered) / seconds(span);
  if (now - full_at_ > kFullRateAge) full_rates_.fill(0);
  if (mark.limited && rate < bytes_per_second()) return;
  if (mark.delivered >= round_ends_) {
    round_ends_ = delivered_;
    round_ = (round_ + 1) % kRounds;
    rates_[round_] = full_rates_[round_] = 0;
  }
  if (!mark.limited) {
    full_rates_[round_] = std::max(full_rates_[round_], rate);
    full_at_ = now;
  }
  rates_[round_] = std::max(rates_[round_], rate);
}

void BandwidthEstimate::measure_round_trip(ProtocolTime now, const Mark& mark) {
  const Duration sample = now - mark.sent_at;
  if (round_trip_ == Duration(0) || sample < round_trip_ || (draining_ && mark.alone)) {
    round_trip_ = sample;
    draining_ = false;
  }
  if (sample <= round_trip_ + round_trip_ / 8) round_trip_at_ = now;
  if (now - round_trip_at_ >= kRoundTripAge) draining_ = true;
}

Duration BandwidthEstimate::unloaded() const {
  return unloaded_ > Duration(0) ? std::min(unloaded_, round_trip_) : round_trip_;
}

void BandwidthEstimate::give_way(Duration sample, const Mark& mark) {
  given_round_min_ = std::min(given_round_min_, sample);
  if (mark.delivered < given_round_end_) return;
  given_round_end_ = delivered_;
  const Duration shortest = std::exchange(given_round_min_, Duration::max());
  if (shortest > unloaded() + unloaded() / kFreeShare + kAckSlack) {
    has_given_way_ = true;
    given_window_ = std::max(std::min(given_window_, path_window_bytes()) / 2, kChunkBytesMax);
  } else if (given_window_ < path_window_bytes()) {
    given_window_ += has_given_way_ ? kChunkBytesMax : given_window_;
  }
}

double BandwidthEstimate::bytes_per_second() const { return *std::max_element(rates_.begin(), rates_.end()); }

double BandwidthEstimate::path_bytes_per_second() const {
  return *std::max_element(full_rates_.begin(), full_rates_.end());
}

std::size_t BandwidthEstimate::window_bytes() const {
  if (draining_) return 0;
  return background_ ? std::min(given_window_, path_window_bytes()) : path_window_bytes();
}

std::size_t BandwidthEstimate::path_window_bytes() const {
  const double rate = bytes_per_second();
  if (rate == 0) return kWindowInitial;
  return kWindowMin + static_cast<std::size_t>(kGain * rate * seconds(round_trip_ + kAckSlack));
}

}  // namespace nanduti
