#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "common/base/protocol_time.h"

namespace nanduti::sim {

/// What is to happen, by (time, sequence): virtual time.
class EventQueue {
 public:
  explicit EventQueue(ProtocolTime beginning) : now_(beginning) {}

  void at(ProtocolTime time, std::function<void()> what) {
    heap_.push_back({std::max(time, now_), next_sequence_++, std::move(what)});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  [[nodiscard]] bool empty() const { return heap_.empty(); }
  [[nodiscard]] ProtocolTime now() const { return now_; }
  /// Precondition: not empty.
  void run_next() {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const Entry entry = std::move(heap_.back());
    heap_.pop_back();
    now_ = entry.time;
    entry.what();
  }

 private:
  struct Entry {
    ProtocolTime time;
    std::uint64_t sequence = 0;
    std::function<void()> what;
  };
  static bool later(const Entry& a, const Entry& b) {
    return a.time != b.time ? a.time > b.time : a.sequence > b.sequence;
  }

  ProtocolTime now_;
  std::uint64_t next_sequence_ = 0;
  std::vector<Entry> heap_;
};

}  // namespace nanduti::sim
