#include <array>
#include <utility>

#include "common/model/resolved_model.h"

namespace nanduti {
namespace {

using Layers = std::vector<LayerSpec>;

Layers logistic() { return {DenseSpec{}}; }

Layers mlp() { return {DenseSpec{256}, ReluSpec{}, DenseSpec{128}, ReluSpec{}, DenseSpec{}}; }

Layers lenet() {
  return {Conv2dSpec{.channels = 20, .kernel = 5},
          MaxPoolSpec{},
          Conv2dSpec{.channels = 50, .kernel = 5},
          MaxPoolSpec{},
          DenseSpec{500},
          ReluSpec{},
          DenseSpec{}};
}

/// A convolution that keeps the sides but for its stride, and batch norm, whose bias makes another one
/// needless.
void add_convolution(Layers& layers, std::uint32_t channels, std::uint32_t kernel, std::uint32_t stride) {
  layers.emplace_back(Conv2dSpec{channels, kernel, stride, kernel / 2, false});
  layers.emplace_back(BatchNormSpec{});
}

Layers convnet() {
  Layers layers;
  const auto add = [&](std::uint32_t channels, bool pool) {
    add_convolution(layers, channels, 3, 1);
    layers.emplace_back(ReluSpec{});
    if (pool) layers.emplace_back(MaxPoolSpec{});
  };
  add(64, false);
  add(128, true);
  add(128, false);
  add(256, true);
  add(256, true);
  layers.emplace_back(DenseSpec{96});
  layers.emplace_back(ReluSpec{});
  layers.emplace_back(DenseSpec{});
  return layers;
}

Layers resnet20() {
  Layers layers;
  add_convolution(layers, 16, 3, 1);
  layers.emplace_back(ReluSpec{});
  for (const std::uint32_t channels : {16u, 32u, 64u}) {
    for (int block = 0; block < 3; ++block) {
      const bool narrows = channels > 16 && block == 0;
      ResidualSpec residual;
      add_convolution(residual.body, channels, 3, narrows ? 2 : 1);
      residual.body.emplace_back(ReluSpec{});
      add_convolution(residual.body, channels, 3, 1);
      if (narrows) add_convolution(residual.shortcut, channels, 1, 2);
      layers.emplace_back(std::move(residual));
      layers.emplace_back(ReluSpec{});
    }
  }
  layers.emplace_back(GlobalAveragePoolSpec{});
  layers.emplace_back(DenseSpec{});
  return layers;
}

struct Preset {
  std::string_view name;
  Layers (*layers)();
};
constexpr std::array kPresets{Preset{"logistic", logistic}, Preset{"mlp", mlp}, Preset{"lenet", lenet},
                              Preset{"convnet", convnet}, Preset{"resnet20", resnet20}};

}  // namespace

std::string preset_names() {
  std::string names;
  for (const Preset& preset : kPresets) {
    if (!names.empty()) names += &preset == &kPresets.back() ? " or " : ", ";
    names += preset.name;
  }
  return names;
}

Result<std::vector<LayerSpec>> preset_layers(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name == name) return preset.layers();
  }
  return make_error(ErrorCode::kNotFound, "no model preset is called \"{}\"; there are {}", name,
                    preset_names());
}

}  // namespace nanduti
