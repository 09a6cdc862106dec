#include "tsquant/quantize_pt2e.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "algorithms/fast_bias_correction.h"
#include "calibration/calibrator.h"
#include "flows/bitwise_equal.h"
#include "flows/build_report.h"
#include "flows/phase_clock.h"
#include "lowering/lowering.h"
#include "passes/passes.h"
#include "report/compare.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

const char* form_name(OutputForm form) {
  switch (form) {
    case OutputForm::kDecomposed:
      return "decomposed";
    case OutputForm::kReference:
      return "reference";
    case OutputForm::kFakeQuantize:
      return "fake_quantize";
    case OutputForm::kLowered:
      return "lowered";
  }
  return "unknown";
}

/// The engine that the options ask for, checked before the long phases start; empty when the form needs none.
std::string checked_engine(const QuantizePt2eOptions& options) {
  if (options.form != OutputForm::kLowered) return "";
  const auto engines = available_engines();
  const std::string engine = options.engine.empty() ? default_engine() : options.engine;
  if (std::find(engines.begin(), engines.end(), engine) == engines.end()) {
    throw Error(ErrorCode::kBackendUnavailable, fmt::format("unknown or unavailable engine \"{}\"", engine), "engine",
                fmt::format("engines of this build: {}", fmt::join(engines, ", ")));
  }
  return engine;
}

void check_options(const QuantizePt2eOptions& options, const Dataset& dataset) {
  if (options.subset_size < 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("subset_size is {}", options.subset_size), "subset_size",
                "use at least 1 sample; 300 is the default");
  }
  if (options.fast_bias_correction && !*options.fast_bias_correction) {
    throw Error(ErrorCode::kInvalidArgument, "the accurate bias correction is not available", "fast_bias_correction",
                "use true (fast) or none");
  }
  if (!options.engine.empty() && options.form != OutputForm::kLowered) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("an engine was named, but the {} form runs on none", form_name(options.form)), "engine",
                "ask for the lowered form or leave the engine out");
  }
  if (dataset.length() == 0) {
    throw Error(ErrorCode::kDataset, "the calibration data set is empty", "calibration_dataset",
                "give at least one sample");
  }
}

void record_options(Report& report, const QuantizePt2eOptions& options, const Dataset& dataset) {
  report.version = TSQUANT_VERSION;
  report.form = form_name(options.form);
  report.options["subset_size"] = std::to_string(options.subset_size);
  report.options["fold_quantize"] = options.fold_quantize ? "true" : "false";
  report.options["data_length"] = std::to_string(dataset.length());
  report.options["batch_size"] = std::to_string(dataset.batch_size());
  report.options["skip_passes"] = fmt::format("{}", fmt::join(options.skip_passes, ","));
}

void require_points(const Annotations& annotations, const Report& report, bool allow_empty) {
  if (!annotations.points.empty() || allow_empty) return;
  const std::string reasons = grouped_reasons(report);
  throw Error(ErrorCode::kUnsupportedModel,
              "nothing in this model could be quantized" + (reasons.empty() ? "" : ": " + reasons), "forward",
              "see `tsquant inspect`, or set allow_empty to accept a float result");
}

/// Marks the operators whose points could not be inserted.
void apply_refusals(Report& report, const std::vector<Refusal>& refusals) {
  for (const auto& refusal : refusals) {
    for (auto& node : report.nodes) {
      if (node.name != refusal.node) continue;
      node.quantized = false;
      node.code = refusal.code;
      node.reason = refusal.reason;
    }
  }
}

void convert_form(Model& model, const QuantizePt2eOptions& options, const std::string& engine, Report& report) {
  duplicate_dequantize(model);
  if (options.form == OutputForm::kDecomposed) to_decomposed_form(model);
  if (options.form == OutputForm::kFakeQuantize) to_fake_quantize_form(model);
  if (options.form == OutputForm::kLowered) lower_to_engine(model, engine, report);
}

