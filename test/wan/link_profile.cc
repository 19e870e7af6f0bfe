#include "test/wan/link_profile.h"

#include <algorithm>
#include <array>

#include "common/config/yaml_reader.h"
#include "test/wan/yaml_edit.h"

namespace nanduti::wan {
namespace {

constexpr double kRateMin = 1e4;
constexpr double kRateMax = 1e11;

struct RateUnit {
  std::string_view name;
  double bits_per_s;
};
constexpr std::array kRateUnits = {RateUnit{" kbit/s", 1e3}, RateUnit{" Mbit/s", 1e6},
                                   RateUnit{" Gbit/s", 1e9}};

void read_rate(YamlReader& reader, std::optional<double>& out) {
  constexpr std::string_view kAllowed =
      "none, or a rate from 10 kbit/s to 100 Gbit/s with its unit (kbit/s, Mbit/s or Gbit/s)";
  const YamlNode* node = reader.scalar("rate", kAllowed);
  if (node == nullptr) return;
  if (node->text == "none") return out.reset();
  for (const RateUnit& unit : kRateUnits) {
    if (!node->text.ends_with(unit.name)) continue;
    const auto number =
        parse_real_number(std::string_view(node->text).substr(0, node->text.size() - unit.name.size()));
    if (!number || *number * unit.bits_per_s < kRateMin || *number * unit.bits_per_s > kRateMax) break;
    out = *number * unit.bits_per_s;
    return;
  }
  reader.reject("rate", kAllowed);
}

void read_share(YamlReader& reader, std::string_view key, double& out) {
  constexpr std::string_view kAllowed = "a share from 0 % to 100 %, such as 0.1 %";
  const YamlNode* node = reader.scalar(key, kAllowed);
  if (node == nullptr) return;
  std::string_view text = node->text;
  if (!text.ends_with(" %")) return reader.reject(key, kAllowed);
  text.remove_suffix(2);
  const auto percent = parse_real_number(text);
  if (!percent || *percent < 0 || *percent > 100) return reader.reject(key, kAllowed);
  out = *percent / 100;
}

void read_burst(YamlReader& reader, std::optional<double>& out) {
  const YamlNode* node = reader.find("burst");
  if (node == nullptr) return;
  if (node->kind == YamlNode::Kind::kScalar && node->text == "none") return out.reset();
  double packets = 1;
  reader.real_number(
      "burst", [](double v) { return v >= 1 && v <= 10'000; }, "none, or packets from 1 to 10000", packets);
  out = packets;
}

/// The map form; the short form is the reader's of the place where it stands.
void read_jitter_map(YamlReader& parent, Jitter& out) {
  using Distribution = Jitter::Distribution;
  YamlReader reader = parent.map("jitter");
  reader.choice("distribution",
                std::vector<Choice<Distribution>>{{"uniform", Distribution::kUniform},
                                                  {"lognormal", Distribution::kLognormal}},
                {}, out.distribution);
  if (out.distribution == Distribution::kUniform) {
    reader.duration("within", Duration(0), kDelayMax, out.within);
  } else {
    reader.duration("p50", std::chrono::microseconds(1), kDelayMax, out.p50);
    reader.duration("p99", std::chrono::microseconds(1), kDelayMax, out.p99);
    if (out.p50 <= Duration(0)) reader.require("p50", "the median of what is added to the delay");
    if (out.p99 < out.p50) reader.conflict("p99", "a p99 below p50", "p99 of at least p50");
  }
  reader.duration("every", std::chrono::milliseconds(1), std::chrono::minutes(1), out.every);
  reader.finish();
}

/// `ways` has one way or both: what stands on the top level is for both.
void read_jitter(YamlReader& reader, std::initializer_list<WayProfile*> ways) {
  const YamlNode* node = reader.find("jitter");
  if (node == nullptr) return;
  for (WayProfile* way : ways) {
    if (node->kind == YamlNode::Kind::kMap) {
      read_jitter_map(reader, way->jitter);
      continue;
    }
    way->jitter.distribution = Jitter::Distribution::kUniform;
    Duration written = way->jitter.within * ways.size();
    reader.duration("jitter", Duration(0), kDelayMax, written);
    way->jitter.within = written / static_cast<Duration::rep>(ways.size());
  }
}

/// What has the same meaning on the top level and for one way.
void read_way_keys(YamlReader& reader, WayProfile& way) {
  read_rate(reader, way.rate_bits_per_s);
  reader.real_number(
      "queue", [](double v) { return v > 0 && v <= 100; },
      "bandwidth-delay products, above 0 and at most 100", way.queue_products);
  read_share(reader, "loss", way.loss);
  read_burst(reader, way.burst_packets);
  read_share(reader, "duplicate", way.duplicate);
  read_share(reader, "reorder", way.reorder);
  reader.duration("reorder_by", std::chrono::milliseconds(1), kDelayMax, way.reorder_by);
}

void read_way(YamlReader& root, std::string_view key, WayProfile& way) {
  YamlReader reader = root.map(key);
  reader.duration("delay", Duration(0), kDelayMax, way.delay);
  read_jitter(reader, {&way});
  read_way_keys(reader, way);
  reader.finish();
}

void check_way(YamlReader& root, const WayProfile& way) {
  if (way.jitter.distribution == Jitter::Distribution::kUniform && way.jitter.within > way.delay) {
    root.conflict("jitter", "a jitter that is larger than the delay",
                  "at most the delay: nothing arrives before it is sent");
  }
  if (way.burst_packets && way.loss > *way.burst_packets / (*way.burst_packets + 1)) {
    root.conflict("burst", "bursts too short for that much loss", "loss of at most burst / (burst + 1)");
  }
}

Result<LinkProfile> read_profile(const YamlNode& tree, const std::string& name, const LinkProfile& base) {
  ConfigErrors errors(name);
  YamlReader root(tree, "", errors);
  LinkProfile profile = base;
  Duration round_trip = profile.up.delay + profile.down.delay;
  if (root.find("rtt") != nullptr) {
    root.duration("rtt", Duration(0), 2 * kDelayMax, round_trip);
    profile.up.delay = profile.down.delay = round_trip / 2;
  }
  read_jitter(root, {&profile.up, &profile.down});
  read_way_keys(root, profile.up);
  read_way_keys(root, profile.down);
  root.name("congestion_control", profile.congestion_control);
  read_way(root, "up", profile.up);
  read_way(root, "down", profile.down);
  check_way(root, profile.up);
  check_way(root, profile.down);
  root.finish();
  NANDUTI_RETURN_IF_ERROR(errors.status());
  return profile;
}

/// The unit of a bare number.
std::string_view usual_unit(std::string_view key) {
  for (const std::string_view share : {"loss", "duplicate", "reorder"})
    if (key == share) return " %";
  if (key == "rate") return " Mbit/s";
  for (const std::string_view plain : {"queue", "burst", "congestion_control", "distribution"})
    if (key == plain) return "";
  return " ms";
}

double milliseconds(Duration duration) { return static_cast<double>(duration.count()) / 1e6; }

std::string jitter_json(const Jitter& jitter) {
  if (jitter.distribution == Jitter::Distribution::kUniform) {
    return fmt::format(R"({{"distribution":"uniform","within_ms":{},"every_ms":{}}})",
                       milliseconds(jitter.within), milliseconds(jitter.every));
  }
  return fmt::format(R"({{"distribution":"lognormal","p50_ms":{},"p99_ms":{},"every_ms":{}}})",
                     milliseconds(jitter.p50), milliseconds(jitter.p99), milliseconds(jitter.every));
}

std::string or_null(const std::optional<double>& value, double unit) {
  return value ? fmt::format("{}", *value / unit) : "null";
}

std::string way_json(const LinkProfile& profile, const WayProfile& way) {
  return fmt::format(
      R"({{"delay_ms":{},"jitter":{},"rate_mbit_per_s":{},"queue_bytes_max":{},"loss_percent":{},)"
      R"("burst_packets":{},"duplicate_percent":{},"reorder_percent":{},"reorder_by_ms":{}}})",
      milliseconds(way.delay), jitter_json(way.jitter), or_null(way.rate_bits_per_s, 1e6),
      way.rate_bits_per_s ? fmt::format("{}", queue_bytes_max(profile, way)) : "null", way.loss * 100,
      or_null(way.burst_packets, 1), way.duplicate * 100, way.reorder * 100, milliseconds(way.reorder_by));
}

}  // namespace

std::uint64_t queue_bytes_max(const LinkProfile& profile, const WayProfile& way) {
  const double round_trip_s = static_cast<double>((profile.up.delay + profile.down.delay).count()) / 1e9;
  const double bytes = way.queue_products * way.rate_bits_per_s.value_or(0) * round_trip_s / 8;
  return std::max(kQueueBytesMin, static_cast<std::uint64_t>(bytes));
}

Result<LinkProfile> parse_profile(const ConfigText& source, const LinkProfile& base) {
  const Result<YamlNode> tree = parse_yaml(source);
  if (!tree.ok()) return tree.error();
  return read_profile(*tree, source.name, base);
}

Result<LinkProfile> parse_inline_profile(std::string_view text, const LinkProfile& base) {
  YamlNode tree;
  tree.kind = YamlNode::Kind::kMap;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    const std::size_t equals = item.find('=');
    if (equals == 0 || equals == std::string_view::npos || equals + 1 == item.size()) {
      return make_error(ErrorCode::kInvalidArgument, "profile: found \"{}\", allowed: KEY=VALUE,...", item);
    }
    std::string key(item.substr(0, equals));
    if (key == "cc") key = "congestion_control";
    std::string value(item.substr(equals + 1));
    if (parse_real_number(value)) value += usual_unit(std::string_view(key).substr(key.rfind('.') + 1));
    set_value(tree, key, value);
  }
  return read_profile(tree, "profile", base);
}

Result<LinkProfile> resolve_profile(const std::string& inline_or_file, const LinkProfile& base) {
  if (inline_or_file.find('=') != std::string::npos) return parse_inline_profile(inline_or_file, base);
  const Result<ConfigText> text = read_config_file(inline_or_file);
  if (!text.ok()) return text.error();
  return parse_profile(*text);
}

std::string to_json(const LinkProfile& profile) {
  return fmt::format(R"({{"rtt_ms":{},"congestion_control":"{}","up":{},"down":{}}})",
                     milliseconds(profile.up.delay + profile.down.delay), profile.congestion_control,
                     way_json(profile, profile.up), way_json(profile, profile.down));
}

}  // namespace nanduti::wan
