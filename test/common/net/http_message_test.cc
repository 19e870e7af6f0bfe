// Goal: targets and Host headers are taken apart as RFC 9112 and 3986 say; what is hostile is an error.
// Method: tables.
#include "common/net/http_message.h"

#include "test/support/catch.h"

using namespace nanduti;

TEST_CASE("a request's target is its decoded path and its query as sent") {
  struct Row {
    const char *target, *path, *query;
  };
  for (const Row& row :
       {Row{"/", "/", ""}, Row{"/v1/jobs", "/v1/jobs", ""}, Row{"/a%20b%2Fc?x=%20", "/a b/c", "x=%20"},
        Row{"/?", "/", ""}, Row{"/%c3%B1", "/\xC3\xB1", ""}, Row{"*", "*", ""}, Row{"/a?b?c", "/a", "b?c"},
        Row{"http://127.0.0.1:7080/v1/jobs?q", "/v1/jobs", "q"}, Row{"HTTP://x", "/", ""},
        Row{"/a/../b", "/a/../b", ""}}) {
    INFO(row.target);
    const Result<HttpTarget> target = parse_http_target(row.target);
    REQUIRE(target.ok());
    CHECK(target->path == row.path);
    CHECK(target->query == row.query);
  }
}

TEST_CASE("a target that is no path, has a bad code or a control character is an error") {
  for (const char* target :
       {"", "v1/jobs", "?x", "https://x/", "/%", "/%4", "/%zz", "/%00", "/%0a", "/\x7F", "**"}) {
    INFO(target);
    CHECK_FALSE(parse_http_target(target).ok());
  }
}

TEST_CASE("only an address or localhost is a Host that no foreign name server can have made up") {
  for (const char* host : {"127.0.0.1", "127.0.0.1:7080", "localhost", "LocalHost:1", "[::1]", "[::1]:7080",
                           "10.1.2.3", "192.168.0.1:80"}) {
    INFO(host);
    CHECK(is_address_or_localhost(host_without_port(host)));
  }
  for (const char* host : {"", "example.org", "127.0.0.1.example.org:7080", "localhost.evil.net", "[::1",
                           "::1", "0x7f000001", "evil.net:127.0.0.1"}) {
    INFO(host);
    CHECK_FALSE(is_address_or_localhost(host_without_port(host)));
  }
}
