#pragma once

#include <string>

namespace nanduti {

/// This machine for people and run.json: "AMD EPYC 7R13 Processor, 2 cores, 23 GiB".
std::string describe_hardware();

/// The machine's name, for daemons that were given none.
std::string host_name();

}  // namespace nanduti
