#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "common/net/core_runner.h"
#include "server/shard/shard_core.h"
#include "server/storage/shard_storage.h"

namespace nanduti {

/// Writes what a shard wants to be kept, on a thread of its own: whatever has come meanwhile in one go, and
/// what is behind a snapshot's parts in front of them. A disk that is full is tried again until it has taken
/// everything: the shard acknowledges nothing meanwhile. One that fails to sync ends the program.
class StorageThread {
 public:
  /// `runner` outlives it, and has been stopped when stop() is called.
  StorageThread(ShardStorage storage, CoreRunner<ShardCore>& runner);
  ~StorageThread() { stop(); }
  StorageThread(const StorageThread&) = delete;
  StorageThread& operator=(const StorageThread&) = delete;

  /// AppendLog, DropLog, BeginSnapshot, SnapshotPart; others are ignored. Any thread.
  void take(const ShardCore::Action& action);
  /// Writes what there is, once, and ends.
  void stop();

 private:
  void run();
  /// In order. False if it was told to stop before the disk took it.
  bool write(const ShardCore::Action& action);
  template <class Try>
  bool insist(const Try& attempt);
  void write_part(const ValuesPart& part);

  ShardStorage storage_;
  CoreRunner<ShardCore>& runner_;
  std::uint64_t appended_ = 0;  // records, all jobs

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ShardCore::Action> work_;  // but for parts
  std::deque<ValuesPart> parts_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace nanduti
