#include "common/config/command_line.h"

#include <string_view>

#include <fmt/format.h>

#include "common/base/version.h"

namespace nanduti {

namespace {

constexpr int kUsageError = 64;

std::string help_of(const DaemonDescription& daemon) {
  return fmt::format(
      "usage: {0} --config FILE [--check-config]\n"
      "{4}"
      "{1}\n\n"
      "  --config FILE   the daemon's YAML file; {2} is one, configs/README.md documents every key\n"
      "  --check-config  read the file, say whether it is right, and end (status 0 or 1)\n"
      "  --version       print the version and end\n"
      "  --help          print this and end\n\n"
      "{3}\n"
      "Logs go to stderr.\n",
      daemon.program, daemon.purpose, daemon.example_config, daemon.signals, daemon.more_usage);
}

}  // namespace

std::variant<DaemonArguments, EarlyExit> parse_daemon_arguments(const DaemonDescription& daemon,
                                                                std::span<char* const> arguments) {
  const auto wrong = [&](const std::string& what) {
    return EarlyExit{kUsageError, fmt::format("{}: {} (see --help)\n", daemon.program, what)};
  };
  DaemonArguments found;
  bool has_config = false;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--help" || argument == "-h") return EarlyExit{0, help_of(daemon)};
    if (argument == "--version") return EarlyExit{0, fmt::format("{} {}\n", daemon.program, kProgramVersion)};
    if (argument == "--check-config") {
      found.check_config = true;
    } else if (argument == "--config" || argument.starts_with("--config=")) {
      if (has_config) return wrong("--config is given twice");
      std::string_view value;
      if (argument != "--config")
        value = argument.substr(std::string_view("--config=").size());
      else if (i + 1 < arguments.size())
        value = arguments[++i];
      if (value.empty()) return wrong("--config wants a file");
      found.config = value;
      has_config = true;
    } else {
      return wrong(fmt::format("unknown argument '{}'", argument));
    }
  }
  if (!has_config) return wrong(fmt::format("--config FILE is missing; {} is one", daemon.example_config));
  return found;
}

}  // namespace nanduti
