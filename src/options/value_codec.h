#pragma once

#include <c10/util/Optional.h>

#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "options/words.h"

namespace tsquant {

/// The value of an option as JSON: null stands for "not set". `schema` says which JSON `read` takes.
template <typename Value, typename = void>
struct ValueCodec;

template <typename Value>
struct PlainCodec {
  static nlohmann::json write(const Value& value) { return value; }
  static void read(const nlohmann::json& json, Value& value) { value = json.get<Value>(); }
};

template <>
struct ValueCodec<bool> : PlainCodec<bool> {
  static nlohmann::json schema() { return {{"type", "boolean"}}; }
};
template <>
struct ValueCodec<int64_t> : PlainCodec<int64_t> {
  static nlohmann::json schema() { return {{"type", "integer"}}; }
};
template <>
struct ValueCodec<double> : PlainCodec<double> {
  static nlohmann::json schema() { return {{"type", "number"}}; }
};
template <>
struct ValueCodec<std::string> : PlainCodec<std::string> {
  static nlohmann::json schema() { return {{"type", "string"}}; }
};
template <>
struct ValueCodec<std::vector<std::string>> : PlainCodec<std::vector<std::string>> {
  static nlohmann::json schema() { return {{"type", "array"}, {"items", {{"type", "string"}}}}; }
};

template <>
struct ValueCodec<std::vector<float>> : PlainCodec<std::vector<float>> {
  static nlohmann::json schema() { return {{"type", "array"}, {"items", {{"type", "number"}}}}; }
};

template <typename Enum>
struct ValueCodec<Enum, std::enable_if_t<std::is_enum<Enum>::value>> {
  static nlohmann::json write(const Enum& value) { return word_of(words<Enum>(), value); }
  static void read(const nlohmann::json& json, Enum& value) {
    value = *find_word(words<Enum>(), json.get<std::string>());
  }
  static nlohmann::json schema() { return {{"enum", all_words(words<Enum>())}}; }
};

template <typename Value>
struct ValueCodec<c10::optional<Value>> {
  static nlohmann::json write(const c10::optional<Value>& value) {
    return value ? ValueCodec<Value>::write(*value) : nlohmann::json();
  }
  static void read(const nlohmann::json& json, c10::optional<Value>& value) {
    if (json.is_null()) {
      value = c10::nullopt;
      return;
    }
    Value read_value{};
    ValueCodec<Value>::read(json, read_value);
    value = read_value;
  }
  static nlohmann::json schema() { return ValueCodec<Value>::schema(); }
};

/// {"inputs": [...], "outputs": [...]}
template <>
struct ValueCodec<std::vector<IgnoredScope::Subgraph>> {
  static nlohmann::json write(const std::vector<IgnoredScope::Subgraph>& subgraphs);
  static void read(const nlohmann::json& json, std::vector<IgnoredScope::Subgraph>& subgraphs);
  static nlohmann::json schema();
};

/// Names of backend parameters with their values; truth values may be written as such.
template <>
struct ValueCodec<std::map<std::string, std::string>> {
  static nlohmann::json write(const std::map<std::string, std::string>& entries) { return entries; }
  static void read(const nlohmann::json& json, std::map<std::string, std::string>& entries);
  static nlohmann::json schema();
};

/// An object with the rows of its table.
template <>
struct ValueCodec<WeightsOnlyOptions> {
  static nlohmann::json write(const WeightsOnlyOptions& options);
  static void read(const nlohmann::json& json, WeightsOnlyOptions& options);
  static nlohmann::json schema();
};

}  // namespace tsquant
