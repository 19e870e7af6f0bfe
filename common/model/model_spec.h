#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace nanduti {

/// Square kernels, strides and padding only. Shapes are (batch, channels, height, width).
struct Conv2dSpec {
  std::uint32_t channels = 0;  ///< output channels
  std::uint32_t kernel = 0;
  std::uint32_t stride = 1;
  std::uint32_t padding = 0;
  friend bool operator==(const Conv2dSpec&, const Conv2dSpec&) = default;
};
/// Fully connected; flattens its input first if it is not flat.
struct DenseSpec {
  std::uint32_t units = 0;  ///< outputs; 0 stands for the number of classes
  friend bool operator==(const DenseSpec&, const DenseSpec&) = default;
};
struct ReluSpec {
  friend bool operator==(const ReluSpec&, const ReluSpec&) = default;
};
/// Windows that do not fit whole are left out, as PyTorch does by default.
struct MaxPoolSpec {
  std::uint32_t kernel = 2;
  std::uint32_t stride = 2;
  friend bool operator==(const MaxPoolSpec&, const MaxPoolSpec&) = default;
};
struct AveragePoolSpec {
  std::uint32_t kernel = 2;
  std::uint32_t stride = 2;
  friend bool operator==(const AveragePoolSpec&, const AveragePoolSpec&) = default;
};
struct FlattenSpec {
  friend bool operator==(const FlattenSpec&, const FlattenSpec&) = default;
};

using LayerSpec = std::variant<Conv2dSpec, DenseSpec, ReluSpec, MaxPoolSpec, AveragePoolSpec, FlattenSpec>;

/// A stack of layers that ends in one score (logit) per class; the loss is softmax cross-entropy.
struct ModelSpec {
  std::string preset;  ///< "logistic", "mlp", "lenet", or empty where the job lists its layers
  std::vector<LayerSpec> layers;
};

/// What the data says about the model's two ends.
struct DataShape {
  std::uint32_t channels = 1;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::uint32_t classes = 0;
  friend bool operator==(const DataShape&, const DataShape&) = default;
};

}  // namespace nanduti
