#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/result.h"

/// HTTP requests and answers as plain values, as handlers see them (http_server.h).
namespace nanduti {

struct HttpRequest {
  std::string method;  ///< as sent; HEAD arrives as GET
  std::string target;  ///< the path, percent-decoded; begins with '/', or is "*" (OPTIONS)
  std::string query;   ///< what follows the '?', as sent
  std::map<std::string, std::string> headers;  ///< names in lower case; repeated ones joined by ", "
  std::string body;

  /// The value of a header by its name in lower case; empty if it is not there.
  [[nodiscard]] std::string_view header(const std::string& name) const;
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  ///< beside those that the server writes
};

/// Server-sent events, pulled by the server's thread about twice a second until `next` returns nothing: the
/// stream ends then. Data that is the same as before is not sent again.
struct HttpEventStream {
  std::function<std::optional<std::string>()> next;
};

using HttpAnswer = std::variant<HttpResponse, HttpEventStream>;

struct HttpTarget {
  std::string path;
  std::string query;
};

/// Takes a request's target apart: "/path?query", "http://host/path?query" or "*".
/// Errors: kInvalidArgument for anything else, a bad percent code or a control character.
Result<HttpTarget> parse_http_target(std::string_view target);

/// Of ASCII letters.
std::string lower_case(std::string_view text);

/// The host of a Host header, without port and brackets; empty if it makes no sense.
std::string host_without_port(std::string_view host);

/// "localhost" or an IP address in figures: a name that no foreign DNS server can have made up.
bool is_address_or_localhost(const std::string& host);

/// "Not Found" for 404.
std::string_view http_reason(unsigned status);

}  // namespace nanduti
