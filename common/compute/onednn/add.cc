#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {
namespace {

class Add final : public Operator {
 public:
  explicit Add(bool relu) : relu_(relu) {}

  dnnl::memory forward(Build build, const Inputs& inputs) override {
    const dnnl::memory::desc format = inputs.x.get_desc();
    const dnnl::binary::primitive_desc primitive(
        dnnl::binary::desc(dnnl::algorithm::binary_add, format, format, format), forward_attributes(relu_),
        build.engine);
    y_ = dnnl::memory(format, build.engine);
    build.program.add<dnnl::binary>(primitive,
                                    {{DNNL_ARG_SRC_0, inputs.x},
                                     {DNNL_ARG_SRC_1, build.program.reordered(inputs.addend, format)},
                                     {DNNL_ARG_DST, y_}});
    return y_;
  }

  dnnl::memory backward(Build build, const Gradient& dy, bool) override {
    return before_fused(relu_, build, y_, dy);
  }

 private:
  bool relu_;
  dnnl::memory y_;
};

}  // namespace

std::unique_ptr<Operator> make_add(bool relu) { return std::make_unique<Add>(relu); }

}  // namespace nanduti::onednn
