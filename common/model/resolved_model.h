#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/model/model_spec.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

// ---- limits, checked by resolve_model ----
inline constexpr std::size_t kModelLayersMax = 1024;  ///< those within residuals included
inline constexpr std::size_t kResidualDepthMax = 3;   ///< residuals within residuals, one counts 1
inline constexpr std::uint64_t kModelParametersMax = std::uint64_t{1} << 28;
inline constexpr std::uint64_t kLayerOutputsMax = std::uint64_t{1} << 26;  ///< per sample

/// What flows between two layers, for one sample. Flat features have height and width 1.
struct FeatureShape {
  std::uint32_t channels = 0;
  std::uint32_t height = 1;
  std::uint32_t width = 1;
  bool flat = false;
  [[nodiscard]] std::uint64_t size() const { return std::uint64_t{channels} * height * width; }
  friend bool operator==(const FeatureShape&, const FeatureShape&) = default;
};

/// Features 0 are the images, features i + 1 what layers[i] gives.
using FeatureIndex = std::size_t;

/// A layer with its shapes and its tensors, which are indices into ParameterSpace::tensors().
struct ResolvedLayer {
  /// A dense layer's units are resolved: never 0. A residual stands behind the layers of its body and its
  /// shortcut, its own lists are empty: it adds what these give.
  LayerSpec spec;
  FeatureIndex source = 0;    ///< what it takes, made by an earlier layer
  FeatureIndex shortcut = 0;  ///< residual: what it adds to that, of the same shape
  FeatureShape input;
  FeatureShape output;
  std::optional<std::size_t> weight;        ///< conv2d, dense, batch_norm
  std::optional<std::size_t> bias;          ///< these, but a conv2d without bias
  std::optional<std::size_t> running_mean;  ///< batch_norm; a buffer
  std::optional<std::size_t> running_var;   ///< batch_norm; a buffer
  std::uint64_t fan_in = 0;                 ///< conv2d and dense: inputs of one output
};

/// A model ready to be trained, layers in the order in which they can be computed; the last gives one flat
/// score per class.
///
/// Tensors are named as in the state_dict of torch.nn.Sequential over the job's layers: "I.weight" and
/// "I.bias", batch norm's buffers "I.running_mean" and "I.running_var", where I counts every layer from 0,
/// also relu, pool and flatten. A residual is a module of two Sequentials: "I.body.J.weight" and
/// "I.shortcut.J.weight". A dense layer after an image, or an image at the end, gets a flatten in front of it
/// (behind it) that takes an index like one that is written out: listing it or not gives the same names.
/// LeNet: 0 conv, 1 pool, 2 conv, 3 pool, 4 flatten, 5 dense, 6 relu, 7 dense.
struct ResolvedModel {
  DataShape data;
  std::vector<ResolvedLayer> layers;
  ParameterSpace space;
};

/// As in a job: "conv2d", "global_average_pool", "residual".
std::string_view layer_name(const LayerSpec& spec);

/// The layers of a preset; kNotFound for any other name, with those that there are.
/// - logistic; mlp: hidden layers of 256 and 128.
/// - lenet: Caffe's, whose only relu is behind the dense layer.
/// - convnet: five 3x3 convolutions of 64 to 256 channels with batch norm, and a dense layer; of 3x32x32
///   images and 10 classes 1.5 million parameters.
/// - resnet20: He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.2, n = 3; a
///   shortcut that changes shape is a 1x1 convolution with batch norm (the paper's option B).
Result<std::vector<LayerSpec>> preset_layers(std::string_view name);

/// "logistic, mlp, lenet, convnet or resnet20".
std::string preset_names();

/// Works out every layer's shapes and lays the tensors out. An error (kInvalidArgument, or kExhausted beyond
/// a limit) names the layer by its place in the job's lists, "model.layers[2] (conv2d)" or
/// "model.layers[3].residual.body[0] (conv2d)", and the shape it meets.
Result<ResolvedModel> resolve_model(const ModelSpec& spec, const DataShape& data);

/// Initial values of the parameters in `range`, shape [range.size()], as PyTorch's: uniform in
/// +-1/sqrt(fan_in) for weights and biases of conv2d and dense layers; for batch norm weight 1, bias 0, mean
/// 0, variance 1; 0 in gaps. Each value is a pure function of the
/// seed and the parameter's index (Philox), so every shard can make its own. Precondition: range lies within
/// the parameter space.
std::vector<float> initial_values(const ResolvedModel& model, std::uint64_t seed, ParameterRange range);

}  // namespace nanduti
