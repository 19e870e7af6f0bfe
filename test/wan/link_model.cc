#include "test/wan/link_model.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nanduti::wan {
namespace {

/// Streams of one way: kStreamsPerWay * stream + one of these. Jitter has a stream for each of its values, so
/// that they do not depend on the packets.
enum Draw : std::uint64_t { kLoss, kDuplicate, kReorder };
constexpr std::uint64_t kStreamsPerWay = 8;
constexpr std::uint64_t kJitterStreams = std::uint64_t{1} << 32;

/// The 99th percentile of the normal distribution.
constexpr double kNormalP99 = 2.3263478740408408;

double normal(RandomStream& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
  return radius * std::cos(2 * std::numbers::pi * random.uniform());
}

LinkTime draw_jitter(const Jitter& jitter, RandomStream random) {
  if (jitter.distribution == Jitter::Distribution::kUniform) {
    return LinkTime(std::llround(static_cast<double>(jitter.within.count()) * random.uniform(-1, 1)));
  }
  const double p50 = static_cast<double>(jitter.p50.count());
  const double sigma = std::log(static_cast<double>(jitter.p99.count()) / p50) / kNormalP99;
  const double value = p50 * std::exp(sigma * normal(random));
  return LinkTime(std::llround(std::min(value, static_cast<double>(kDelayMax.count()))));
}

LinkTime least_delay(const WayProfile& profile) {
  return profile.jitter.distribution == Jitter::Distribution::kUniform ? profile.delay - profile.jitter.within
                                                                       : profile.delay;
}

}  // namespace

LinkWay::LinkWay(const WayProfile& profile, std::uint64_t queue_bytes_max, std::uint64_t seed,
                 std::uint64_t stream)
    : profile_(profile),
      queue_bytes_max_(queue_bytes_max),
      seed_(seed),
      stream_(stream),
      loss_random_(seed, kStreamsPerWay * stream + kLoss),
      duplicate_random_(seed, kStreamsPerWay * stream + kDuplicate),
      reorder_random_(seed, kStreamsPerWay * stream + kReorder) {}

void LinkWay::offer(LinkTime now, Packet packet) {
  advance(now);
  ++counters_.packets_in;
  counters_.bytes_in += packet.size();
  if (!profile_.rate_bits_per_s) return transmit(now, std::move(packet));
  if (queue_bytes_ + packet.size() > queue_bytes_max_) {
    ++counters_.dropped_queue;
    return;
  }
  if (queue_.empty()) head_end_ = now + sending_time(packet);
  queue_bytes_ += packet.size();
  counters_.queue_bytes_peak = std::max(counters_.queue_bytes_peak, queue_bytes_);
  queue_.push_back(std::move(packet));
}

std::optional<LinkWay::Arrival> LinkWay::take(LinkTime now) {
  advance(now);
  if (flights_.empty() || flights_.front().due > now) return std::nullopt;
  std::pop_heap(flights_.begin(), flights_.end(), later);
  Flight flight = std::move(flights_.back());
  flights_.pop_back();
  if (flight.sequence < arrived_sequence_) ++counters_.reordered;
  arrived_sequence_ = std::max(arrived_sequence_, flight.sequence);
  ++counters_.packets_out;
  counters_.bytes_out += flight.packet.size();
  return Arrival{flight.due, std::move(flight.packet)};
}

std::optional<LinkTime> LinkWay::next_arrival_at_least() const {
  std::optional<LinkTime> next;
  if (!queue_.empty()) next = head_end_ + least_delay(profile_);
  if (!flights_.empty()) next = std::min(next.value_or(LinkTime::max()), flights_.front().due);
  return next;
}

void LinkWay::change(LinkTime now, const WayProfile& profile, std::uint64_t queue_bytes_max) {
  advance(now);
  profile_ = profile;
  queue_bytes_max_ = queue_bytes_max;
  jitter_index_ = ~std::uint64_t{0};
  if (profile_.rate_bits_per_s) return;
  while (!queue_.empty()) {
    transmit(now, std::move(queue_.front()));
    queue_.pop_front();
  }
  queue_bytes_ = 0;
}

void LinkWay::black_out(LinkTime now, LinkTime end) {
  advance(now);
  blackout_end_ = end;
}

void LinkWay::advance(LinkTime now) {
  while (!queue_.empty() && head_end_ <= now) {
    Packet packet = std::move(queue_.front());
    queue_.pop_front();
    queue_bytes_ -= packet.size();
    transmit(head_end_, std::move(packet));
    if (!queue_.empty()) head_end_ += sending_time(queue_.front());
  }
}

void LinkWay::transmit(LinkTime at, Packet packet) {
  ++next_sequence_;
  // Drawn in any case: a blackout does not change what happens to later packets.
  const bool lost = is_lost();
  const bool doubled = duplicate_random_.chance(profile_.duplicate);
  const bool overtaken = reorder_random_.chance(profile_.reorder);
  if (at < blackout_end_) {
    ++counters_.dropped_blackout;
    return;
  }
  if (lost) {
    ++counters_.dropped_loss;
    return;
  }
  LinkTime due = at + profile_.delay + jitter_at(at);
  if (overtaken) {
    due += profile_.reorder_by;
  } else {
    const LinkTime apart = profile_.rate_bits_per_s ? sending_time(packet) / kDrainFactor : LinkTime(0);
    due = last_due_ = std::max(due, last_due_ + apart);
  }
  if (doubled) {
    ++counters_.duplicates;
    fly(due, packet);
  }
  fly(due, std::move(packet));
}

void LinkWay::fly(LinkTime due, Packet packet) {
  if (flights_.size() >= kInFlightPacketsMax) {
    ++counters_.dropped_queue;
    return;
  }
  flights_.push_back({due, next_order_++, next_sequence_, std::move(packet)});
  std::push_heap(flights_.begin(), flights_.end(), later);
}

LinkTime LinkWay::sending_time(const Packet& packet) const {
  return LinkTime(std::llround(static_cast<double>(packet.size()) * 8e9 / *profile_.rate_bits_per_s));
}

bool LinkWay::is_lost() {
  if (!profile_.burst_packets) return loss_random_.chance(profile_.loss);
  // Two states; the share of the bad one is the loss, and a stay there lasts burst_packets in the mean.
  const double leave_bad = 1 / *profile_.burst_packets;
  const double enter_bad = leave_bad * profile_.loss / (1 - profile_.loss);
  in_burst_ = loss_random_.chance(in_burst_ ? 1 - leave_bad : enter_bad);
  return in_burst_;
}

LinkTime LinkWay::jitter_at(LinkTime at) {
  const auto index = static_cast<std::uint64_t>(at / profile_.jitter.every);
  if (index != jitter_index_) {
    jitter_index_ = index;
    jitter_ = draw_jitter(profile_.jitter, RandomStream(seed_, (stream_ + 1) * kJitterStreams + index));
  }
  return jitter_;
}

}  // namespace nanduti::wan
