#include "cli/accuracy_control_options.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "evaluation/evaluate.h"
#include "tsquant/error.h"

namespace tsquant::cli {

namespace {

/// The samples of one item of the validation data with their labels.
DataFile item_of(const DataFile& data, int64_t index) {
  const int64_t batch = data.dataset.batch_size();
  DataFile item{Dataset(
                    1, [&data, index](int64_t) { return data.dataset.get(index); }, batch),
                {},
                {}};
  if (data.labels.defined()) {
    const int64_t begin = index * batch;
    item.labels = data.labels.narrow(0, begin, std::min(batch, data.labels.size(0) - begin));
  }
  return item;
}

/// The metric of `tsquant evaluate`, turned so that higher is better: top1 and agreement as a share between 0 and 1,
/// perplexity with its sign changed.
class Validation {
 public:
  Validation(const DataFile& data, Metric metric, const Model& model) : data_(data), metric_(metric) {
    if (metric != Metric::kAgreement) return;
    ValidationModel runner(model);
    for (int64_t i = 0; i < data.dataset.length(); ++i) expected_.push_back(runner(data.dataset.get(i)));
  }

  ValidationResult operator()(ValidationModel& model, const std::vector<int64_t>& indices) const {
    std::vector<std::vector<at::Tensor>> outputs;
    std::vector<double> values;
    double sum = 0, samples = 0;
    for (int64_t index : indices) {
      const auto run = [&](const Sample& sample) {
        auto output = model(sample);
        outputs.push_back({first_tensor(output)});
        return output;
      };
      const auto expected = [&](const Sample&) { return expected_.at(static_cast<size_t>(index)); };
      const bool compare = metric_ == Metric::kAgreement;
      const Evaluation result =
          evaluate(run, item_of(data_, index), metric_, compare ? RunSample(expected) : RunSample());
      const double value = metric_ == Metric::kPerplexity ? *result.nats : result.value / 100;
      values.push_back(-value);
      sum += value * static_cast<double>(result.samples);
      samples += static_cast<double>(result.samples);
    }
    const double mean = sum / std::max(samples, 1.0);
    // Outputs tell layers apart where the few predictions of a batch do not change; the loss of text is fine enough.
    if (metric_ == Metric::kPerplexity) return ValidationResult(-std::exp(mean), std::move(values));
    return ValidationResult(mean, std::move(outputs));
  }

 private:
  const DataFile& data_;
  Metric metric_;
  std::vector<c10::IValue> expected_;
};

DataFile validation_data(const DataArgs& calibration, const AccuracyArgs& args) {
  DataArgs validation = calibration;
  if (!args.data.empty()) validation.path = args.data;
  if (!args.labels.empty()) validation.options.labels = args.labels;
  validation.options.batch_size = args.batch_size;
  validation.options.limit = args.limit;
  try {
    return open_data(validation);
  } catch (const Error& error) {
    if (args.data.empty()) throw;
    std::string advice = error.advice();
    const size_t option = advice.find("--data");
    if (option != std::string::npos) advice.replace(option, std::string("--data").size(), "--validation-data");
    throw Error(error.code(), error.message(), error.place(), advice);
  }
}

}  // namespace

void add_accuracy_options(CLI::App& app, AccuracyArgs& args) {
  const std::string group = "Accuracy control";
  auto* limit = app.add_option("--max-drop", args.max_drop,
                               "Return operators to float until the metric drops by no more than this, e.g. 0.01: one "
                               "point of top1. Exit code 6 when that cannot be reached; the best model is written");
  limit->group(group);
  const auto add = [&](CLI::Option* option) { option->group(group)->needs(limit)->capture_default_str(); };
  add(app.add_option("--drop-type", args.drop_type, "How the drop is computed")
          ->check(CLI::IsMember({"absolute", "relative"})));
  add(app.add_option("--validation-data", args.data, "Data that the metric is measured on; default: --data"));
  add(app.add_option("--validation-labels", args.labels,
                     "Name of the tensor with the class numbers; default: --labels"));
  add(app.add_option("--validation-metric", args.metric, "top1, agreement with the float model, or perplexity")
          ->check(CLI::IsMember({"top1", "agreement", "perplexity"})));
  add(app.add_option("--validation-batch-size", args.batch_size, "Samples per call of the model")
          ->check(CLI::PositiveNumber));
  add(app.add_option("--validation-limit", args.limit, "Use only the first samples; 0: all")
          ->check(CLI::NonNegativeNumber));
  add(app.add_option("--ranking-subset-size", args.ranking_subset_size,
                     "Validation batches that rank the operators; default: --subset-size"));
  add(app.add_option("--ranking-workers", args.ranking_workers, "Operators ranked at the same time"));
  add(app.add_option("--max-iterations", args.advanced.max_num_iterations, "Groups of operators tried at most"));
  add(app.add_option("--restore-mode", args.restore_mode, "What is returned to float")
          ->check(CLI::IsMember({"activations_and_weights", "only_activations"})));
  add(app.add_option("--intermediate-dir", args.advanced.intermediate_model_dir,
                     "Folder for the fully quantized model and the best one so far"));
  add(app.add_flag("--tune", args.advanced.tune_hyperparams, "Search the options of quantization first"));
  add(app.add_flag("--convert-to-mixed", args.advanced.convert_to_mixed_preset, "Try the mixed preset first"));
}

void check_max_drop(const AccuracyArgs& args) {
  if (!args.max_drop || *args.max_drop <= 1) return;
  // Perplexity is no share; an absolute drop of it may be any number.
  if (args.metric == "perplexity" && args.drop_type == "absolute") return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("a drop of {:g} would allow any result", *args.max_drop),
              "--max-drop", "give a share between 0 and 1, such as 0.01 for one percent");
}

