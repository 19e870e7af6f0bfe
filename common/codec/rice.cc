#include "common/codec/rice.h"

#include <algorithm>
#include <bit>

#include "common/base/check.h"
#include "common/codec/bit_packing.h"
#include "common/codec/block_layout.h"

namespace nanduti {

RiceChoice choose_rice(std::span<const std::uint32_t> indices) {
  NANDUTI_CHECK(!indices.empty());
  const std::uint64_t count = indices.size();
  const auto unary_bits = [&](std::uint32_t parameter) {
    std::uint32_t quotients = indices[0] >> parameter;
    for (std::size_t k = 1; k < count; ++k) quotients += (indices[k] - indices[k - 1] - 1) >> parameter;
    return count + quotients;
  };
  // A parameter more saves the less the larger it is, so that the first one from above that pays is the best.
  // Beyond the mean gap none does.
  const std::uint64_t mean_gap = (indices.back() + 1 - count) / count;
  std::uint32_t parameter = std::min(kRiceParameterMax, static_cast<std::uint32_t>(std::bit_width(mean_gap)));
  std::uint64_t bits = unary_bits(parameter);
  while (parameter > 0) {
    const std::uint64_t fewer = unary_bits(parameter - 1);
    if (fewer > bits + count) break;
    bits = fewer;
    --parameter;
  }
  return {parameter, bits};
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
