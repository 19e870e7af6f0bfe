#pragma once

#include <string>

namespace nanduti {

/// This machine for people and run.json: "AMD EPYC 7R13 Processor, 2 cores, 23 GiB".
std::string describe_hardware();

/// "host-1234": the machine's name and this process's number, for daemons that were given no name.
std::string default_daemon_name();

}  // namespace nanduti
