#include "common/codec/quantiser.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "common/codec/bfloat16.h"

namespace nanduti {
namespace {

/// Sums in an order that is the same for every vector width: lane k takes every 16th value, then the lanes
/// are added in halves.
class LaneSum {
 public:
  static constexpr std::size_t kLanes = 16;

  /// Adds value(0) to value(count - 1).
  template <class Value>
  void add_all(std::size_t count, Value value) {
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
      for (std::size_t lane = 0; lane < kLanes; ++lane) lanes_[lane] += static_cast<double>(value(i + lane));
    for (std::size_t lane = 0; i + lane < count; ++lane) lanes_[lane] += static_cast<double>(value(i + lane));
  }
  [[nodiscard]] double total() {
    for (std::size_t width = kLanes / 2; width > 0; width /= 2)
      for (std::size_t lane = 0; lane < width; ++lane) lanes_[lane] += lanes_[lane + width];
    return lanes_[0];
  }

 private:
  std::array<double, kLanes> lanes_{};
};

float magnitude_of(float value) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu);
}

std::uint32_t sign_of(float value) { return std::bit_cast<std::uint32_t>(value) >> 31; }

float mean(double sum, std::size_t count) {
  return count == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(count));
}

void quantise_two_bits(std::span<const float> values, QuantisedValues& out) {
  const std::size_t count = values.size();
  LaneSum sum;
  sum.add_all(count, [&](std::size_t i) { return magnitude_of(values[i]); });
  const float middle = mean(sum.total(), count);
  std::size_t high_count = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t is_high = magnitude_of(values[i]) > middle ? 1 : 0;
    high_count += is_high;
    out.codes[i] = sign_of(values[i]) | (is_high << 1);
  }
  LaneSum low, high;
  low.add_all(count, [&](std::size_t i) {
    const float magnitude = magnitude_of(values[i]);
    return magnitude > middle ? 0.0f : magnitude;
  });
  high.add_all(count, [&](std::size_t i) {
    const float magnitude = magnitude_of(values[i]);
    return magnitude > middle ? magnitude : 0.0f;
  });
  out.scales[0] = nearest_bfloat16(mean(low.total(), count - high_count));
  out.scales[1] = nearest_bfloat16(mean(high.total(), high_count));
}

void quantise_evenly(std::span<const float> values, std::uint32_t levels, bool from_zero,
                     QuantisedValues& out) {
  // A quotient below 2^22 plus this has no room for a fraction: it is rounded to nearest, ties to even.
  constexpr float kRound = 12582912.0f;
  float smallest = std::bit_cast<float>(0x7F7FFFFFu), largest = 0;
  for (const float value : values) {
    smallest = std::min(smallest, magnitude_of(value));
    largest = std::max(largest, magnitude_of(value));
  }
  // Both are rounded down, so that the largest code is finite.
  out.scales[0] = from_zero || values.empty() ? std::uint16_t{0} : bfloat16_below(smallest);
  const float base = from_bfloat16(out.scales[0]);
  const auto top = static_cast<float>(levels);
  out.scales[1] = bfloat16_below((largest - base) / top);
  const float step = from_bfloat16(out.scales[1]);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float quotient = step == 0 ? 0.0f : std::min((magnitude_of(values[i]) - base) / step, top);
    const float rounded = (quotient + kRound) - kRound;
    const auto level = static_cast<std::uint32_t>(rounded);
    // Zero has no sign.
    const std::uint32_t sign = level == 0 && out.scales[0] == 0 ? 0 : sign_of(values[i]);
    out.codes[i] = sign | (level << 1);
  }
}

}  // namespace

void fill_value_table(ValueCode code, const std::uint16_t scales[2], float* table) {
  const float first = from_bfloat16(scales[0]), second = from_bfloat16(scales[1]);
  const std::uint32_t levels = 1u << (bits_of(code) - 1);
  for (std::uint32_t level = 0; level < levels; ++level) {
    // The product is exact.
    const float magnitude = code == ValueCode::kTwoBits ? (level == 0 ? first : second)
                                                        : first + static_cast<float>(level) * second;
    table[2 * level] = magnitude;
    table[2 * level + 1] = -magnitude;
  }
}

void quantise(std::span<const float> values, ValueCode code, bool from_zero, QuantisedValues& out) {
  out.codes.resize(values.size());
  out.sent.resize(values.size());
  out.scales[0] = out.scales[1] = 0;
  if (code == ValueCode::kFloat32) {
    for (std::size_t i = 0; i < values.size(); ++i) out.codes[i] = std::bit_cast<std::uint32_t>(values[i]);
    std::copy(values.begin(), values.end(), out.sent.begin());
    return;
  }
  if (code == ValueCode::kTwoBits)
    quantise_two_bits(values, out);
  else
    quantise_evenly(values, (1u << (bits_of(code) - 1)) - 1, from_zero, out);
  std::array<float, 256> table{};
  fill_value_table(code, out.scales, table.data());
  for (std::size_t i = 0; i < values.size(); ++i) out.sent[i] = table[out.codes[i]];
}

}  // namespace nanduti
