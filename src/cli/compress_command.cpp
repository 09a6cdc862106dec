#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flag_names.h"
#include "cli/option_flags.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "options/tables.h"
#include "tsquant/compress_weights.h"
#include "tsquant/load_mapped.h"

namespace tsquant::cli {

namespace {

struct CompressArgs {
  std::string model, output, json;
  DataArgs data;
  CompressWeightsOptions options;
};

void compress_file(CompressArgs& args) {
  auto& options = args.options;
  if (!args.data.path.empty()) options.dataset = open_data(args.data).dataset;
  options.progress = console_progress();
  options.do_copy = false;  // nobody else holds the model
  Model model = load_mapped(args.model);
  const CompressedModel result = compress_weights(model, options);
  stop_if_interrupted();
  if (!options.dry_run) result.save(args.output);
  if (args.json.empty()) {
    std::cout << result.report.summary();
    if (!options.dry_run) std::cout << "wrote " << args.output << std::endl;
  } else {
    write_text(args.json, "report", result.report.to_json());
  }
}

void run(CompressArgs& args) {
  if (args.output.empty() && !args.options.dry_run) {
    throw Error(ErrorCode::kInvalidArgument, "no output is named", "-o", "give -o FILE, or --dry-run to look only");
  }
  check_outputs({{"-o", args.output, "model"}, {"--json", args.json, "report"}});
  try {
    compress_file(args);
  } catch (const Error& error) {
    throw with_flag_names(error);
  }
}

}  // namespace

void add_compress(CLI::App& app) {
  auto args = std::make_shared<CompressArgs>();
  args->options.form = OutputForm::kLowered;
  auto* command = app.add_subcommand("compress", "Compress the weights of a model to 8, 4, 3 or 2 bits");
  command->add_option("model", args->model, "TorchScript file")->required();
  command->add_option("-o,--output", args->output, "File to write");
  add_data_options(*command, args->data, 1, false);
  add_flags(*command, args->options);
  add_process_options(*command);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
