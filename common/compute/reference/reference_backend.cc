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
    forward(reference::Mode::kInference, parameters, labels.size());
    return softmax_cross_entropy<double>(values_.back(), labels, {});
  }

  Result<BatchLoss> gradient(std::span<const float> parameters, std::span<const std::uint8_t> labels,
                             std::span<float> gradient) override {
    NANDUTI_CHECK(gradient.size() == description_.parameter_space_size);
    forward(reference::Mode::kTraining, parameters, labels.size());
    std::vector<std::vector<double>> gradients;  // of the loss, for each of values_
    for (const auto& values : values_) gradients.emplace_back(values.size(), 0.0);
    const BatchLoss result = softmax_cross_entropy<double>(values_.back(), labels, gradients.back());
    std::vector<double> sums(gradient.size(), 0.0);
    for (std::size_t i = description_.layers.size(); i-- > 0;) {
      const NetworkLayer& layer = description_.layers[i];
      const std::vector<double>& dy = gradients[i + 1];
      if (layer.kind == LayerKind::kAdd) {
        for (const std::size_t source : {layer.source, layer.addend})
          for (std::size_t k = 0; k < dy.size(); ++k) gradients[source][k] += dy[k];
      } else {
        reference::layer_backward(layer, labels.size(), parameters, values_[layer.source], dy,
                                  gradients[layer.source], sums);
      }
    }
    for (const NetworkLayer& layer : description_.layers) copy_tensors(layer, sums, gradient);
    return result;
  }

 private:
  /// values_[i] are features i, values_.back() the scores.
  void forward(reference::Mode mode, std::span<const float> parameters, std::size_t batch) {
    NANDUTI_CHECK(parameters.size() == description_.parameter_space_size);
    NANDUTI_CHECK(batch > 0 && images_.size() == batch * description_.layers.front().input.size());
    values_.assign(1, std::vector<double>(images_.begin(), images_.end()));
    for (const NetworkLayer& layer : description_.layers) {
      std::vector<double> y(batch * layer.output.size());
      const std::vector<double>& x = values_[layer.source];
      if (layer.kind == LayerKind::kAdd) {
        const std::vector<double>& addend = values_[layer.addend];
        for (std::size_t k = 0; k < y.size(); ++k) y[k] = x[k] + addend[k];
      } else {
        reference::layer_forward(layer, mode, batch, parameters, x, y);
      }
      values_.push_back(std::move(y));
    }
  }

  static void copy_tensors(const NetworkLayer& layer, std::span<const double> sums,
                           std::span<float> gradient) {
    const std::size_t channels = layer.output.channels;
    const auto copy = [&](std::uint64_t offset, std::size_t count) {
      for (std::size_t i = offset; i < offset + count; ++i) gradient[i] = static_cast<float>(sums[i]);
    };
    if (layer.kind == LayerKind::kConv2d) {
      copy(layer.weight_offset, channels * layer.input.channels * layer.kernel * layer.kernel);
    } else if (layer.kind == LayerKind::kDense) {
      copy(layer.weight_offset, channels * layer.input.size());
    } else if (layer.kind == LayerKind::kBatchNorm) {
      for (const std::uint64_t offset : {layer.weight_offset, layer.mean_offset, layer.variance_offset})
        copy(offset, channels);
    } else {
      return;
    }
    if (layer.has_bias) copy(layer.bias_offset, channels);
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
