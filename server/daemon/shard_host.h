#pragma once

#include <cstdint>
#include <string>

#include "common/net/core_runner.h"
#include "common/net/event_loop.h"
#include "common/net/zmq_transport.h"
#include "server/admin/job_desk.h"
#include "server/shard/shard_core.h"

namespace nanduti {

/// One shard of a server's program: its ShardCore on a thread of its own.
class ShardHost {
 public:
  /// `destination`: the core's number behind the transport's endpoint, from 1. Slow work goes to `slow`,
  /// which outlives the host.
  ShardHost(const std::string& server_name, const std::string& coordinator, std::uint32_t destination,
            ZmqTransport& transport, EventLoop& slow);

  void start();
  void stop() { runner_.stop(); }
  /// Any thread but the core's; also after stop().
  CoreCounters counters() { return {fmt::format("shard {}", destination_), runner_.counters()}; }

 private:
  void carry_out(const ShardCore::Action& action);

  EventLoop& slow_;
  std::uint32_t destination_;
  CoreRunner<ShardCore> runner_;
};

}  // namespace nanduti
