#include "flows/prepared_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "algorithms/bias_correction.h"
#include "algorithms/fast_bias_correction.h"
#include "calibration/fingerprint.h"
#include "calibration/rank_agreement.h"
#include "calibration/statistics_cache.h"
#include "evaluation/compare.h"
#include "flows/annotated_model.h"
#include "flows/batch_warning.h"
#include "flows/bias_notes.h"
#include "flows/build_report.h"
#include "flows/check_options.h"
#include "flows/check_supported.h"
#include "flows/computed_weights.h"
#include "flows/finish_rewrites.h"
#include "flows/float_biases.h"
#include "flows/float_weights.h"
#include "flows/phase_clock.h"
#include "flows/pre_annotation_algorithms.h"
#include "flows/record_options.h"
#include "flows/unmeasured_points.h"
#include "lowering/lowering.h"
#include "passes/graph_dumps.h"
#include "passes/rewrite_runner.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

CalibrationOptions calibration_options(const QuantizePt2eOptions& options, const Dataset& dataset,
                                       std::map<std::string, std::string> settings) {
  CalibrationOptions calibration;
  calibration.settings = std::move(settings);
  calibration.subset_size = options.subset_size;
  calibration.batchwise = options.batchwise_statistics.value_or(dataset.batch_size() > 1);
  calibration.inplace = options.inplace_statistics;
  calibration.progress = options.progress;
  calibration.activations_range_estimator = options.activations_range_estimator_params;
  calibration.weights_range_estimator = options.weights_range_estimator_params;
  calibration.exchange = options.exchange;
  if (!(options.statistics_in + options.statistics_out + options.statistics_path).empty()) {
    calibration.cache = std::make_shared<StatisticsCache>(
        StatisticsCache::Paths{options.statistics_in, options.statistics_out, options.statistics_path},
        options.exchange);
  }
  return calibration;
}

/// Marks the operators whose points could not be inserted.
void apply_refusals(Report& report, const std::vector<Refusal>& refusals) {
  std::unordered_map<std::string, const Refusal*> last;
  for (const auto& refusal : refusals) last[refusal.node] = &refusal;
  for (auto& node : report.nodes) {
    const auto refusal = last.find(node.name);
    if (refusal == last.end()) continue;
    node.quantized = false;
    node.code = refusal->second->code;
    node.reason = refusal->second->reason;
  }
}

void note_biases(Report& report, const std::map<std::string, std::string>& notes,
                 const std::set<std::string>& reverted) {
  for (auto& node : report.nodes) {
    const auto note = notes.find(node.name);
    if (note != notes.end() && node.quantized && !reverted.count(node.name)) node.bias = note->second;
  }
}

void convert_form(RewriteRunner& runner, const QuantizePt2eOptions& options, bool integer_representation,
                  const Sample& probe, Report& report) {
  runner.run("duplicate_dequantize", duplicate_dequantize);
  if (options.form == OutputForm::kDecomposed) runner.run("to_decomposed_form", to_decomposed_form);
  if (options.form == OutputForm::kFakeQuantize) runner.run("to_fake_quantize_form", to_fake_quantize_form);
  if (integer_representation) runner.run("to_integer_representation", to_integer_representation);
  if (options.form == OutputForm::kLowered) lower_to_engine(runner, report.engine, options.cost, probe, report);
}

/// Annotations without some points. Unified groups keep the members that stay.
Annotations without_points(const Annotations& annotations, const std::set<int64_t>& removed,
                           const std::set<std::string>& reverted) {
  Annotations rest = annotations;
  remove_points(rest, removed);
  for (const auto& name : reverted) {
    rest.refusals.push_back({name, "reverted", "accuracy control returned it to float"});
  }
  return rest;
}

QuantizedModel insert_and_convert(RewriteRunner& runner, const GraphView& view, const Annotations& annotations,
                                  const PreparedModel& prepared, Report report, const QuantizePt2eOptions& options) {
  const SingleThreadGuard deterministic;
  const Sample probe = with_quantized_inputs(prepared.first, prepared.io);
  PhaseClock clock(report);
  clock.start("convert");
  name_phase_in_errors(clock, [&] {
    std::vector<Refusal> refusals;
    runner.run("insert_qdq", [&](RewriteContext& ctx) {
      return insert_qdq(ctx.model, view, annotations, prepared.qparams, options.fold_quantize, refusals);
    });
    apply_refusals(report, refusals);
    runner.run_passes(RewritePhase::kInsertion);
    if (!prepared.io.inputs.empty() || prepared.io.output) {
      runner.run("quantize_io", [&](RewriteContext& ctx) { return quantize_io(ctx.model, prepared.io); });
    }
    if (!prepared.custom_modules.empty()) {
      runner.run("connect_custom_modules", [&](RewriteContext& ctx) {
        return connect_custom_modules(ctx.model, prepared.custom_modules, options.form == OutputForm::kLowered);
      });
    }
    convert_form(runner, options, prepared.integer_representation, probe, report);
    explain_kernels(prepared.computed_weights, report);
    finish_rewrites(runner);
    report.quantized_bytes = stored_bytes(runner.model());
    auto larger = warn_if_larger(runner.model(), report.float_bytes, report.quantized_bytes);
    if (larger && options.fold_quantize) report.warnings.push_back(std::move(*larger));
  });
  clock.stop();
  report.rewrites.insert(report.rewrites.end(), runner.records().begin(), runner.records().end());
  return {runner.model(), std::move(report), probe};
}

