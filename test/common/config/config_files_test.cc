// Goal: every file in configs/ loads, and configs/README.md knows every key. Method: read them all.
#include <algorithm>
#include <set>
#include <sstream>
#include <vector>

#include "common/config/job_config.h"
#include "common/config/server_config.h"
#include "common/config/worker_config.h"
#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;
const fs::path kConfigs = fs::path(NANDUTI_SOURCE_DIR) / "configs";

std::string text_of(const auto& result) { return result.ok() ? "" : result.error().message; }

TEST_CASE("the server and the worker in configs/ find each other on loopback") {
  const auto server = load_server_config(kConfigs / "server.yaml");
  INFO(text_of(server));
  REQUIRE(server.ok());
  CHECK(server->roles.coordinator);
  CHECK(server->roles.shards == 2);
  CHECK(server->listen.data.is_loopback());
  CHECK(server->listen.http->is_loopback());
  const auto worker = parse_worker_config(read_whole_file(kConfigs / "worker.yaml"), "worker.yaml");
  INFO(text_of(worker));
  REQUIRE(worker.ok());
  CHECK(worker->coordinator == server->listen.data);
}

TEST_CASE("every job in configs/jobs loads") {
  std::set<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(kConfigs / "jobs")) {
    const auto job = load_job_config(entry.path());
    INFO(text_of(job));
    REQUIRE(job.ok());
    CHECK(job->target);
    names.insert(job->name);
  }
  CHECK(names.contains("fashion-lenet"));
}

/// The keys that an error about an unknown one lists.
std::vector<std::string> keys_in(const std::string& message) {
  constexpr std::string_view kAllowed = ", allowed: ";
  std::vector<std::string> keys;
  std::istringstream list(message.substr(message.find(kAllowed) + kAllowed.size()));
  for (std::string key; std::getline(list >> std::ws, key, ',');) keys.push_back(key);
  return keys;
}

TEST_CASE("configs/README.md has every key of every section") {
  std::vector<std::string> messages;
  for (const char* text : {"{0}", "roles: {0}", "listen: {0}", "storage: {0}", "membership: {0}"}) {
    messages.push_back(text_of(parse_server_config(text, "f")));
  }
  messages.push_back(text_of(parse_worker_config("{0}", "f")));
  for (const char* text :
       {"{0}", "model: {0}", "data: {0}", "data: {train: {0}}", "training: {0}", "training: {optimizer: {0}}",
        "training: {schedule: {0}}", "staleness: {0}", "compression: {0}", "compression: {push: {0}}",
        "target: {0}", "model: {layers: [{conv2d: {0}}]}", "model: {layers: [{dense: {0}}]}",
        "model: {layers: [{batch_norm: {0}}]}", "model: {layers: [{residual: {0}}]}",
        "training: {augment: {0}}", "data: {format: cifar10, train: {0}}"}) {
    messages.push_back(text_of(parse_job_text(text, "f")));
  }
  const std::pair<std::string, std::string> kForms[] = {{"`", "`"}, {"`", "."}, {".", "`"}, {".", "."}};
  const std::string readme = read_whole_file(kConfigs / "README.md");
  for (const std::string& message : messages) {
    INFO(message);
    REQUIRE(message.find("found an unknown key") != std::string::npos);
    for (const std::string& key : keys_in(message)) {
      INFO(key);
      const bool is_there = std::any_of(std::begin(kForms), std::end(kForms), [&](const auto& form) {
        return readme.find(form.first + key + form.second) != std::string::npos;
      });
      CHECK(is_there);
    }
  }
}

}  // namespace
}  // namespace nanduti
