#pragma once

#include <string>

#include "tsquant/fx/backend_config.h"
#include "tsquant/fx/custom_config.h"
#include "tsquant/fx/qconfig_mapping.h"
#include "tsquant/quantizer.h"

namespace tsquant::fx {

/// Quantizes by torch.ao's rules of FX graph mode: a mapping says how, a backend's patterns say what.
///
/// Every tensor that a quantized operator reads or makes has one quantizer, which all its quantized readers share.
/// Between the operators of a pattern (conv2d, relu) there is none. Operators that only move or select values share the
/// quantizer of their input; so do the inputs and the result of cat and stack.
///
/// ```cpp
/// tsquant::fx::FxQuantizer quantizer(tsquant::fx::get_default_qconfig_mapping("x86"));
/// auto result = tsquant::quantize_pt2e(model, quantizer, data);
/// ```
/// Unlike torch.ao: the input of an operator with a fixed range is not forced into that range; where observers are
/// joined a fixed one gives way, so that the others' values are not clipped; `size` takes no observers away; what
/// stands in float never shares with something far away. Operators in float16
/// (float16_static_qconfig) are left in float, with a remark that says so.
class FxQuantizer : public Quantizer {
 public:
  explicit FxQuantizer(QConfigMapping mapping = get_default_qconfig_mapping(), PrepareCustomConfig custom = {},
                       BackendConfig backend = get_native_backend_config());

  /// Places quantizers; the graph is not changed. Of the custom configuration this applies what decides about places:
  /// standalone modules, as operators with a mapping and a backend of their own; modules that are not traced and custom
  /// modules, which stay in float here; indexes of quantized inputs and outputs.
  /// @throws Error kInvalidArgument: a standalone module with a prepare_custom_config of its own, which only prepare_fx
  ///         and prepare_qat_fx can keep apart; an operator with a fixed range whose qconfig has another observer;
  ///         layers of a fused pattern for whose types the mapping has different entries; a transposed convolution with
  ///         weights per channel; the name of a module that the model does not have; an index of an input that it does
  ///         not have; a quantized output of an operator without a qconfig
  Annotations annotate(const GraphView& view) const override;
  QuantizerDescription describe() const override;

 private:
  QConfigMapping mapping_;
  PrepareCustomConfig custom_;
  BackendConfig backend_;
};

}  // namespace tsquant::fx
