#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace nanduti {

/// How the payload of a push or publish is coded; the number travels on the wire.
enum class Coding : std::uint8_t {
  kDenseFloat32 = 1,  ///< size float32 values, little-endian
};

/// A change to `size` consecutive parameters, decoded: every coordinate (dense), or the listed ones.
/// Copying is cheap; the values are shared and never change.
struct Update {
  std::uint64_t size = 0;
  bool dense = true;
  std::span<const std::uint32_t> indices;  ///< ascending, each < size; empty where dense
  std::span<const float> values;           ///< shape [size] where dense, else [indices.size()]
  std::shared_ptr<const void> owner;       ///< keeps indices and values alive
};

/// A coded update, and what a receiver will decode from it, bit for bit.
struct EncodedUpdate {
  SharedBytes payload;
  Update update;
};

/// What random rounding may depend on, so that every machine makes the same bytes.
struct CodecKey {
  std::uint64_t seed = 0;
  std::uint64_t round = 0;
};

/// Turns float32 vectors into payloads and back. Pure: the same input gives the same bytes. Any thread.
class Codec {
 public:
  virtual ~Codec() = default;
  [[nodiscard]] virtual Coding coding() const = 0;
  /// `values` (shape [n]): what is to be sent. The update may hold less: the sender keeps the rest as its
  /// residual.
  [[nodiscard]] virtual EncodedUpdate encode(std::span<const float> values, const CodecKey& key) const = 0;
  /// Errors: kCorrupt if `payload` is not a coding of n = `size` finite values.
  [[nodiscard]] virtual Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const = 0;
};

/// Sends everything, exactly.
class DenseFloat32Codec final : public Codec {
 public:
  [[nodiscard]] Coding coding() const override { return Coding::kDenseFloat32; }
  [[nodiscard]] EncodedUpdate encode(std::span<const float> values, const CodecKey& key) const override;
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override;
};

}  // namespace nanduti
