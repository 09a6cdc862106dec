#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tsquant {

/// What a valid document has without effect on quantization after training: one warning about the settings of training
/// and of other programs, one about sections of other algorithms, and one about each value that would change
/// quantization if there was an option for it.
std::vector<std::string> config_warnings(const nlohmann::json& document);

/// Refuses keys at the top that are known ones misspelt; any other key may stand there.
/// @throws Error kInvalidArgument
void check_top_keys(const nlohmann::json& document, const std::string& place);

}  // namespace tsquant
