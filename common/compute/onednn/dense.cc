#include "common/base/check.h"
#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {
namespace {

using dnnl::memory;
using Forward = dnnl::inner_product_forward;
using BackwardData = dnnl::inner_product_backward_data;
using BackwardWeights = dnnl::inner_product_backward_weights;

/// Takes an image in whatever format it comes: the weights are then seen as (out, channels, height, width).
class Dense final : public Operator {
 public:
  Dense(const NetworkLayer& layer, bool relu) : layer_(layer), relu_(relu) {}

  memory forward(Build build, const memory& x) override {
    x_ = as_rows(build, x);
    NANDUTI_CHECK(x.get_desc().get_size() > 0 && weight().dims()[0] == layer_.output.channels);
    const Forward::desc desc(dnnl::prop_kind::forward_training, any(x_.get_desc()), any(weight()), bias(),
                             any(y_dims(build)));
    forward_ = Forward::primitive_desc(desc, forward_attributes(relu_), build.engine);
    const memory w = build.parameters.at(layer_.weight_offset, weight());
    y_ = memory(forward_.dst_desc(), build.engine);
    build.program.add<Forward>(forward_,
                               {{DNNL_ARG_SRC, build.program.reordered(x_, forward_.src_desc())},
                                {DNNL_ARG_WEIGHTS, build.program.reordered(w, forward_.weights_desc())},
                                {DNNL_ARG_BIAS, build.parameters.at(layer_.bias_offset, bias())},
                                {DNNL_ARG_DST, y_}});
    return y_;
  }

  memory backward(Build build, const memory& dy, bool wants_dx) override {
    const memory d = relu_ ? relu_backward(build, y_, dy) : dy;
    backward_weights(build, d);
    return wants_dx ? backward_data(build, d) : memory();
  }

 private:
  /// A plain image is a row per sample already.
  memory as_rows(Build build, const memory& x) const {
    const memory::dims dims = x.get_desc().dims();
    if (dims.size() != 4 || x.get_desc() != float_desc(dims, memory::format_tag::nchw)) return x;
    return memory(float_desc({dims[0], dims[1] * dims[2] * dims[3]}, memory::format_tag::nc), build.engine,
                  x.get_data_handle());
  }

  void backward_weights(Build build, const memory& dy) {
    const BackwardWeights::desc desc(any(x_.get_desc()), any(weight()), bias(), any(y_dims(build)));
    const BackwardWeights::primitive_desc backward(desc, Program::attributes(), build.engine, forward_);
    const memory dw = build.gradient.at(layer_.weight_offset, weight());
    const bool same = backward.diff_weights_desc() == weight();
    const memory blocked = same ? dw : memory(backward.diff_weights_desc(), build.engine);
    build.program.add<BackwardWeights>(
        backward, {{DNNL_ARG_SRC, build.program.reordered(x_, backward.src_desc())},
                   {DNNL_ARG_DIFF_DST, build.program.reordered(dy, backward.diff_dst_desc())},
                   {DNNL_ARG_DIFF_WEIGHTS, blocked},
                   {DNNL_ARG_DIFF_BIAS, build.gradient.at(layer_.bias_offset, bias())}});
    if (!same) build.program.reorder(blocked, dw);
  }

  memory backward_data(Build build, const memory& dy) {
    const BackwardData::desc desc(any(x_.get_desc()), any(weight()), any(y_dims(build)));
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
    return {build.batch, layer_.output.channels};
  }
  [[nodiscard]] memory::desc weight() const {
    memory::dims dims = x_.get_desc().dims();
    dims[0] = layer_.output.channels;
    return float_desc(dims, dims.size() == 4 ? memory::format_tag::oihw : memory::format_tag::oi);
  }
  [[nodiscard]] memory::desc bias() const {
    return float_desc({layer_.output.channels}, memory::format_tag::x);
  }

  NetworkLayer layer_;
  bool relu_;
  Forward::primitive_desc forward_;
  memory x_;
  memory y_;
};

}  // namespace

std::unique_ptr<Operator> make_dense(const NetworkLayer& layer, bool relu) {
  return std::make_unique<Dense>(layer, relu);
}

}  // namespace nanduti::onednn
