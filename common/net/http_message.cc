#include "common/net/http_message.h"

#include <algorithm>
#include <array>

#include <arpa/inet.h>

namespace nanduti {

namespace {

std::optional<unsigned> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

std::string_view HttpRequest::header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? std::string_view() : std::string_view(it->second);
}

Result<HttpTarget> parse_http_target(std::string_view target) {
  if (target == "*") return HttpTarget{"*", {}};
  constexpr std::string_view kScheme = "http://";
  if (lower_case(target.substr(0, kScheme.size())) == kScheme) {
    const std::size_t slash = target.find_first_of("/?", kScheme.size());
    if (slash == std::string_view::npos) return HttpTarget{"/", {}};
    target.remove_prefix(slash);
  }
  if (target.empty() || target.front() != '/')
    return make_error(ErrorCode::kInvalidArgument, "the request's target has to begin with '/'");
  HttpTarget parts;
  const std::size_t question = target.find('?');
  if (question != std::string_view::npos) parts.query = target.substr(question + 1);
  const std::string_view coded = target.substr(0, question);
  for (std::size_t i = 0; i < coded.size(); ++i) {
    char c = coded[i];
    if (c == '%') {
      const auto high = i + 2 < coded.size() ? hex_digit(coded[i + 1]) : std::nullopt;
      const auto low = i + 2 < coded.size() ? hex_digit(coded[i + 2]) : std::nullopt;
      if (!high || !low) return make_error(ErrorCode::kInvalidArgument, "a bad % code in the path");
      c = static_cast<char>(*high * 16 + *low);
      i += 2;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
      return make_error(ErrorCode::kInvalidArgument, "a control character in the path");
    parts.path += c;
  }
  return parts;
}

std::string host_without_port(std::string_view host) {
  if (host.starts_with('[')) {
    const std::size_t end = host.find(']');
    if (end == std::string_view::npos) return {};
    return std::string(host.substr(1, end - 1));
  }
  return std::string(host.substr(0, host.find(':')));
}

bool is_address_or_localhost(const std::string& host) {
  if (lower_case(host) == "localhost") return true;
  std::array<unsigned char, sizeof(in6_addr)> address;
  return inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
         inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

std::string_view http_reason(unsigned status) {
  struct Reason {
    unsigned status;
    std::string_view text;
  };
  static constexpr std::array kReasons = {Reason{200, "OK"},
                                          Reason{201, "Created"},
                                          Reason{202, "Accepted"},
                                          Reason{204, "No Content"},
                                          Reason{400, "Bad Request"},
                                          Reason{403, "Forbidden"},
                                          Reason{404, "Not Found"},
                                          Reason{405, "Method Not Allowed"},
                                          Reason{409, "Conflict"},
                                          Reason{413, "Payload Too Large"},
                                          Reason{417, "Expectation Failed"},
                                          Reason{431, "Request Header Fields Too Large"},
                                          Reason{500, "Internal Server Error"},
                                          Reason{503, "Service Unavailable"}};
  const auto it = std::find_if(kReasons.begin(), kReasons.end(),
                               [status](const Reason& reason) { return reason.status == status; });
  return it == kReasons.end() ? "Unknown" : it->text;
}

}  // namespace nanduti
