#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "annotated_model.h"
#include "tsquant/fx/fx_quantizer.h"

namespace tsquant::testing {

/// References of torch.ao 1.13.1 (tests/data/fx/golden.json).
const nlohmann::json& fx_golden();

/// The default mapping with other activations: what the kind "minmax" of the references was made with.
fx::QConfigMapping min_max_mapping();

/// One line per tensor argument and result: "add reads stem through @stem", "add makes -": with the observer behind it,
/// or its readers'. An observer has the name of the first tensor that has it. Nodes have FX's names.
std::vector<std::string> golden_lines(const nlohmann::json& model);
/// The same of our annotations; `model` tells the names.
std::vector<std::string> our_lines(const nlohmann::json& model, const AnnotatedModel& annotated);

/// What differs, as "- golden" and "+ ours".
std::vector<std::string> differences(const std::vector<std::string>& golden, const std::vector<std::string>& ours);

}  // namespace tsquant::testing