/// The phases up to quantizer parameters and corrected biases.
void prepare(PreparedModel& prepared, PhaseClock& clock, Model& model, Quantizer& quantizer,
             const Dataset& calibration_dataset, const QuantizePt2eOptions& options) {
  Report& report = prepared.report;
  clock.start("passes");
  prepared.model = std::make_unique<Model>(options.do_copy ? model.clone() : model);
  report.float_bytes = stored_bytes(*prepared.model);
  prepared.first = calibration_dataset.get(0);
  if (!options.dump_dir.empty()) start_dumps(options.dump_dir, *prepared.model);
  RewriteRunner runner(*prepared.model, rewrite_options(options, prepared.first));
  normalise(runner, quantizer);
  CalibrationOptions calibration =
      calibration_options(options, calibration_dataset, deciding_options(quantizer, options));
  run_pre_annotation_algorithms(runner, report, clock, calibration_dataset, options, calibration);

  clock.start("annotate");
  annotate_model(prepared, quantizer, options);

  clock.start("calibrate");
  const bool fast = options.fast_bias_correction.value_or(false);
  FastBiasCorrection fast_correction(*prepared.model, *prepared.view, prepared.annotations,
                                     options.bias_correction_params);
  if (fast) calibration.extra_taps = fast_correction.taps();
  use_statistics(prepared,
                 calibrate(*prepared.model, *prepared.view, prepared.annotations, calibration_dataset, calibration),
                 options.form);
  warn_about_batches(quantizer, calibration.batchwise, report);
  prepared.original_biases = read_biases(*prepared.model, *prepared.view, prepared.annotations);

  if (options.fast_bias_correction) {
    clock.start("bias_correction");
    std::vector<BiasRecord> records;
    int64_t corrected = 0;
    runner.run("correct_biases", [&](RewriteContext& ctx) {
      records = fast ? fast_correction.apply(ctx.model, prepared.qparams)
                     : bias_correction(ctx.model, *prepared.view, prepared.annotations, prepared.qparams,
                                       calibration_dataset, options.bias_correction_params, calibration);
      corrected = std::count_if(records.begin(), records.end(), [](const auto& r) { return r.corrected; });
      return corrected > 0;
    });
    prepared.bias_notes = bias_notes(*prepared.view, prepared.annotations, records);
    note_biases(report, prepared.bias_notes, {});
    report.options["biases_corrected"] = fmt::format("{} of {}", corrected, records.size());
  }
  clock.stop();
  report.rewrites = runner.records();
}

}  // namespace

PreparedModel prepare_model(Model& model, Quantizer& quantizer, const Dataset& calibration_dataset,
                            const QuantizePt2eOptions& options) {
  check_options(options, calibration_dataset);
  require_float(model);
  const SingleThreadGuard deterministic;
  PreparedModel prepared;
  record_options(prepared.report, quantizer, options, calibration_dataset);
  prepared.report.engine = checked_engine(options);
  PhaseClock clock(prepared.report);
  name_phase_in_errors(clock, [&] { prepare(prepared, clock, model, quantizer, calibration_dataset, options); });
  return prepared;
}

QuantizedModel convert_prepared(PreparedModel prepared, const QuantizePt2eOptions& options) {
  RewriteRunner runner(*prepared.model, rewrite_options(options, prepared.first));
  auto result =
      insert_and_convert(runner, *prepared.view, prepared.annotations, prepared, std::move(prepared.report), options);
  // Settings that do not touch statistics could still make the ranks' models differ.
  if (options.exchange) require_equal_ranks(*options.exchange, {{"quantized model", fingerprint(result.model)}});
  return result;
}

QuantizedModel convert_without(const PreparedModel& prepared, const QuantizePt2eOptions& options,
                               const std::set<int64_t>& removed_points,
                               const std::set<std::string>& reverted_operators) {
  Model model = prepared.model->clone();
  RewriteRunner runner(model, rewrite_options(options, prepared.first));
  if (!reverted_operators.empty()) {
    runner.run("restore_biases", [&](RewriteContext& ctx) {
      return restore_biases(ctx.model, prepared.original_biases, reverted_operators);
    });
  }
  // Restoring a bias may edit the graph, so the view that the quantizers are inserted by is built afterwards.
  const GraphView view(model, record_shapes(model, prepared.first));
  const Annotations annotations = without_points(prepared.annotations, removed_points, reverted_operators);
  Report report = prepared.report;
  report.nodes.clear();
  const auto absent = find_unmeasured_points(view, annotations, prepared.qparams);
  describe_nodes(report, view, absent.present, absent.losses);
  note_biases(report, prepared.bias_notes, reverted_operators);
  auto& records = report.quantizers;
  records.erase(std::remove_if(records.begin(), records.end(),
                               [&](const QuantizerRecord& record) { return removed_points.count(record.id) > 0; }),
                records.end());
  return insert_and_convert(runner, view, annotations, prepared, std::move(report), options);
}

}  // namespace tsquant
