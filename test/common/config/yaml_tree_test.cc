// Goal: whatever bytes a config file has, reading it ends in a tree or an error with a line. Method: a table
// of files that must fail, and files at the limits.
#include "common/config/yaml_tree.h"

#include "common/config/job_config.h"
#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

std::string error_of(std::string text) {
  const auto tree = parse_yaml({"x.yaml", std::move(text)});
  REQUIRE_FALSE(tree.ok());
  CHECK(tree.error().code == ErrorCode::kInvalidArgument);
  return tree.error().message;
}

std::string repeated(std::string_view text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

TEST_CASE("values know their kind, text, quotes and line") {
  const auto tree = parse_yaml({"x.yaml", "a: 1\nb:\n  - \"2\"\n  - {c: }\nd:\n"});
  REQUIRE(tree.ok());
  REQUIRE(tree->kind == YamlNode::Kind::kMap);
  REQUIRE(tree->items.size() == 3);
  CHECK(tree->items[0].key == "a");
  CHECK(tree->items[0].value.text == "1");
  CHECK_FALSE(tree->items[0].value.is_quoted);
  const YamlNode& list = tree->items[1].value;
  CHECK(list.kind == YamlNode::Kind::kList);
  CHECK(list.line == 2);
  CHECK(list.items[0].value.is_quoted);
  CHECK(list.items[0].value.line == 3);
  CHECK(list.items[1].value.items[0].value.kind == YamlNode::Kind::kNull);
  CHECK(tree->items[2].value.kind == YamlNode::Kind::kNull);
  CHECK(tree->items[2].value.line == 5);
}

TEST_CASE("bytes that are not YAML, or more of YAML than a config may use") {
  struct Case {
    std::string text;
    std::string_view message;
  };
  using namespace std::string_literals;
  const Case cases[] = {
      {"a: {b: 1\n", "x.yaml:1: not valid YAML: end of map flow not found"},
      {"a: [1, 2\nb: 3\n", "x.yaml:2: not valid YAML: end of sequence flow not found"},
      {"a: \"open\n", "x.yaml:1: not valid YAML: illegal EOF in scalar"},
      {"a: 1\n b: 2\n", "x.yaml:2: not valid YAML: illegal map value"},
      {"a: b: c\n", "x.yaml:1: not valid YAML: illegal map value"},
      {"a: 1\n---\nb: 2\n", "x.yaml:2: found a second document, allowed: one"},
      {"a: &x 1\nb: *x\n", "x.yaml:1: found an anchor or alias (& or *), allowed: plain values"},
      {"a: *x\n", "x.yaml:1: not valid YAML: the referenced anchor is not defined"},
      {"a: !!str 1\n", "x.yaml:1: found a tag (!), allowed: plain values"},
      {"[a]: 1\n", "x.yaml:1: found a list or map as a key, allowed: a name"},
      {"{a: 1}: 1\n", "x.yaml:1: found a list or map as a key, allowed: a name"},
      {"~: 1\n", "x.yaml:1: found a key of nothing, allowed: a name"},
      {"a: 1\n\tb: 2\n", "x.yaml:2: found a tab in the indentation, allowed: spaces"},
      {"a: 1\nb:\n  \t- 1\n", "x.yaml:3: found a tab in the indentation, allowed: spaces"},
      {"a: \xFF\n", "x.yaml:1: found the byte 0xFF, allowed: text in UTF-8"},
      {"a: 1\nb: \xC3\x28\n", "x.yaml:2: found the byte 0xC3, allowed: text in UTF-8"},
      {"a: \xC0\xAF\n", "x.yaml:1: found the byte 0xC0, allowed: text in UTF-8"},
      {"\xFF\xFE"
       "a\0:\0"s,
       "x.yaml:1: found the byte 0xFF, allowed: text in UTF-8"},
      {"a: \0\n"s, "x.yaml:1: found the control character 0x00, allowed: text"},
      {"a: \x1B[31m\n", "x.yaml:1: found the control character 0x1B, allowed: text"},
      {"a: %x\n%y\n", "x.yaml:1: not valid YAML: unknown token"},
      {repeated("[", 17), "x.yaml:1: found a list or map as a key, allowed: a name"},
      {"a: " + repeated("{b: ", 100), "x.yaml:1: found more than 16 levels, allowed: at most that many"},
      {repeated("[", 100000), "x.yaml:1: found a list or map as a key, allowed: a name"},
      {repeated("- ", 100000), "x.yaml:1: found more than 16 levels, allowed: at most that many"},
  };
  for (const Case& item : cases) {
    INFO(item.text.substr(0, 100));
    const std::string message = error_of(item.text);
    CHECK(message == item.message);
  }
}

TEST_CASE("the classic bomb of aliases is refused at its first anchor") {
  std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    const auto previous = static_cast<char>(c - 1);
    bomb += fmt::format("{0}: &{0} [*{1}, *{1}, *{1}, *{1}, *{1}, *{1}, *{1}, *{1}, *{1}]\n", c, previous);
  }
  CHECK(error_of(bomb) == "x.yaml:1: found an anchor or alias (& or *), allowed: plain values");
}

TEST_CASE("a file with nothing in it, or with something else than a map") {
  const auto job_error = [](std::string text) {
    return parse_job_text(std::move(text), "job.yaml").error().message;
  };
  const std::string keys = "name, model, data, training, staleness, compression, durability, target";
  CHECK(job_error("") == "job.yaml:1: found nothing, allowed: a map, keys: " + keys);
  CHECK(job_error("\n# only a comment\n") == "job.yaml:1: found nothing, allowed: a map, keys: " + keys);
  CHECK(job_error("- a\n- b\n") == "job.yaml:1: found a list, allowed: a map, keys: " + keys);
  CHECK(job_error("hello\n") == "job.yaml:1: found \"hello\", allowed: a map, keys: " + keys);
}

TEST_CASE("a long value is cut and cleaned in its error") {
  const std::string message =
      parse_job_text("name: \"\\e\\n" + repeated("\u00F1", 500) + "\"\n", "j").error().message;
  CHECK(message == "j:1: name: found the quoted text \"\\x1B\\x0A" + repeated("\u00F1", 29) +
                       "...\", allowed: 1 to 64 letters, digits, dots, hyphens and underscores");
}

TEST_CASE("a file is read up to its limit and not beyond, even an endless one") {
  const TemporaryFolder folder;
  const std::string largest = "# " + std::string(kConfigBytesMax - 3, 'x') + "\n";
  CHECK(read_config_file(folder.write("largest.yaml", largest))->text == largest);
  const auto large = folder.write("large.yaml", largest + "\n");
  CHECK(read_config_file(large).error().message ==
        large.string() + ": found more than 262144 bytes, allowed: at most that many");
  CHECK(read_config_file("/dev/zero").error().message ==
        "/dev/zero: found more than 262144 bytes, allowed: at most that many");
  CHECK(read_config_file(folder.path()).error().message ==
        folder.path().string() + ": cannot be read: Is a directory");
  CHECK(error_of(largest + "\n") == "x.yaml: found 262145 bytes, allowed: at most 262144");
}

TEST_CASE("windows line ends and a byte order mark are accepted") {
  const auto tree = parse_yaml({"x.yaml",
                                "\xEF\xBB\xBF"
                                "a: 1\r\nb: two\r\n"});
  REQUIRE(tree.ok());
  CHECK(tree->items.at(0).key == "a");
  CHECK(tree->items.at(1).value.text == "two");
}

}  // namespace
}  // namespace nanduti
