#include "flows/annotated_model.h"

#include "flows/build_report.h"
#include "flows/check_observers.h"
#include "flows/check_supported.h"
#include "flows/computed_weights.h"
#include "flows/non_float32_tensors.h"
#include "flows/range_remarks.h"
#include "flows/unmeasured_points.h"
#include "quantizers/transform_model.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void require_points(const Annotations& annotations, const Report& report, bool allow_empty) {
  if (!annotations.points.empty() || allow_empty) return;
  const std::string reasons = grouped_reasons(report);
  throw Error(ErrorCode::kUnsupportedModel,
              "nothing in this model could be quantized" + (reasons.empty() ? "" : ": " + reasons), "forward",
              "see `tsquant inspect`, or set allow_empty to accept a float result");
}

/// QuantizationSpec::limits_of_observer.
void use_all_codes(const Annotations& annotations, QParamTable& qparams) {
  for (const auto& point : annotations.points) {
    const auto found = qparams.find(point.id);
    if (!point.spec.limits_of_observer || found == qparams.end() || !is_libtorchs(found->second)) continue;
    QParams& q = found->second;
    q.quant_min = q.dtype == c10::kByte ? 0 : -128;
    q.quant_max = q.quant_min + 255;
  }
}

}  // namespace

RewriteOptions rewrite_options(const QuantizePt2eOptions& options, const Sample& first) {
  RewriteOptions rewrites;
  rewrites.skip = options.skip_passes;
  rewrites.sample = &first;
  rewrites.dump_dir = options.dump_dir;
  return rewrites;
}

void normalise(RewriteRunner& runner, Quantizer& quantizer) {
  try {
    runner.run_passes(RewritePhase::kFloat);
  } catch (const Error& error) {
    rethrow_with_float_types(runner.model(), error);
  }
  transform_model(runner, quantizer);
}

void annotate_model(PreparedModel& prepared, const Quantizer& quantizer, const QuantizePt2eOptions& options) {
  prepared.view = std::make_unique<GraphView>(*prepared.model, record_shapes(*prepared.model, prepared.first));
  prepared.annotations = quantizer.annotate(*prepared.view);
  quantizer.validate(*prepared.view, prepared.annotations);
  check_supported(*prepared.view, prepared.annotations, options.form);
  check_observers(prepared.annotations, options, prepared.report);
  const auto other_types = drop_other_float_types(*prepared.view, prepared.annotations);
  if (!other_types.empty()) {
    if (prepared.annotations.points.empty() && !options.allow_empty) refuse_float_types(other_types);
    prepared.report.warnings.push_back(float_type_warning(other_types));
  }
  describe_nodes(prepared.report, *prepared.view, prepared.annotations);
  require_points(prepared.annotations, prepared.report, options.allow_empty);
  prepared.computed_weights = find_computed_weights(*prepared.view, prepared.report);
  warn_about_computed_weights(prepared.computed_weights, prepared.report);
}

void use_statistics(PreparedModel& prepared, const StatTable& stats, OutputForm form) {
  prepared.qparams = compute_qparams(prepared.annotations, stats);
  if (form == OutputForm::kReference || form == OutputForm::kLowered) {
    use_all_codes(prepared.annotations, prepared.qparams);
  }
  Report& report = prepared.report;
  report.samples = stats.samples;
  const auto& captured = prepared.model->warnings();
  report.warnings.insert(report.warnings.begin(), captured.begin(), captured.end());
  report.warnings.insert(report.warnings.end(), stats.warnings.begin(), stats.warnings.end());
  warn_about_ranges(prepared.annotations, prepared.qparams, stats, report);
  describe_quantizers(report, prepared.annotations, prepared.qparams, stats);
  const auto absent = find_unmeasured_points(*prepared.view, prepared.annotations, prepared.qparams);
  report.warnings.insert(report.warnings.end(), absent.warnings.begin(), absent.warnings.end());
  report.nodes.clear();
  describe_nodes(report, *prepared.view, absent.present, absent.losses);
}

}  // namespace tsquant
