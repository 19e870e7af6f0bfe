#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nanduti {

/// Rice codes of the gaps between ascending indices, in two sections: the quotients in unary (so many zeros,
/// then a one), and the remainders, `parameter` bits each. Each section ends with zeros up to a whole byte.
/// The gap of the first index is the index; of another one what lies between it and its predecessor.
struct RiceChoice {
  std::uint32_t parameter = 0;
  std::uint64_t unary_bits = 0;
};

/// The parameter with the fewest bits, of equal ones the smaller. Precondition: indices is not empty.
RiceChoice choose_rice(std::span<const std::uint32_t> indices);

/// No parameter of `count` > 0 indices below `size` needs more bits than this, if it is the best one.
std::uint64_t rice_bits_max(std::uint64_t size, std::uint64_t count);

/// Writes both sections into bytes that are zero.
void write_rice(std::span<const std::uint32_t> indices, std::uint32_t parameter, std::byte* unary,
                std::byte* remainders);

}  // namespace nanduti
