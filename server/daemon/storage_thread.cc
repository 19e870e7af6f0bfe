#include "server/daemon/storage_thread.h"

#include <chrono>
#include <cstdlib>
#include <optional>
#include <utility>

#include "common/base/log.h"

namespace nanduti {

namespace {

constexpr std::chrono::milliseconds kRetryEvery{200};
constexpr int kRetriesPerWarning = 150;  // half a minute

}  // namespace

StorageThread::StorageThread(LogStorage storage, Owner owner)
    : storage_(std::move(storage)), owner_(std::move(owner)), thread_([this] { run(); }) {}

void StorageThread::take(Work work) {
  const std::lock_guard lock(mutex_);
  work_.push_back(std::move(work));
  changed_.notify_one();
}

void StorageThread::take_part(std::uint64_t index, SharedBytes bytes) {
  const std::lock_guard lock(mutex_);
  parts_.push_back({index, std::move(bytes)});
  changed_.notify_one();
}

void StorageThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void StorageThread::run() {
  for (;;) {
    std::deque<Work> work;
    std::optional<Part> part;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !work_.empty() || !parts_.empty() || stopping_; });
      if (work_.empty() && stopping_) return;
      work.swap(work_);
      if (work.empty()) {
        part = std::move(parts_.front());
        parts_.pop_front();
      }
    }
    if (part) {
      write_part(*part);
      continue;
    }
    for (const Work& one : work)
      if (!std::visit([&](const auto& w) { return write(w); }, one)) return;
    if (const Status status = storage_.sync(); !status.ok()) {
      log_error("{}: nothing tells what the disk has but a new start; ending", status.error().message);
      std::_Exit(1);
    }
    owner_.on_durable(appended_);
  }
}

bool StorageThread::write(const AppendLog& append) {
  ++appended_;
  return insist([&] { return storage_.append(append.pieces, append.begins); });
}

bool StorageThread::write(const DropLog&) {
  return insist([&] { return storage_.drop(); });
}

bool StorageThread::write(const BeginSnapshot& snapshot) {
  Status status = storage_.begin_snapshot(snapshot.head, snapshot.parts);
  if (!status.ok() || snapshot.parts == 0) owner_.on_snapshot_ended(std::move(status));
  return true;
}

template <class Try>
bool StorageThread::insist(const Try& attempt) {
  for (int tries = 0;; ++tries) {
    const Status status = attempt();
    if (status.ok()) {
      if (tries > 0) log_info("the storage takes what it is given again");
      return true;
    }
    if (tries % kRetriesPerWarning == 0)
      log_error("{}; nothing is acknowledged until it can be written", status.error().message);
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kRetryEvery, [&] { return stopping_; })) return false;
  }
}

void StorageThread::write_part(const Part& part) {
  const Result<bool> finished = storage_.write_part(part.index, part.bytes.view());
  if (!finished.ok() && finished.error().code == ErrorCode::kUnavailable) return;  // it has been given up
  owner_.on_part_written();
  if (!finished.ok())
    owner_.on_snapshot_ended(finished.error());
  else if (*finished)
    owner_.on_snapshot_ended({});
}

}  // namespace nanduti
