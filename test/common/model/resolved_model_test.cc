// Goal: layer lists become the right shapes, names, layouts and initial values, or a clear error. Method: by
// hand.
#include "common/model/resolved_model.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "test/support/catch.h"

namespace nanduti {
namespace {

constexpr DataShape kFashion{1, 28, 28, 10};

ResolvedModel resolved(const ModelSpec& spec, const DataShape& data = kFashion) {
  auto model = resolve_model(spec, data);
  REQUIRE(model.ok());
  return std::move(model).value();
}

std::string error_of(std::vector<LayerSpec> layers, const DataShape& data = kFashion) {
  const auto model = resolve_model(ModelSpec{"", std::move(layers)}, data);
  REQUIRE_FALSE(model.ok());
  return model.error().message;
}

std::vector<std::string> names(const ResolvedModel& model) {
  std::vector<std::string> result;
  for (const TensorPlace& place : model.space.tensors()) result.push_back(place.name);
  return result;
}

TEST_CASE("LeNet has 431,080 parameters under PyTorch's names and layouts") {
  const ResolvedModel model = resolved({"lenet", {}});
  CHECK(model.space.parameter_count() == 431080);
  CHECK(names(model) == std::vector<std::string>{"0.weight", "0.bias", "2.weight", "2.bias", "5.weight",
                                                 "5.bias", "7.weight", "7.bias"});
  const auto& tensors = model.space.tensors();
  CHECK(tensors[0].shape == std::vector<std::uint64_t>{20, 1, 5, 5});
  CHECK(tensors[1].shape == std::vector<std::uint64_t>{20});
  CHECK(tensors[2].shape == std::vector<std::uint64_t>{50, 20, 5, 5});
  CHECK(tensors[4].shape == std::vector<std::uint64_t>{500, 800});
  CHECK(tensors[6].shape == std::vector<std::uint64_t>{10, 500});
  REQUIRE(model.layers.size() == 8);
  CHECK(model.layers[3].output == FeatureShape{50, 4, 4, false});
  CHECK(std::holds_alternative<FlattenSpec>(model.layers[4].spec));
}

TEST_CASE("the other presets resolve, and for other image sizes and class counts too") {
  CHECK(resolved({"logistic", {}}).space.parameter_count() == 7850);
  CHECK(resolved({"mlp", {}}).space.parameter_count() == 784 * 256 + 256 + 256 * 128 + 128 + 1290);
  CHECK(resolved({"lenet", {}}, {3, 32, 20, 7}).layers.back().output.channels == 7);
}

TEST_CASE("resnet20 and convnet have the layers and parameters that their comments say") {
  const DataShape cifar{3, 32, 32, 10};
  const ResolvedModel resnet = resolved({"resnet20", {}}, cifar);
  // Convolutions 16 * 27 + 6 * 16 * 144 + 32 * 144 + 5 * 32 * 288 + 64 * 288 + 5 * 64 * 576, shortcuts 16 *
  // 32 + 32 * 64, two per channel of 21 batch norms, 650 of the dense layer.
  CHECK(resnet.space.parameter_count() == 432 + 13824 + 4608 + 46080 + 18432 + 184320 + 2560 + 2 * 784 + 650);
  const auto convolutions = std::count_if(resnet.layers.begin(), resnet.layers.end(), [](const auto& layer) {
    return std::holds_alternative<Conv2dSpec>(layer.spec);
  });
  CHECK(convolutions == 19 + 2);
  const ResolvedModel convnet = resolved({"convnet", {}}, cifar);
  CHECK(convnet.space.parameter_count() == 1503594);
  CHECK(resolved({"resnet20", {}}, {1, 28, 28, 9}).layers.back().output == FeatureShape{9, 1, 1, true});
}

TEST_CASE("a residual's layers take the same features, and their tensors have its name in front") {
  const ResidualSpec inner{{BatchNormSpec{}}, {}};
  const ResidualSpec outer{{Conv2dSpec{4, 3, 2, 1, false}, inner}, {Conv2dSpec{4, 1, 2}, ReluSpec{}}};
  const auto model = resolved({"", {ReluSpec{}, outer, DenseSpec{}}}, {2, 6, 8, 3});
  CHECK(names(model) == std::vector<std::string>{"1.body.0.weight", "1.body.1.body.0.weight",
                                                 "1.body.1.body.0.bias", "1.body.1.body.0.running_mean",
                                                 "1.body.1.body.0.running_var", "1.shortcut.0.weight",
                                                 "1.shortcut.0.bias", "3.weight", "3.bias"});
  // relu; conv, batch norm, its add; conv, relu; add; flatten, dense.
  REQUIRE(model.layers.size() == 9);
  using Taken = std::vector<FeatureIndex>;
  Taken taken;
  for (const ResolvedLayer& layer : model.layers) taken.push_back(layer.source);
  CHECK(taken == Taken{0, 1, 2, 3, 1, 5, 4, 7, 8});
  CHECK(model.layers[3].shortcut == 2);
  CHECK(model.layers[6].shortcut == 6);
  CHECK(model.layers[6].output == FeatureShape{4, 3, 4, false});
  CHECK(std::get<ResidualSpec>(model.layers[6].spec) == ResidualSpec{});
}

TEST_CASE("running statistics lie at the end, from a block's begin on, and do not count as parameters") {
  const auto model =
      resolved({"", {Conv2dSpec{8, 3}, BatchNormSpec{}, Conv2dSpec{600, 3}, BatchNormSpec{}, DenseSpec{}}},
               {3, 8, 8, 10});
  const ParameterSpace& space = model.space;
  CHECK(space.parameter_count() == 8 * 28 + 16 + 600 * 73 + 1200 + 10 * (600 * 16 + 1));
  CHECK(space.buffers_begin() % kBlockSize == 0);
  CHECK(space.dense_segment_begin() < space.buffers_begin());
  CHECK(space.size() == space.buffers_begin() + kBlockSize);
  for (const TensorPlace& place : space.tensors()) {
    INFO(place.name);
    CHECK((place.name.find("running") != std::string::npos) == (place.offset >= space.buffers_begin()));
  }
  const auto values = initial_values(model, 1, {0, space.size()});
  const auto all_are = [&](const std::optional<std::size_t>& tensor, float value) {
    const TensorPlace& place = space.tensors()[*tensor];
    return std::all_of(values.begin() + static_cast<std::ptrdiff_t>(place.offset),
                       values.begin() + static_cast<std::ptrdiff_t>(place.offset + place.size()),
                       [&](float v) { return v == value; });
  };
  for (const std::size_t norm : {1u, 3u}) {
    CHECK(all_are(model.layers[norm].weight, 1));
    CHECK(all_are(model.layers[norm].bias, 0));
    CHECK(all_are(model.layers[norm].running_mean, 0));
    CHECK(all_are(model.layers[norm].running_var, 1));
  }
  CHECK_FALSE(all_are(model.layers[0].bias, 0));
}

TEST_CASE("what cannot stand in a residual names its place") {
  const auto in_body = [](std::vector<LayerSpec> body, std::vector<LayerSpec> shortcut = {}) {
    return std::vector<LayerSpec>{ReluSpec{}, ResidualSpec{std::move(body), std::move(shortcut)},
                                  DenseSpec{}};
  };
  CHECK(error_of(in_body({})) == "model.layers[1] (residual): body has no layers");
  CHECK(error_of(in_body({Conv2dSpec{3, 3}})) ==
        "model.layers[1] (residual): body gives 3x26x26, but shortcut 1x28x28");
  CHECK(error_of(in_body({DenseSpec{784}})) ==
        "model.layers[1] (residual): body gives 784 features, but shortcut 1x28x28");
  CHECK(error_of(in_body({ReluSpec{}, Conv2dSpec{1, 99}})) ==
        "model.layers[1].residual.body[1] (conv2d): kernel 99x99 is larger than its input, 1x28x28 with "
        "padding 0");
  CHECK(error_of(in_body({ReluSpec{}}, {FlattenSpec{}, GlobalAveragePoolSpec{}})) ==
        "model.layers[1].residual.shortcut[1] (global_average_pool): needs an image, but its input is flat: "
        "784 "
        "features");
  CHECK(error_of({BatchNormSpec{0, 0.1}, DenseSpec{}}) ==
        "model.layers[0] (batch_norm): epsilon must be above 0");
  CHECK(error_of({BatchNormSpec{1e-5, 1.5}, DenseSpec{}}) ==
        "model.layers[0] (batch_norm): momentum must be above 0, at most 1");
  LayerSpec deep = ReluSpec{};
  for (int i = 0; i < 4; ++i) deep = ResidualSpec{{deep}, {}};
  CHECK(error_of({deep, DenseSpec{}}).ends_with("(residual): lies within 3 others; the maximum is 2"));
  CHECK(error_of(in_body(std::vector<LayerSpec>(1023, ReluSpec{}))) ==
        "model.layers has 1026 layers; the maximum is 1024");
}

TEST_CASE("a flatten that is written out changes no name") {
  const auto implicit = resolved({"", {Conv2dSpec{2, 3, 1, 1}, DenseSpec{4}, DenseSpec{}}});
  const auto written = resolved({"", {Conv2dSpec{2, 3, 1, 1}, FlattenSpec{}, DenseSpec{4}, DenseSpec{}}});
  CHECK(names(implicit) == names(written));
  CHECK(implicit.space.layout_hash() == written.space.layout_hash());
  CHECK(names(implicit).back() == "3.bias");
}

TEST_CASE("an image of one score per class is flattened at the end") {
  const auto model = resolved({"", {Conv2dSpec{10, 28}}});
  CHECK(model.layers.size() == 2);
  CHECK(model.layers.back().output == FeatureShape{10, 1, 1, true});
}

TEST_CASE("strides and windows that do not fit whole round down") {
  const auto model =
      resolved({"", {Conv2dSpec{3, 4, 3, 1}, AveragePoolSpec{2, 3}, DenseSpec{}}}, {2, 11, 16, 5});
  CHECK(model.layers[0].output == FeatureShape{3, 4, 5, false});
  CHECK(model.layers[1].output == FeatureShape{3, 1, 2, false});
}

TEST_CASE("what cannot stand names the layer, what it met and what is allowed") {
  CHECK(error_of({}) == "model.layers is empty");
  CHECK(error_of({MaxPoolSpec{4, 4}, Conv2dSpec{8, 9}}) ==
        "model.layers[1] (conv2d): kernel 9x9 is larger than its input, 1x7x7 with padding 0");
  CHECK(error_of({DenseSpec{12}, MaxPoolSpec{}}) ==
        "model.layers[1] (max_pool): needs an image, but its input is flat: 12 features");
  CHECK(error_of({DenseSpec{12}}) ==
        "model.layers[0] (dense): the last layer must give 10 scores, one per class, but gives 12 features");
  CHECK(error_of({Conv2dSpec{8, 3, 1, 3}}) ==
        "model.layers[0] (conv2d): padding 3 must be smaller than the kernel, 3");
  CHECK(error_of({Conv2dSpec{0, 3}}) == "model.layers[0] (conv2d): channels must be at least 1");
  CHECK(error_of({Conv2dSpec{1, 0}}) == "model.layers[0] (conv2d): kernel must be at least 1");
  CHECK(error_of({AveragePoolSpec{2, 0}}) == "model.layers[0] (average_pool): stride must be at least 1");
  CHECK(error_of({FlattenSpec{}}, {1, 2, 5, 10}) ==
        "model.layers has nothing to train: no conv2d, no dense, no batch_norm");
  CHECK(error_of({DenseSpec{}}, {1, 0, 5, 10}) == "the data has images of 1x0x5 and 10 classes");
  const auto unknown = resolve_model({"resnet", {}}, kFashion);
  CHECK(unknown.error().message ==
        "no model preset is called \"resnet\"; there are logistic, mlp, lenet, convnet or resnet20");
}

TEST_CASE("a model beyond a limit is refused before anything is allocated") {
  CHECK(error_of({DenseSpec{1u << 20}, DenseSpec{}}) ==
        "model.layers[0] (dense): brings the model above the maximum of 268435456 parameters");
  CHECK(error_of({Conv2dSpec{1u << 31, 1}}) ==
        "model.layers[0] (conv2d): gives 2147483648x28x28 per sample; the maximum is 67108864 values");
  CHECK(error_of({DenseSpec{}}, {~0u, ~0u, ~0u, 10}) ==
        "the data has images of 4294967295x4294967295x4294967295; the maximum is 67108864 values");
  CHECK(error_of(std::vector<LayerSpec>(1025, ReluSpec{})) ==
        "model.layers has 1025 layers; the maximum is 1024");
}

TEST_CASE("initial values are the same whole or shard by shard, and another seed gives others") {
  const ResolvedModel model = resolved({"lenet", {}});
  const auto whole = initial_values(model, 7, {0, model.space.size()});
  std::vector<float> joined;
  for (const ParameterRange& range : split_into_shards(model.space.size(), 3)) {
    const auto part = initial_values(model, 7, range);
    joined.insert(joined.end(), part.begin(), part.end());
  }
  CHECK(joined == whole);
  const auto odd = initial_values(model, 7, {4097, 4111});
  CHECK(std::equal(odd.begin(), odd.end(), whole.begin() + 4097));
  CHECK(initial_values(model, 8, {0, model.space.size()}) != whole);
}

TEST_CASE("initial values are uniform within 1/sqrt(fan_in), biases included, and gaps are zero") {
  const ResolvedModel model = resolved({"lenet", {}});
  const auto values = initial_values(model, 1, {0, model.space.size()});
  std::vector<bool> covered(values.size(), false);
  const double bounds[] = {0.2,
                           0.2,
                           1 / std::sqrt(500.0),
                           1 / std::sqrt(500.0),
                           1 / std::sqrt(800.0),
                           1 / std::sqrt(800.0),
                           1 / std::sqrt(500.0),
                           1 / std::sqrt(500.0)};
  for (std::size_t t = 0; t < 8; ++t) {
    const TensorPlace& place = model.space.tensors()[t];
    double sum = 0, square = 0, largest = 0;
    for (std::uint64_t i = place.offset; i < place.offset + place.size(); ++i) {
      covered[i] = true;
      sum += values[i];
      square += double{values[i]} * values[i];
      largest = std::max(largest, std::abs(double{values[i]}));
    }
    const double n = static_cast<double>(place.size());
    const double deviation = bounds[t] / std::sqrt(3.0);
    INFO(place.name);
    CHECK(largest <= bounds[t]);
    CHECK(std::abs(sum / n) < 4 * deviation / std::sqrt(n));
    CHECK(std::sqrt(square / n) == Approx(deviation).epsilon(2.0 / std::sqrt(n)));
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!covered[i] && values[i] != 0.0f) FAIL("gap " << i << " holds " << values[i]);
  }
}

}  // namespace
}  // namespace nanduti
