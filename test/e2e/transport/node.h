#pragma once

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "common/net/core_runner.h"
#include "test/support/catch.h"

/// Small cores in the daemons' own runners, for tests over real sockets.
namespace nanduti {

using namespace std::chrono_literals;

/// Counts what it hears, and answers every CutValues with one on the same stream.
class RecordingCore {
 public:
  using Event = std::variant<PeerConnected, PeerClosed, MessageReceived, MessageAcked, SendMessage, OpenPeer>;
  struct Note {
    std::string text;
    bool warning = false;
  };
  struct Nothing {};
  using Action = std::variant<SendMessage, OpenPeer, ClosePeer, Note, Nothing>;

  explicit RecordingCore(bool echoes) : echoes_(echoes) {}
  void on_event(ProtocolTime, const Event& event) {
    actions_waiting = std::max(actions_waiting, actions_.size());
    if (const auto* send = std::get_if<SendMessage>(&event)) actions_.push_back(*send);
    if (const auto* open = std::get_if<OpenPeer>(&event)) actions_.push_back(*open);
    if (std::holds_alternative<PeerConnected>(event)) ++connected;
    if (const auto* gone = std::get_if<PeerClosed>(&event)) {
      ++closed;
      reason = gone->reason;
    }
    if (const auto* acked = std::get_if<MessageAcked>(&event)) last_acked = acked->tag;
    if (const auto* received = std::get_if<MessageReceived>(&event)) {
      messages.push_back(received->message);
      if (echoes_ && std::holds_alternative<CutValues>(received->message))
        actions_.push_back(SendMessage{received->peer, StreamIndex(1), received->message});
    }
  }
  void on_deadline(ProtocolTime) {}
  [[nodiscard]] ProtocolTime next_deadline() const { return kNever; }
  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }

  int connected = 0, closed = 0;
  std::size_t actions_waiting = 0;  // at most, that an event found not carried out
  std::uint64_t last_acked = 0;
  std::string reason;
  std::vector<Message> messages;

 private:
  bool echoes_;
  std::vector<Action> actions_;
};

using Runner = CoreRunner<RecordingCore>;

struct Node {
  Node(std::optional<std::string> listen, std::uint32_t destination, bool echoes, SessionOptions options = {})
      : Node(TransportOptions{std::move(listen)}, destination, echoes, options) {}
  Node(const TransportOptions& transport_options, std::uint32_t destination, bool echoes,
       SessionOptions options = {}) {
    Result<std::unique_ptr<ZmqTransport>> started = ZmqTransport::start(transport_options);
    REQUIRE(started.ok());
    transport = std::move(started).value();
    runner = std::make_unique<Runner>("node", *transport, destination, options,
                                      RandomStream(std::random_device{}()), RecordingCore(echoes));
    runner->set_admission(Admission{JobId(), 0, kPayloadBytesMax, 0});
    runner->start([](const RecordingCore::Action&) {});
  }
  ~Node() { runner->stop(); }

  template <class Condition>
  bool wait_for(Condition condition, std::chrono::milliseconds limit = 20s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < end) {
      bool met = false;
      runner->run([&](RecordingCore& core, ProtocolTime) { met = condition(core); });
      if (met) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }

  /// Of this node's transport.
  template <class Condition>
  bool wait_for_counters(Condition condition, std::chrono::milliseconds limit = 20s) {
    return wait_for([&](const RecordingCore&) { return condition(transport->counters()); }, limit);
  }

  std::unique_ptr<ZmqTransport> transport;
  std::unique_ptr<Runner> runner;
};

/// A node's core that does nothing from here until release().
class HeldCore {
 public:
  explicit HeldCore(Node& node)
      : holder_([this, &node] {
          node.runner->run([this](RecordingCore&, ProtocolTime) {
            held_.set_value();
            release_.get_future().wait();
          });
        }) {
    held_.get_future().wait();
  }
  ~HeldCore() {
    if (holder_.joinable()) release();
  }
  HeldCore(const HeldCore&) = delete;
  HeldCore& operator=(const HeldCore&) = delete;

  void release() {
    release_.set_value();
    holder_.join();
  }

 private:
  std::promise<void> held_, release_;
  std::thread holder_;
};

inline Hello good_hello() {
  Hello hello;
  hello.protocol_version = kProtocolVersion;
  hello.codec_format = kCodecFormat;
  hello.program_version = "test";
  hello.name = "dialler";
  hello.stream_count = 2;
  return hello;
}

inline constexpr PeerId kServer{0};

inline SharedBytes pattern(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 2654435761u >> 13);
  return SharedBytes::take(std::move(bytes));
}

}  // namespace nanduti
