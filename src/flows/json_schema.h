#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tsquant {

/// Checks a document against a JSON schema (draft 7, by valijson).
/// @param place where the document comes from, for messages: a file name
/// @throws Error kInvalidArgument: names the place in the document ("compression.weights.bits"), what is wrong there
///         and what the schema allows
void check_schema(const nlohmann::json& schema, const nlohmann::json& document, const std::string& place);

/// The schema of quantization configurations: NNCF's keys and those of QuantizeOptions.
const nlohmann::json& quantize_config_schema();

}  // namespace tsquant
