// The one place of this folder that knows Boost.JSON: the header of safetensors files and run.json.
#include <algorithm>
#include <cmath>
#include <iterator>

#include <boost/json.hpp>

#include "common/protocol/message.h"
#include "server/storage/run_record.h"
#include "server/storage/safetensors_header.h"

namespace nanduti {
namespace {

namespace json = boost::json;

constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::size_t kShapeDimensionsMax = 8;

template <class... Args>
Error corrupt(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorCode::kCorrupt, "not a safetensors file: {}",
                    fmt::format(format, std::forward<Args>(args)...));
}

std::string_view view(const json::string& text) { return {text.data(), text.size()}; }
std::string_view view(json::string_view text) { return {text.data(), text.size()}; }
json::string_view json_view(std::string_view text) { return {text.data(), text.size()}; }

/// Whole numbers of at least 0, or nothing.
std::optional<std::vector<std::uint64_t>> whole_numbers(const json::value* value) {
  if (value == nullptr || !value->is_array() || value->get_array().size() > kShapeDimensionsMax) return {};
  std::vector<std::uint64_t> numbers;
  for (const json::value& item : value->get_array()) {
    // Boost.JSON holds what fits as signed.
    if (item.is_int64() && item.get_int64() >= 0) {
      numbers.push_back(static_cast<std::uint64_t>(item.get_int64()));
    } else if (item.is_uint64()) {
      numbers.push_back(item.get_uint64());
    } else {
      return {};
    }
  }
  return numbers;
}

Status read_metadata(const json::value& value, SafetensorsMetadata& metadata) {
  if (!value.is_object()) return corrupt("__metadata__ is not an object");
  for (const auto& item : value.get_object()) {
    if (!item.value().is_string()) return corrupt("__metadata__ holds something else than text");
    metadata.emplace(view(item.key()), view(item.value().get_string()));
  }
  return {};
}

/// Bytes of a float32 tensor, or nothing beyond 2^64 - 1.
std::optional<std::uint64_t> bytes_of(const std::vector<std::uint64_t>& shape) {
  std::uint64_t bytes = sizeof(float);
  for (const std::uint64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return {};
  }
  return bytes;
}

Result<SafetensorsEntry> read_entry(std::string_view name, const json::value& value) {
  if (name.size() > kNameBytesMax) return corrupt("a tensor's name has {} bytes", name.size());
  const json::object* object = value.if_object();
  if (object == nullptr || object->size() != 3) return corrupt("tensor \"{}\" is not described as one", name);
  const json::value* type = object->if_contains("dtype");
  if (type == nullptr || !type->is_string()) return corrupt("tensor \"{}\" has no dtype", name);
  if (view(type->get_string()) != "F32") {
    return corrupt("tensor \"{}\" has the dtype {}; only F32 is read", name, view(type->get_string()));
  }
  auto shape = whole_numbers(object->if_contains("shape"));
  if (!shape) return corrupt("tensor \"{}\" has no shape", name);
  const auto offsets = whole_numbers(object->if_contains("data_offsets"));
  if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
    return corrupt("tensor \"{}\" has no data_offsets", name);
  }
  const std::uint64_t size = (*offsets)[1] - (*offsets)[0];
  if (bytes_of(*shape) != size) {
    return corrupt("tensor \"{}\" has the shape [{}] and {} bytes", name, fmt::join(*shape, ", "), size);
  }
  return SafetensorsEntry{std::string(name), std::move(*shape), (*offsets)[0], (*offsets)[1]};
}

/// The entries in the order of their data, which they must cover without a gap.
Status check_cover(std::vector<SafetensorsEntry>& entries, std::uint64_t data_bytes) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != end)
      return corrupt("tensor \"{}\" begins at {} instead of {}", entry.name, entry.begin, end);
    end = entry.end;
  }
  if (end != data_bytes) return corrupt("{} bytes of tensors, but {} follow the header", end, data_bytes);
  return {};
}

json::value optional_number(const std::optional<double>& number) {
  return number ? json::value(*number) : json::value(nullptr);
}
json::value text(std::string_view value) { return json::value(json_view(value)); }

/// Appends `value` with two spaces for each level.
void write_indented(const json::value& value, std::size_t level, std::string& out);

template <class Container, class WriteItem>
void write_items(const Container& items, char open, char close, std::size_t level, std::string& out,
                 const WriteItem& write_item) {
  out += open;
  bool first = true;
  for (const auto& item : items) {
    out += first ? "\n" : ",\n";
    out.append(2 * (level + 1), ' ');
    write_item(item);
    first = false;
  }
  if (!first) out.append("\n").append(2 * level, ' ');
  out += close;
}

void write_indented(const json::value& value, std::size_t level, std::string& out) {
  if (value.is_object()) {
    write_items(value.get_object(), '{', '}', level, out, [&](const json::key_value_pair& item) {
      out += json::serialize(item.key());
      out += ": ";
      write_indented(item.value(), level + 1, out);
    });
  } else if (value.is_array()) {
    write_items(value.get_array(), '[', ']', level, out,
                [&](const json::value& item) { write_indented(item, level + 1, out); });
  } else if (value.is_double()) {
    // Boost.JSON would write 8.9E-1, and 1e999 for infinity.
    const double number = value.get_double();
    out += std::isfinite(number) ? fmt::format("{}", number) : "null";
  } else {
    out += json::serialize(value);
  }
}

