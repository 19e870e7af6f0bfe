#include "server/storage/log_storage.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <random>

#include <fcntl.h>
#include <unistd.h>

#include "server/storage/atomic_file.h"
#include "server/storage/checked_file.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const std::byte>;

constexpr std::uint64_t kLogMagic = 0x32474F4C444E414E;       // "NANDLOG2"
constexpr std::uint64_t kSnapshotMagic = 0x32504E53444E414E;  // "NANDSNP2"
constexpr int kFormatAt = 56;                                 // the bit at which the format's digit begins
constexpr std::string_view kLogPrefix = "log-";
constexpr std::string_view kSnapshotPrefix = "snapshot-";

/// magic, job, first entry, durability, boot id
using SegmentHead = std::array<std::uint64_t, 6>;
constexpr std::uint64_t kSegmentHeadBytes = sizeof(SegmentHead) + sizeof(Hash);
/// length, check word
using EntryHead = std::array<std::uint64_t, 2>;
constexpr std::uint64_t kEntryHeadBytes = sizeof(EntryHead) + sizeof(Hash);
/// magic, job, entries, parts, length of the head
using SnapshotHead = std::array<std::uint64_t, 5>;
/// index, length
using PartHead = std::array<std::uint64_t, 2>;

Error failed(std::string_view what, const fs::path& path, int number = errno) {
  return make_error(ErrorCode::kIo, "cannot {} {}: {}", what, path.string(), std::strerror(number));
}

Error damaged(const fs::path& path, std::string_view what) {
  return make_error(ErrorCode::kCorrupt, "{} is damaged: {}", path.string(), what);
}

/// What a file's head begins with, which is as it was written. Errors: kCorrupt, and kRefused for another
/// format.
Status check_magic(std::uint64_t found, std::uint64_t wanted, const fs::path& path) {
  if (found == wanted) return {};
  if ((found ^ wanted) >> kFormatAt << kFormatAt != (found ^ wanted))
    return damaged(path, "its head is not what was written");
  return make_error(ErrorCode::kRefused,
                    "{} was written by another version of this program (its format is {}, this one's {})",
                    path.string(), static_cast<char>(found >> kFormatAt),
                    static_cast<char>(wanted >> kFormatAt));
}

template <class Words>
Bytes bytes_of(const Words& words) {
  return std::as_bytes(std::span(words));
}

std::uint64_t check_word(std::uint64_t job, std::uint64_t number, std::uint64_t length) {
  return hash_of(std::array{job, number, length}, {})[0];
}

/// The number behind the prefix, in 16 hexadecimal digits.
std::optional<std::uint64_t> number_in(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix) || name.size() != prefix.size() + 16) return std::nullopt;
  std::uint64_t number = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + prefix.size(), end, number, 16);
  return error == std::errc() && rest == end ? std::optional(number) : std::nullopt;
}

/// Of this start of the machine: a log that another one has written may have lost its end.
Hash boot_id() {
  std::array<std::byte, 64> text{};  // a file of /proc has no size
  const FileDescriptor file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  const ssize_t count = file.is_open() ? ::read(file.get(), text.data(), text.size()) : 0;
  return hash_of({}, std::array{Bytes(text).first(count < 0 ? 0 : static_cast<std::size_t>(count))});
}

std::uint64_t new_job_id() {
  std::random_device device;
  return ((std::uint64_t{device()} << 32) ^ device()) | 1;
}

/// Where a segment's whole entries end, and why there.
struct SegmentEnd {
  enum class Why { kEnd, kTorn, kDamaged };
  Why why = Why::kEnd;
  std::uint64_t count = 0;     // of whole entries
  std::uint64_t position = 0;  // where they end
};

