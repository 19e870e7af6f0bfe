// nanduti-server: coordinator and shards, whichever the config gives it.
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "common/base/hardware.h"
#include "common/base/log.h"
#include "common/base/named_count.h"
#include "common/base/version.h"
#include "common/config/daemon_main.h"
#include "common/config/server_config.h"
#include "common/net/congestion_control.h"
#include "common/net/event_loop.h"
#include "common/net/http_server.h"
#include "common/net/stop_signal.h"
#include "common/net/zmq_transport.h"
#include "common/protocol/endpoint_text.h"
#include "server/admin/admin_api.h"
#include "server/daemon/coordinator_host.h"
#include "server/daemon/shard_host.h"

using namespace nanduti;

namespace {

const DaemonDescription kDaemon{"nanduti-server",
                                "Holds the model in shards and coordinates jobs, as its config says.",
                                "configs/server.yaml",
                                "SIGINT and SIGTERM: write what there is, end; jobs go on when the server is "
                                "started again. A second one ends it "
                                "at once."};

Status check(const ServerConfig& config) {
  NANDUTI_RETURN_IF_ERROR(choose_congestion_control(config.transport.congestion_control));
  return {};
}

/// The server's exit status.
int run(ServerConfig config) {
  StopSignal signal;
  // ZeroMQ listens at addresses and interfaces, not at names.
  if (config.listen.data.host == "localhost") config.listen.data.host = "127.0.0.1";
  const auto fail = [](const Error& error) {
    log_error("{}", error.message);
    return 1;
  };
  Result<StorageDirectory> storage =
      StorageDirectory::open(std::filesystem::absolute(config.storage_directory));
  if (!storage.ok()) return fail(storage.error());
  Result<std::unique_ptr<ZmqTransport>> started = ZmqTransport::start(
      {.listen = config.listen.data.tcp(), .congestion_control = config.transport.congestion_control});
  if (!started.ok()) return fail(started.error());
  const std::unique_ptr<ZmqTransport> transport = std::move(started).value();
  // The same one after a restart: a shard that comes back is known by it.
  const std::string address = transport->endpoint();
  if (config.name.empty())
    config.name = fmt::format("{}-{}", host_name(), address.substr(address.rfind(':') + 1));
  EventLoop slow("slow-work");
  slow.start([] {});

  const std::string coordinator_endpoint =
      config.coordinator ? config.coordinator->tcp() : dialable(transport->endpoint(), "tcp://127.0.0.1:0");
  std::vector<std::unique_ptr<ShardHost>> shards;
  for (std::uint32_t k = 1; k <= config.roles.shards; ++k) {
    const std::filesystem::path folder = storage->path() / "shards" / fmt::format("{}", k);
    const auto damaged = [&](const Error& error) {
      return fail(make_error(error.code, "{}; to give up the job that it is of, move {} away", error.message,
                             folder.string()));
    };
    Result<LogStorage> log = LogStorage::open(folder);
    if (!log.ok()) return log.error().code == ErrorCode::kCorrupt ? damaged(log.error()) : fail(log.error());
    Result<std::unique_ptr<ShardHost>> shard =
        ShardHost::create(config.name, coordinator_endpoint, k, *transport, slow, std::move(log).value());
    if (!shard.ok()) return damaged(shard.error());
    shards.push_back(std::move(shard).value());
  }
  const auto counters = [&] {
    ProcessCounters all{transport->counters().named(), {}};
    for (const auto& shard : shards) all.cores.push_back(shard->counters());
    return all;
  };

  std::unique_ptr<CoordinatorHost> coordinator;
  std::unique_ptr<AdminApi> api;
  std::unique_ptr<HttpServer> http;
  if (config.roles.coordinator) {
    const std::filesystem::path folder = storage->path() / "coordinator";
    const auto unusable = [&](const Error& error) {
      return fail(make_error(error.code, "{}; to give up the jobs that it is of, move {} away", error.message,
                             folder.string()));
    };
    Result<LogStorage> log = LogStorage::open(folder);
    if (!log.ok()) return log.error().code == ErrorCode::kCorrupt ? unusable(log.error()) : fail(log.error());
    Result<std::unique_ptr<CoordinatorHost>> host =
        CoordinatorHost::create(config, *transport, slow, std::move(storage).value(), std::move(log).value());
    if (!host.ok()) return unusable(host.error());
    coordinator = std::move(host).value();
    coordinator->set_process_counters(counters);
    if (config.listen.http) {
      api = std::make_unique<AdminApi>(*coordinator);
      Result<std::unique_ptr<HttpServer>> listening =
          HttpServer::start(config.listen.http->host, config.listen.http->port,
                            [&api](const HttpRequest& request) { return api->handle(request); });
      if (!listening.ok()) return fail(listening.error().within("listen.http"));
      http = std::move(listening).value();
    }
    coordinator->start();
  }
  for (const auto& shard : shards) shard->start();
  log_info("nanduti-server {} '{}': {}{} shards at {}{}", kProgramVersion, config.name,
           config.roles.coordinator ? "coordinator and " : "", config.roles.shards, transport->endpoint(),
           http ? fmt::format(", jobs at http://{}",
                              Endpoint{config.listen.http->host, http->port()}.host_and_port())
                : std::string());

  signal.wait();
  log_info("stopping");
  std::thread impatient([&] {
    if (signal.wait() == StopSignal::Cause::kSignal) {
      log_warning("ended before everything was written");
      std::_Exit(1);
    }
  });
  if (coordinator)
    for (const JobId job : coordinator->unfinished_jobs())
      log_info("job {} goes on when this server is started again", job);
  if (http) http->stop();
  for (const auto& shard : shards) shard->stop();
  if (coordinator) coordinator->stop();
  slow.finish();
  signal.wake();
  impatient.join();
  ProcessCounters last = counters();
  if (coordinator) last.cores.insert(last.cores.begin(), coordinator->own_counters());
  log_info("counters of transport: {}", to_text(last.transport));
  for (const CoreCounters& core : last.cores) log_info("counters of {}: {}", core.core, to_text(core.counts));
  log_info("stopped");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return daemon_main<ServerConfig>(kDaemon, {argv, static_cast<std::size_t>(argc)}, load_server_config, check,
                                   run);
}
