#include "cuda/compute/staged_learner.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace nanduti {

Result<std::unique_ptr<StagedLearner>> StagedLearner::create(const NetworkDescription& description,
                                                             const DeviceOptimizerOptions& optimizer,
                                                             const DeviceNetworkOptions& options) {
  NANDUTI_CHECK(!description.layers.empty());
  std::unique_ptr<StagedLearner> learner(new StagedLearner(description.layers.front().input.size()));
  NANDUTI_RETURN_IF_ERROR(learner->prepare(description, optimizer, options));
  return learner;
}

Status StagedLearner::prepare(const NetworkDescription& description, const DeviceOptimizerOptions& optimizer,
                              const DeviceNetworkOptions& options) {
  NANDUTI_RETURN_IF_ERROR(compute_.make());
  NANDUTI_RETURN_IF_ERROR(copies_.make());
  for (Slot& slot : slots_) {
    NANDUTI_RETURN_IF_ERROR(slot.copied.make());
    NANDUTI_RETURN_IF_ERROR(slot.used.make());
  }
  NANDUTI_RETURN_IF_ERROR(evaluation_.reserve(1));
  auto learner = DeviceLearner::create(description, optimizer, compute_.get(), options);
  if (!learner.ok()) return learner.error();
  learner_ = std::move(learner).value();
  return {};
}

/// What its streams still have to do reads what it holds.
StagedLearner::~StagedLearner() {
  for (const DeviceStream* stream : {&compute_, &copies_})
    if (stream->get() != nullptr) (void)stream->wait();
}

Result<std::span<float>> StagedLearner::input(std::size_t batch) {
  NANDUTI_CHECK(batch > 0);
  Slot& slot = slots_[slot_];
  NANDUTI_RETURN_IF_ERROR(slot.copied.wait());
  if (batch * image_size_ > slot.device_images.capacity()) NANDUTI_RETURN_IF_ERROR(slot.used.wait());
  NANDUTI_RETURN_IF_ERROR(slot.images.reserve(batch * image_size_));
  NANDUTI_RETURN_IF_ERROR(slot.labels.reserve(batch));
  NANDUTI_RETURN_IF_ERROR(slot.device_images.reserve(batch * image_size_));
  NANDUTI_RETURN_IF_ERROR(slot.device_labels.reserve(batch));
  batch_ = batch;
  return slot.images.first(batch * image_size_);
}

Status StagedLearner::feed(std::span<const std::uint8_t> labels) {
  NANDUTI_CHECK(labels.size() == batch_, "{} labels for {} images", labels.size(), batch_);
  Slot& slot = slots_[slot_];
  const std::size_t values = labels.size() * image_size_;
  const std::span<std::uint8_t> pinned_labels = slot.labels.first(labels.size());
  std::copy(labels.begin(), labels.end(), pinned_labels.begin());
  NANDUTI_RETURN_IF_ERROR(slot.used.hold_back(copies_));
  NANDUTI_RETURN_IF_ERROR(slot.device_images.upload(slot.images.first(values), copies_.get()));
  NANDUTI_RETURN_IF_ERROR(slot.device_labels.upload(pinned_labels, copies_.get()));
  NANDUTI_RETURN_IF_ERROR(slot.copied.record(copies_));
  NANDUTI_RETURN_IF_ERROR(slot.copied.hold_back(compute_));
  const Result<float*> images = learner_->images(labels.size());
  if (!images.ok()) return images.error();
  return cuda_status(cudaMemcpyAsync(*images, slot.device_images.data(), values * sizeof(float),
                                     cudaMemcpyDeviceToDevice, compute_.get()),
                     "taking a minibatch");
}

Status StagedLearner::leave_slot() {
  Slot& slot = slots_[slot_];
  slot_ = (slot_ + 1) % slots_.size();
  batch_ = 0;
  return slot.used.record(compute_);
}

Status StagedLearner::step(std::span<const std::uint8_t> labels, double learning_rate) {
  NANDUTI_RETURN_IF_ERROR(feed(labels));
  NANDUTI_RETURN_IF_ERROR(learner_->step(slots_[slot_].device_labels.data(), learning_rate));
  return leave_slot();
}

Status StagedLearner::begin_evaluation(std::span<const float> x) {
  {
    const StreamWait wait(compute_.get());
    NANDUTI_RETURN_IF_ERROR(evaluated_.upload(x, compute_.get()));
  }
  return evaluation_.clear(1, compute_.get());
}

Status StagedLearner::evaluate(std::span<const std::uint8_t> labels) {
  NANDUTI_RETURN_IF_ERROR(feed(labels));
  NANDUTI_RETURN_IF_ERROR(
      learner_->evaluate(evaluated_.data(), slots_[slot_].device_labels.data(), evaluation_.data()));
  return leave_slot();
}

Result<device::LossSums> StagedLearner::finish_evaluation() {
  device::LossSums sums;
  const StreamWait wait(compute_.get());
  NANDUTI_RETURN_IF_ERROR(evaluation_.download(std::span(&sums, 1), compute_.get()));
  NANDUTI_RETURN_IF_ERROR(compute_.wait());
  return sums;
}

}  // namespace nanduti
