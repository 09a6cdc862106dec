#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/accuracy_control_options.h"
#include "cli/algorithm_options.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flag_names.h"
#include "cli/more_data.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/quantizer_choice.h"
#include "flows/option_names.h"
#include "tsquant/quantize.h"
#include "tsquant/quantize_config.h"

namespace tsquant::cli {

namespace {

struct QuantizeArgs {
  std::string model, output, config, form = "decomposed", cost = "table", json;
  DataArgs data;
  std::vector<std::string> more_data;
  QuantizerArgs quantizer;
  AccuracyArgs accuracy;
  AlgorithmArgs algorithms;
  QuantizePt2eOptions options;
  bool no_fold = false, refuse_training = false;
  std::vector<std::string> warnings;
};

void add_warnings(const QuantizeArgs& args, Report& report) {
  report.warnings.insert(report.warnings.end(), args.warnings.begin(), args.warnings.end());
}

void run_within_limit(const QuantizeArgs& args, Model& model, Quantizer& quantizer, const Dataset& calibration) {
  auto result = quantize_within_limit(model, quantizer, calibration, args.data, args.accuracy, args.options);
  stop_if_interrupted();
  add_warnings(args, result.quantized.report);
  result.quantized.save(args.output);
  if (args.json.empty()) {
    std::cout << result.quantized.report.summary() << result.summary() << "wrote " << args.output << std::endl;
  } else {
    auto json = nlohmann::ordered_json::parse(result.quantized.report.to_json());
    json["accuracy_control"] = nlohmann::ordered_json::parse(accuracy_json(result));
    write_text(args.json, "report", json.dump());
  }
  require_limit(result, args.accuracy, args.output);
}

std::unique_ptr<Quantizer> from_arguments(QuantizeArgs& args) {
  auto& options = args.options;
  options.form = form_names().at(args.form);
  options.cost = cost_names().at(args.cost);
  options.fold_quantize = !args.no_fold;
  apply_algorithm_options(args.algorithms, !args.quantizer.model_type.empty(), options);
  return make_quantizer(args.quantizer);
}

/// The file decides about quantization; where statistics are kept and what is accepted stays with the arguments.
std::unique_ptr<Quantizer> from_config(QuantizeArgs& args) {
  QuantizeSetup setup = make_quantize_setup(read_quantize_config(args.config, args.data.options.batch_size));
  auto& options = setup.options;
  options.allow_empty = args.options.allow_empty;
  options.statistics_path = args.options.statistics_path;
  options.statistics_out = args.options.statistics_out;
  options.statistics_in = args.options.statistics_in;
  options.dump_dir = args.options.dump_dir;
  args.options = options;
  args.warnings = setup.warnings;
  return std::make_unique<OpenVINOQuantizer>(setup.quantizer);
}

void quantize_file(QuantizeArgs& args) {
  CaptureOptions capture;
  if (args.refuse_training) capture.training_mode = TrainingMode::kRefuse;
  const auto quantizer = args.config.empty() ? from_arguments(args) : from_config(args);
  args.options.skip_passes = args.quantizer.skip_passes;
  args.options.progress = console_progress();
  Model model = Model::load(args.model, capture);
  const Dataset data =
      with_more_data(open_data(args.data).dataset, args.data, args.more_data, args.options.subset_size);
  if (args.accuracy.max_drop) {
    run_within_limit(args, model, *quantizer, data);
    return;
  }
  QuantizedModel result = quantize_pt2e(model, *quantizer, data, args.options);
  stop_if_interrupted();
  add_warnings(args, result.report);
  result.save(args.output);
  if (args.json.empty()) {
    std::cout << result.report.summary() << "wrote " << args.output << std::endl;
  } else {
    write_text(args.json, "report", result.report.to_json());
  }
}

void run(QuantizeArgs& args) {
  check_outputs({{"-o", args.output, "model"},
                 {"--json", args.json, "report"},
                 {"--stats-out", args.options.statistics_out, "statistics"}});
  check_max_drop(args.accuracy);
  try {
    quantize_file(args);
  } catch (const Error& error) {
    if (!args.config.empty()) throw;  // a configuration file has the library's names
    throw with_flag_names(error);
  }
}

constexpr const char* kResultGroup = "Result";

void add_result_options(CLI::App& app, QuantizeArgs& args) {
  app.add_option("--form", args.form, "Operators in the file")
      ->check(CLI::IsMember(names_of_values(form_names())))
      ->group(kResultGroup)
      ->capture_default_str();
  app.add_option("--engine", args.options.engine,
                 "Lowered form: tsquant (default; runs everywhere), onednn, qnnpack or fbgemm")
      ->group(kResultGroup);
  app.add_option(
         "--cost", args.cost,
         "Lowered form: operators that are slower on codes stay in float, judged by the rates of all processors "
         "(table), of this machine (measure), or not at all (off)")
      ->check(CLI::IsMember(names_of_values(cost_names())))
      ->group(kResultGroup)
      ->capture_default_str();
  app.add_option("--subset-size", args.options.subset_size, "Calibration samples (batches)")
      ->group(kResultGroup)
      ->capture_default_str();
  app.add_flag("--no-fold", args.no_fold, "Keep float weights followed by quantize and dequantize")
      ->group(kResultGroup);
}

/// `--config`. What it says about quantization cannot be given on the command line as well.
void add_config_option(CLI::App& app, std::string& path) {
  auto* config = app.add_option("--config", path, "JSON configuration with all options of quantization, as NNCF's");
  config->check(CLI::ExistingFile);
  const std::set<std::string> groups{"Quantizer", "Algorithms", kResultGroup};
  for (CLI::Option* option : app.get_options()) {
    if (groups.count(option->get_group()) && option->get_name() != "--skip-pass") config->excludes(option);
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto args = std::make_shared<QuantizeArgs>();
  auto* command = app.add_subcommand("quantize", "Quantize a model after training, with calibration data");
  command->add_option("model", args->model, "TorchScript file")->required();
  command->add_option("-o,--output", args->output, "File to write")->required();
  add_data_options(*command, args->data, 1, true);
  add_more_data_option(*command, args->more_data);
  add_quantizer_options(*command, args->quantizer);
  add_accuracy_options(*command, args->accuracy);
  add_algorithm_options(*command, args->algorithms);
  add_statistics_file_options(*command, args->options);
  add_result_options(*command, *args);
  add_config_option(*command, args->config);
  command->add_flag("--allow-empty", args->options.allow_empty, "Accept a model in which nothing is quantized");
  command->add_option("--dump-dir", args->options.dump_dir,
                      "Write the graph after each rewrite that changed something into this folder");
  command->add_flag("--refuse-training", args->refuse_training, "Refuse a model saved in training mode");
  add_process_options(*command);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
