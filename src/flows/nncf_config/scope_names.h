#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tsquant/openvino_quantizer.h"

namespace tsquant {

/// The stable name of the operator that a scope of NNCF's configuration files means: their names have the classes of
/// modules and of the model, as create_compressed_model gives them. "ResNet/Sequential[layer1]/BasicBlock[0]/
/// NNCFConv2d[conv1]/conv2d_0" is layer1/0/conv1/conv2d/0, and "Inception3/__add___1" add/1. Other text is returned as
/// it is.
std::string stable_name(const std::string& scope);

/// The scopes of a key: one, or a list of them.
std::vector<std::string> list_of_scopes(const nlohmann::json& scopes);

/// Adds scopes to an ignored scope: names, and patterns after "{re}". NNCF searches such a pattern anywhere in the name
/// (nncf/common/scopes.py, matches_any), whereas those of an ignored scope match from the start.
void add_scopes(const nlohmann::json& scopes, IgnoredScope& ignored);

}  // namespace tsquant
