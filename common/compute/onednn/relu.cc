#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {
namespace {

using dnnl::algorithm;

class Relu final : public Operator {
 public:
  dnnl::memory forward(Build build, const Inputs& inputs) override {
    const dnnl::memory& x = inputs.x;
    const dnnl::eltwise_forward::desc desc(dnnl::prop_kind::forward_training, algorithm::eltwise_relu,
                                           x.get_desc(), 0.0f);
    const dnnl::eltwise_forward::primitive_desc primitive(desc, Program::attributes(), build.engine);
    y_ = dnnl::memory(primitive.dst_desc(), build.engine);
    build.program.add<dnnl::eltwise_forward>(primitive, {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y_}});
    return y_;
  }

  dnnl::memory backward(Build build, const Gradient& dy, bool) override {
    return relu_backward(build, y_, dy);
  }

 private:
  dnnl::memory y_;
};

}  // namespace

std::unique_ptr<Operator> make_relu() { return std::make_unique<Relu>(); }

dnnl::primitive_attr forward_attributes(bool relu) {
  dnnl::primitive_attr attributes = Program::attributes();
  if (relu) {
    dnnl::post_ops operations;
    operations.append_eltwise(1.0f, algorithm::eltwise_relu, 0.0f, 0.0f);
    attributes.set_post_ops(operations);
  }
  return attributes;
}

dnnl::memory relu_backward(Build build, const dnnl::memory& y, const Gradient& dy) {
  const dnnl::memory::desc format = y.get_desc();
  const auto kind = algorithm::eltwise_relu_use_dst_for_bwd;
  const dnnl::eltwise_forward::primitive_desc hint(
      dnnl::eltwise_forward::desc(dnnl::prop_kind::forward_training, kind, format, 0.0f),
      Program::attributes(), build.engine);
  const dnnl::eltwise_backward::primitive_desc primitive(
      dnnl::eltwise_backward::desc(kind, format, format, 0.0f), Program::attributes(), build.engine, hint);
  const dnnl::memory in = build.program.reordered(dy.values, format);
  const bool must_copy = dy.is_shared && in.get() == dy.values.get();
  const dnnl::memory out = must_copy ? dnnl::memory(format, build.engine) : in;
  build.program.add<dnnl::eltwise_backward>(
      primitive, {{DNNL_ARG_DST, y}, {DNNL_ARG_DIFF_DST, in}, {DNNL_ARG_DIFF_SRC, out}});
  return out;
}

}  // namespace nanduti::onednn
