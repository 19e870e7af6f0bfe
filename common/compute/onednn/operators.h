#pragma once

#include <cstddef>
#include <memory>

#include <dnnl.hpp>

#include "common/compute/network.h"
#include "common/compute/onednn/program.h"

namespace nanduti::onednn {

/// Where an operator puts its primitives while a plan is built.
struct Build {
  dnnl::engine engine;
  dnnl::memory::dim batch = 0;
  Program& program;
  FlatViews& parameters;
  FlatViews& gradient;
};

/// One layer, or two that were fused. Formats between operators are oneDNN's choice; a flatten is no
/// operator, as features keep their shape until a dense layer takes them.
class Operator {
 public:
  virtual ~Operator() = default;
  /// Appends what computes the output y, which it returns, from x. Called once.
  virtual dnnl::memory forward(Build build, const dnnl::memory& x) = 0;
  /// Appends what computes the gradients of the operator's tensors and, if `wants_dx`, the loss's gradient
  /// dx, which it returns, from dy. dy may be overwritten: nobody else reads it. Called once, after forward.
  virtual dnnl::memory backward(Build build, const dnnl::memory& dy, bool wants_dx) = 0;
};

/// With a relu behind it if `relu`. The layers' values are copied.
std::unique_ptr<Operator> make_conv2d(const NetworkLayer& layer, bool relu);
std::unique_ptr<Operator> make_dense(const NetworkLayer& layer, bool relu);
std::unique_ptr<Operator> make_pool(const NetworkLayer& layer);
std::unique_ptr<Operator> make_relu();

/// dims as int64: (batch, channels, height, width).
dnnl::memory::dims image_dims(dnnl::memory::dim batch, Extent extent);
dnnl::memory::desc float_desc(const dnnl::memory::dims& dims, dnnl::memory::format_tag tag);
/// The attributes of a forward primitive, with relu as its last step if asked for.
dnnl::primitive_attr forward_attributes(bool relu);
/// Appends dy := y > 0 ? dy : 0, in place if dy has y's format. Returns the new dy, in y's format.
dnnl::memory relu_backward(Build build, const dnnl::memory& y, const dnnl::memory& dy);

}  // namespace nanduti::onednn
