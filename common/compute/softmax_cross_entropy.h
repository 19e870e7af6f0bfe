#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/compute/network.h"

namespace nanduti {

/// Loss of `scores`, shape (batch, classes) with batch = labels.size(), and unless `gradient` is empty the
/// gradient of the batch's mean loss, same shape. Sums in double; exponents relative to the best score, so
/// large scores do not overflow. Real: float or double.
template <class Real>
BatchLoss softmax_cross_entropy(std::span<const Real> scores, std::span<const std::uint8_t> labels,
                                std::span<Real> gradient) {
  const std::size_t batch = labels.size();
  const std::size_t classes = scores.size() / batch;
  BatchLoss result;
  for (std::size_t n = 0; n < batch; ++n) {
    const auto row = scores.subspan(n * classes, classes);
    const std::size_t best = static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
    const double top = static_cast<double>(row[best]);
    double sum = 0;
    for (const Real score : row) sum += std::exp(static_cast<double>(score) - top);
    result.loss_sum += std::log(sum) + top - static_cast<double>(row[labels[n]]);
    result.correct += best == labels[n] ? 1 : 0;
    if (gradient.empty()) continue;
    const double scale = 1.0 / static_cast<double>(batch);
    for (std::size_t c = 0; c < classes; ++c) {
      const double share = std::exp(static_cast<double>(row[c]) - top) / sum;
      gradient[n * classes + c] = static_cast<Real>((share - (c == labels[n] ? 1.0 : 0.0)) * scale);
    }
  }
  return result;
}

}  // namespace nanduti
