#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/durability.h"
#include "common/base/result.h"
#include "server/storage/file_descriptor.h"

/// The log and snapshots of a shard or a coordinator, in a folder of their own:
///   FOLDER/term                       how often the folder has been opened
///   FOLDER/log/log-0000000000000000   a segment of the log; its name is the number of its first entry
///   FOLDER/log/snapshot-0000000000000123   what the first 0x123 entries have made
/// A shard's `log` is one job's. Numbers in the files are 64-bit, little-endian; hashes are BLAKE2b of 128
/// bits.
///   segment   "NANDLOG2", job id, first entry's number, durability, boot id (2 words), hash of these; then
///             the entries
///   entry     length, check word (of job id, number and length), hash of job id, number and bytes; bytes,
///             padded with zeros to a multiple of 8
///   snapshot  "NANDSNP2", job id, entries, parts, length of the head, hash of these and the head; head,
///             padded; then the parts in any order, each with its index, its length, its hash and its bytes
/// The job id is random, and new for each job.
namespace nanduti {

/// Of the log, what follows the older one.
inline constexpr std::size_t kSnapshotsKept = 2;

/// What such a folder holds.
struct StoredLog {
  struct Snapshot {
    SharedBytes head;
    std::vector<std::pair<std::uint64_t, SharedBytes>> parts;  ///< by index
  };
  std::optional<Snapshot> snapshot;
  std::vector<SharedBytes> entries;  ///< since the snapshot, or all; each begins at a multiple of 8
  /// Whether nothing that was acknowledged may be missing at the end.
  bool complete = true;
  std::uint64_t term = 1;             ///< this is the term-th time
  std::uint64_t bytes = 0;            ///< that were read
  std::vector<std::string> warnings;  ///< for the operator: what was cut off, or passed over
};

/// Appends entries, writes snapshots, and keeps of both what a recovery needs: the newest two snapshots and
/// the log since the older one. One thread at a time. Errors are kIo and name the path, unless said
/// otherwise; after one the same call may be tried again, for instance when the disk has room.
class LogStorage {
 public:
  /// Creates the folder if need be and reads it. Errors: kCorrupt, where something in the midst of the log is
  /// damaged that no snapshot makes good, and kRefused, where another version of this program has written it:
  /// nothing is changed then.
  static Result<LogStorage> open(const std::filesystem::path& folder);

  /// What open() has found; once.
  [[nodiscard]] std::optional<StoredLog> take_stored() { return std::exchange(stored_, std::nullopt); }

  /// One more entry: written when it returns. `begins`: of a new job, of which this is wanted.
  Status append(std::span<const SharedBytes> pieces, std::optional<Durability> begins = {});
  /// What has been written is as durable as it is to be. An error stays: what the disk has is not known any
  /// more, and nothing but reading it again, as open() does, tells.
  Status sync();
  /// The job is over: log and snapshots go.
  Status drop();

  /// A snapshot of all entries so far, whose parts follow; one that has not been finished goes.
  Status begin_snapshot(const SharedBytes& head, std::uint64_t parts);
  /// The last part finishes it, and what it makes superfluous goes. Gives whether it is finished.
  Result<bool> write_part(std::uint64_t index, std::span<const std::byte> bytes);
  void give_up_snapshot();

 private:
  struct Segment {
    std::uint64_t first = 0;
    std::filesystem::path path;
  };
  struct Writing {
    std::uint64_t entries = 0;
    std::uint64_t parts_left = 0;
    std::uint64_t size = 0;  // in bytes, so far
    std::filesystem::path path;
    FileDescriptor file;
  };

  explicit LogStorage(std::filesystem::path folder) : folder_(std::move(folder)) {}
  [[nodiscard]] std::filesystem::path log_folder() const { return folder_ / "log"; }
  [[nodiscard]] std::filesystem::path snapshot_path(std::uint64_t entries) const;
  Status count_term();
  Status read();
  Status begin_segment();
  Status finish_snapshot();
  Status remove_superfluous();

  std::filesystem::path folder_;
  std::uint64_t term_ = 1;
  std::optional<StoredLog> stored_;
  std::uint64_t job_ = 0;                     // 0: there is no log
  Durability durability_ = Durability::kLog;  // of the job
  std::uint64_t next_entry_ = 0;
  std::vector<Segment> segments_;  // the last one is written to, if file_ is open
  std::vector<std::uint64_t> snapshots_;
  FileDescriptor file_;
  std::optional<Error> sync_failed_;
  std::uint64_t size_ = 0;  // of the segment, in whole entries
  std::optional<Writing> writing_;
};

}  // namespace nanduti
