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
  kBlocks = 2,        ///< block_layout.h
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

/// target += factor * update, each product and sum rounded by itself. Precondition: target has shape [size].
void add(std::span<float> target, const Update& update, float factor);

/// A coded update, and what a receiver will decode from it, bit for bit.
struct EncodedUpdate {
  SharedBytes payload;
  Update update;
};

/// What coding may depend on beside the values.
struct CodingContext {
  std::uint64_t round = 0;  ///< or version
  std::uint64_t begin = 0;  ///< where in the parameter space the values begin; a multiple of kBlockSize
  double epochs_done = 0;   ///< of the job, for densities that warm up
};

/// Turns float32 vectors into payloads and back. Pure: the same input gives the same bytes. Any thread.
class Codec {
 public:
  virtual ~Codec() = default;
  [[nodiscard]] virtual Coding coding() const = 0;
  /// Error feedback: residual += progress, some of the residual is coded, and residual -= what a receiver
  /// will decode: nothing is dropped. Shapes [n]; progress may be empty: nothing.
  [[nodiscard]] virtual EncodedUpdate encode(std::span<float> residual, std::span<const float> progress,
                                             const CodingContext& context) const = 0;
  /// Errors: kCorrupt if `payload` is not a coding of n = `size` values, all finite where it says any.
  [[nodiscard]] virtual Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const = 0;
};

/// Sends everything, exactly.
class DenseFloat32Codec final : public Codec {
 public:
  [[nodiscard]] Coding coding() const override { return Coding::kDenseFloat32; }
  [[nodiscard]] EncodedUpdate encode(std::span<float> residual, std::span<const float> progress,
                                     const CodingContext& context) const override;
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override;
};

/// What the two directions of a job are coded with.
struct JobCodecs {
  std::shared_ptr<const Codec> push;
  std::shared_ptr<const Codec> publish;
};

}  // namespace nanduti
