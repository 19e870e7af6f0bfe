#pragma once

#include <cstddef>
#include <span>

#include "common/compute/network.h"

/// One layer at a time, written from its definition. `batch` samples; x: (batch, input), y: (batch, output);
/// dx and dy are the gradients of the loss with respect to them. kAdd has two inputs and is left to the
/// caller.
namespace nanduti::reference {

/// Shape of a minibatch of features, row-major (batch, channels, height, width).
using Values = std::span<double>;
using ConstValues = std::span<const double>;

/// kTraining: batch norm by the batch's statistics; kInference: by the running ones.
enum class Mode { kTraining, kInference };

void layer_forward(const NetworkLayer& layer, Mode mode, std::size_t batch, std::span<const float> parameters,
                   ConstValues x, Values y);

/// After a forward in training. Adds to dx, and to the places of the layer's tensors in `gradient` (parameter
/// space); for running statistics as Network::gradient says.
void layer_backward(const NetworkLayer& layer, std::size_t batch, std::span<const float> parameters,
                    ConstValues x, ConstValues dy, Values dx, std::span<double> gradient);

}  // namespace nanduti::reference
