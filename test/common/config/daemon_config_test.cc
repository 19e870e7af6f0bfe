// Goal: server and worker configs become the structs they say, or one exact error; nothing that another
// machine can reach goes without `security: none`. Method: by hand, and a table of files that must fail.
#include "common/config/server_config.h"
#include "common/config/warnings.h"
#include "common/config/worker_config.h"
#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

struct Failure {
  std::string_view text;
  std::string_view message;
};

ServerConfig server(const std::string& text) {
  auto config = parse_server_config(text, "server.yaml");
  INFO((config.ok() ? "" : config.error().message));
  REQUIRE(config.ok());
  return std::move(config).value();
}

WorkerConfig worker(const std::string& text) {
  auto config = parse_worker_config(text, "worker.yaml");
  INFO((config.ok() ? "" : config.error().message));
  REQUIRE(config.ok());
  return std::move(config).value();
}

TEST_CASE("a server's keys are read, the others have their defaults") {
  const ServerConfig shortest = server("name: a\n");
  CHECK(shortest.roles.coordinator);
  CHECK(shortest.roles.shards == 1);
  CHECK(shortest.listen.data == Endpoint{"127.0.0.1", 7070});
  CHECK(shortest.listen.http == Endpoint{"127.0.0.1", 7080});
  CHECK(shortest.storage_directory == "nanduti-data");
  CHECK(shortest.membership.suspend_after == std::chrono::seconds(10));
  CHECK(shortest.membership.dead_after == std::chrono::minutes(10));
  CHECK(shortest.transport.congestion_control == "auto");
  CHECK(shortest.log_level == LogLevel::kInfo);

  const ServerConfig full = server(R"(name: nyc-1
roles: {coordinator: true, shards: 64}
listen: {data: "tcp://[::]:0", http: "0.0.0.0:81"}
security: none
storage: {directory: /var/lib/nanduti}
membership: {suspend_after: 500 ms, dead_after: 2 min, lease_timeout: 1.5h, prepare_timeout: 2 h,
  shard_timeout: 20 min}
transport: {congestion_control: cubic}
log_level: debug
)");
  CHECK(full.name == "nyc-1");
  CHECK(full.roles.shards == 64);
  CHECK(full.listen.data == Endpoint{"::", 0});
  CHECK(full.listen.http == Endpoint{"0.0.0.0", 81});
  CHECK(full.security == Security::kNone);
  CHECK(full.storage_directory == "/var/lib/nanduti");
  CHECK(full.membership.suspend_after == std::chrono::milliseconds(500));
  CHECK(full.membership.dead_after == std::chrono::minutes(2));
  CHECK(full.membership.lease_timeout == std::chrono::minutes(90));
  CHECK(full.membership.prepare_timeout == std::chrono::hours(2));
  CHECK(full.membership.shard_timeout == std::chrono::minutes(20));
  CHECK(full.transport.congestion_control == "cubic");
  CHECK(full.log_level == LogLevel::kDebug);
}

TEST_CASE("a server of shards alone names its coordinator and listens for no operator") {
  const ServerConfig config = server("roles: {coordinator: false}\ncoordinator: localhost:7070\n");
  CHECK(config.coordinator == Endpoint{"localhost", 7070});
  CHECK_FALSE(config.listen.http);
}

