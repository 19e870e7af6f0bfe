#pragma once

#include <cstdio>
#include <utility>

#include <sys/resource.h>

#include "common/base/log.h"
#include "common/base/result.h"
#include "common/config/command_line.h"
#include "common/config/warnings.h"

namespace nanduti {

/// Exit status of a daemon whose config is right, on a machine that has not what it asks for.
inline constexpr int kMachineLacks = 3;

/// A daemon's main: command line, config, warnings; then `run`, whose exit status it returns. What is wrong
/// with the config goes to stderr, with status 1, and what it asks of this machine and is not there (`check`)
/// with kMachineLacks.
template <class Config>
int daemon_main(const DaemonDescription& daemon, std::span<char* const> arguments,
                Result<Config> (*load)(const std::filesystem::path&), Status (*check)(const Config&),
                int (*run)(Config)) {
  const auto parsed = parse_daemon_arguments(daemon, arguments);
  if (const auto* early = std::get_if<EarlyExit>(&parsed)) {
    std::fputs(early->text.c_str(), early->status == 0 ? stdout : stderr);
    return early->status;
  }
  const auto& wanted = std::get<DaemonArguments>(parsed);
  Result<Config> config = load(wanted.config);
  const Status status = config.ok() ? check(*config) : Status(config.error());
  if (!status.ok()) {
    std::fprintf(stderr, "%s: %s\n", daemon.program.c_str(), status.error().message.c_str());
    return config.ok() ? kMachineLacks : 1;
  }
  set_log_level(config->log_level);
  for (const std::string& warning : warnings(*config)) log_warning("{}", warning);
  if (wanted.check_config) {
    std::printf("%s is right\n", wanted.config.c_str());
    return 0;
  }
  // As many connections as the system lets this process have.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    const rlim_t found = std::exchange(files.rlim_cur, files.rlim_max);
    if (::setrlimit(RLIMIT_NOFILE, &files) == 0)
      log_info("open files: up to {} instead of {}", files.rlim_max, found);
    else
      log_warning("open files: no more than {}, though the hard limit is {}", found, files.rlim_max);
  }
  return run(std::move(config).value());
}

}  // namespace nanduti
