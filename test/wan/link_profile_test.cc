// Goal: profiles are read as written, in files and inline, and what is wrong is named. Method: texts and the
// samples of configs/wan.
#include "test/wan/link_profile.h"

#include <algorithm>
#include <filesystem>

#include "test/support/catch.h"
#include "test/wan/link_model.h"
#include "test/wan/yaml_edit.h"

using namespace nanduti;
using namespace nanduti::wan;
using namespace std::chrono_literals;

namespace {

std::string error_of(const std::string& inline_text) {
  const auto profile = parse_inline_profile(inline_text);
  return profile.ok() ? "" : profile.error().message;
}
std::string file_error(const std::string& text) {
  const auto profile = parse_profile({"p.yaml", text});
  return profile.ok() ? "" : profile.error().message;
}

LinkProfile sample(const std::string& name) {
  return resolve_profile(NANDUTI_SOURCE_DIR "/configs/wan/" + name + ".yaml").value();
}

}  // namespace

TEST_CASE("the samples say what their names promise") {
  const LinkProfile good = sample("new-york-asuncion");
  CHECK(good.up.delay + good.down.delay == 180ms);
  CHECK(good.up.jitter.within + good.down.jitter.within == 10ms);
  CHECK(good.up.rate_bits_per_s == 100e6);
  CHECK(good.up.loss == 0.001);
  CHECK_FALSE(good.up.burst_packets);
  CHECK(good.congestion_control == "cubic");
  CHECK(queue_bytes_max(good, good.up) == 2'250'000);

  const LinkProfile thin = sample("thin");
  CHECK(thin.up.delay + thin.down.delay == 180ms);
  CHECK(thin.down.rate_bits_per_s == 20e6);
  CHECK(thin.down.loss == 0.01);

  const LinkProfile bad = sample("bad-day");
  CHECK(bad.up.delay + bad.down.delay == 300ms);
  CHECK(bad.up.rate_bits_per_s == 20e6);
  CHECK(bad.up.loss == 0.02);
  CHECK(bad.up.burst_packets > 1.0);

  const LinkProfile lan = sample("lan");
  CHECK(lan.up.delay + lan.down.delay == 0ms);
  CHECK_FALSE(lan.up.rate_bits_per_s);
  CHECK(lan.up.loss == 0);
}

TEST_CASE("jittery: the round trip's 99th percentile is twice its median") {
  const LinkProfile profile = sample("jittery");
  LinkWay up(profile.up, queue_bytes_max(profile, profile.up), 1, 0);
  LinkWay down(profile.down, queue_bytes_max(profile, profile.down), 1, 1);
  // Pings every 20 ms for some hours; losses left out.
  std::vector<LinkTime> trips;
  std::vector<LinkTime> sent;
  for (std::uint32_t i = 0; i < 1'000'000; ++i) {
    const LinkTime at = i * 20ms;
    while (const auto arrival = up.take(at)) down.offer(arrival->due, arrival->packet);
    while (const auto arrival = down.take(at)) {
      LinkTime::rep began = 0;
      std::copy_n(arrival->packet.begin(), sizeof began, reinterpret_cast<std::byte*>(&began));
      trips.push_back(arrival->due - LinkTime(began));
    }
    Packet ping(84);
    const LinkTime::rep now = at.count();
    std::copy_n(reinterpret_cast<const std::byte*>(&now), sizeof now, ping.begin());
    up.offer(at, std::move(ping));
  }
  std::sort(trips.begin(), trips.end());
  const double p50 = static_cast<double>(trips[trips.size() / 2].count()) / 1e6;
  const double p99 = static_cast<double>(trips[trips.size() * 99 / 100].count()) / 1e6;
  INFO("median " << p50 << " ms, 99th percentile " << p99 << " ms");
  CHECK(std::abs(p50 - 180) < 5);
  CHECK(std::abs(p99 / p50 - 2) < 0.1);
}

TEST_CASE("an inline profile has ms, Mbit/s and percent, and splits the round trip evenly") {
  const LinkProfile profile = parse_inline_profile("rtt=180,jitter=10,rate=100,loss=1,cc=bbr").value();
  for (const WayProfile* way : {&profile.up, &profile.down}) {
    CHECK(way->delay == 90ms);
    CHECK(way->jitter.within == 5ms);
    CHECK(way->rate_bits_per_s == 100e6);
    CHECK(way->loss == 0.01);
    CHECK(way->reorder == 0);
  }
  CHECK(profile.congestion_control == "bbr");
}

