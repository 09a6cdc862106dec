#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace tsquant {

/// The algorithms that a section may name, and whether it is one of quantization, which alone is read.
const std::map<std::string, bool>& nncf_algorithms();

/// Fields of AdvancedQuantizationParameters that NNCF's files have outside of "advanced_parameters" as well.
const std::set<std::string>& nncf_outer_keys();

/// Fields of QuantizationParameters, with their keys in "weights" and "activations" of NNCF's files.
const std::map<std::string, std::string>& nncf_group_keys();

/// The schema of configurations: NNCF's keys, those of QuantizeOptions and of AccuracyControlOptions.
const nlohmann::json& config_schema();

}  // namespace tsquant
