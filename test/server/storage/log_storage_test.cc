// Goal: a shard finds in its folder what it had written, or a part that it knows to be one, or a clear error;
// never anything else. Method: random appends, snapshots and restarts beside a model; then each byte cut off
// and bits flipped.
#include "server/storage/log_storage.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>

#include <unistd.h>

#include "common/base/random.h"
#include "server/storage/checked_file.h"
#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;

SharedBytes some_bytes(RandomStream& random, std::size_t size_max) {
  std::vector<std::byte> bytes(random.below(size_max + 1));
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.below(256));
  return SharedBytes::take(std::move(bytes));
}

std::vector<std::byte> content(const SharedBytes& bytes) {
  return {bytes.view().begin(), bytes.view().end()};
}

LogStorage opened(const fs::path& folder) {
  Result<LogStorage> storage = LogStorage::open(folder);
  INFO((storage.ok() ? "" : storage.error().message));
  REQUIRE(storage.ok());
  return std::move(storage).value();
}

/// What should be there: entries of one job, and what its snapshots have in their heads: how many they hold.
struct Model {
  std::vector<std::vector<std::byte>> entries;
  std::vector<std::uint64_t> snapshots;

  /// What was found is the log up to `count`, from some snapshot on.
  void check(const StoredLog& stored, std::size_t count) const {
    std::size_t begin = 0;
    if (stored.snapshot) {
      const auto head = content(stored.snapshot->head);
      REQUIRE(head.size() == sizeof begin);
      std::memcpy(&begin, head.data(), sizeof begin);
      REQUIRE(std::find(snapshots.begin(), snapshots.end(), begin) != snapshots.end());
      for (const auto& [index, bytes] : stored.snapshot->parts)
        CHECK(content(bytes) == std::vector<std::byte>(1000 + index, static_cast<std::byte>(begin)));
      CHECK(stored.snapshot->parts.size() == begin % 3);
    }
    REQUIRE(begin + stored.entries.size() == count);
    for (std::size_t i = 0; i < stored.entries.size(); ++i)
      CHECK(content(stored.entries[i]) == entries[begin + i]);
  }
};

/// Plays an operator's life; the folder is left as after a crash.
Model live(const fs::path& folder, RandomStream random, int steps, int snapshots_max = 1000) {
  Model model;
  LogStorage storage = opened(folder);
  for (int i = 0; i < steps; ++i) {
    const std::uint64_t what = random.below(20);
    if (what < 14 || model.entries.empty()) {
      std::vector<SharedBytes> pieces;
      std::vector<std::byte> all;
      for (std::uint64_t n = random.below(4); n > 0; --n) {
        pieces.push_back(some_bytes(random, 50));
        all.insert(all.end(), pieces.back().view().begin(), pieces.back().view().end());
      }
      const bool begins = model.entries.empty();
      REQUIRE(storage.append(pieces, begins ? std::optional(Durability::kSync) : std::nullopt).ok());
      REQUIRE(storage.sync().ok());
      model.entries.push_back(std::move(all));
    } else if (what < 16 && static_cast<int>(model.snapshots.size()) < snapshots_max) {
      const std::uint64_t count = model.entries.size();
      REQUIRE(storage.begin_snapshot(SharedBytes::take(std::vector<std::uint64_t>{count}), count % 3).ok());
      bool finished = count % 3 == 0;
      for (std::uint64_t part = count % 3; part-- > 0;) {
        if (random.chance(0.2)) break;  // a crash comes first, or the next snapshot
        const Result<bool> done =
            storage.write_part(part, std::vector<std::byte>(1000 + part, static_cast<std::byte>(count)));
        REQUIRE(done.ok());
        finished = *done;
      }
      if (finished) model.snapshots.push_back(count);
    } else if (what == 16 && random.chance(0.2)) {
      REQUIRE(storage.drop().ok());
      model = {};
    } else if (what > 16) {
      storage = opened(folder);
      const std::optional<StoredLog> stored = storage.take_stored();
      REQUIRE(stored.has_value() == !model.entries.empty());
      if (!stored) continue;
      CHECK(stored->complete);
      CHECK(stored->warnings.empty());
      model.check(*stored, model.entries.size());
    }
  }
  return model;
}

std::vector<fs::path> files_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder / "log")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// A copy of the folder in which something is done to one file.
template <class Change>
void with_changed(const fs::path& folder, const fs::path& file, const Change& change) {
  const TemporaryFolder copy;
  fs::copy(folder, copy.path() / "shard", fs::copy_options::recursive);
  change(copy.path() / "shard" / fs::relative(file, folder), copy.path() / "shard");
}

TEST_CASE("entries and snapshots are found again, through restarts and new jobs") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    const TemporaryFolder folder;
    const Model model = live(folder.path() / "1", RandomStream(seed, 1), 120);
    LogStorage storage = opened(folder.path() / "1");
    const std::optional<StoredLog> stored = storage.take_stored();
    REQUIRE(stored.has_value() == !model.entries.empty());
    if (!stored) continue;
    model.check(*stored, model.entries.size());
    // Two snapshots and the log since the older one.
    std::size_t snapshots = 0;
    for (const fs::path& file : files_of(folder.path() / "1"))
      snapshots += file.filename().string().starts_with("snapshot-") ? 1 : 0;
    CHECK(snapshots <= kSnapshotsKept);
  }
}

