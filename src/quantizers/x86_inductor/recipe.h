#pragma once

#include <functional>
#include <string>
#include <vector>

#include "quantizers/pt2e/annotation_table.h"
#include "quantizers/pt2e/module_paths.h"
#include "tsquant/quantization_config.h"

namespace tsquant::x86_inductor {

/// Whether a configuration applies to the nodes of one pattern.
using PatternFilter = std::function<bool(const std::vector<int64_t>&)>;

/// Operators that take int8 and give int8 when their input is quantized.
const std::vector<std::string>& carrying_functions();
/// What a global configuration quantizes: the carrying operators and conv1d, conv2d, linear, mul.
const std::vector<std::string>& default_functions();
/// All operators that can be configured: those above and matmul.
const std::vector<std::string>& quantizable_functions();

/// Annotates patterns that have a convolution, a linear layer, a matmul or a mul at their start, in torchao's order:
/// the longest first. No configuration: the patterns stay in float.
///
/// Layers that nn.MultiheadAttention calls are no starts: torch.export attributes them to that class, and torchao looks
/// for those of nn.Linear and functional::linear.
void annotate_fusion_patterns(pt2e::AnnotationTable& table, const pt2e::ModulePaths& paths,
                              const OptionalQuantizationConfig& config, const PatternFilter& filter);

/// Annotates pooling, cat and flatten whose inputs come from patterns that compute in int8, in graph order.
void annotate_carriers(pt2e::AnnotationTable& table, const OptionalQuantizationConfig& config,
                       const PatternFilter& filter);

/// Lets the result of each annotated carrier share the quantizer of its (first) input.
void share_results_of_carriers(pt2e::AnnotationTable& table);

}  // namespace tsquant::x86_inductor
