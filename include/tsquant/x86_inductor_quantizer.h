#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tsquant/quantization_config.h"
#include "tsquant/quantizer.h"

namespace tsquant {

/// The configuration that torchao's function of the same name returns: activations uint8 per tensor, asymmetric, from a
/// histogram; weights int8 per output channel, symmetric, [-128, 127]; smallest scale 2^-12.
/// @param is_qat      for prepare_qat_pt2e: moving averages in fake quantizes
/// @param is_dynamic  activation parameters are computed from each tensor at run time, for linear layers only
/// @param reduce_range  activations in [0, 127]: CPUs without VNNI add products of 8 bits in 16 bits, which can
/// saturate
QuantizationConfig get_default_x86_inductor_quantization_config(bool is_qat = false, bool is_dynamic = false,
                                                                bool reduce_range = false);

/// Quantizes what TorchInductor computes in int8 on x86 (torchao.quantization.pt2e.quantizer.X86InductorQuantizer).
///
/// conv2d and linear with what they fuse (an addition, an activation), `mul` of equal shapes and `matmul` (on request)
/// get quantized inputs; pooling, `cat` and `flatten` behind them carry the codes on with unchanged parameters.
///
/// ```cpp
/// tsquant::X86InductorQuantizer quantizer;
/// quantizer.set_global(tsquant::get_default_x86_inductor_quantization_config());
/// auto result = tsquant::quantize_pt2e(model, quantizer, data);
/// ```
/// Configurations by module name win over those by operator, and those over the global one.
class X86InductorQuantizer : public Quantizer {
 public:
  /// For every operator of the default recipe: conv1d with relu, conv2d, linear, mul, max_pool2d, avg_pool2d,
  /// adaptive_avg_pool2d, cat, flatten. @throws Error kInvalidArgument for a spec that cannot be used
  X86InductorQuantizer& set_global(const QuantizationConfig& config);

  /// For one operator: `conv1d`, `conv2d`, `linear`, `matmul`, `mul`, `max_pool2d`, `avg_pool2d`,
  /// `adaptive_avg_pool2d`, `cat` or `flatten`, also as `aten::conv2d`. @throws Error kInvalidArgument for others
  X86InductorQuantizer& set_function_type_qconfig(const std::string& function,
                                                  const OptionalQuantizationConfig& config);

  /// The same by class: `Conv1d`, `Conv2d`, `Linear`, `MaxPool2d`, `AvgPool2d` or `AdaptiveAvgPool2d`, also as
  /// `torch.nn.Conv2d`. @throws Error kInvalidArgument for others
  X86InductorQuantizer& set_module_type_qconfig(const std::string& module_type,
                                                const OptionalQuantizationConfig& config);

  /// For everything in a submodule ("layer1.0"), for all operators that can be quantized. `annotate` throws Error
  /// kInvalidArgument when the model has no operator there.
  X86InductorQuantizer& set_module_name_qconfig(const std::string& module_name,
                                                const OptionalQuantizationConfig& config);

  /// Takes apart attention that LibTorch computes in one operator (see OpenVINOQuantizer). torchao needs no such
  /// rewrite, because torch.export shows the layers.
  std::vector<std::string> rewrites_for_annotation() const override;
  /// Places quantizers by the configurations set so far; without any, nothing is quantized. The graph is not changed.
  /// Sharing of parameters (`cat`, pooling) is expressed by unified groups. `mul` is quantized only where the
  /// view knows that both shapes are equal.
  /// @throws Error kInvalidArgument: a configuration by module name that no operator stands in
  Annotations annotate(const GraphView& view) const override;
  QuantizerDescription describe() const override { return {"x86_inductor", {}, {}}; }

 private:
  OptionalQuantizationConfig global_config_;
  std::vector<std::pair<std::string, OptionalQuantizationConfig>> function_configs_, module_name_configs_;
};

}  // namespace tsquant