TEST_CASE("a file that ends anywhere gives the entries before, or an older snapshot, or an error") {
  const TemporaryFolder folder;
  const fs::path shard = folder.path() / "1";
  Model model;
  for (std::uint64_t seed = 0; model.snapshots.size() < 2 || model.entries.size() < 12; ++seed) {
    fs::remove_all(shard);
    model = live(shard, RandomStream(seed, 2), 40, 2);
  }
  const std::vector<fs::path> files = files_of(shard);
  const fs::path last = *std::find_if(files.rbegin(), files.rend(), [](const fs::path& file) {
    return file.filename().string().starts_with("log-");
  });
  for (const fs::path& file : files) {
    for (std::uint64_t size = 0; size < fs::file_size(file); ++size) {
      CAPTURE(file.filename().string(), size);
      with_changed(shard, file, [&](const fs::path& changed, const fs::path& copy) {
        fs::resize_file(changed, size);
        Result<LogStorage> storage = LogStorage::open(copy);
        if (!storage.ok()) {
          CHECK(storage.error().code == ErrorCode::kCorrupt);
          CHECK(file != last);
          return;
        }
        const std::optional<StoredLog> stored = storage->take_stored();
        if (!stored) {
          CHECK(file == last);
          return;
        }
        if (file != last) return model.check(*stored, model.entries.size());
        const std::size_t found =
            stored->entries.size() + (stored->snapshot ? model.snapshots.back() : std::size_t{0});
        model.check(*stored, found);
        CHECK(stored->complete);  // a write that has not been finished was not acknowledged
        // And life goes on.
        REQUIRE(storage->append(std::array{SharedBytes()}).ok());
        LogStorage again = opened(copy);
        CHECK(again.take_stored()->entries.size() == stored->entries.size() + 1);
      });
    }
  }
}

TEST_CASE("a flipped bit is found: an older snapshot, a shorter log that says so, or an error") {
  const TemporaryFolder folder;
  const fs::path shard = folder.path() / "1";
  Model model;
  for (std::uint64_t seed = 0; model.snapshots.size() < 2 || model.entries.size() < 12; ++seed) {
    fs::remove_all(shard);
    model = live(shard, RandomStream(seed, 3), 40, 2);
  }
  RandomStream random(4, 4);
  std::map<std::string, int> seen;
  for (const fs::path& file : files_of(shard)) {
    for (std::uint64_t i = 0; i < 200; ++i) {
      const std::uint64_t byte = random.below(fs::file_size(file));
      const auto bit = static_cast<char>(1 << random.below(8));
      CAPTURE(file.filename().string(), byte, int{bit});
      with_changed(shard, file, [&](const fs::path& changed, const fs::path& copy) {
        std::fstream stream(changed, std::ios::in | std::ios::out | std::ios::binary);
        stream.seekg(static_cast<std::streamoff>(byte));
        const char before = static_cast<char>(stream.get());
        stream.seekp(static_cast<std::streamoff>(byte));
        stream.put(static_cast<char>(before ^ bit));
        stream.close();
        Result<LogStorage> storage = LogStorage::open(copy);
        if (!storage.ok()) {
          ++seen["error"];
          CHECK(storage.error().code == ErrorCode::kCorrupt);
          CHECK(storage.error().message.find("is damaged") != std::string::npos);
          return;
        }
        const std::optional<StoredLog> stored = storage->take_stored();
        REQUIRE(stored.has_value());
        std::size_t begin = 0;
        if (stored->snapshot) std::memcpy(&begin, stored->snapshot->head.data(), sizeof begin);
        const std::size_t found = begin + stored->entries.size();
        model.check(*stored, found);
        if (found < model.entries.size()) {
          ++seen["shorter"];
          CHECK_FALSE(stored->complete);
          CHECK_FALSE(stored->warnings.empty());
        } else {
          ++seen["all"];
        }
      });
    }
  }
  CHECK(seen["error"] > 0);
  CHECK(seen["shorter"] > 0);
  CHECK(seen["all"] > 0);
}

