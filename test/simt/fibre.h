#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace nanduti::simt {

/// Runs functions that can stop in the middle and go on later, one after the other, on a stack of its own.
/// Sanitizers are told of every switch; to ThreadSanitizer each fibre is a thread, and switching orders
/// nothing. One thread.
class Fibre {
 public:
  /// What a CUDA thread of these kernels needs, with room for what sanitizers add. A guard page lies below.
  static constexpr std::size_t kStackBytes = std::size_t{128} << 10;

  Fibre();
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  /// The next resume() begins with `body`. Precondition: ended().
  void start(std::function<void()> body);
  /// Returns when the body suspends itself or ends; throws what the body throws, which ends it. Precondition:
  /// !ended(); called from outside of fibres.
  void resume();
  /// From inside of the body. Where it is cancelled meanwhile, this throws what ends it.
  void suspend();
  /// The body ends without going on, if it has not. Its destructors run.
  void cancel();
  [[nodiscard]] bool ended() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nanduti::simt
