#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Optional.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "options/words.h"

namespace tsquant::fx {

/// Keeps the order of keys, which is the order of precedence in some lists.
using Json = nlohmann::ordered_json;

/// @throws Error kInvalidArgument
Json parse_json(const std::string& text, const std::string& place);

/// @throws Error kInvalidArgument saying what was expected at `place`
[[noreturn]] void refuse_json(const Json& found, const std::string& expected, const std::string& place);

/// @throws Error kInvalidArgument offering the words that come closest
[[noreturn]] void refuse_word(const std::string& word, const std::vector<std::string>& known, const std::string& place);

/// An object of a configuration. Keys that it does not have are refused.
class JsonObject {
 public:
  /// @param place for messages: the keys that lead here
  JsonObject(const Json& json, std::string place, const std::vector<std::string>& keys);

  /// Null when the key is absent.
  const Json* find(const std::string& key) const;
  /// @throws Error kInvalidArgument when the key is absent
  const Json& require(const std::string& key) const;
  std::string place_of(const std::string& key) const { return place_.empty() ? key : place_ + "." + key; }

  void read(const std::string& key, bool& value) const;
  void read(const std::string& key, int64_t& value) const;
  void read(const std::string& key, double& value) const;
  void read(const std::string& key, std::string& value) const;
  /// JSON's null stands for nullopt.
  template <typename Value>
  void read(const std::string& key, c10::optional<Value>& value) const {
    const Json* found = find(key);
    if (!found) return;
    value = c10::nullopt;
    if (found->is_null()) return;
    Value inner{};
    read(key, inner);
    value = inner;
  }
  template <typename Value>
  void read(const std::string& key, Value& value, const Words<Value>& words) const {
    const Json* found = find(key);
    if (!found) return;
    if (!found->is_string()) refuse_json(*found, "a word", place_of(key));
    const Value* known = find_word(words, found->get<std::string>());
    if (!known) refuse_word(found->get<std::string>(), all_words(words), place_of(key));
    value = *known;
  }

 private:
  const Json& json_;
  std::string place_;
};

/// "quint8", "qint8", ..., "float32": torch's names of the types that configurations speak about.
const Words<c10::ScalarType>& dtype_words();

template <typename Value>
Json json_or_null(const c10::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace tsquant::fx
