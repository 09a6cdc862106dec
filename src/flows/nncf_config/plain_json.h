#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tsquant {

/// The text without what NNCF's reader of configurations (jstyleson) allows beyond JSON: comments (`//`, `#`,
/// `/* */`) and a comma before a closing bracket. They become blanks, so that every other character keeps its place.
std::string plain_json(const std::string& text);

/// Parses what `plain_json` leaves. @param Json nlohmann::json or ordered_json @param place for messages
/// @throws Error kInvalidArgument
template <typename Json>
Json parse_config(const std::string& text, const std::string& place);

}  // namespace tsquant
