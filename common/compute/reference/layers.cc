#include "common/compute/reference/layers.h"

#include <algorithm>
#include <vector>

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

void sample_forward(const NetworkLayer& layer, std::span<const float> parameters, ConstValues x, Values y) {
  const auto weight = parameters.subspan(layer.weight_offset);
  const auto bias = parameters.subspan(layer.bias_offset);
  const std::size_t plane = std::size_t{layer.output.height} * layer.output.width;
  const double window = static_cast<double>(layer.kernel) * layer.kernel;
  switch (layer.kind) {
    case LayerKind::kConv2d:
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<double>(bias[i / plane]);
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
    case LayerKind::kFlatten:
      std::copy(x.begin(), x.end(), y.begin());
      break;
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
      for (std::size_t i = 0; i < dy.size(); ++i) d_bias[i / plane] += dy[i];
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
    case LayerKind::kFlatten:
      for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += dy[i];
      break;
  }
}

}  // namespace

void layer_forward(const NetworkLayer& layer, std::size_t batch, std::span<const float> parameters,
                   ConstValues x, Values y) {
  const std::size_t in = layer.input.size(), out = layer.output.size();
  for (std::size_t n = 0; n < batch; ++n) {
    sample_forward(layer, parameters, x.subspan(n * in, in), y.subspan(n * out, out));
  }
}

void layer_backward(const NetworkLayer& layer, std::size_t batch, std::span<const float> parameters,
                    ConstValues x, ConstValues dy, Values dx, std::span<double> gradient) {
  const std::size_t in = layer.input.size(), out = layer.output.size();
  std::fill(dx.begin(), dx.end(), 0.0);
  for (std::size_t n = 0; n < batch; ++n) {
    sample_backward(layer, parameters, x.subspan(n * in, in), dy.subspan(n * out, out),
                    dx.subspan(n * in, in), gradient);
  }
}

}  // namespace nanduti::reference
