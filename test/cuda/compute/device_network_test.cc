// Goal: layers on a device compute what the definition says, and an error of any call of a library is an
// error of ours, after which nothing is left behind. Method: loss and gradient beside the reference
// backend's, on the emulated device, over the same networks as oneDNN's; every call fails once.
#include "cuda/compute/device_network.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/compute/reference/reference_backend.h"
#include "cuda/runtime/device_buffer.h"
#include "test/common/compute/agreement.h"
#include "test/fakecuda/fake_device.h"

namespace nanduti {
namespace {

/// A DeviceNetwork that takes and gives what the host has.
class FromHost final : public Network {
 public:
  /// Takes the stream over.
  FromHost(std::unique_ptr<DeviceNetwork> network, cudaStream_t stream)
      : stream_(stream), network_(std::move(network)) {}
  ~FromHost() override { (void)cudaStreamDestroy(stream_); }
  FromHost(const FromHost&) = delete;
  FromHost& operator=(const FromHost&) = delete;

  Result<std::span<float>> input(std::size_t batch) override {
    const Result<float*> to = network_->images(batch);
    if (!to.ok()) return to.error();
    to_ = *to;
    return std::span<float>(images_);
  }
  void set_images(std::size_t values) { images_.resize(values); }

  Result<BatchLoss> loss(std::span<const float> parameters, std::span<const std::uint8_t> labels) override {
    const StreamWait wait(stream_);
    NANDUTI_RETURN_IF_ERROR(upload(parameters, labels));
    NANDUTI_RETURN_IF_ERROR(network_->loss(parameters_.data(), labels_.data(), sums_.data()));
    return sums();
  }
  Result<BatchLoss> gradient(std::span<const float> parameters, std::span<const std::uint8_t> labels,
                             std::span<float> gradient) override {
    const StreamWait wait(stream_);
    NANDUTI_RETURN_IF_ERROR(upload(parameters, labels));
    NANDUTI_RETURN_IF_ERROR(gradient_.upload(gradient, stream_));
    NANDUTI_RETURN_IF_ERROR(
        network_->gradient(parameters_.data(), labels_.data(), gradient_.data(), sums_.data()));
    NANDUTI_RETURN_IF_ERROR(gradient_.download(gradient, stream_));
    return sums();
  }

 private:
  Status upload(std::span<const float> parameters, std::span<const std::uint8_t> labels) {
    NANDUTI_RETURN_IF_ERROR(cuda_status(
        cudaMemcpyAsync(to_, images_.data(), images_.size() * sizeof(float), cudaMemcpyHostToDevice, stream_),
        "images"));
    NANDUTI_RETURN_IF_ERROR(parameters_.upload(parameters, stream_));
    NANDUTI_RETURN_IF_ERROR(labels_.upload(labels, stream_));
    return sums_.clear(1, stream_);
  }
  Result<BatchLoss> sums() {
    device::LossSums sums;
    const StreamWait wait(stream_);
    NANDUTI_RETURN_IF_ERROR(sums_.download(std::span(&sums, 1), stream_));
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "waiting"));
    return BatchLoss{sums.loss, sums.correct};
  }

  cudaStream_t stream_;
  std::unique_ptr<DeviceNetwork> network_;
  std::vector<float> images_;
  float* to_ = nullptr;
  DeviceBuffer<float> parameters_, gradient_;
  DeviceBuffer<std::uint8_t> labels_;
  DeviceBuffer<device::LossSums> sums_;
};

/// On a stream of its own: what is handed to another one is not there in time.
Result<std::unique_ptr<FromHost>> on_device(const Stack& stack, const Sample& sample,
                                            const DeviceNetworkOptions& options = {}) {
  cudaStream_t stream = nullptr;
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream"));
  auto network = DeviceNetwork::create(stack.description, stream, options);
  if (!network.ok()) {
    (void)cudaStreamDestroy(stream);
    return network.error();
  }
  auto from_host = std::make_unique<FromHost>(std::move(network).value(), stream);
  from_host->set_images(sample.images.size());
  return from_host;
}

void require_agreement(const Stack& stack, std::size_t batch, std::uint64_t seed, double scale = 0.5) {
  fakecuda::reset();
  {
    const Sample sample(stack, batch, seed, scale);
    const auto fast = on_device(stack, sample);
    REQUIRE(fast.ok());
    const auto reference = std::move(make_reference_backend()->compile(stack.description)).value();
    require_agreement(**fast, *reference, sample);
    CHECK(fakecuda::kernel_failure().empty());
  }
  CHECK(fakecuda::leaks().empty());
}

