#include "flows/json_schema.h"

#include <fmt/format.h>

#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>
#include <vector>

#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;
using valijson::adapters::NlohmannJsonAdapter;

/// valijson writes "<root>", "[compression]", "[0]".
std::vector<std::string> steps_of(const std::vector<std::string>& context) {
  std::vector<std::string> steps;
  for (const auto& entry : context) {
    if (entry.size() > 2 && entry.front() == '[') steps.push_back(entry.substr(1, entry.size() - 2));
  }
  return steps;
}

bool is_index(const std::string& step) { return step.find_first_not_of("0123456789") == std::string::npos; }

std::string path_of(const std::vector<std::string>& steps) {
  std::string path;
  for (const auto& step : steps) path += is_index(step) ? "[" + step + "]" : path.empty() ? step : "." + step;
  return path;
}

const json& resolved(const json& schema, const json& root) {
  if (!schema.contains("$ref")) return schema;
  return root.at(json::json_pointer(schema.at("$ref").get<std::string>().substr(1)));
}

/// The part of the schema that speaks about this place; null when none does.
const json* part_of(const json& root, const std::vector<std::string>& steps) {
  const json* part = &root;
  for (const auto& step : steps) {
    const json& here = resolved(*part, root);
    const bool item = is_index(step) && here.contains("items");
    if (!item && (!here.contains("properties") || !here.at("properties").contains(step))) return nullptr;
    part = item ? &here.at("items") : &here.at("properties").at(step);
  }
  return &resolved(*part, root);
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
  if (!value.is_object() || !part.contains("properties")) return "";
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
  const json* part = part_of(schema, steps);
  std::string message = error.description, advice;
  if (part) {
    if (const auto key = unknown_key(*part, value); !key.empty()) {
      message = fmt::format("unknown key \"{}\"", key);
      std::vector<std::string> known;
      for (const auto& entry : part->at("properties").items()) known.push_back(entry.key());
      advice = fmt::format("known here: {}", fmt::join(known, ", "));
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
