#pragma once

#include <string>
#include <vector>

#include "quantizers/pt2e/annotation_table.h"
#include "tsquant/quantization_config.h"

namespace tsquant::pt2e {

c10::optional<Spec> input_spec(const QuantizationConfig& config);
c10::optional<Spec> output_spec(const QuantizationConfig& config);
c10::optional<Spec> weight_spec(const QuantizationConfig& config);

/// torchao's get_input_act_qspec, get_output_act_qspec and get_weight_qspec demand the same.
/// @throws Error kInvalidArgument: per-channel activations, asymmetric weights
void check_config(const QuantizationConfig& config, const std::string& option);

/// @throws Error kInvalidArgument when one is set
void check_static(bool is_qat, bool is_dynamic, const char* function);

/// An operator as users write it -> its bare name: "aten::add", "aten.add.Tensor", "torch.nn.functional.conv2d",
/// "conv2d".
std::string bare_function(const std::string& name);

/// Bare name, when it is one of `supported`. @throws Error kInvalidArgument listing `supported`
std::string checked_function(const std::string& name, const std::vector<std::string>& supported,
                             const std::string& option);

}  // namespace tsquant::pt2e