json::array workers_of(const RunRecord& record) {
  json::array workers;
  for (const RunRecord::Worker& worker : record.workers) {
    workers.push_back(json::object{{"name", text(worker.name)},
                                   {"site", text(worker.site)},
                                   {"device", text(worker.device)},
                                   {"hardware", text(worker.hardware)}});
  }
  return workers;
}

json::array epochs_of(const RunRecord& record) {
  json::array epochs;
  for (const RunRecord::Epoch& epoch : record.epochs) {
    epochs.push_back(json::object{{"epoch", epoch.epoch},
                                  {"accuracy", optional_number(epoch.accuracy)},
                                  {"test_loss", optional_number(epoch.test_loss)},
                                  {"loss", epoch.loss},
                                  {"seconds", epoch.seconds},
                                  {"evaluation_seconds", epoch.evaluation_seconds},
                                  {"samples", epoch.samples}});
  }
  return epochs;
}

json::array tunings_of(const RunRecord& record) {
  json::array tunings;
  for (const RunRecord::Tuning& tuning : record.tunings) {
    tunings.push_back(
        json::object{{"from_round", tuning.from_round},
                     {"seconds", tuning.seconds},
                     {"bound", tuning.bound ? json::value(*tuning.bound) : json::value(nullptr)},
                     {"local_steps", tuning.local_steps},
                     {"in_force", tuning.in_force},
                     {"why", text(tuning.why)},
                     {"settings", text(tuning.settings)}});
  }
  return tunings;
}

json::array evaluations_of(const RunRecord& record) {
  json::array evaluations;
  for (const RunRecord::Evaluation& evaluation : record.evaluations) {
    evaluations.push_back(json::object{{"samples", evaluation.samples},
                                       {"accuracy", evaluation.accuracy},
                                       {"test_loss", evaluation.test_loss},
                                       {"seconds", evaluation.seconds},
                                       {"evaluation_seconds", evaluation.evaluation_seconds}});
  }
  return evaluations;
}

}  // namespace

std::string safetensors_header_to_json(const SafetensorsHeader& header) {
  json::object metadata;
  for (const auto& [key, value] : header.metadata) metadata.emplace(json_view(key), json_view(value));
  json::object root;
  root.emplace(json_view(kMetadataKey), std::move(metadata));
  for (const SafetensorsEntry& entry : header.entries) {
    root.emplace(json_view(entry.name),
                 json::object{{"dtype", "F32"},
                              {"shape", json::array(entry.shape.begin(), entry.shape.end())},
                              {"data_offsets", {entry.begin, entry.end}}});
  }
  return json::serialize(root);
}

Result<SafetensorsHeader> safetensors_header_from_json(std::string_view text_of_header,
                                                       std::uint64_t data_bytes) {
  json::parse_options options;
  options.max_depth = 4;
  json::error_code error;
  const json::value root = json::parse(json_view(text_of_header), error, {}, options);
  if (error) return corrupt("its header is not JSON: {}", error.message());
  if (!root.is_object()) return corrupt("its header is not an object");
  SafetensorsHeader header;
  for (const auto& item : root.get_object()) {
    const std::string_view name = view(item.key());
    if (name == kMetadataKey) {
      NANDUTI_RETURN_IF_ERROR(read_metadata(item.value(), header.metadata));
      continue;
    }
    auto entry = read_entry(name, item.value());
    if (!entry.ok()) return entry.error();
    header.entries.push_back(std::move(entry).value());
  }
  NANDUTI_RETURN_IF_ERROR(check_cover(header.entries, data_bytes));
  return header;
}

std::string to_json(const RunRecord& record) {
  json::object libraries;
  for (const auto& [name, version] : record.library_versions)
    libraries.emplace(json_view(name), text(version));
  json::object pipeline;
  for (const NamedFigure& figure : record.pipeline)
    pipeline.emplace(json_view(figure.name), optional_number(figure.value));
  const json::object root{
      {"job", record.job.value()},
      {"name", text(record.name)},
      {"state", text(record.state)},
      {"reason", text(record.reason)},
      {"target", optional_number(record.target)},
      {"accuracy", optional_number(record.accuracy)},
      {"target_met", record.target_met ? json::value(*record.target_met) : json::value(nullptr)},
      {"seed", record.seed},
      {"parameters", record.parameter_count},
      {"started", text(record.started)},
      {"ended", text(record.ended)},
      {"training_seconds", record.training_seconds},
      {"samples", record.samples},
      {"repeated_samples", record.repeated_samples},
      {"stall_fraction", record.stall_fraction},
      {"bytes_up", record.bytes_up},
      {"bytes_down", record.bytes_down},
      {"pipeline", std::move(pipeline)},
      {"epochs", epochs_of(record)},
      {"evaluations", evaluations_of(record)},
      {"evaluations_skipped", record.evaluations_skipped},
      {"tunings", tunings_of(record)},
      {"program_version", text(record.program_version)},
      {"libraries", std::move(libraries)},
      {"server_hardware", text(record.server_hardware)},
      {"workers", workers_of(record)},
      {"job_yaml", text(record.job_text)}};
  std::string result;
  write_indented(root, 0, result);
  return result + "\n";
}

}  // namespace nanduti
