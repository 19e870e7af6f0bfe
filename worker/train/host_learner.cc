#include "worker/train/host_learner.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "worker/train/network_description.h"
#include "worker/train/optimizer.h"

namespace nanduti {
namespace {

class HostLearner final : public Learner {
 public:
  HostLearner(const ResolvedModel& model, const OptimizerSpec& optimizer, std::unique_ptr<Network> network)
      : network_(std::move(network)),
        ranges_(tensor_ranges(model.space)),
        optimizer_(optimizer, model.space),
        x_(model.space.size()),
        gradient_(model.space.size(), 0.0f) {}

  Result<std::span<float>> input(std::size_t batch) override { return network_->input(batch); }

  Status begin_round(std::span<const float> x) override {
    NANDUTI_CHECK(x.size() == x_.size());
    std::copy(x.begin(), x.end(), x_.begin());
    before_ = x;
    sum_ = {};
    return {};
  }

  Status step(std::span<const std::uint8_t> labels, double learning_rate) override {
    const auto loss = network_->gradient(x_, labels, gradient_);
    if (!loss.ok()) return loss.error();
    add(*loss);
    optimizer_.step(learning_rate, gradient_, x_);
    return {};
  }

  Result<Round> finish_round(std::span<float> progress) override {
    NANDUTI_CHECK(progress.size() == x_.size());
    constexpr std::uint32_t kExponent = 0x7F800000;  // all of it set: infinite or not a number
    bool bad = false;
    for (const ParameterRange& range : ranges_) {
      for (std::uint64_t i = range.begin; i < range.end; ++i) {
        progress[i] = before_[i] - x_[i];
        bad |= (std::bit_cast<std::uint32_t>(progress[i]) & kExponent) == kExponent;
      }
    }
    return Round{sum_, !bad};
  }

  Status begin_evaluation(std::span<const float> x) override {
    NANDUTI_CHECK(x.size() == x_.size());
    evaluated_ = x;
    sum_ = {};
    return {};
  }

  Status evaluate(std::span<const std::uint8_t> labels) override {
    const auto loss = network_->loss(evaluated_, labels);
    if (!loss.ok()) return loss.error();
    add(*loss);
    return {};
  }

  Result<BatchLoss> finish_evaluation() override { return sum_; }

  Status on_merge() override {
    optimizer_.on_merge();
    return {};
  }
  Status reset() override {
    optimizer_.reset();
    return {};
  }

 private:
  void add(const BatchLoss& loss) {
    sum_.loss_sum += loss.loss_sum;
    sum_.correct += loss.correct;
  }

  std::unique_ptr<Network> network_;
  std::vector<ParameterRange> ranges_;
  Optimizer optimizer_;
  std::vector<float> x_;              // moves on during a round
  std::vector<float> gradient_;       // zeros in gaps
  std::span<const float> before_;     // x at the round's begin
  std::span<const float> evaluated_;  // what is evaluated
  BatchLoss sum_;                     // of the round, or of what is evaluated
};

}  // namespace

Result<std::unique_ptr<Learner>> make_host_learner(Backend& backend, const ResolvedModel& model,
                                                   const OptimizerSpec& optimizer) {
  auto network = backend.compile(describe_network(model));
  if (!network.ok()) return network.error();
  return std::unique_ptr<Learner>(
      std::make_unique<HostLearner>(model, optimizer, std::move(network).value()));
}

}  // namespace nanduti
