#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"

/// The one compute interface. A backend compiles a stack of layers into a Network, which computes loss and
/// gradient of a minibatch and is free to choose formats, fuse and cache as its device likes. Outside,
/// everything is float32: images (batch, channels, height, width), parameters and gradients flat in the
/// parameter space.
namespace nanduti {

enum class LayerKind { kConv2d, kDense, kRelu, kMaxPool, kAveragePool, kFlatten };

/// Shape of one sample's features; flat features have height and width 1.
struct Extent {
  std::uint32_t channels = 0;
  std::uint32_t height = 1;
  std::uint32_t width = 1;
  [[nodiscard]] std::size_t size() const { return std::size_t{channels} * height * width; }
  friend bool operator==(const Extent&, const Extent&) = default;
};

/// One layer with everything worked out. Shapes must agree with what the kind computes:
/// conv2d and pools slide a square window, floor((side + 2 padding - kernel) / stride) + 1 times.
struct NetworkLayer {
  LayerKind kind = LayerKind::kRelu;
  Extent input;
  Extent output;
  std::uint32_t kernel = 0;   ///< conv2d and pools
  std::uint32_t stride = 1;   ///< conv2d and pools
  std::uint32_t padding = 0;  ///< conv2d only; smaller than the kernel
  std::uint64_t weight_offset =
      0;  ///< in parameters; conv2d (out, in, kernel, kernel), dense (out, in), row-major
  std::uint64_t bias_offset = 0;  ///< shape (out)
};

/// A stack that ends in flat scores, one per class; dense layers take flat input.
struct NetworkDescription {
  std::vector<NetworkLayer> layers;
  std::uint64_t parameter_space_size = 0;
};

/// Softmax cross-entropy over a batch. A tie for the best score goes to the lower class.
struct BatchLoss {
  double loss_sum = 0;
  std::uint64_t correct = 0;
};

/// A compiled model with its working memory. The same inputs give the same bits on the same machine. One
/// thread at a time; working memory is kept per batch size, so that steps allocate nothing once their size
/// was seen. Errors are the device's: kUnavailable, kExhausted.
class Network {
 public:
  virtual ~Network() = default;

  /// Where to write the next minibatch, shape (batch, channels, height, width); valid until the next call
  /// with another batch size. Precondition: batch > 0.
  virtual Result<std::span<float>> input(std::size_t batch) = 0;

  /// Loss of the images in input(labels.size()), which was called last. labels[i] < classes;
  /// parameters: shape [parameter_space_size].
  virtual Result<BatchLoss> loss(std::span<const float> parameters, std::span<const std::uint8_t> labels) = 0;

  /// The same, and writes the gradient of the batch's *mean* loss to every tensor's place in `gradient`,
  /// shape [parameter_space_size]. Gaps between tensors are not touched.
  virtual Result<BatchLoss> gradient(std::span<const float> parameters, std::span<const std::uint8_t> labels,
                                     std::span<float> gradient) = 0;
};

/// A kind of device and library that can run networks. Any thread.
class Backend {
 public:
  virtual ~Backend() = default;
  /// For people and run.json: "cpu (oneDNN 2.6.3)".
  [[nodiscard]] virtual std::string name() const = 0;
  virtual Result<std::unique_ptr<Network>> compile(const NetworkDescription& description) = 0;
};

}  // namespace nanduti
