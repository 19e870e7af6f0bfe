#pragma once

#include <cstddef>
#include <span>

#include "common/compute/network.h"

/// One layer at a time, written from its definition. `batch` samples; x: (batch, input), y: (batch, output);
/// dx and dy are the gradients of the loss with respect to them.
namespace nanduti::reference {

/// Shape of a minibatch of features, row-major (batch, channels, height, width).
using Values = std::span<double>;
using ConstValues = std::span<const double>;

void layer_forward(const NetworkLayer& layer, std::size_t batch, std::span<const float> parameters,
                   ConstValues x, Values y);

/// Writes dx, and adds the weight and bias gradients to their places in `gradient` (parameter space).
void layer_backward(const NetworkLayer& layer, std::size_t batch, std::span<const float> parameters,
                    ConstValues x, ConstValues dy, Values dx, std::span<double> gradient);

}  // namespace nanduti::reference
