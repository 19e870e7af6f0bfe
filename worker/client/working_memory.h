#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/codec/codec.h"
#include "common/tensor/parameter_range.h"

/// Where the numbers of a job lie in a worker: in the host's memory, or in a device's. Who makes protocol of
/// them (ShardReplica, Replica) never looks at one.
namespace nanduti {

/// What a worker's own work counts in its replica: all of it, though in w each of W workers' work counts 1/W.
/// The others are taken to have found the same. (DESIGN has rho = 1/W; scripts/experiment.sh merge says
/// otherwise.)
struct MergeWeights {
  float own_work = 1;  ///< pushes in flight, and progress that is not coded yet
  float rho = 1;       ///< the residual
};

/// What a round is computed from and what it gives, both of shape [parameters]. Used again and again.
struct RoundBuffers {
  // In the memory that made them: only what computes there may touch them.
  std::span<float> parameters;  ///< x
  std::span<float> progress;    ///< d = x before - x after; zeros in gaps between tensors
  std::shared_ptr<void> owner;
};

/// What has not been sent.
struct ResidualMeasure {
  double squares = 0;    ///< sum of squares; infinite or not a number, if a value is
  bool is_left = false;  ///< some value is finite and not 0
};

/// The numbers of one shard: the shadow, the residual, and own pushes in flight, which are counted from the
/// oldest one. Spans are of the same memory, shape [size of the shard]. One thread.
class WorkingShard {
 public:
  virtual ~WorkingShard() = default;

  /// shadow += what the payload says, in a coding as decode_update() takes. Errors: kCorrupt; nothing has
  /// changed then.
  virtual Status add_to_shadow(std::uint8_t coding, const SharedBytes& payload, const Codec& own) = 0;
  /// shadow[range] = the float32 values there, which stay until rebase(); the range counts from the shard's
  /// begin.
  virtual void assign(const ParameterRange& range, const std::byte* values) = 0;

  /// Error feedback as Codec::encode(). What was coded is in flight now, the newest.
  virtual SharedBytes push(std::span<const float> progress, const Codec& codec,
                           const CodingContext& context) = 0;
  /// The oldest in flight is part of the shadow now.
  virtual void settle_oldest() = 0;
  /// Of push k in flight the shard applies nothing: it returns to the residual.
  virtual void take_back(std::size_t k) = 0;
  /// The shard applies this part of every value of push k, which stays in flight; the rest returns: residual
  /// + value - part * value, rounded each time. Once for each push.
  virtual void take_back_rest(std::size_t k, float part) = 0;
  /// What push k occupies.
  [[nodiscard]] virtual std::size_t bytes_in_flight(std::size_t k) const = 0;
  /// Does, after changes and while nobody waits, what compute_parameters() would have to do.
  virtual void rebase() {}

  /// x = shadow - own_work * (in flight + pending) - rho * residual, summed in this order from the shadow on.
  /// `pending` may be empty: nothing. x is there when this returns.
  virtual void compute_parameters(std::span<float> x, std::span<const float> pending,
                                  MergeWeights weights) = 0;
  [[nodiscard]] virtual ResidualMeasure measure_residual() const = 0;
};

/// A job's memory. One thread, but that what it made for a round is another one's while that computes.
class WorkingMemory {
 public:
  virtual ~WorkingMemory() = default;

  /// `initial`: the shadow, in the host's memory; empty: zeros.
  virtual std::unique_ptr<WorkingShard> make_shard(const ParameterRange& range,
                                                   std::span<const float> initial) = 0;
  /// Both vectors are zeros.
  virtual std::shared_ptr<RoundBuffers> make_buffers(std::uint64_t parameters) = 0;
  /// sum += more, both in this memory.
  virtual void add(std::span<float> sum, std::span<const float> more) = 0;
  /// What went wrong first, if anything did: nothing that was asked for since then means anything.
  [[nodiscard]] virtual Status status() const = 0;
};

}  // namespace nanduti
