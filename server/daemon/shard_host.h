#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/net/core_runner.h"
#include "common/net/event_loop.h"
#include "common/net/zmq_transport.h"
#include "server/admin/job_desk.h"
#include "server/daemon/storage_thread.h"
#include "server/shard/shard_core.h"

namespace nanduti {

/// One shard of a server's program: its ShardCore on a thread of its own, and its storage on another.
class ShardHost {
 public:
  /// `destination`: the core's number behind the transport's endpoint, from 1. Slow work goes to `slow`,
  /// which outlives the host. The shard goes on where `storage` ends. Errors: those of ShardCore::recover,
  /// and of a job that this program does not understand.
  static Result<std::unique_ptr<ShardHost>> create(const std::string& server_name,
                                                   const std::string& coordinator, std::uint32_t destination,
                                                   ZmqTransport& transport, EventLoop& slow,
                                                   LogStorage storage);

  void start();
  void stop();
  /// Any thread but the core's; also after stop().
  CoreCounters counters() { return {fmt::format("shard {}", destination_), runner_.counters()}; }

 private:
  ShardHost(ShardCore core, std::uint32_t destination, ZmqTransport& transport, EventLoop& slow);
  void carry_out(const ShardCore::Action& action);

  EventLoop& slow_;
  std::uint32_t destination_;
  CoreRunner<ShardCore> runner_;
  std::unique_ptr<StorageThread> storage_;
};

}  // namespace nanduti