AccuracyControlResult quantize_within_limit(Model& model, Quantizer& quantizer, const Dataset& calibration,
                                            const DataArgs& calibration_args, const AccuracyArgs& args,
                                            const QuantizePt2eOptions& options) {
  AccuracyControlOptions control;
  control.max_drop = *args.max_drop;
  control.drop_type = args.drop_type == "relative" ? DropType::kRelative : DropType::kAbsolute;
  control.advanced = args.advanced;
  control.advanced.ranking_subset_size = args.ranking_subset_size;
  control.advanced.num_ranking_workers = args.ranking_workers;
  if (args.restore_mode == "only_activations") control.advanced.restore_mode = RestoreMode::kOnlyActivations;
  const DataFile data = validation_data(calibration_args, args);
  const Validation validation(data, metric_from_string(args.metric), model);
  const auto function = [&](ValidationModel& runner, const Dataset&, const std::vector<int64_t>& indices) {
    return validation(runner, indices);
  };
  return quantize_pt2e_with_accuracy_control(model, quantizer, calibration, data.dataset, function, control, options);
}

std::string accuracy_json(const AccuracyControlResult& result) {
  nlohmann::ordered_json json{{"metric_float", result.initial_metric},
                              {"metric_quantized", result.quantized_metric},
                              {"metric_result", result.final_metric},
                              {"drop", result.drop},
                              {"limit_met", result.limit_met},
                              {"reverted", result.reverted},
                              {"tuned", result.tuned},
                              {"ranking_workers", result.ranking_workers},
                              {"quantizations", result.quantizations},
                              {"seconds", result.seconds},
                              {"steps", nlohmann::ordered_json::array()}};
  for (const auto& step : result.steps) {
    json["steps"].push_back({{"operators", step.operators},
                             {"quantizers", step.quantizers},
                             {"score", step.score},
                             {"metric", step.metric},
                             {"drop", step.drop},
                             {"kept", step.kept}});
  }
  return json.dump();
}

void require_limit(const AccuracyControlResult& result, const AccuracyArgs& args, const std::string& output) {
  if (result.limit_met) return;
  throw Error(ErrorCode::kAccuracyLimit,
              fmt::format("the {} drops by {:.6g} ({}), {:.6g} more than allowed", args.metric, result.drop,
                          args.drop_type, result.drop - *args.max_drop),
              output,
              std::string("the best model found was written; allow a larger drop") +
                  (args.advanced.tune_hyperparams ? "" : " or try --tune"));
}

}  // namespace tsquant::cli
