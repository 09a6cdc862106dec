#pragma once

#include <string>

#include "tsquant/model.h"

namespace tsquant {

/// Checks that the graph is well formed: its blocks (order, uses, scopes: check_blocks), and that every attribute it
/// reads exists in the module.
/// @param stage who changed the graph last; named in the error
/// @throws Error kInternal
void verify_graph(const Model& model, const std::string& stage);

}  // namespace tsquant
