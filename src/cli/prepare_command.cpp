#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/quantizer_choice.h"
#include "io/write_module.h"
#include "tsquant/error.h"
#include "tsquant/prepare_pt2e.h"

namespace tsquant::cli {

namespace {

struct PrepareArgs {
  std::string model, output;
  DataArgs data;
  QuantizerArgs quantizer;
  bool qat = false;
  int64_t calibrate = 0;
};

c10::IValue call(torch::jit::Module& module, const Sample& sample) {
  c10::InferenceMode guard;
  return module.forward(sample.args, sample.kwargs);
}

int64_t calibrate(torch::jit::Module& module, const Dataset& data, int64_t wanted) {
  const int64_t count = data.count(wanted);
  const Progress progress = console_progress();
  for (int64_t i = 0; i < count; ++i) {
    try {
      call(module, data.get(i));
    } catch (const c10::Error& error) {
      throw Error(ErrorCode::kDataset, fmt::format("sample {} does not fit: {}", i, error.what_without_backtrace()),
                  "--data", "give samples of the shapes and types that the model takes");
    }
    progress("calibrate", i + 1, count);
    stop_if_interrupted();
  }
  return count;
}

void run(const PrepareArgs& args) {
  check_outputs({{"-o", args.output, "model"}});
  if (args.qat && args.calibrate > 0) {
    throw Error(ErrorCode::kInvalidArgument, "a model that is to be trained is not calibrated here", "--calibrate",
                "leave it out, or --qat");
  }
  const auto quantizer = make_quantizer(args.quantizer);
  const Model model = Model::load(args.model);
  const Dataset data = open_data(args.data).dataset;
  PreparePt2eOptions options;
  options.skip_passes = args.quantizer.options.skip_passes;
  const auto prepare = args.qat ? prepare_qat_pt2e : prepare_pt2e;
  torch::jit::Module module = prepare(model, *quantizer, data.get(0), options);
  const int64_t seen = args.calibrate > 0 ? calibrate(module, data, args.calibrate) : 0;
  save_module(args.output, "model", module, {model.extra_files().begin(), model.extra_files().end()});
  std::cout << fmt::format("{} samples were observed\nwrote {}", seen, args.output) << std::endl;
}

}  // namespace

void add_prepare(CLI::App& app) {
  auto args = std::make_shared<PrepareArgs>();
  auto* command = app.add_subcommand(
      "prepare", "Put observers into a model, for calibrating or training it elsewhere; `convert` makes the rest");
  command->add_option("model", args->model, "TorchScript file")->required();
  command->add_option("-o,--output", args->output, "File to write")->required();
  add_data_options(*command, args->data, 1, true);
  add_quantizer_options(*command, args->quantizer);
  command->add_flag("--qat", args->qat, "Fake quantizes that are trained, and batch norms that follow train()");
  command->add_option("--calibrate", args->calibrate, "Samples of --data that are run through the prepared model")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_process_options(*command);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
