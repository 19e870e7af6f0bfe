#pragma once

#include <cstdint>

#include "common/compute/network.h"
#include "common/model/training_spec.h"
#include "common/tensor/parameter_range.h"

/// What nanduti-worker calls in the module that it opens with dlopen(): functions of C and plain structs, so
/// that the worker links nothing of CUDA and starts without it. Functions that return int give 0, or write
/// why not. Nothing throws. An object is used by one thread at a time, but where something else is said; two
/// objects of a device by two threads at a time, but for the emulated device's.
extern "C" {

struct NandutiCudaError {
  int code;           ///< ErrorCode
  char message[256];  ///< ends with a 0
};

/// One that work can be given to.
struct NandutiCudaDevice;
/// What a job has on a device beside its learner: a stream, round buffers.
struct NandutiCudaMemory;
/// DeviceShard.
struct NandutiCudaShard;
/// StagedLearner.
struct NandutiCudaLearner;

struct NandutiCudaDensity {
  std::uint64_t begin, end;  ///< in the parameter space, whole blocks
  double density;
};

/// BlockCodecOptions.
struct NandutiCudaCoding {
  std::uint64_t dense_segment_begin;
  std::uint32_t value_bits;
  double density;
  double warmup_epochs;
  const NandutiCudaDensity* densities;
  std::uint64_t density_count;
};

struct NandutiCudaPush {
  const float* progress;            ///< the device's, or null
  const NandutiCudaCoding* coding;  ///< null: exactly
  std::uint64_t round;
  double epochs_done;
  /// Called once, with the payload.
  void (*take_payload)(void* to, const void* bytes, std::uint64_t size);
  void* to;
};

struct NandutiCudaResidual {
  double squares;
  std::uint64_t left;
};

struct NandutiCudaLearnerOptions {
  const nanduti::NetworkLayer* layers;
  std::uint64_t layer_count;
  std::uint64_t parameter_space_size;
  nanduti::OptimizerSpec optimizer;
  const nanduti::ParameterRange* trained;
  std::uint64_t trained_count;
  const nanduti::ParameterRange* buffers;
  std::uint64_t buffer_count;
  bool tf32;
};

struct NandutiCudaSums {
  double loss;
  std::uint64_t correct;
  bool is_finite;  ///< of a round: all of its progress
};

/// DeviceRates.
struct NandutiCudaRates {
  double copy_bytes_per_second, flops_per_second, peak_bytes_per_second, peak_flops_per_second;
};

/// Changes with everything that stands here and in what is included.
inline constexpr std::uint32_t kNandutiCudaAbi = 2;
static_assert(sizeof(nanduti::NetworkLayer) == 120 && sizeof(nanduti::OptimizerSpec) == 64 &&
                  sizeof(nanduti::ParameterRange) == 16,
              "what crosses is laid out otherwise: another number");

struct NandutiCudaFunctions {
  std::uint32_t abi;  ///< comes first in every release: if it is another one, nothing after it may be read

  int (*open)(std::uint32_t index, NandutiCudaDevice** device, NandutiCudaError* error);
  /// For people; as long as the device is open.
  const char* (*describe)(const NandutiCudaDevice* device);
  void (*close)(NandutiCudaDevice* device);
  /// Whether anything can be done with it still; any thread.
  int (*check)(NandutiCudaDevice* device, NandutiCudaError* error);
  int (*measure_rates)(NandutiCudaDevice* device, bool tf32, NandutiCudaRates* rates,
                       NandutiCudaError* error);

  int (*make_memory)(NandutiCudaDevice* device, NandutiCudaMemory** memory, NandutiCudaError* error);
  void (*free_memory)(NandutiCudaMemory* memory);
  /// `count` zeros, the device's.
  int (*allocate)(NandutiCudaMemory* memory, std::uint64_t count, float** values, NandutiCudaError* error);
  /// Any thread.
  void (*release)(NandutiCudaMemory* memory, float* values);
  /// sum += more, both the device's, shape [count].
  int (*add)(NandutiCudaMemory* memory, const float* more, float* sum, std::uint64_t count,
             NandutiCudaError* error);

  /// Of the memory, which outlives it; initial: the host's, or null: zeros.
  int (*make_shard)(NandutiCudaMemory* memory, nanduti::ParameterRange range, const float* initial,
                    NandutiCudaShard** shard, NandutiCudaError* error);
  void (*free_shard)(NandutiCudaShard* shard);
  int (*merge)(NandutiCudaShard* shard, const void* payload, std::uint64_t size, NandutiCudaError* error);
  int (*merge_values)(NandutiCudaShard* shard, const float* values, std::uint64_t count,
                      NandutiCudaError* error);
  /// The values stay where they are until wait().
  int (*assign)(NandutiCudaShard* shard, nanduti::ParameterRange range, const void* values,
                NandutiCudaError* error);
  int (*wait)(NandutiCudaShard* shard, NandutiCudaError* error);
  int (*push)(NandutiCudaShard* shard, const NandutiCudaPush* push, NandutiCudaError* error);
  int (*settle_oldest)(NandutiCudaShard* shard, NandutiCudaError* error);
  int (*take_back)(NandutiCudaShard* shard, std::uint64_t k, NandutiCudaError* error);
  int (*take_back_rest)(NandutiCudaShard* shard, std::uint64_t k, float part, NandutiCudaError* error);
  std::uint64_t (*bytes_in_flight)(const NandutiCudaShard* shard, std::uint64_t k);
  int (*compute_parameters)(NandutiCudaShard* shard, float* x, const float* pending, float own_work,
                            float rho, NandutiCudaError* error);
  int (*measure_residual)(NandutiCudaShard* shard, NandutiCudaResidual* residual, NandutiCudaError* error);

  int (*make_learner)(NandutiCudaDevice* device, const NandutiCudaLearnerOptions* options,
                      NandutiCudaLearner** learner, NandutiCudaError* error);
  void (*free_learner)(NandutiCudaLearner* learner);
  /// The host's, shape (batch, channels, height, width).
  int (*input)(NandutiCudaLearner* learner, std::uint64_t batch, float** images, NandutiCudaError* error);
  int (*begin_round)(NandutiCudaLearner* learner, const float* x, NandutiCudaError* error);
  int (*step)(NandutiCudaLearner* learner, const std::uint8_t* labels, std::uint64_t batch,
              double learning_rate, NandutiCudaError* error);
  int (*finish_round)(NandutiCudaLearner* learner, float* progress, NandutiCudaSums* sums,
                      NandutiCudaError* error);
  int (*begin_evaluation)(NandutiCudaLearner* learner, const float* x, std::uint64_t count,
                          NandutiCudaError* error);
  int (*evaluate)(NandutiCudaLearner* learner, const std::uint8_t* labels, std::uint64_t batch,
                  NandutiCudaError* error);
  int (*finish_evaluation)(NandutiCudaLearner* learner, NandutiCudaSums* sums, NandutiCudaError* error);
  int (*on_merge)(NandutiCudaLearner* learner, NandutiCudaError* error);
  int (*reset)(NandutiCudaLearner* learner, NandutiCudaError* error);
};

/// The module's only function.
const NandutiCudaFunctions* nanduti_cuda_functions();
}
