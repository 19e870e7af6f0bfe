#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {
namespace {

using dnnl::memory;
using dnnl::normalization_flags;

class BatchNorm final : public Operator {
  using Forward = dnnl::batch_normalization_forward;
  using Backward = dnnl::batch_normalization_backward;

 public:
  BatchNorm(const NetworkLayer& layer, bool relu) : layer_(layer), relu_(relu) {}

  memory forward(Build build, const Inputs& inputs) override {
    x_ = inputs.x;
    flags_ = normalization_flags::use_scale | normalization_flags::use_shift;
    if (relu_) flags_ |= normalization_flags::fuse_norm_relu;
    if (!build.training) flags_ |= normalization_flags::use_global_stats;
    const auto kind = build.training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    forward_ = Forward::primitive_desc({kind, x_.get_desc(), static_cast<float>(layer_.epsilon), flags_},
                                       Program::attributes(), build.engine);
    const memory y(forward_.dst_desc(), build.engine);
    Program::Arguments arguments{{DNNL_ARG_SRC, x_},
                                 {DNNL_ARG_DST, y},
                                 {DNNL_ARG_SCALE, build.parameters.at(layer_.weight_offset, channels())},
                                 {DNNL_ARG_SHIFT, build.parameters.at(layer_.bias_offset, channels())}};
    if (build.training) {
      take_batch_statistics(build);
    } else {
      take_running_statistics(build);
    }
    arguments.emplace_back(DNNL_ARG_MEAN, mean_);
    arguments.emplace_back(DNNL_ARG_VARIANCE, variance_);
    if (relu_ && build.training) {
      signs_ = memory(forward_.workspace_desc(), build.engine);
      arguments.emplace_back(DNNL_ARG_WORKSPACE, signs_);
    }
    build.program.add<Forward>(forward_, std::move(arguments));
    return y;
  }

  memory backward(Build build, const Gradient& dy, bool) override {
    const memory::desc format = x_.get_desc();
    const Backward::primitive_desc backward(
        {dnnl::prop_kind::backward, format, format, static_cast<float>(layer_.epsilon), flags_},
        Program::attributes(), build.engine, forward_);
    const memory dx(format, build.engine);
    Program::Arguments arguments{{DNNL_ARG_SRC, x_},
                                 {DNNL_ARG_MEAN, mean_},
                                 {DNNL_ARG_VARIANCE, variance_},
                                 {DNNL_ARG_SCALE, build.parameters.at(layer_.weight_offset, channels())},
                                 {DNNL_ARG_SHIFT, build.parameters.at(layer_.bias_offset, channels())},
                                 {DNNL_ARG_DIFF_DST, build.program.reordered(dy.values, format)},
                                 {DNNL_ARG_DIFF_SRC, dx},
                                 {DNNL_ARG_DIFF_SCALE, build.gradient.at(layer_.weight_offset, channels())},
                                 {DNNL_ARG_DIFF_SHIFT, build.gradient.at(layer_.bias_offset, channels())}};
    if (relu_) arguments.emplace_back(DNNL_ARG_WORKSPACE, signs_);
    build.program.add<Backward>(backward, std::move(arguments));
    return dx;
  }

 private:
  void take_batch_statistics(Build build) {
    mean_ = memory(channels(), build.engine);
    variance_ = memory(channels(), build.engine);
    const double count = static_cast<double>(build.batch) * layer_.input.height * layer_.input.width;
    const double unbiased = count > 1 ? count / (count - 1) : 1;
    const auto momentum = static_cast<float>(count > 1 ? layer_.momentum : 0);
    build.statistics.push_back({layer_.mean_offset, mean_, 1, momentum});
    build.statistics.push_back({layer_.variance_offset, variance_, static_cast<float>(unbiased), momentum});
  }

  void take_running_statistics(Build build) {
    mean_ = build.parameters.at(layer_.mean_offset, channels());
    const memory running = build.parameters.at(layer_.variance_offset, channels());
    // A mean of what was sent in few bits may lie a little below 0.
    variance_ = memory(channels(), build.engine);
    const dnnl::eltwise_forward::desc desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::eltwise_relu,
                                           channels(), 0.0f);
    const dnnl::eltwise_forward::primitive_desc at_least_zero(desc, Program::attributes(), build.engine);
    build.program.add<dnnl::eltwise_forward>(at_least_zero,
                                             {{DNNL_ARG_SRC, running}, {DNNL_ARG_DST, variance_}});
  }

  [[nodiscard]] memory::desc channels() const {
    return float_desc({layer_.input.channels}, memory::format_tag::x);
  }

  NetworkLayer layer_;
  bool relu_;
  normalization_flags flags_ = normalization_flags::none;
  Forward::primitive_desc forward_;
  memory x_, mean_, variance_;
  memory signs_;  // which outputs the relu let through
};

}  // namespace

std::unique_ptr<Operator> make_batch_norm(const NetworkLayer& layer, bool relu) {
  return std::make_unique<BatchNorm>(layer, relu);
}

}  // namespace nanduti::onednn
