#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/tensor/parameter_range.h"

namespace nanduti {

/// A named tensor and its place in the parameter space.
struct TensorPlace {
  std::string name;  ///< as PyTorch's state_dict names it: "0.weight", "0.bias"
  std::vector<std::uint64_t>
      shape;                 ///< PyTorch's layout: conv (out, in, kernel_h, kernel_w), dense (out, in)
  std::uint64_t offset = 0;  ///< first parameter
  [[nodiscard]] std::uint64_t size() const;
};

/// The model flattened to float32 [0, size()). Tensors of a block or more start on block boundaries; small
/// ones share one dense segment; buffers, which are averaged and not trained (batch norm's statistics), share
/// another one at the end. Gaps hold zeros that no gradient touches. The size is a multiple of kBlockSize.
class ParameterSpace {
 public:
  struct NamedShape {
    std::string name;
    std::vector<std::uint64_t> shape;
    bool is_buffer = false;
  };

  ParameterSpace() = default;
  /// Lays the tensors out: those of a block or more first, then the small ones, then from a block's begin on
  /// the buffers, each of these in the given order.
  explicit ParameterSpace(const std::vector<NamedShape>& tensors);

  /// In the order given at construction.
  [[nodiscard]] const std::vector<TensorPlace>& tensors() const { return tensors_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// Elements of all tensors that are trained: without buffers and gaps.
  [[nodiscard]] std::uint64_t parameter_count() const { return parameter_count_; }
  /// First parameter of the dense segment of small tensors, which the buffers follow; size() if there are
  /// neither.
  [[nodiscard]] std::uint64_t dense_segment_begin() const { return dense_segment_begin_; }
  /// First parameter of the buffers, a multiple of kBlockSize; size() if there are none.
  [[nodiscard]] std::uint64_t buffers_begin() const { return buffers_begin_; }
  /// A hash of names, shapes and offsets: equal on two machines exactly if they lay the model out alike.
  [[nodiscard]] std::uint64_t layout_hash() const;

 private:
  std::vector<TensorPlace> tensors_;
  std::uint64_t size_ = 0;
  std::uint64_t parameter_count_ = 0;
  std::uint64_t dense_segment_begin_ = 0;
  std::uint64_t buffers_begin_ = 0;
};

/// Splits [0, size) into `count` contiguous runs of whole blocks, sizes as even as blocks allow, earlier runs
/// larger. With fewer blocks than shards the last runs are empty.
std::vector<ParameterRange> split_into_shards(std::uint64_t size, std::uint32_t count);

}  // namespace nanduti
