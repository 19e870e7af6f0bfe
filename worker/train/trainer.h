#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "common/model/resolved_model.h"
#include "common/model/training_spec.h"
#include "worker/train/augmentation.h"
#include "worker/train/job_data.h"
#include "worker/train/learner.h"

namespace nanduti {

/// Test samples in one evaluation batch.
inline constexpr std::uint64_t kEvaluationBatch = 256;

/// Positions [begin, end) of an epoch's shuffled order.
struct RoundSamples {
  std::uint32_t epoch = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// A worker's part of a job: which minibatches its learner sees, and at what rate, from the parameters it is
/// given; nothing of the protocol. The same calls give the same bits on the same machine. One thread at a
/// time; steps allocate nothing once their batch size was seen.
class Trainer {
 public:
  /// kInvalidArgument if the model does not take the data's images or has fewer scores than the data has
  /// classes, or training asks for what they do not allow.
  static Status fits(const ResolvedModel& model, const TrainingSpec& training, const JobData& data);
  /// What fits() says. `learner`: of the model and training.optimizer.
  static Result<std::unique_ptr<Trainer>> create(std::unique_ptr<Learner> learner, const ResolvedModel& model,
                                                 const TrainingSpec& training,
                                                 std::shared_ptr<const JobData> data);

  /// Trains from `x` with minibatches of batch_size, the last of which may be smaller. Writes
  /// progress = x before - x after, shape [space.size()] like x, to every tensor's place; gaps are not
  /// touched. Both lie where the learner computes. Returns the sums over the samples, each seen before its
  /// own step. The optimiser's velocity goes on from the round before. A loss that is no number is found at
  /// the round's end.
  /// Errors: kCancelled if a stop was requested (looked at between minibatches), kInvalidArgument for samples
  /// that do not exist or when the loss or the parameters are no longer numbers, or the device's. After an
  /// error progress means nothing, and the velocity holds the steps that were made.
  Result<BatchLoss> train_round(std::span<const float> x, const RoundSamples& samples,
                                std::span<float> progress, std::stop_token stop);

  /// Loss and correct answers of `x`, in the host's memory, over the test samples [begin, end), in the
  /// file's order. Errors as above.
  Result<BatchLoss> evaluate(std::span<const float> x, std::uint64_t begin, std::uint64_t end,
                             std::stop_token stop);

  /// Others' work has been merged into what the next round trains from.
  Status on_merge() { return learner_->on_merge(); }
  /// Forgets the optimiser's velocity.
  Status reset_optimizer() { return learner_->reset(); }

 private:
  Trainer(std::unique_ptr<Learner> learner, const ResolvedModel& model, const TrainingSpec& training,
          std::shared_ptr<const JobData> data);

  Status step(const RoundSamples& batch);
  Status feed(const ImageSet& set, std::span<const std::uint32_t> indices,
              std::optional<std::uint32_t> epoch_to_augment);
  void write_plain(std::span<const std::byte> pixels, float* out) const;
  void choose_order(std::uint32_t epoch);

  std::unique_ptr<Learner> learner_;
  TrainingSpec training_;
  std::shared_ptr<const JobData> data_;
  std::optional<Augmentation> augmentation_;
  std::uint64_t parameters_;
  std::vector<std::uint8_t> labels_;  // of the minibatch
  std::vector<std::uint32_t> order_;  // of order_epoch_
  std::vector<std::uint32_t> test_indices_;
  std::optional<std::uint32_t> order_epoch_;
};

}  // namespace nanduti
