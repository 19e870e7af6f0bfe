#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"

/// The one compute interface. A backend compiles layers into a Network, which computes loss and
/// gradient of a minibatch and is free to choose formats, fuse and cache as its device likes. Outside,
/// everything is float32: images (batch, channels, height, width), parameters and gradients flat in the
/// parameter space.
namespace nanduti {

enum class LayerKind {
  kConv2d,
  kDense,
  kRelu,
  kMaxPool,
  kAveragePool,
  kGlobalAveragePool,  ///< the mean over height and width
  kFlatten,
  kBatchNorm,  ///< per channel, of flat features per feature
  kAdd,        ///< two features of the same shape
};

/// Shape of one sample's features; flat features have height and width 1.
struct Extent {
  std::uint32_t channels = 0;
  std::uint32_t height = 1;
  std::uint32_t width = 1;
  [[nodiscard]] std::size_t size() const { return std::size_t{channels} * height * width; }
  friend bool operator==(const Extent&, const Extent&) = default;
};

/// One layer with everything worked out. Features 0 are the images, features i + 1 what layer i gives. Shapes
/// must agree with what the kind computes: conv2d and pools slide a square window,
/// floor((side + 2 padding - kernel) / stride) + 1 times.
struct NetworkLayer {
  LayerKind kind = LayerKind::kRelu;
  std::size_t source = 0;  ///< the features it takes; at most the layer's own index
  std::size_t addend = 0;  ///< add: the other ones
  Extent input;
  Extent output;
  std::uint32_t kernel = 0;   ///< conv2d and pools
  std::uint32_t stride = 1;   ///< conv2d and pools
  std::uint32_t padding = 0;  ///< conv2d only; smaller than the kernel
  // Offsets in parameters. Weights, row-major: conv2d (out, in, kernel, kernel), dense (out, in), batch norm
  // (channels).
  std::uint64_t weight_offset = 0;
  bool has_bias = true;           ///< dense and batch norm: always
  std::uint64_t bias_offset = 0;  ///< shape (out)
  // Batch norm.
  std::uint64_t mean_offset = 0;      ///< running mean, shape (channels)
  std::uint64_t variance_offset = 0;  ///< running variance, shape (channels); what is below 0 counts as 0
  double epsilon = 0;                 ///< added to the variance
  double momentum = 0;                ///< what a batch's statistics count in the running ones
};

/// Layers in the order in which they are computed. The last gives flat scores, one per class; dense layers
/// take flat input.
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

  /// Loss of the images in input(labels.size()), which was called last, each by itself: batch norm by its
  /// running statistics. labels[i] < classes; parameters: shape [parameter_space_size].
  virtual Result<BatchLoss> loss(std::span<const float> parameters, std::span<const std::uint8_t> labels) = 0;

  /// Loss of these images as a minibatch, batch norm by its statistics; writes the gradient of the *mean*
  /// loss to every tensor's place in `gradient`, shape [parameter_space_size]. In the place of running
  /// statistics r stands what is to be subtracted from them: momentum * (r - the batch's), with the variance
  /// unbiased as torch.nn.BatchNorm2d has it; 0 where a channel has a single value, which says nothing of
  /// either. Gaps between tensors are not touched.
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
