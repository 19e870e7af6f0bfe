// The part of cuDNN 9 that cuda/ uses, on the CPU: float tensors, images by rows (NCHW), sums in double.
// Every algorithm of a convolution computes the same; all but the implicit one want a workspace, and write
// all of it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include <cudnn.h>

#include "test/fakecuda/library.h"
#include "test/fakecuda/tf32.h"

struct cudnnContext {
  cudaStream_t stream = nullptr;
};
struct cudnnTensorStruct {
  std::size_t n = 0, c = 0, h = 0, w = 0;
  [[nodiscard]] std::size_t size() const { return n * c * h * w; }
  friend bool operator==(const cudnnTensorStruct&, const cudnnTensorStruct&) = default;
};
struct cudnnFilterStruct {
  std::size_t k = 0, c = 0, h = 0, w = 0;
  [[nodiscard]] std::size_t size() const { return k * c * h * w; }
};
/// Of a convolution or a pooling window.
struct Steps {
  std::size_t padding_h = 0, padding_w = 0, stride_h = 1, stride_w = 1;
};
struct cudnnConvolutionStruct {
  Steps steps;
  bool tf32 = true;  // CUDNN_DEFAULT_MATH
};
struct cudnnPoolingStruct {
  cudnnPoolingMode_t mode = CUDNN_POOLING_MAX_DETERMINISTIC;
  bool propagates_nan = true;
  std::size_t h = 0, w = 0;
  Steps steps;
};
struct cudnnActivationStruct {
  bool propagates_nan = true;
};

namespace {

using namespace nanduti::fakecuda;

cudnnStatus_t cudnn_entered(const char* function) {
  switch (entered(function)) {
    case cudaSuccess:
      return CUDNN_STATUS_SUCCESS;
    case cudaErrorMemoryAllocation:
      return CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    default:
      return CUDNN_STATUS_EXECUTION_FAILED;
  }
}

/// An object that is made empty.
template <class Object>
cudnnStatus_t make(const char* function, const char* kind, Object** to) {
  *to = nullptr;
  if (const cudnnStatus_t status = cudnn_entered(function); status != CUDNN_STATUS_SUCCESS) return status;
  *to = new Object();
  made(kind);
  return CUDNN_STATUS_SUCCESS;
}
template <class Object>
cudnnStatus_t unmake(const char* kind, Object* object) {
  if (object == nullptr) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
  delete object;
  given_back(kind);
  return CUDNN_STATUS_SUCCESS;
}

std::size_t size_of(int value) { return static_cast<std::size_t>(value); }

/// result = alpha * computed + beta * what was there, which is not read for beta 0.
class Blend {
 public:
  Blend(const void* alpha, const void* beta)
      : alpha_(static_cast<double>(*static_cast<const float*>(alpha))),
        beta_(static_cast<double>(*static_cast<const float*>(beta))) {}
  void write(const std::vector<double>& computed, void* to) const {
    auto* values = static_cast<float*>(to);
    for (std::size_t i = 0; i < computed.size(); ++i) {
      const double before = beta_ == 0 ? 0 : beta_ * static_cast<double>(values[i]);
      values[i] = static_cast<float>(alpha_ * computed[i] + before);
    }
  }

