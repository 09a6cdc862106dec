#pragma once

#include <fmt/format.h>

#include <map>
#include <string>

#include "options/field.h"

namespace tsquant {

/// "true", "0.95", "a, b", "[a, b]" inside of structs; empty for null and for empty lists.
std::string text_of(const nlohmann::json& value, bool inside = false);

/// What is recorded of one option: its flag's word, its parts with their names, or what stands for "not set".
template <typename Struct>
std::string recorded_text(const Field<Struct>& row, const Struct& object) {
  const nlohmann::json value = row.get(object);
  for (const auto& [word, choice] : row.flag.choice) {
    if (choice == value) return word;
  }
  if (row.parts.empty() || !value.is_object()) {
    const std::string text = text_of(value);
    return text.empty() ? row.record_empty : text;
  }
  std::string text;
  for (const auto& part : row.parts) {
    const std::string entry = part.in_text ? text_of(part.get(object), /*inside=*/true) : "";
    const std::string name = part.name.substr(part.name.rfind('.') + 1);
    if (!entry.empty()) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, entry);
  }
  return text.empty() ? row.record_empty : text;
}

/// Every recorded option that has an effect, by its name in the report.
template <typename Struct>
std::map<std::string, std::string> recorded_options(const Struct& object) {
  std::map<std::string, std::string> recorded;
  for (const auto& row : fields<Struct>()) {
    if (row.record_name.empty() || (row.unused && !row.unused(object).empty())) continue;
    recorded[row.record_name] = recorded_text(row, object);
  }
  return recorded;
}

/// The options that decide which tensors calibration observes and how: keys that statistics are told apart by, with the
/// words of the report.
template <typename Struct>
std::map<std::string, std::string> statistics_settings(const Struct& object) {
  std::map<std::string, std::string> settings;
  for (const auto& row : fields<Struct>()) {
    if (!row.decides_statistics || (row.unused && !row.unused(object).empty())) continue;
    settings[row.record_name] = recorded_text(row, object);
  }
  return settings;
}

}  // namespace tsquant
