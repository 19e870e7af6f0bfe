#include "cuda/compute/device_network.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "cuda/compute/libraries.h"
#include "cuda/runtime/device_buffer.h"

// Legacy calls are what computes layer by layer; NVIDIA has marked them as such.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace nanduti {
namespace {

using device::cublas_status;
using device::cudnn_status;

// The same bits every time, on one device with one version of the libraries.
constexpr auto kForwardAlgorithm = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
constexpr auto kDataAlgorithm = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
constexpr auto kFilterAlgorithm = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
constexpr auto kNormMode = CUDNN_BATCHNORM_SPATIAL;

constexpr float kOne = 1, kZero = 0;

int as_int(std::size_t value) { return static_cast<int>(value); }

enum class Mode { kTraining, kInference };

/// A layer with the descriptions that cuDNN wants of it, and what its backward needs.
struct Layer {
  NetworkLayer spec;
  device::Tensor x, y, channels;  // of the current batch; one value per channel
  device::Filter filter;
  device::Convolution convolution;
  device::Pooling pooling;
  DeviceBuffer<float> saved_mean, saved_inverse;   // batch norm, of the minibatch, for its backward
  DeviceBuffer<float> batch_mean, batch_variance;  // the same, for the running ones; the variance unbiased
};

bool has_tensors(LayerKind kind) {
  return kind == LayerKind::kConv2d || kind == LayerKind::kDense || kind == LayerKind::kBatchNorm;
}

Status set_tensor(const device::Tensor& tensor, std::size_t batch, const Extent& extent) {
  return cudnn_status(
      cudnnSetTensor4dDescriptor(tensor.get(), CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, as_int(batch),
                                 as_int(extent.channels), as_int(extent.height), as_int(extent.width)),
      "describing features");
}

}  // namespace

