#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <string>

#include "tsquant/fx/backend_config.h"
#include "tsquant/fx/custom_config.h"
#include "tsquant/fx/qconfig_mapping.h"
#include "tsquant/model.h"
#include "tsquant/prepare_pt2e.h"

/// torch.ao.quantization.quantize_fx on TorchScript models, by its names.
///
/// ```cpp
/// namespace fx = tsquant::fx;
/// auto model = tsquant::Model::load("model.pt");
/// auto prepared = fx::prepare_fx(model, fx::get_default_qconfig_mapping("x86"), {{example}});
/// for (const auto& batch : data) prepared.forward({batch});
/// fx::convert_fx(prepared).save("model_int8.pt");
/// ```
/// It is the road of prepare_pt2e and convert_pt2e, with FxQuantizer as the quantizer: what is said there about
/// prepared modules holds here. Models are never changed in place. All attributes of a model survive; those in a list
/// of preserved attributes must exist. Custom modules (set_float_to_observed_mapping,
/// set_observed_to_quantized_mapping) become submodules `tsquant_custom_module_<n>` of the root, in the prepared and in
/// the converted model: what they compute is not inlined, and the float module's weights are not written.
namespace tsquant::fx {

/// Folds batch norms into the layers before them (and normalises the graph as all flows do). Activations stay operators
/// of their own, which TorchScript's quantized kernels take in when the model is lowered. prepare_fx fuses by itself:
/// it gives the same for the result as for `model`, custom and standalone modules included, which stay unfused then.
/// @throws Error kInvalidArgument for a preserved attribute that the model does not have
Model fuse_fx(const Model& model, const FuseCustomConfig& fuse_custom_config = {});

/// Puts observers into a copy of the model. @throws Error as prepare_pt2e and FxQuantizer; for custom modules
///         kInvalidArgument when a class is mapped for other types than its qconfig's, or what a function makes cannot
///         be called instead, and kUnsupportedModel when the graph was rewritten after it was captured, or when such a
///         module returns something else than one tensor
torch::jit::Module prepare_fx(const Model& model, const QConfigMapping& qconfig_mapping, const Sample& example_inputs,
                              const PrepareCustomConfig& prepare_custom_config = {},
                              const BackendConfig& backend_config = get_native_backend_config());

/// The same for training: see prepare_qat_pt2e. qconfigs without a fake quantize get torch.ao's.
torch::jit::Module prepare_qat_fx(const Model& model, const QConfigMapping& qconfig_mapping,
                                  const Sample& example_inputs, const PrepareCustomConfig& prepare_custom_config = {},
                                  const BackendConfig& backend_config = get_native_backend_config());

/// What convert_fx and its sisters take besides the prepared module.
struct ConvertFxOptions {
  ConvertCustomConfig convert_custom_config = {};
  /// False: the result carries the mapping as its attribute `qconfig_mapping` (JSON text).
  bool remove_qconfig = true;
  /// What prepare_fx was given, with some values taken away: those operators stay in float. Keys that prepare_fx did
  /// not have must have no value.
  c10::optional<QConfigMapping> qconfig_mapping = c10::nullopt;
  /// Must be that of prepare_fx; none: it is.
  c10::optional<BackendConfig> backend_config = c10::nullopt;
  std::string engine = "";                   ///< convert_fx: as in QuantizePt2eOptions
  LoweringCost cost = LoweringCost::kTable;  ///< convert_fx: as in QuantizePt2eOptions
};

/// Observers become quantizers and quantized operators integer kernels. A reduced range decides about scales alone: as
/// in torch.ao, values beyond it get the codes that are left of the type, but in the decomposed form.
/// @throws Error as convert_pt2e
QuantizedModel convert_fx(const torch::jit::Module& prepared, const ConvertFxOptions& options = {});
/// Quantize and dequantize around float operators: plain LibTorch.
QuantizedModel convert_to_reference_fx(const torch::jit::Module& prepared, const ConvertFxOptions& options = {});
/// The same as quantized_decomposed::* operators.
QuantizedModel convert_to_reference_decomposed_fx(const torch::jit::Module& prepared,
                                                  const ConvertFxOptions& options = {});

/// A module that is quantized for itself, to be called by a model that is quantized around it. With
/// input_quantized_indexes and output_quantized_indexes in its custom configuration it takes and gives quantized
/// tensors. @throws Error kUnsupportedModel when it returns more than one tensor
torch::jit::Module prepare_standalone_module_fx(const Model& model, const QConfigMapping& qconfig_mapping,
                                                const Sample& example_inputs,
                                                const PrepareCustomConfig& prepare_custom_config = {},
                                                const BackendConfig& backend_config = get_native_backend_config());
/// Its reference form.
QuantizedModel convert_standalone_module_fx(const torch::jit::Module& prepared, const ConvertFxOptions& options = {});

/// Adds attributes to a model, or replaces their values. @throws Error kInvalidArgument for a value of another type
void attach_preserved_attrs_to_model(torch::jit::Module& module, const std::map<std::string, c10::IValue>& attributes);

}  // namespace tsquant::fx
