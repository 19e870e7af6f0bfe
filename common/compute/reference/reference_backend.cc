#include "common/compute/reference/reference_backend.h"

#include <algorithm>

#include "common/compute/reference/layers.h"
#include "common/compute/softmax_cross_entropy.h"

namespace nanduti {
namespace {

class ReferenceNetwork final : public Network {
 public:
  explicit ReferenceNetwork(const NetworkDescription& description) : description_(description) {}

  Result<std::span<float>> input(std::size_t batch) override {
    NANDUTI_CHECK(batch > 0);
    images_.resize(batch * description_.layers.front().input.size());
    return std::span<float>(images_);
  }

  Result<BatchLoss> loss(std::span<const float> parameters, std::span<const std::uint8_t> labels) override {
    forward(parameters, labels.size());
    return softmax_cross_entropy<double>(values_.back(), labels, {});
  }

  Result<BatchLoss> gradient(std::span<const float> parameters, std::span<const std::uint8_t> labels,
                             std::span<float> gradient) override {
    NANDUTI_CHECK(gradient.size() == description_.parameter_space_size);
    forward(parameters, labels.size());
    std::vector<double> dy(values_.back().size());
    const BatchLoss result = softmax_cross_entropy<double>(values_.back(), labels, dy);
    std::vector<double> sums(gradient.size(), 0.0);
    for (std::size_t i = description_.layers.size(); i-- > 0;) {
      std::vector<double> dx(values_[i].size());
      reference::layer_backward(description_.layers[i], labels.size(), parameters, values_[i], dy, dx, sums);
      dy = std::move(dx);
    }
    for (const NetworkLayer& layer : description_.layers) copy_tensors(layer, sums, gradient);
    return result;
  }

 private:
  /// values_[i] is the input of layer i, values_.back() the scores.
  void forward(std::span<const float> parameters, std::size_t batch) {
    NANDUTI_CHECK(parameters.size() == description_.parameter_space_size);
    NANDUTI_CHECK(batch > 0 && images_.size() == batch * description_.layers.front().input.size());
    values_.assign(1, std::vector<double>(images_.begin(), images_.end()));
    for (const NetworkLayer& layer : description_.layers) {
      std::vector<double> y(batch * layer.output.size());
      reference::layer_forward(layer, batch, parameters, values_.back(), y);
      values_.push_back(std::move(y));
    }
  }

  static void copy_tensors(const NetworkLayer& layer, std::span<const double> sums,
                           std::span<float> gradient) {
    std::size_t weights = 0;
    if (layer.kind == LayerKind::kConv2d) {
      weights = std::size_t{layer.output.channels} * layer.input.channels * layer.kernel * layer.kernel;
    } else if (layer.kind == LayerKind::kDense) {
      weights = layer.output.size() * layer.input.size();
    } else {
      return;
    }
    const auto copy = [&](std::uint64_t offset, std::size_t count) {
      for (std::size_t i = offset; i < offset + count; ++i) gradient[i] = static_cast<float>(sums[i]);
    };
    copy(layer.weight_offset, weights);
    copy(layer.bias_offset, layer.output.channels);
  }

  NetworkDescription description_;
  std::vector<float> images_;
  std::vector<std::vector<double>> values_;
};

class ReferenceBackend final : public Backend {
 public:
  std::string name() const override { return "cpu (reference)"; }
  Result<std::unique_ptr<Network>> compile(const NetworkDescription& description) override {
    NANDUTI_CHECK(!description.layers.empty());
    return std::unique_ptr<Network>(std::make_unique<ReferenceNetwork>(description));
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace nanduti
