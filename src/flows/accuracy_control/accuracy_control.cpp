#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include "flows/accuracy_control/evaluator.h"
#include "flows/accuracy_control/quantizer_groups.h"
#include "flows/accuracy_control/ranker.h"
#include "flows/accuracy_control/restorer.h"
#include "flows/accuracy_control/tuner.h"
#include "flows/phase_clock.h"
#include "flows/prepared_model.h"
#include "graph/free_graphs.h"
#include "io/output_target.h"
#include "options/check_fields.h"
#include "options/tables.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"
#include "tsquant/quantize_with_accuracy_control.h"

namespace tsquant {

namespace {

/// Options that could have no effect here.
void check_combination(const AccuracyControlOptions& control, const Quantizer& quantizer,
                       const QuantizePt2eOptions& options) {
  if (options.exchange) {
    throw Error(ErrorCode::kInvalidArgument, "accuracy control does not run across processes", "exchange",
                "leave exchange out here, or use quantize_pt2e without a limit");
  }
  if (!control.advanced_accuracy_restorer_parameters.convert_to_mixed_preset) return;
  const std::string option = "convert_to_mixed_preset";
  bool has_presets = false;
  try {
    has_presets = quantizer.with_option("preset", "mixed") != nullptr;
  } catch (const Error& error) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is set, but {}", option, error.message()), option,
                "leave it out, or quantize to integers");
  }
  if (has_presets) return;
  throw Error(ErrorCode::kInvalidArgument, option + " is set, but only OpenVINOQuantizer has presets", option,
              "leave it out, or use OpenVINOQuantizer");
}

void check_control(const AccuracyControlOptions& control, const Dataset& data, const ValidationFn& function) {
  check_limits(control);
  const auto& folder = control.advanced_accuracy_restorer_parameters.intermediate_model_dir;
  if (!folder.empty()) check_output_folder(folder, "intermediate models");
  if (!function) throw Error(ErrorCode::kInvalidArgument, "no validation function was given", "validation_fn");
  if (data.length() == 0) {
    throw Error(ErrorCode::kDataset, "the validation data set is empty", "validation_dataset",
                "give at least one sample");
  }
}

/// Which options quantize the model, and what came of it.
struct Candidate {
  TunedSettings settings;
  std::unique_ptr<PreparedModel> prepared;
  BestModel best;
  MetricResults results;
};

class Flow {
 public:
  Flow(Model& model, Quantizer& quantizer, const Dataset& calibration, const Dataset& validation,
       const ValidationFn& function, const AccuracyControlOptions& control, const QuantizePt2eOptions& options)
      : model_(model),
        calibration_(calibration),
        control_(control),
        evaluator_(validation, function, control.advanced_accuracy_restorer_parameters.ranking_fn),
        validation_samples_(validation.length()) {
    start_.options = options;
    start_.options.do_copy = true;
    start_.quantizer = std::shared_ptr<Quantizer>(std::shared_ptr<void>(), &quantizer);  // the caller's
  }

  AccuracyControlResult run() {
    const auto begin = std::chrono::steady_clock::now();
    Candidate candidate = quantize(start_);
    drop_dumps(candidate.settings);
    save(candidate.best.model, "intermediate_model.pt");
    reference_ = validate(model_);
    if (!std::isfinite(reference_.metric)) {
      throw Error(ErrorCode::kInvalidArgument, "the validation function returned no finite metric for the float model",
                  "validation_fn", "check the validation data and the model");
    }
    limit_ = {reference_.metric, control_.max_drop, control_.drop_type};
    measure(candidate);
    parts_.initial_metric = reference_.metric;
    parts_.quantized_metric = candidate.results.metric;
    save(candidate.best.model, "best_model.pt");
    if (!limit_.met(candidate.best.metric)) convert_to_mixed_preset(candidate);
    if (!limit_.met(candidate.best.metric)) tune_options(candidate);
    if (!limit_.met(candidate.best.metric)) restore(candidate);
    seconds("total") = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return finish(std::move(candidate));
  }

 private:
  /// Adds the time of its scope to one entry of the result.
  class Timer {
   public:
    explicit Timer(double& seconds) : seconds_(seconds), begin_(std::chrono::steady_clock::now()) {}
    ~Timer() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

   private:
    double& seconds_;
    std::chrono::steady_clock::time_point begin_;
  };

