#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <variant>

namespace nanduti {

/// What a daemon's command line asks for.
struct DaemonArguments {
  std::filesystem::path config;
  bool check_config = false;  ///< read the config, say whether it is right, and end
};

/// The program is to end at once: print `text` to stdout if status is 0, else to stderr.
struct EarlyExit {
  int status = 0;
  std::string text;
};

/// A daemon, for its help text.
struct DaemonDescription {
  std::string program;          ///< "nanduti-server"
  std::string purpose;          ///< a sentence
  std::string example_config;   ///< "configs/server.yaml"
  std::string signals;          ///< what SIGINT and SIGTERM do
  std::string more_usage = {};  ///< lines for what else the program does, each with its end
};

/// Understands --config FILE, --check-config, --version and --help; anything else is an error with status 64.
std::variant<DaemonArguments, EarlyExit> parse_daemon_arguments(const DaemonDescription& daemon,
                                                                std::span<char* const> arguments);

}  // namespace nanduti
