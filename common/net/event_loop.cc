#include "common/net/event_loop.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <pthread.h>

namespace nanduti {

namespace {

/// A deadline that is served later than this was slept through.
constexpr Duration kLatenessMax = std::chrono::seconds(1);

}  // namespace

struct EventLoop::Impl {
  boost::asio::io_context context{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard{context.get_executor()};
  boost::asio::steady_timer timer{context};
  std::function<void()> on_deadline;
  ProtocolTime deadline = kNever;
  ProtocolTime last_now{};
  Duration slept{0};  // not part of the loop's time
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
  if (deadline == impl_->deadline) return;
  impl_->deadline = deadline;
  if (deadline == kNever) {
    impl_->timer.cancel();
    return;
  }
  impl_->timer.expires_at(std::chrono::steady_clock::time_point(deadline.time_since_epoch() + impl_->slept));
  impl_->timer.async_wait([this](const boost::system::error_code& error) {
    if (error) return;  // replaced by another deadline
    (void)now();        // sees by this deadline whether it was slept through
    impl_->deadline = kNever;
    impl_->on_deadline();
  });
}

ProtocolTime EventLoop::now() {
  const auto steady = std::chrono::steady_clock::now().time_since_epoch();
  ProtocolTime now(std::chrono::duration_cast<Duration>(steady) - impl_->slept);
  if (impl_->deadline != kNever && now > impl_->deadline + kLatenessMax) {
    const ProtocolTime resumed = std::max(impl_->deadline, impl_->last_now);
    impl_->slept += now - resumed;
    now = resumed;
  }
  impl_->last_now = std::max(impl_->last_now, now);
  return impl_->last_now;
}

}  // namespace nanduti
