#include "common/base/check.h"
#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {
namespace {

class Pool final : public Operator {
  using Forward = dnnl::pooling_forward;
  using Backward = dnnl::pooling_backward;

 public:
  explicit Pool(const NetworkLayer& layer)
      : layer_(layer),
        algorithm_(layer.kind == LayerKind::kMaxPool ? dnnl::algorithm::pooling_max
                                                     : dnnl::algorithm::pooling_avg_exclude_padding) {}

  dnnl::memory forward(Build build, const Inputs& inputs) override {
    const dnnl::memory& x = inputs.x;
    x_desc_ = x.get_desc();
    NANDUTI_CHECK(x_desc_.dims() == image_dims(build.batch, layer_.input));
    const auto any = float_desc(image_dims(build.batch, layer_.output), dnnl::memory::format_tag::any);
    const Forward::desc desc(dnnl::prop_kind::forward_training, algorithm_, x_desc_, any, strides(), window(),
                             {0, 0}, {0, 0});
    forward_ = Forward::primitive_desc(desc, Program::attributes(), build.engine);
    const dnnl::memory y(forward_.dst_desc(), build.engine);
    Program::Arguments arguments{{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}};
    if (algorithm_ == dnnl::algorithm::pooling_max) {
      best_ = dnnl::memory(forward_.workspace_desc(), build.engine);
      arguments.emplace_back(DNNL_ARG_WORKSPACE, best_);
    }
    build.program.add<Forward>(forward_, std::move(arguments));
    return y;
  }

  dnnl::memory backward(Build build, const Gradient& dy, bool wants_dx) override {
    if (!wants_dx) return {};
    // In the forward's formats: any others fall back to plain loops.
    const Backward::desc desc(algorithm_, x_desc_, forward_.dst_desc(), strides(), window(), {0, 0}, {0, 0});
    const Backward::primitive_desc backward(desc, Program::attributes(), build.engine, forward_);
    const dnnl::memory dx(backward.diff_src_desc(), build.engine);
    Program::Arguments arguments{{DNNL_ARG_DIFF_DST, build.program.reordered(dy.values, forward_.dst_desc())},
                                 {DNNL_ARG_DIFF_SRC, dx}};
    if (algorithm_ == dnnl::algorithm::pooling_max) arguments.emplace_back(DNNL_ARG_WORKSPACE, best_);
    build.program.add<Backward>(backward, std::move(arguments));
    return dx;
  }

 private:
  [[nodiscard]] bool is_global() const { return layer_.kind == LayerKind::kGlobalAveragePool; }
  [[nodiscard]] dnnl::memory::dims strides() const {
    return is_global() ? window() : dnnl::memory::dims{layer_.stride, layer_.stride};
  }
  [[nodiscard]] dnnl::memory::dims window() const {
    if (is_global()) return {layer_.input.height, layer_.input.width};
    return {layer_.kernel, layer_.kernel};
  }

  NetworkLayer layer_;
  dnnl::algorithm algorithm_;
  dnnl::memory::desc x_desc_;
  Forward::primitive_desc forward_;
  dnnl::memory best_;  // which pixel won, per window; max pool only
};

}  // namespace

std::unique_ptr<Operator> make_pool(const NetworkLayer& layer) { return std::make_unique<Pool>(layer); }

}  // namespace nanduti::onednn
