#include "tsquant/nncf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "flows/nncf_config/check_schema.h"
#include "flows/nncf_config/config_schema.h"
#include "flows/nncf_config/config_warnings.h"
#include "flows/nncf_config/ivalue_json.h"
#include "flows/nncf_config/plain_json.h"
#include "flows/nncf_config/quantization_section.h"
#include "flows/nncf_config/scope_names.h"
#include "flows/nncf_config/sections.h"
#include "io/output_file.h"
#include "options/tables.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// NNCF's schema speaks of numbers only: 8.0 is as good as 8.
void make_whole(json& value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  if (value.is_structured()) {
    for (json& entry : value) make_whole(entry);
  } else if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::abs(number) <= kExact && number == std::trunc(number)) value = static_cast<int64_t>(number);
  }
}

/// The document as it is read. @param text JSON without comments
json document_of(const std::string& text, const std::string& place) {
  json document = parse_config<json>(text, place);
  make_whole(document);
  return document;
}

/// The text of a document that is valid.
std::string checked(const ordered_json& document, const std::string& place) {
  const std::string text = document.dump(2);
  const json read = document_of(text, place);
  check_schema(config_schema(), read, place);
  check_top_keys(read, place);
  return text;
}

std::string text_of_path(const NNCFConfig::Path& path) { return fmt::format("{}", fmt::join(path, ".")); }

[[noreturn]] void refuse_path(const NNCFConfig::Path& path, const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message, text_of_path(path), "");
}

/// The index that a step is in an array; the length when it is none.
size_t index_in(const ordered_json& array, const std::string& step) {
  const bool digits = !step.empty() && step.size() < 10 && step.find_first_not_of("0123456789") == std::string::npos;
  return digits ? std::min<size_t>(std::stoul(step), array.size()) : array.size();
}

/// Null when there is no such value.
const ordered_json* find_step(const ordered_json& value, const std::string& step) {
  if (value.is_object()) return value.contains(step) ? &value.at(step) : nullptr;
  if (!value.is_array()) return nullptr;
  const size_t index = index_in(value, step);
  return index < value.size() ? &value.at(index) : nullptr;
}

const ordered_json* find_path(const ordered_json& document, const NNCFConfig::Path& path) {
  const ordered_json* value = &document;
  for (const auto& step : path) {
    value = find_step(*value, step);
    if (!value) return nullptr;
  }
  return value;
}

/// The value there, made when it does not exist.
ordered_json& make_step(ordered_json& value, const std::string& step, const NNCFConfig::Path& path) {
  if (value.is_null()) value = ordered_json::object();
  if (value.is_object()) return value[step];
  if (!value.is_array()) refuse_path(path, fmt::format("\"{}\" cannot be inside of {}", step, value.dump()));
  const size_t index = index_in(value, step);
  if (index < value.size()) return value.at(index);
  if (step != std::to_string(value.size())) {
    refuse_path(path, fmt::format("\"{}\" is no index of an array of {}", step, value.size()));
  }
  value.push_back(nullptr);
  return value.back();
}

/// NNCF's accuracy-aware training: percent of the float model's metric, or an absolute difference.
c10::optional<AccuracyControlOptions> limit_of_training(const json& document) {
  const json params = document.value("accuracy_aware_training", json::object()).value("params", json::object());
  AccuracyControlOptions control;
  if (params.contains("maximal_relative_accuracy_degradation")) {
    control.drop_type = DropType::kRelative;
    control.max_drop = params.at("maximal_relative_accuracy_degradation").get<double>() / 100;
  } else if (params.contains("maximal_absolute_accuracy_degradation")) {
    control.max_drop = params.at("maximal_absolute_accuracy_degradation");
  } else {
    return c10::nullopt;
  }
  return control;
}

}  // namespace

NNCFConfig NNCFConfig::from_dict(const c10::IValue& nncf_dict) {
  const std::string place = "configuration";
  return {checked(json_of(nncf_dict, ""), place), place};
}

NNCFConfig NNCFConfig::from_text(const std::string& text, const std::string& place) {
  return {checked(parse_config<ordered_json>(text, place), place), place};
}

NNCFConfig NNCFConfig::from_json(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw Error(ErrorCode::kInvalidArgument, "the configuration cannot be read", path, "check the path");
  }
  return from_text(text.str(), path);
}

std::string NNCFConfig::schema() { return config_schema().dump(2); }

