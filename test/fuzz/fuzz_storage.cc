// Goal: nothing in a storage directory crashes a server that starts on it (P8).
// Method: safetensors files from the input, as they are and with a header of the input's making before data
// of the right size; directories whose files and names come from the input; and a shard's log and snapshots
// with damage. Checked: tensors cover the data and survive another trip; ids are new; an error names the
// path; what is read of a log is what was written.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "common/base/check.h"
#include "server/storage/log_storage.h"
#include "server/storage/safetensors.h"
#include "server/storage/storage_directory.h"
#include "test/fuzz/fuzz_input.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;

/// A folder in memory; a finding leaves one behind.
class Scratch {
 public:
  Scratch() {
    std::string pattern = "/dev/shm/nanduti-fuzz-" + std::string(6, 'X');
    NANDUTI_CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void check_file(const SafetensorsFile& file, std::size_t bytes) {
  NANDUTI_CHECK(file.values.size() * sizeof(float) <= bytes);
  std::uint64_t end = 0;
  std::vector<ParameterSpace::NamedShape> tensors;
  for (const SafetensorsEntry& entry : file.header.entries) {
    NANDUTI_CHECK(entry.begin == end && entry.end >= entry.begin && entry.end % sizeof(float) == 0);
    end = entry.end;
    if (entry.end > entry.begin) tensors.push_back({entry.name, entry.shape});
  }
  NANDUTI_CHECK(end == file.values.size() * sizeof(float));
  const Result<SafetensorsHeader> again =
      safetensors_header_from_json(safetensors_header_to_json(file.header), end);
  NANDUTI_CHECK(again.ok(), "{}", again.error().message);
  NANDUTI_CHECK(again->metadata == file.header.metadata);
  NANDUTI_CHECK(std::ranges::equal(again->entries, file.header.entries, [](const auto& a, const auto& b) {
    return a.name == b.name && a.shape == b.shape && a.begin == b.begin && a.end == b.end;
  }));
  if (tensors.size() != file.header.entries.size()) return;
  const ParameterSpace space(tensors);
  const Result<std::vector<float>> values = values_in_space(file, space);
  NANDUTI_CHECK(values.ok() && values->size() == space.size());
}

void try_safetensors(std::span<const std::uint8_t> bytes) {
  const std::vector<std::uint8_t> own(bytes.begin(), bytes.end());
  const Result<SafetensorsFile> file = decode_safetensors(std::as_bytes(std::span(own)));
  if (file.ok()) return check_file(*file, bytes.size());
  NANDUTI_CHECK(file.error().code == ErrorCode::kCorrupt && !file.error().message.empty());
}

/// The rest is the header's text; as many data follow as it takes.
void try_header(FuzzInput input) {
  const std::size_t data_bytes = input.below(256);
  const std::string json = input.rest_as_text();
  const std::uint64_t length = json.size();
  std::vector<std::uint8_t> bytes(sizeof length);
  std::memcpy(bytes.data(), &length, sizeof length);
  bytes.insert(bytes.end(), json.begin(), json.end());
  bytes.resize(bytes.size() + data_bytes);
  try_safetensors(bytes);
}

void write_file(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// A name that stays in its folder.
std::string name(FuzzInput& input) {
  static constexpr std::string_view kNames[] = {"1",
                                                "0007",
                                                "18446744073709551615",
                                                "-1",
                                                "x.nanduti-tmp",
                                                "epoch-0001.safetensors",
                                                "epoch-4294967295.safetensors"};
  if (input.flag()) return std::string(kNames[input.below(std::size(kNames))]);
  std::string text = input.text(1 + input.below(24));
  for (char& c : text)
    if (c == '/' || c == '\0') c = '_';
  return text.empty() || text == "." || text == ".." ? "_" : text;
}

void try_directory(FuzzInput input) {
  static const Scratch scratch;
  const fs::path folder = scratch.path() / "d";
  fs::remove_all(folder);
  fs::create_directories(folder / "jobs");
  if (input.flag()) write_file(folder / "format", input.text(input.below(80)));
  if (input.flag()) write_file(folder / "lock", input.text(input.below(80)));
  std::error_code ignored;
  for (std::uint64_t i = input.below(4); i > 0; --i) {
    fs::path place = folder / "jobs";
    if (input.below(4) == 0) place = folder;
    const fs::path entry = place / name(input);
    switch (input.below(3)) {
      case 0:
        write_file(entry, "x");
        break;
      case 1:
        fs::create_directories(entry / "checkpoints", ignored);
        write_file(entry / "checkpoints" / name(input), "x");
        break;
      default:
        fs::create_symlink(name(input), entry, ignored);
    }
  }
  Result<StorageDirectory> storage = StorageDirectory::open(folder);
  if (!storage.ok()) {
    NANDUTI_CHECK(storage.error().message.find(folder.string()) != std::string::npos, "{}",
                  storage.error().message);
    return;
  }
  const Result<JobId> job = storage->next_job_id();
  if (!job.ok()) return;
  NANDUTI_CHECK(job->value() > 0, "job 0 is no job");
  const ParameterSpace space({{"0.weight", {2, 3}}});
  const Status created = storage->create_job(*job, "name: x");
  NANDUTI_CHECK(created.ok(), "{}", created.error().message);
  const std::vector<float> values(space.size(), 1.0f);
  const Status saved = storage->save_checkpoint(*job, 1, space, values);
  NANDUTI_CHECK(saved.ok(), "{}", saved.error().message);
  NANDUTI_CHECK(read_safetensors(storage->checkpoint_path(*job, 1)).ok());
  const Result<JobId> next = storage->next_job_id();
  NANDUTI_CHECK(next.ok() ? *next > *job : next.error().code == ErrorCode::kExhausted,
                "an id is given twice");
}

SharedBytes entry_of(std::uint64_t number) {
  return SharedBytes::take(std::vector<std::uint64_t>(number % 5, number));
}

/// Appends, snapshots and restarts as the input says; then it damages a file.
void try_shard(FuzzInput input) {
  static const Scratch scratch;
  const fs::path folder = scratch.path() / "s";
  fs::remove_all(folder);
  std::uint64_t written = 0;
  std::optional<LogStorage> storage(LogStorage::open(folder).value());
  for (std::uint64_t steps = 1 + input.below(24); steps > 0; --steps) {
    const std::uint64_t what = input.below(8);
    if (what == 0) {
      storage.reset();
      storage.emplace(LogStorage::open(folder).value());
    } else if (what == 1 && written > 0) {
      NANDUTI_CHECK(storage->begin_snapshot(SharedBytes::take(std::vector<std::uint64_t>{written}), 1).ok());
      if (input.flag()) NANDUTI_CHECK(storage->write_part(0, entry_of(written).view()).value());
    } else {
      const auto begins = written == 0 ? std::optional(Durability::kSync) : std::nullopt;
      NANDUTI_CHECK(storage->append(std::array{entry_of(written)}, begins).ok());
      ++written;
    }
  }
  storage.reset();
  if (written == 0) return;
  std::vector<fs::path> files{folder / "term"};
  for (const auto& file : fs::directory_iterator(folder / "log")) files.push_back(file.path());
  std::sort(files.begin(), files.end());
  for (std::uint64_t damages = input.below(3); damages > 0; --damages) {
    const fs::path& file = files[input.below(files.size())];
    std::error_code ignored;
    const std::uint64_t size = fs::file_size(file, ignored);
    if (input.below(4) == 0) {
      fs::remove(file, ignored);
    } else if (input.flag()) {
      fs::resize_file(file, input.below(2 * size + 1), ignored);
    } else if (size > 0) {
      std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
      stream.seekp(static_cast<std::streamoff>(input.below(size)));
      stream << input.text(1 + input.below(16));
    }
  }
  Result<LogStorage> again = LogStorage::open(folder);
  if (!again.ok()) {
    NANDUTI_CHECK(again.error().message.find(folder.string()) != std::string::npos, "{}",
                  again.error().message);
    return;
  }
  std::uint64_t number = 0;
  if (const std::optional<StoredLog> stored = again->take_stored()) {
    if (stored->snapshot) std::memcpy(&number, stored->snapshot->head.data(), sizeof number);
    for (const SharedBytes& entry : stored->entries) {
      const SharedBytes wanted = entry_of(number++);
      NANDUTI_CHECK(std::ranges::equal(entry.view(), wanted.view()), "entry {} is another one", number - 1);
    }
  }
  NANDUTI_CHECK(number <= written);
  const auto begins = number == 0 ? std::optional(Durability::kSync) : std::nullopt;
  NANDUTI_CHECK(again->append(std::array{entry_of(number)}, begins).ok());
}

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nanduti;
  FuzzInput input(data, size);
  // Letters, so that seeds are text files where they can be.
  switch (input.byte()) {
    case 'h':
      try_header(input);
      break;
    case 'd':
      try_directory(input);
      break;
    case 'l':
      try_shard(input);
      break;
    default:
      try_safetensors(input.rest());
  }
  return 0;
}
