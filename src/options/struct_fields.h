#pragma once

#include <fmt/format.h>

#include "options/field.h"
#include "tsquant/error.h"

namespace tsquant {

/// A range estimator: an object with "min" and "max", or the name of a ready-made set. Null when nothing is set.
template <typename Struct>
Field<Struct> estimator_option(RangeEstimatorParameters Struct::*member, const std::string& name, std::string help) {
  Field<Struct> field = struct_option(member, name, std::move(help));
  field.schema["type"] = {"string", "object"};
  const auto write = field.get;
  field.get = [member, write](const Struct& object) -> nlohmann::json {
    auto json = write(object);
    if (json == write(Struct())) return nullptr;
    for (const auto& [word, set] : range_estimator_words()) {
      Struct same;
      same.*member = set;
      if (write(same) == json) return word;
    }
    return json;
  };
  const auto read = field.set;
  field.set = [member, read, name](Struct& object, const nlohmann::json& json) {
    if (!json.is_string()) return read(object, json);
    const auto* set = find_word(range_estimator_words(), json.get<std::string>());
    if (!set) {
      throw Error(
          ErrorCode::kInvalidArgument, fmt::format("{} is not allowed", json.dump()), name,
          fmt::format("use an object with min and max, or {}", fmt::join(all_words(range_estimator_words()), ", ")));
    }
    object.*member = *set;
  };
  field.default_value = nullptr;
  return field;
}

/// The words of the ready-made sets, for a flag.
inline std::vector<std::pair<std::string, nlohmann::json>> estimator_choice() {
  std::vector<std::pair<std::string, nlohmann::json>> choice;
  for (const auto& entry : range_estimator_words()) choice.emplace_back(entry.first, entry.first);
  return choice;
}

}  // namespace tsquant
