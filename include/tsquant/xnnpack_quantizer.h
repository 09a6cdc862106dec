#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tsquant/quantization_config.h"
#include "tsquant/quantizer.h"

namespace tsquant {

/// The configuration that executorch's function of the same name returns: activations int8 per tensor, asymmetric, from
/// a histogram; weights int8, symmetric, from their extremes; smallest scale 2^-12.
/// @param is_per_channel  one weight scale per output channel instead of one per tensor
/// @param is_qat      for prepare_qat_pt2e: moving averages in fake quantizes
/// @param is_dynamic  activation parameters are computed from each tensor at run time, for linear layers only
/// @param act_qmin, act_qmax, weight_qmin, weight_qmax  codes that are used, within [-128, 127]
/// @throws Error kInvalidArgument for codes outside int8 or in the wrong order
QuantizationConfig get_symmetric_quantization_config(bool is_per_channel = false, bool is_qat = false,
                                                     bool is_dynamic = false, int64_t act_qmin = -128,
                                                     int64_t act_qmax = 127, int64_t weight_qmin = -127,
                                                     int64_t weight_qmax = 127);

/// Quantizes what XNNPACK computes in int8 (executorch.backends.xnnpack.quantizer.XNNPACKQuantizer).
///
/// linear, convolutions, add and mul, each with a relu behind it, get quantized inputs and outputs; so do
/// adaptive_avg_pool2d and cat, whose inputs and output share one quantizer, and the inputs and outputs of gru. Relu,
/// pooling, mean, permute, view, flatten and the like pass the quantizer of their input on.
///
/// ```cpp
/// tsquant::XNNPACKQuantizer quantizer;
/// quantizer.set_global(tsquant::get_symmetric_quantization_config(/*is_per_channel=*/true));
/// auto result = tsquant::quantize_pt2e(model, quantizer, data);
/// ```
/// Configurations by module name win over those by module type, those over those by operator, and all over the global
/// one.
class XNNPACKQuantizer : public Quantizer {
 public:
  /// For every pattern above. @throws Error kInvalidArgument for a spec that cannot be used
  XNNPACKQuantizer& set_global(const QuantizationConfig& config);

  /// For one operator and the relu behind it: `linear`, `conv1d`, `conv2d`, `conv3d`, `conv_transpose1d`,
  /// `conv_transpose2d`, `conv_transpose3d`, `adaptive_avg_pool2d`, `gru`, `add`, `mul` or `cat`, also as
  /// `aten::add`. @throws Error kInvalidArgument for others
  XNNPACKQuantizer& set_operator_type(const std::string& operator_type, const OptionalQuantizationConfig& config);

  /// For everything in modules of a class: `Linear`, or with its path as in `torch.nn.modules.linear.Linear`.
  /// `annotate` throws Error kInvalidArgument when no operator stands in such a module.
  XNNPACKQuantizer& set_module_type(const std::string& module_type, const OptionalQuantizationConfig& config);

  /// For everything in a submodule ("layer1.0"). `annotate` throws Error kInvalidArgument when the model has no
  /// operator there.
  XNNPACKQuantizer& set_module_name(const std::string& module_name, const OptionalQuantizationConfig& config);

  /// Takes apart attention that LibTorch computes in one operator (see OpenVINOQuantizer), and makes numbers in
  /// additions and multiplications tensors, so that `x + 1.0` has two inputs to quantize.
  std::vector<std::string> rewrites_for_annotation() const override;
  /// Places quantizers by the configurations set so far; without any, nothing is quantized. The graph is not changed.
  /// Sharing of parameters (`cat`, pooling) is expressed by unified groups.
  /// @throws Error kInvalidArgument: a configuration by module name or type that no operator stands in
  Annotations annotate(const GraphView& view) const override;
  QuantizerDescription describe() const override { return {"xnnpack", {}, {}}; }

 private:
  OptionalQuantizationConfig global_config_;
  std::vector<std::pair<std::string, OptionalQuantizationConfig>> operator_configs_, module_type_configs_,
      module_name_configs_;
};

}  // namespace tsquant
