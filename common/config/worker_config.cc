#include "common/config/worker_config.h"

#include <system_error>

#include "common/config/endpoint_keys.h"
#include "common/config/log_level_key.h"
#include "common/config/text_check.h"
#include "common/config/yaml_reader.h"

namespace nanduti {
namespace {

constexpr std::uint64_t kDeviceIndexMax = 63;
constexpr std::size_t kDataRootsMax = 64;
constexpr std::string_view kCuda = "cuda:";

enum class FileSystem { kLookAtIt, kLeaveAlone };

void read_device(YamlReader& root, DeviceChoice& device) {
  const YamlNode* node = root.scalar("device", device_choices());
  if (node == nullptr) return;
  const std::optional<DeviceChoice> choice = parse_device(node->text);
  if (!choice) return root.reject("device", device_choices());
  device = *choice;
}

/// Why a data root cannot be one, or nothing.
std::string_view what_is_wrong_with(const std::filesystem::path& folder) {
  std::error_code error;
  const auto status = std::filesystem::status(folder, error);
  if (status.type() == std::filesystem::file_type::not_found) return "which does not exist";
  if (status.type() == std::filesystem::file_type::directory) return {};
  return error ? "which cannot be looked at" : "which is not a folder";
}

void read_data_roots(YamlReader& root, FileSystem file_system, std::vector<std::filesystem::path>& roots) {
  const std::string allowed = fmt::format("a list of 1 to {} folders", kDataRootsMax);
  root.require("data_roots", allowed);
  const YamlNode* list = root.find("data_roots");
  if (list == nullptr) return;
  if (list->kind != YamlNode::Kind::kList || list->items.empty() || list->items.size() > kDataRootsMax) {
    if (list->kind != YamlNode::Kind::kList) return root.reject("data_roots", allowed);
    return root.errors().add(ConfigErrors::Rank::kWrong, list->line, "data_roots",
                             fmt::format("a list of {}", list->items.size()), allowed);
  }
  for (std::size_t i = 0; i < list->items.size(); ++i) {
    const YamlNode& node = list->items[i].value;
    const std::string path = fmt::format("data_roots[{}]", i);
    if (node.kind != YamlNode::Kind::kScalar || node.text.empty() || node.text.size() > kConfigPathBytesMax) {
      root.errors().add_wrong(node, path, "a folder's path");
      continue;
    }
    roots.emplace_back(node.text);
    if (file_system == FileSystem::kLeaveAlone) continue;
    const std::string_view wrong = what_is_wrong_with(roots.back());
    if (wrong.empty()) continue;
    root.errors().add(ConfigErrors::Rank::kWrong, node.line, path,
                      fmt::format("{}, {}", in_quotes(node.text), wrong), "a folder on this machine");
  }
}

Result<WorkerConfig> parse(ConfigText source, FileSystem file_system) {
  WorkerConfig config;
  config.source = std::move(source);
  const auto tree = parse_yaml(config.source);
  if (!tree.ok()) return tree.error();
  ConfigErrors errors(config.source.name);
  YamlReader root(*tree, "", errors);
  root.name("name", config.name);
  root.name("site", config.site);
  read_security(root, config.security);
  read_endpoint(root, "coordinator", EndpointUse::kConnect, config.coordinator);
  check_security(root, "coordinator", config.coordinator, config.security);
  read_device(root, config.device);
  root.choice<BackendChoice>("backend",
                             {{"auto", BackendChoice::kAuto},
                              {"onednn", BackendChoice::kOneDnn},
                              {"reference", BackendChoice::kReference}},
                             {}, config.backend);
  root.boolean("tf32", config.tf32);
  read_data_roots(root, file_system, config.data_roots);
  read_transport(root, config.transport);
  read_log_level(root, config.log_level);
  root.finish();
  NANDUTI_RETURN_IF_ERROR(errors.status());
  return config;
}

}  // namespace

std::string device_choices() {
  return fmt::format("auto, cpu, emulated, or cuda:N with N from 0 to {}", kDeviceIndexMax);
}

std::optional<DeviceChoice> parse_device(std::string_view text) {
  if (text == "auto") return DeviceChoice{DeviceKind::kAuto, 0};
  if (text == "cpu") return DeviceChoice{DeviceKind::kCpu, 0};
  if (text == "emulated") return DeviceChoice{DeviceKind::kEmulated, 0};
  if (!text.starts_with(kCuda)) return std::nullopt;
  const auto index = parse_whole_number(text.substr(kCuda.size()));
  if (!index || *index > kDeviceIndexMax) return std::nullopt;
  return DeviceChoice{DeviceKind::kCuda, static_cast<std::uint32_t>(*index)};
}

Result<WorkerConfig> load_worker_config(const std::filesystem::path& path) {
  auto source = read_config_file(path);
  if (!source.ok()) return source.error();
  return parse(std::move(source).value(), FileSystem::kLookAtIt);
}

Result<WorkerConfig> parse_worker_config(std::string text, std::string name) {
  return parse({std::move(name), std::move(text)}, FileSystem::kLeaveAlone);
}

}  // namespace nanduti
