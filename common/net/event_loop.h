#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/protocol_time.h"

namespace nanduti {

/// A thread that runs, one after the other, what is posted to it, and one timer. Idle, it sleeps.
class EventLoop {
 public:
  /// `name`: of the thread, as the system's tools show it; 15 characters at most.
  explicit EventLoop(std::string name);
  /// Stops, unless that has been done.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Begins to run. `on_deadline` is called on the loop's thread once the deadline has passed.
  void start(std::function<void()> on_deadline);
  /// Waits for the work that is running; what is still queued is dropped. Not from the loop's thread.
  void stop();
  /// Runs what is queued, then stops. Not from the loop's thread.
  void finish();
  /// Any thread.
  void post(std::function<void()> work);
  /// Replaces the one before; kNever: none. Loop's thread only.
  void set_deadline(ProtocolTime deadline);

  /// The loop's time: a steady clock's, without the stretches in which the loop should have run and did not
  /// (the process was stopped, the machine slept): what nobody could hear is not the other side's silence.
  /// Never goes back. Loop's thread only.
  ProtocolTime now();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nanduti
