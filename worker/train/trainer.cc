#include "worker/train/trainer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include "worker/train/learning_rate.h"
#include "worker/train/network_description.h"
#include "worker/train/sample_order.h"

namespace nanduti {
namespace {

Status check_model(const ResolvedModel& model, const TrainingSpec& training, const JobData& data) {
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

Error stopped() { return make_error(ErrorCode::kCancelled, "stopped between two minibatches"); }

}  // namespace

Result<std::unique_ptr<Trainer>> Trainer::create(Backend& backend, const ResolvedModel& model,
                                                 const TrainingSpec& training,
                                                 std::shared_ptr<const JobData> data) {
  NANDUTI_CHECK(data != nullptr);
  NANDUTI_RETURN_IF_ERROR(check_model(model, training, *data));
  auto network = backend.compile(describe_network(model));
  if (!network.ok()) return network.error();
  return std::unique_ptr<Trainer>(new Trainer(model, training, std::move(data), std::move(network).value()));
}

Trainer::Trainer(const ResolvedModel& model, const TrainingSpec& training,
                 std::shared_ptr<const JobData> data, std::unique_ptr<Network> network)
    : training_(training),
      data_(std::move(data)),
      network_(std::move(network)),
      ranges_(tensor_ranges(model.space)),
      optimizer_(training.optimizer, model.space),
      x_(model.space.size()),
      gradient_(model.space.size(), 0.0f) {
  if (training.augment.crop > 0 || training.augment.flip)
    augmentation_.emplace(training.augment, training.seed, model.data);
  labels_.reserve(std::max<std::uint64_t>(training.batch_size, kEvaluationBatch));
  test_indices_.reserve(kEvaluationBatch);
}

Result<BatchLoss> Trainer::train_round(std::span<const float> x, const RoundSamples& samples,
                                       std::span<float> progress, std::stop_token stop) {
  NANDUTI_CHECK(x.size() == x_.size() && progress.size() == x_.size());
  if (samples.begin > samples.end || samples.end > data_->train.count) {
    return make_error(ErrorCode::kInvalidArgument, "samples {} to {} of a training set of {}", samples.begin,
                      samples.end, data_->train.count);
  }
  choose_order(samples.epoch);
  std::copy(x.begin(), x.end(), x_.begin());
  BatchLoss sum;
  for (std::uint64_t begin = samples.begin; begin < samples.end; begin += training_.batch_size) {
    if (stop.stop_requested()) return stopped();
    const std::uint64_t end = std::min(samples.end, begin + training_.batch_size);
    const auto batch = step({samples.epoch, begin, end});
    if (!batch.ok()) return batch.error();
    sum.loss_sum += batch->loss_sum;
    sum.correct += batch->correct;
  }
  if (!write_progress(x, progress)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the parameters are not numbers after sample {} of epoch {}: lower the learning rate",
                      samples.end, samples.epoch);
  }
  return sum;
}

Result<BatchLoss> Trainer::step(const RoundSamples& batch) {
  NANDUTI_RETURN_IF_ERROR(
      feed(data_->train, std::span(order_).subspan(batch.begin, batch.end - batch.begin), batch.epoch));
  auto loss = network_->gradient(x_, labels_, gradient_);
  if (!loss.ok()) return loss;
  if (!std::isfinite(loss->loss_sum)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the loss is not a number in epoch {}, samples {} to {}: lower the learning rate",
                      batch.epoch, batch.begin, batch.end);
  }
  const double part = static_cast<double>(batch.begin) / static_cast<double>(data_->train.count);
  optimizer_.step(learning_rate(training_, batch.epoch + part), gradient_, x_);
  return loss;
}

Result<BatchLoss> Trainer::evaluate(std::span<const float> x, std::uint64_t begin, std::uint64_t end,
                                    std::stop_token stop) {
  NANDUTI_CHECK(x.size() == x_.size());
  if (!data_->test) return make_error(ErrorCode::kInvalidArgument, "the job has no test data");
  if (begin > end || end > data_->test->count) {
    return make_error(ErrorCode::kInvalidArgument, "samples {} to {} of a test set of {}", begin, end,
                      data_->test->count);
  }
  BatchLoss sum;
  for (; begin < end; begin += test_indices_.size()) {
    if (stop.stop_requested()) return stopped();
    test_indices_.resize(std::min(end - begin, kEvaluationBatch));
    std::iota(test_indices_.begin(), test_indices_.end(), static_cast<std::uint32_t>(begin));
    NANDUTI_RETURN_IF_ERROR(feed(*data_->test, test_indices_, std::nullopt));
    const auto batch = network_->loss(x, labels_);
    if (!batch.ok()) return batch.error();
    if (!std::isfinite(batch->loss_sum)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "the loss is not a number on the test samples {} to {}: lower the learning rate",
                        begin, begin + test_indices_.size());
    }
    sum.loss_sum += batch->loss_sum;
    sum.correct += batch->correct;
  }
  return sum;
}

/// Puts these samples' pixels into the network's input and their labels into labels_.
Status Trainer::feed(const ImageSet& set, std::span<const std::uint32_t> indices,
                     std::optional<std::uint32_t> epoch_to_augment) {
  const auto input = network_->input(indices.size());
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

/// False if an entry is infinite or not a number.
bool Trainer::write_progress(std::span<const float> x, std::span<float> progress) const {
  constexpr std::uint32_t kExponent = 0x7F800000;  // all of it set: infinite or not a number
  bool bad = false;
  std::uint64_t gap = 0;
  for (const ParameterRange& range : ranges_) {
    std::fill(progress.begin() + static_cast<std::ptrdiff_t>(gap),
              progress.begin() + static_cast<std::ptrdiff_t>(range.begin), 0.0f);
    for (std::uint64_t i = range.begin; i < range.end; ++i) {
      progress[i] = x[i] - x_[i];
      bad |= (std::bit_cast<std::uint32_t>(progress[i]) & kExponent) == kExponent;
    }
    gap = range.end;
  }
  std::fill(progress.begin() + static_cast<std::ptrdiff_t>(gap), progress.end(), 0.0f);
  return !bad;
}

}  // namespace nanduti
