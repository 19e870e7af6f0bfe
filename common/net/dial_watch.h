#pragma once

#include <map>
#include <string>

#include "common/base/ids.h"
#include "common/base/protocol_time.h"

namespace nanduti {

/// Tells the operator, in the log, about servers that do not answer: after a few seconds, then ever more
/// rarely, and once more when they do. Pure but for the log. One thread.
class DialWatch {
 public:
  void dialling(ProtocolTime now, PeerId peer, const std::string& endpoint);
  /// A session that was open is lost and dialled again.
  void lost(ProtocolTime now, PeerId peer);
  void connected(PeerId peer);
  /// Of an open session: when anything was heard of the peer last.
  void heard(ProtocolTime now, PeerId peer, ProtocolTime last);
  /// heard() for all peers; `last_heard` is called with each.
  template <class LastHeard>
  void look(ProtocolTime now, LastHeard last_heard) {
    for (const auto& [peer, entry] : peers_)
      if (entry.connected) heard(now, peer, last_heard(peer));
  }
  void closed(PeerId peer) { peers_.erase(peer); }

  void on_deadline(ProtocolTime now);
  [[nodiscard]] ProtocolTime next_deadline() const;

 private:
  struct Peer {
    std::string endpoint;
    ProtocolTime since;
    ProtocolTime warn_at = kNever;
    Duration warn_again{0};
    bool warned = false;
    bool connected = false;
    bool silent = false;  // though its session is open
  };
  static void begin(ProtocolTime now, Peer& peer);

  std::map<PeerId, Peer> peers_;
};

}  // namespace nanduti
