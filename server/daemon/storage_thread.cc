#include "server/daemon/storage_thread.h"

#include <chrono>
#include <cstdlib>
#include <optional>
#include <utility>

#include "common/base/log.h"
#include "common/base/overloaded.h"

namespace nanduti {

namespace {

constexpr std::chrono::milliseconds kRetryEvery{200};
constexpr int kRetriesPerWarning = 150;  // half a minute

}  // namespace

StorageThread::StorageThread(ShardStorage storage, CoreRunner<ShardCore>& runner)
    : storage_(std::move(storage)), runner_(runner), thread_([this] { run(); }) {}

void StorageThread::take(const ShardCore::Action& action) {
  const std::lock_guard lock(mutex_);
  if (const auto* part = std::get_if<ShardCore::SnapshotPart>(&action))
    parts_.push_back(part->part);
  else
    work_.push_back(action);
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
    std::deque<ShardCore::Action> work;
    std::optional<ValuesPart> part;
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
    for (const ShardCore::Action& action : work)
      if (!write(action)) return;
    if (const Status status = storage_.sync(); !status.ok()) {
      log_error("{}: nothing tells what the disk has but a new start; ending", status.error().message);
      std::_Exit(1);
    }
    runner_.on_durable(appended_);
  }
}

bool StorageThread::write(const ShardCore::Action& action) {
  return std::visit(
      Overloaded{[&](const ShardCore::AppendLog& append) {
                   ++appended_;
                   return insist([&] { return storage_.append(append.pieces, append.begins); });
                 },
                 [&](const ShardCore::DropLog&) { return insist([&] { return storage_.drop(); }); },
                 [&](const ShardCore::BeginSnapshot& snapshot) {
                   const Status status = storage_.begin_snapshot(snapshot.head, snapshot.parts);
                   if (!status.ok() || snapshot.parts == 0) runner_.post(ShardCore::SnapshotEnded{status});
                   return true;
                 },
                 [](const auto&) { return true; }},
      action);
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

void StorageThread::write_part(const ValuesPart& part) {
  const Result<bool> finished = storage_.write_part(part.index, part.bytes.view());
  if (!finished.ok() && finished.error().code == ErrorCode::kUnavailable) return;  // it has been given up
  runner_.post(ShardCore::SnapshotPartWritten{});
  if (!finished.ok())
    runner_.post(ShardCore::SnapshotEnded{finished.error()});
  else if (*finished)
    runner_.post(ShardCore::SnapshotEnded{});
}

}  // namespace nanduti
