#include "server/storage/storage_directory.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "server/storage/atomic_file.h"
#include "server/storage/safetensors.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpointPrefix = "epoch-";
constexpr std::string_view kCheckpointSuffix = ".safetensors";
constexpr std::size_t kSmallFileBytesMax = 64;

Error unusable(const fs::path& directory, std::string_view why) {
  return make_error(ErrorCode::kIo, "cannot use the storage directory {}: {}", directory.string(), why);
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

/// The start of a small file, without the line end.
std::string read_line(int descriptor) {
  char buffer[kSmallFileBytesMax];
  const ssize_t count = ::pread(descriptor, buffer, sizeof(buffer), 0);
  const std::string_view text(buffer, count < 0 ? 0 : static_cast<std::size_t>(count));
  return std::string(text.substr(0, text.find('\n')));
}

Result<FileDescriptor> take_lock(const fs::path& directory) {
  const fs::path path = directory / "lock";
  FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!lock.is_open()) return unusable(directory, fmt::format("lock: {}", std::strerror(errno)));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return unusable(directory, fmt::format("lock: {}", std::strerror(errno)));
    return make_error(ErrorCode::kUnavailable,
                      "the storage directory {} is in use by another nanduti-server (pid {})",
                      directory.string(), read_line(lock.get()));
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock.get(), 0) != 0 ||
      ::pwrite(lock.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return unusable(directory, fmt::format("lock: {}", std::strerror(errno)));
  }
  return lock;
}

Status check_format(const fs::path& directory) {
  const fs::path path = directory / "format";
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open() && errno == ENOENT) {
    return write_file_atomically(path, fmt::format("{}\n", kStorageFormat));
  }
  if (!file.is_open()) return unusable(directory, fmt::format("format: {}", std::strerror(errno)));
  const std::string line = read_line(file.get());
  const auto format = parse_number<std::uint32_t>(line);
  if (!format || *format == 0) {
    return make_error(ErrorCode::kCorrupt, "{} does not hold a version number", path.string());
  }
  if (*format > kStorageFormat) {
    return make_error(
        ErrorCode::kRefused,
        "the storage directory {} was written by a newer nanduti-server: its format is {}, this "
        "program knows {}",
        directory.string(), *format, kStorageFormat);
  }
  return {};
}

/// Calls `visit` with every entry; links are not followed.
Status for_each_entry(const fs::path& folder, const std::function<void(const fs::directory_entry&)>& visit) {
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  while (!error && entry != fs::directory_iterator()) {
    visit(*entry);
    entry.increment(error);
  }
  if (error) return make_error(ErrorCode::kIo, "cannot read {}: {}", folder.string(), error.message());
  return {};
}

/// Removes what write_file_atomically has left behind in this folder and `levels` levels below.
Status remove_temporary_files(const fs::path& folder, int levels) {
  std::vector<fs::path> folders;
  NANDUTI_RETURN_IF_ERROR(for_each_entry(folder, [&](const fs::directory_entry& entry) {
    std::error_code ignored;
    const fs::file_type type = entry.symlink_status(ignored).type();
    if (type == fs::file_type::directory) folders.push_back(entry.path());
    if (type == fs::file_type::regular && entry.path().native().ends_with(kTemporarySuffix)) {
      fs::remove(entry.path(), ignored);
    }
  }));
  if (levels == 0) return {};
  for (const fs::path& below : folders) NANDUTI_RETURN_IF_ERROR(remove_temporary_files(below, levels - 1));
  return {};
}

/// The number in "epoch-0012.safetensors".
std::optional<std::uint32_t> checkpoint_number(std::string_view name) {
  if (!name.starts_with(kCheckpointPrefix) || !name.ends_with(kCheckpointSuffix)) return std::nullopt;
  name.remove_prefix(kCheckpointPrefix.size());
  name.remove_suffix(kCheckpointSuffix.size());
  return parse_number<std::uint32_t>(name);
}

Status create_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return make_error(ErrorCode::kIo, "cannot create {}: {}", folder.string(), error.message());
  return sync_folder(folder.parent_path());
}

