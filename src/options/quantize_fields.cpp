#include "options/struct_fields.h"
#include "options/tables.h"

namespace tsquant {

namespace {

/// The row of an option that quantize hands on under the same name: help and limits are said once.
template <typename Struct, typename Value, typename Other>
Field<Struct> same_as(Value Struct::*member, const std::string& name, const Fields<Other>& others) {
  for (const Field<Other>& other : others) {
    if (other.name != name) continue;
    Field<Struct> field = option(member, name, other.help);
    field.schema = other.schema;
    return field;
  }
  throw Error(ErrorCode::kInternal, fmt::format("there is no row {}", name), "quantize_fields");
}

}  // namespace

template <>
const Fields<AdvancedQuantizationParameters>& fields() {
  using P = AdvancedQuantizationParameters;
  const auto& pt2e = fields<QuantizePt2eOptions>();
  const auto& openvino = fields<OpenVINOQuantizerOptions>();
  static const Fields<P> table{
      same_as(&P::overflow_fix, "overflow_fix", openvino),
      same_as(&P::quantize_outputs, "quantize_outputs", openvino),
      same_as(&P::inplace_statistics, "inplace_statistics", pt2e),
      option(&P::disable_channel_alignment, "disable_channel_alignment", "Channel alignment is left out"),
      option(&P::disable_bias_correction, "disable_bias_correction", "Biases stay as they are"),
      same_as(&P::batchwise_statistics, "batchwise_statistics", pt2e),
      struct_option(&P::activations_quantization_params, "activations_quantization_params", "Of activations"),
      struct_option(&P::weights_quantization_params, "weights_quantization_params", "Of weights"),
      same_as(&P::quantizer_propagation_rule, "quantizer_propagation_rule", openvino),
      estimator_option(&P::activations_range_estimator_params, "activations_range_estimator_params",
                       "How ranges of activations are found"),
      estimator_option(&P::weights_range_estimator_params, "weights_range_estimator_params",
                       "How ranges of weights are found"),
      struct_option(&P::bias_correction_params, "bias_correction_params", "Of bias correction"),
      struct_option(&P::smooth_quant_alphas, "smooth_quant_alphas", "Of SmoothQuant"),
      option(&P::smooth_quant_alpha, "smooth_quant_alpha", "Deprecated: smooth_quant_alphas.matmul").at_most(1),
      option(&P::backend_params, "backend_params", "Further options by name"),
  };
  return table;
}

template <>
const Fields<QuantizeOptions>& fields() {
  using O = QuantizeOptions;
  const auto& pt2e = fields<QuantizePt2eOptions>();
  const auto& openvino = fields<OpenVINOQuantizerOptions>();
  static const Fields<O> table{
      same_as(&O::mode, "mode", openvino),
      same_as(&O::preset, "preset", openvino),
      same_as(&O::target_device, "target_device", openvino),
      same_as(&O::subset_size, "subset_size", pt2e),
      option(&O::fast_bias_correction, "fast_bias_correction", "False: the accurate algorithm, which takes longer"),
      same_as(&O::model_type, "model_type", openvino),
      struct_option(&O::ignored_scope, "ignored_scope", "Operators to leave in float"),
      struct_option(&O::advanced_parameters, "advanced_parameters", "What rarely needs a change"),
      same_as(&O::form, "form", pt2e),
      same_as(&O::engine, "engine", pt2e),
      same_as(&O::cost, "cost", pt2e),
  };
  return table;
}

}  // namespace tsquant
