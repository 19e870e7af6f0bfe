#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <tuple>

#include "common/protocol/frame.h"

namespace nanduti::sim {

/// Holds the links to promise P7 on the wire: whoever sends keeps within the credit that the other side gave
/// it, by what has arrived so far. Sees every frame as it leaves and as it arrives; throws Failure.
class WireChecker {
 public:
  /// `up`: from the dialling side of the session.
  void on_sent(const Frame& frame, bool up);
  void on_arrived(const Frame& frame, bool up);

 private:
  struct Direction {
    std::map<std::uint64_t, std::size_t> in_flight;  // sequence to bytes
    std::size_t bytes = 0;
    std::uint64_t next = 0;  // sequences from here have not been sent yet
    std::uint64_t acknowledged = 0;
    std::uint64_t credit = std::uint64_t{256} << 10;  // until the other side has said more
  };
  using Session = std::pair<std::uint64_t, std::uint64_t>;
  using Key = std::tuple<Session, StreamIndex, bool>;

  static Key key(const Frame& frame, bool up) {
    return {{frame.session.words[0], frame.session.words[1]}, frame.stream, up};
  }

  std::map<Key, Direction> directions_;
  std::map<Session, std::uint64_t> acceptances_;
  std::set<Session> over_;
};

}  // namespace nanduti::sim
