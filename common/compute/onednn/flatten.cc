#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {
namespace {

using dnnl::memory;

/// A plain image is a row for each sample: only the name of its shape changes.
class Flatten final : public Operator {
 public:
  explicit Flatten(const NetworkLayer& layer) : layer_(layer) {}

  memory forward(Build build, const Inputs& inputs) override {
    x_dims_ = inputs.x.get_desc().dims();
    return viewed(build, build.program.reordered(inputs.x, images()), rows(build));
  }

  memory backward(Build build, const Gradient& dy, bool) override {
    return viewed(build, build.program.reordered(dy.values, rows(build)), images());
  }

 private:
  static memory viewed(const Build& build, const memory& values, const memory::desc& as) {
    return memory(as, build.engine, values.get_data_handle());
  }
  [[nodiscard]] memory::desc rows(const Build& build) const {
    return float_desc({build.batch, static_cast<memory::dim>(layer_.input.size())}, memory::format_tag::nc);
  }
  /// Of what comes, which may be rows already.
  [[nodiscard]] memory::desc images() const {
    return float_desc(x_dims_, x_dims_.size() == 4 ? memory::format_tag::nchw : memory::format_tag::nc);
  }

  NetworkLayer layer_;
  memory::dims x_dims_;
};

}  // namespace

std::unique_ptr<Operator> make_flatten(const NetworkLayer& layer) { return std::make_unique<Flatten>(layer); }

}  // namespace nanduti::onednn
