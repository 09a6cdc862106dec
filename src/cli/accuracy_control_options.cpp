#include "cli/accuracy_control_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/option_flags.h"
#include "evaluation/evaluate.h"
#include "options/tables.h"
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
  const auto flags = add_flags(app, args.control);
  CLI::Option* limit = app.get_option("--max-drop");
  limit->default_str("");  // without the flag there is no limit
  args.max_drop = limit;
  for (CLI::Option* flag : flags) {
    flag->group(kAccuracyGroup);
    if (flag != limit) flag->needs(limit);
  }
  const auto add = [&](CLI::Option* flag) { args.validation_flags.push_back(flag->group(kAccuracyGroup)); };
  add(app.add_option("--validation-data", args.data, "Data that the metric is measured on; default: --data"));
  add(app.add_option("--validation-labels", args.labels,
                     "Name of the tensor with the class numbers; default: --labels"));
  add(app.add_option("--validation-metric", args.metric, "top1, agreement with the float model, or perplexity")
          ->check(CLI::IsMember({"top1", "agreement", "perplexity"}))
          ->capture_default_str());
  add(app.add_option("--validation-batch-size", args.batch_size, "Samples per call of the model")
          ->check(CLI::PositiveNumber)
          ->capture_default_str());
  add(app.add_option("--validation-limit", args.limit, "Use only the first samples; 0: all")
          ->check(CLI::NonNegativeNumber)
          ->capture_default_str());
}

void check_accuracy_options(const AccuracyArgs& args) {
  for (const CLI::Option* flag : args.validation_flags) {
    if (flag->count() == 0 || args.has_limit()) continue;
    throw Error(ErrorCode::kInvalidArgument, "validation without a limit", flag->get_name(),
                "give --max-drop, or accuracy_control in a configuration");
  }
  const double max_drop = args.control.max_drop;
  if (!args.has_limit() || max_drop <= 1) return;
  // Perplexity is no share; an absolute drop of it may be any number.
  if (args.metric == "perplexity" && args.control.drop_type == DropType::kAbsolute) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("a drop of {:g} would allow any result", max_drop),
              args.in_config ? "accuracy_control.max_drop" : "--max-drop",
              "give a share between 0 and 1, such as 0.01 for one percent");
}

AccuracyControlResult quantize_within_limit(Model& model, Quantizer& quantizer, const Dataset& calibration,
                                            const DataArgs& calibration_args, const AccuracyArgs& args,
                                            const QuantizePt2eOptions& options) {
  const DataFile data = validation_data(calibration_args, args);
  const Validation validation(data, metric_from_string(args.metric), model);
  const auto function = [&](ValidationModel& runner, const Dataset&, const std::vector<int64_t>& indices) {
    return validation(runner, indices);
  };
  return quantize_pt2e_with_accuracy_control(model, quantizer, calibration, data.dataset, function, args.control,
                                             options);
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
                          word_of(words<DropType>(), args.control.drop_type), result.drop - args.control.max_drop),
              output,
              std::string("the best model found was written; allow a larger drop") +
                  (args.control.advanced_accuracy_restorer_parameters.tune_hyperparams ? "" : " or try --tune"));
}

}  // namespace tsquant::cli
