#include "common/codec/codec.h"

#include <bit>
#include <cstring>
#include <vector>

#include "common/base/check.h"

namespace nanduti {

static_assert(std::endian::native == std::endian::little, "payloads are little-endian and are used in place");

namespace {

/// Whether no float32 of the bytes is NaN or infinite: none has all exponent bits set.
bool all_finite(const SharedBytes& payload) {
  constexpr std::uint32_t kExponent = 0x7F800000;
  std::uint32_t found = 0;
  for (std::size_t at = 0; at < payload.size(); at += sizeof(std::uint32_t)) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, payload.data() + at, sizeof bits);
    found |= (bits & kExponent) == kExponent ? 1u : 0u;
  }
  return found == 0;
}

}  // namespace

void add(std::span<float> target, const Update& update, float factor) {
  NANDUTI_CHECK(target.size() == update.size);
  if (update.dense) {
    for (std::size_t i = 0; i < target.size(); ++i) target[i] += factor * update.values[i];
  } else {
    for (std::size_t k = 0; k < update.indices.size(); ++k)
      target[update.indices[k]] += factor * update.values[k];
  }
}

EncodedUpdate DenseFloat32Codec::encode(std::span<float> residual, std::span<const float> progress,
                                        const CodingContext&) const {
  NANDUTI_CHECK(progress.empty() || progress.size() == residual.size());
  std::vector<float> sent(residual.size());
  for (std::size_t i = 0; i < sent.size(); ++i) {
    sent[i] = progress.empty() ? residual[i] : residual[i] + progress[i];
    // Not 0: infinity leaves NaN behind, as subtracting does.
    residual[i] = sent[i] - sent[i];
  }
  auto owner = std::make_shared<const std::vector<float>>(std::move(sent));
  const std::span<const float> view(*owner);
  return {SharedBytes(owner, std::as_bytes(view)), {view.size(), true, {}, view, owner}};
}

Result<Update> DenseFloat32Codec::decode(const SharedBytes& payload, std::uint64_t size) const {
  if (payload.size() % sizeof(float) != 0 || payload.size() / sizeof(float) != size)
    return make_error(ErrorCode::kCorrupt, "dense payload of {} bytes where {} float32 values are due",
                      payload.size(), size);
  if (!all_finite(payload)) return make_error(ErrorCode::kCorrupt, "a dense payload with NaN or infinity");
  const auto address = reinterpret_cast<std::uintptr_t>(payload.data());
  if (address % alignof(float) == 0) {
    const std::span<const float> view(reinterpret_cast<const float*>(payload.data()), size);
    return Update{size, true, {}, view, payload.owner()};
  }
  std::vector<float> copy(size);
  if (!copy.empty()) std::memcpy(copy.data(), payload.data(), payload.size());
  auto owner = std::make_shared<const std::vector<float>>(std::move(copy));
  const std::span<const float> view(*owner);
  return Update{size, true, {}, view, owner};
}

}  // namespace nanduti
