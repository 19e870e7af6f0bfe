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
  bool bias = true;
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
/// The mean over height and width: one pixel is left.
struct GlobalAveragePoolSpec {
  friend bool operator==(const GlobalAveragePoolSpec&, const GlobalAveragePoolSpec&) = default;
};
struct FlattenSpec {
  friend bool operator==(const FlattenSpec&, const FlattenSpec&) = default;
};
/// Per channel (of flat features: per feature) y = weight (x - mean) / sqrt(variance + epsilon) + bias, with
/// the batch's mean and variance in training and the running ones in evaluation, as torch.nn.BatchNorm2d.
struct BatchNormSpec {
  double epsilon = 1e-5;
  double momentum = 0.1;  ///< what a batch's statistics count in the running ones
  friend bool operator==(const BatchNormSpec&, const BatchNormSpec&) = default;
};
struct ResidualSpec;

using LayerSpec = std::variant<Conv2dSpec, DenseSpec, ReluSpec, MaxPoolSpec, AveragePoolSpec,
                               GlobalAveragePoolSpec, FlattenSpec, BatchNormSpec, ResidualSpec>;

/// y = body(x) + shortcut(x). Both are stacks that give the same shape; an empty shortcut gives x.
struct ResidualSpec {
  std::vector<LayerSpec> body;
  std::vector<LayerSpec> shortcut;
  friend bool operator==(const ResidualSpec&, const ResidualSpec&);
};
inline bool operator==(const ResidualSpec& a, const ResidualSpec& b) {
  return a.body == b.body && a.shortcut == b.shortcut;
}

/// A stack of layers that ends in one score (logit) per class; the loss is softmax cross-entropy.
struct ModelSpec {
  std::string preset;  ///< a name that preset_layers knows, or empty where the job lists its layers
  std::vector<LayerSpec> layers;
};

/// How a job's files hold images and labels; worker/train has the readers.
enum class DataFormat {
  kIdx,       ///< MNIST's: a file of images and one of labels
  kCifar10,   ///< CIFAR-10's binary version: records of a label and 3 x 32 x 32 pixels
  kCifar100,  ///< CIFAR-100's: of a coarse label, which is not used, and a fine one
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
