#include <fmt/format.h>

#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flag_names.h"
#include "cli/option_flags.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/rank_options.h"
#include "flows/compression/compression_config.h"
#include "flows/compression/layer_results.h"
#include "io/output_target.h"
#include "options/tables.h"
#include "tsquant/compress_weights.h"
#include "tsquant/load_mapped.h"
#include "tsquant/nncf_config.h"

namespace tsquant::cli {

namespace {

struct CompressArgs {
  std::string model, output, json, config;
  DataArgs data;
  CompressWeightsOptions options;
  RankArgs ranks;
  bool no_resume = false;
};

/// Whether an algorithm runs whose results are worth keeping.
bool takes_long(const CompressWeightsOptions& o) {
  return o.quality == CompressionQuality::kBest || o.gptq || o.scale_estimation || o.lora_correction ||
         (o.awq && o.dataset) || o.mode == CompressWeightsMode::kAdaptiveCodebook;
}

/// Beside the output, unless that is no file or the folder cannot be made.
std::string default_resume_dir(const CompressArgs& args) {
  if (args.output.empty() || args.no_resume || args.options.dry_run || !takes_long(args.options)) return "";
  const OutputTarget target = writable_target(args.output, "model");
  if (!target.replaced) return "";
  const std::string folder = target.path + ".resume";
  try {
    check_output_folder(folder, "results of layers");
  } catch (const Error& error) {
    log_line(std::string("warning: an interrupted run could not be continued: ") + error.what());
    return "";
  }
  return folder;
}

CompressedModel compress(Model& model, const CompressWeightsOptions& options) {
  try {
    return compress_weights(model, options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCancelled || options.resume_dir.empty()) throw;
    throw Error(error.code(), error.message(), error.place(),
                "the same command goes on from here: finished layers are kept in " + options.resume_dir);
  }
}

void tell_reused(const CompressedModel& result, const std::string& folder) {
  const ReusedResults& reused = result.reused;
  for (const auto& note : reused.notes) log_line("warning: " + note);
  if (reused.layers == 0) return;
  log_line(fmt::format("continued: {} of {} weights were finished in {}", reused.layers, result.report.weights.size(),
                       folder));
}

void compress_file(CompressArgs& args) {
  auto& options = args.options;
  if (!args.data.path.empty()) options.dataset = open_data(args.data).dataset;
  if (options.resume_dir.empty()) options.resume_dir = default_resume_dir(args);
  options.progress = console_progress();
  options.do_copy = false;  // nobody else holds the model
  options.exchange = meet_ranks(args.ranks);
  Model model = load_mapped(args.model);
  const CompressedModel result = compress(model, options);
  tell_reused(result, options.resume_dir);
  stop_if_interrupted();
  const bool writes = !options.dry_run && !args.output.empty();
  if (writes) result.save(args.output);
  if (!options.dry_run) {
    if (!options.resume_dir.empty()) remove_layer_results(options.resume_dir);
  }
  if (args.json.empty()) {
    std::cout << result.report.summary();
    if (writes) std::cout << "wrote " << args.output << std::endl;
  } else {
    write_text(args.json, "report", result.report.to_json());
  }
}

void run(CompressArgs& args) {
  if (args.output.empty() && !args.options.dry_run && args.ranks.rank == 0) {
    throw Error(ErrorCode::kInvalidArgument, "no output is named", "-o", "give -o FILE, or --dry-run to look only");
  }
  check_outputs({{"-o", args.output, "model"}, {"--json", args.json, "report"}});
  try {
    compress_file(args);
  } catch (const Error& error) {
    if (!args.config.empty()) throw;  // a configuration file has the library's names
    throw with_flag_names(error);
  }
}

/// `--config`. Flags come after it, so that theirs are the values that hold.
void add_config_option(CLI::App& app, CompressArgs& args) {
  const auto read = [&args](const std::string& path) {
    args.config = path;
    args.options = read_compress_options(path, args.options);
    if (is_compression_config(path)) return;
    for (const auto& warning : NNCFConfig::from_json(path).warnings()) log_line("warning: " + warning);
  };
  app.add_option_function<std::string>("--config", read,
                                       "JSON object of options by their names, or NNCF's configuration with it as "
                                       "weight_compression; flags win over it")
      ->check(CLI::ExistingFile);
}

}  // namespace

void add_compress(CLI::App& app) {
  auto args = std::make_shared<CompressArgs>();
  args->options.form = OutputForm::kLowered;
  auto* command = app.add_subcommand("compress", "Compress the weights of a model to 8, 4, 3 or 2 bits");
  command->add_option("model", args->model, "TorchScript file")->required();
  command->add_option("-o,--output", args->output, "File to write");
  add_config_option(*command, *args);
  add_data_options(*command, args->data, 1, false);
  add_flags(*command, args->options);
  command->add_flag("--no-resume", args->no_resume, "Keep no results for continuing an interrupted run")
      ->group(kResultGroup)
      ->excludes("--resume-dir");
  add_process_options(*command);
  add_rank_options(*command, args->ranks);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
