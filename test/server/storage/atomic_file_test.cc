// Goal: a file is the old one or the new one, whatever fails. Method: writes that are made to fail.
#include "server/storage/atomic_file.h"

#include <signal.h>
#include <sys/resource.h>

#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

std::size_t entries_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

/// No file may grow beyond `bytes` while it lives: a full disk that needs no disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST_CASE("a file is created, then replaced, and nothing is left beside it") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "file";
  REQUIRE(write_file_atomically(path, "first").ok());
  CHECK(read_whole_file(path) == "first");
  const std::string_view texts[] = {"sec", "", "ond"};
  std::vector<std::span<const std::byte>> pieces;
  for (const std::string_view text : texts) pieces.push_back(std::as_bytes(std::span(text)));
  REQUIRE(write_file_atomically(path, pieces).ok());
  CHECK(read_whole_file(path) == "second");
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("a temporary file that a crash left is no obstacle") {
  const TemporaryFolder folder;
  const auto path = folder.write("file", "old");
  folder.write("file.nanduti-tmp", "half of something longer than the new text");
  REQUIRE(write_file_atomically(path, "new").ok());
  CHECK(read_whole_file(path) == "new");
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("a disk that is full leaves the old file, and says so") {
  const TemporaryFolder folder;
  const auto path = folder.write("file", "old");
  Status status;
  {
    const FileSizeLimit limit(4096);
    status = write_file_atomically(path, std::string(10000, 'x'));
  }
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code == ErrorCode::kIo);
  CHECK(status.error().message == "cannot write " + path.string() + ": File too large");
  CHECK(read_whole_file(path) == "old");
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("a target that cannot be replaced stays as it is") {
  const TemporaryFolder folder;
  folder.write("target/inside", "kept");
  const auto path = folder.path() / "target";
  const Status status = write_file_atomically(path, "new");
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().message == "cannot write " + path.string() + ": Is a directory");
  CHECK(read_whole_file(path / "inside") == "kept");
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("a folder that is not there is an error with the path") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "absent/file";
  CHECK(write_file_atomically(path, "new").error().message ==
        "cannot write " + path.string() + ": No such file or directory");
}

}  // namespace
}  // namespace nanduti
