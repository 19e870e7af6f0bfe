#include "test/bench/bare_lenet.h"

#include <utility>
#include <vector>

#include <dnnl.hpp>

#include "common/base/random.h"
#include "common/compute/softmax_cross_entropy.h"

namespace nanduti {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

memory::desc desc(const memory::dims& dims, Tag tag = Tag::any) {
  return {dims, memory::data_type::f32, tag};
}

}  // namespace

struct BareLenet::State {
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

  Weighted<dnnl::convolution_forward> conv(const memory& x, memory::dims weight) {
    using F = dnnl::convolution_forward;
    const memory::dims in = x.get_desc().dims();
    const memory::dims out{in[0], weight[0], in[2] - 4, in[3] - 4};
    const F::desc about(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, any(x),
                        desc(weight), bias_of(weight), desc(out), {1, 1}, {0, 0}, {0, 0});
    const F::primitive_desc primitive(about, attributes(), engine);
    const memory y(primitive.dst_desc(), engine);
    add<F>(forward, primitive,
           {{DNNL_ARG_SRC, reordered(forward, x, primitive.src_desc())},
            {DNNL_ARG_WEIGHTS, filled(primitive.weights_desc(), 0.1)},
            {DNNL_ARG_BIAS, filled(bias_of(weight), 0.1)},
            {DNNL_ARG_DST, y}});
    return {primitive, x, y, std::move(weight)};
  }

  void conv_weights(const Weighted<dnnl::convolution_forward>& layer, const memory& dy) {
    using B = dnnl::convolution_backward_weights;
    const B::desc about(dnnl::algorithm::convolution_direct, any(layer.x), desc(layer.weight),
                        bias_of(layer.weight), any(layer.y), {1, 1}, {0, 0}, {0, 0});
    const B::primitive_desc primitive(about, attributes(), engine, layer.forward);
    add<B>(backward, primitive,
           {{DNNL_ARG_SRC, reordered(backward, layer.x, primitive.src_desc())},
            {DNNL_ARG_DIFF_DST, reordered(backward, dy, primitive.diff_dst_desc())},
            {DNNL_ARG_DIFF_WEIGHTS, memory(primitive.diff_weights_desc(), engine)},
            {DNNL_ARG_DIFF_BIAS, memory(bias_of(layer.weight), engine)}});
  }

  memory conv_data(const Weighted<dnnl::convolution_forward>& layer, const memory& dy) {
    using B = dnnl::convolution_backward_data;
    const B::desc about(dnnl::algorithm::convolution_direct, any(layer.x), desc(layer.weight), any(layer.y),
                        {1, 1}, {0, 0}, {0, 0});
    const B::primitive_desc primitive(about, attributes(), engine, layer.forward);
    const memory dx(primitive.diff_src_desc(), engine);
    add<B>(backward, primitive,
           {{DNNL_ARG_DIFF_DST, reordered(backward, dy, primitive.diff_dst_desc())},
            {DNNL_ARG_WEIGHTS, filled(primitive.weights_desc(), 0.1)},
            {DNNL_ARG_DIFF_SRC, dx}});
    return dx;
  }

  struct Pooled {
    dnnl::pooling_forward::primitive_desc forward;
    memory y, best;
  };

  Pooled pool(const memory& x) {
    using F = dnnl::pooling_forward;
    const memory::dims in = x.get_desc().dims();
    const F::desc about(dnnl::prop_kind::forward_training, dnnl::algorithm::pooling_max, x.get_desc(),
                        desc({in[0], in[1], in[2] / 2, in[3] / 2}), {2, 2}, {2, 2}, {0, 0}, {0, 0});
    const F::primitive_desc primitive(about, attributes(), engine);
    const memory y(primitive.dst_desc(), engine), best(primitive.workspace_desc(), engine);
    add<F>(forward, primitive, {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}, {DNNL_ARG_WORKSPACE, best}});
    return {primitive, y, best};
  }

  memory pool_data(const Pooled& layer, const memory& dy) {
    using B = dnnl::pooling_backward;
    const B::desc about(dnnl::algorithm::pooling_max, layer.forward.src_desc(), layer.forward.dst_desc(),
                        {2, 2}, {2, 2}, {0, 0}, {0, 0});
    const B::primitive_desc primitive(about, attributes(), engine, layer.forward);
    const memory dx(primitive.diff_src_desc(), engine);
    add<B>(backward, primitive,
           {{DNNL_ARG_DIFF_DST, reordered(backward, dy, layer.forward.dst_desc())},
            {DNNL_ARG_WORKSPACE, layer.best},
            {DNNL_ARG_DIFF_SRC, dx}});
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
};

BareLenet::BareLenet(std::size_t batch) : state_(std::make_unique<State>()) {
  State& s = *state_;
  const auto n = static_cast<memory::dim>(batch);
  memory images(desc({n, 1, 28, 28}, Tag::nchw), s.engine);
  auto* pixels = static_cast<float*>(images.get_data_handle());
  for (std::size_t i = 0; i < batch * 784; ++i) pixels[i] = static_cast<float>(s.random.uniform(-1, 1));

  const auto conv1 = s.conv(images, {20, 1, 5, 5});
  const auto pool1 = s.pool(conv1.y);
  const auto conv2 = s.conv(pool1.y, {50, 20, 5, 5});
  const auto pool2 = s.pool(conv2.y);
  const auto dense1 = s.dense(pool2.y, 500, true);
  const auto dense2 = s.dense(dense1.y, 10, false);
  s.scores = dense2.y;
  s.score_gradient = memory(s.scores.get_desc(), s.engine);

  memory dy = s.relu_backward(dense1.y, s.dense_backward(dense2, s.score_gradient));
  dy = s.pool_data(pool2, s.dense_backward(dense1, dy));
  s.conv_weights(conv2, dy);
  dy = s.pool_data(pool1, s.conv_data(conv2, dy));
  s.conv_weights(conv1, dy);
}

BareLenet::~BareLenet() = default;

double BareLenet::step(std::span<const std::uint8_t> labels) {
  const std::size_t count = labels.size() * 10;
  state_->run(state_->forward);
  const BatchLoss loss = softmax_cross_entropy<float>(
      {static_cast<const float*>(state_->scores.get_data_handle()), count}, labels,
      {static_cast<float*>(state_->score_gradient.get_data_handle()), count});
  state_->run(state_->backward);
  return loss.loss_sum;
}

}  // namespace nanduti
