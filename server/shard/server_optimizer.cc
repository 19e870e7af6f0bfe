#include "server/shard/server_optimizer.h"

#include <algorithm>
#include <cmath>

#include "common/base/check.h"

namespace nanduti {

namespace {

/// Parts of a round that add up to a whole one but for roundings.
constexpr double kWholeRound = 1 - 1e-6;

}  // namespace

ServerOptimizer::ServerOptimizer(const ServerOptimizerSpec& spec, std::uint64_t size,
                                 std::uint64_t buffers_begin, std::vector<std::uint64_t> row_ends)
    : spec_(spec), buffers_begin_(buffers_begin) {
  if (spec.type == ServerOptimizerType::kNesterov) {
    sum_.resize(size);
    velocity_.resize(size);
  }
  if (spec.type == ServerOptimizerType::kAdagrad) {
    NANDUTI_CHECK(size == 0 || (!row_ends.empty() && row_ends.back() == size));
    row_ends_ = std::move(row_ends);
    squares_.resize(row_ends_.size());
  }
}

void ServerOptimizer::apply(std::span<float> w, const Update& update, PushShare share) {
  NANDUTI_CHECK(w.size() == update.size);
  const std::uint64_t trained = std::min<std::uint64_t>(buffers_begin_, w.size());
  const auto& indices = update.indices;
  const auto values = static_cast<std::size_t>(
      update.dense ? trained
                   : static_cast<std::uint64_t>(std::lower_bound(indices.begin(), indices.end(), trained) -
                                                indices.begin()));
  train(w.first(trained),
        {trained,
         update.dense,
         update.dense ? indices : indices.first(values),
         update.values.first(values),
         {}},
        share);
  for (std::size_t k = values; k < update.values.size(); ++k)
    w[update.dense ? k : indices[k]] -= share.weight * share.kept * update.values[k];
}

bool ServerOptimizer::touches_everything(PushShare share) const {
  return spec_.type == ServerOptimizerType::kNesterov && round_ + share.round >= kWholeRound;
}

std::vector<std::span<float>> ServerOptimizer::slots() {
  if (spec_.type != ServerOptimizerType::kNesterov) return {};
  return {sum_, velocity_};
}

void ServerOptimizer::train(std::span<float> w, const Update& update, PushShare share) {
  switch (spec_.type) {
    case ServerOptimizerType::kAdd:
      return add(w, update, -(static_cast<float>(spec_.learning_rate) * (share.weight * share.kept)));
    case ServerOptimizerType::kNesterov:
      return apply_nesterov(w, update, share);
    case ServerOptimizerType::kAdagrad:
      return apply_adagrad(w, update, share);
  }
}

void ServerOptimizer::apply_nesterov(std::span<float> w, const Update& update, PushShare share) {
  const auto rate = static_cast<float>(spec_.learning_rate);
  for (std::size_t k = 0; k < update.values.size(); ++k) {
    const std::size_t i = update.dense ? k : update.indices[k];
    const float g = share.weight * share.kept * update.values[k];
    sum_[i] += g;
    w[i] -= rate * g;
  }
  round_ += share.round;
  if (round_ < kWholeRound) return;
  round_ = std::max(round_ - 1, 0.0);
  const auto momentum = static_cast<float>(spec_.momentum);
  for (std::size_t i = 0; i < w.size(); ++i) {
    velocity_[i] = momentum * velocity_[i] + sum_[i];
    sum_[i] = 0;
    w[i] -= rate * (momentum * velocity_[i]);
  }
}

void ServerOptimizer::apply_adagrad(std::span<float> w, const Update& update, PushShare share) {
  const auto rate = static_cast<float>(spec_.learning_rate);
  const auto epsilon = static_cast<float>(spec_.epsilon);
  const auto index = [&](std::size_t k) -> std::size_t { return update.dense ? k : update.indices[k]; };
  std::size_t row = 0;
  for (std::size_t k = 0; k < update.values.size();) {
    row = static_cast<std::size_t>(
        std::upper_bound(row_ends_.begin() + static_cast<std::ptrdiff_t>(row), row_ends_.end(), index(k)) -
        row_ends_.begin());
    std::size_t end = k;
    float squares = 0;
    for (; end < update.values.size() && index(end) < row_ends_[row]; ++end) {
      const float g = share.weight * update.values[end];
      squares += g * g;
    }
    const std::uint64_t row_size = row_ends_[row] - (row == 0 ? 0 : row_ends_[row - 1]);
    squares_[row] += squares / static_cast<float>(row_size);
    // A row that has never moved stays where it is, also with an epsilon that rounds to nothing.
    const float root = std::sqrt(squares_[row]) + epsilon;
    for (; k < end; ++k)
      if (root > 0) w[index(k)] -= share.kept * (rate * (share.weight * update.values[k]) / root);
  }
}

std::uint64_t shard_buffers_begin(const ParameterSpace& space, const ParameterRange& shard) {
  return std::clamp(space.buffers_begin(), shard.begin, shard.end) - shard.begin;
}

std::vector<std::uint64_t> shard_rows(const ParameterSpace& space, const ParameterRange& shard) {
  std::vector<TensorPlace> tensors = space.tensors();
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorPlace& a, const TensorPlace& b) { return a.offset < b.offset; });
  std::vector<std::uint64_t> ends;
  const auto end_row = [&](std::uint64_t end) {
    end = std::min(end, shard.end);
    if (end > shard.begin && (ends.empty() || end - shard.begin > ends.back()))
      ends.push_back(end - shard.begin);
  };
  for (const TensorPlace& tensor : tensors) {
    end_row(tensor.offset);  // of the gap before it
    const std::uint64_t rows = tensor.shape.empty() ? 1 : tensor.shape.front();
    for (std::uint64_t row = 1; row <= rows; ++row) end_row(tensor.offset + tensor.size() / rows * row);
  }
  end_row(shard.end);
  return ends;
}

}  // namespace nanduti
