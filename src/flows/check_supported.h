#pragma once

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// Refuses a model that waits for its conversion, with observers in it, and one that holds quantized operators: what
/// this library wrote, in any form, or somebody else's.
/// @param path of the file, for the message
/// @throws Error kUnsupportedModel naming the first quantized operator, or what to do with a prepared model
void require_float(const Model& model, const std::string& path = "forward");

/// Refuses specs that the requested form cannot hold or would compute differently from what the spec says: formats and
/// groups whose row in the table of formats does not name the form, codes wider than a byte, an axis that the tensor
/// does not have.
/// Specs that a kernel of the lowered form does not take are no error: those operators stay as Q/DQ around float ones,
/// which gives the same numbers, and the report says so.
/// @throws Error kInvalidArgument naming the node, the spec and the form
void check_supported(const GraphView& view, const Annotations& annotations, OutputForm form);

}  // namespace tsquant
