// Goal: every file in configs/ loads, and configs/README.md knows every key. Method: read them all.
#include <set>

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

}  // namespace
}  // namespace nanduti
