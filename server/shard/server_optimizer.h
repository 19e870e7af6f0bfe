#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/archive.h"
#include "common/codec/codec.h"
#include "common/model/training_spec.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

/// How much of a push counts.
struct PushShare {
  float weight = 1;  ///< of its values: its workers' part of all that are active
  float kept = 1;    ///< what its age leaves of it
  double round = 0;  ///< its part of a round of everybody; 0 for a flush, which is no round
};

/// How a shard takes a settled push into its parameters, g = weight * kept * push. Buffers, which are
/// averaged, are always w -= g; of the rest
/// - kAdd: w -= rate g.
/// - kNesterov, delayed as in Liu et al., "Asynchronous Local-SGD Training for Language Modeling" (2024),
///   algorithm 3 with c = 0: w -= rate g, and once every round of everybody v = momentum v + (the g of that
///   round), w -= rate momentum v.
/// - kAdagrad, row-wise as for embeddings (one accumulator a row, as in FBGEMM): s_row += the row's mean of
/// g^2,
///   w -= rate g / (sqrt(s_row) + epsilon), with each push for a gradient. Squares are of the whole
///   push, so that an old one moves w less.
/// One thread.
class ServerOptimizer {
 public:
  ServerOptimizer() = default;  ///< kAdd, no buffers
  /// `buffers_begin`: shard_buffers_begin(). `row_ends`: shard_rows(); kAdagrad only.
  ServerOptimizer(const ServerOptimizerSpec& spec, std::uint64_t size, std::uint64_t buffers_begin,
                  std::vector<std::uint64_t> row_ends);

  /// `w` has shape [size], as the update.
  void apply(std::span<float> w, const Update& update, PushShare share);
  /// Whether apply() changes parameters that the update does not name.
  [[nodiscard]] bool touches_everything(PushShare share) const;

  /// What it has of shape [size], for snapshots; the rest of its state is in the archive.
  [[nodiscard]] std::vector<std::span<float>> slots();
  template <class Archive>
  void archive(Archive& a) {
    a(round_, squares_);
  }
  /// What was read from an archive is of this optimizer's shape.
  [[nodiscard]] bool fits() const { return squares_.size() == row_ends_.size(); }

 private:
  void train(std::span<float> w, const Update& update, PushShare share);
  void apply_nesterov(std::span<float> w, const Update& update, PushShare share);
  void apply_adagrad(std::span<float> w, const Update& update, PushShare share);

  ServerOptimizerSpec spec_;
  std::uint64_t buffers_begin_ = ~std::uint64_t{0};
  std::vector<float> sum_;       // kNesterov: the g of the round that is going on, shape [size]
  std::vector<float> velocity_;  // kNesterov, shape [size]
  double round_ = 0;             // kNesterov: how much of that round there is
  std::vector<std::uint64_t> row_ends_;
  std::vector<float> squares_;  // kAdagrad, shape [rows]
};

/// Where in a shard the buffers begin; its size if it has none.
std::uint64_t shard_buffers_begin(const ParameterSpace& space, const ParameterRange& shard);

/// Where the rows of a shard end, ascending, from its begin on: of a tensor those of its first dimension, and
/// the gaps between tensors. A row that shards share is a row in each of them.
std::vector<std::uint64_t> shard_rows(const ParameterSpace& space, const ParameterRange& shard);

}  // namespace nanduti
