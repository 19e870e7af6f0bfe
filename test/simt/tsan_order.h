#pragma once

#include <cstddef>
#include <vector>

#include "test/simt/grid.h"

#if defined(NANDUTI_SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace nanduti::simt {

/// What ThreadSanitizer has to hear, which sees nothing of the scheduler (CMakeLists.txt): what a thread does
/// before it waits is seen by those that waited with it; blocks follow each other; and a thread that calls us
/// does our work under the host's name, so that this orders nothing.
class TsanOrder {
 public:
#if defined(NANDUTI_SIMT_TSAN)
  void begin_grid(std::size_t threads) {
    host_ = __tsan_get_current_fiber();
    groups_.resize(1 + (threads + kWarpSize - 1) / kWarpSize);
  }
  void begin_block() { __tsan_release(&block_begin_); }
  void end_block() { __tsan_acquire(&block_end_); }
  void begin_thread() { __tsan_acquire(&block_begin_); }
  void end_thread() { __tsan_release(&block_end_); }
  /// Group 0 is the block, 1 + k its warp k.
  void arrive(std::size_t group) { __tsan_release(&groups_[group]); }
  void leave(std::size_t group) { __tsan_acquire(&groups_[group]); }
  void* enter_host() {
    void* const own = __tsan_get_current_fiber();
    __tsan_release(&to_host_);
    __tsan_switch_to_fiber(host_, 1);
    __tsan_acquire(&to_host_);
    return own;
  }
  static void leave_host(void* own) { __tsan_switch_to_fiber(own, 1); }
  /// What the host has read of a thread's, the thread may write again or free. (This does order something.)
  void done_on_host() { __tsan_release(&from_host_); }
  void heard_of_host() { __tsan_acquire(&from_host_); }

 private:
  void* host_ = nullptr;
  std::vector<char> groups_;
  char block_begin_ = 0, block_end_ = 0, to_host_ = 0, from_host_ = 0;
#else
  void begin_grid(std::size_t) {}
  void begin_block() {}
  void end_block() {}
  void begin_thread() {}
  void end_thread() {}
  void arrive(std::size_t) {}
  void leave(std::size_t) {}
  void* enter_host() { return nullptr; }
  static void leave_host(void*) {}
  void done_on_host() {}
  void heard_of_host() {}
#endif
};

}  // namespace nanduti::simt
