#include "common/config/server_config.h"

#include "common/config/endpoint_keys.h"
#include "common/config/log_level_key.h"
#include "common/config/yaml_reader.h"
#include "common/protocol/message.h"

namespace nanduti {
namespace {

constexpr Duration kMembershipMin = std::chrono::milliseconds(100);
constexpr Duration kMembershipMax = std::chrono::hours(24);

void read_roles(YamlReader& root, ServerConfig& config) {
  YamlReader roles = root.map("roles");
  roles.boolean("coordinator", config.roles.coordinator);
  roles.whole_number("shards", 0, kShardsMax, config.roles.shards);
  roles.finish();
  if (!config.roles.coordinator && config.roles.shards == 0) {
    root.conflict("roles", "neither role", "a coordinator, at least one shard, or both");
  }
}

void read_listen(YamlReader& root, ServerConfig& config) {
  YamlReader listen = root.map("listen");
  read_endpoint(listen, "data", EndpointUse::kListenData, config.listen.data);
  check_security(listen, "data", config.listen.data, config.security);
  read_endpoint(listen, "http", EndpointUse::kListenHttp, *config.listen.http);
  check_security(listen, "http", *config.listen.http, config.security);
  const std::string& host = config.listen.data.host;
  if (!config.roles.coordinator) {
    // Workers are sent to the address that stands here; all addresses of a machine are none.
    if (host == "0.0.0.0" || host == "::") {
      listen.conflict("data",
                      fmt::format("all addresses ({}) of a server that is not the coordinator's", host),
                      "the address at which workers reach this server");
    }
    if (listen.find("http") != nullptr) {
      listen.conflict("http", "a listener without the coordinator's role",
                      "to leave it out, or roles.coordinator: true");
    }
    config.listen.http.reset();
  }
  listen.finish();
}

void read_coordinator(YamlReader& root, ServerConfig& config) {
  Endpoint coordinator;
  const bool is_written = root.find("coordinator") != nullptr;
  read_endpoint(root, "coordinator", EndpointUse::kConnect, coordinator);
  if (config.roles.coordinator) {
    if (is_written) {
      root.conflict("coordinator", "a coordinator beside the coordinator's role",
                    "to leave it out, or roles.coordinator: false");
    }
  } else if (!is_written) {
    root.conflict("coordinator", "nothing", "the coordinator's host:port, as roles.coordinator is false");
  } else if (!coordinator.host.empty()) {
    check_security(root, "coordinator", coordinator, config.security);
    config.coordinator = std::move(coordinator);
  }
}

void read_storage(YamlReader& root, ServerConfig& config) {
  YamlReader storage = root.map("storage");
  std::string directory = config.storage_directory.string();
  storage.path_text("directory", "a folder's path", directory);
  storage.finish();
  config.storage_directory = directory;
}

void read_membership(YamlReader& root, ServerConfig::Membership& membership) {
  YamlReader reader = root.map("membership");
  reader.duration("suspend_after", kMembershipMin, kMembershipMax, membership.suspend_after);
  reader.duration("dead_after", kMembershipMin, kMembershipMax, membership.dead_after);
  reader.duration("lease_timeout", kMembershipMin, kMembershipMax, membership.lease_timeout);
  reader.duration("prepare_timeout", kMembershipMin, kMembershipMax, membership.prepare_timeout);
  reader.duration("shard_timeout", kMembershipMin, kMembershipMax, membership.shard_timeout);
  reader.finish();
  if (membership.suspend_after >= membership.dead_after) {
    reader.conflict("dead_after", "a time that is not longer than suspend_after",
                    "a longer one than membership.suspend_after");
  }
}

}  // namespace

Result<ServerConfig> load_server_config(const std::filesystem::path& path) {
  auto source = read_config_file(path);
  if (!source.ok()) return source.error();
  return parse_server_config(std::move(source->text), std::move(source->name));
}

Result<ServerConfig> parse_server_config(std::string text, std::string name) {
  ServerConfig config;
  config.source = {std::move(name), std::move(text)};
  const auto tree = parse_yaml(config.source);
  if (!tree.ok()) return tree.error();
  ConfigErrors errors(config.source.name);
  YamlReader root(*tree, "", errors);
  root.name("name", config.name);
  read_roles(root, config);
  read_security(root, config.security);
  read_coordinator(root, config);
  read_listen(root, config);
  read_storage(root, config);
  read_membership(root, config.membership);
  read_transport(root, config.transport);
  read_log_level(root, config.log_level);
  root.finish();
  NANDUTI_RETURN_IF_ERROR(errors.status());
  return config;
}

}  // namespace nanduti