/// Every kind of layer, features that are read twice, and a batch norm right behind the images.
Stack everything() {
  Stack stack({3, 8, 7});
  stack.batch_norm();
  stack.window(LayerKind::kConv2d, 5, 3, 1, 1, false);
  stack.batch_norm(0.3);
  stack.relu();
  const std::size_t entry = stack.features;
  stack.window(LayerKind::kConv2d, 5, 3, 1, 1);
  stack.relu();
  stack.add_features(entry);
  stack.relu();
  const std::size_t narrow = stack.features;
  const Extent extent = stack.at;
  stack.window(LayerKind::kConv2d, 6, 1, 2, 0);
  const std::size_t shortcut = stack.features;
  stack.go_on_from(narrow, extent);
  stack.window(LayerKind::kConv2d, 6, 3, 2, 1);
  stack.add_features(shortcut);
  stack.window(LayerKind::kMaxPool, 6, 2, 1, 0);
  stack.window(LayerKind::kAveragePool, 6, 2, 1, 0);
  stack.global_average_pool();
  stack.dense(7);
  stack.batch_norm();
  stack.relu();
  stack.dense(4);
  return stack;
}

}  // namespace

TEST_CASE("device: every kind of layer agrees with the reference, one after the other and side by side") {
  for (const std::size_t batch : {1, 2, 5}) {
    INFO("batch " << batch);
    require_agreement(everything(), batch, batch);
  }
}

TEST_CASE("device: convolutions and pools of any kernel, stride and padding agree with the reference") {
  for (std::uint32_t kernel = 1; kernel <= 3; ++kernel)
    for (std::uint32_t stride = 1; stride <= 2; ++stride) {
      INFO("kernel " << kernel << " stride " << stride);
      for (std::uint32_t padding = 0; padding < kernel; ++padding) {
        Stack stack({2, 6, 7});
        stack.window(LayerKind::kConv2d, 3, kernel, stride, padding);
        stack.relu();
        stack.dense(3);
        require_agreement(stack, 2, kernel);
      }
      for (const LayerKind kind : {LayerKind::kMaxPool, LayerKind::kAveragePool}) {
        Stack stack({2, 7, 6});
        stack.window(LayerKind::kConv2d, 3, 2, 1, 1);
        stack.window(kind, 3, kernel, stride, 0);
        stack.dense(3);
        require_agreement(stack, 3, kernel);
      }
    }
}

TEST_CASE("device: random networks agree with the reference") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    RandomStream random(seed);
    const Stack stack = random_stack(random);
    require_agreement(stack, 1 + random.below(5), seed);
  }
}

TEST_CASE("device: the loss of many samples and classes, whatever the order of threads") {
  for (const auto schedule : {simt::Schedule::kForward, simt::Schedule::kReverse, simt::Schedule::kRandom})
    for (const std::uint32_t classes : {2u, 256u}) {
      Stack stack({1, 2, 3});
      stack.dense(classes);
      fakecuda::reset();
      fakecuda::set_schedule({schedule, 3});
      const Sample sample(stack, 300, 1);
      const auto fast = on_device(stack, sample).value().release();
      const std::unique_ptr<FromHost> owner(fast);
      require_agreement(*fast, *std::move(make_reference_backend()->compile(stack.description)).value(),
                        sample);
    }
}

TEST_CASE("device: the same inputs give the same bits, and batches of changing size are as good") {
  fakecuda::reset();
  const Stack stack = everything();
  const Sample sample(stack, 4, 1), other(stack, 2, 2);
  const auto network = std::move(on_device(stack, sample)).value();
  const Answer first = ask(*network, sample);
  network->set_images(other.images.size());
  ask(*network, other);
  network->set_images(sample.images.size());
  const Answer again = ask(*network, sample);
  CHECK(again.gradient == first.gradient);
  CHECK(again.loss.loss_sum == first.loss.loss_sum);
}

TEST_CASE("device: products have fewer bits only where that is asked for") {
  Stack convolution({2, 6, 6}), dense({2, 6, 6});
  convolution.window(LayerKind::kConv2d, 3, 6, 1, 0);
  convolution.flatten();
  dense.dense(3);
  for (const Stack* stack : {&convolution, &dense}) {
    fakecuda::reset();
    const Sample sample(*stack, 4, 1);
    const auto reference = std::move(make_reference_backend()->compile(stack->description)).value();
    const double expected = ask(*reference, sample).loss.loss_sum;
    const auto exact = std::move(on_device(*stack, sample)).value();
    const auto fast = std::move(on_device(*stack, sample, {.tf32 = true})).value();
    CHECK(ask(*exact, sample).loss.loss_sum == Approx(expected).epsilon(1e-6));
    CHECK(ask(*fast, sample).loss.loss_sum == Approx(expected).epsilon(2e-3));
    CHECK(ask(*fast, sample).loss.loss_sum != Approx(expected).epsilon(1e-6));
  }
}

