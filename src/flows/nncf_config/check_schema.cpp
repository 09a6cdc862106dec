#include "flows/nncf_config/check_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>
#include <vector>

#include "base/nearest.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;
using valijson::adapters::NlohmannJsonAdapter;

/// valijson writes "<root>", "[compression]", "[0]".
std::vector<std::string> steps_of(const std::vector<std::string>& context) {
  std::vector<std::string> steps;
  for (const auto& entry : context) {
    if (entry.size() >= 2 && entry.front() == '[') steps.push_back(entry.substr(1, entry.size() - 2));
  }
  return steps;
}

bool is_index(const std::string& step) {
  return !step.empty() && step.find_first_not_of("0123456789") == std::string::npos;
}

std::string path_of(const std::vector<std::string>& steps) {
  std::string path;
  for (const auto& step : steps) path += is_index(step) ? "[" + step + "]" : path.empty() ? step : "." + step;
  return path;
}

const json& resolved(const json& schema, const json& root) {
  if (!schema.contains("$ref")) return schema;
  return root.at(json::json_pointer(schema.at("$ref").get<std::string>().substr(1)));
}

/// A schema with "if" speaks about a value by its "then" when the value meets the condition, which our schemas write as
/// allowed words of keys.
const json& applicable(const json& schema, const json& value, const json& root) {
  const json& here = resolved(schema, root);
  if (!here.contains("then") || !value.is_object()) return here;
  for (const auto& [key, words] : here.at("if").at("properties").items()) {
    const json& allowed_words = words.at("enum");
    const bool meets = value.contains(key) &&
                       std::find(allowed_words.begin(), allowed_words.end(), value.at(key)) != allowed_words.end();
    if (!meets) return here;
  }
  return resolved(here.at("then"), root);
}

/// What a schema says about one step inside of its value; null when it says nothing.
const json* inner_schema(const json& schema, const std::string& step) {
  if (is_index(step) && schema.contains("items")) {
    const json& items = schema.at("items");
    return items.is_array() ? &items.at(std::stoul(step)) : &items;
  }
  if (schema.contains("properties") && schema.at("properties").contains(step)) return &schema.at("properties").at(step);
  const bool any_key = schema.contains("additionalProperties") && schema.at("additionalProperties").is_object();
  return any_key ? &schema.at("additionalProperties") : nullptr;
}

/// The part of the schema that speaks about this place; null when none does.
const json* part_of(const json& root, const json& document, const std::vector<std::string>& steps) {
  const json *part = &root, *value = &document;
  for (const auto& step : steps) {
    part = inner_schema(applicable(*part, *value, root), step);
    if (!part) return nullptr;
    value = value->is_array() ? &value->at(std::stoul(step)) : &value->at(step);
  }
  return &applicable(*part, *value, root);
}

std::string names_in(const json& list) {
  std::vector<std::string> names;
  for (const auto& entry : list) names.push_back(entry.is_string() ? entry.get<std::string>() : entry.dump());
  return fmt::format("{}", fmt::join(names, ", "));
}

/// What would be right: the allowed values, or the type and its limits.
std::string allowed(const json& part) {
  if (part.contains("enum")) return names_in(part.at("enum"));
  std::string text = part.contains("type") ? names_in(part.at("type").is_array() ? part.at("type") : json{part["type"]})
                                           : std::string("any value");
  if (part.contains("minimum")) text += " from " + part.at("minimum").dump();
  if (part.contains("exclusiveMinimum")) text += " above " + part.at("exclusiveMinimum").dump();
  if (part.contains("maximum")) text += " up to " + part.at("maximum").dump();
  return text;
}

std::string unknown_key(const json& part, const json& value) {
  if (!value.is_object() || part.value("additionalProperties", json(true)) != false) return "";
  for (const auto& entry : value.items()) {
    if (!part.at("properties").contains(entry.key())) return entry.key();
  }
  return "";
}

std::string missing_key(const json& part, const json& value) {
  if (!value.is_object()) return "";
  for (const auto& name : part.value("required", json::array())) {
    if (!value.contains(name.get<std::string>())) return name;
  }
  return "";
}

const json& value_at(const json& document, const std::vector<std::string>& steps) {
  const json* value = &document;
  for (const auto& step : steps) value = value->is_array() ? &value->at(std::stoul(step)) : &value->at(step);
  return *value;
}

/// valijson reports the innermost place first; its own wording is only used where the schema has nothing better to say.
[[noreturn]] void refuse(const json& schema, const json& document, const std::string& place,
                         const valijson::ValidationResults::Error& error) {
  auto steps = steps_of(error.context);
  const json& value = value_at(document, steps);
  const json* part = part_of(schema, document, steps);
  std::string message = error.description, advice;
  if (part) {
    if (const auto key = unknown_key(*part, value); !key.empty()) {
      message = fmt::format("unknown key \"{}\"", key);
      std::vector<std::string> known;
      for (const auto& entry : part->at("properties").items()) known.push_back(entry.key());
      advice =
          fmt::format("the nearest is \"{}\"; known here: {}", nearest(key, known, 1).front(), fmt::join(known, ", "));
    } else if (const auto name = missing_key(*part, value); !name.empty()) {
      message = fmt::format("the key \"{}\" is missing", name);
    } else {
      message = fmt::format("{} is not allowed", value.dump());
      advice = "use " + allowed(*part);
    }
  }
  const std::string path = path_of(steps);
  throw Error(ErrorCode::kInvalidArgument, path.empty() ? message : fmt::format("{}: {}", path, message), place,
              advice);
}

}  // namespace

void check_schema(const json& schema, const json& document, const std::string& place) {
  valijson::Schema compiled;
  valijson::SchemaParser().populateSchema(NlohmannJsonAdapter(schema), compiled);
  valijson::ValidationResults results;
  if (valijson::Validator().validate(compiled, NlohmannJsonAdapter(document), &results)) return;
  refuse(schema, document, place, *results.begin());
}

}  // namespace tsquant
