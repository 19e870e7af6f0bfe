#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/protocol_time.h"
#include "common/base/result.h"
#include "common/config/config_text.h"

namespace nanduti::wan {

inline constexpr Duration kDelayMax = std::chrono::seconds(10);
/// Below this a queue holds too little for TCP's bursts, whatever the bandwidth-delay product is.
inline constexpr std::uint64_t kQueueBytesMin = 150'000;

/// How the delay varies. The path's extra delay holds for `every`, then takes a new value of its own: cross
/// traffic comes and goes, and packets that follow each other closely wait the same.
struct Jitter {
  enum class Distribution { kUniform, kLognormal };

  Distribution distribution = Distribution::kUniform;
  Duration within{0};  ///< uniform: delay - within to delay + within; 0: no jitter
  Duration p50{0};     ///< lognormal: median of what is added to the delay ...
  Duration p99{0};     ///< ... and its 99th percentile
  Duration every = std::chrono::milliseconds(20);
};

/// What one direction of a link does to packets, in the order in which it happens to them.
struct WayProfile {
  std::optional<double> rate_bits_per_s;  ///< of IP packets, headers and all; empty: no limit, no queue
  double queue_products = 1;              ///< drop-tail queue before the rate, in bandwidth-delay products
  double loss = 0;                        ///< share of the packets
  /// Mean length of a run of lost packets (Gilbert-Elliott: nothing is lost in the good state, everything in
  /// the bad one). Empty: each packet is lost or not on its own.
  std::optional<double> burst_packets;
  double duplicate = 0;  ///< share that arrives twice
  Duration delay{0};
  Jitter jitter;
  double reorder = 0;  ///< share that is held up by `reorder_by` and overtaken; all others keep their order
  Duration reorder_by = std::chrono::milliseconds(5);
};

struct LinkProfile {
  WayProfile up;    ///< from the workers to the server
  WayProfile down;  ///< from the server to the workers
  std::string congestion_control = "cubic";
};

/// Bytes that wait for one way's rate, at most.
std::uint64_t queue_bytes_max(const LinkProfile& profile, const WayProfile& way);

/// Reads a profile's YAML (test/wan/README.md documents every key). Keys that are absent have the value that
/// `base` has. The error is a whole sentence: file, line, key, what was found, what is allowed.
Result<LinkProfile> parse_profile(const ConfigText& source, const LinkProfile& base = {});

/// The same from "rtt=180,loss=1,up.rate=20": the YAML's keys, those below others with a dot; bare numbers
/// are ms, Mbit/s and %. `cc` is short for congestion_control.
Result<LinkProfile> parse_inline_profile(std::string_view text, const LinkProfile& base = {});

/// What stands for a profile on a command line: the inline form changes `base`, a file replaces it.
Result<LinkProfile> resolve_profile(const std::string& inline_or_file, const LinkProfile& base = {});

/// One JSON object with all values.
std::string to_json(const LinkProfile& profile);

}  // namespace nanduti::wan