/// Calls take(number, bytes) for each whole entry.
template <class Take>
SegmentEnd read_entries(ByteCursor& cursor, std::uint64_t job, std::uint64_t first, const Take& take) {
  SegmentEnd end;
  for (;; ++end.count) {
    end.position = cursor.position();
    if (cursor.left() == 0) return end;
    EntryHead head{};
    Hash hash{};
    if (!cursor.words(head) || !cursor.words(hash)) {
      end.why = SegmentEnd::Why::kTorn;
      return end;
    }
    const std::uint64_t number = first + end.count;
    SharedBytes bytes;
    if (head[1] != check_word(job, number, head[0])) {
      end.why = SegmentEnd::Why::kDamaged;
      return end;
    }
    if (!cursor.padded(head[0], bytes)) {
      end.why = SegmentEnd::Why::kTorn;  // its length is right, and the file ends before
      return end;
    }
    if (hash != hash_of(std::array{job, number}, std::array{bytes.view()})) {
      end.why = SegmentEnd::Why::kDamaged;
      return end;
    }
    take(number, bytes);
  }
}

/// Whether an entry with this number begins somewhere behind: what lies before it is no torn end.
bool has_entry(ByteCursor cursor, std::uint64_t job, std::uint64_t number) {
  for (std::uint64_t at = cursor.position(); cursor.left() >= kEntryHeadBytes; at += 8, cursor.seek(at)) {
    EntryHead head{};
    if (!cursor.words(head)) return false;
    if (head[1] == check_word(job, number, head[0])) return true;
    cursor.seek(at);
  }
  return false;
}

struct LoadedSnapshot {
  std::uint64_t job = 0;
  StoredLog::Snapshot content;
  std::uint64_t bytes = 0;
};

Result<LoadedSnapshot> load_snapshot(const fs::path& path, std::uint64_t entries) {
  const Result<SharedBytes> file = read_file(path);
  if (!file.ok()) return file.error();
  ByteCursor cursor(*file);
  SnapshotHead head{};
  Hash hash{};
  LoadedSnapshot loaded;
  loaded.bytes = file->size();
  const bool whole = cursor.words(head) && cursor.words(hash) &&
                     cursor.padded(head[4], loaded.content.head) && head[2] == entries &&
                     hash == hash_of(head, std::array{loaded.content.head.view()});
  if (!whole) return damaged(path, "its head is not what was written");
  NANDUTI_RETURN_IF_ERROR(check_magic(head[0], kSnapshotMagic, path));
  loaded.job = head[1];
  while (cursor.left() > 0) {
    PartHead part{};
    SharedBytes bytes;
    const std::uint64_t at = cursor.position();
    if (!cursor.words(part) || !cursor.words(hash) || !cursor.padded(part[1], bytes) ||
        hash != hash_of(std::array{head[1], part[0], part[1]}, std::array{bytes.view()}))
      return damaged(path, fmt::format("the part at byte {} is not what was written", at));
    loaded.content.parts.emplace_back(part[0], bytes);
  }
  if (loaded.content.parts.size() != head[3]) return damaged(path, "parts are missing");
  return loaded;
}

}  // namespace

Result<LogStorage> LogStorage::open(const fs::path& folder) {
  LogStorage storage(folder);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return failed("create", folder, error.value());
  fs::remove_all(folder / fmt::format("log{}", kTemporarySuffix), error);
  NANDUTI_RETURN_IF_ERROR(storage.read());
  NANDUTI_RETURN_IF_ERROR(storage.count_term());
  if (storage.stored_) storage.stored_->term = storage.term_;
  return storage;
}

fs::path LogStorage::snapshot_path(std::uint64_t entries) const {
  return log_folder() / fmt::format("{}{:016x}", kSnapshotPrefix, entries);
}

Status LogStorage::count_term() {
  const fs::path path = folder_ / "term";
  const Result<SharedBytes> file = read_file(path);
  if (!file.ok() && file.error().code != ErrorCode::kNotFound) return file.error();
  if (file.ok()) {
    const auto* text = reinterpret_cast<const char*>(file->data());
    const auto [rest, error] = std::from_chars(text, text + file->size(), term_);
    if (error != std::errc() || term_ == std::numeric_limits<std::uint64_t>::max())
      return damaged(path, "it does not hold a number");
    ++term_;
  }
  return write_file_atomically(path, fmt::format("{}\n", term_));
}

