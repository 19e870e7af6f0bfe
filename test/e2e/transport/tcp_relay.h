#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <string>
#include <thread>

namespace nanduti {

/// A TCP relay on loopback: what connects to it goes on to `target`, from another port each time. Its
/// connections can be cut, and what the target sends can be held back. Methods: the test's thread.
class TcpRelay {
 public:
  /// `target`: "tcp://127.0.0.1:PORT".
  explicit TcpRelay(const std::string& target);
  ~TcpRelay();
  TcpRelay(const TcpRelay&) = delete;
  TcpRelay& operator=(const TcpRelay&) = delete;

  [[nodiscard]] std::string endpoint() const;
  /// Ends all connections, with whatever is on its way in them.
  void cut();
  /// Where it does not, new connections are ended at once.
  void let_in(bool whether) { lets_in_ = whether; }
  /// Nothing of what the target sends is read any more, until told otherwise.
  void hold_answers(bool whether) { holds_ = whether; }
  /// That were let in so far.
  [[nodiscard]] int connections() const { return count_; }

 private:
  struct Pair {
    int dialler = -1, target = -1;
    std::jthread there, back;
  };
  void accept();
  void pump(int from, int to, bool answers, const std::stop_token& stop);

  std::uint16_t target_port_;
  int listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> lets_in_ = true;
  std::atomic<bool> holds_ = false;
  std::atomic<int> count_ = 0;
  std::mutex mutex_;  // the next one
  std::list<Pair> pairs_;
  std::jthread acceptor_;
};

}  // namespace nanduti
