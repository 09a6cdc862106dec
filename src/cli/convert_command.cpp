#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "flows/compression/convert_form.h"
#include "io/archive_info.h"
#include "lowering/lowering.h"
#include "options/words.h"
#include "tsquant/report.h"

namespace tsquant::cli {

namespace {

struct ConvertArgs {
  std::string model, output, form;
};

/// What the file says about itself, with its new form.
std::unordered_map<std::string, std::string> extra_files(const ConvertArgs& args, const Model& model,
                                                         const std::map<std::string, std::string>& kernels) {
  const std::string text = read_extra_file(args.model, "tsquant_report.json");
  if (text.empty()) return {{"tsquant_form", args.form}};
  Report report = Report::from_json(text);
  report.form = args.form;
  report.quantized_bytes = stored_bytes(model);
  for (WeightRecord& weight : report.weights) {
    const auto found = kernels.find(weight.name);
    if (found != kernels.end()) weight.kernel = found->second;
    if (args.form == "reference") weight.kernel.clear();
  }
  return {{"tsquant_report.json", report.to_json(/*per_channel=*/false)}, {"tsquant_form", args.form}};
}

void run(const ConvertArgs& args) {
  check_outputs({{"-o", args.output, "model"}});
  Model model = Model::load(args.model);
  const auto kernels = convert_in_place(model, *find_word(words<OutputForm>(), args.form));
  model.save(args.output, extra_files(args, model, kernels));
  std::cout << "wrote " << args.output << std::endl;
}

}  // namespace

void add_convert(CLI::App& app) {
  auto args = std::make_shared<ConvertArgs>();
  auto* command = app.add_subcommand("convert", "Turn a compressed model into its other form, without loss");
  command->add_option("model", args->model, "TorchScript file that `compress` wrote")->required();
  command->add_option("-o,--output", args->output, "File to write")->required();
  command
      ->add_option("--form", args->form,
                   "reference: plain operators of LibTorch; lowered: fused operators that read packed weights")
      ->check(CLI::IsMember({"reference", "lowered"}))
      ->required();
  add_library_option(*command);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
