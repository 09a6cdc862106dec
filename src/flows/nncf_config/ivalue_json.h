#pragma once

#include <ATen/core/ivalue.h>

#include <nlohmann/json.hpp>
#include <string>

namespace tsquant {

/// @param path of the value, for messages: "compression.weights"; may be empty
/// @throws Error kInvalidArgument for a value that JSON has no word for: a tensor, NaN, a dict with other keys than
/// text
nlohmann::ordered_json json_of(const c10::IValue& value, const std::string& path);

/// Objects become dicts from text to anything, arrays lists of anything.
c10::IValue ivalue_of(const nlohmann::ordered_json& json);

}  // namespace tsquant
