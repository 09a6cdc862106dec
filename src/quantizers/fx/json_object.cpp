#include "quantizers/fx/json_object.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"
#include "io/json_text.h"
#include "tsquant/error.h"

namespace tsquant::fx {

Json parse_json(const std::string& text, const std::string& place) {
  try {
    return tsquant::parse_json<Json>(text);
  } catch (const JsonFault& error) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("this is no JSON: {}", error.what()), place);
  }
}

void refuse_json(const Json& found, const std::string& expected, const std::string& place) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{} stands where {} belongs", found.dump(), expected), place);
}

void refuse_word(const std::string& word, const std::vector<std::string>& known, const std::string& place) {
  std::vector<std::string> closest = nearest(word, known);
  for (std::string& name : closest) {
    if (name.empty()) name = "\"\" (an empty name, for what the other keys do not cover)";
  }
  throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is not known", word), place,
              fmt::format("closest: {}", fmt::join(closest, ", ")));
}

JsonObject::JsonObject(const Json& json, std::string place, const std::vector<std::string>& keys)
    : json_(json), place_(std::move(place)) {
  if (!json.is_object()) refuse_json(json, "an object", place_);
  for (const auto& [key, value] : json.items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) refuse_word(key, keys, place_of(key));
  }
}

const Json* JsonObject::find(const std::string& key) const {
  const auto found = json_.find(key);
  return found == json_.end() ? nullptr : &*found;
}

const Json& JsonObject::require(const std::string& key) const {
  const Json* found = find(key);
  if (!found) throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is missing", key), place_);
  return *found;
}

void JsonObject::read(const std::string& key, bool& value) const {
  const Json* found = find(key);
  if (found && !found->is_boolean()) refuse_json(*found, "true or false", place_of(key));
  if (found) value = found->get<bool>();
}

void JsonObject::read(const std::string& key, int64_t& value) const {
  const Json* found = find(key);
  if (found && !found->is_number_integer()) refuse_json(*found, "an integer", place_of(key));
  if (found) value = found->get<int64_t>();
}

void JsonObject::read(const std::string& key, double& value) const {
  const Json* found = find(key);
  if (found && !found->is_number()) refuse_json(*found, "a number", place_of(key));
  if (found) value = found->get<double>();
}

void JsonObject::read(const std::string& key, std::string& value) const {
  const Json* found = find(key);
  if (found && !found->is_string()) refuse_json(*found, "text", place_of(key));
  if (found) value = found->get<std::string>();
}

const Words<c10::ScalarType>& dtype_words() {
  static const Words<c10::ScalarType> words{
      {"quint8", c10::kQUInt8}, {"qint8", c10::kQInt8},  {"qint32", c10::kQInt32},     {"quint4x2", c10::kQUInt4x2},
      {"float32", c10::kFloat}, {"float16", c10::kHalf}, {"bfloat16", c10::kBFloat16}, {"int32", c10::kInt}};
  return words;
}

}  // namespace tsquant::fx