 private:
  double alpha_, beta_;
};

enum class Access : std::uint8_t {
  kIn,
  kOut,       // shares no memory with another operand
  kOutOverIn  // may be the same as one
};

struct Values {
  const char* name;
  const void* address;
  std::size_t count;
  Access access = Access::kIn;
  [[nodiscard]] Operand operand() const { return {name, address, count * sizeof(float)}; }
  [[nodiscard]] double at(std::size_t i) const {
    return static_cast<double>(static_cast<const float*>(address)[i]);
  }
};

/// Whether what one operand writes another one reads, or writes.
bool are_entangled(const std::vector<Values>& operands) {
  for (const Values& out : operands) {
    if (out.access == Access::kIn) continue;
    for (const Values& other : operands) {
      if (&other == &out || !overlap(out.operand(), other.operand())) continue;
      const bool is_same = out.address == other.address && out.count == other.count;
      if (out.access == Access::kOut || !is_same) return true;
    }
  }
  return false;
}

/// Hands `compute` over; it runs if all operands are device memory.
template <class Compute>
cudnnStatus_t work(cudnnHandle_t handle, const char* function, std::vector<Values> operands,
                   Compute compute) {
  if (const cudnnStatus_t status = cudnn_entered(function); status != CUDNN_STATUS_SUCCESS) return status;
  if (are_entangled(operands)) return CUDNN_STATUS_BAD_PARAM;
  const bool known = hand_over(handle->stream, [function, operands = std::move(operands), compute] {
    for (const Values& operand : operands)
      if (!is_there(function, operand.operand())) return;
    compute();
  });
  return known ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

/// How many windows fit along a side.
std::size_t windows(std::size_t side, std::size_t kernel, std::size_t padding, std::size_t stride) {
  return side + 2 * padding < kernel ? 0 : (side + 2 * padding - kernel) / stride + 1;
}

/// Calls visit(index in y, index in x, index in w) for every product of a cross-correlation.
template <class Visit>
void for_each_product(const cudnnTensorStruct& x, const cudnnFilterStruct& w, const Steps& steps,
                      const cudnnTensorStruct& y, Visit visit) {
  for (std::size_t n = 0; n < y.n; ++n)
    for (std::size_t k = 0; k < y.c; ++k)
      for (std::size_t oh = 0; oh < y.h; ++oh)
        for (std::size_t ow = 0; ow < y.w; ++ow)
          for (std::size_t c = 0; c < x.c; ++c)
            for (std::size_t kh = 0; kh < w.h; ++kh)
              for (std::size_t kw = 0; kw < w.w; ++kw) {
                // Beyond the image's begin it wraps to a huge number.
                const std::size_t ih = oh * steps.stride_h + kh - steps.padding_h;
                const std::size_t iw = ow * steps.stride_w + kw - steps.padding_w;
                if (ih >= x.h || iw >= x.w) continue;
                visit(((n * y.c + k) * y.h + oh) * y.w + ow, ((n * x.c + c) * x.h + ih) * x.w + iw,
                      ((k * w.c + c) * w.h + kh) * w.w + kw);
              }
}

bool is_convolution(const cudnnTensorStruct& x, const cudnnFilterStruct& w, const Steps& steps,
                    const cudnnTensorStruct& y) {
  return y == cudnnTensorStruct{x.n, w.k, windows(x.h, w.h, steps.padding_h, steps.stride_h),
                                windows(x.w, w.w, steps.padding_w, steps.stride_w)} &&
         x.c == w.c && y.size() > 0;
}

enum class Operation : std::uint8_t { kForward, kData, kFilter };

/// What an operation wants of room, in bytes: something else for each, and for each batch.
std::size_t workspace_bytes(Operation operation, const cudnnTensorStruct& x, const cudnnFilterStruct& w,
                            const cudnnTensorStruct& y, int algorithm) {
  if (algorithm == 0) return 0;
  const std::size_t of_batch = operation == Operation::kForward ? y.n
                               : operation == Operation::kData  ? x.n * x.c
                                                                : w.size() + y.n;
  return sizeof(float) * (w.size() + of_batch);
}

/// What two tensors of a convolution say of the third: `visit` adds to one value of the result.
struct Convolution {
  const char* function;
  Operation operation;
  cudnnTensorStruct x, y;
  cudnnFilterStruct w;
  cudnnConvolutionStruct by;
  int algorithm;
  void* workspace;
  std::size_t workspace_bytes_given;

  /// A factor of a product.
  [[nodiscard]] double factor(const Values& values, std::size_t i) const {
    return by.tf32 ? static_cast<double>(as_tf32(static_cast<float>(values.at(i)))) : values.at(i);
  }

  template <class Visit>
  cudnnStatus_t compute(cudnnHandle_t handle, std::vector<Values> operands, std::size_t result_size,
                        Blend blend, void* result, Visit visit) const {
    if (!is_convolution(x, w, by.steps, y)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    const std::size_t needed = workspace_bytes(operation, x, w, y, algorithm);
    if (workspace_bytes_given < needed) return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
    operands.push_back({"workspace", workspace, needed / sizeof(float), Access::kOut});
    return work(handle, function, std::move(operands),
                [of = *this, needed, result_size, blend, result, visit] {
                  if (needed > 0) std::memset(of.workspace, 0xFF, needed);
                  std::vector<double> sums(result_size, 0.0);
                  for_each_product(
                      of.x, of.w, of.by.steps, of.y,
                      [&](std::size_t iy, std::size_t ix, std::size_t iw) { visit(of, sums, iy, ix, iw); });
                  blend.write(sums, result);
                });
  }
};

/// Calls visit(index in y, index in x) for every pixel of every window that lies in the image.
template <class Visit>
void for_each_pixel(const cudnnPoolingStruct& pool, const cudnnTensorStruct& x, const cudnnTensorStruct& y,
                    Visit visit) {
  for (std::size_t plane = 0; plane < y.n * y.c; ++plane)
    for (std::size_t oh = 0; oh < y.h; ++oh)
      for (std::size_t ow = 0; ow < y.w; ++ow)
        for (std::size_t kh = 0; kh < pool.h; ++kh)
          for (std::size_t kw = 0; kw < pool.w; ++kw) {
            const std::size_t ih = oh * pool.steps.stride_h + kh - pool.steps.padding_h;
            const std::size_t iw = ow * pool.steps.stride_w + kw - pool.steps.padding_w;
            if (ih < x.h && iw < x.w) visit((plane * y.h + oh) * y.w + ow, (plane * x.h + ih) * x.w + iw);
          }
}

bool is_pooling(const cudnnPoolingStruct& pool, const cudnnTensorStruct& x, const cudnnTensorStruct& y) {
  return y == cudnnTensorStruct{x.n, x.c, windows(x.h, pool.h, pool.steps.padding_h, pool.steps.stride_h),
                                windows(x.w, pool.w, pool.steps.padding_w, pool.steps.stride_w)} &&
         y.size() > 0;
}

/// Which pixel gives each output; the first of equals, and what is no number before all numbers if that is
/// wanted.
std::vector<std::size_t> best_pixels(const cudnnPoolingStruct& pool, const cudnnTensorStruct& shape_x,
                                     const cudnnTensorStruct& shape_y, const Values& x) {
  constexpr std::size_t kNone = ~std::size_t{0};
  std::vector<std::size_t> best(shape_y.size(), kNone);
  for_each_pixel(pool, shape_x, shape_y, [&](std::size_t iy, std::size_t ix) {
    if (best[iy] != kNone && std::isnan(x.at(best[iy])) && pool.propagates_nan) return;
    const bool is_no_number = std::isnan(x.at(ix)) && pool.propagates_nan;
    if (best[iy] == kNone || is_no_number || x.at(ix) > x.at(best[iy])) best[iy] = ix;
  });
  return best;
}

std::vector<double> pixels_of_windows(const cudnnPoolingStruct& pool, const cudnnTensorStruct& x,
                                      const cudnnTensorStruct& y) {
  std::vector<double> counts(y.size(), 0.0);
  for_each_pixel(pool, x, y, [&](std::size_t iy, std::size_t) { counts[iy] += 1; });
  return counts;
}

/// Calls visit(channel, index) for every value.
template <class Visit>
void for_each_value(const cudnnTensorStruct& x, Visit visit) {
  for (std::size_t i = 0; i < x.size(); ++i) visit(i / (x.h * x.w) % x.c, i);
}

bool is_per_channel(const cudnnTensorStruct& statistics, const cudnnTensorStruct& x) {
  return statistics == cudnnTensorStruct{1, x.c, 1, 1};
}

}  // namespace

extern "C" {

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH:
      return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT:
      return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
      return "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED";
    case CUDNN_STATUS_NOT_SUPPORTED:
      return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_EXECUTION_FAILED:
      return "CUDNN_STATUS_EXECUTION_FAILED";
    default:
      return "an error that the fake cuDNN does not know";
  }
}

// ---- handles and descriptors ----

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return make("cudnnCreate", "cuDNN handles", handle); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return unmake("cuDNN handles", handle); }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (const cudnnStatus_t status = cudnn_entered("cudnnSetStream"); status != CUDNN_STATUS_SUCCESS)
    return status;
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* descriptor) {
  return make("cudnnCreateTensorDescriptor", "cuDNN tensors", descriptor);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t descriptor) {
  return unmake("cuDNN tensors", descriptor);
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t descriptor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  if (format != CUDNN_TENSOR_NCHW || type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
  if (n <= 0 || c <= 0 || h <= 0 || w <= 0) return CUDNN_STATUS_BAD_PARAM;
  *descriptor = {size_of(n), size_of(c), size_of(h), size_of(w)};
  return cudnn_entered("cudnnSetTensor4dDescriptor");
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* descriptor) {
  return make("cudnnCreateFilterDescriptor", "cuDNN filters", descriptor);
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t descriptor) {
  return unmake("cuDNN filters", descriptor);
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t descriptor, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  if (format != CUDNN_TENSOR_NCHW || type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
  if (k <= 0 || c <= 0 || h <= 0 || w <= 0) return CUDNN_STATUS_BAD_PARAM;
  *descriptor = {size_of(k), size_of(c), size_of(h), size_of(w)};
  return cudnn_entered("cudnnSetFilter4dDescriptor");
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* descriptor) {
  return make("cudnnCreateConvolutionDescriptor", "cuDNN convolutions", descriptor);
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t descriptor) {
  return unmake("cuDNN convolutions", descriptor);
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t descriptor, int pad_h, int pad_w,
                                              int u, int v, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t type) {
  if (pad_h < 0 || pad_w < 0 || u <= 0 || v <= 0) return CUDNN_STATUS_BAD_PARAM;
  // A convolution proper turns the filter round.
  if (dilation_h != 1 || dilation_w != 1 || mode != CUDNN_CROSS_CORRELATION || type != CUDNN_DATA_FLOAT)
    return CUDNN_STATUS_NOT_SUPPORTED;
  descriptor->steps = {size_of(pad_h), size_of(pad_w), size_of(u), size_of(v)};
  return cudnn_entered("cudnnSetConvolution2dDescriptor");
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t descriptor, cudnnMathType_t type) {
  if (type != CUDNN_FMA_MATH && type != CUDNN_DEFAULT_MATH) return CUDNN_STATUS_NOT_SUPPORTED;
  descriptor->tf32 = type == CUDNN_DEFAULT_MATH;
  return cudnn_entered("cudnnSetConvolutionMathType");
}

cudnnStatus_t cudnnCreatePoolingDescriptor(cudnnPoolingDescriptor_t* descriptor) {
  return make("cudnnCreatePoolingDescriptor", "cuDNN poolings", descriptor);
}
cudnnStatus_t cudnnDestroyPoolingDescriptor(cudnnPoolingDescriptor_t descriptor) {
  return unmake("cuDNN poolings", descriptor);
}
cudnnStatus_t cudnnSetPooling2dDescriptor(cudnnPoolingDescriptor_t descriptor, cudnnPoolingMode_t mode,
                                          cudnnNanPropagation_t nan, int height, int width, int padding_h,
                                          int padding_w, int stride_h, int stride_w) {
  if (height <= 0 || width <= 0 || padding_h < 0 || padding_w < 0 || stride_h <= 0 || stride_w <= 0)
    return CUDNN_STATUS_BAD_PARAM;
  if (mode != CUDNN_POOLING_MAX_DETERMINISTIC && mode != CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING)
    return CUDNN_STATUS_NOT_SUPPORTED;
  *descriptor = {mode,
                 nan == CUDNN_PROPAGATE_NAN,
                 size_of(height),
                 size_of(width),
                 {size_of(padding_h), size_of(padding_w), size_of(stride_h), size_of(stride_w)}};
  return cudnn_entered("cudnnSetPooling2dDescriptor");
}

cudnnStatus_t cudnnCreateActivationDescriptor(cudnnActivationDescriptor_t* descriptor) {
  return make("cudnnCreateActivationDescriptor", "cuDNN activations", descriptor);
}
cudnnStatus_t cudnnDestroyActivationDescriptor(cudnnActivationDescriptor_t descriptor) {
  return unmake("cuDNN activations", descriptor);
}
cudnnStatus_t cudnnSetActivationDescriptor(cudnnActivationDescriptor_t descriptor, cudnnActivationMode_t mode,
                                           cudnnNanPropagation_t nan, double /*coefficient*/) {
  if (mode != CUDNN_ACTIVATION_RELU) return CUDNN_STATUS_NOT_SUPPORTED;
  descriptor->propagates_nan = nan == CUDNN_PROPAGATE_NAN;
  return cudnn_entered("cudnnSetActivationDescriptor");
}

// ---- convolutions ----

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t /*handle*/,
                                                      const cudnnTensorDescriptor_t x,
                                                      const cudnnFilterDescriptor_t w,
                                                      const cudnnConvolutionDescriptor_t convolution,
                                                      const cudnnTensorDescriptor_t y,
                                                      cudnnConvolutionFwdAlgo_t algorithm, size_t* bytes) {
  if (!is_convolution(*x, *w, convolution->steps, *y)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  *bytes = workspace_bytes(Operation::kForward, *x, *w, *y, algorithm);
  return cudnn_entered("cudnnGetConvolutionForwardWorkspaceSize");
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t /*handle*/, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t convolution, const cudnnTensorDescriptor_t dx,
    cudnnConvolutionBwdDataAlgo_t algorithm, size_t* bytes) {
  if (!is_convolution(*dx, *w, convolution->steps, *dy)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  *bytes = workspace_bytes(Operation::kData, *dx, *w, *dy, algorithm);
  return cudnn_entered("cudnnGetConvolutionBackwardDataWorkspaceSize");
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t /*handle*/, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t convolution, const cudnnFilterDescriptor_t dw,
    cudnnConvolutionBwdFilterAlgo_t algorithm, size_t* bytes) {
  if (!is_convolution(*x, *dw, convolution->steps, *dy)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  *bytes = workspace_bytes(Operation::kFilter, *x, *dw, *dy, algorithm);
  return cudnn_entered("cudnnGetConvolutionBackwardFilterWorkspaceSize");
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha,
                                      const cudnnTensorDescriptor_t xDesc, const void* x,
                                      const cudnnFilterDescriptor_t wDesc, const void* w,
                                      const cudnnConvolutionDescriptor_t convDesc,
                                      cudnnConvolutionFwdAlgo_t algo, void* workSpace,
                                      size_t workSpaceSizeInBytes, const void* beta,
                                      const cudnnTensorDescriptor_t yDesc, void* y) {
  const Values in{"x", x, xDesc->size()}, filter{"w", w, wDesc->size()},
      out{"y", y, yDesc->size(), Access::kOut};
  const Convolution convolution{
      "cudnnConvolutionForward", Operation::kForward, *xDesc, *yDesc, *wDesc, *convDesc, algo, workSpace,
      workSpaceSizeInBytes};
  return convolution.compute(
      handle, {in, filter, out}, out.count, Blend(alpha, beta), y,
      [in, filter](const Convolution& of, std::vector<double>& sums, std::size_t iy, std::size_t ix,
                   std::size_t iw) { sums[iy] += of.factor(filter, iw) * of.factor(in, ix); });
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                           const cudnnFilterDescriptor_t wDesc, const void* w,
                                           const cudnnTensorDescriptor_t dyDesc, const void* dy,
                                           const cudnnConvolutionDescriptor_t convDesc,
                                           cudnnConvolutionBwdDataAlgo_t algo, void* workSpace,
                                           size_t workSpaceSizeInBytes, const void* beta,
                                           const cudnnTensorDescriptor_t dxDesc, void* dx) {
  const Values out{"dy", dy, dyDesc->size()}, filter{"w", w, wDesc->size()},
      in{"dx", dx, dxDesc->size(), Access::kOut};
  const Convolution convolution{"cudnnConvolutionBackwardData",
                                Operation::kData,
                                *dxDesc,
                                *dyDesc,
                                *wDesc,
                                *convDesc,
                                algo,
                                workSpace,
                                workSpaceSizeInBytes};
  return convolution.compute(
      handle, {out, filter, in}, in.count, Blend(alpha, beta), dx,
      [out, filter](const Convolution& of, std::vector<double>& sums, std::size_t iy, std::size_t ix,
                    std::size_t iw) { sums[ix] += of.factor(filter, iw) * of.factor(out, iy); });
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha,
                                             const cudnnTensorDescriptor_t xDesc, const void* x,
                                             const cudnnTensorDescriptor_t dyDesc, const void* dy,
                                             const cudnnConvolutionDescriptor_t convDesc,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void* workSpace,
                                             size_t workSpaceSizeInBytes, const void* beta,
                                             const cudnnFilterDescriptor_t dwDesc, void* dw) {
  const Values in{"x", x, xDesc->size()}, out{"dy", dy, dyDesc->size()},
      filter{"dw", dw, dwDesc->size(), Access::kOut};
  const Convolution convolution{"cudnnConvolutionBackwardFilter",
                                Operation::kFilter,
                                *xDesc,
                                *dyDesc,
                                *dwDesc,
                                *convDesc,
                                algo,
                                workSpace,
                                workSpaceSizeInBytes};
  return convolution.compute(
      handle, {in, out, filter}, filter.count, Blend(alpha, beta), dw,
      [in, out](const Convolution& of, std::vector<double>& sums, std::size_t iy, std::size_t ix,
                std::size_t iw) { sums[iw] += of.factor(in, ix) * of.factor(out, iy); });
}

cudnnStatus_t cudnnConvolutionBackwardBias(cudnnHandle_t handle, const void* alpha,
                                           const cudnnTensorDescriptor_t dyDesc, const void* dy,
                                           const void* beta, const cudnnTensorDescriptor_t dbDesc, void* db) {
  if (!is_per_channel(*dbDesc, *dyDesc)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  const Values out{"dy", dy, dyDesc->size()}, bias{"db", db, dbDesc->size(), Access::kOut};
  return work(handle, "cudnnConvolutionBackwardBias", {out, bias},
              [out, shape = *dyDesc, blend = Blend(alpha, beta), db] {
                std::vector<double> sums(shape.c, 0.0);
                for_each_value(shape, [&](std::size_t c, std::size_t i) { sums[c] += out.at(i); });
                blend.write(sums, db);
              });
}

// ---- what works on single values ----

cudnnStatus_t cudnnAddTensor(cudnnHandle_t handle, const void* alpha, const cudnnTensorDescriptor_t aDesc,
                             const void* A, const void* beta, const cudnnTensorDescriptor_t cDesc, void* C) {
  const auto spreads = [](std::size_t from, std::size_t to) { return from == to || from == 1; };
  if (!spreads(aDesc->n, cDesc->n) || !spreads(aDesc->c, cDesc->c) || !spreads(aDesc->h, cDesc->h) ||
      !spreads(aDesc->w, cDesc->w))
    return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  const Values added{"A", A, aDesc->size()}, sum{"C", C, cDesc->size(), Access::kOut};
  return work(handle, "cudnnAddTensor", {added, sum},
              [added, a = *aDesc, c = *cDesc, blend = Blend(alpha, beta), C] {
                std::vector<double> values(c.size());
                for (std::size_t i = 0; i < values.size(); ++i) {
                  const std::size_t w = i % c.w, h = i / c.w % c.h, k = i / (c.w * c.h) % c.c,
                                    n = i / (c.w * c.h * c.c);
                  values[i] = added.at(((n % a.n * a.c + k % a.c) * a.h + h % a.h) * a.w + w % a.w);
                }
                blend.write(values, C);
              });
}

cudnnStatus_t cudnnActivationForward(cudnnHandle_t handle, cudnnActivationDescriptor_t activation,
                                     const void* alpha, const cudnnTensorDescriptor_t xDesc, const void* x,
                                     const void* beta, const cudnnTensorDescriptor_t yDesc, void* y) {
  if (*xDesc != *yDesc) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  const Values in{"x", x, xDesc->size()}, out{"y", y, yDesc->size(), Access::kOutOverIn};
  return work(handle, "cudnnActivationForward", {in, out},
              [in, blend = Blend(alpha, beta), y, propagates = activation->propagates_nan] {
                std::vector<double> values(in.count);
                for (std::size_t i = 0; i < in.count; ++i) {
                  const bool passes = in.at(i) > 0 || (propagates && std::isnan(in.at(i)));
                  values[i] = passes ? in.at(i) : 0.0;
                }
                blend.write(values, y);
              });
}

cudnnStatus_t cudnnActivationBackward(cudnnHandle_t handle, cudnnActivationDescriptor_t /*activation*/,
                                      const void* alpha, const cudnnTensorDescriptor_t yDesc, const void* y,
                                      const cudnnTensorDescriptor_t dyDesc, const void* dy,
                                      const cudnnTensorDescriptor_t xDesc, const void* x, const void* beta,
                                      const cudnnTensorDescriptor_t dxDesc, void* dx) {
  if (*yDesc != *dyDesc || *xDesc != *dxDesc || *xDesc != *yDesc)
    return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  const Values output{"y", y, yDesc->size()}, out{"dy", dy, dyDesc->size()}, input{"x", x, xDesc->size()},
      in{"dx", dx, dxDesc->size(), Access::kOutOverIn};
  return work(handle, "cudnnActivationBackward", {output, out, input, in},
              [output, out, blend = Blend(alpha, beta), dx] {
                std::vector<double> values(out.count);
                for (std::size_t i = 0; i < out.count; ++i) values[i] = output.at(i) > 0 ? out.at(i) : 0.0;
                blend.write(values, dx);
              });
}

// ---- pooling ----

cudnnStatus_t cudnnPoolingForward(cudnnHandle_t handle, const cudnnPoolingDescriptor_t poolingDesc,
                                  const void* alpha, const cudnnTensorDescriptor_t xDesc, const void* x,
                                  const void* beta, const cudnnTensorDescriptor_t yDesc, void* y) {
  if (!is_pooling(*poolingDesc, *xDesc, *yDesc)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  const Values in{"x", x, xDesc->size()}, out{"y", y, yDesc->size(), Access::kOut};
  return work(handle, "cudnnPoolingForward", {in, out},
              [in, pool = *poolingDesc, from = *xDesc, to = *yDesc, blend = Blend(alpha, beta), y] {
                std::vector<double> values(to.size(), 0.0);
                if (pool.mode == CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING) {
                  const auto counts = pixels_of_windows(pool, from, to);
                  for_each_pixel(pool, from, to, [&](std::size_t iy, std::size_t ix) {
                    values[iy] += in.at(ix) / counts[iy];
                  });
                } else {
                  const auto best = best_pixels(pool, from, to, in);
                  for (std::size_t i = 0; i < values.size(); ++i) values[i] = in.at(best[i]);
                }
                blend.write(values, y);
              });
}

cudnnStatus_t cudnnPoolingBackward(cudnnHandle_t handle, const cudnnPoolingDescriptor_t poolingDesc,
                                   const void* alpha, const cudnnTensorDescriptor_t yDesc, const void* y,
                                   const cudnnTensorDescriptor_t dyDesc, const void* dy,
                                   const cudnnTensorDescriptor_t xDesc, const void* x, const void* beta,
                                   const cudnnTensorDescriptor_t dxDesc, void* dx) {
  if (!is_pooling(*poolingDesc, *xDesc, *yDesc) || *dyDesc != *yDesc || *dxDesc != *xDesc)
    return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  const Values output{"y", y, yDesc->size()}, out{"dy", dy, dyDesc->size()}, in{"x", x, xDesc->size()},
      result{"dx", dx, dxDesc->size(), Access::kOut};
  return work(handle, "cudnnPoolingBackward", {output, out, in, result},
              [out, in, pool = *poolingDesc, from = *xDesc, to = *yDesc, blend = Blend(alpha, beta), dx] {
                std::vector<double> values(from.size(), 0.0);
                if (pool.mode == CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING) {
                  const auto counts = pixels_of_windows(pool, from, to);
                  for_each_pixel(pool, from, to, [&](std::size_t iy, std::size_t ix) {
                    values[ix] += out.at(iy) / counts[iy];
                  });
                } else {
                  const auto best = best_pixels(pool, from, to, in);
                  for (std::size_t i = 0; i < best.size(); ++i) values[best[i]] += out.at(i);
                }
                blend.write(values, dx);
              });
}

// ---- batch norm: CUDNN_BATCHNORM_SPATIAL and its persistent kind ----

cudnnStatus_t cudnnBatchNormalizationForwardTraining(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, const void* alpha, const void* beta,
    const cudnnTensorDescriptor_t xDesc, const void* x, const cudnnTensorDescriptor_t yDesc, void* y,
    const cudnnTensorDescriptor_t bnScaleBiasMeanVarDesc, const void* bnScale, const void* bnBias,
    double exponentialAverageFactor, void* resultRunningMean, void* resultRunningVariance, double epsilon,
    void* resultSaveMean, void* resultSaveInvVariance) {
  if (mode == CUDNN_BATCHNORM_PER_ACTIVATION) return CUDNN_STATUS_NOT_SUPPORTED;
  if (*xDesc != *yDesc || !is_per_channel(*bnScaleBiasMeanVarDesc, *xDesc))
    return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  if ((resultRunningMean == nullptr) != (resultRunningVariance == nullptr) ||
      (resultSaveMean == nullptr) != (resultSaveInvVariance == nullptr))
    return CUDNN_STATUS_BAD_PARAM;
  const std::size_t channels = xDesc->c;
  const auto optional = [channels](const void* address) { return address == nullptr ? 0 : channels; };
  const Values in{"x", x, xDesc->size()}, scale{"scale", bnScale, channels}, bias{"bias", bnBias, channels};
  return work(handle, "cudnnBatchNormalizationForwardTraining",
              {in,
               scale,
               bias,
               {"y", y, yDesc->size(), Access::kOut},
               {"running mean", resultRunningMean, optional(resultRunningMean), Access::kOut},
               {"running variance", resultRunningVariance, optional(resultRunningVariance), Access::kOut},
               {"saved mean", resultSaveMean, optional(resultSaveMean), Access::kOut},
               {"saved inverse", resultSaveInvVariance, optional(resultSaveInvVariance), Access::kOut}},
              [=, shape = *xDesc, blend = Blend(alpha, beta)] {
                const auto count = static_cast<double>(shape.n * shape.h * shape.w);
                std::vector<double> mean(shape.c, 0.0), variance(shape.c, 0.0), inverse(shape.c),
                    values(in.count);
                for_each_value(shape, [&](std::size_t c, std::size_t i) { mean[c] += in.at(i) / count; });
                for_each_value(shape, [&](std::size_t c, std::size_t i) {
                  variance[c] += (in.at(i) - mean[c]) * (in.at(i) - mean[c]) / count;
                });
                for (std::size_t c = 0; c < shape.c; ++c) inverse[c] = 1 / std::sqrt(variance[c] + epsilon);
                for_each_value(shape, [&](std::size_t c, std::size_t i) {
                  values[i] = (in.at(i) - mean[c]) * inverse[c] * scale.at(c) + bias.at(c);
                });
                blend.write(values, y);
                const auto set = [&](void* to, std::size_t c, double value) {
                  if (to != nullptr) static_cast<float*>(to)[c] = static_cast<float>(value);
                };
                const auto average = [&](void* to, std::size_t c, double value) {
                  if (to == nullptr) return;
                  const double before = static_cast<double>(static_cast<float*>(to)[c]);
                  // As it is written: 0 times what is no number is none.
                  set(to, c, value * exponentialAverageFactor + before * (1 - exponentialAverageFactor));
                };
                for (std::size_t c = 0; c < shape.c; ++c) {
                  average(resultRunningMean, c, mean[c]);
                  average(resultRunningVariance, c, variance[c] * count / (count - 1));  // of one value: none
                  set(resultSaveMean, c, mean[c]);
                  set(resultSaveInvVariance, c, inverse[c]);
                }
              });
}

cudnnStatus_t cudnnBatchNormalizationForwardInference(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, const void* alpha, const void* beta,
    const cudnnTensorDescriptor_t xDesc, const void* x, const cudnnTensorDescriptor_t yDesc, void* y,
    const cudnnTensorDescriptor_t bnScaleBiasMeanVarDesc, const void* bnScale, const void* bnBias,
    const void* estimatedMean, const void* estimatedVariance, double epsilon) {
  if (mode == CUDNN_BATCHNORM_PER_ACTIVATION) return CUDNN_STATUS_NOT_SUPPORTED;
  if (*xDesc != *yDesc || !is_per_channel(*bnScaleBiasMeanVarDesc, *xDesc))
    return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  const std::size_t channels = xDesc->c;
  const Values in{"x", x, xDesc->size()}, scale{"scale", bnScale, channels}, bias{"bias", bnBias, channels},
      mean{"mean", estimatedMean, channels}, variance{"variance", estimatedVariance, channels};
  return work(handle, "cudnnBatchNormalizationForwardInference",
              {in, scale, bias, mean, variance, {"y", y, yDesc->size(), Access::kOut}},
              [=, shape = *xDesc, blend = Blend(alpha, beta)] {
                std::vector<double> values(in.count);
                for_each_value(shape, [&](std::size_t c, std::size_t i) {
                  values[i] = (in.at(i) - mean.at(c)) / std::sqrt(variance.at(c) + epsilon) * scale.at(c) +
                              bias.at(c);
                });
                blend.write(values, y);
              });
}

cudnnStatus_t cudnnBatchNormalizationBackward(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, const void* alphaDataDiff, const void* betaDataDiff,
    const void* alphaParamDiff, const void* betaParamDiff, const cudnnTensorDescriptor_t xDesc, const void* x,
    const cudnnTensorDescriptor_t dyDesc, const void* dy, const cudnnTensorDescriptor_t dxDesc, void* dx,
    const cudnnTensorDescriptor_t dBnScaleBiasDesc, const void* bnScale, void* dBnScaleResult,
    void* dBnBiasResult, double /*epsilon*/, const void* savedMean, const void* savedInvVariance) {
  // cuDNN can compute what was not saved; this does not.
  if (mode == CUDNN_BATCHNORM_PER_ACTIVATION || savedMean == nullptr || savedInvVariance == nullptr)
    return CUDNN_STATUS_NOT_SUPPORTED;
  if (*xDesc != *dyDesc || *xDesc != *dxDesc || !is_per_channel(*dBnScaleBiasDesc, *xDesc))
    return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
  const std::size_t channels = xDesc->c;
  const Values in{"x", x, xDesc->size()}, out{"dy", dy, dyDesc->size()}, scale{"scale", bnScale, channels},
      mean{"saved mean", savedMean, channels}, inverse{"saved inverse", savedInvVariance, channels};
  return work(handle, "cudnnBatchNormalizationBackward",
              {in,
               out,
               scale,
               mean,
               inverse,
               {"dx", dx, dxDesc->size(), Access::kOut},
               {"dscale", dBnScaleResult, channels, Access::kOut},
               {"dbias", dBnBiasResult, channels, Access::kOut}},
              [=, shape = *xDesc, data = Blend(alphaDataDiff, betaDataDiff),
               parameters = Blend(alphaParamDiff, betaParamDiff)] {
                const auto count = static_cast<double>(shape.n * shape.h * shape.w);
                std::vector<double> d_scale(shape.c, 0.0), d_bias(shape.c, 0.0), values(in.count);
                const auto normed = [&](std::size_t c, std::size_t i) {
                  return (in.at(i) - mean.at(c)) * inverse.at(c);
                };
                for_each_value(shape, [&](std::size_t c, std::size_t i) {
                  d_scale[c] += out.at(i) * normed(c, i);
                  d_bias[c] += out.at(i);
                });
                for_each_value(shape, [&](std::size_t c, std::size_t i) {
                  values[i] = scale.at(c) * inverse.at(c) *
                              (out.at(i) - d_bias[c] / count - normed(c, i) * d_scale[c] / count);
                });
                data.write(values, dx);
                parameters.write(d_scale, dBnScaleResult);
                parameters.write(d_bias, dBnBiasResult);
              });
}

}  // extern "C"
