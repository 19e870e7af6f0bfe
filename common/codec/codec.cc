#include "common/codec/codec.h"

#include <bit>
#include <cstring>
#include <vector>

namespace nanduti {

static_assert(std::endian::native == std::endian::little, "payloads are little-endian and are used in place");

EncodedUpdate DenseFloat32Codec::encode(std::span<const float> values, const CodecKey&) const {
  auto owner = std::make_shared<const std::vector<float>>(values.begin(), values.end());
  const std::span<const float> view(*owner);
  return {SharedBytes(owner, std::as_bytes(view)), {view.size(), true, {}, view, owner}};
}

Result<Update> DenseFloat32Codec::decode(const SharedBytes& payload, std::uint64_t size) const {
  if (payload.size() % sizeof(float) != 0 || payload.size() / sizeof(float) != size)
    return make_error(ErrorCode::kCorrupt, "dense payload of {} bytes where {} float32 values are due",
                      payload.size(), size);
  const auto address = reinterpret_cast<std::uintptr_t>(payload.data());
  if (address % alignof(float) == 0) {
    const std::span<const float> view(reinterpret_cast<const float*>(payload.data()), size);
    return Update{size, true, {}, view, payload.owner()};
  }
  std::vector<float> copy(size);
  std::memcpy(copy.data(), payload.data(), payload.size());
  auto owner = std::make_shared<const std::vector<float>>(std::move(copy));
  const std::span<const float> view(*owner);
  return Update{size, true, {}, view, owner};
}

}  // namespace nanduti
