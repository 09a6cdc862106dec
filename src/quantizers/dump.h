#pragma once

#include <string>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// The graph as Graphviz text. Quantized edges are green, edges of one unified group share another colour, operators
/// that compute in float although others are quantized are grey, operators with a quantized weight have a bold blue
/// frame and name its codes; a legend says so. Parameters are left out unless `parameters`.
std::string dump_dot(const GraphView& view, const Annotations* annotations = nullptr, bool parameters = false);

}  // namespace tsquant
