#pragma once

#include <cmath>

#include "cuda/compute/kernels.h"
#include "cuda/runtime/kernel_language.cuh"

namespace nanduti::device {

inline constexpr unsigned kLossThreads = 256;

/// kLossThreads, one block: threads take samples in turns. Sums go up a fixed tree: the same bits every time.
__global__ void softmax_cross_entropy_of_batch(LossArguments arguments) {
  NANDUTI_SHARED(double, losses, kLossThreads);
  NANDUTI_SHARED(unsigned, corrects, kLossThreads);
  const unsigned thread = threadIdx.x;
  const unsigned classes = arguments.classes;
  double loss = 0;
  unsigned correct = 0;
  for (unsigned n = thread; n < arguments.batch; n += kLossThreads) {
    const std::uint64_t row = static_cast<std::uint64_t>(n) * classes;
    const unsigned label = load(&arguments.labels[n]);
    float top = load(&arguments.scores[row]);
    unsigned best = 0;
    for (unsigned c = 1; c < classes; ++c) {
      const float score = load(&arguments.scores[row + c]);
      if (score > top) {
        top = score;
        best = c;
      }
    }
    const auto over_top = [&](unsigned c) {
      return static_cast<double>(load(&arguments.scores[row + c])) - static_cast<double>(top);
    };
    double sum = 0;
    for (unsigned c = 0; c < classes; ++c) sum += exp(over_top(c));
    loss += log(sum) - over_top(label);
    if (best == label) ++correct;
    if (arguments.gradient == nullptr) continue;
    const double scale = 1.0 / static_cast<double>(arguments.batch);
    for (unsigned c = 0; c < classes; ++c) {
      const double share = exp(over_top(c)) / sum;
      store(&arguments.gradient[row + c], static_cast<float>((share - (c == label ? 1.0 : 0.0)) * scale));
    }
  }
  losses[thread] = loss;
  corrects[thread] = correct;
  __syncthreads();
  for (unsigned step = kLossThreads / 2; step > 0; step /= 2) {
    if (thread < step) {
      losses[thread] += losses[thread + step];
      corrects[thread] += corrects[thread + step];
    }
    __syncthreads();
  }
  if (thread > 0) return;
  LossSums* const sums = arguments.sums;
  store(&sums->loss, load(&sums->loss) + losses[0]);
  store(&sums->correct, load(&sums->correct) + corrects[0]);
}

}  // namespace nanduti::device
