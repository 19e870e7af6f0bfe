// Processes: what reaches them, what they ask for, when they wake up.
#include <algorithm>

#include "test/sim/simulation_parts.h"

namespace nanduti::sim {

void Simulation::add(const std::shared_ptr<Host>& host, std::optional<std::size_t> place) {
  hosts_[host->node] = host;
  network_.add_node(host->node, place);
  settle_down(host);
}

void Simulation::on_frame(int node, RouteId route, const Frame& frame, bool up) {
  const auto it = hosts_.find(node);
  if (it == hosts_.end()) return;
  on_host(it->second, [this, host = it->second, route, frame, up] {
    network_.on_taken(frame, up);
    host->hub.on_frame(now(*host), route, frame);
  });
}

void Simulation::on_host(const std::shared_ptr<Host>& host, std::function<void()> what) {
  if (events_.now() < host->stopped_until) {
    host->backlog.push_back(std::move(what));
    return;
  }
  what();
  settle_down(host);
}

void Simulation::wake(const std::shared_ptr<Host>& host, ProtocolTime at) {
  if (host->gone || host->woken_at != at) return;
  host->woken_at = kNever;
  if (events_.now() >= host->stopped_until) serve_deadlines(host);
}

void Simulation::serve_deadlines(const std::shared_ptr<Host>& host) {
  const ProtocolTime time = now(*host);
  if (host->hub.next_deadline() <= time) host->hub.on_deadline(time);
  if (host->node >= kFirstWorkerNode) {
    const SessionHub::Counters& counters = host->hub.counters();
    static_cast<WorkerHost&>(*host).core.set_traffic({counters.bytes_acked, counters.bytes_received, 0});
  }
  host->on_core_deadline(time);
  settle_down(host);
  host->overdue = host->deadline() <= time ? host->overdue + 1 : 0;
  if (host->overdue > 100)
    fail("the deadline of node {}'s {} does not go away", host->node,
         host->hub.next_deadline() <= time ? "hub" : "core");
}

void Simulation::settle_down(const std::shared_ptr<Host>& host) {
  for (int i = 0;; ++i) {
    if (i > 10000) fail("node {} does not settle down", host->node);
    bool any = false;
    for (SessionEvent& event : host->hub.take_events()) {
      any = true;
      note_lost(*host, event);
      host->on_session_event(now(*host), std::move(event));
    }
    any |= host->act(now(*host));
    for (const TransportRequest& request : host->hub.take_requests()) {
      any = true;
      network_.handle(host->node, request);
    }
    if (!any) break;
  }
  if (stopping_.erase(host->node) > 0) {
    // A process that has stopped goes once its last messages have been flushed.
    events_.at(events_.now() + std::chrono::seconds(6), [this, host] {
      if (!host->gone) end(*host);
    });
  }
  if (host->gone) return;
  const ProtocolTime deadline = host->set_deadline();
  if (deadline == kNever || deadline >= host->woken_at) return;
  // A deadline that has passed and does not go away must not stop time.
  const ProtocolTime at =
      std::max(deadline, events_.now() + (deadline <= events_.now() ? Duration(1000) : Duration(0)));
  if (at >= host->woken_at) return;
  host->woken_at = at;
  events_.at(at, [this, host, at] { wake(host, at); });
}

}  // namespace nanduti::sim
