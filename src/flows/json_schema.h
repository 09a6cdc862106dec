#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace tsquant {

/// Checks a document against a JSON schema (draft 7, by valijson).
/// @param place where the document comes from, for messages: a file name
/// @throws Error kInvalidArgument: names the place in the document ("compression.weights.bits"), what is wrong there
///         and what the schema allows
void check_schema(const nlohmann::json& schema, const nlohmann::json& document, const std::string& place);

/// Fields of AdvancedQuantizationParameters that NNCF's files have outside of "advanced_parameters" as well.
const std::set<std::string>& nncf_outer_keys();

/// Fields of QuantizationParameters, with their keys in "weights" and "activations" of NNCF's files.
const std::map<std::string, std::string>& nncf_group_keys();

/// The schema of quantization configurations: NNCF's keys and those of QuantizeOptions.
const nlohmann::json& quantize_config_schema();

}  // namespace tsquant
