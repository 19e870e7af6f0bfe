#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nanduti {

/// A TCP client that speaks as much of ZMTP 3 (rfc.zeromq.org/spec/23) as it wants to. Blocking, with
/// time-outs.
class RawPeer {
 public:
  /// Connects to "tcp://127.0.0.1:PORT".
  explicit RawPeer(const std::string& endpoint);
  ~RawPeer();
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  /// False once the connection has ended, or takes nothing for 20 s.
  bool send(std::string_view bytes);
  /// As a DEALER: greeting, READY, and waits for the other side's.
  void shake_hands();
  /// One part, with the MORE flag or without.
  bool send_part(std::string_view part, bool more);
  /// Whether the other side ends the connection within this time; reads and forgets what comes.
  bool is_closed_within(std::chrono::milliseconds limit);

 private:
  int fd_;
};

/// A part's bytes on the wire.
std::string wire_part(std::string_view part, bool more);

/// Bytes that this process has in memory, now and at the most since reset_peak_memory().
struct ProcessMemory {
  std::size_t resident = 0, peak = 0;
};
ProcessMemory process_memory();
void reset_peak_memory();

}  // namespace nanduti
