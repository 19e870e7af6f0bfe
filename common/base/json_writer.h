#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nanduti {

/// Writes one JSON text. Numbers are the shortest that read back the same; NaN and infinity become null,
/// bytes that are not UTF-8 become U+FFFD. Calls have to nest: the writer places commas and nothing else.
class JsonWriter {
 public:
  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(double number);
  JsonWriter& value(std::same_as<bool> auto truth) { return raw(truth ? "true" : "false"); }
  JsonWriter& value(std::unsigned_integral auto number) requires(!std::same_as<decltype(number), bool>) {
    return raw(std::to_string(number));
  }
  JsonWriter& null() { return raw("null"); }

  /// A member of an object. An empty optional is null.
  template <class T>
  JsonWriter& member(std::string_view name, const T& what) {
    return key(name).value(what);
  }
  template <class T>
  JsonWriter& member(std::string_view name, const std::optional<T>& what) {
    return what ? key(name).value(*what) : key(name).null();
  }

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  JsonWriter& raw(std::string_view text);
  void separate();

  std::string text_;
  bool wants_comma_ = false;
};

}  // namespace nanduti
