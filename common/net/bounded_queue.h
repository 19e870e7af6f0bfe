#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace nanduti {

/// What waits for one thread, in order: at most so many entries, at most so many bytes. Entries beyond either
/// are dropped and counted. The reader takes all at once, so that while it works through them as much again
/// may be waiting. Any thread.
template <class T>
class BoundedQueue {
 public:
  struct Limits {
    std::size_t entries_max;
    std::size_t bytes_max;
  };
  struct Counters {
    std::uint64_t dropped = 0, dropped_bytes = 0;
  };
  enum class Pushed {
    kFirst,  ///< the queue was empty: wake its reader
    kMore,
    kDropped
  };

  explicit BoundedQueue(const Limits& limits) : limits_(limits) {}

  Pushed push(T entry, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (entries_.size() >= limits_.entries_max || bytes > limits_.bytes_max - bytes_) {
      ++counters_.dropped;
      counters_.dropped_bytes += bytes;
      return Pushed::kDropped;
    }
    bytes_ += bytes;
    return append(std::move(entry));
  }
  /// For what must not be lost, is small, and is bounded by whoever asks for it.
  Pushed push_always(T entry) {
    const std::lock_guard lock(mutex_);
    return append(std::move(entry));
  }

  std::vector<T> take() {
    const std::lock_guard lock(mutex_);
    bytes_ = 0;
    return std::exchange(entries_, {});
  }

  [[nodiscard]] Counters counters() const {
    const std::lock_guard lock(mutex_);
    return counters_;
  }

 private:
  Pushed append(T entry) {
    entries_.push_back(std::move(entry));
    return entries_.size() == 1 ? Pushed::kFirst : Pushed::kMore;
  }

  mutable std::mutex mutex_;  // everything below
  Limits limits_;
  std::vector<T> entries_;
  std::size_t bytes_ = 0;
  Counters counters_;
};

}  // namespace nanduti
