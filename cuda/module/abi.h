#pragma once

#include <cstdint>

/// What nanduti-worker calls in the module that it opens with dlopen(): functions of C and plain structs, so
/// that the worker links nothing of CUDA and starts without it. Functions that return int give 0, or write
/// why not. Nothing throws. An object is used by one thread at a time.
extern "C" {

struct NandutiCudaError {
  char message[256];  ///< ends with a 0
};

/// One that work can be given to.
struct NandutiCudaDevice;
/// One direction's error feedback for all shards of a job.
struct NandutiCudaEncoder;

struct NandutiCudaDensity {
  std::uint64_t begin, end;  ///< in the parameter space, whole blocks
  double density;
};

/// BlockCodecOptions.
struct NandutiCudaEncoderOptions {
  std::uint64_t dense_segment_begin;
  std::uint32_t value_bits;
  double density;
  double warmup_epochs;
  const NandutiCudaDensity* densities;
  std::uint64_t density_count;
};

/// Codec::encode(), for values in the host's memory.
struct NandutiCudaEncodeRequest {
  const float* residual;  ///< shape [size]
  const float* progress;  ///< likewise, or null
  std::uint64_t size;
  std::uint64_t round, begin;  ///< CodingContext
  double epochs_done;
  float* residual_after;  ///< shape [size]
  /// Called once, with the payload.
  void (*take_payload)(void* to, const void* bytes, std::uint64_t size);
  void* to;
};

/// Changes with everything that stands here.
inline constexpr std::uint32_t kNandutiCudaAbi = 1;

std::uint32_t nanduti_cuda_abi();
int nanduti_cuda_open(std::uint32_t index, NandutiCudaDevice** device, NandutiCudaError* error);
/// For people; as long as the device is open.
const char* nanduti_cuda_describe(const NandutiCudaDevice* device);
void nanduti_cuda_close(NandutiCudaDevice* device);
int nanduti_cuda_make_encoder(NandutiCudaDevice* device, const NandutiCudaEncoderOptions* options,
                              NandutiCudaEncoder** encoder, NandutiCudaError* error);
int nanduti_cuda_encode(NandutiCudaEncoder* encoder, const NandutiCudaEncodeRequest* request,
                        NandutiCudaError* error);
void nanduti_cuda_free_encoder(NandutiCudaEncoder* encoder);
}
