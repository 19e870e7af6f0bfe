#include "test/bench/bare_model.h"

#include <optional>
#include <utility>
#include <vector>

#include <dnnl.hpp>

#include "common/base/check.h"
#include "common/base/random.h"
#include "common/compute/softmax_cross_entropy.h"

namespace nanduti {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

constexpr float kEpsilon = 1e-5f;  // of batch norm

memory::desc desc(const memory::dims& dims, Tag tag = Tag::any) {
  return {dims, memory::data_type::f32, tag};
}

}  // namespace

class BareModel::Builder {
 public:
  struct Step {
    dnnl::primitive primitive;
    std::vector<std::pair<int, memory>> arguments;
    std::vector<dnnl_exec_arg_t> bound;
  };
  /// A convolution or inner product with what its backward needs.
  template <class Forward>
  struct Weighted {
    typename Forward::primitive_desc forward;
    memory x, y;
    memory::dims weight;
  };
  struct Slide {
    memory::dim stride = 1;
    memory::dim padding = 0;
    bool bias = true;
    [[nodiscard]] memory::dims strides() const { return {stride, stride}; }
    [[nodiscard]] memory::dims paddings() const { return {padding, padding}; }
  };
  struct Convolved : Weighted<dnnl::convolution_forward> {
    Slide slide;
  };

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::vector<Step> forward, backward;
  RandomStream random{1};
  memory scores, score_gradient;

  static dnnl::primitive_attr attributes(bool relu = false) {
    dnnl::primitive_attr result;
    result.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    dnnl::post_ops operations;
    if (relu) operations.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
    result.set_post_ops(operations);
    return result;
  }

  template <class Primitive>
  void add(std::vector<Step>& steps, const typename Primitive::primitive_desc& primitive,
           std::vector<std::pair<int, memory>> arguments) {
    arguments.emplace_back(DNNL_ARG_SCRATCHPAD, memory(primitive.scratchpad_desc(), engine));
    Step step{Primitive(primitive), std::move(arguments), {}};
    for (const auto& [name, value] : step.arguments) step.bound.push_back({name, value.get()});
    steps.push_back(std::move(step));
  }

