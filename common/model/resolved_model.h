#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/model/model_spec.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

// ---- limits, checked by resolve_model ----
inline constexpr std::size_t kModelLayersMax = 1024;
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

/// A layer with its shapes and, for conv2d and dense, its two tensors.
struct ResolvedLayer {
  LayerSpec spec;  ///< a dense layer's units are resolved: never 0
  FeatureShape input;
  FeatureShape output;
  std::optional<std::size_t> weight;  ///< index into ParameterSpace::tensors(); the bias is the next one
  std::uint64_t fan_in = 0;           ///< inputs of one output; 0 for layers without parameters
};

/// A model ready to be trained: a stack that ends in one flat score per class.
///
/// Tensors are named as in the state_dict of torch.nn.Sequential over `layers`: "I.weight" and "I.bias",
/// where I counts every layer from 0, also relu, pool and flatten. A dense layer after an image, or an image
/// at the end, gets a flatten in front of it (behind it) that takes an index like one that is written out:
/// listing it or not gives the same names. LeNet: 0 conv, 1 pool, 2 conv, 3 pool, 4 flatten, 5 dense, 6 relu,
/// 7 dense.
struct ResolvedModel {
  DataShape data;
  std::vector<ResolvedLayer> layers;
  ParameterSpace space;
};

/// "conv2d", "dense", "relu", "max_pool", "average_pool" or "flatten".
std::string_view layer_name(const LayerSpec& spec);

/// The layers of "logistic", "mlp" (256, 128) or "lenet". LeNet is Caffe's: its only relu is behind the dense
/// layer. kNotFound for any other name.
Result<std::vector<LayerSpec>> preset_layers(std::string_view name);

/// Works out every layer's shapes and lays the tensors out. An error (kInvalidArgument, or kExhausted beyond
/// a limit) names the layer by its place in the job's list, "model.layers[2] (conv2d)", and the shape it
/// meets.
Result<ResolvedModel> resolve_model(const ModelSpec& spec, const DataShape& data);

/// Initial values of the parameters in `range`, shape [range.size()]: uniform in +-1/sqrt(fan_in) for weights
/// and biases, as PyTorch does for conv2d and linear layers; 0 in gaps. Each value is a pure function of the
/// seed and the parameter's index (Philox), so every shard can make its own. Precondition: range lies within
/// the parameter space.
std::vector<float> initial_values(const ResolvedModel& model, std::uint64_t seed, ParameterRange range);

}  // namespace nanduti
