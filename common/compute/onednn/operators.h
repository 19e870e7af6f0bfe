#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <dnnl.hpp>

#include "common/compute/network.h"
#include "common/compute/onednn/program.h"

namespace nanduti::onednn {

/// Of a minibatch, for running ones: their gradient is momentum * (running - scale * values).
struct BatchStatistics {
  std::uint64_t offset = 0;  ///< of the running ones, in parameters
  dnnl::memory values;       ///< shape (channels), there after the forward
  float scale = 1;
  float momentum = 0;
};

/// Where an operator puts its primitives while a plan is built.
struct Build {
  dnnl::engine engine;
  dnnl::memory::dim batch = 0;
  bool training = true;  ///< else batch norm takes its running statistics
  Program& program;
  FlatViews& parameters;
  FlatViews& gradient;
  std::vector<BatchStatistics>& statistics;
};

struct Inputs {
  dnnl::memory x;
  dnnl::memory addend;  ///< add only
};

/// The loss's gradient with respect to some features.
struct Gradient {
  dnnl::memory values;
  bool is_shared = false;  ///< somebody else reads it: it must not be overwritten
};

/// One layer, or two that were fused. Formats between operators are oneDNN's choice.
class Operator {
 public:
  virtual ~Operator() = default;
  /// Appends what computes the output y, which it returns. Called once.
  virtual dnnl::memory forward(Build build, const Inputs& inputs) = 0;
  /// Appends what computes the gradients of the operator's tensors and, if `wants_dx`, the loss's gradient
  /// dx with respect to x, for an add to either input, which it returns. Called once, after a forward in
  /// training.
  virtual dnnl::memory backward(Build build, const Gradient& dy, bool wants_dx) = 0;
};

/// With a relu behind it if `relu`. The layers' values are copied.
std::unique_ptr<Operator> make_conv2d(const NetworkLayer& layer, bool relu);
std::unique_ptr<Operator> make_dense(const NetworkLayer& layer, bool relu);
std::unique_ptr<Operator> make_batch_norm(const NetworkLayer& layer, bool relu);
std::unique_ptr<Operator> make_add(bool relu);
std::unique_ptr<Operator> make_pool(const NetworkLayer& layer);
std::unique_ptr<Operator> make_relu();
/// Images into rows, (batch, features), in the order of (channels, height, width).
std::unique_ptr<Operator> make_flatten(const NetworkLayer& layer);

/// dims as int64: (batch, channels, height, width).
dnnl::memory::dims image_dims(dnnl::memory::dim batch, Extent extent);
dnnl::memory::desc float_desc(const dnnl::memory::dims& dims, dnnl::memory::format_tag tag);
/// The attributes of a forward primitive, with relu as its last step if asked for.
dnnl::primitive_attr forward_attributes(bool relu);
/// Appends y > 0 ? dy : 0, which it returns, in y's format; in place if dy has that and is not shared.
dnnl::memory relu_backward(Build build, const dnnl::memory& y, const Gradient& dy);
/// The same of a relu that was fused, if there was one; else dy.
inline dnnl::memory before_fused(bool relu, Build build, const dnnl::memory& y, const Gradient& dy) {
  return relu ? relu_backward(build, y, dy) : dy.values;
}

}  // namespace nanduti::onednn
