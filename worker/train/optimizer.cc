#include "worker/train/optimizer.h"

#include <algorithm>
#include <cmath>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "common/base/check.h"

namespace nanduti {
namespace {

/// While it lives, this thread takes and makes zeros for denormal numbers. The velocity of a weight whose
/// gradient has become zero (behind a dead relu) would fade into them and stay there, and each costs some
/// processors over a hundred cycles.
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }  // FTZ and DAZ
  ~FlushDenormals() { _mm_setcsr(before_); }
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__SSE2__)
  unsigned before_;
#endif
};

/// The three factors of a step.
struct Factors {
  float learning_rate;
  float momentum;
  float weight_decay;
};

// One pass over memory each: a LeNet's step moves 10 MB, and the compiler makes vectors of it.

void momentum_step(Factors f, std::size_t count, const float* __restrict gradient, float* __restrict velocity,
                   float* __restrict x) {
  for (std::size_t i = 0; i < count; ++i) {
    velocity[i] = f.momentum * velocity[i] + (gradient[i] + f.weight_decay * x[i]);
    x[i] -= f.learning_rate * velocity[i];
  }
}

void plain_step(Factors f, std::size_t count, const float* __restrict gradient, float* __restrict x) {
  for (std::size_t i = 0; i < count; ++i) {
    x[i] -= f.learning_rate * (gradient[i] + f.weight_decay * x[i]);
  }
}

struct AdamWFactors {
  float learning_rate;  // of the mean, corrected
  float root;           // of the square's root: its correction
  float beta1;
  float beta2;
  float epsilon;
  float keep;  // of x: what weight decay leaves
};

void move_by_means(AdamWFactors f, std::size_t count, const float* __restrict gradient,
                   float* __restrict mean, float* __restrict square, float* __restrict x) {
  for (std::size_t i = 0; i < count; ++i) {
    mean[i] = f.beta1 * mean[i] + (1 - f.beta1) * gradient[i];
    square[i] = f.beta2 * square[i] + (1 - f.beta2) * (gradient[i] * gradient[i]);
    x[i] = f.keep * x[i] - f.learning_rate * mean[i] / (std::sqrt(square[i]) * f.root + f.epsilon);
  }
}

}  // namespace

std::vector<ParameterRange> tensor_ranges(const ParameterSpace& space) {
  std::vector<ParameterRange> ranges;
  for (const TensorPlace& place : space.tensors())
    ranges.push_back({place.offset, place.offset + place.size()});
  std::sort(ranges.begin(), ranges.end(),
            [](const ParameterRange& a, const ParameterRange& b) { return a.begin < b.begin; });
  std::vector<ParameterRange> joined;
  for (const ParameterRange& range : ranges) {
    if (!joined.empty() && joined.back().end == range.begin && range.begin != space.buffers_begin()) {
      joined.back().end = range.end;
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

Optimizer::Optimizer(const OptimizerSpec& spec, const ParameterSpace& space) : spec_(spec) {
  for (const ParameterRange& range : tensor_ranges(space))
    (range.begin < space.buffers_begin() ? ranges_ : buffers_).push_back(range);
  if (spec.type != OptimizerType::kSgd) velocity_.assign(space.size(), 0.0f);
  if (spec.type == OptimizerType::kAdamW) square_.assign(space.size(), 0.0f);
}

void Optimizer::step(double learning_rate, std::span<const float> gradient, std::span<float> x) {
  NANDUTI_CHECK(gradient.size() == x.size());
  const FlushDenormals flush;
  if (spec_.type == OptimizerType::kAdamW) {
    adamw_step(learning_rate, gradient, x);
  } else {
    sgd_step(learning_rate, gradient, x);
  }
  for (const ParameterRange& range : buffers_) {
    NANDUTI_CHECK(range.end <= x.size());
    for (std::uint64_t i = range.begin; i < range.end; ++i) x[i] -= gradient[i];
  }
}

void Optimizer::sgd_step(double learning_rate, std::span<const float> gradient, std::span<float> x) {
  const Factors factors{static_cast<float>(learning_rate), static_cast<float>(spec_.momentum),
                        static_cast<float>(spec_.weight_decay)};
  for (const ParameterRange& range : ranges_) {
    NANDUTI_CHECK(range.end <= x.size());
    const float* g = gradient.data() + range.begin;
    float* values = x.data() + range.begin;
    if (velocity_.empty()) {
      plain_step(factors, range.size(), g, values);
    } else {
      momentum_step(factors, range.size(), g, velocity_.data() + range.begin, values);
    }
  }
}

void Optimizer::adamw_step(double learning_rate, std::span<const float> gradient, std::span<float> x) {
  ++steps_;
  const auto corrected = [&](double beta) { return 1 - std::pow(beta, static_cast<double>(steps_)); };
  const AdamWFactors factors{static_cast<float>(learning_rate / corrected(spec_.beta1)),
                             static_cast<float>(1 / std::sqrt(corrected(spec_.beta2))),
                             static_cast<float>(spec_.beta1),
                             static_cast<float>(spec_.beta2),
                             static_cast<float>(spec_.epsilon),
                             static_cast<float>(1 - learning_rate * spec_.weight_decay)};
  for (const ParameterRange& range : ranges_) {
    NANDUTI_CHECK(range.end <= x.size());
    move_by_means(factors, range.size(), gradient.data() + range.begin, velocity_.data() + range.begin,
                  square_.data() + range.begin, x.data() + range.begin);
  }
}

void Optimizer::on_merge() {
  if (spec_.kept_at_merge == 1) return;
  const auto kept = static_cast<float>(spec_.kept_at_merge);
  for (float& value : velocity_) value *= kept;
}

void Optimizer::reset() {
  std::fill(velocity_.begin(), velocity_.end(), 0.0f);
  std::fill(square_.begin(), square_.end(), 0.0f);
  steps_ = 0;
}

}  // namespace nanduti