Status LogStorage::read() {
  std::vector<Segment> segments;
  std::vector<std::uint64_t> snapshots;
  std::error_code error;
  for (fs::directory_iterator it(log_folder(), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (const auto first = number_in(name, kLogPrefix)) segments.push_back({*first, it->path()});
    if (const auto entries = number_in(name, kSnapshotPrefix)) snapshots.push_back(*entries);
    if (name.ends_with(kTemporarySuffix)) fs::remove(it->path(), error);
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return failed("read the folder", log_folder(), error.value());
  std::sort(segments.begin(), segments.end(),
            [](const Segment& a, const Segment& b) { return a.first < b.first; });
  std::sort(snapshots.begin(), snapshots.end());

  StoredLog stored;
  std::optional<Error> unusable;
  for (auto entries = snapshots.rbegin(); entries != snapshots.rend() && !stored.snapshot; ++entries) {
    Result<LoadedSnapshot> loaded = load_snapshot(snapshot_path(*entries), *entries);
    if (!loaded.ok()) {
      if (loaded.error().code == ErrorCode::kRefused) return loaded.error();
      stored.warnings.push_back(loaded.error().message + "; an older one is used");
      unusable = loaded.error();
      continue;
    }
    stored.snapshot = std::move(loaded->content);
    stored.bytes += loaded->bytes;
    job_ = loaded->job;
    next_entry_ = *entries;
  }
  const std::uint64_t start = next_entry_;
  // The last one that begins there or before.
  const auto after =
      std::upper_bound(segments.begin(), segments.end(), start,
                       [](std::uint64_t number, const Segment& s) { return number < s.first; });
  if (after == segments.begin() && (stored.snapshot || unusable || !segments.empty()))
    return unusable ? *unusable
                    : damaged(log_folder(), fmt::format("the log from entry {} on is missing", start));
  for (auto segment = after == segments.begin() ? after : std::prev(after); segment != segments.end();
       ++segment) {
    const bool last = std::next(segment) == segments.end();
    const Result<SharedBytes> file = read_file(segment->path);
    if (!file.ok()) return file.error();
    stored.bytes += file->size();
    ByteCursor cursor(*file);
    SegmentHead head{};
    Hash hash{};
    SegmentEnd end{SegmentEnd::Why::kTorn, 0, 0};
    if (cursor.words(head) && cursor.words(hash)) {
      if (head[2] != segment->first || hash != hash_of(head, {}))
        return damaged(segment->path, "its head is not what was written");
      NANDUTI_RETURN_IF_ERROR(check_magic(head[0], kLogMagic, segment->path));
      if (job_ != 0 && head[1] != job_) return damaged(segment->path, "it is of another job");
      job_ = head[1];
      durability_ =
          head[3] == static_cast<std::uint64_t>(Durability::kSync) ? Durability::kSync : Durability::kLog;
      end = read_entries(cursor, job_, segment->first, [&](std::uint64_t number, SharedBytes bytes) {
        if (number >= start) stored.entries.push_back(std::move(bytes));
      });
      if (last && durability_ == Durability::kLog && boot_id() != Hash{head[4], head[5]}) {
        stored.complete = false;
        stored.warnings.push_back(fmt::format(
            "{} was written before this machine was started: its end may be lost", segment->path.string()));
      }
    }
    next_entry_ = std::max(next_entry_, segment->first + end.count);
    if (!last && segment->first + end.count == std::next(segment)->first) continue;
    if (!last)
      return damaged(segment->path,
                     fmt::format("entry {} is not what was written", segment->first + end.count));
    if (end.why == SegmentEnd::Why::kDamaged) {
      cursor.seek(end.position + 8);
      if (has_entry(cursor, job_, segment->first + end.count + 1))
        return damaged(segment->path,
                       fmt::format("entry {} is not what was written", segment->first + end.count));
      if (!stored.snapshot && stored.entries.empty())
        return damaged(segment->path, "its first entry is not what was written");
      stored.complete = false;
    }
    if (end.why != SegmentEnd::Why::kEnd && file->size() > end.position)
      stored.warnings.push_back(fmt::format("{}: what follows byte {} is no whole entry and is cut off",
                                            segment->path.string(), end.position));
  }
  if (!stored.snapshot && stored.entries.empty()) {  // nothing had been acknowledged
    job_ = next_entry_ = 0;
    return fs::exists(log_folder(), error) ? drop() : Status();
  }
  segments_ = std::move(segments);
  snapshots_ = std::move(snapshots);
  stored_ = std::move(stored);
  return {};
}

Status LogStorage::begin_segment() {
  const Segment segment{next_entry_, log_folder() / fmt::format("{}{:016x}", kLogPrefix, next_entry_)};
  FileDescriptor file(
      ::open(segment.path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!file.is_open()) return failed("create", segment.path);
  const Hash boot = boot_id();
  const SegmentHead head{kLogMagic, job_,   next_entry_, static_cast<std::uint64_t>(durability_),
                         boot[0],   boot[1]};
  const Hash hash = hash_of(head, {});
  Status status;
  if (!write_at(file.get(), 0, std::array{bytes_of(head), bytes_of(hash)}))
    status = failed("write", segment.path);
  if (status.ok()) status = sync_folder(log_folder());
  if (!status.ok()) {  // the log goes on in the segment before
    ::unlink(segment.path.c_str());
    return status;
  }
  if (!segments_.empty() && segments_.back().first == next_entry_) segments_.pop_back();  // it was empty
  segments_.push_back(segment);
  file_ = std::move(file);
  size_ = kSegmentHeadBytes;
  return {};
}

Status LogStorage::append(std::span<const SharedBytes> pieces, std::optional<Durability> begins) {
  if (begins) {
    NANDUTI_RETURN_IF_ERROR(drop());
    std::error_code error;
    fs::create_directory(log_folder(), error);
    if (error) return failed("create", log_folder(), error.value());
    NANDUTI_RETURN_IF_ERROR(sync_folder(folder_));
    job_ = new_job_id();
    durability_ = *begins;
  }
  if (!file_.is_open()) NANDUTI_RETURN_IF_ERROR(begin_segment());
  EntryHead head{};
  std::vector<Bytes> all(2);
  for (const SharedBytes& piece : pieces) {
    head[0] += piece.size();
    all.push_back(piece.view());
  }
  head[1] = check_word(job_, next_entry_, head[0]);
  const Hash hash = hash_of(std::array{job_, next_entry_}, std::span<const Bytes>(all).subspan(2));
  all[0] = bytes_of(head);
  all[1] = bytes_of(hash);
  const std::array<std::byte, 8> zeros{};
  all.push_back(std::span(zeros).first(padded_to_8(head[0]) - head[0]));
  if (!write_at(file_.get(), size_, all)) {
    const int number = errno;
    const fs::path path = segments_.back().path;
    // What is there of the entry goes; where not even that can be done, another segment follows.
    if (::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) (void)file_.close();
    return failed("write", path, number);
  }
  size_ += kEntryHeadBytes + padded_to_8(head[0]);
  ++next_entry_;
  return {};
}

Status LogStorage::sync() {
  if (durability_ != Durability::kSync || !file_.is_open()) return {};
  // A second attempt would succeed, without what the first one has lost.
  if (!sync_failed_ && ::fdatasync(file_.get()) != 0) sync_failed_ = failed("sync", segments_.back().path);
  return sync_failed_ ? Status(*sync_failed_) : Status();
}

Status LogStorage::drop() {
  give_up_snapshot();
  (void)file_.close();
  segments_.clear();
  snapshots_.clear();
  job_ = next_entry_ = 0;
  const fs::path going = folder_ / fmt::format("log{}", kTemporarySuffix);
  std::error_code error;
  fs::remove_all(going, error);
  if (error) return failed("remove", going, error.value());
  fs::rename(log_folder(), going, error);
  if (error == std::errc::no_such_file_or_directory) return {};
  if (error) return failed("remove", log_folder(), error.value());
  NANDUTI_RETURN_IF_ERROR(sync_folder(folder_));
  fs::remove_all(going, error);
  return error ? Status(failed("remove", going, error.value())) : Status();
}

// ---- snapshots ----

Status LogStorage::begin_snapshot(const SharedBytes& head, std::uint64_t parts) {
  give_up_snapshot();
  // The log behind it has a file of its own; nobody syncs the one before any more.
  NANDUTI_RETURN_IF_ERROR(sync());
  if (!file_.is_open() || segments_.back().first != next_entry_) NANDUTI_RETURN_IF_ERROR(begin_segment());
  fs::path path = snapshot_path(next_entry_);
  path += kTemporarySuffix;
  Writing writing{next_entry_, parts, 0, path, {}};
  writing.file =
      FileDescriptor(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!writing.file.is_open()) return failed("create", path);
  writing_ = std::move(writing);
  const SnapshotHead words{kSnapshotMagic, job_, next_entry_, parts, head.size()};
  const Hash hash = hash_of(words, std::array{head.view()});
  const std::array<std::byte, 8> zeros{};
  const std::array all{bytes_of(words), bytes_of(hash), head.view(),
                       Bytes(zeros).first(padded_to_8(head.size()) - head.size())};
  if (!write_at(writing_->file.get(), 0, all)) {
    const Error error = failed("write", path);
    give_up_snapshot();
    return error;
  }
  for (const Bytes piece : all) writing_->size += piece.size();
  return parts == 0 ? finish_snapshot() : Status();
}

Result<bool> LogStorage::write_part(std::uint64_t index, std::span<const std::byte> bytes) {
  if (!writing_) return make_error(ErrorCode::kUnavailable, "no snapshot is being written");
  const PartHead head{index, bytes.size()};
  const Hash hash = hash_of(std::array{job_, head[0], head[1]}, std::array{bytes});
  const std::array<std::byte, 8> zeros{};
  const std::array all{bytes_of(head), bytes_of(hash), bytes,
                       Bytes(zeros).first(padded_to_8(bytes.size()) - bytes.size())};
  if (!write_at(writing_->file.get(), writing_->size, all)) {
    const Error error = failed("write", writing_->path);
    give_up_snapshot();
    return error;
  }
  for (const Bytes piece : all) writing_->size += piece.size();
  if (--writing_->parts_left > 0) return false;
  NANDUTI_RETURN_IF_ERROR(finish_snapshot());
  return true;
}

Status LogStorage::finish_snapshot() {
  Writing writing = std::move(*writing_);
  writing_.reset();
  if (::fsync(writing.file.get()) != 0 || !writing.file.close() ||
      ::rename(writing.path.c_str(), snapshot_path(writing.entries).c_str()) != 0) {
    const Error error = failed("write", writing.path);
    ::unlink(writing.path.c_str());
    return error;
  }
  NANDUTI_RETURN_IF_ERROR(sync_folder(log_folder()));
  if (snapshots_.empty() || snapshots_.back() != writing.entries) snapshots_.push_back(writing.entries);
  return remove_superfluous();
}

void LogStorage::give_up_snapshot() {
  if (!writing_) return;
  ::unlink(writing_->path.c_str());
  writing_.reset();
}

/// Should the newest snapshot be damaged, the one before and its log are still there.
Status LogStorage::remove_superfluous() {
  std::error_code error;
  for (; snapshots_.size() > kSnapshotsKept; snapshots_.erase(snapshots_.begin()))
    if (!fs::remove(snapshot_path(snapshots_.front()), error) && error)
      return failed("remove", snapshot_path(snapshots_.front()), error.value());
  if (snapshots_.size() < kSnapshotsKept) return {};
  for (; segments_.size() > 1 && segments_[1].first <= snapshots_.front(); segments_.erase(segments_.begin()))
    if (!fs::remove(segments_.front().path, error) && error)
      return failed("remove", segments_.front().path, error.value());
  return {};
}

}  // namespace nanduti
