#include "common/codec/bit_packing.h"

namespace nanduti {
namespace {

/// Whole bytes at once; the width is known to the compiler.
template <std::uint32_t kWidth>
void pack_bytes(std::span<const std::uint32_t> codes, std::byte* out) {
  constexpr std::size_t kPerByte = 8 / kWidth;
  const std::size_t whole = codes.size() / kPerByte;
  for (std::size_t at = 0; at < whole; ++at) {
    std::uint32_t byte = 0;
    for (std::size_t k = 0; k < kPerByte; ++k) byte |= codes[at * kPerByte + k] << (k * kWidth);
    out[at] = static_cast<std::byte>(byte);
  }
  BitWriter rest(out + whole);
  for (std::size_t k = whole * kPerByte; k < codes.size(); ++k) rest.write(codes[k], kWidth);
  rest.finish();
}

}  // namespace

void pack_codes(std::span<const std::uint32_t> codes, std::uint32_t width, std::byte* out) {
  if (codes.empty()) return;
  if (width == 2) pack_bytes<2>(codes, out);
  if (width == 4) pack_bytes<4>(codes, out);
  if (width == 8) pack_bytes<8>(codes, out);
  if (width == 32) std::memcpy(out, codes.data(), codes.size_bytes());
}

}  // namespace nanduti
