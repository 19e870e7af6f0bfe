// Goal: what JsonWriter writes is JSON, whatever goes in. Method: exact texts.
#include "common/base/json_writer.h"

#include <cmath>
#include <limits>

#include "test/support/catch.h"

using namespace nanduti;

namespace {

std::string quoted(std::string_view text) { return JsonWriter().value(text).text(); }
std::string number(double value) { return JsonWriter().value(value).text(); }

}  // namespace

TEST_CASE("objects and arrays nest with commas where they belong") {
  JsonWriter writer;
  writer.begin_object().key("a").begin_array().end_array().key("b").begin_array();
  writer.value(1u)
      .value("x")
      .null()
      .begin_object()
      .end_object()
      .begin_object()
      .member("c", true)
      .end_object();
  writer.end_array()
      .member("d", std::optional<double>())
      .member("e", std::optional<double>(0.5))
      .end_object();
  CHECK(writer.text() == R"({"a":[],"b":[1,"x",null,{},{"c":true}],"d":null,"e":0.5})");
}

TEST_CASE("numbers read back the same, and those that JSON has not are null") {
  CHECK(number(0.89) == "0.89");
  CHECK(number(-1e300) == "-1e+300");
  CHECK(number(0.0) == "0");
  CHECK(number(std::nan("")) == "null");
  CHECK(number(-std::numeric_limits<double>::infinity()) == "null");
  CHECK(JsonWriter().value(std::numeric_limits<std::uint64_t>::max()).text() == "18446744073709551615");
}

TEST_CASE("text is escaped, and bytes that are not UTF-8 are replaced") {
  CHECK(quoted("a\"b\\c\n\t\x01\x7F") == "\"a\\\"b\\\\c\\n\\u0009\\u0001\\u007f\"");
  CHECK(quoted("\xC3\x91"
               "and\xF0\x9F\x95\xB8") ==
        "\"\xC3\x91"
        "and\xF0\x9F\x95\xB8\"");
  const std::string bad = "\xEF\xBF\xBD";
  CHECK(quoted("a\xFFz") == "\"a" + bad + "z\"");
  CHECK(quoted("\xC3") == "\"" + bad + "\"");                                // cut off
  CHECK(quoted("\xC0\xAF") == "\"" + bad + bad + "\"");                      // overlong
  CHECK(quoted("\xED\xA0\x80") == "\"" + bad + bad + bad + "\"");            // a surrogate
  CHECK(quoted("\xF4\x90\x80\x80") == "\"" + bad + bad + bad + bad + "\"");  // beyond Unicode
  CHECK(quoted(std::string_view("\0", 1)) == "\"\\u0000\"");
}
