#include "common/codec/rice.h"

#include <algorithm>
#include <array>

#include "common/base/check.h"
#include "common/codec/bit_packing.h"
#include "common/codec/block_layout.h"

namespace nanduti {

RiceChoice choose_rice(std::span<const std::uint32_t> indices) {
  NANDUTI_CHECK(!indices.empty());
  std::array<std::uint32_t, kRiceParameterMax + 1> quotients{};
  std::uint32_t next = 0;
  for (const std::uint32_t index : indices) {
    const std::uint32_t gap = index - next;
    for (std::uint32_t parameter = 0; parameter <= kRiceParameterMax; ++parameter)
      quotients[parameter] += gap >> parameter;
    next = index + 1;
  }
  RiceChoice best;
  std::uint64_t best_bits = ~std::uint64_t{0};
  for (std::uint32_t parameter = 0; parameter <= kRiceParameterMax; ++parameter) {
    const std::uint64_t unary_bits = indices.size() + quotients[parameter];
    const std::uint64_t bits = unary_bits + indices.size() * parameter;
    if (bits >= best_bits) continue;
    best = {parameter, unary_bits};
    best_bits = bits;
  }
  return best;
}

std::uint64_t rice_bits_max(std::uint64_t size, std::uint64_t count) {
  std::uint64_t best = ~std::uint64_t{0};
  for (std::uint32_t parameter = 0; parameter <= kRiceParameterMax; ++parameter)
    best = std::min(best, count * (parameter + 1) + ((size - count) >> parameter));
  return best;
}

void write_rice(std::span<const std::uint32_t> indices, std::uint32_t parameter, std::byte* unary,
                std::byte* remainders) {
  BitWriter writer(remainders);
  const std::uint32_t mask = (1u << parameter) - 1;
  std::uint32_t next = 0;
  std::uint64_t position = 0;
  for (const std::uint32_t index : indices) {
    const std::uint32_t gap = index - next;
    position += gap >> parameter;
    set_bit(unary, position++);
    writer.write(gap & mask, parameter);
    next = index + 1;
  }
  writer.finish();
}

}  // namespace nanduti
