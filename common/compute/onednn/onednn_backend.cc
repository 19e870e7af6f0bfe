#include "common/compute/onednn/onednn_backend.h"

#include <algorithm>
#include <new>

#include <omp.h>

#include "common/base/check.h"
#include "common/compute/onednn/plan.h"
#include "common/compute/softmax_cross_entropy.h"

namespace nanduti {
namespace {

/// Batch sizes whose working memory is kept: the minibatch, the evaluation's, and the rests of both.
constexpr std::size_t kPlansMax = 8;

/// oneDNN asks OpenMP how many threads it may use; the setting is the calling thread's own.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

/// Runs `work` on one thread; what oneDNN throws becomes an Error.
template <class Work>
auto guarded(Work work) -> decltype(work()) {
  const OneThread one_thread;
  try {
    return work();
  } catch (const dnnl::error& error) {
    const bool memory = error.status == dnnl_out_of_memory;
    return make_error(memory ? ErrorCode::kExhausted : ErrorCode::kUnavailable, "oneDNN: {} (status {})",
                      error.message, static_cast<int>(error.status));
  } catch (const std::bad_alloc&) {
    return make_error(ErrorCode::kExhausted, "oneDNN: out of memory");
  }
}

class OnednnNetwork final : public Network {
 public:
  OnednnNetwork(const dnnl::engine& engine, const NetworkDescription& description)
      : engine_(engine), stream_(engine), description_(description) {}

  Result<std::span<float>> input(std::size_t batch) override {
    NANDUTI_CHECK(batch > 0);
    return guarded([&]() -> Result<std::span<float>> {
      select_plan(batch);
      return plans_.front()->images();
    });
  }

  Result<BatchLoss> loss(std::span<const float> parameters, std::span<const std::uint8_t> labels) override {
    check(parameters, labels);
    return guarded([&]() -> Result<BatchLoss> {
      onednn::Plan& plan = *plans_.front();
      const auto scores = plan.forward(onednn::Plan::Mode::kInference, stream_, parameters.data());
      return softmax_cross_entropy<float>(scores, labels, {});
    });
  }

  Result<BatchLoss> gradient(std::span<const float> parameters, std::span<const std::uint8_t> labels,
                             std::span<float> gradient) override {
    check(parameters, labels);
    NANDUTI_CHECK(gradient.size() == description_.parameter_space_size);
    return guarded([&]() -> Result<BatchLoss> {
      onednn::Plan& plan = *plans_.front();
      const auto score_gradient = plan.score_gradient();
      const auto scores = plan.forward(onednn::Plan::Mode::kTraining, stream_, parameters.data());
      const BatchLoss result = softmax_cross_entropy<float>(scores, labels, score_gradient);
      plan.backward(stream_, parameters.data(), gradient.data());
      return result;
    });
  }

 private:
  void check(std::span<const float> parameters, std::span<const std::uint8_t> labels) const {
    NANDUTI_CHECK(parameters.size() == description_.parameter_space_size);
    NANDUTI_CHECK(!plans_.empty() && plans_.front()->batch() == labels.size());
  }

  /// Brings the plan for this batch size to the front; the one not used for longest gives way.
  void select_plan(std::size_t batch) {
    const auto found =
        std::find_if(plans_.begin(), plans_.end(), [&](const auto& plan) { return plan->batch() == batch; });
    if (found != plans_.end()) {
      std::rotate(plans_.begin(), found, found + 1);
      return;
    }
    if (plans_.size() == kPlansMax) plans_.pop_back();
    plans_.insert(plans_.begin(), std::make_unique<onednn::Plan>(engine_, description_, batch));
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  NetworkDescription description_;
  std::vector<std::unique_ptr<onednn::Plan>> plans_;  // the current one first
};

class OnednnBackend final : public Backend {
 public:
  std::string name() const override {
    const dnnl::version_t* version = dnnl::version();
    return fmt::format("cpu (oneDNN {}.{}.{})", version->major, version->minor, version->patch);
  }

  Result<std::unique_ptr<Network>> compile(const NetworkDescription& description) override {
    NANDUTI_CHECK(!description.layers.empty());
    return guarded([&]() -> Result<std::unique_ptr<Network>> {
      const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
      return std::unique_ptr<Network>(std::make_unique<OnednnNetwork>(engine, description));
    });
  }
};

}  // namespace

std::unique_ptr<Backend> make_onednn_backend() { return std::make_unique<OnednnBackend>(); }

}  // namespace nanduti
