#pragma once

#include <string>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// One line per node: name, FX alias, metatype, shape, and its inputs with their quantizers.
std::string dump_text(const GraphView& view, const Annotations* annotations = nullptr);

/// Nodes, edges and, per edge, the quantizer and its unified-scale group.
std::string dump_json(const GraphView& view, const Annotations* annotations = nullptr);

/// Graphviz. Quantized edges are green, edges of one unified group share another colour, operators that compute in
/// float although others are quantized are grey. Parameters are left out unless `parameters`.
std::string dump_dot(const GraphView& view, const Annotations* annotations = nullptr, bool parameters = false);

}  // namespace tsquant
