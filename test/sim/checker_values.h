#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "common/codec/codec.h"
#include "common/protocol/message.h"
#include "test/sim/trace.h"

/// What the parts of the checker share.
namespace nanduti::sim {

/// As simulation.cc sets it.
inline constexpr std::size_t kSubscriberBytesMax = 1 << 16;

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

/// Of a float32 payload.
inline std::span<const float> values_of(const SharedBytes& payload) {
  return {reinterpret_cast<const float*>(payload.data()), payload.size() / sizeof(float)};
}

/// target += factor * update, coordinate by coordinate in float32.
inline void add_update(std::span<float> target, const Update& update, float factor) {
  if (update.size != target.size()) fail("an update of {} for {} values", update.size, target.size());
  for (std::size_t i = 0; i < update.values.size(); ++i)
    target[update.dense ? i : update.indices[i]] += factor * update.values[i];
}

inline std::uint32_t count_active(const Membership& membership) {
  std::uint32_t count = 0;
  for (const Member& member : membership.members) count += member.state == MemberState::kActive ? 1 : 0;
  return count;
}

inline bool is_active(const Membership& membership, IncarnationOrder order) {
  return std::any_of(membership.members.begin(), membership.members.end(), [&](const Member& member) {
    return member.order == order && member.state == MemberState::kActive;
  });
}

template <class Map, class Key>
auto value_or_zero(const Map& map, const Key& key) {
  const auto it = map.find(key);
  return it == map.end() ? typename Map::mapped_type{} : it->second;
}

}  // namespace nanduti::sim
