// Goal: one server has its folder to itself, finds it as it left it, and refuses what it cannot use. Method:
// by hand in a temporary folder.
#include "server/storage/storage_directory.h"

#include <algorithm>

#include <unistd.h>

#include "server/storage/safetensors.h"
#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;

StorageDirectory opened(const fs::path& path) {
  auto storage = StorageDirectory::open(path);
  INFO((storage.ok() ? "" : storage.error().message));
  REQUIRE(storage.ok());
  return std::move(storage).value();
}

std::string error_of(const fs::path& path, ErrorCode code) {
  const auto storage = StorageDirectory::open(path);
  REQUIRE_FALSE(storage.ok());
  CHECK(storage.error().code == code);
  return storage.error().message;
}

TEST_CASE("a folder that is not there is created with its format, and opens again") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a/b";
  { const StorageDirectory storage = opened(path); }
  CHECK(read_whole_file(path / "format") == "1\n");
  CHECK(opened(path).next_job_id().value() == JobId(1));
}

TEST_CASE("a second server is told who has the folder; the first one's end frees it") {
  const TemporaryFolder folder;
  {
    const StorageDirectory first = opened(folder.path());
    CHECK(error_of(folder.path(), ErrorCode::kUnavailable) ==
          fmt::format("the storage directory {} is in use by another nanduti-server (pid {})",
                      folder.path().string(), ::getpid()));
  }
  { StorageDirectory moved = opened(folder.path()), other = std::move(moved); }
  CHECK(StorageDirectory::open(folder.path()).ok());
}

TEST_CASE("jobs are numbered on from the largest, whatever else lies there") {
  const TemporaryFolder folder;
  StorageDirectory storage = opened(folder.path());
  CHECK(storage.next_job_id().value() == JobId(1));
  REQUIRE(storage.create_job(JobId(1), "name: a\n").ok());
  REQUIRE(storage.create_job(JobId(10), "name: b\n").ok());
  fs::create_directory(folder.path() / "jobs/notes");
  fs::create_directory(folder.path() / "jobs/11x");
  CHECK(storage.next_job_id().value() == JobId(11));
  CHECK(read_whole_file(folder.path() / "jobs/10/job.yaml") == "name: b\n");
  const Status again = storage.create_job(JobId(10), "name: c\n");
  REQUIRE_FALSE(again.ok());
  CHECK(again.error().message == (folder.path() / "jobs/10").string() + " is there already");
  CHECK(read_whole_file(storage.job_text_path(JobId(10))) == "name: b\n");
}

TEST_CASE("behind the largest number there is no job 0") {
  const TemporaryFolder folder;
  const StorageDirectory storage = opened(folder.path());
  const fs::path last = folder.path() / "jobs/18446744073709551615";
  fs::create_directory(last);
  REQUIRE_FALSE(storage.next_job_id().ok());
  CHECK(storage.next_job_id().error().code == ErrorCode::kExhausted);
  CHECK(storage.next_job_id().error().message == "no job can be numbered after " + last.string());
}

TEST_CASE("the newest three checkpoints stay, by number and not by name") {
  const TemporaryFolder folder;
  StorageDirectory storage = opened(folder.path());
  REQUIRE(storage.create_job(JobId(1), "").ok());
  const ParameterSpace space({{"0.weight", {2}}});
  std::vector<float> values(space.size());
  for (const std::uint32_t epoch : {1u, 2u, 9998u, 9999u, 10000u}) {
    values[0] = static_cast<float>(epoch);
    REQUIRE(storage.save_checkpoint(JobId(1), epoch, space, values).ok());
  }
  const fs::path checkpoints = folder.path() / "jobs/1/checkpoints";
  CHECK(std::distance(fs::directory_iterator(checkpoints), {}) == 3);
  CHECK(fs::exists(checkpoints / "epoch-9998.safetensors"));
  const auto newest = read_safetensors(storage.checkpoint_path(JobId(1), 10000));
  REQUIRE(newest.ok());
  CHECK(newest->values[0] == 10000.0f);
}

TEST_CASE("the model and run.json are replaced as a whole") {
  const TemporaryFolder folder;
  StorageDirectory storage = opened(folder.path());
  REQUIRE(storage.create_job(JobId(1), "").ok());
  const ParameterSpace space({{"0.weight", {2}}});
  const std::vector<float> values(space.size(), 2.0f);
  REQUIRE(storage.save_model(JobId(1), space, values, {{"job", "1"}}).ok());
  REQUIRE(storage.save_run(JobId(1), "{}").ok());
  REQUIRE(storage.save_run(JobId(1), "{\"a\": 1}").ok());
  CHECK(read_whole_file(storage.run_path(JobId(1))) == "{\"a\": 1}");
  CHECK(read_safetensors(storage.model_path(JobId(1)))->header.metadata.at("job") == "1");
  CHECK(storage.save_model(JobId(2), space, values).error().message ==
        "cannot write " + storage.model_path(JobId(2)).string() + ": No such file or directory");
}

TEST_CASE("what a crash left half written is removed at the next start, the rest stays") {
  const TemporaryFolder folder;
  { const StorageDirectory storage = opened(folder.path()); }
  folder.write("format.nanduti-tmp", "x");
  folder.write("jobs/1/run.json.nanduti-tmp", "x");
  folder.write("jobs/1/run.json", "{}");
  folder.write("jobs/1/checkpoints/epoch-0001.safetensors.nanduti-tmp", "x");
  { const StorageDirectory storage = opened(folder.path()); }
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    if (entry.is_regular_file()) files.push_back(entry.path().lexically_relative(folder.path()).string());
  }
  std::sort(files.begin(), files.end());
  CHECK(files == std::vector<std::string>{"format", "jobs/1/run.json", "lock"});
}

TEST_CASE("a newer format, a damaged one, and paths that cannot be a folder are refused in words") {
  const TemporaryFolder folder;
  const std::string newer = folder.write("newer/format", "2\n").parent_path().string();
  CHECK(error_of(newer, ErrorCode::kRefused) ==
        "the storage directory " + newer +
            " was written by a newer nanduti-server: its format is 2, this program knows 1");
  CHECK(read_whole_file(newer + "/format") == "2\n");
  const std::string damaged = folder.write("damaged/format", "one\n").string();
  CHECK(error_of(folder.path() / "damaged", ErrorCode::kCorrupt) ==
        damaged + " does not hold a version number");
  const std::string file = folder.write("file", "").string();
  CHECK(error_of(file, ErrorCode::kIo) == "cannot use the storage directory " + file + ": Not a directory");
  CHECK(error_of(file + "/below", ErrorCode::kIo) ==
        "cannot use the storage directory " + file + "/below: Not a directory");
  fs::create_directories(folder.path() / "odd/lock");
  CHECK(error_of(folder.path() / "odd", ErrorCode::kIo) ==
        "cannot use the storage directory " + (folder.path() / "odd").string() + ": lock: Is a directory");
}

TEST_CASE("a folder without the right to write is refused in words") {
  if (::geteuid() == 0) return;  // root may write anywhere
  const TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  CHECK(error_of(folder.path(), ErrorCode::kIo) ==
        "cannot use the storage directory " + folder.path().string() + ": Permission denied");
  fs::permissions(folder.path(), fs::perms::owner_all);
}

}  // namespace
}  // namespace nanduti
