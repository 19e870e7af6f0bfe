#include "cuda/compute/device_learner.h"

#include <cmath>
#include <span>
#include <utility>

#include "common/base/check.h"
#include "cuda/runtime/device_buffer.h"

namespace nanduti {

using device::OptimizerKind;

class DeviceLearner::State {
 public:
  State(const DeviceOptimizerOptions& optimizer, std::uint64_t size, cudaStream_t stream,
        std::unique_ptr<DeviceNetwork> network)
      : optimizer_(optimizer), size_(size), stream_(stream), network_(std::move(network)) {}

  ~State() { (void)cudaStreamSynchronize(stream_); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  Status prepare() {
    NANDUTI_RETURN_IF_ERROR(x_.reserve(size_));
    NANDUTI_RETURN_IF_ERROR(gradient_.reserve(size_));
    NANDUTI_RETURN_IF_ERROR(sums_.reserve(1));
    NANDUTI_RETURN_IF_ERROR(bad_.reserve(1));
    return reset();
  }

  DeviceNetwork& network() { return *network_; }

  Status begin_round(const float* x) {
    before_ = x;
    NANDUTI_RETURN_IF_ERROR(sums_.clear(1, stream_));
    return cuda_status(
        cudaMemcpyAsync(x_.data(), x, size_ * sizeof(float), cudaMemcpyDeviceToDevice, stream_),
        "copying parameters");
  }

  Status step(const std::uint8_t* labels, double learning_rate) {
    NANDUTI_RETURN_IF_ERROR(network_->gradient(x_.data(), labels, gradient_.data(), sums_.data()));
    ++steps_;
    device::OptimizerStep step = factors(learning_rate);
    for (const ParameterRange& range : optimizer_.trained) {
      step.count = range.size();
      step.gradient = gradient_.data() + range.begin;
      step.x = x_.data() + range.begin;
      if (optimizer_.kind != OptimizerKind::kSgd) step.velocity = velocity_.data() + range.begin;
      if (optimizer_.kind == OptimizerKind::kAdamW) step.square = square_.data() + range.begin;
      NANDUTI_RETURN_IF_ERROR(cuda_status(device::optimizer_step(step, stream_), "a step"));
    }
    for (const ParameterRange& range : optimizer_.buffers) {
      NANDUTI_RETURN_IF_ERROR(cuda_status(
          device::subtract(gradient_.data() + range.begin, x_.data() + range.begin, range.size(), stream_),
          "running statistics"));
    }
    return {};
  }

  Result<RoundResult> finish_round(float* progress) {
    NANDUTI_RETURN_IF_ERROR(bad_.clear(1, stream_));
    for (const auto* ranges : {&optimizer_.trained, &optimizer_.buffers}) {
      for (const ParameterRange& range : *ranges) {
        NANDUTI_RETURN_IF_ERROR(
            cuda_status(device::take_progress(before_ + range.begin, x_.data() + range.begin,
                                              progress + range.begin, range.size(), bad_.data(), stream_),
                        "a round's progress"));
      }
    }
    RoundResult result;
    unsigned bad = 0;
    const StreamWait wait(stream_);
    NANDUTI_RETURN_IF_ERROR(sums_.download(std::span(&result.sums, 1), stream_));
    NANDUTI_RETURN_IF_ERROR(bad_.download(std::span(&bad, 1), stream_));
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "waiting for a round"));
    result.is_finite = bad == 0;
    return result;
  }

  Status on_merge() {
    if (optimizer_.kept_at_merge == 1 || optimizer_.kind == OptimizerKind::kSgd) return {};
    return cuda_status(
        device::scale(velocity_.data(), static_cast<float>(optimizer_.kept_at_merge), size_, stream_),
        "what is kept of the velocity");
  }

  Status reset() {
    steps_ = 0;
    if (optimizer_.kind != OptimizerKind::kSgd) NANDUTI_RETURN_IF_ERROR(velocity_.clear(size_, stream_));
    if (optimizer_.kind == OptimizerKind::kAdamW) NANDUTI_RETURN_IF_ERROR(square_.clear(size_, stream_));
    return {};
  }

 private:
  [[nodiscard]] device::OptimizerStep factors(double learning_rate) const {
    const auto corrected = [&](double beta) { return 1 - std::pow(beta, static_cast<double>(steps_)); };
    device::OptimizerStep step{};
    step.kind = optimizer_.kind;
    step.momentum = static_cast<float>(optimizer_.momentum);
    step.weight_decay = static_cast<float>(optimizer_.weight_decay);
    step.learning_rate = static_cast<float>(learning_rate);
    if (optimizer_.kind != OptimizerKind::kAdamW) return step;
    step.learning_rate = static_cast<float>(learning_rate / corrected(optimizer_.beta1));
    step.root = static_cast<float>(1 / std::sqrt(corrected(optimizer_.beta2)));
    step.beta1 = static_cast<float>(optimizer_.beta1);
    step.beta2 = static_cast<float>(optimizer_.beta2);
    step.epsilon = static_cast<float>(optimizer_.epsilon);
    step.keep = static_cast<float>(1 - learning_rate * optimizer_.weight_decay);
    return step;
  }

  DeviceOptimizerOptions optimizer_;
  std::uint64_t size_;
  cudaStream_t stream_;
  std::unique_ptr<DeviceNetwork> network_;
  const float* before_ = nullptr;          // x at the round's begin
  DeviceBuffer<float> x_, gradient_;       // x moves on during a round
  DeviceBuffer<float> velocity_, square_;  // as the optimiser has them; gaps hold zeros
  DeviceBuffer<device::LossSums> sums_;
  DeviceBuffer<unsigned> bad_;
  std::uint64_t steps_ = 0;
};

DeviceLearner::DeviceLearner(std::unique_ptr<State> state) : state_(std::move(state)) {}
DeviceLearner::~DeviceLearner() = default;

Result<std::unique_ptr<DeviceLearner>> DeviceLearner::create(const NetworkDescription& description,
                                                             const DeviceOptimizerOptions& optimizer,
                                                             cudaStream_t stream,
                                                             const DeviceNetworkOptions& options) {
  auto network = DeviceNetwork::create(description, stream, options);
  if (!network.ok()) return network.error();
  auto state = std::make_unique<State>(optimizer, description.parameter_space_size, stream,
                                       std::move(network).value());
  NANDUTI_RETURN_IF_ERROR(state->prepare());
  return std::unique_ptr<DeviceLearner>(new DeviceLearner(std::move(state)));
}

Status DeviceLearner::begin_round(const float* x) { return state_->begin_round(x); }
Result<float*> DeviceLearner::images(std::size_t batch) { return state_->network().images(batch); }
Status DeviceLearner::step(const std::uint8_t* labels, double learning_rate) {
  return state_->step(labels, learning_rate);
}
Result<RoundResult> DeviceLearner::finish_round(float* progress) { return state_->finish_round(progress); }
Status DeviceLearner::evaluate(const float* x, const std::uint8_t* labels, device::LossSums* sums) {
  return state_->network().loss(x, labels, sums);
}
Status DeviceLearner::on_merge() { return state_->on_merge(); }
Status DeviceLearner::reset() { return state_->reset(); }

}  // namespace nanduti