TEST_CASE("a server's config that must fail") {
  const Failure failures[] = {
      {"roles: {shards: 65}",
       "server.yaml:1: roles.shards: found \"65\", allowed: a whole number from 0 to 64"},
      {"roles: {shards: two}",
       "server.yaml:1: roles.shards: found \"two\", allowed: a whole number from 0 to 64"},
      {"roles: {coordinator: 1}", "server.yaml:1: roles.coordinator: found \"1\", allowed: true or false"},
      {"roles: {coordinator: false, shards: 0}\ncoordinator: localhost:1",
       "server.yaml:1: roles: found neither role, allowed: a coordinator, at least one shard, or both"},
      {"roles: [shards]", "server.yaml:1: roles: found a list, allowed: a map, keys: coordinator, shards"},
      {"roles: {coordinator: false}",
       "server.yaml:1: coordinator: found nothing, allowed: the coordinator's host:port, as "
       "roles.coordinator is false"},
      {"roles: {coordinator: false}\ncoordinator: localhost:1\nsecurity: none\nlisten: {data: 0.0.0.0:7071}",
       "server.yaml:4: listen.data: found all addresses (0.0.0.0) of a server that is not the coordinator's, "
       "allowed: the address at which workers reach this server"},
      {"roles: {coordinator: false}\ncoordinator: localhost:1\nlisten: {http: localhost:2}",
       "server.yaml:3: listen.http: found a listener without the coordinator's role, allowed: to leave it "
       "out, or roles.coordinator: true"},
      {"coordinator: localhost:1",
       "server.yaml:1: coordinator: found a coordinator beside the coordinator's role, allowed: to leave it "
       "out, or roles.coordinator: false"},
      {"coordinator: localhost:0",
       "server.yaml:1: coordinator: found \"localhost:0\", allowed: host:port or tcp://host:port, port 1 to "
       "65535, such as 127.0.0.1:7070"},
      {"listen: {data: 7070}",
       "server.yaml:1: listen.data: found \"7070\", allowed: host:port or tcp://host:port, port 0 (any free "
       "one) to 65535, such as 127.0.0.1:7070"},
      {"listen: {data: 'udp://127.0.0.1:7070'}",
       "server.yaml:1: listen.data: found the quoted text \"udp://127.0.0.1:7070\", allowed: host:port or "
       "tcp://host:port, port 0 (any free one) to 65535, such as 127.0.0.1:7070"},
      {"listen: {data: '127.0.0.1:65536'}",
       "server.yaml:1: listen.data: found the quoted text \"127.0.0.1:65536\", allowed: host:port or "
       "tcp://host:port, port 0 (any free one) to 65535, such as 127.0.0.1:7070"},
      {"listen: {data: '127.0.0.300:1'}",
       "server.yaml:1: listen.data: found the quoted text \"127.0.0.300:1\", allowed: host:port or "
       "tcp://host:port, port 0 (any free one) to 65535, such as 127.0.0.1:7070"},
      {"listen: {data: '*:7070'}",
       "server.yaml:1: listen.data: found the quoted text \"*:7070\", allowed: host:port or tcp://host:port, "
       "port 0 (any free one) to 65535, such as 127.0.0.1:7070"},
      {"listen:\n  http: tcp://127.0.0.1:7080",
       "server.yaml:2: listen.http: found \"tcp://127.0.0.1:7080\", allowed: host:port, port 0 (any free "
       "one) to 65535, such as 127.0.0.1:7080"},
      {"listen:\n  data: 0.0.0.0:7070",
       "server.yaml:2: listen.data: found \"0.0.0.0:7070\" without \"security: none\", allowed: a loopback "
       "address, or any with \"security: none\" written out: connections are neither encrypted nor "
       "authenticated yet"},
      {"listen:\n  http: '[::]:7080'",
       "server.yaml:2: listen.http: found \"[::]:7080\" without \"security: none\", allowed: a loopback "
       "address, or any with \"security: none\" written out: connections are neither encrypted nor "
       "authenticated yet"},
      {"roles: {coordinator: false}\ncoordinator: nyc.example:7070",
       "server.yaml:2: coordinator: found \"nyc.example:7070\" without \"security: none\", allowed: a "
       "loopback address, or any with \"security: none\" written out: connections are neither encrypted nor "
       "authenticated yet"},
      {"security: None\nlisten: {data: 0.0.0.0:1}", "server.yaml:1: security: found \"None\", allowed: none"},
      {"security: curve",
       "server.yaml:1: security: found \"curve\", which is not available yet, allowed: none"},
      {"security: off", "server.yaml:1: security: found \"off\", allowed: none"},
      {"storage: {directory: ''}",
       "server.yaml:1: storage.directory: found the quoted text \"\", allowed: a folder's path"},
      {"storage: /var/lib/nanduti",
       "server.yaml:1: storage: found \"/var/lib/nanduti\", allowed: a map, keys: directory"},
      {"storage: {directroy: /x}",
       "server.yaml:1: storage.directroy: found an unknown key (did you mean \"directory\"?), allowed: "
       "directory"},
      {"membership: {suspend_after: 10}",
       "server.yaml:1: membership.suspend_after: found \"10\", allowed: a duration from 100 ms to 24 h, with "
       "its unit (ms, s, min or h), such as 10 s"},
      {"membership: {suspend_after: 10 sec}",
       "server.yaml:1: membership.suspend_after: found \"10 sec\", allowed: a duration from 100 ms to 24 h, "
       "with its unit (ms, s, min or h), such as 10 s"},
      {"membership: {suspend_after: 5 ms}",
       "server.yaml:1: membership.suspend_after: found \"5 ms\", allowed: a duration from 100 ms to 24 h, "
       "with its unit (ms, s, min or h), such as 10 s"},
      {"membership: {dead_after: 2 days}",
       "server.yaml:1: membership.dead_after: found \"2 days\", allowed: a duration from 100 ms to 24 h, "
       "with its unit (ms, s, min or h), such as 10 s"},
      {"membership: {dead_after: -1 s}",
       "server.yaml:1: membership.dead_after: found \"-1 s\", allowed: a duration from 100 ms to 24 h, with "
       "its unit (ms, s, min or h), such as 10 s"},
      {"membership: {suspend_after: 10 min}",
       "server.yaml:1: membership.dead_after: found a time that is not longer than suspend_after, allowed: a "
       "longer one than membership.suspend_after"},
      {"log_level: verbose",
       "server.yaml:1: log_level: found \"verbose\", allowed: debug, info, warning or error"},
      {"name: 'nyc 1'",
       "server.yaml:1: name: found the quoted text \"nyc 1\", allowed: 1 to 64 letters, digits, dots, "
       "hyphens and underscores"},
      {"port: 7070",
       "server.yaml:1: port: found an unknown key, allowed: name, roles, security, coordinator, listen, "
       "storage, membership, transport, log_level"},
  };
  for (const Failure& failure : failures) {
    const auto config = parse_server_config(std::string(failure.text), "server.yaml");
    INFO(failure.text);
    REQUIRE_FALSE(config.ok());
    CHECK(config.error().message == failure.message);
  }
}

