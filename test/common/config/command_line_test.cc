// Goal: daemons understand their four options and refuse the rest in words. Method: a table of command lines.
#include "common/config/command_line.h"

#include <vector>

#include "test/support/catch.h"

using namespace nanduti;

namespace {

std::variant<DaemonArguments, EarlyExit> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "nanduti-server");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  return parse_daemon_arguments({"nanduti-server", "Purpose.", "configs/server.yaml", "Signals."}, arguments);
}

}  // namespace

TEST_CASE("a config file and --check-config are found in either order and spelling") {
  const auto plain = std::get<DaemonArguments>(parse({"--config", "a.yaml"}));
  CHECK(plain.config == "a.yaml");
  CHECK_FALSE(plain.check_config);
  const auto both = std::get<DaemonArguments>(parse({"--check-config", "--config=b c.yaml"}));
  CHECK(both.config == "b c.yaml");
  CHECK(both.check_config);
}

TEST_CASE("asking for version or help ends the program with status 0, also beside other arguments") {
  const auto version = std::get<EarlyExit>(parse({"--version"}));
  CHECK(version.status == 0);
  CHECK_THAT(version.text, Catch::StartsWith("nanduti-server 0."));
  const auto help = std::get<EarlyExit>(parse({"--config", "a.yaml", "--help"}));
  CHECK(help.status == 0);
  CHECK_THAT(help.text, Catch::Contains("--check-config") && Catch::Contains("configs/server.yaml"));
}

TEST_CASE("anything else is a usage error that says what is wrong") {
  const auto error = [](std::vector<std::string> words) {
    const auto exit = std::get<EarlyExit>(parse(std::move(words)));
    CHECK(exit.status == 64);
    return exit.text;
  };
  CHECK(error({}) == "nanduti-server: --config FILE is missing; configs/server.yaml is one (see --help)\n");
  CHECK(error({"--config"}) == "nanduti-server: --config wants a file (see --help)\n");
  CHECK(error({"--config="}) == "nanduti-server: --config wants a file (see --help)\n");
  CHECK(error({"--config", "a", "--config", "b"}) ==
        "nanduti-server: --config is given twice (see --help)\n");
  CHECK(error({"--port", "7"}) == "nanduti-server: unknown argument '--port' (see --help)\n");
  CHECK(error({"server.yaml"}) == "nanduti-server: unknown argument 'server.yaml' (see --help)\n");
}