TEST_CASE("device: an image that is no number gives a loss that is none") {
  fakecuda::reset();
  const Stack stack = everything();
  Sample sample(stack, 2, 1);
  sample.images[5] = NAN;
  const auto network = std::move(on_device(stack, sample)).value();
  sample.feed(*network);
  CHECK(std::isnan(network->loss(sample.parameters, sample.labels)->loss_sum));
}

TEST_CASE("device: gaps between tensors are not touched") {
  fakecuda::reset();
  Stack stack({1, 4, 4});
  stack.description.parameter_space_size = 5;
  stack.dense(6);
  stack.description.parameter_space_size += 7;
  stack.dense(3);
  const Sample sample(stack, 3, 1);
  const auto network = std::move(on_device(stack, sample)).value();
  const Answer answer = ask(*network, sample);
  const std::size_t gap = 5 + 6 * 16 + 6;
  for (std::size_t i = 0; i < answer.gradient.size(); ++i)
    CHECK((answer.gradient[i] == kUntouched) == (i < 5 || (i >= gap && i < gap + 7)));
}

TEST_CASE("device: whatever call fails, it is an error with words, and nothing is left behind") {
  const Stack stack = everything();
  const Sample sample(stack, 2, 1);
  const char* const calls[] = {"cudnnCreate",
                               "cudnnSetStream",
                               "cublasCreate_v2",
                               "cublasSetStream_v2",
                               "cublasSetMathMode",
                               "cudnnCreateTensorDescriptor",
                               "cudnnCreateFilterDescriptor",
                               "cudnnCreateConvolutionDescriptor",
                               "cudnnSetConvolutionMathType",
                               "cudnnSetTensor4dDescriptor",
                               "cudnnSetFilter4dDescriptor",
                               "cudnnSetConvolution2dDescriptor",
                               "cudnnSetPooling2dDescriptor",
                               "cudnnSetActivationDescriptor",
                               "cudnnCreatePoolingDescriptor",
                               "cudnnCreateActivationDescriptor",
                               "cudnnGetConvolutionForwardWorkspaceSize",
                               "cudnnGetConvolutionBackwardDataWorkspaceSize",
                               "cudnnGetConvolutionBackwardFilterWorkspaceSize",
                               "cudnnConvolutionForward",
                               "cudnnConvolutionBackwardData",
                               "cudnnConvolutionBackwardFilter",
                               "cudnnConvolutionBackwardBias",
                               "cudnnAddTensor",
                               "cudnnActivationForward",
                               "cudnnActivationBackward",
                               "cudnnPoolingForward",
                               "cudnnPoolingBackward",
                               "cudnnBatchNormalizationForwardTraining",
                               "cudnnBatchNormalizationForwardInference",
                               "cudnnBatchNormalizationBackward",
                               "cublasSgemm_v2",
                               "cudaMalloc",
                               "cudaMemcpyAsync",
                               "cudaMemsetAsync",
                               "cudaLaunchKernel"};
  const auto run = [&]() -> Status {
    auto network = on_device(stack, sample);
    if (!network.ok()) return network.error();
    std::vector<float> gradient(sample.parameters.size());
    const auto images = (*network)->input(sample.labels.size());
    if (!images.ok()) return images.error();
    const auto trained = (*network)->gradient(sample.parameters, sample.labels, gradient);
    if (!trained.ok()) return trained.error();
    const auto evaluated = (*network)->loss(sample.parameters, sample.labels);
    return evaluated.ok() ? Status() : Status(evaluated.error());
  };
  for (const char* call : calls) {
    int struck = 0;
    for (std::uint64_t nth = 1;; ++nth) {
      INFO(call << ", call " << nth);
      fakecuda::reset();
      fakecuda::fail_call(call, nth, cudaErrorMemoryAllocation);
      const Status status = run();
      if (fakecuda::has_failures_left()) {
        CHECK(status.ok());
        break;
      }
      ++struck;
      REQUIRE_FALSE(status.ok());
      CHECK(status.error().message.find(": ") != std::string::npos);
      (void)cudaDeviceSynchronize();
      CHECK(fakecuda::leaks().empty());
    }
    INFO(call);
    CHECK(struck > 0);
  }
}

}  // namespace nanduti