TEST_CASE("a worker's keys are read, the others have their defaults") {
  const WorkerConfig shortest = worker("data_roots: [data]\n");
  CHECK(shortest.site == "local");
  CHECK(shortest.coordinator == Endpoint{"127.0.0.1", 7070});
  CHECK(shortest.device.kind == DeviceKind::kAuto);
  CHECK(shortest.backend == BackendChoice::kAuto);
  CHECK_FALSE(shortest.tf32);

  const WorkerConfig full = worker(R"(name: asuncion-a40-01
site: asuncion
coordinator: tcp://nyc.example:7070
security: none
device: cuda:3
backend: reference
tf32: true
data_roots:
  - /usr/share/datasets
  - data
transport: {congestion_control: reno}
log_level: error
)");
  CHECK(full.name == "asuncion-a40-01");
  CHECK(full.site == "asuncion");
  CHECK(full.coordinator == Endpoint{"nyc.example", 7070});
  CHECK(full.device.kind == DeviceKind::kCuda);
  CHECK(full.device.index == 3);
  CHECK(full.backend == BackendChoice::kReference);
  CHECK(full.tf32);
  CHECK(full.data_roots == std::vector<std::filesystem::path>{"/usr/share/datasets", "data"});
  CHECK(full.transport.congestion_control == "reno");
  CHECK(full.log_level == LogLevel::kError);
}

