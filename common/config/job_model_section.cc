#include <vector>

#include "common/config/job_sections.h"
#include "common/config/text_check.h"
#include "common/model/resolved_model.h"

namespace nanduti {
namespace {

constexpr std::uint32_t kChannelsMax = 65536;
constexpr std::uint32_t kKernelMax = 1024;
constexpr std::uint32_t kUnitsMax = 1 << 20;
constexpr std::string_view kLayersAllowed =
    "conv2d, dense, relu, max_pool, average_pool, global_average_pool, flatten, batch_norm or residual, or "
    "one of them with its values, such as dense: {units: 500}";

void read_layers(YamlReader& reader, std::string_view key, std::vector<LayerSpec>& layers);

void read_layer_values(YamlReader& reader, Conv2dSpec& conv) {
  reader.require("channels", fmt::format("a whole number from 1 to {}", kChannelsMax));
  reader.require("kernel", fmt::format("a whole number from 1 to {}", kKernelMax));
  reader.whole_number("channels", 1, kChannelsMax, conv.channels);
  reader.whole_number("kernel", 1, kKernelMax, conv.kernel);
  reader.whole_number("stride", 1, kKernelMax, conv.stride);
  reader.whole_number("padding", 0, kKernelMax - 1, conv.padding);
  reader.boolean("bias", conv.bias);
  if (conv.kernel > 0 && conv.padding >= conv.kernel) {
    reader.conflict("padding", fmt::format("{} beside a kernel of {}", conv.padding, conv.kernel),
                    "less than the kernel");
  }
}

template <class PoolSpec>
void read_pool_values(YamlReader& reader, PoolSpec& pool) {
  reader.whole_number("kernel", 1, kKernelMax, pool.kernel);
  reader.whole_number("stride", 1, kKernelMax, pool.stride);
}
void read_layer_values(YamlReader& reader, MaxPoolSpec& pool) { read_pool_values(reader, pool); }
void read_layer_values(YamlReader& reader, AveragePoolSpec& pool) { read_pool_values(reader, pool); }

void read_layer_values(YamlReader& reader, DenseSpec& dense) {
  const std::string allowed = fmt::format("a whole number from 1 to {}, or classes", kUnitsMax);
  const YamlNode* node = reader.scalar("units", allowed);
  if (node == nullptr) return;
  if (node->text == "classes") {
    dense.units = 0;
    return;
  }
  const auto units = parse_whole_number(node->text);
  if (node->is_quoted || !units || *units < 1 || *units > kUnitsMax) return reader.reject("units", allowed);
  dense.units = static_cast<std::uint32_t>(*units);
}

void read_layer_values(YamlReader& reader, BatchNormSpec& norm) {
  reader.real_number(
      "epsilon", [](double value) { return value >= 1e-12 && value <= 1; }, "a number from 1e-12 to 1",
      norm.epsilon);
  reader.real_number(
      "momentum", [](double value) { return value > 0 && value <= 1; }, "a number above 0, at most 1",
      norm.momentum);
}

void read_layer_values(YamlReader& reader, ResidualSpec& residual) {
  reader.require("body", "a list of layers");
  read_layers(reader, "body", residual.body);
  read_layers(reader, "shortcut", residual.shortcut);
}

void read_layer_values(YamlReader&, ReluSpec&) {}
void read_layer_values(YamlReader&, GlobalAveragePoolSpec&) {}
void read_layer_values(YamlReader&, FlattenSpec&) {}

/// A layer that its name alone describes.
std::optional<LayerSpec> layer_named(std::string_view name) {
  const LayerSpec kinds[] = {Conv2dSpec{},  DenseSpec{},       ReluSpec{},
                             MaxPoolSpec{}, AveragePoolSpec{}, GlobalAveragePoolSpec{},
                             FlattenSpec{}, BatchNormSpec{},   ResidualSpec{}};
  for (const LayerSpec& kind : kinds) {
    if (layer_name(kind) == name) return kind;
  }
  return std::nullopt;
}

/// `node` is "relu", {dense: {units: 5}} or {dense: classes}.
std::optional<LayerSpec> read_layer(const YamlNode& node, const std::string& path, ConfigErrors& errors) {
  const bool is_map = node.kind == YamlNode::Kind::kMap && node.items.size() == 1;
  if (!is_map && node.kind != YamlNode::Kind::kScalar) {
    const std::string found = node.kind == YamlNode::Kind::kMap
                                  ? fmt::format("a map of {} keys", node.items.size())
                                  : describe(node);
    errors.add(ConfigErrors::Rank::kWrong, node.line, path, found, kLayersAllowed);
    return std::nullopt;
  }
  const std::string& name = is_map ? node.items[0].key : node.text;
  auto layer = layer_named(name);
  if (!layer) {
    errors.add(ConfigErrors::Rank::kWrong, node.line, path, in_quotes(name), kLayersAllowed);
    return std::nullopt;
  }
  const YamlNode no_values{YamlNode::Kind::kMap, node.line, {}, false, {}};
  const YamlNode& values = is_map ? node.items[0].value : no_values;
  const bool is_classes = values.kind == YamlNode::Kind::kScalar && values.text == "classes";
  if (is_classes && std::holds_alternative<DenseSpec>(*layer)) return layer;
  YamlReader reader(values, path + "." + name, errors);
  std::visit([&](auto& spec) { read_layer_values(reader, spec); }, *layer);
  reader.finish();
  return layer;
}

/// The list of layers below `key`, if it is there.
void read_layers(YamlReader& reader, std::string_view key, std::vector<LayerSpec>& layers) {
  const std::string allowed = fmt::format("a list of 1 to {} layers", kModelLayersMax);
  const YamlNode* list = reader.find(key);
  if (list == nullptr) return;
  if (list->kind != YamlNode::Kind::kList) return reader.reject(key, allowed);
  if (list->items.empty() || list->items.size() > kModelLayersMax) {
    return reader.errors().add(ConfigErrors::Rank::kWrong, list->line, reader.path_of(key),
                               fmt::format("a list of {}", list->items.size()), allowed);
  }
  for (std::size_t i = 0; i < list->items.size(); ++i) {
    const std::string path = fmt::format("{}[{}]", reader.path_of(key), i);
    if (auto layer = read_layer(list->items[i].value, path, reader.errors())) layers.push_back(*layer);
  }
}

void read_preset(YamlReader& model, ModelSpec& spec) {
  const std::string allowed = preset_names();
  const YamlNode* node = model.scalar("preset", allowed);
  if (node == nullptr) return;
  auto layers = preset_layers(node->text);
  if (!layers.ok()) return model.reject("preset", allowed);
  spec.preset = node->text;
  spec.layers = std::move(layers).value();
}

}  // namespace

void read_model_section(YamlReader& root, ModelSpec& spec) {
  constexpr std::string_view kAllowed = "preset or layers, one of them";
  root.require("model", "a map with preset or layers");
  YamlReader model = root.map("model");
  const bool has_preset = model.find("preset") != nullptr;
  const bool has_layers = model.find("layers") != nullptr;
  if (has_preset) read_preset(model, spec);
  if (has_layers && !has_preset) read_layers(model, "layers", spec.layers);
  model.finish();
  if (has_preset && has_layers) root.conflict("model", "both preset and layers", kAllowed);
  if (model.is_present() && !has_preset && !has_layers)
    root.conflict("model", "neither preset nor layers", kAllowed);
}

}  // namespace nanduti
