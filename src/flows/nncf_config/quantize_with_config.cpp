#include "tsquant/nncf_config.h"

namespace tsquant {

namespace {

void add_config_warnings(Report& report, const NNCFConfig& config) {
  const auto warnings = config.warnings();
  report.warnings.insert(report.warnings.end(), warnings.begin(), warnings.end());
}

}  // namespace

QuantizedModel quantize(Model& model, const Dataset& calibration_dataset, const NNCFConfig& config) {
  auto result = quantize(model, calibration_dataset, config.quantize_options(calibration_dataset.batch_size()));
  add_config_warnings(result.report, config);
  return result;
}

QuantizedModel quantize(Model& model, const NNCFConfig& config) {
  return quantize(model, config.get_extra_struct<QuantizationRangeInitArgs>().data_loader(), config);
}

CompressedModel compress_weights(Model& model, const NNCFConfig& config, const c10::optional<Dataset>& dataset) {
  CompressWeightsOptions options = config.compress_weights_options();
  options.dataset = dataset;
  if (!dataset && config.has_extra_struct<QuantizationRangeInitArgs>()) {
    options.dataset = config.get_extra_struct<QuantizationRangeInitArgs>().data_loader();
  }
  auto result = compress_weights(model, options);
  add_config_warnings(result.report, config);
  return result;
}

AccuracyControlResult quantize_with_accuracy_control(Model& model, const Dataset& calibration_dataset,
                                                     const Dataset& validation_dataset,
                                                     const ValidationFn& validation_fn, const NNCFConfig& config) {
  const auto control = config.accuracy_control_options().value_or(AccuracyControlOptions());
  auto result = quantize_with_accuracy_control(model, calibration_dataset, validation_dataset, validation_fn, control,
                                               config.quantize_options(calibration_dataset.batch_size()));
  add_config_warnings(result.quantized.report, config);
  return result;
}

AccuracyControlResult quantize_with_accuracy_control(Model& model, const NNCFConfig& config) {
  const auto& evaluation = config.get_extra_struct<ModelEvaluationArgs>();
  return quantize_with_accuracy_control(model, config.get_extra_struct<QuantizationRangeInitArgs>().data_loader(),
                                        evaluation.validation_dataset(), evaluation.eval_fn(), config);
}

}  // namespace tsquant