Status remove_old_checkpoints(const fs::path& folder) {
  std::vector<std::pair<std::uint32_t, fs::path>> checkpoints;
  NANDUTI_RETURN_IF_ERROR(for_each_entry(folder, [&](const fs::directory_entry& entry) {
    if (const auto number = checkpoint_number(entry.path().filename().native())) {
      checkpoints.emplace_back(*number, entry.path());
    }
  }));
  std::sort(checkpoints.rbegin(), checkpoints.rend());
  for (std::size_t i = kCheckpointsKept; i < checkpoints.size(); ++i) {
    std::error_code error;
    fs::remove(checkpoints[i].second, error);
    if (error) {
      return make_error(ErrorCode::kIo, "cannot remove {}: {}", checkpoints[i].second.string(),
                        error.message());
    }
  }
  return {};
}

}  // namespace

Result<StorageDirectory> StorageDirectory::open(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory / "jobs", error);
  if (error) return unusable(directory, error.message());
  auto lock = take_lock(directory);
  if (!lock.ok()) return lock.error();
  NANDUTI_RETURN_IF_ERROR(check_format(directory));
  NANDUTI_RETURN_IF_ERROR(remove_temporary_files(directory, 0));
  NANDUTI_RETURN_IF_ERROR(remove_temporary_files(directory / "jobs", 2));
  return StorageDirectory(directory, std::move(lock).value());
}

Result<JobId> StorageDirectory::next_job_id() const {
  std::uint64_t largest = 0;
  NANDUTI_RETURN_IF_ERROR(for_each_entry(directory_ / "jobs", [&](const fs::directory_entry& entry) {
    if (const auto id = parse_number<std::uint64_t>(entry.path().filename().native())) {
      largest = std::max(largest, *id);
    }
  }));
  if (largest == std::numeric_limits<std::uint64_t>::max())
    return make_error(ErrorCode::kExhausted, "no job can be numbered after {}",
                      job_folder(JobId(largest)).string());
  return JobId(largest + 1);
}

Status StorageDirectory::create_job(JobId job, std::string_view job_text) {
  const fs::path folder = job_folder(job);
  std::error_code ignored;
  if (fs::exists(folder, ignored)) {
    return make_error(ErrorCode::kInvalidArgument, "{} is there already", folder.string());
  }
  NANDUTI_RETURN_IF_ERROR(create_folder(folder));
  NANDUTI_RETURN_IF_ERROR(create_folder(folder / "checkpoints"));
  return write_file_atomically(job_text_path(job), job_text);
}

Status StorageDirectory::save_checkpoint(JobId job, std::uint32_t completed_epochs,
                                         const ParameterSpace& space, std::span<const float> values,
                                         const SafetensorsMetadata& metadata) {
  const fs::path path = checkpoint_path(job, completed_epochs);
  NANDUTI_RETURN_IF_ERROR(write_safetensors(path, space, values, metadata));
  return remove_old_checkpoints(path.parent_path());
}

Status StorageDirectory::save_model(JobId job, const ParameterSpace& space, std::span<const float> values,
                                    const SafetensorsMetadata& metadata) {
  return write_safetensors(model_path(job), space, values, metadata);
}

Status StorageDirectory::save_run(JobId job, std::string_view json) {
  return write_file_atomically(run_path(job), json);
}

fs::path StorageDirectory::job_folder(JobId job) const {
  return directory_ / "jobs" / fmt::format("{}", job.value());
}
fs::path StorageDirectory::job_text_path(JobId job) const { return job_folder(job) / "job.yaml"; }
fs::path StorageDirectory::run_path(JobId job) const { return job_folder(job) / "run.json"; }
fs::path StorageDirectory::model_path(JobId job) const { return job_folder(job) / "model.safetensors"; }
fs::path StorageDirectory::checkpoint_path(JobId job, std::uint32_t completed_epochs) const {
  return job_folder(job) / "checkpoints" /
         fmt::format("{}{:04}{}", kCheckpointPrefix, completed_epochs, kCheckpointSuffix);
}

}  // namespace nanduti
