#include "tsquant/quantize.h"

#include <fmt/format.h>

#include "algorithms/smooth_quant.h"
#include "options/common_fields.h"
#include "options/tables.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

OutputForm form_from_name(const std::string& name) {
  if (const auto* found = find_word(words<OutputForm>(), name)) return *found;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("unknown form \"{}\"", name), "backend_params.form",
              fmt::format("use one of {}", fmt::join(all_words(words<OutputForm>()), ", ")));
}

bool truth_value(const std::string& text, const std::string& place) {
  if (text == "true" || text == "false") return text == "true";
  throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no truth value", text), place, "use true or false");
}

[[noreturn]] void refuse_twice(const std::string& name) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("the {} is given twice, with different values", name),
              "backend_params." + name, fmt::format("leave it out here or in the option \"{}\"", name));
}

/// Options that NNCF has no argument for: given directly, or by name as NNCF's backends take theirs.
void apply_backend_params(QuantizePt2eOptions& result, const QuantizeOptions& options) {
  c10::optional<OutputForm> form = options.form;
  for (const auto& [key, value] : options.advanced_parameters.backend_params) {
    if (key == "compress_weights") {
      result.fold_quantize = truth_value(value, "backend_params." + key);
    } else if (key == "form") {
      const OutputForm named = form_from_name(value);
      if (form && *form != named) refuse_twice(key);
      form = named;
    } else if (key == "engine") {
      if (!result.engine.empty() && result.engine != value) refuse_twice(key);
      result.engine = value;
    } else {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("unknown backend parameter \"{}\"", key), "backend_params",
                  "known are compress_weights, form and engine");
    }
  }
  if (form) result.form = *form;
}

/// SmoothQuant is part of the flow for transformers only; the deprecated alpha wins over the one of linear layers.
void apply_smooth_quant(QuantizeSetup& setup, const QuantizeOptions& options) {
  const auto& advanced = options.advanced_parameters;
  auto alphas = advanced.smooth_quant_alphas;
  if (const auto alpha = advanced.smooth_quant_alpha) {
    setup.warnings.push_back(
        "smooth_quant_alpha is deprecated: use smooth_quant_alphas with one value for convolutions and one for linear "
        "layers");
    alphas.matmul = *alpha < 0 ? -1 : *alpha;
    if (*alpha < 0) alphas.convolution = -1;
  }
  if (options.model_type == ModelType::kTransformer) {
    setup.options.smooth_quant_params = alphas;
    setup.options.smooth_quant = alphas.convolution >= 0 || alphas.matmul >= 0;
    return;
  }
  check_smooth_quant(alphas);
  const AdvancedSmoothQuantParameters unset;
  const auto wanted = [](double alpha, double by_default) { return alpha >= 0 && alpha != by_default; };
  if (advanced.smooth_quant_alpha.value_or(-1) >= 0 || wanted(alphas.convolution, unset.convolution) ||
      wanted(alphas.matmul, unset.matmul)) {
    setup.warnings.push_back(fmt::format("{} has no effect: SmoothQuant runs for the model type transformer only",
                                         advanced.smooth_quant_alpha ? "smooth_quant_alpha" : "smooth_quant_alphas"));
  }
}

void add_remarks(QuantizedModel& result, const QuantizeSetup& setup) {
  auto& warnings = result.report.warnings;
  warnings.insert(warnings.end(), setup.warnings.begin(), setup.warnings.end());
}

}  // namespace

QuantizeSetup make_quantize_setup(const QuantizeOptions& options) {
  const auto& advanced = options.advanced_parameters;
  QuantizeSetup setup;
  // Options of the same name mean the same; the others are translated below.
  auto& pt2e = setup.options;
  copy_common(options, setup.quantizer);
  copy_common(options, pt2e);
  copy_common(advanced, setup.quantizer);
  copy_common(advanced, pt2e);
  if (advanced.disable_bias_correction) pt2e.fast_bias_correction = c10::nullopt;
  pt2e.channel_alignment = !advanced.disable_channel_alignment;
  pt2e.do_copy = options.do_copy;
  pt2e.progress = options.progress;
  apply_smooth_quant(setup, options);
  apply_backend_params(pt2e, options);
  OpenVINOQuantizer checked(setup.quantizer);  // throws
  return setup;
}

QuantizedModel quantize(Model& model, const Dataset& calibration_dataset, const QuantizeOptions& options) {
  const QuantizeSetup setup = make_quantize_setup(options);
  OpenVINOQuantizer quantizer(setup.quantizer);
  auto result = quantize_pt2e(model, quantizer, calibration_dataset, setup.options);
  add_remarks(result, setup);
  return result;
}

AccuracyControlResult quantize_with_accuracy_control(Model& model, const Dataset& calibration_dataset,
                                                     const Dataset& validation_dataset,
                                                     const ValidationFn& validation_fn,
                                                     const AccuracyControlOptions& control,
                                                     const QuantizeOptions& options) {
  const QuantizeSetup setup = make_quantize_setup(options);
  OpenVINOQuantizer quantizer(setup.quantizer);
  auto result = quantize_pt2e_with_accuracy_control(model, quantizer, calibration_dataset, validation_dataset,
                                                    validation_fn, control, setup.options);
  add_remarks(result.quantized, setup);
  return result;
}

}  // namespace tsquant
