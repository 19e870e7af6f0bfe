#pragma once

namespace nanduti {

/// SIGINT, SIGTERM and SIGHUP as something to wait for. Make it first thing in main, before any thread
/// exists: it blocks the three signals in all of them. SIGPIPE is ignored from then on.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  enum class Cause { kSignal, kWoken, kTimeout };
  /// Waits for a signal, a wake() or the end of `timeout_ms` (negative: no end).
  Cause wait(int timeout_ms = -1);
  /// Makes one wait() return. Any thread.
  void wake();

 private:
  int signal_fd_;
  int wake_fd_;
};

}  // namespace nanduti