  /// The parts of the result that are known before its model is.
  struct Parts {
    double initial_metric = 0, quantized_metric = 0;
    std::vector<RevertedGroup> steps;
    std::map<std::string, std::string> tuned;
    int64_t workers = 1, quantizations = 0;
    std::map<std::string, double> seconds;
  };
  double& seconds(const std::string& phase) { return parts_.seconds[phase]; }

  Candidate quantize(const TunedSettings& settings) {
    const Timer timer(seconds("quantize"));
    ++parts_.quantizations;
    auto prepared =
        std::make_unique<PreparedModel>(prepare_model(model_, *settings.quantizer, calibration_, settings.options));
    const std::string& engine = prepared->report.engine;
    if (!engine.empty() && engine != "tsquant" && !guard_) guard_.emplace(engine);
    const auto begin = std::chrono::steady_clock::now();
    QuantizedModel quantized = convert_without(*prepared, settings.options, {}, {});
    conversion_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return {settings, std::move(prepared), {std::move(quantized), 0, {}}, {}};
  }

  MetricResults validate(const Model& model) {
    const Timer timer(seconds("validate"));
    return evaluator_.validate(model);
  }

  void measure(Candidate& candidate) {
    candidate.results = validate(candidate.best.model.model);
    candidate.best.metric = candidate.results.metric;
  }

  int64_t ranking_subset_size() const {
    return control_.advanced_accuracy_restorer_parameters.ranking_subset_size.value_or(start_.options.subset_size);
  }

  /// Statistics files belong to the options that were given.
  static void drop_statistics_files(TunedSettings& settings) {
    settings.options.statistics_in.clear();
    settings.options.statistics_out.clear();
  }

  /// Dumped graphs show the first quantization, of all operators, not one of many variants.
  static void drop_dumps(TunedSettings& settings) { settings.options.dump_dir.clear(); }

  static void discard(Candidate candidate) {
    free_graphs(candidate.best.model.model);
    free_graphs(*candidate.prepared->model);
  }

  bool replace_if_better(Candidate& candidate, Candidate other) {
    if (other.results.metric <= candidate.results.metric) {
      discard(std::move(other));
      return false;
    }
    discard(std::exchange(candidate, std::move(other)));
    save(candidate.best.model, "best_model.pt");
    return true;
  }

  void convert_to_mixed_preset(Candidate& candidate) {
    if (!control_.advanced_accuracy_restorer_parameters.convert_to_mixed_preset) return;
    if (candidate.settings.quantizer->describe().options.at("preset") == "mixed") return;
    TunedSettings settings = candidate.settings;
    settings.quantizer = settings.quantizer->with_option("preset", "mixed");
    drop_statistics_files(settings);
    Candidate mixed = quantize(settings);
    measure(mixed);
    if (replace_if_better(candidate, std::move(mixed))) parts_.tuned["preset"] = "mixed";
  }

  void tune_options(Candidate& candidate) {
    if (!control_.advanced_accuracy_restorer_parameters.tune_hyperparams) return;
    const Timer timer(seconds("tune"));
    const auto subset = evaluator_.select_subset(reference_, candidate.results, ranking_subset_size());
    TunedSettings settings = candidate.settings;
    drop_statistics_files(settings);
    const auto score = [&](const TunedSettings& changed) -> double {
      Candidate tried = quantize(changed);
      const double value = evaluator_.score(tried.best.model.model, reference_, subset);
      discard(std::move(tried));
      return value;
    };
    const double start = evaluator_.score(candidate.best.model.model, reference_, subset);
    const auto choices = tune(settings, start, parameter_grids(settings), score);
    if (choices.empty()) return;
    Candidate tuned = quantize(settings);
    measure(tuned);
    if (!replace_if_better(candidate, std::move(tuned))) return;
    for (const auto& choice : choices) parts_.tuned[choice.parameter] = choice.value;
  }

