#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace nanduti {

/// Writes fields one behind the other, lowest bits first, into bytes that are zero.
class BitWriter {
 public:
  /// `out` has room for all that will be written.
  explicit BitWriter(std::byte* out) : out_(out) {}

  /// Precondition: width <= 32, value < 2^width.
  void write(std::uint32_t value, std::uint32_t width) {
    word_ |= static_cast<std::uint64_t>(value) << used_;
    used_ += width;
    if (used_ < 32) return;
    const auto full = static_cast<std::uint32_t>(word_);
    std::memcpy(out_, &full, sizeof full);
    out_ += sizeof full;
    word_ >>= 32;
    used_ -= 32;
  }
  /// Writes what is left; the last byte is filled up with zeros.
  void finish() {
    for (; used_ > 0; used_ -= used_ < 8 ? used_ : 8) {
      *out_++ = static_cast<std::byte>(word_ & 0xFF);
      word_ >>= 8;
    }
  }

 private:
  std::byte* out_;
  std::uint64_t word_ = 0;
  std::uint32_t used_ = 0;
};

/// Writes codes of 2, 4, 8 or 32 bits like a BitWriter, which also finishes.
void pack_codes(std::span<const std::uint32_t> codes, std::uint32_t width, std::byte* out);

inline void set_bit(std::byte* bits, std::uint64_t position) {
  bits[position / 8] |= static_cast<std::byte>(1u << (position % 8));
}

}  // namespace nanduti
