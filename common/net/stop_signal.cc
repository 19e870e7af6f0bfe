#include "common/net/stop_signal.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/check.h"

namespace nanduti {

StopSignal::StopSignal() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  NANDUTI_CHECK(::pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0);
  signal_fd_ = ::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  wake_fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  NANDUTI_CHECK(signal_fd_ >= 0 && wake_fd_ >= 0);
}

StopSignal::~StopSignal() {
  ::close(signal_fd_);
  ::close(wake_fd_);
}

StopSignal::Cause StopSignal::wait(int timeout_ms) {
  std::array<pollfd, 2> items{pollfd{signal_fd_, POLLIN, 0}, pollfd{wake_fd_, POLLIN, 0}};
  for (;;) {
    const int ready = ::poll(items.data(), items.size(), timeout_ms);
    if (ready == 0) return Cause::kTimeout;
    if (ready < 0) {
      NANDUTI_CHECK(errno == EINTR);
      continue;
    }
    if (items[0].revents != 0) {
      signalfd_siginfo info;
      if (::read(signal_fd_, &info, sizeof info) == sizeof info) return Cause::kSignal;
    }
    if (items[1].revents != 0) {
      std::uint64_t count = 0;
      if (::read(wake_fd_, &count, sizeof count) == sizeof count) return Cause::kWoken;
    }
  }
}

void StopSignal::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd_, &one, sizeof one);
}

}  // namespace nanduti
