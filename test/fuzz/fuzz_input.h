#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"

namespace nanduti {

/// A fuzzer's bytes, read from front to back as choices and contents. Behind the end everything is 0. Copies
/// read on from one position, so that generators may own one.
class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size)
      : state_(std::make_shared<std::span<const std::uint8_t>>(data, size)) {}

  /// One that reads the same bytes from here, on its own.
  [[nodiscard]] FuzzInput copy() const { return {state_->data(), state_->size()}; }

  [[nodiscard]] bool empty() const { return state_->empty(); }
  [[nodiscard]] std::size_t remaining() const { return state_->size(); }

  std::uint8_t byte() {
    std::uint8_t value = 0;
    read(&value, 1);
    return value;
  }
  std::uint64_t next_u64() {
    std::uint64_t value = 0;
    read(&value, sizeof value);
    return value;
  }
  /// In [0, bound); bound > 0. Takes as few bytes as the bound needs.
  std::uint64_t below(std::uint64_t bound) {
    std::uint64_t value = 0;
    std::size_t width = 0;
    while (width < sizeof value && (width == 0 || (bound - 1) >> (8 * width) != 0)) ++width;
    read(&value, width);
    return value % bound;
  }
  bool flag() { return (byte() & 1) != 0; }

  /// At most `count` bytes, fewer at the end.
  std::span<const std::uint8_t> bytes(std::size_t count) {
    const auto taken = state_->first(std::min(count, state_->size()));
    *state_ = state_->subspan(taken.size());
    return taken;
  }
  std::span<const std::uint8_t> rest() { return bytes(state_->size()); }
  std::string text(std::size_t count) {
    const auto taken = bytes(count);
    return {taken.begin(), taken.end()};
  }
  std::string rest_as_text() { return text(state_->size()); }
  /// A copy of their own on the heap, where AddressSanitizer sees every step beyond it.
  static SharedBytes own(std::span<const std::uint8_t> bytes) {
    return SharedBytes::take(std::vector<std::uint8_t>(bytes.begin(), bytes.end()));
  }

 private:
  void read(void* out, std::size_t width) {
    const auto taken = bytes(width);
    if (!taken.empty()) std::memcpy(out, taken.data(), taken.size());
  }

  std::shared_ptr<std::span<const std::uint8_t>> state_;
};

inline bool equal_bytes(const SharedBytes& a, const SharedBytes& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace nanduti
