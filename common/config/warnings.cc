#include "common/config/warnings.h"

namespace nanduti {
namespace {

void warn_of_listener(const char* key, const Endpoint& endpoint, std::vector<std::string>& out) {
  if (endpoint.is_loopback()) return;
  out.push_back(fmt::format(
      "{}: {} is neither encrypted nor authenticated (security: none): whoever can reach it can read and "
      "change jobs and models",
      key, endpoint.host_and_port()));
}

void warn_of_coordinator(const Endpoint& endpoint, std::vector<std::string>& out) {
  if (endpoint.is_loopback()) return;
  out.push_back(
      fmt::format("coordinator: the connection to {} is neither encrypted nor authenticated (security: none)",
                  endpoint.host_and_port()));
}

}  // namespace

std::vector<std::string> warnings(const ServerConfig& config) {
  std::vector<std::string> result;
  warn_of_listener("listen.data", config.listen.data, result);
  if (config.listen.http) warn_of_listener("listen.http", *config.listen.http, result);
  if (config.coordinator) warn_of_coordinator(*config.coordinator, result);
  return result;
}

std::vector<std::string> warnings(const WorkerConfig& config) {
  std::vector<std::string> result;
  warn_of_coordinator(config.coordinator, result);
  return result;
}

}  // namespace nanduti
