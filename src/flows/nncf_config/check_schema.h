#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tsquant {

/// Checks a document against a JSON schema (draft 7, by valijson).
/// @param place where the document comes from, for messages: a file name
/// @throws Error kInvalidArgument: names the place in the document ("compression.weights.bits"), what is wrong there
///         and what the schema allows; for an unknown key the nearest one
void check_schema(const nlohmann::json& schema, const nlohmann::json& document, const std::string& place);

}  // namespace tsquant
