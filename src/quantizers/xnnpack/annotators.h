#pragma once

#include <functional>
#include <string>
#include <vector>

#include "quantizers/pt2e/annotation_table.h"
#include "tsquant/quantization_config.h"

namespace tsquant::xnnpack {

/// Whether a configuration applies to a node.
using NodeFilter = std::function<bool(const ViewNode&)>;

/// Operators that can be configured by type; a relu behind them belongs to their pattern.
const std::vector<std::string>& quantizable_functions();

/// Annotates every pattern whose first node passes the filter and that no annotator has taken yet, in executorch's
/// order. No configuration: the patterns stay in float.
void annotate_patterns(pt2e::AnnotationTable& table, const OptionalQuantizationConfig& config,
                       const NodeFilter& filter);

/// Lets operators that only move or select values share the quantizer of their input, where it has one.
void propagate_annotation(pt2e::AnnotationTable& table);

}  // namespace tsquant::xnnpack
