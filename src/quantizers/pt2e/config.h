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

/// How the ready-made configurations of torchao observe: activations by `calibrated` when the data are given before
/// conversion, weights by their extremes; while training, by moving averages in fake quantizes. Dynamic activations
/// are not observed, and fake-quantized by the range of each batch.
void set_observers(QuantizationConfig& config, bool is_qat, bool is_dynamic, ObserverKind calibrated);

/// Whether activations get their parameters at run time.
bool is_dynamic(const OptionalQuantizationConfig& config);

/// An operator as users write it -> its bare name: "aten::add", "aten.add.Tensor", "torch.nn.functional.conv2d",
/// "conv2d".
std::string bare_function(const std::string& name);

/// Bare name, when it is one of `supported`. @throws Error kInvalidArgument listing `supported`
std::string checked_function(const std::string& name, const std::vector<std::string>& supported,
                             const std::string& option);

}  // namespace tsquant::pt2e