std::string NNCFConfig::to_json() const { return text_; }

void NNCFConfig::save(const std::string& path) const { write_file(path, "configuration", text_ + "\n"); }

c10::IValue NNCFConfig::get(const Path& path) const {
  const auto document = parse_config<ordered_json>(text_, place_);
  const ordered_json* value = find_path(document, path);
  return value ? ivalue_of(*value) : c10::IValue();
}

void NNCFConfig::set(const Path& path, const c10::IValue& value) {
  auto document = parse_config<ordered_json>(text_, place_);
  ordered_json* target = &document;
  for (const auto& step : path) target = &make_step(*target, step, path);
  *target = json_of(value, text_of_path(path));
  text_ = checked(document, place_);
}

bool NNCFConfig::erase(const Path& path) {
  auto document = parse_config<ordered_json>(text_, place_);
  if (path.empty() || !find_path(document, path)) return false;
  ordered_json* parent = &document;
  for (size_t i = 0; i + 1 < path.size(); ++i) parent = &make_step(*parent, path[i], path);
  if (parent->is_array()) {
    parent->erase(index_in(*parent, path.back()));
  } else {
    parent->erase(path.back());
  }
  text_ = checked(document, place_);
  return true;
}

void NNCFConfig::register_extra_structs(const std::vector<std::shared_ptr<const NNCFExtraConfigStruct>>& struct_list) {
  auto structs = extra_structs_;
  for (const auto& added : struct_list) {
    if (!added) throw Error(ErrorCode::kInvalidArgument, "an extra struct is null", "register_extra_structs");
    if (!structs.emplace(added->get_id(), added).second) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is registered with the configuration already", added->get_id()),
                  "register_extra_structs", "register one object of each kind");
    }
  }
  extra_structs_ = std::move(structs);
}

std::vector<std::shared_ptr<const NNCFExtraConfigStruct>> NNCFConfig::get_all_extra_structs() const {
  std::vector<std::shared_ptr<const NNCFExtraConfigStruct>> all;
  for (const auto& entry : extra_structs_) all.push_back(entry.second);
  return all;
}

std::shared_ptr<const NNCFExtraConfigStruct> NNCFConfig::find_extra_struct(const std::string& id) const {
  const auto found = extra_structs_.find(id);
  return found == extra_structs_.end() ? nullptr : found->second;
}

void NNCFConfig::refuse_missing_struct(const std::string& id) const {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("no {} are registered with the configuration", id), place_,
              "call register_extra_structs, or the function that takes them as arguments");
}

std::vector<std::string> NNCFConfig::algorithms() const {
  const json document = document_of(text_, place_);
  std::vector<std::string> names;
  for (const auto& section : sections_of(document)) names.push_back(section.algorithm);
  return names;
}

c10::IValue NNCFConfig::get_redefinable_global_param_value_for_algo(const std::string& param_name,
                                                                    const std::string& algo_name) const {
  const json document = document_of(text_, place_);
  Path path = section_for(document, algo_name, place_).steps;
  path.push_back(param_name);
  c10::IValue value = get(path);
  return value.isNone() ? get({param_name}) : value;
}

QuantizeOptions NNCFConfig::quantize_options(int64_t batch_size) const {
  return read_quantization(document_of(text_, place_), std::max<int64_t>(batch_size, 1), place_);
}

c10::optional<AccuracyControlOptions> NNCFConfig::accuracy_control_options() const {
  const json document = document_of(text_, place_);
  if (!document.contains("accuracy_control")) return limit_of_training(document);
  AccuracyControlOptions control;
  read_fields(document.at("accuracy_control"), control);
  return control;
}

CompressWeightsOptions NNCFConfig::compress_weights_options(CompressWeightsOptions base) const {
  const json document = document_of(text_, place_);
  if (!document.contains("weight_compression")) {
    throw Error(ErrorCode::kInvalidArgument, "the key \"weight_compression\" is missing", place_,
                "give it an object of the options of compress_weights, as {\"mode\": \"int4_sym\"}");
  }
  read_fields(document.at("weight_compression"), base);
  if (document.contains("ignored_scopes")) add_scopes(document.at("ignored_scopes"), base.ignored_scope);
  return base;
}

std::vector<std::string> NNCFConfig::warnings() const { return config_warnings(document_of(text_, place_)); }

}  // namespace tsquant