class DeviceNetwork::Plan {
 public:
  Plan(const NetworkDescription& description, cudaStream_t stream)
      : description_(description),
        stream_(stream),
        layers_(description.layers.size()),
        features_(description.layers.size() + 1),
        gradients_(description.layers.size() + 1),
        depends_(description.layers.size() + 1) {
    std::vector<bool> is_taken(features_.size());
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const NetworkLayer& spec = layers_[i].spec = description.layers[i];
      NANDUTI_CHECK(spec.source <= i && spec.addend <= i);
      const bool is_add = spec.kind == LayerKind::kAdd;
      is_taken[spec.source] = true;
      if (is_add) is_taken[spec.addend] = true;
      depends_[i + 1] = has_tensors(spec.kind) || depends_[spec.source] || (is_add && depends_[spec.addend]);
    }
    for (std::size_t i = 1; i < layers_.size(); ++i)
      NANDUTI_CHECK(is_taken[i], "nothing depends on features {}", i);
  }

  ~Plan() { (void)cudaStreamSynchronize(stream_); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  Status prepare(const DeviceNetworkOptions& options) {
    NANDUTI_RETURN_IF_ERROR(cudnn_status(cudnn_.make(), "starting cuDNN"));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(cudnnSetStream(cudnn_.get(), stream_), "giving cuDNN its stream"));
    NANDUTI_RETURN_IF_ERROR(cublas_status(cublas_.make(), "starting cuBLAS"));
    NANDUTI_RETURN_IF_ERROR(
        cublas_status(cublasSetStream_v2(cublas_.get(), stream_), "giving cuBLAS its stream"));
    NANDUTI_RETURN_IF_ERROR(cublas_status(
        cublasSetMathMode(cublas_.get(), options.tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH),
        "choosing cuBLAS's kind of products"));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(relu_.make(), "describing a relu"));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(
        cudnnSetActivationDescriptor(relu_.get(), CUDNN_ACTIVATION_RELU, CUDNN_PROPAGATE_NAN, 0.0),
        "describing a relu"));
    for (Layer& layer : layers_) NANDUTI_RETURN_IF_ERROR(describe(layer, options));
    return {};
  }

  Result<float*> images(std::size_t batch) {
    NANDUTI_CHECK(batch > 0);
    if (batch != batch_) NANDUTI_RETURN_IF_ERROR(set_batch(batch));
    return features_[0].data();
  }

  Status loss(const float* parameters, const std::uint8_t* labels, device::LossSums* sums) {
    NANDUTI_RETURN_IF_ERROR(forward(Mode::kInference, parameters));
    return compare(labels, nullptr, sums);
  }

  Status gradient(const float* parameters, const std::uint8_t* labels, float* gradient,
                  device::LossSums* sums) {
    NANDUTI_RETURN_IF_ERROR(forward(Mode::kTraining, parameters));
    NANDUTI_RETURN_IF_ERROR(compare(labels, gradients_.back().data(), sums));
    written_.assign(gradients_.size(), false);
    for (std::size_t i = layers_.size(); i-- > 0;) {
      if (!depends_[i + 1]) continue;
      NANDUTI_RETURN_IF_ERROR(
          backward(layers_[i], features_[i + 1].data(), gradients_[i + 1].data(), parameters, gradient));
    }
    return {};
  }

 private:
  Status describe(Layer& layer, const DeviceNetworkOptions& options) {
    constexpr const char* kWhat = "describing a layer";
    const NetworkLayer& spec = layer.spec;
    NANDUTI_RETURN_IF_ERROR(cudnn_status(layer.x.make(), kWhat));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(layer.y.make(), kWhat));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(layer.channels.make(), kWhat));
    NANDUTI_RETURN_IF_ERROR(set_tensor(layer.channels, 1, {spec.output.channels, 1, 1}));
    switch (spec.kind) {
      case LayerKind::kConv2d:
        return describe_convolution(layer, options);
      case LayerKind::kMaxPool:
      case LayerKind::kAveragePool:
      case LayerKind::kGlobalAveragePool:
        return describe_pooling(layer);
      case LayerKind::kBatchNorm:
        for (auto* buffer :
             {&layer.saved_mean, &layer.saved_inverse, &layer.batch_mean, &layer.batch_variance})
          NANDUTI_RETURN_IF_ERROR(buffer->reserve(spec.input.channels));
        return {};
      case LayerKind::kDense:
      case LayerKind::kRelu:
      case LayerKind::kFlatten:
      case LayerKind::kAdd:
        return {};
    }
    return {};
  }

  static Status describe_convolution(Layer& layer, const DeviceNetworkOptions& options) {
    constexpr const char* kWhat = "describing a convolution";
    const NetworkLayer& spec = layer.spec;
    const int kernel = as_int(spec.kernel), stride = as_int(spec.stride), padding = as_int(spec.padding);
    NANDUTI_RETURN_IF_ERROR(cudnn_status(layer.filter.make(), kWhat));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(
        cudnnSetFilter4dDescriptor(layer.filter.get(), CUDNN_DATA_FLOAT, CUDNN_TENSOR_NCHW,
                                   as_int(spec.output.channels), as_int(spec.input.channels), kernel, kernel),
        kWhat));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(layer.convolution.make(), kWhat));
    NANDUTI_RETURN_IF_ERROR(
        cudnn_status(cudnnSetConvolution2dDescriptor(layer.convolution.get(), padding, padding, stride,
                                                     stride, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
                     kWhat));
    return cudnn_status(cudnnSetConvolutionMathType(layer.convolution.get(),
                                                    options.tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH),
                        kWhat);
  }

  static Status describe_pooling(Layer& layer) {
    const NetworkLayer& spec = layer.spec;
    const bool is_global = spec.kind == LayerKind::kGlobalAveragePool;
    const int height = as_int(is_global ? spec.input.height : spec.kernel);
    const int width = as_int(is_global ? spec.input.width : spec.kernel);
    const auto mode = spec.kind == LayerKind::kMaxPool ? CUDNN_POOLING_MAX_DETERMINISTIC
                                                       : CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING;
    NANDUTI_RETURN_IF_ERROR(cudnn_status(layer.pooling.make(), "describing a pool"));
    return cudnn_status(cudnnSetPooling2dDescriptor(layer.pooling.get(), mode, CUDNN_PROPAGATE_NAN, height,
                                                    width, 0, 0, is_global ? height : as_int(spec.stride),
                                                    is_global ? width : as_int(spec.stride)),
                        "describing a pool");
  }

  Status set_batch(std::size_t batch) {
    batch_ = 0;  // until all is there
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "waiting for the batch before"));
    NANDUTI_RETURN_IF_ERROR(features_[0].reserve(batch * layers_.front().spec.input.size()));
    std::size_t workspace_bytes = 0;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      Layer& layer = layers_[i];
      NANDUTI_RETURN_IF_ERROR(set_tensor(layer.x, batch, layer.spec.input));
      NANDUTI_RETURN_IF_ERROR(set_tensor(layer.y, batch, layer.spec.output));
      const std::size_t size = batch * layer.spec.output.size();
      NANDUTI_RETURN_IF_ERROR(features_[i + 1].reserve(size));
      if (depends_[i + 1]) NANDUTI_RETURN_IF_ERROR(gradients_[i + 1].reserve(size));
      // cuDNN computes this one whether anybody wants it or not.
      if (layer.spec.kind == LayerKind::kBatchNorm)
        NANDUTI_RETURN_IF_ERROR(gradients_[layer.spec.source].reserve(size));
      if (layer.spec.kind != LayerKind::kConv2d) continue;
      const Result<std::size_t> bytes = workspace_of(layer);
      if (!bytes.ok()) return bytes.error();
      workspace_bytes = std::max(workspace_bytes, *bytes);
    }
    NANDUTI_RETURN_IF_ERROR(workspace_.reserve(workspace_bytes));
    workspace_bytes_ = workspace_bytes;
    batch_ = batch;
    return {};
  }

  Result<std::size_t> workspace_of(const Layer& layer) const {
    constexpr const char* kWhat = "asking for a convolution's workspace";
    std::size_t forward = 0, data = 0, filter = 0;
    NANDUTI_RETURN_IF_ERROR(
        cudnn_status(cudnnGetConvolutionForwardWorkspaceSize(cudnn_.get(), layer.x.get(), layer.filter.get(),
                                                             layer.convolution.get(), layer.y.get(),
                                                             kForwardAlgorithm, &forward),
                     kWhat));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(cudnnGetConvolutionBackwardDataWorkspaceSize(
                                             cudnn_.get(), layer.filter.get(), layer.y.get(),
                                             layer.convolution.get(), layer.x.get(), kDataAlgorithm, &data),
                                         kWhat));
    NANDUTI_RETURN_IF_ERROR(cudnn_status(
        cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnn_.get(), layer.x.get(), layer.y.get(),
                                                       layer.convolution.get(), layer.filter.get(),
                                                       kFilterAlgorithm, &filter),
        kWhat));
    return std::max({forward, data, filter});
  }

  Status compare(const std::uint8_t* labels, float* gradient, device::LossSums* sums) {
    const auto classes = static_cast<unsigned>(layers_.back().spec.output.size());
    return cuda_status(device::softmax_cross_entropy({features_.back().data(), labels,
                                                      static_cast<unsigned>(batch_), classes, gradient, sums},
                                                     stream_),
                       "the loss");
  }

  Status forward(Mode mode, const float* parameters) {
    NANDUTI_CHECK(batch_ > 0);
    for (std::size_t i = 0; i < layers_.size(); ++i)
      NANDUTI_RETURN_IF_ERROR(forward(layers_[i], mode, parameters, features_[i + 1].data()));
    return {};
  }

  Status forward(Layer& layer, Mode mode, const float* parameters, float* y) {
    const NetworkLayer& spec = layer.spec;
    const float* x = features_[spec.source].data();
    switch (spec.kind) {
      case LayerKind::kConv2d:
        NANDUTI_RETURN_IF_ERROR(
            cudnn_status(cudnnConvolutionForward(cudnn_.get(), &kOne, layer.x.get(), x, layer.filter.get(),
                                                 parameters + spec.weight_offset, layer.convolution.get(),
                                                 kForwardAlgorithm, workspace_.data(), workspace_bytes_,
                                                 &kZero, layer.y.get(), y),
                         "a convolution"));
        return spec.has_bias ? add(layer.channels, parameters + spec.bias_offset, kOne, layer.y, y)
                             : Status();
      case LayerKind::kDense:
        NANDUTI_RETURN_IF_ERROR(multiply(CUBLAS_OP_T, CUBLAS_OP_N, spec.output.size(), batch_,
                                         spec.input.size(), parameters + spec.weight_offset,
                                         spec.input.size(), x, spec.input.size(), kZero, y));
        return add(layer.channels, parameters + spec.bias_offset, kOne, layer.y, y);
      case LayerKind::kRelu:
        return cudnn_status(cudnnActivationForward(cudnn_.get(), relu_.get(), &kOne, layer.x.get(), x, &kZero,
                                                   layer.y.get(), y),
                            "a relu");
      case LayerKind::kMaxPool:
      case LayerKind::kAveragePool:
      case LayerKind::kGlobalAveragePool:
        return cudnn_status(cudnnPoolingForward(cudnn_.get(), layer.pooling.get(), &kOne, layer.x.get(), x,
                                                &kZero, layer.y.get(), y),
                            "a pool");
      case LayerKind::kFlatten:
        return copy(spec, x, y);
      case LayerKind::kAdd:
        NANDUTI_RETURN_IF_ERROR(copy(spec, x, y));
        return add(layer.x, features_[spec.addend].data(), kOne, layer.y, y);
      case LayerKind::kBatchNorm:
        return mode == Mode::kTraining ? norm_by_batch(layer, parameters, x, y)
                                       : norm_by_running(layer, parameters, x, y);
    }
    return {};
  }

  Status norm_by_batch(Layer& layer, const float* parameters, const float* x, float* y) {
    const NetworkLayer& spec = layer.spec;
    // By a factor of 1 the running ones become the batch's: 0 times what was there, and that, are to be 0.
    NANDUTI_RETURN_IF_ERROR(layer.batch_mean.clear(spec.input.channels, stream_));
    NANDUTI_RETURN_IF_ERROR(layer.batch_variance.clear(spec.input.channels, stream_));
    return cudnn_status(
        cudnnBatchNormalizationForwardTraining(
            cudnn_.get(), kNormMode, &kOne, &kZero, layer.x.get(), x, layer.y.get(), y, layer.channels.get(),
            parameters + spec.weight_offset, parameters + spec.bias_offset, 1.0, layer.batch_mean.data(),
            layer.batch_variance.data(), spec.epsilon, layer.saved_mean.data(), layer.saved_inverse.data()),
        "a batch norm");
  }

  Status norm_by_running(const Layer& layer, const float* parameters, const float* x, float* y) {
    const NetworkLayer& spec = layer.spec;
    float* const variance = layer.batch_variance.data();
    NANDUTI_RETURN_IF_ERROR(cuda_status(
        device::at_least_zero(parameters + spec.variance_offset, variance, spec.input.channels, stream_),
        "running variances"));
    return cudnn_status(
        cudnnBatchNormalizationForwardInference(
            cudnn_.get(), kNormMode, &kOne, &kZero, layer.x.get(), x, layer.y.get(), y, layer.channels.get(),
            parameters + spec.weight_offset, parameters + spec.bias_offset, parameters + spec.mean_offset,
            variance, spec.epsilon),
        "a batch norm");
  }

  Status backward(const Layer& layer, const float* y, const float* dy, const float* parameters,
                  float* gradient) {
    const NetworkLayer& spec = layer.spec;
    const float* x = features_[spec.source].data();
    switch (spec.kind) {
      case LayerKind::kConv2d:
        return convolution_backward(layer, x, dy, parameters, gradient);
      case LayerKind::kDense:
        return dense_backward(layer, x, dy, parameters, gradient);
      case LayerKind::kBatchNorm:
        return batch_norm_backward(layer, x, dy, parameters, gradient);
      case LayerKind::kRelu: {
        const float beta = claim(spec.source);
        return cudnn_status(
            cudnnActivationBackward(cudnn_.get(), relu_.get(), &kOne, layer.y.get(), y, layer.y.get(), dy,
                                    layer.x.get(), x, &beta, layer.x.get(), gradients_[spec.source].data()),
            "a relu's gradient");
      }
      case LayerKind::kMaxPool:
      case LayerKind::kAveragePool:
      case LayerKind::kGlobalAveragePool: {
        const float beta = claim(spec.source);
        return cudnn_status(
            cudnnPoolingBackward(cudnn_.get(), layer.pooling.get(), &kOne, layer.y.get(), y, layer.y.get(),
                                 dy, layer.x.get(), x, &beta, layer.x.get(), gradients_[spec.source].data()),
            "a pool's gradient");
      }
      case LayerKind::kFlatten:
        return add(layer.x, dy, claim(spec.source), layer.x, gradients_[spec.source].data());
      case LayerKind::kAdd:
        for (const std::size_t source : {spec.source, spec.addend}) {
          if (!depends_[source]) continue;
          NANDUTI_RETURN_IF_ERROR(add(layer.x, dy, claim(source), layer.x, gradients_[source].data()));
        }
        return {};
    }
    return {};
  }

  Status convolution_backward(const Layer& layer, const float* x, const float* dy, const float* parameters,
                              float* gradient) {
    const NetworkLayer& spec = layer.spec;
    NANDUTI_RETURN_IF_ERROR(
        cudnn_status(cudnnConvolutionBackwardFilter(cudnn_.get(), &kOne, layer.x.get(), x, layer.y.get(), dy,
                                                    layer.convolution.get(), kFilterAlgorithm,
                                                    workspace_.data(), workspace_bytes_, &kZero,
                                                    layer.filter.get(), gradient + spec.weight_offset),
                     "a convolution's gradient"));
    if (spec.has_bias) NANDUTI_RETURN_IF_ERROR(bias_backward(layer, dy, gradient));
    if (!depends_[spec.source]) return {};
    const float beta = claim(spec.source);
    return cudnn_status(cudnnConvolutionBackwardData(
                            cudnn_.get(), &kOne, layer.filter.get(), parameters + spec.weight_offset,
                            layer.y.get(), dy, layer.convolution.get(), kDataAlgorithm, workspace_.data(),
                            workspace_bytes_, &beta, layer.x.get(), gradients_[spec.source].data()),
                        "a convolution's gradient");
  }

  Status dense_backward(const Layer& layer, const float* x, const float* dy, const float* parameters,
                        float* gradient) {
    const NetworkLayer& spec = layer.spec;
    const std::size_t in = spec.input.size(), out = spec.output.size();
    NANDUTI_RETURN_IF_ERROR(multiply(CUBLAS_OP_N, CUBLAS_OP_T, in, out, batch_, x, in, dy, out, kZero,
                                     gradient + spec.weight_offset));
    NANDUTI_RETURN_IF_ERROR(bias_backward(layer, dy, gradient));
    if (!depends_[spec.source]) return {};
    return multiply(CUBLAS_OP_N, CUBLAS_OP_N, in, batch_, out, parameters + spec.weight_offset, in, dy, out,
                    claim(spec.source), gradients_[spec.source].data());
  }

  Status bias_backward(const Layer& layer, const float* dy, float* gradient) {
    return cudnn_status(cudnnConvolutionBackwardBias(cudnn_.get(), &kOne, layer.y.get(), dy, &kZero,
                                                     layer.channels.get(), gradient + layer.spec.bias_offset),
                        "a bias's gradient");
  }

  Status batch_norm_backward(const Layer& layer, const float* x, const float* dy, const float* parameters,
                             float* gradient) {
    const NetworkLayer& spec = layer.spec;
    const float beta = depends_[spec.source] ? claim(spec.source) : 0.0f;
    NANDUTI_RETURN_IF_ERROR(cudnn_status(
        cudnnBatchNormalizationBackward(cudnn_.get(), kNormMode, &kOne, &beta, &kOne, &kZero, layer.x.get(),
                                        x, layer.y.get(), dy, layer.x.get(), gradients_[spec.source].data(),
                                        layer.channels.get(), parameters + spec.weight_offset,
                                        gradient + spec.weight_offset, gradient + spec.bias_offset,
                                        spec.epsilon, layer.saved_mean.data(), layer.saved_inverse.data()),
        "a batch norm's gradient"));
    const bool says_something = batch_ * spec.input.height * spec.input.width > 1;
    const auto momentum = static_cast<float>(says_something ? spec.momentum : 0.0);
    const auto change = [&](std::uint64_t offset, const DeviceBuffer<float>& of_batch) {
      return cuda_status(device::statistics_change(parameters + offset, of_batch.data(), momentum,
                                                   gradient + offset, spec.input.channels, stream_),
                         "running statistics");
    };
    NANDUTI_RETURN_IF_ERROR(change(spec.mean_offset, layer.batch_mean));
    return change(spec.variance_offset, layer.batch_variance);
  }

  /// What counts of the gradient that is there: nothing, for the first layer that gives one.
  float claim(std::size_t features) {
    const bool was_written = written_[features];
    written_[features] = true;
    return was_written ? 1.0f : 0.0f;
  }

  /// to = what + beta to, `what` spread over the sides in which it has one value.
  Status add(const device::Tensor& shape, const float* what, float beta, const device::Tensor& to_shape,
             float* to) {
    return cudnn_status(cudnnAddTensor(cudnn_.get(), &kOne, shape.get(), what, &beta, to_shape.get(), to),
                        "a sum");
  }

  Status copy(const NetworkLayer& spec, const float* from, float* to) {
    return cuda_status(cudaMemcpyAsync(to, from, batch_ * spec.output.size() * sizeof(float),
                                       cudaMemcpyDeviceToDevice, stream_),
                       "copying features");
  }

  /// c = op(a) op(b) + beta c, by columns: what we have by rows is transposed there. c is rows x columns.
  Status multiply(cublasOperation_t op_a, cublasOperation_t op_b, std::size_t rows, std::size_t columns,
                  std::size_t inner, const float* a, std::size_t a_stride, const float* b,
                  std::size_t b_stride, float beta, float* c) {
    return cublas_status(
        cublasSgemm_v2(cublas_.get(), op_a, op_b, as_int(rows), as_int(columns), as_int(inner), &kOne, a,
                       as_int(a_stride), b, as_int(b_stride), &beta, c, as_int(rows)),
        "a product of matrices");
  }

  NetworkDescription description_;
  cudaStream_t stream_;
  device::CudnnHandle cudnn_;
  device::CublasHandle cublas_;
  device::Activation relu_;
  std::vector<Layer> layers_;
  std::vector<DeviceBuffer<float>> features_,
      gradients_;              // of the loss, by features that depend on parameters
  std::vector<bool> depends_;  // on parameters, each features
  std::vector<bool> written_;  // gradients that hold something already, while they are computed
  DeviceBuffer<std::byte> workspace_;
  std::size_t workspace_bytes_ = 0;
  std::size_t batch_ = 0;
};

DeviceNetwork::DeviceNetwork(std::unique_ptr<Plan> plan) : plan_(std::move(plan)) {}
DeviceNetwork::~DeviceNetwork() = default;

Result<std::unique_ptr<DeviceNetwork>> DeviceNetwork::create(const NetworkDescription& description,
                                                             cudaStream_t stream,
                                                             const DeviceNetworkOptions& options) {
  NANDUTI_CHECK(!description.layers.empty());
  auto plan = std::make_unique<Plan>(description, stream);
  NANDUTI_RETURN_IF_ERROR(plan->prepare(options));
  return std::unique_ptr<DeviceNetwork>(new DeviceNetwork(std::move(plan)));
}

Result<float*> DeviceNetwork::images(std::size_t batch) { return plan_->images(batch); }

Status DeviceNetwork::loss(const float* parameters, const std::uint8_t* labels, device::LossSums* sums) {
  return plan_->loss(parameters, labels, sums);
}

Status DeviceNetwork::gradient(const float* parameters, const std::uint8_t* labels, float* gradient,
                               device::LossSums* sums) {
  return plan_->gradient(parameters, labels, gradient, sums);
}

}  // namespace nanduti