bool is_libtorch_engine(const std::string& engine) { return !engine.empty() && engine != "tsquant"; }

}  // namespace

QuantizedModel quantize_pt2e(Model& model, Quantizer& quantizer, const Dataset& calibration_dataset,
                             const QuantizePt2eOptions& options) {
  check_options(options, calibration_dataset);
  Report report;
  record_options(report, options, calibration_dataset);
  report.engine = checked_engine(options);
  PhaseClock clock(report);

  clock.start("passes");
  Model work = options.do_copy ? model.clone() : model;
  report.float_bytes = stored_bytes(work);
  const Sample first = calibration_dataset.get(0);
  PipelineOptions pipeline;
  pipeline.skip = options.skip_passes;
  pipeline.sample = &first;
  run_passes(work, pipeline);
  quantizer.transform_for_annotation(work);

  clock.start("annotate");
  const GraphView view(work, record_shapes(work, first));
  const Annotations annotations = quantizer.annotate(view);
  quantizer.validate(view, annotations);
  describe_nodes(report, view, annotations);
  require_points(annotations, report, options.allow_empty);

  clock.start("calibrate");
  CalibrationOptions calibration;
  calibration.subset_size = options.subset_size;
  calibration.batchwise = options.batchwise_statistics.value_or(calibration_dataset.batch_size() > 1);
  calibration.progress = options.progress;
  calibration.activations_range_estimator = options.activations_range_estimator_params;
  calibration.weights_range_estimator = options.weights_range_estimator_params;
  FastBiasCorrection bias_correction(work, view, annotations);
  if (options.fast_bias_correction) calibration.extra_taps = bias_correction.taps();
  const StatTable stats = calibrate(work, view, annotations, calibration_dataset, calibration);
  const QParamTable qparams = compute_qparams(annotations, stats);
  report.samples = stats.samples;
  report.warnings = work.warnings();
  report.warnings.insert(report.warnings.end(), stats.warnings.begin(), stats.warnings.end());
  describe_quantizers(report, annotations, qparams, stats);

  if (options.fast_bias_correction) {
    clock.start("bias_correction");
    const auto records = bias_correction.apply(work, qparams, options.bias_correction_params);
    const auto corrected = std::count_if(records.begin(), records.end(), [](const auto& r) { return r.corrected; });
    report.options["biases_corrected"] = fmt::format("{} of {}", corrected, records.size());
  }

  clock.start("convert");
  std::vector<Refusal> refusals;
  insert_qdq(work, view, annotations, qparams, options.fold_quantize, refusals);
  apply_refusals(report, refusals);
  pipeline.phase = PassPhase::kAfterInsertion;
  run_passes(work, pipeline);
  convert_form(work, options, report.engine, report);
  stamp_value_names(work);
  drop_unread(work);
  report.quantized_bytes = stored_bytes(work);
  clock.stop();
  return {std::move(work), std::move(report), first};
}

void QuantizedModel::save(const std::string& path) const {
  std::unordered_map<std::string, std::string> extra{{"tsquant_report.json", report.to_json(/*per_channel=*/false)},
                                                     {"tsquant_form", report.form},
                                                     {"tsquant_engine", report.engine}};
  const std::string candidate = fmt::format("{}.{}.check", path, getpid());
  model.save(candidate, extra);
  try {
    c10::optional<EngineGuard> guard;
    if (is_libtorch_engine(report.engine)) guard.emplace(report.engine);
    const Model reloaded = Model::load(candidate);
    if (!bitwise_equal(model.run(probe), reloaded.run(probe))) {
      throw Error(ErrorCode::kInternal, "the saved model computes something else than the model in memory", path,
                  "please report this with the model");
    }
    std::filesystem::rename(candidate, path);
  } catch (const std::filesystem::filesystem_error& error) {
    std::remove(candidate.c_str());
    throw Error(ErrorCode::kIo, error.what(), path);
  } catch (...) {
    std::remove(candidate.c_str());
    throw;
  }
}

}  // namespace tsquant