TEST_CASE("each way may be different, and units may be written out") {
  const LinkProfile profile =
      parse_inline_profile("rtt=180,rate=100,up.rate=2 Gbit/s,up.delay=30,down.loss=5,down.burst=3").value();
  CHECK(profile.up.delay == 30ms);
  CHECK(profile.down.delay == 90ms);
  CHECK(profile.up.rate_bits_per_s == 2e9);
  CHECK(profile.down.rate_bits_per_s == 100e6);
  CHECK(profile.up.loss == 0);
  CHECK(profile.down.loss == 0.05);
  CHECK(profile.down.burst_packets == 3.0);
}

TEST_CASE("an inline change leaves alone what it does not name") {
  const LinkProfile before = sample("bad-day");
  const LinkProfile after = parse_inline_profile("loss=5,rate=none", before).value();
  CHECK(after.up.loss == 0.05);
  CHECK_FALSE(after.up.rate_bits_per_s);
  CHECK(after.up.burst_packets == before.up.burst_packets);
  CHECK(after.up.delay == before.up.delay);
  CHECK(after.up.jitter.within == before.up.jitter.within);
  CHECK_FALSE(parse_inline_profile("burst=none", before).value().up.burst_packets);
}

TEST_CASE("what is wrong with a profile is named") {
  using Catch::Contains;
  CHECK_THAT(file_error("rtt: 180 ms\nlos: 1 %\n"),
             Contains("p.yaml:2: los: found an unknown key") && Contains("\"loss\""));
  CHECK_THAT(file_error("rtt: 180\n"),
             Contains("p.yaml:1: rtt: found \"180\"") || Contains("p.yaml:1: rtt: found 180"));
  CHECK_THAT(file_error("up: {rtt: 5 ms}\n"), Contains("p.yaml:1: up.rtt: found an unknown key"));
  CHECK_THAT(file_error("rate: 100 Mbps\n"), Contains("rate: found") && Contains("Mbit/s"));
  CHECK_THAT(file_error("rate: 1 kbit/s\n"), Contains("rate: found"));
  CHECK_THAT(file_error("loss: 101 %\n"), Contains("loss: found"));
  CHECK_THAT(file_error("loss: 0.1\n"), Contains("loss: found"));
  CHECK_THAT(file_error("burst: 0.5\n"), Contains("burst: found"));
  CHECK_THAT(file_error("queue: 0\n"), Contains("queue: found"));
  CHECK_THAT(file_error("jitter: {distribution: normal}\n"), Contains("jitter.distribution: found"));
  CHECK_THAT(file_error("jitter: {distribution: lognormal, p50: 9 ms, p99: 8 ms}\n"),
             Contains("jitter.p99: found"));
  CHECK_THAT(file_error("jitter: {distribution: lognormal, p99: 8 ms}\n"),
             Contains("jitter.p50: found nothing"));
  CHECK_THAT(file_error("jitter: {distribution: lognormal, within: 8 ms}\n"),
             Contains("jitter.within: found an unknown"));
  CHECK_THAT(file_error("rtt: 10 ms\njitter: 11 ms\n"),
             Contains("p.yaml:2: jitter: found a jitter that is larger"));
  CHECK_THAT(file_error("loss: 90 %\nburst: 2\n"), Contains("p.yaml:2: burst: found bursts too short"));
  CHECK_THAT(file_error("[]\n"), Contains("a map"));
  CHECK_THAT(error_of("rtt"), Contains("KEY=VALUE"));
  CHECK_THAT(error_of("rtt=,loss=1"), Contains("KEY=VALUE"));
  CHECK_THAT(error_of("rtt=x"), Contains("rtt: found"));
  CHECK_THAT(error_of("rtt.x=5"), Contains("rtt: found"));
  CHECK(error_of("rtt=180,loss=100") == "");
}

TEST_CASE("values set in a job leave all others as they are") {
  YamlNode tree =
      parse_yaml({"job", "name: x\nt: {seed: 1, rate: .5, on: true, text: \"64\", list: [a b, 2]}\n"})
          .value();
  set_value(tree, "t.seed", "7");
  set_value(tree, "s.bound", "none");
  set_value(tree, "name", "say \"hi\"");
  const std::string text = to_json_text(tree);
  CHECK(text ==
        "{\"name\": \"say \\\"hi\\\"\",\n"
        " \"t\": {\"seed\": 7, \"rate\": 0.5, \"on\": true, \"text\": \"64\", \"list\": [\"a b\", 2]},\n"
        " \"s\": {\"bound\": \"none\"}}\n");
  CHECK(to_json_text(parse_yaml({"again", text}).value()) == text);
}
