#include "cli/option_flags.h"

#include <fmt/format.h>

#include "options/check_fields.h"
#include "options/option_text.h"

namespace tsquant::cli {

namespace {

using nlohmann::json;

bool has_type(const json& schema, const char* type) { return schema.contains("type") && schema.at("type") == type; }

/// The words that a flag takes; empty when it takes other values.
std::vector<std::string> words_of(const FlagSpec& spec) {
  std::vector<std::string> words;
  for (const auto& entry : spec.flag.choice) words.push_back(entry.first);
  if (words.empty() && spec.schema.contains("enum")) words = spec.schema.at("enum").get<std::vector<std::string>>();
  return words;
}

/// Shown in the help, and read by explain_values.
const char* type_name(const FlagSpec& spec) {
  if (spec.flag.parse) return "TEXT";
  if (has_type(spec.schema, "integer")) return "INT";
  if (has_type(spec.schema, "number")) return "FLOAT";
  return has_type(spec.schema, "boolean") && spec.flag.choice.empty() ? "BOOLEAN" : "TEXT";
}

template <typename Value>
json converted(const std::string& text) {
  Value value{};
  if (!CLI::detail::lexical_cast(text, value)) throw CLI::ConversionError(text, "value");
  return value;
}

json value_of(const FlagSpec& spec, const std::string& text) {
  if (spec.flag.parse) return spec.flag.parse(text);
  for (const auto& [word, value] : spec.flag.choice) {
    if (word == text) return value;
  }
  if (has_type(spec.schema, "integer")) return converted<int64_t>(text);
  if (has_type(spec.schema, "number")) return converted<double>(text);
  if (has_type(spec.schema, "boolean")) return converted<bool>(text);
  return text;
}

CLI::Validator limits(const json& schema) {
  const auto check = [schema](std::string& text) {
    double number = 0;
    if (!CLI::detail::lexical_cast(text, number) || within_limits(number, schema)) return std::string();
    return fmt::format("{} is not allowed: use {}", text, limits_text(schema));
  };
  return CLI::Validator(check, limits_text(schema));
}

json opposite(const json& value) { return !value.get<bool>(); }

CLI::Option* add_switch(CLI::App& app, const FlagSpec& spec) {
  const auto apply = [spec](int64_t count) {
    spec.set(count > 0 ? spec.flag.when_given : opposite(spec.flag.when_given));
  };
  return app.add_flag_function(spec.flag.name, apply, spec.flag.help);
}

CLI::Option* add_list(CLI::App& app, const FlagSpec& spec) {
  const auto apply = [spec](const std::vector<std::string>& texts) {
    json list = json::array();
    for (const auto& text : texts) {
      const json value = spec.flag.parse ? spec.flag.parse(text) : json(text);
      // One text may stand for several entries.
      value.is_array() ? list.insert(list.end(), value.begin(), value.end()) : list.insert(list.end(), value);
    }
    spec.set(list);
  };
  return app.add_option_function<std::vector<std::string>>(spec.flag.name, apply, spec.flag.help)
      ->allow_extra_args(false);
}

CLI::Option* add_value(CLI::App& app, const FlagSpec& spec) {
  const auto apply = [spec](const std::string& text) { spec.set(value_of(spec, text)); };
  auto* option = app.add_option_function<std::string>(spec.flag.name, apply, spec.flag.help);
  option->type_name(type_name(spec));
  const auto words = words_of(spec);
  if (!words.empty()) option->check(CLI::IsMember(words));
  if (!limits_text(spec.schema).empty()) option->check(limits(spec.schema));
  std::string shown = text_of(spec.default_value);
  for (const auto& [word, value] : spec.flag.choice) {
    if (value == spec.default_value && !value.is_null()) shown = word;
  }
  if (!shown.empty()) option->default_str(shown);
  return option;
}

}  // namespace

CLI::Option* add_flag(CLI::App& app, const FlagSpec& spec) {
  CLI::Option* option = !spec.flag.when_given.is_null()  ? add_switch(app, spec)
                        : has_type(spec.schema, "array") ? add_list(app, spec)
                                                         : add_value(app, spec);
  if (!spec.flag.group.empty()) option->group(spec.flag.group);
  return option;
}

}  // namespace tsquant::cli
