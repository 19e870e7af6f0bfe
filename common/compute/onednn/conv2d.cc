#include "common/base/check.h"
#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {
namespace {

using dnnl::memory;

// Winograd would be faster for 3x3 kernels and less exact.
constexpr auto kAlgorithm = dnnl::algorithm::convolution_direct;

class Conv2d final : public Operator {
  using Forward = dnnl::convolution_forward;
  using BackwardData = dnnl::convolution_backward_data;
  using BackwardWeights = dnnl::convolution_backward_weights;

 public:
  Conv2d(const NetworkLayer& layer, bool relu) : layer_(layer), relu_(relu) {}

  memory forward(Build build, const Inputs& inputs) override {
    const memory& x = inputs.x;
    NANDUTI_CHECK(x.get_desc().dims() == image_dims(build.batch, layer_.input));
    x_ = x;
    const Forward::desc desc(dnnl::prop_kind::forward_training, kAlgorithm, any(x.get_desc()), any(weight()),
                             bias(), any(y_dims(build)), strides(), padding(), padding());
    forward_ = Forward::primitive_desc(desc, forward_attributes(relu_), build.engine);
    const memory w = build.parameters.at(layer_.weight_offset, weight());
    y_ = memory(forward_.dst_desc(), build.engine);
    Program::Arguments arguments{{DNNL_ARG_SRC, build.program.reordered(x, forward_.src_desc())},
                                 {DNNL_ARG_WEIGHTS, build.program.reordered(w, forward_.weights_desc())},
                                 {DNNL_ARG_DST, y_}};
    if (layer_.has_bias)
      arguments.emplace_back(DNNL_ARG_BIAS, build.parameters.at(layer_.bias_offset, bias()));
    build.program.add<Forward>(forward_, std::move(arguments));
    return y_;
  }

  memory backward(Build build, const Gradient& dy, bool wants_dx) override {
    const memory d = before_fused(relu_, build, y_, dy);
    backward_weights(build, d);
    return wants_dx ? backward_data(build, d) : memory();
  }

 private:
  void backward_weights(Build build, const memory& dy) {
    const BackwardWeights::desc desc(kAlgorithm, any(x_.get_desc()), any(weight()), bias(),
                                     any(y_dims(build)), strides(), padding(), padding());
    const BackwardWeights::primitive_desc backward(desc, Program::attributes(), build.engine, forward_);
    const memory dw = build.gradient.at(layer_.weight_offset, weight());
    const bool same = backward.diff_weights_desc() == weight();
    const memory blocked = same ? dw : memory(backward.diff_weights_desc(), build.engine);
    Program::Arguments arguments{{DNNL_ARG_SRC, build.program.reordered(x_, backward.src_desc())},
                                 {DNNL_ARG_DIFF_DST, build.program.reordered(dy, backward.diff_dst_desc())},
                                 {DNNL_ARG_DIFF_WEIGHTS, blocked}};
    if (layer_.has_bias)
      arguments.emplace_back(DNNL_ARG_DIFF_BIAS, build.gradient.at(layer_.bias_offset, bias()));
    build.program.add<BackwardWeights>(backward, std::move(arguments));
    if (!same) build.program.reorder(blocked, dw);
  }

  memory backward_data(Build build, const memory& dy) {
    const BackwardData::desc desc(kAlgorithm, any(x_.get_desc()), any(weight()), any(y_dims(build)),
                                  strides(), padding(), padding());
    const BackwardData::primitive_desc backward(desc, Program::attributes(), build.engine, forward_);
    const memory w = build.parameters.at(layer_.weight_offset, weight());
    const memory dx(backward.diff_src_desc(), build.engine);
    build.program.add<BackwardData>(
        backward, {{DNNL_ARG_DIFF_DST, build.program.reordered(dy, backward.diff_dst_desc())},
                   {DNNL_ARG_WEIGHTS, build.program.reordered(w, backward.weights_desc())},
                   {DNNL_ARG_DIFF_SRC, dx}});
    return dx;
  }

  static memory::desc any(const memory::dims& dims) { return float_desc(dims, memory::format_tag::any); }
  static memory::desc any(const memory::desc& desc) { return any(desc.dims()); }
  [[nodiscard]] memory::dims y_dims(const Build& build) const {
    return image_dims(build.batch, layer_.output);
  }
  [[nodiscard]] memory::dims strides() const { return {layer_.stride, layer_.stride}; }
  [[nodiscard]] memory::dims padding() const { return {layer_.padding, layer_.padding}; }
  [[nodiscard]] memory::desc weight() const {
    return float_desc({layer_.output.channels, layer_.input.channels, layer_.kernel, layer_.kernel},
                      memory::format_tag::oihw);
  }
  /// Empty if there is none.
  [[nodiscard]] memory::desc bias() const {
    if (!layer_.has_bias) return {};
    return float_desc({layer_.output.channels}, memory::format_tag::x);
  }

  NetworkLayer layer_;
  bool relu_;
  Forward::primitive_desc forward_;
  memory x_;
  memory y_;
};

}  // namespace

std::unique_ptr<Operator> make_conv2d(const NetworkLayer& layer, bool relu) {
  return std::make_unique<Conv2d>(layer, relu);
}

memory::dims image_dims(memory::dim batch, Extent extent) {
  return {batch, extent.channels, extent.height, extent.width};
}

memory::desc float_desc(const memory::dims& dims, memory::format_tag tag) {
  return memory::desc(dims, memory::data_type::f32, tag);
}

}  // namespace nanduti::onednn
