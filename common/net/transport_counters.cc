#include "common/net/transport_counters.h"

namespace nanduti {

std::vector<NamedCount> TransportCounters::named() const {
  return {{"frames_in", frames_in},
          {"frames_out", frames_out},
          {"bytes_in", bytes_in},
          {"bytes_out", bytes_out},
          {"dropped_malformed", dropped_malformed},
          {"dropped_too_many_parts", dropped_too_many_parts},
          {"dropped_named_peer", dropped_named_peer},
          {"dropped_no_receiver", dropped_no_receiver},
          {"dropped_queue_full", dropped_queue_full},
          {"dropped_no_route", dropped_no_route},
          {"dropped_outbox_full", dropped_outbox_full},
          {"connections_accepted", connections_accepted},
          {"connections_dialled", connections_dialled},
          {"connections_closed", connections_closed},
          {"dials_failed", dials_failed},
          {"accepts_failed", accepts_failed},
          {"handshakes_failed", handshakes_failed},
          {"shut_down_unfinished", shut_down_unfinished},
          {"shut_down_too_many_parts", shut_down_too_many_parts},
          {"shut_down_silent", shut_down_silent},
          {"shut_down_over_maximum", shut_down_over_maximum},
          {"congestion_restarts", congestion_restarts}};
}

}  // namespace nanduti
