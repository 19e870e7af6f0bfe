#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <cuda_runtime_api.h>

#include "cuda/codec/device_codec.h"
#include "cuda/module/abi.h"
#include "cuda/runtime/device_buffer.h"

using namespace nanduti;

struct NandutiCudaDevice {
  int index = 0;
  std::string description;
};

struct NandutiCudaEncoder {
  explicit NandutiCudaEncoder(BlockCodecOptions of_job) : options(std::move(of_job)) {}
  ~NandutiCudaEncoder() {
    codecs.clear();
    if (stream != nullptr) (void)cudaStreamDestroy(stream);
  }
  NandutiCudaEncoder(const NandutiCudaEncoder&) = delete;
  NandutiCudaEncoder& operator=(const NandutiCudaEncoder&) = delete;

  int device = 0;
  BlockCodecOptions options;
  cudaStream_t stream = nullptr;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::unique_ptr<DeviceCodec>>
      codecs;  // by begin and size
  DeviceBuffer<float> residual, progress;
};

namespace {

void tell(NandutiCudaError* error, const std::string& message) {
  const std::size_t length = std::min(message.size(), sizeof error->message - 1);
  std::memcpy(error->message, message.data(), length);
  error->message[length] = 0;
}

/// Runs `action`; what it returns or throws becomes what C hears.
template <class Action>
int guarded(NandutiCudaError* error, Action action) {
  try {
    const Status status = action();
    if (status.ok()) return 0;
    tell(error, status.error().message);
  } catch (const std::exception& exception) {
    tell(error, exception.what());
  }
  return 1;
}

Status open(std::uint32_t index, NandutiCudaDevice& device) {
  int count = 0;
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaGetDeviceCount(&count), "looking for devices"));
  if (index >= static_cast<std::uint32_t>(count))
    return make_error(ErrorCode::kUnavailable, "this machine has {} devices, counted from 0", count);
  device.index = static_cast<int>(index);
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaSetDevice(device.index), "taking the device"));
  cudaDeviceProp properties{};
  NANDUTI_RETURN_IF_ERROR(
      cuda_status(cudaGetDeviceProperties(&properties, device.index), "asking the device what it is"));
  device.description = fmt::format("{} (compute capability {}.{}, {} MiB)", properties.name, properties.major,
                                   properties.minor, properties.totalGlobalMem >> 20);
  const Status runs = cuda_status(device::can_run(), "this module's kernels");
  return runs.ok() ? runs : Status(runs.error().within(device.description));
}

Status encode(NandutiCudaEncoder& encoder, const NandutiCudaEncodeRequest& request) {
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaSetDevice(encoder.device), "taking the device"));
  const StreamWait wait(encoder.stream);
  NANDUTI_RETURN_IF_ERROR(encoder.residual.upload({request.residual, request.size}, encoder.stream));
  if (request.progress != nullptr)
    NANDUTI_RETURN_IF_ERROR(encoder.progress.upload({request.progress, request.size}, encoder.stream));
  std::unique_ptr<DeviceCodec>& codec = encoder.codecs[{request.begin, request.size}];
  if (codec == nullptr) codec = std::make_unique<DeviceCodec>(encoder.options, encoder.stream);
  const CodingContext context{request.round, request.begin, request.epochs_done};
  const Result<SharedBytes> payload =
      codec->encode({encoder.residual.data(), request.size},
                    request.progress == nullptr ? nullptr : encoder.progress.data(), context);
  if (!payload.ok()) return payload.error();
  NANDUTI_RETURN_IF_ERROR(encoder.residual.download({request.residual_after, request.size}, encoder.stream));
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(encoder.stream), "copying the residual"));
  request.take_payload(request.to, payload->data(), payload->size());
  return {};
}

}  // namespace

std::uint32_t nanduti_cuda_abi() { return kNandutiCudaAbi; }

int nanduti_cuda_open(std::uint32_t index, NandutiCudaDevice** device, NandutiCudaError* error) {
  return guarded(error, [&]() -> Status {
    auto opened = std::make_unique<NandutiCudaDevice>();
    NANDUTI_RETURN_IF_ERROR(open(index, *opened));
    *device = opened.release();
    return {};
  });
}

const char* nanduti_cuda_describe(const NandutiCudaDevice* device) { return device->description.c_str(); }

void nanduti_cuda_close(NandutiCudaDevice* device) { delete device; }

int nanduti_cuda_make_encoder(NandutiCudaDevice* device, const NandutiCudaEncoderOptions* options,
                              NandutiCudaEncoder** encoder, NandutiCudaError* error) {
  return guarded(error, [&]() -> Status {
    BlockCodecOptions of_job;
    of_job.dense_segment_begin = options->dense_segment_begin;
    of_job.value_bits = options->value_bits;
    of_job.density = options->density;
    of_job.warmup_epochs = options->warmup_epochs;
    for (std::uint64_t i = 0; i < options->density_count; ++i) {
      const NandutiCudaDensity& special = options->densities[i];
      of_job.densities.push_back({{special.begin, special.end}, special.density});
    }
    auto made = std::make_unique<NandutiCudaEncoder>(std::move(of_job));
    made->device = device->index;
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaSetDevice(made->device), "taking the device"));
    NANDUTI_RETURN_IF_ERROR(
        cuda_status(cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking), "making a stream"));
    *encoder = made.release();
    return {};
  });
}

int nanduti_cuda_encode(NandutiCudaEncoder* encoder, const NandutiCudaEncodeRequest* request,
                        NandutiCudaError* error) {
  return guarded(error, [&] { return encode(*encoder, *request); });
}

void nanduti_cuda_free_encoder(NandutiCudaEncoder* encoder) {
  (void)cudaSetDevice(encoder->device);
  delete encoder;
}
