#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <variant>

#include "common/base/storage_work.h"
#include "server/storage/log_storage.h"

namespace nanduti {

/// Writes what a core wants to be kept, on a thread of its own: whatever has come meanwhile in one go, and
/// what is behind a snapshot's parts in front of them. A disk that is full is tried again until it has taken
/// everything: nothing that depends on it leaves meanwhile. One that fails to sync ends the program.
class StorageThread {
 public:
  using Work = std::variant<AppendLog, DropLog, BeginSnapshot>;
  /// Called on the thread.
  struct Owner {
    std::function<void(std::uint64_t)> on_durable;  ///< so many entries, of all since the beginning
    std::function<void()> on_part_written;
    std::function<void(Status)> on_snapshot_ended;
  };

  StorageThread(LogStorage storage, Owner owner);
  ~StorageThread() { stop(); }
  StorageThread(const StorageThread&) = delete;
  StorageThread& operator=(const StorageThread&) = delete;

  // Any thread.
  void take(Work work);
  /// Of the snapshot that was begun last.
  void take_part(std::uint64_t index, SharedBytes bytes);
  /// Writes what there is, once, and ends.
  void stop();

 private:
  struct Part {
    std::uint64_t index = 0;
    SharedBytes bytes;
  };
  void run();
  // In order. False if it was told to stop before the disk took it.
  bool write(const AppendLog& append);
  bool write(const DropLog&);
  bool write(const BeginSnapshot& snapshot);
  template <class Try>
  bool insist(const Try& attempt);
  void write_part(const Part& part);

  LogStorage storage_;
  Owner owner_;
  std::uint64_t appended_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> work_;
  std::deque<Part> parts_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace nanduti
