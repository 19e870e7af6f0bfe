#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/tensor/parameter_space.h"
#include "server/storage/file_descriptor.h"
#include "server/storage/safetensors_header.h"

namespace nanduti {

/// Version of the layout below, in the file "format".
inline constexpr std::uint32_t kStorageFormat = 1;
inline constexpr std::size_t kCheckpointsKept = 3;

/// A server's folder, which it has to itself:
///   DIR/lock, DIR/format
///   DIR/coordinator/             the log and the snapshots of the coordinator (log_storage.h)
///   DIR/shards/K/                the log and the snapshots of the server's K-th shard (log_storage.h)
///   DIR/jobs/ID/{job.yaml, run.json, model.safetensors, checkpoints/epoch-0001.safetensors}
/// Every file is replaced as a whole (write_file_atomically). One thread at a time. Methods block on the
/// disk; their errors (kIo unless said otherwise) name the path.
class StorageDirectory {
 public:
  /// Creates the folder if need be, locks it until this object goes, and removes what a crash left half
  /// written. Errors: kUnavailable if another server has it, kRefused if a newer program wrote it, kCorrupt,
  /// kIo; the message is for the operator.
  static Result<StorageDirectory> open(const std::filesystem::path& directory);

  [[nodiscard]] const std::filesystem::path& path() const { return directory_; }

  /// One above the largest there is, also of jobs of former runs; from 1. kExhausted where that is no number.
  [[nodiscard]] Result<JobId> next_job_id() const;
  /// Makes the job's folder with its YAML. kInvalidArgument if it is there already.
  Status create_job(JobId job, std::string_view job_text);
  /// `values` is float32, shape [space.size()]; `completed_epochs` counts from 1. Keeps the newest
  /// kCheckpointsKept.
  Status save_checkpoint(JobId job, std::uint32_t completed_epochs, const ParameterSpace& space,
                         std::span<const float> values, const SafetensorsMetadata& metadata = {});
  Status save_model(JobId job, const ParameterSpace& space, std::span<const float> values,
                    const SafetensorsMetadata& metadata = {});
  Status save_run(JobId job, std::string_view json);

  // Where they are, or would be.
  [[nodiscard]] std::filesystem::path job_folder(JobId job) const;
  [[nodiscard]] std::filesystem::path job_text_path(JobId job) const;
  [[nodiscard]] std::filesystem::path run_path(JobId job) const;
  [[nodiscard]] std::filesystem::path model_path(JobId job) const;
  [[nodiscard]] std::filesystem::path checkpoint_path(JobId job, std::uint32_t completed_epochs) const;

 private:
  StorageDirectory(std::filesystem::path directory, FileDescriptor lock)
      : directory_(std::move(directory)), lock_(std::move(lock)) {}

  std::filesystem::path directory_;
  FileDescriptor lock_;  ///< open for as long as the folder is ours
};

}  // namespace nanduti
