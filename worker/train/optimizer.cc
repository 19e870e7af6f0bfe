#include "worker/train/optimizer.h"

#include <algorithm>

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

}  // namespace

std::vector<ParameterRange> tensor_ranges(const ParameterSpace& space) {
  std::vector<ParameterRange> ranges;
  for (const TensorPlace& place : space.tensors())
    ranges.push_back({place.offset, place.offset + place.size()});
  std::sort(ranges.begin(), ranges.end(),
            [](const ParameterRange& a, const ParameterRange& b) { return a.begin < b.begin; });
  std::vector<ParameterRange> joined;
  for (const ParameterRange& range : ranges) {
    if (!joined.empty() && joined.back().end == range.begin) {
      joined.back().end = range.end;
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

Optimizer::Optimizer(const OptimizerSpec& spec, const ParameterSpace& space)
    : spec_(spec), ranges_(tensor_ranges(space)) {
  if (spec.type == OptimizerType::kMomentum) velocity_.assign(space.size(), 0.0f);
}

void Optimizer::step(double learning_rate, std::span<const float> gradient, std::span<float> x) {
  NANDUTI_CHECK(gradient.size() == x.size());
  const FlushDenormals flush;
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

void Optimizer::reset() { std::fill(velocity_.begin(), velocity_.end(), 0.0f); }

}  // namespace nanduti
