#include "options/option_text.h"

namespace tsquant {

std::string text_of(const nlohmann::json& value, bool inside) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:g}", value.get<double>());
  if (!value.is_structured()) return value.dump();
  std::string text;
  for (const auto& [key, entry] : value.items()) {
    if (!text.empty()) text += ", ";
    text += value.is_array() ? text_of(entry, true) : fmt::format("{} {}", key, text_of(entry, true));
  }
  if (!inside || text.empty()) return text;
  return value.is_array() ? "[" + text + "]" : "{" + text + "}";
}

}  // namespace tsquant
