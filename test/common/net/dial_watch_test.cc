// Goal: an operator hears of a server that does not answer, ever more rarely. Method: the deadlines.
#include "common/net/dial_watch.h"

#include <vector>

#include "common/base/log.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE("a silent server is told after 3 s, then after ever longer pauses of at most 5 minutes") {
  set_log_level(LogLevel::kError);
  DialWatch watch;
  const ProtocolTime start{1h};
  CHECK(watch.next_deadline() == kNever);
  watch.dialling(start, PeerId(1), "tcp://127.0.0.1:1");
  std::vector<Duration> pauses;
  ProtocolTime last = start;
  for (int i = 0; i < 9; ++i) {
    const ProtocolTime next = watch.next_deadline();
    pauses.push_back(next - last);
    watch.on_deadline(next);
    last = next;
  }
  CHECK(pauses == std::vector<Duration>{3s, 6s, 12s, 24s, 48s, 96s, 192s, 300s, 300s});
  set_log_level(LogLevel::kInfo);
}

TEST_CASE("a server that answers is not told about, until it is lost again or no more wanted") {
  DialWatch watch;
  const ProtocolTime start{1h};
  watch.dialling(start, PeerId(1), "tcp://127.0.0.1:1");
  watch.connected(PeerId(1));
  CHECK(watch.next_deadline() == kNever);
  watch.lost(start + 10s, PeerId(1));
  CHECK(watch.next_deadline() == start + 13s);
  watch.closed(PeerId(1));
  CHECK(watch.next_deadline() == kNever);
  watch.lost(start + 20s, PeerId(1));  // nobody's any more
  CHECK(watch.next_deadline() == kNever);
}

TEST_CASE(
    "a server that falls silent in an open session is told about after 10 s, and when it is heard again") {
  set_log_level(LogLevel::kError);
  DialWatch watch;
  const ProtocolTime start{1h};
  watch.dialling(start, PeerId(1), "tcp://127.0.0.1:1");
  watch.heard(start + 20s, PeerId(1), start);  // no session yet: the dial's affair
  CHECK(watch.next_deadline() == start + 3s);
  watch.connected(PeerId(1));
  watch.look(start + 9s, [&](PeerId) { return start; });
  CHECK(watch.next_deadline() == kNever);
  watch.look(start + 12s, [&](PeerId) { return start; });
  CHECK(watch.next_deadline() == start + 12s);
  watch.on_deadline(start + 12s);
  CHECK(watch.next_deadline() == start + 18s);
  watch.look(start + 15s, [&](PeerId) { return start; });
  CHECK(watch.next_deadline() == start + 18s);
  watch.look(start + 16s, [&](PeerId) { return start + 15s; });
  CHECK(watch.next_deadline() == kNever);
  set_log_level(LogLevel::kInfo);
}
