#include "worker/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "worker/train/learning_rate.h"
#include "worker/train/sample_order.h"

namespace nanduti {
namespace {

Error stopped() { return make_error(ErrorCode::kCancelled, "stopped between two minibatches"); }

}  // namespace

Status Trainer::fits(const ResolvedModel& model, const TrainingSpec& training, const JobData& data) {
  const DataShape& takes = model.data;
  const DataShape& has = data.shape;
  if (takes.channels != has.channels || takes.height != has.height || takes.width != has.width) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the model takes images of {} x {} x {}, but the data's are {} x {} x {}",
                      takes.channels, takes.height, takes.width, has.channels, has.height, has.width);
  }
  const std::uint64_t scores = model.layers.back().output.size();
  if (scores < has.classes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the model's last layer gives {} scores, but the training set has classes 0 to {}",
                      scores, has.classes - 1);
  }
  const std::uint32_t crop = training.augment.crop;
  if (crop >= takes.height || crop >= takes.width) {
    return make_error(ErrorCode::kInvalidArgument,
                      "training.augment.crop is {} pixels: it must be less than the images' sides, {} x {}",
                      crop, takes.height, takes.width);
  }
  for (const ResolvedLayer& layer : model.layers) {
    const bool has_one_value = training.batch_size == 1 && layer.input.height * layer.input.width == 1;
    if (has_one_value && std::holds_alternative<BatchNormSpec>(layer.spec)) {
      return make_error(
          ErrorCode::kInvalidArgument,
          "training.batch_size is 1: batch_norm of flat features has nothing to take a variance of");
    }
  }
  if (training.batch_size == 0) return make_error(ErrorCode::kInvalidArgument, "the batch size is 0");
  return {};
}

Result<std::unique_ptr<Trainer>> Trainer::create(std::unique_ptr<Learner> learner, const ResolvedModel& model,
                                                 const TrainingSpec& training,
                                                 std::shared_ptr<const JobData> data) {
  NANDUTI_CHECK(learner != nullptr && data != nullptr);
  NANDUTI_RETURN_IF_ERROR(fits(model, training, *data));
  return std::unique_ptr<Trainer>(new Trainer(std::move(learner), model, training, std::move(data)));
}

Trainer::Trainer(std::unique_ptr<Learner> learner, const ResolvedModel& model, const TrainingSpec& training,
                 std::shared_ptr<const JobData> data)
    : learner_(std::move(learner)),
      training_(training),
      data_(std::move(data)),
      parameters_(model.space.size()) {
  if (training.augment.crop > 0 || training.augment.flip)
    augmentation_.emplace(training.augment, training.seed, model.data);
  labels_.reserve(std::max<std::uint64_t>(training.batch_size, kEvaluationBatch));
  test_indices_.reserve(kEvaluationBatch);
}

Result<BatchLoss> Trainer::train_round(std::span<const float> x, const RoundSamples& samples,
                                       std::span<float> progress, std::stop_token stop) {
  NANDUTI_CHECK(x.size() == parameters_ && progress.size() == parameters_);
  if (samples.begin > samples.end || samples.end > data_->train.count) {
    return make_error(ErrorCode::kInvalidArgument, "samples {} to {} of a training set of {}", samples.begin,
                      samples.end, data_->train.count);
  }
  choose_order(samples.epoch);
  NANDUTI_RETURN_IF_ERROR(learner_->begin_round(x));
  for (std::uint64_t begin = samples.begin; begin < samples.end; begin += training_.batch_size) {
    if (stop.stop_requested()) return stopped();
    const std::uint64_t end = std::min(samples.end, begin + training_.batch_size);
    NANDUTI_RETURN_IF_ERROR(step({samples.epoch, begin, end}));
  }
  const Result<Learner::Round> round = learner_->finish_round(progress);
  if (!round.ok()) return round.error();
  if (!std::isfinite(round->sum.loss_sum)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the loss is not a number in epoch {}, samples {} to {}: lower the learning rate",
                      samples.epoch, samples.begin, samples.end);
  }
  if (!round->is_finite) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the parameters are not numbers after sample {} of epoch {}: lower the learning rate",
                      samples.end, samples.epoch);
  }
  return round->sum;
}

Status Trainer::step(const RoundSamples& batch) {
  NANDUTI_RETURN_IF_ERROR(
      feed(data_->train, std::span(order_).subspan(batch.begin, batch.end - batch.begin), batch.epoch));
  const double part = static_cast<double>(batch.begin) / static_cast<double>(data_->train.count);
  return learner_->step(labels_, learning_rate(training_, batch.epoch + part));
}

Result<BatchLoss> Trainer::evaluate(std::span<const float> x, std::uint64_t begin, std::uint64_t end,
                                    std::stop_token stop) {
  NANDUTI_CHECK(x.size() == parameters_);
  if (!data_->test) return make_error(ErrorCode::kInvalidArgument, "the job has no test data");
  if (begin > end || end > data_->test->count) {
    return make_error(ErrorCode::kInvalidArgument, "samples {} to {} of a test set of {}", begin, end,
                      data_->test->count);
  }
  NANDUTI_RETURN_IF_ERROR(learner_->begin_evaluation(x));
  for (std::uint64_t at = begin; at < end; at += test_indices_.size()) {
    if (stop.stop_requested()) return stopped();
    test_indices_.resize(std::min(end - at, kEvaluationBatch));
    std::iota(test_indices_.begin(), test_indices_.end(), static_cast<std::uint32_t>(at));
    NANDUTI_RETURN_IF_ERROR(feed(*data_->test, test_indices_, std::nullopt));
    NANDUTI_RETURN_IF_ERROR(learner_->evaluate(labels_));
  }
  const Result<BatchLoss> sum = learner_->finish_evaluation();
  if (sum.ok() && !std::isfinite(sum->loss_sum)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the loss is not a number on the test samples {} to {}: lower the learning rate", begin,
                      end);
  }
  return sum;
}

/// Puts these samples' pixels into the learner's input and their labels into labels_.
Status Trainer::feed(const ImageSet& set, std::span<const std::uint32_t> indices,
                     std::optional<std::uint32_t> epoch_to_augment) {
  const auto input = learner_->input(indices.size());
  if (!input.ok()) return input.error();
  NANDUTI_CHECK(input->size() == indices.size() * set.image_size);
  labels_.resize(indices.size());
  float* out = input->data();
  for (std::size_t i = 0; i < indices.size(); ++i, out += set.image_size) {
    labels_[i] = static_cast<std::uint8_t>(set.labels.view()[indices[i]]);
    const auto pixels = set.pixels.view().subspan(indices[i] * set.image_size, set.image_size);
    if (augmentation_ && epoch_to_augment) {
      augmentation_->write(*epoch_to_augment, indices[i], pixels, data_->pixel_values, out);
    } else {
      write_plain(pixels, out);
    }
  }
  return {};
}

void Trainer::write_plain(std::span<const std::byte> pixels, float* out) const {
  for (std::size_t p = 0; p < pixels.size(); ++p)
    out[p] = data_->pixel_values[static_cast<std::size_t>(pixels[p])];
}

void Trainer::choose_order(std::uint32_t epoch) {
  if (order_epoch_ == epoch) return;
  order_ = sample_order(training_.seed, epoch, data_->train.count);
  order_epoch_ = epoch;
}

}  // namespace nanduti
