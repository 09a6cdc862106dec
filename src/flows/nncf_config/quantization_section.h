#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tsquant/quantize.h"

namespace tsquant {

/// The options that the section of quantization stands for.
/// @param document valid
/// @param batch_size rows of one calibration sample, at least 1
/// @throws Error kInvalidArgument: no section or several, a value that two keys give, percentiles without a use
QuantizeOptions read_quantization(const nlohmann::json& document, int64_t batch_size, const std::string& place);

/// Whether scopes are the pattern of all names.
bool names_everything(const nlohmann::json& scopes);

/// Whether an initializer of ranges is meant for the whole model; one for single scopes is not read, as a range
/// estimator for some operators only does not exist.
bool holds_for_all_operators(const nlohmann::json& range);

}  // namespace tsquant