TEST_CASE("a log in `log` mode that another start of the machine has written may have lost its end") {
  const TemporaryFolder folder;
  const fs::path shard = folder.path() / "1";
  for (const Durability durability : {Durability::kLog, Durability::kSync}) {
    {
      LogStorage storage = opened(shard);
      REQUIRE(storage.append(std::array{SharedBytes::take(std::vector<int>{1})}, durability).ok());
    }
    CHECK(opened(shard).take_stored()->complete);
    CHECK(opened(shard).take_stored()->term > 1);
    // As if it had been written before the machine was started.
    std::array<std::uint64_t, 6> head{};
    std::fstream stream(files_of(shard).front(), std::ios::in | std::ios::out | std::ios::binary);
    stream.read(reinterpret_cast<char*>(head.data()), sizeof head);
    ++head[4];
    const Hash hash = hash_of(head, {});
    stream.seekp(0);
    stream.write(reinterpret_cast<const char*>(head.data()), sizeof head);
    stream.write(reinterpret_cast<const char*>(hash.data()), sizeof hash);
    stream.close();
    const std::optional<StoredLog> stored = opened(shard).take_stored();
    REQUIRE(stored);
    CHECK(stored->entries.size() == 1);
    CHECK(stored->complete == (durability == Durability::kSync));
  }
}

TEST_CASE("what is damaged altogether is an error, and stays where it is") {
  const TemporaryFolder folder;
  const fs::path shard = folder.path() / "1";
  {
    LogStorage storage = opened(shard);
    REQUIRE(storage.append(std::array{SharedBytes::take(std::vector<int>{1, 2})}, Durability::kSync).ok());
  }
  const fs::path log = files_of(shard).front();
  with_changed(shard, log, [&](const fs::path& changed, const fs::path& copy) {
    std::fstream stream(changed, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(fs::file_size(changed) - 1));
    stream.put('x');
    stream.close();
    CHECK(LogStorage::open(copy).error().code == ErrorCode::kCorrupt);
    CHECK(fs::exists(changed));
  });
  {
    LogStorage storage = opened(shard);
    REQUIRE(storage.begin_snapshot(SharedBytes::take(std::vector<int>{3}), 0).ok());
  }
  for (const fs::path& file : files_of(shard))
    if (file.filename().string().starts_with("log-")) fs::remove(file);
  const fs::path snapshot = files_of(shard).front();
  fs::resize_file(snapshot, 20);
  CHECK(LogStorage::open(shard).error().code == ErrorCode::kCorrupt);
  CHECK(fs::exists(snapshot));
}

TEST_CASE("a log of another version of the program is refused, and stays where it is") {
  const TemporaryFolder folder;
  {
    LogStorage storage = opened(folder.path());
    REQUIRE(storage.append(std::array{SharedBytes::take(std::vector<std::byte>(10))}, Durability::kLog).ok());
  }
  const fs::path path = folder.path() / "log" / "log-0000000000000000";
  const SharedBytes bytes = read_file(path).value();
  std::array<std::uint64_t, 6> head{};
  std::memcpy(head.data(), bytes.data(), sizeof head);
  head[0] += std::uint64_t{1} << 56;
  const Hash hash = hash_of(head, {});
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(head.data()), sizeof head);
  file.write(reinterpret_cast<const char*>(hash.data()), sizeof hash);
  file.write(reinterpret_cast<const char*>(bytes.data()) + sizeof head + sizeof hash,
             static_cast<std::streamsize>(bytes.size() - sizeof head - sizeof hash));
  file.close();
  const Result<LogStorage> refused = LogStorage::open(folder.path());
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kRefused);
  CHECK(refused.error().message ==
        path.string() + " was written by another version of this program (its format is 3, this one's 2)");
  CHECK(fs::file_size(path) == bytes.size());
}

TEST_CASE("a disk that is full costs nothing but time") {
  if (::geteuid() != 0) return;
  const TemporaryFolder folder;
  const fs::path mount = folder.path() / "small";
  fs::create_directory(mount);
  if (std::system(fmt::format("mount -t tmpfs -o size=256k tmpfs {} 2> /dev/null", mount.string()).c_str()) !=
      0)
    return;
  {
    LogStorage storage = opened(mount / "1");
    RandomStream random(5, 5);
    std::vector<std::vector<std::byte>> written;
    const auto append = [&] {
      const SharedBytes bytes = SharedBytes::take(std::vector<std::uint64_t>(1000, random.next_u64()));
      const Status status =
          storage.append(std::array{bytes}, written.empty() ? std::optional(Durability::kLog) : std::nullopt);
      if (status.ok()) written.push_back(content(bytes));
      return status;
    };
    Status status;
    while ((status = append()).ok()) {
    }
    CHECK(status.error().message.find("No space left on device") != std::string::npos);
    CHECK_FALSE(storage.begin_snapshot(SharedBytes::take(std::vector<std::uint64_t>(100000)), 1).ok());
    CHECK_FALSE(append().ok());
    REQUIRE(std::system(fmt::format("mount -o remount,size=1m {}", mount.string()).c_str()) == 0);
    for (int i = 0; i < 3; ++i) REQUIRE(append().ok());
    const std::optional<StoredLog> stored = opened(mount / "1").take_stored();
    REQUIRE(stored);
    REQUIRE(stored->entries.size() == written.size());
    for (std::size_t i = 0; i < written.size(); ++i) CHECK(content(stored->entries[i]) == written[i]);
  }
  CHECK(std::system(fmt::format("umount {}", mount.string()).c_str()) == 0);
}

}  // namespace
}  // namespace nanduti
