// Goal: the small parts that configs are made of: numbers, durations, suggestions, endpoints. Method: tables.
#include "common/config/endpoint.h"
#include "common/config/scalar.h"
#include "common/config/suggestion.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

TEST_CASE("durations need a unit and are exact") {
  using namespace std::chrono_literals;
  CHECK(parse_duration("10 s") == Duration(10s));
  CHECK(parse_duration("10s") == Duration(10s));
  CHECK(parse_duration("500 ms") == Duration(500ms));
  CHECK(parse_duration("2 min") == Duration(2min));
  CHECK(parse_duration("0.5 h") == Duration(30min));
  CHECK(parse_duration("0 s") == Duration(0s));
  for (const char* wrong : {"", "10", "s", "10 S", "10  s", " 10 s", "10 s ", "-1 s", "1e3 s", "1.2.3 s",
                            "10 m", "99999999 h", "10 sec"}) {
    INFO(wrong);
    CHECK_FALSE(parse_duration(wrong));
  }
  CHECK(format_duration(90s) == "90 s");
  CHECK(format_duration(24h) == "24 h");
  CHECK(format_duration(120s) == "2 min");
  CHECK(format_duration(1500ms) == "1500 ms");
}

TEST_CASE("the word that was probably meant") {
  const std::string words[] = {"batch_size", "epochs", "seed", "name", "model"};
  CHECK(closest_word("bach_size", words) == "batch_size");
  CHECK(closest_word("batchsize", words) == "batch_size");
  CHECK(closest_word("modle", words) == "model");
  CHECK(closest_word("epoch", words) == "epochs");
  CHECK(closest_word("gpu", words).empty());
  CHECK(closest_word("", words).empty());
  CHECK(closest_word(std::string(100000, 'x'), words).empty());
}

TEST_CASE("endpoints that are ones, and how they are written") {
  CHECK(parse_endpoint("127.0.0.1:7070").value() == Endpoint{"127.0.0.1", 7070});
  CHECK(parse_endpoint("nyc-1.example.org:0").value() == Endpoint{"nyc-1.example.org", 0});
  CHECK(parse_endpoint("[2001:db8::1]:65535").value() == Endpoint{"2001:db8::1", 65535});
  CHECK(parse_endpoint("[::1]:1")->tcp() == "tcp://[::1]:1");
  CHECK(parse_endpoint("a:1")->host_and_port() == "a:1");
}

TEST_CASE("endpoints that are none") {
  for (const char* wrong :
       {"",      "a",     ":1",        "a:",    "a:-1",          "a:65536", "a:1x",        "a: 1",
        "a b:1", "::1:1", "[::1]",     "[a]:1", "[127.0.0.1]:1", "1.2.3:1", "300.1.1.1:1", "a..b:1",
        "-a:1",  "a/b:1", "tcp://a:1", "*:1",   "a:01"}) {
    INFO(wrong);
    const auto endpoint = parse_endpoint(wrong);
    REQUIRE_FALSE(endpoint.ok());
    CHECK(endpoint.error().code == ErrorCode::kInvalidArgument);
  }
  CHECK(parse_endpoint("x").error().message == "\"x\" is not host:port or [ipv6]:port, port 0 to 65535");
}

TEST_CASE("only this machine can reach a loopback endpoint") {
  for (const char* host : {"localhost", "LocalHost", "127.0.0.1", "127.255.0.9", "::1", "0:0:0:0:0:0:0:1"}) {
    INFO(host);
    CHECK(Endpoint{host, 1}.is_loopback());
  }
  for (const char* host :
       {"0.0.0.0", "::", "128.0.0.1", "10.0.0.1", "localhost.example", "127.0.0.1.example", "::2"}) {
    INFO(host);
    CHECK_FALSE(Endpoint{host, 1}.is_loopback());
  }
  CHECK(is_ip_address("10.0.0.1"));
  CHECK(is_ip_address("::1"));
  CHECK_FALSE(is_ip_address("localhost"));
  CHECK_FALSE(is_ip_address("1.2.3"));
}

}  // namespace
}  // namespace nanduti
