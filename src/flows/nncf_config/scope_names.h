#pragma once

#include <string>

namespace tsquant {

/// The stable name of the operator that a scope of NNCF's configuration files means: their names have the classes of
/// modules and of the model, as create_compressed_model gives them. "ResNet/Sequential[layer1]/BasicBlock[0]/
/// NNCFConv2d[conv1]/conv2d_0" is layer1/0/conv1/conv2d/0, and "Inception3/__add___1" add/1. Other text is returned as
/// it is.
std::string stable_name(const std::string& scope);

}  // namespace tsquant
