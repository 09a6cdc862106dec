#pragma once

#include <string>

#include "tsquant/advanced_parameters.h"
#include "tsquant/dataset.h"
#include "tsquant/model.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"
#include "tsquant/quantize_with_accuracy_control.h"

namespace tsquant {

/// The arguments of nncf.quantize after model and data, with NNCF's names and defaults, then what the file holds.
struct QuantizeOptions {
  /// fp8 of this format instead of 8-bit integers.
  c10::optional<QuantizationMode> mode = c10::nullopt;
  /// None: mixed for transformers, performance otherwise.
  c10::optional<QuantizationPreset> preset = c10::nullopt;
  TargetDevice target_device = TargetDevice::kAny;
  int64_t subset_size = 300;         ///< number of calibration samples (batches); must be at least 1
  bool fast_bias_correction = true;  ///< false: the accurate algorithm, which takes longer
  c10::optional<ModelType> model_type = c10::nullopt;
  IgnoredScope ignored_scope = {};
  AdvancedQuantizationParameters advanced_parameters = {};
  /// None: decomposed, or what `backend_params` say.
  c10::optional<OutputForm> form = c10::nullopt;
  std::string engine = "";  ///< of the lowered form; empty: what `backend_params` say, else default_engine()
  LoweringCost cost = LoweringCost::kTable;  ///< of the lowered form
  bool do_copy = true;                       ///< false: edit the given model in place
  Progress progress = {};
};

/// The quantizer and the options of quantize_pt2e that the arguments of `quantize` stand for.
struct QuantizeSetup {
  OpenVINOQuantizerOptions quantizer;
  QuantizePt2eOptions options;
  std::vector<std::string> warnings;  ///< deprecated options and those without effect, for the report
};

/// Translates by the rules of nncf.quantize: SmoothQuant only for transformers, channel alignment and bias correction
/// unless disabled, defaults of the overflow fix by mode and bit width.
/// @throws Error kInvalidArgument: values that do not go together or are unknown
QuantizeSetup make_quantize_setup(const QuantizeOptions& options);

/// Post-training quantization in one call (nncf.quantize): quantize_pt2e with an OpenVINOQuantizer.
///
/// ```cpp
/// auto model = tsquant::Model::load("vit.pt");
/// tsquant::QuantizeOptions options;
/// options.model_type = tsquant::ModelType::kTransformer;
/// auto result = tsquant::quantize(model, data, options);
/// ```
/// Differs from NNCF where that refuses what works here: fp8 modes, CPU_SPR and the accurate bias correction.
/// @throws Error as make_quantize_setup and quantize_pt2e
QuantizedModel quantize(Model& model, const Dataset& calibration_dataset, const QuantizeOptions& options = {});

/// `quantize` with a limit on the accuracy it may cost (nncf.quantize_with_accuracy_control), by
/// quantize_pt2e_with_accuracy_control; `control.advanced_accuracy_restorer_parameters` are the
/// AdvancedAccuracyRestorerParameters.
/// @throws Error as make_quantize_setup and quantize_pt2e_with_accuracy_control
AccuracyControlResult quantize_with_accuracy_control(Model& model, const Dataset& calibration_dataset,
                                                     const Dataset& validation_dataset,
                                                     const ValidationFn& validation_fn,
                                                     const AccuracyControlOptions& control = {},
                                                     const QuantizeOptions& options = {});

}  // namespace tsquant