TEST_CASE("a worker's config that must fail") {
  const Failure failures[] = {
      {"name: a", "worker.yaml:1: data_roots: found nothing, allowed: a list of 1 to 64 folders"},
      {"data_roots: /usr", "worker.yaml:1: data_roots: found \"/usr\", allowed: a list of 1 to 64 folders"},
      {"data_roots: []", "worker.yaml:1: data_roots: found a list of 0, allowed: a list of 1 to 64 folders"},
      {"data_roots: [/usr, [x]]", "worker.yaml:1: data_roots[1]: found a list, allowed: a folder's path"},
      {"data_roots: [/usr]\ndevice: gpu",
       "worker.yaml:2: device: found \"gpu\", allowed: auto, cpu, emulated, or cuda:N with N from 0 to 63"},
      {"data_roots: [/usr]\ndevice: cuda:64",
       "worker.yaml:2: device: found \"cuda:64\", allowed: auto, cpu, emulated, or cuda:N with N from 0 to "
       "63"},
      {"data_roots: [/usr]\nbackend: cudnn",
       "worker.yaml:2: backend: found \"cudnn\", allowed: auto, onednn or reference"},
      {"data_roots: [/usr]\ncoordinator: 10.0.0.1:7070",
       "worker.yaml:2: coordinator: found \"10.0.0.1:7070\" without \"security: none\", allowed: a loopback "
       "address, or any with \"security: none\" written out: connections are neither encrypted nor "
       "authenticated yet"},
      {"data_roots: [/usr]\ncoordinator: 127.0.0.1",
       "worker.yaml:2: coordinator: found \"127.0.0.1\", allowed: host:port or tcp://host:port, port 1 to "
       "65535, such as 127.0.0.1:7070"},
      {"data_roots: [/usr]\nsite: ''",
       "worker.yaml:2: site: found the quoted text \"\", allowed: 1 to 64 letters, digits, dots, hyphens and "
       "underscores"},
      {"data_roots: [/usr]\ncordinator: localhost:1",
       "worker.yaml:2: cordinator: found an unknown key (did you mean \"coordinator\"?), allowed: name, "
       "site, security, coordinator, device, backend, tf32, data_roots, transport, log_level"},
  };
  for (const Failure& failure : failures) {
    const auto config = parse_worker_config(std::string(failure.text), "worker.yaml");
    INFO(failure.text);
    REQUIRE_FALSE(config.ok());
    CHECK(config.error().message == failure.message);
  }
}

TEST_CASE("a data root has to be a folder on this machine") {
  const TemporaryFolder folder;
  const auto no_folder = folder.write("file", "");
  const auto good = folder.write("good.yaml", "data_roots:\n  - " + folder.path().string() + "\n");
  CHECK(load_worker_config(good).ok());
  const auto missing = folder.write("missing.yaml", "data_roots:\n  - /usr\n  - /nowhere\n");
  CHECK(load_worker_config(missing).error().message ==
        missing.string() +
            ":3: data_roots[1]: found \"/nowhere\", which does not exist, allowed: a folder on this machine");
  const auto file = folder.write("file.yaml", "data_roots: [file, " + no_folder.string() + "]\n");
  CHECK(load_worker_config(file).error().message.find(
            "data_roots[0]: found \"file\", which does not exist") != std::string::npos);
  const auto plain = folder.write("plain.yaml", "data_roots: [" + no_folder.string() + "]\n");
  CHECK(load_worker_config(plain).error().message.find("which is not a folder") != std::string::npos);
}

TEST_CASE("loopback needs no security: none and warns of nothing; the rest does both") {
  CHECK(warnings(server("name: a\n")).empty());
  CHECK(warnings(server("security: none\n")).empty());
  CHECK(warnings(worker("data_roots: [x]\ncoordinator: '[::1]:7070'\n")).empty());
  CHECK(warnings(server("security: none\nlisten: {data: 0.0.0.0:7070, http: '[::]:80'}\n")) ==
        std::vector<std::string>{
            "listen.data: 0.0.0.0:7070 is neither encrypted nor authenticated (security: none): whoever can "
            "reach it can read and change jobs and models",
            "listen.http: [::]:80 is neither encrypted nor authenticated (security: none): whoever can reach "
            "it can read and change jobs and models"});
  CHECK(warnings(worker("data_roots: [x]\ncoordinator: nyc:7070\nsecurity: none\n")) ==
        std::vector<std::string>{"coordinator: the connection to nyc:7070 is neither encrypted nor "
                                 "authenticated (security: none)"});
}

}  // namespace
}  // namespace nanduti
