// nanduti_wan: the link of a WAN lab, and what scripts/wan_lab.sh, its usual front, needs beside it.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/job_config.h"
#include "common/config/scalar.h"
#include "common/config/text_check.h"
#include "test/wan/tun_link.h"
#include "test/wan/yaml_edit.h"

using namespace nanduti;
using namespace nanduti::wan;

namespace {

constexpr const char* kUsage =
    "usage: nanduti_wan link SERVER_NAMESPACE WORKERS_NAMESPACE CONTROL_SOCKET PROFILE SEED\n"
    "       nanduti_wan ask CONTROL_SOCKET status | set PROFILE | blackout SECONDS [up|down]\n"
    "       nanduti_wan profile PROFILE\n"
    "       nanduti_wan job JOB.yaml [KEY=VALUE...]\n"
    "link     joins two network namespaces (paths) by TUN devices named wan, until it is killed\n"
    "ask      sends a command to a link and prints its answer, a JSON object\n"
    "profile  checks a profile (a file, or rtt=180,loss=1) and prints it as JSON\n"
    "job      prints the job with other values, such as training.seed=3, as JSON, which is YAML as well\n";

int fail(const std::string& message) {
  std::fprintf(stderr, "nanduti_wan: %s\n", message.c_str());
  return 1;
}

int print(const std::string& text) { return std::fputs(text.c_str(), stdout) < 0 ? 1 : 0; }

int run_link(const std::vector<std::string>& arguments) {
  const auto profile = resolve_profile(arguments[3]);
  if (!profile.ok()) return fail(profile.error().message);
  const auto seed = parse_whole_number(arguments[4]);
  if (!seed) return fail("the seed is no whole number");
  Result<TunLink> link = TunLink::open({.server_namespace = arguments[0],
                                        .workers_namespace = arguments[1],
                                        .control_path = arguments[2],
                                        .profile = *profile,
                                        .seed = *seed});
  if (!link.ok()) return fail(link.error().message);
  return fail(link->run().error().message);
}

int ask(const std::vector<std::string>& arguments) {
  std::string command = arguments[1];
  for (std::size_t i = 2; i < arguments.size(); ++i) command += ' ' + arguments[i];
  const auto answer = ask_link(arguments[0], command);
  if (!answer.ok()) return fail(answer.error().message);
  if (answer->starts_with("{\"error\"")) return fail(*answer);
  return print(*answer + '\n');
}

int show_profile(const std::string& text) {
  const auto profile = resolve_profile(text);
  return profile.ok() ? print(to_json(*profile) + '\n') : fail(profile.error().message);
}

int edit_job(const std::vector<std::string>& arguments) {
  const auto source = read_config_file(arguments[0]);
  if (!source.ok()) return fail(source.error().message);
  if (const Status right = check_config_text(*source); !right.ok()) return fail(right.error().message);
  auto tree = parse_yaml(*source);
  if (!tree.ok()) return fail(tree.error().message);
  if (tree->kind != YamlNode::Kind::kMap) return fail(source->name + " is no map");
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::size_t equals = arguments[i].find('=');
    if (equals == 0 || equals == std::string::npos) return fail(arguments[i] + " is no KEY=VALUE");
    set_value(*tree, arguments[i].substr(0, equals), arguments[i].substr(equals + 1));
  }
  const std::string text = to_json_text(*tree);
  const auto job = parse_job_text(text, source->name + " with other values");
  return job.ok() ? print(text) : fail(job.error().message);
}

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> arguments(words + std::min(count, 2), words + count);
  const std::string_view command = count > 1 ? words[1] : "";
  if (command == "link" && arguments.size() == 5) return run_link(arguments);
  if (command == "ask" && arguments.size() >= 2) return ask(arguments);
  if (command == "profile" && arguments.size() == 1) return show_profile(arguments[0]);
  if (command == "job" && !arguments.empty()) return edit_job(arguments);
  const bool is_help = command == "--help" || command == "-h";
  std::fputs(kUsage, is_help ? stdout : stderr);
  return is_help ? 0 : 64;
}
