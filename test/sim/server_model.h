#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/model/training_spec.h"
#include "test/sim/checker_values.h"
#include "test/sim/problem.h"

namespace nanduti::sim {

/// What settled pushes make of one shard's parameters, written down anew: in float32 in the order of the
/// product's roundings, or in double.
template <class Real>
class ServerModel {
 public:
  ServerModel(const Plan& plan, std::uint64_t begin, std::uint64_t end)
      : spec_(server_optimizer_of(plan)), g_(end - begin), sum_(g_), velocity_(g_) {
    if (spec_.type != ServerOptimizerType::kAdagrad) return;
    for (const std::uint64_t row_end : rows_of(begin, end)) rows_.push_back({row_end, 0});
  }

  /// One of `workers` has pushed it.
  template <class Values>
  void apply(Values& w, std::size_t offset, const Update& update, std::uint32_t workers,
             std::uint16_t applied_parts, bool flush) {
    const Real part = Real(1) / static_cast<Real>(workers);
    const Real kept = static_cast<Real>(applied_parts) / static_cast<Real>(kAppliedWhole);
    const Real weight = rows_.empty() ? part * kept : part;
    std::fill(g_.begin(), g_.end(), Real(0));
    for (std::size_t k = 0; k < update.values.size(); ++k)
      g_[update.dense ? k : update.indices[k]] = weight * static_cast<Real>(update.values[k]);
    const Real rate = static_cast<Real>(static_cast<float>(spec_.learning_rate));
    const Real momentum = static_cast<Real>(static_cast<float>(spec_.momentum));
    std::uint64_t begin = 0;
    for (Row& row : rows_) {
      Real squares = 0;
      for (std::uint64_t i = begin; i < row.end; ++i) squares += g_[i] * g_[i];
      row.squares += squares / static_cast<Real>(row.end - begin);
      const Real root = std::sqrt(row.squares) + static_cast<Real>(static_cast<float>(spec_.epsilon));
      for (std::uint64_t i = begin; i < row.end; ++i) w[offset + i] -= kept * (rate * g_[i] / root);
      begin = row.end;
    }
    if (!rows_.empty()) return;
    for (std::size_t i = 0; i < g_.size(); ++i)
      w[offset + i] -= spec_.type == ServerOptimizerType::kAdd ? g_[i] : rate * g_[i];
    if (spec_.type == ServerOptimizerType::kAdd) return;
    for (std::size_t i = 0; i < g_.size(); ++i) sum_[i] += g_[i];
    if (!flush) round_ += 1.0 / workers;
    if (round_ < 0.999999) return;
    round_ = std::max(0.0, round_ - 1);
    for (std::size_t i = 0; i < g_.size(); ++i) {
      velocity_[i] = momentum * velocity_[i] + std::exchange(sum_[i], Real(0));
      w[offset + i] -= rate * (momentum * velocity_[i]);
    }
  }

 private:
  struct Row {
    std::uint64_t end = 0;
    Real squares = 0;
  };

  ServerOptimizerSpec spec_;
  std::vector<Real> g_, sum_, velocity_;
  double round_ = 0;
  std::vector<Row> rows_;
};

}  // namespace nanduti::sim
