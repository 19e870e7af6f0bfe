#include "common/net/event_loop.h"

#include <chrono>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <pthread.h>

#include "common/base/wakeful_clock.h"

namespace nanduti {

struct EventLoop::Impl {
  boost::asio::io_context context{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard{context.get_executor()};
  boost::asio::steady_timer timer{context};
  std::function<void()> on_deadline;
  WakefulClock clock;
  std::string name;
  std::thread thread;
};

EventLoop::EventLoop(std::string name) : impl_(std::make_unique<Impl>()) { impl_->name = std::move(name); }

EventLoop::~EventLoop() { stop(); }

void EventLoop::start(std::function<void()> on_deadline) {
  impl_->on_deadline = std::move(on_deadline);
  impl_->thread = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), impl_->name.substr(0, 15).c_str());
    impl_->context.run();
  });
}

void EventLoop::stop() {
  impl_->context.stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

void EventLoop::finish() {
  boost::asio::post(impl_->context, [this] { impl_->context.stop(); });
  if (impl_->thread.joinable()) impl_->thread.join();
}

void EventLoop::post(std::function<void()> work) { boost::asio::post(impl_->context, std::move(work)); }

void EventLoop::set_deadline(ProtocolTime deadline) {
  if (deadline == impl_->clock.deadline()) return;
  impl_->clock.set_deadline(deadline);
  if (deadline == kNever) {
    impl_->timer.cancel();
    return;
  }
  impl_->timer.expires_at(std::chrono::steady_clock::time_point(impl_->clock.steady_at(deadline)));
  impl_->timer.async_wait([this](const boost::system::error_code& error) {
    if (error) return;  // replaced by another deadline
    (void)now();        // sees by this deadline whether it was slept through
    impl_->clock.set_deadline(kNever);
    impl_->on_deadline();
  });
}

ProtocolTime EventLoop::now() {
  return impl_->clock.now(
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

}  // namespace nanduti
