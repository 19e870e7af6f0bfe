#include "common/base/check.h"
#include "common/protocol/session_hub.h"

namespace nanduti {

std::vector<NamedCount> SessionHub::Counters::named() const {
  std::vector<NamedCount> counts = {{"frames_sent", frames_sent},
                                    {"frames_received", frames_received},
                                    {"frames_resent", frames_resent},
                                    {"bytes_sent", bytes_sent},
                                    {"bytes_received", bytes_received},
                                    {"bytes_acked", bytes_acked},
                                    {"dropped_duplicate", dropped_duplicate},
                                    {"dropped_gap", dropped_gap},
                                    {"dropped_unknown_session", dropped_unknown_session},
                                    {"dropped_malformed", dropped_malformed},
                                    {"dropped_bad_stream", dropped_bad_stream},
                                    {"dropped_bad_hello", dropped_bad_hello},
                                    {"dropped_old_hello", dropped_old_hello},
                                    {"dropped_not_admitting", dropped_not_admitting},
                                    {"dropped_no_room", dropped_no_room},
                                    {"dropped_wrong_route", dropped_wrong_route},
                                    {"dropped_wrong_side", dropped_wrong_side},
                                    {"dropped_not_connected", dropped_not_connected},
                                    {"dropped_ack_of_unsent", dropped_ack_of_unsent},
                                    {"dropped_ack_outdated", dropped_ack_outdated},
                                    {"dropped_after_fault", dropped_after_fault},
                                    {"messages_to_nobody", messages_to_nobody},
                                    {"messages_after_close", messages_after_close},
                                    {"hellos_refused", hellos_refused},
                                    {"refused_by_server", refused_by_server},
                                    {"redials", redials},
                                    {"restarts", restarts},
                                    {"route_changes", route_changes},
                                    {"sessions_overfull", sessions_overfull},
                                    {"sessions_over_total", sessions_over_total},
                                    {"sessions_forgotten", sessions_forgotten},
                                    {"sessions_unfinished", sessions_unfinished},
                                    {"sessions_displaced", sessions_displaced},
                                    {"sessions_stalled", sessions_stalled},
                                    {"sessions_payload_too_large", sessions_payload_too_large},
                                    {"sessions_payload_not_allowed", sessions_payload_not_allowed},
                                    {"sessions_broken_cutting", sessions_broken_cutting},
                                    {"messages_too_large", messages_too_large}};
  static constexpr std::size_t kCounters = sizeof(Counters) / sizeof(std::uint64_t);
  NANDUTI_CHECK(counts.size() == kCounters, "a counter of SessionHub has no name");
  return counts;
}

}  // namespace nanduti