  void restore(Candidate& candidate) {
    const VariantMaker maker(*candidate.prepared, candidate.settings.options,
                             control_.advanced_accuracy_restorer_parameters.restore_mode);
    const auto& prepared = *candidate.prepared;
    groups_ = find_quantizer_groups(*prepared.view, prepared.annotations, prepared.qparams);
    RestoreSettings settings;
    settings.max_num_iterations = control_.advanced_accuracy_restorer_parameters.max_num_iterations;
    settings.ranking_subset_size = ranking_subset_size();
    settings.progress = start_.options.progress;
    settings.workers = control_.advanced_accuracy_restorer_parameters.num_ranking_workers.value_or(
        default_ranking_workers(conversion_seconds_, candidate.results.seconds, validation_samples_,
                                ranking_subset_size(), candidate.best.model.report.quantized_bytes, this_machine()));
    settings.on_better = [this](const BestModel& best) { save(best.model, "best_model.pt"); };
    parts_.workers = settings.workers;
    auto outcome =
        restore_accuracy(maker, groups_, evaluator_, limit_, reference_, candidate.results, settings, candidate.best);
    if (outcome.steps.empty()) return;
    parts_.steps = std::move(outcome.steps);
    seconds("rank") += outcome.rank_seconds;
    seconds("restore") += outcome.restore_seconds;
  }

  void save(const QuantizedModel& model, const std::string& name) {
    const auto& folder = control_.advanced_accuracy_restorer_parameters.intermediate_model_dir;
    if (folder.empty()) return;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) {
      throw Error(ErrorCode::kIo, "cannot make the folder: " + error.message(), folder,
                  "choose another intermediate_model_dir");
    }
    model.save(folder + "/" + name);
  }

  AccuracyControlResult finish(Candidate candidate) {
    BestModel& best = candidate.best;
    AccuracyControlResult end{std::move(best.model)};
    end.initial_metric = parts_.initial_metric;
    end.quantized_metric = parts_.quantized_metric;
    end.final_metric = best.metric;
    end.drop = limit_.drop(best.metric);
    end.limit_met = limit_.met(best.metric);
    end.steps = std::move(parts_.steps);
    for (const auto* group : best.reverted) {
      end.reverted.insert(end.reverted.end(), group->operators.begin(), group->operators.end());
    }
    end.tuned = std::move(parts_.tuned);
    end.ranking_workers = parts_.workers;
    end.quantizations = parts_.quantizations;
    end.seconds = std::move(parts_.seconds);
    describe(end);
    return end;
  }

  void describe(AccuracyControlResult& end) const {
    Report& report = end.quantized.report;
    const std::string type = word_of(words<DropType>(), control_.drop_type);
    report.options["accuracy_limit"] = fmt::format("{} {}", control_.max_drop, type);
    report.options["accuracy_limit_met"] = end.limit_met ? "true" : "false";
    report.options["metric_float"] = fmt::format("{}", end.initial_metric);
    report.options["metric_quantized"] = fmt::format("{}", end.final_metric);
    for (const auto& [name, value] : end.tuned) report.options["tuned_" + name] = value;
    if (control_.advanced_accuracy_restorer_parameters.tune_hyperparams &&
        start_.quantizer->describe().options.count("preset") == 0) {
      report.warnings.emplace_back(
          "tune_hyperparams did not search the propagation rule and the preset: they belong to OpenVINOQuantizer");
    }
    if (!end.limit_met) {
      report.warnings.push_back(fmt::format("the accuracy limit was missed: the drop is {:.6g}, {} {} was asked for",
                                            end.drop, control_.max_drop, type));
    }
    for (const auto& [name, time] : end.seconds) {
      if (name != "quantize" && name != "total") {
        report.phases.push_back({"accuracy_" + name, time, peak_resident_bytes()});
      }
    }
  }

  Model& model_;
  const Dataset& calibration_;
  const AccuracyControlOptions& control_;
  Evaluator evaluator_;
  int64_t validation_samples_;
  TunedSettings start_;
  MetricResults reference_;
  DropLimit limit_;
  c10::optional<EngineGuard> guard_;
  double conversion_seconds_ = 0;
  Parts parts_;
  std::vector<QuantizerGroup> groups_;
};

}  // namespace

AccuracyControlResult quantize_pt2e_with_accuracy_control(
    Model& model, Quantizer& quantizer, const Dataset& calibration_dataset, const Dataset& validation_dataset,
    const ValidationFn& validation_fn, const AccuracyControlOptions& control, const QuantizePt2eOptions& options) {
  check_control(control, validation_dataset, validation_fn);
  check_combination(control, quantizer, options);
  auto result = Flow(model, quantizer, calibration_dataset, validation_dataset, validation_fn, control, options).run();
  if (!options.do_copy) model = result.quantized.model;
  return result;
}

}  // namespace tsquant