  memory reordered(std::vector<Step>& steps, const memory& from, const memory::desc& to) {
    if (from.get_desc() == to) return from;
    const memory result(to, engine);
    add<dnnl::reorder>(steps, {engine, from.get_desc(), engine, to, attributes()},
                       {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, result}});
    return result;
  }

  memory filled(const memory::desc& to, double bound) {
    const memory::dims dims = to.dims();
    const Tag plain = dims.size() == 4 ? Tag::oihw : dims.size() == 2 ? Tag::oi : Tag::x;
    memory values(desc(dims, plain), engine);
    auto* data = static_cast<float*>(values.get_data_handle());
    const std::size_t count = values.get_desc().get_size() / sizeof(float);
    for (std::size_t i = 0; i < count; ++i) data[i] = static_cast<float>(random.uniform(-bound, bound));
    if (values.get_desc() == to) return values;
    memory result(to, engine);
    dnnl::reorder(values, result).execute(stream, values, result);
    return result;
  }

  static memory::desc any(const memory& like) { return desc(like.get_desc().dims()); }
  static memory::desc bias_of(const memory::dims& weight) { return desc({weight[0]}, Tag::x); }

  Convolved conv(const memory& x, memory::dims weight, Slide slide) {
    using F = dnnl::convolution_forward;
    const memory::dims in = x.get_desc().dims();
    const auto side = [&](memory::dim n) { return (n + 2 * slide.padding - weight[2]) / slide.stride + 1; };
    const F::desc about(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, any(x),
                        desc(weight), slide.bias ? bias_of(weight) : memory::desc(),
                        desc({in[0], weight[0], side(in[2]), side(in[3])}), slide.strides(), slide.paddings(),
                        slide.paddings());
    const F::primitive_desc primitive(about, attributes(), engine);
    const memory y(primitive.dst_desc(), engine);
    std::vector<std::pair<int, memory>> arguments{{DNNL_ARG_SRC, reordered(forward, x, primitive.src_desc())},
                                                  {DNNL_ARG_WEIGHTS, filled(primitive.weights_desc(), 0.1)},
                                                  {DNNL_ARG_DST, y}};
    if (slide.bias) arguments.emplace_back(DNNL_ARG_BIAS, filled(bias_of(weight), 0.1));
    add<F>(forward, primitive, std::move(arguments));
    return {{primitive, x, y, std::move(weight)}, slide};
  }

  void conv_weights(const Convolved& layer, const memory& dy) {
    using B = dnnl::convolution_backward_weights;
    const Slide& slide = layer.slide;
    const B::desc about(dnnl::algorithm::convolution_direct, any(layer.x), desc(layer.weight),
                        slide.bias ? bias_of(layer.weight) : memory::desc(), any(layer.y), slide.strides(),
                        slide.paddings(), slide.paddings());
    const B::primitive_desc primitive(about, attributes(), engine, layer.forward);
    std::vector<std::pair<int, memory>> arguments{
        {DNNL_ARG_SRC, reordered(backward, layer.x, primitive.src_desc())},
        {DNNL_ARG_DIFF_DST, reordered(backward, dy, primitive.diff_dst_desc())},
        {DNNL_ARG_DIFF_WEIGHTS, memory(primitive.diff_weights_desc(), engine)}};
    if (slide.bias) arguments.emplace_back(DNNL_ARG_DIFF_BIAS, memory(bias_of(layer.weight), engine));
    add<B>(backward, primitive, std::move(arguments));
  }

  memory conv_data(const Convolved& layer, const memory& dy) {
    using B = dnnl::convolution_backward_data;
    const Slide& slide = layer.slide;
    const B::desc about(dnnl::algorithm::convolution_direct, any(layer.x), desc(layer.weight), any(layer.y),
                        slide.strides(), slide.paddings(), slide.paddings());
    const B::primitive_desc primitive(about, attributes(), engine, layer.forward);
    const memory dx(primitive.diff_src_desc(), engine);
    add<B>(backward, primitive,
           {{DNNL_ARG_DIFF_DST, reordered(backward, dy, primitive.diff_dst_desc())},
            {DNNL_ARG_WEIGHTS, filled(primitive.weights_desc(), 0.1)},
            {DNNL_ARG_DIFF_SRC, dx}});
    return dx;
  }

  struct Normed {
    dnnl::batch_normalization_forward::primitive_desc forward;
    memory x, y, mean, variance, weight, bias, signs;
    dnnl::normalization_flags flags = dnnl::normalization_flags::none;
  };

  Normed batch_norm(const memory& x, bool relu) {
    using F = dnnl::batch_normalization_forward;
    const memory::desc channels = desc({x.get_desc().dims()[1]}, Tag::x);
    Normed layer;
    layer.x = x;
    layer.flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
    if (relu) layer.flags |= dnnl::normalization_flags::fuse_norm_relu;
    layer.forward = F::primitive_desc(
        {dnnl::prop_kind::forward_training, x.get_desc(), kEpsilon, layer.flags}, attributes(), engine);
    layer.y = memory(layer.forward.dst_desc(), engine);
    layer.mean = memory(channels, engine);
    layer.variance = memory(channels, engine);
    layer.weight = filled(channels, 1);
    layer.bias = filled(channels, 1);
    std::vector<std::pair<int, memory>> arguments{{DNNL_ARG_SRC, x},
                                                  {DNNL_ARG_DST, layer.y},
                                                  {DNNL_ARG_MEAN, layer.mean},
                                                  {DNNL_ARG_VARIANCE, layer.variance},
                                                  {DNNL_ARG_SCALE, layer.weight},
                                                  {DNNL_ARG_SHIFT, layer.bias}};
    if (relu) {
      layer.signs = memory(layer.forward.workspace_desc(), engine);
      arguments.emplace_back(DNNL_ARG_WORKSPACE, layer.signs);
    }
    add<F>(forward, layer.forward, std::move(arguments));
    return layer;
  }

  memory batch_norm_backward(const Normed& layer, const memory& dy) {
    using B = dnnl::batch_normalization_backward;
    const memory::desc format = layer.x.get_desc(), channels = layer.mean.get_desc();
    const B::primitive_desc primitive({dnnl::prop_kind::backward, format, format, kEpsilon, layer.flags},
                                      attributes(), engine, layer.forward);
    const memory dx(format, engine);
    std::vector<std::pair<int, memory>> arguments{{DNNL_ARG_SRC, layer.x},
                                                  {DNNL_ARG_MEAN, layer.mean},
                                                  {DNNL_ARG_VARIANCE, layer.variance},
                                                  {DNNL_ARG_SCALE, layer.weight},
                                                  {DNNL_ARG_SHIFT, layer.bias},
                                                  {DNNL_ARG_DIFF_DST, reordered(backward, dy, format)},
                                                  {DNNL_ARG_DIFF_SRC, dx},
                                                  {DNNL_ARG_DIFF_SCALE, memory(channels, engine)},
                                                  {DNNL_ARG_DIFF_SHIFT, memory(channels, engine)}};
    if (layer.signs) arguments.emplace_back(DNNL_ARG_WORKSPACE, layer.signs);
    add<B>(backward, primitive, std::move(arguments));
    return dx;
  }

  /// a + b, with relu behind it if asked for, into `to` or a new memory.
  memory sum(std::vector<Step>& steps, const memory& a, const memory& b, bool relu, memory to = {}) {
    const memory::desc format = a.get_desc();
    if (!to) to = memory(format, engine);
    add<dnnl::binary>(
        steps, {{dnnl::algorithm::binary_add, format, format, format}, attributes(relu), engine},
        {{DNNL_ARG_SRC_0, a}, {DNNL_ARG_SRC_1, reordered(steps, b, format)}, {DNNL_ARG_DST, to}});
    return to;
  }

  struct Pooled {
    dnnl::pooling_forward::primitive_desc forward;
    memory::dims window;
    memory y, best;
  };

  /// Windows that touch, of the largest value or of the mean.
  Pooled pool(const memory& x, dnnl::algorithm algorithm, const memory::dims& window) {
    using F = dnnl::pooling_forward;
    const memory::dims in = x.get_desc().dims();
    const F::desc about(dnnl::prop_kind::forward_training, algorithm, x.get_desc(),
                        desc({in[0], in[1], in[2] / window[0], in[3] / window[1]}), window, window, {0, 0},
                        {0, 0});
    const F::primitive_desc primitive(about, attributes(), engine);
    Pooled layer{primitive, window, memory(primitive.dst_desc(), engine), {}};
    std::vector<std::pair<int, memory>> arguments{{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, layer.y}};
    if (algorithm == dnnl::algorithm::pooling_max) {
      layer.best = memory(primitive.workspace_desc(), engine);
      arguments.emplace_back(DNNL_ARG_WORKSPACE, layer.best);
    }
    add<F>(forward, primitive, std::move(arguments));
    return layer;
  }

  memory pool_data(const Pooled& layer, dnnl::algorithm algorithm, const memory& dy) {
    using B = dnnl::pooling_backward;
    const B::desc about(algorithm, layer.forward.src_desc(), layer.forward.dst_desc(), layer.window,
                        layer.window, {0, 0}, {0, 0});
    const B::primitive_desc primitive(about, attributes(), engine, layer.forward);
    const memory dx(primitive.diff_src_desc(), engine);
    std::vector<std::pair<int, memory>> arguments{
        {DNNL_ARG_DIFF_DST, reordered(backward, dy, layer.forward.dst_desc())}, {DNNL_ARG_DIFF_SRC, dx}};
    if (layer.best) arguments.emplace_back(DNNL_ARG_WORKSPACE, layer.best);
    add<B>(backward, primitive, std::move(arguments));
    return dx;
  }

  Weighted<dnnl::inner_product_forward> dense(const memory& x, std::int64_t units, bool relu) {
    using F = dnnl::inner_product_forward;
    memory::dims weight = x.get_desc().dims();
    const memory::dims out{weight[0], units};
    weight[0] = units;
    const F::desc about(dnnl::prop_kind::forward_training, any(x), desc(weight), bias_of(weight),
                        desc(out, relu ? Tag::any : Tag::nc));
    const F::primitive_desc primitive(about, attributes(relu), engine);
    const memory y(primitive.dst_desc(), engine);
    add<F>(forward, primitive,
           {{DNNL_ARG_SRC, reordered(forward, x, primitive.src_desc())},
            {DNNL_ARG_WEIGHTS, filled(primitive.weights_desc(), 0.05)},
            {DNNL_ARG_BIAS, filled(bias_of(weight), 0.05)},
            {DNNL_ARG_DST, y}});
    return {primitive, x, y, std::move(weight)};
  }

  memory dense_backward(const Weighted<dnnl::inner_product_forward>& layer, const memory& dy) {
    using W = dnnl::inner_product_backward_weights;
    const W::primitive_desc weights(
        W::desc(any(layer.x), desc(layer.weight), bias_of(layer.weight), any(layer.y)), attributes(), engine,
        layer.forward);
    add<W>(backward, weights,
           {{DNNL_ARG_SRC, reordered(backward, layer.x, weights.src_desc())},
            {DNNL_ARG_DIFF_DST, reordered(backward, dy, weights.diff_dst_desc())},
            {DNNL_ARG_DIFF_WEIGHTS, memory(weights.diff_weights_desc(), engine)},
            {DNNL_ARG_DIFF_BIAS, memory(bias_of(layer.weight), engine)}});
    using D = dnnl::inner_product_backward_data;
    const D::primitive_desc data(D::desc(any(layer.x), desc(layer.weight), any(layer.y)), attributes(),
                                 engine, layer.forward);
    const memory dx(data.diff_src_desc(), engine);
    add<D>(backward, data,
           {{DNNL_ARG_DIFF_DST, reordered(backward, dy, data.diff_dst_desc())},
            {DNNL_ARG_WEIGHTS, filled(data.weights_desc(), 0.05)},
            {DNNL_ARG_DIFF_SRC, dx}});
    return dx;
  }

  memory relu_backward(const memory& y, const memory& dy) {
    const auto kind = dnnl::algorithm::eltwise_relu_use_dst_for_bwd;
    const memory::desc format = y.get_desc();
    const dnnl::eltwise_forward::primitive_desc hint(
        dnnl::eltwise_forward::desc(dnnl::prop_kind::forward_training, kind, format, 0.0f), engine);
    const dnnl::eltwise_backward::primitive_desc primitive(
        dnnl::eltwise_backward::desc(kind, format, format, 0.0f), attributes(), engine, hint);
    const memory in = reordered(backward, dy, format);
    add<dnnl::eltwise_backward>(backward, primitive,
                                {{DNNL_ARG_DST, y}, {DNNL_ARG_DIFF_DST, in}, {DNNL_ARG_DIFF_SRC, in}});
    return in;
  }

  void run(const std::vector<Step>& steps) const {
    for (const Step& step : steps) {
      dnnl::error::wrap_c_api(dnnl_primitive_execute(step.primitive.get(), stream.get(),
                                                     static_cast<int>(step.bound.size()), step.bound.data()),
                              "a primitive failed");
    }
  }

  memory some_images(const memory::dims& dims) {
    memory images(desc(dims, Tag::nchw), engine);
    auto* pixels = static_cast<float*>(images.get_data_handle());
    const std::size_t count = images.get_desc().get_size() / sizeof(float);
    for (std::size_t i = 0; i < count; ++i) pixels[i] = static_cast<float>(random.uniform(-1, 1));
    return images;
  }

  void end_with(const memory& y) {
    scores = y;
    score_gradient = memory(scores.get_desc(), engine);
  }

  void build_lenet(memory::dim batch) {
    constexpr auto kMax = dnnl::algorithm::pooling_max;
    const auto conv1 = conv(some_images({batch, 1, 28, 28}), {20, 1, 5, 5}, {});
    const auto pool1 = pool(conv1.y, kMax, {2, 2});
    const auto conv2 = conv(pool1.y, {50, 20, 5, 5}, {});
    const auto pool2 = pool(conv2.y, kMax, {2, 2});
    const auto dense1 = dense(pool2.y, 500, true);
    const auto dense2 = dense(dense1.y, kClasses, false);
    end_with(dense2.y);

    memory dy = relu_backward(dense1.y, dense_backward(dense2, score_gradient));
    dy = pool_data(pool2, kMax, dense_backward(dense1, dy));
    conv_weights(conv2, dy);
    dy = pool_data(pool1, kMax, conv_data(conv2, dy));
    conv_weights(conv1, dy);
  }

  struct Unit {
    Convolved conv;
    Normed norm;
  };
  Unit unit(const memory& x, memory::dim channels, memory::dim kernel, memory::dim stride, bool relu) {
    const memory::dims weight{channels, x.get_desc().dims()[1], kernel, kernel};
    Convolved convolved = conv(x, weight, {stride, kernel / 2, false});
    Normed normed = batch_norm(convolved.y, relu);
    return {std::move(convolved), std::move(normed)};
  }
  memory unit_backward(const Unit& layer, const memory& dy) {
    const memory d = batch_norm_backward(layer.norm, dy);
    conv_weights(layer.conv, d);
    return conv_data(layer.conv, d);
  }

  struct Residual {
    Unit first, second;
    std::optional<Unit> shortcut;
    memory y;
  };
  Residual residual(const memory& x, memory::dim channels, memory::dim stride) {
    Unit first = unit(x, channels, 3, stride, true);
    Unit second = unit(first.norm.y, channels, 3, 1, false);
    Residual layer{std::move(first), std::move(second), {}, {}};
    if (stride > 1) layer.shortcut = unit(x, channels, 1, stride, false);
    layer.y = sum(forward, layer.second.norm.y, layer.shortcut ? layer.shortcut->norm.y : x, true);
    return layer;
  }
  memory residual_backward(const Residual& layer, const memory& dy) {
    const memory d = relu_backward(layer.y, dy);
    const memory dx = unit_backward(layer.first, unit_backward(layer.second, d));
    return sum(backward, dx, layer.shortcut ? unit_backward(*layer.shortcut, d) : d, false, dx);
  }

  void build_resnet20(memory::dim batch) {
    constexpr auto kMean = dnnl::algorithm::pooling_avg_exclude_padding;
    const Unit entry = unit(some_images({batch, 3, 32, 32}), 16, 3, 1, true);
    std::vector<Residual> blocks;
    memory x = entry.norm.y;
    for (const memory::dim channels : {16, 32, 64}) {
      for (int block = 0; block < 3; ++block) {
        blocks.push_back(residual(x, channels, channels > 16 && block == 0 ? 2 : 1));
        x = blocks.back().y;
      }
    }
    const auto pooled = pool(x, kMean, {8, 8});
    const auto scored = dense(pooled.y, kClasses, false);
    end_with(scored.y);

    memory dy = pool_data(pooled, kMean, dense_backward(scored, score_gradient));
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) dy = residual_backward(*block, dy);
    conv_weights(entry.conv, batch_norm_backward(entry.norm, dy));
  }
};

BareModel::BareModel(std::string_view name, std::size_t batch) : builder_(std::make_unique<Builder>()) {
  NANDUTI_CHECK(name == "lenet" || name == "resnet20");
  const auto count = static_cast<dnnl::memory::dim>(batch);
  name == "lenet" ? builder_->build_lenet(count) : builder_->build_resnet20(count);
}

BareModel::~BareModel() = default;

double BareModel::step(std::span<const std::uint8_t> labels) {
  const std::size_t count = labels.size() * kClasses;
  builder_->run(builder_->forward);
  const BatchLoss loss = softmax_cross_entropy<float>(
      {static_cast<const float*>(builder_->scores.get_data_handle()), count}, labels,
      {static_cast<float*>(builder_->score_gradient.get_data_handle()), count});
  builder_->run(builder_->backward);
  return loss.loss_sum;
}

}  // namespace nanduti
