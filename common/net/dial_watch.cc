#include "common/net/dial_watch.h"

#include <algorithm>

#include "common/base/log.h"

namespace nanduti {

namespace {

constexpr Duration kFirstWarning = std::chrono::seconds(3);
// Of an open session: it has dialled again by then.
constexpr Duration kSilence = std::chrono::seconds(10);
constexpr Duration kLongestPause = std::chrono::minutes(5);

}  // namespace

void DialWatch::dialling(ProtocolTime now, PeerId peer, const std::string& endpoint) {
  Peer& entry = peers_[peer];
  entry.endpoint = endpoint;
  begin(now, entry);
}

void DialWatch::lost(ProtocolTime now, PeerId peer) {
  if (const auto it = peers_.find(peer); it != peers_.end()) begin(now, it->second);
}

void DialWatch::begin(ProtocolTime now, Peer& peer) {
  peer.since = now;
  peer.warn_at = now + kFirstWarning;
  peer.warn_again = kFirstWarning;
  peer.connected = peer.silent = false;
}

void DialWatch::connected(PeerId peer) {
  const auto it = peers_.find(peer);
  if (it == peers_.end()) return;
  if (it->second.warned) log_info("{} answers now", it->second.endpoint);
  it->second.warned = false;
  it->second.warn_at = kNever;
  it->second.connected = true;
  it->second.silent = false;
}

void DialWatch::heard(ProtocolTime now, PeerId peer, ProtocolTime last) {
  const auto it = peers_.find(peer);
  if (it == peers_.end() || !it->second.connected) return;
  Peer& entry = it->second;
  const bool is_silent = now - last >= kSilence;
  if (is_silent == entry.silent) return;
  if (!is_silent) return connected(peer);
  entry.silent = true;
  entry.since = last;
  entry.warn_at = now;
  entry.warn_again = kFirstWarning;
}

void DialWatch::on_deadline(ProtocolTime now) {
  for (auto& [peer, entry] : peers_) {
    if (now < entry.warn_at) continue;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - entry.since).count();
    log_warning("no answer from {} for {} s: is nanduti-server running there? Still trying", entry.endpoint,
                seconds);
    entry.warned = true;
    entry.warn_again = std::min(entry.warn_again * 2, kLongestPause);
    entry.warn_at = now + entry.warn_again;
  }
}

ProtocolTime DialWatch::next_deadline() const {
  ProtocolTime deadline = kNever;
  for (const auto& [peer, entry] : peers_) deadline = std::min(deadline, entry.warn_at);
  return deadline;
}

}  // namespace nanduti
