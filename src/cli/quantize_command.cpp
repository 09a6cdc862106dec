#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "cli/accuracy_control_options.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flag_names.h"
#include "cli/more_data.h"
#include "cli/option_flags.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/quantizer_choice.h"
#include "options/tables.h"
#include "tsquant/nncf_config.h"
#include "tsquant/quantize.h"

namespace tsquant::cli {

namespace {

struct QuantizeArgs {
  std::string model, output, config, json;
  DataArgs data;
  std::vector<std::string> more_data;
  QuantizerArgs quantizer;
  AccuracyArgs accuracy;
  const CLI::App* command = nullptr;  ///< tells which options were given
  bool refuse_training = false;
  std::vector<std::string> warnings;
};

void add_warnings(const QuantizeArgs& args, Report& report) {
  report.warnings.insert(report.warnings.end(), args.warnings.begin(), args.warnings.end());
}

void run_within_limit(const QuantizeArgs& args, Model& model, Quantizer& quantizer, const Dataset& calibration) {
  auto result = quantize_within_limit(model, quantizer, calibration, args.data, args.accuracy, args.quantizer.options);
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
  auto& options = args.quantizer.options;
  const auto& alphas = options.smooth_quant_params;
  if (args.command->count("--smooth-quant") == 0) {  // nncf.quantize
    options.smooth_quant = args.quantizer.openvino.model_type && (alphas.matmul >= 0 || alphas.convolution >= 0);
  }
  refuse_unused_flags(*args.command, options);
  return make_quantizer(args.quantizer);
}

/// Whether a configuration file decides about the option, so that the command line cannot. Its rules may be those of
/// another model.
bool is_in_config(const std::string& name, const std::string& group) {
  static const std::set<std::string> groups{kQuantizerGroup, kAlgorithmsGroup, kResultGroup};
  return groups.count(group) > 0 && name != "skip_passes" && name != "--skip-pass" && name != "--lenient-rules";
}

/// The limit of the file, when it has one.
void read_limit(const NNCFConfig& config, AccuracyArgs& args) {
  if (config.get({"accuracy_control"}).isNone()) return;
  if (args.has_limit()) {
    throw Error(ErrorCode::kInvalidArgument, "accuracy_control in the configuration gives the limit too", "--max-drop",
                "keep one of them");
  }
  args.control = *config.accuracy_control_options();
  args.in_config = true;
}

/// The file decides about quantization; where statistics are kept and what is accepted stays with the arguments.
std::unique_ptr<Quantizer> from_config(QuantizeArgs& args) {
  const auto config = NNCFConfig::from_json(args.config);
  QuantizeOptions options = config.quantize_options(args.data.options.batch_size);
  options.ignored_scope.validate &= args.quantizer.openvino.ignored_scope.validate;
  QuantizeSetup setup = make_quantize_setup(options);
  const QuantizePt2eOptions given = std::exchange(args.quantizer.options, setup.options);
  for_each_flag(fields<QuantizePt2eOptions>(), [&](const auto& row) {
    if (!is_in_config(row.name, row.flag.group)) row.set(args.quantizer.options, row.get(given));
  });
  read_limit(config, args.accuracy);
  args.warnings = config.warnings();
  args.warnings.insert(args.warnings.end(), setup.warnings.begin(), setup.warnings.end());
  return std::make_unique<OpenVINOQuantizer>(setup.quantizer);
}

void quantize_file(QuantizeArgs& args) {
  CaptureOptions capture;
  if (args.refuse_training) capture.training_mode = TrainingMode::kRefuse;
  const auto quantizer = args.config.empty() ? from_arguments(args) : from_config(args);
  check_accuracy_options(args.accuracy);
  args.quantizer.options.progress = console_progress();
  Model model = Model::load(args.model, capture);
  const Dataset data =
      with_more_data(open_data(args.data).dataset, args.data, args.more_data, args.quantizer.options.subset_size);
  if (args.accuracy.has_limit()) {
    run_within_limit(args, model, *quantizer, data);
    return;
  }
  QuantizedModel result = quantize_pt2e(model, *quantizer, data, args.quantizer.options);
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
                 {"--stats-out", args.quantizer.options.statistics_out, "statistics"}});
  try {
    quantize_file(args);
  } catch (const Error& error) {
    if (!args.config.empty()) throw;  // a configuration file has the library's names
    throw with_flag_names(error);
  }
}

/// `--config`. What it says about quantization cannot be given on the command line as well.
void add_config_option(CLI::App& app, std::string& path) {
  auto* config = app.add_option("--config", path, "JSON configuration with all options of quantization, as NNCF's");
  config->check(CLI::ExistingFile);
  for (CLI::Option* option : app.get_options()) {
    if (is_in_config(option->get_name(), option->get_group())) config->excludes(option);
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto args = std::make_shared<QuantizeArgs>();
  auto* command = app.add_subcommand("quantize", "Quantize a model after training, with calibration data");
  args->command = command;
  command->add_option("model", args->model, "TorchScript file")->required();
  command->add_option("-o,--output", args->output, "File to write")->required();
  add_data_options(*command, args->data, 1, true);
  add_more_data_option(*command, args->more_data);
  add_quantizer_options(*command, args->quantizer);
  add_accuracy_options(*command, args->accuracy);
  for (const char* group : {kAlgorithmsGroup, kStatisticsGroup, kResultGroup, ""}) {
    add_flags(*command, args->quantizer.options, {group});
  }
  add_config_option(*command, args->config);
  command->add_flag("--refuse-training", args->refuse_training, "Refuse a model saved in training mode");
  add_process_options(*command);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
