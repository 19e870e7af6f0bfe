#include "common/compute/reference/layers.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/check.h"

namespace nanduti::reference {
namespace {

/// Calls visit(output index, input index, weight index) for every product of the convolution, for one sample;
/// indices are within the sample and within the weight tensor. Taps on the padding are left out: they are
/// zero.
template <class Visit>
void for_each_conv_product(const NetworkLayer& layer, Visit visit) {
  const Extent in = layer.input, out = layer.output;
  for (std::size_t oc = 0; oc < out.channels; ++oc)
    for (std::size_t oh = 0; oh < out.height; ++oh)
      for (std::size_t ow = 0; ow < out.width; ++ow)
        for (std::size_t ic = 0; ic < in.channels; ++ic)
          for (std::size_t kh = 0; kh < layer.kernel; ++kh)
            for (std::size_t kw = 0; kw < layer.kernel; ++kw) {
              // Unsigned: a tap left of or above the image wraps to a huge number and fails the test below.
              const std::size_t ih = oh * layer.stride + kh - layer.padding;
              const std::size_t iw = ow * layer.stride + kw - layer.padding;
              if (ih >= in.height || iw >= in.width) continue;
              visit((oc * out.height + oh) * out.width + ow, (ic * in.height + ih) * in.width + iw,
                    ((oc * in.channels + ic) * layer.kernel + kh) * layer.kernel + kw);
            }
}

/// Calls visit(output index, input index) for every pixel of every pooling window of one sample.
template <class Visit>
void for_each_pool_pixel(const NetworkLayer& layer, Visit visit) {
  const Extent in = layer.input, out = layer.output;
  for (std::size_t c = 0; c < out.channels; ++c)
    for (std::size_t oh = 0; oh < out.height; ++oh)
      for (std::size_t ow = 0; ow < out.width; ++ow)
        for (std::size_t kh = 0; kh < layer.kernel; ++kh)
          for (std::size_t kw = 0; kw < layer.kernel; ++kw)
            visit((c * out.height + oh) * out.width + ow,
                  (c * in.height + oh * layer.stride + kh) * in.width + ow * layer.stride + kw);
}

/// The input index that gives each output of a max pool; the first of equals.
std::vector<std::size_t> best_pixels(const NetworkLayer& layer, ConstValues x) {
  constexpr std::size_t kNone = ~std::size_t{0};
  std::vector<std::size_t> best(layer.output.size(), kNone);
  for_each_pool_pixel(layer, [&](std::size_t out, std::size_t in) {
    if (best[out] == kNone || x[in] > x[best[out]]) best[out] = in;
  });
  return best;
}

/// Calls visit(index) for every value of the channel in the batch.
template <class Visit>
void for_each_of_channel(const NetworkLayer& layer, std::size_t batch, std::size_t channel, Visit visit) {
  const std::size_t plane = std::size_t{layer.input.height} * layer.input.width;
  for (std::size_t n = 0; n < batch; ++n)
    for (std::size_t i = 0; i < plane; ++i) visit((n * layer.input.channels + channel) * plane + i);
}

/// Of one channel in a batch.
struct Statistics {
  double mean = 0;
  double variance = 0;  // biased
  double count = 0;
};

Statistics statistics_of(const NetworkLayer& layer, std::size_t batch, std::size_t channel, ConstValues x) {
  Statistics result;
  for_each_of_channel(layer, batch, channel, [&](std::size_t i) {
    result.mean += x[i];
    result.count += 1;
  });
  result.mean /= result.count;
  for_each_of_channel(layer, batch, channel, [&](std::size_t i) {
    result.variance += (x[i] - result.mean) * (x[i] - result.mean) / result.count;
  });
  return result;
}

void batch_norm_forward(const NetworkLayer& layer, Mode mode, std::size_t batch,
                        std::span<const float> parameters, ConstValues x, Values y) {
  for (std::size_t c = 0; c < layer.input.channels; ++c) {
    Statistics by;
    if (mode == Mode::kTraining) {
      by = statistics_of(layer, batch, c, x);
    } else {
      by.mean = static_cast<double>(parameters[layer.mean_offset + c]);
      by.variance = std::max(static_cast<double>(parameters[layer.variance_offset + c]), 0.0);
    }
    const double scale =
        static_cast<double>(parameters[layer.weight_offset + c]) / std::sqrt(by.variance + layer.epsilon);
    const auto bias = static_cast<double>(parameters[layer.bias_offset + c]);
    for_each_of_channel(layer, batch, c, [&](std::size_t i) { y[i] = (x[i] - by.mean) * scale + bias; });
  }
}

void batch_norm_backward(const NetworkLayer& layer, std::size_t batch, std::span<const float> parameters,
                         ConstValues x, ConstValues dy, Values dx, std::span<double> gradient) {
  for (std::size_t c = 0; c < layer.input.channels; ++c) {
    const Statistics by = statistics_of(layer, batch, c, x);
    const double inverse = 1 / std::sqrt(by.variance + layer.epsilon);
    double d_bias = 0, d_weight = 0;
    for_each_of_channel(layer, batch, c, [&](std::size_t i) {
      d_bias += dy[i];
      d_weight += dy[i] * (x[i] - by.mean) * inverse;
    });
    gradient[layer.bias_offset + c] += d_bias;
    gradient[layer.weight_offset + c] += d_weight;
    const double scale = static_cast<double>(parameters[layer.weight_offset + c]) * inverse;
    // Mean and variance depend on every x.
    for_each_of_channel(layer, batch, c, [&](std::size_t i) {
      dx[i] += scale * (dy[i] - d_bias / by.count - (x[i] - by.mean) * inverse * d_weight / by.count);
    });
    if (by.count < 2) continue;  // the sums are zeros
    const double unbiased = by.variance * by.count / (by.count - 1);
    const auto change = [&](std::uint64_t offset, double value) {
      gradient[offset + c] = layer.momentum * (static_cast<double>(parameters[offset + c]) - value);
    };
    change(layer.mean_offset, by.mean);
    change(layer.variance_offset, unbiased);
  }
}

void sample_forward(const NetworkLayer& layer, std::span<const float> parameters, ConstValues x, Values y) {
  const auto weight = parameters.subspan(layer.weight_offset);
  const auto bias = parameters.subspan(layer.bias_offset);
  const std::size_t plane = std::size_t{layer.output.height} * layer.output.width;
  const double window = static_cast<double>(layer.kernel) * layer.kernel;
  switch (layer.kind) {
    case LayerKind::kConv2d:
      for (std::size_t i = 0; i < y.size(); ++i)
        y[i] = layer.has_bias ? static_cast<double>(bias[i / plane]) : 0.0;
      for_each_conv_product(layer, [&](std::size_t out, std::size_t in, std::size_t tap) {
        y[out] += static_cast<double>(weight[tap]) * x[in];
      });
      break;
    case LayerKind::kDense:
      for (std::size_t o = 0; o < y.size(); ++o) {
        y[o] = static_cast<double>(bias[o]);
        for (std::size_t i = 0; i < x.size(); ++i)
          y[o] += static_cast<double>(weight[o * x.size() + i]) * x[i];
      }
      break;
    case LayerKind::kRelu:
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = std::max(x[i], 0.0);
      break;
    case LayerKind::kMaxPool: {
      const auto best = best_pixels(layer, x);
      for (std::size_t o = 0; o < y.size(); ++o) y[o] = x[best[o]];
      break;
    }
    case LayerKind::kAveragePool:
      std::fill(y.begin(), y.end(), 0.0);
      for_each_pool_pixel(layer, [&](std::size_t out, std::size_t in) { y[out] += x[in] / window; });
      break;
    case LayerKind::kGlobalAveragePool: {
      const std::size_t pixels = x.size() / y.size();
      std::fill(y.begin(), y.end(), 0.0);
      for (std::size_t i = 0; i < x.size(); ++i) y[i / pixels] += x[i] / static_cast<double>(pixels);
      break;
    }
    case LayerKind::kFlatten:
      std::copy(x.begin(), x.end(), y.begin());
      break;
    case LayerKind::kBatchNorm:
    case LayerKind::kAdd:
      NANDUTI_CHECK(false, "not of one sample of one input");
  }
}

/// Adds to dx and to the gradients of weight and bias.
void sample_backward(const NetworkLayer& layer, std::span<const float> parameters, ConstValues x,
                     ConstValues dy, Values dx, std::span<double> gradient) {
  const auto weight = parameters.subspan(layer.weight_offset);
  const auto d_weight = gradient.subspan(layer.weight_offset);
  const auto d_bias = gradient.subspan(layer.bias_offset);
  const std::size_t plane = std::size_t{layer.output.height} * layer.output.width;
  const double window = static_cast<double>(layer.kernel) * layer.kernel;
  switch (layer.kind) {
    case LayerKind::kConv2d:
      for (std::size_t i = 0; i < dy.size() && layer.has_bias; ++i) d_bias[i / plane] += dy[i];
      for_each_conv_product(layer, [&](std::size_t out, std::size_t in, std::size_t tap) {
        d_weight[tap] += dy[out] * x[in];
        dx[in] += dy[out] * static_cast<double>(weight[tap]);
      });
      break;
    case LayerKind::kDense:
      for (std::size_t o = 0; o < dy.size(); ++o) {
        d_bias[o] += dy[o];
        for (std::size_t i = 0; i < x.size(); ++i) {
          d_weight[o * x.size() + i] += dy[o] * x[i];
          dx[i] += dy[o] * static_cast<double>(weight[o * x.size() + i]);
        }
      }
      break;
    case LayerKind::kRelu:
      for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += x[i] > 0.0 ? dy[i] : 0.0;
      break;
    case LayerKind::kMaxPool: {
      const auto best = best_pixels(layer, x);
      for (std::size_t o = 0; o < dy.size(); ++o) dx[best[o]] += dy[o];
      break;
    }
    case LayerKind::kAveragePool:
      for_each_pool_pixel(layer, [&](std::size_t out, std::size_t in) { dx[in] += dy[out] / window; });
      break;
    case LayerKind::kGlobalAveragePool: {
      const std::size_t pixels = dx.size() / dy.size();
      for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += dy[i / pixels] / static_cast<double>(pixels);
      break;
    }
    case LayerKind::kFlatten:
      for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += dy[i];
      break;
    case LayerKind::kBatchNorm:
    case LayerKind::kAdd:
      NANDUTI_CHECK(false, "not of one sample of one input");
  }
}

}  // namespace

void layer_forward(const NetworkLayer& layer, Mode mode, std::size_t batch, std::span<const float> parameters,
                   ConstValues x, Values y) {
  if (layer.kind == LayerKind::kBatchNorm) return batch_norm_forward(layer, mode, batch, parameters, x, y);
  const std::size_t in = layer.input.size(), out = layer.output.size();
  for (std::size_t n = 0; n < batch; ++n) {
    sample_forward(layer, parameters, x.subspan(n * in, in), y.subspan(n * out, out));
  }
}

void layer_backward(const NetworkLayer& layer, std::size_t batch, std::span<const float> parameters,
                    ConstValues x, ConstValues dy, Values dx, std::span<double> gradient) {
  if (layer.kind == LayerKind::kBatchNorm)
    return batch_norm_backward(layer, batch, parameters, x, dy, dx, gradient);
  const std::size_t in = layer.input.size(), out = layer.output.size();
  for (std::size_t n = 0; n < batch; ++n) {
    sample_backward(layer, parameters, x.subspan(n * in, in), dy.subspan(n * out, out),
                    dx.subspan(n * in, in), gradient);
  }
}

}  // namespace nanduti::reference
