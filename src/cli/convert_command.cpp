#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <utility>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "flows/compression/convert_form.h"
#include "io/archive_info.h"
#include "io/torch_archive.h"
#include "lowering/compressed/fuse_decompression.h"
#include "lowering/lowering.h"
#include "options/words.h"
#include "tsquant/error.h"
#include "tsquant/prepare_pt2e.h"
#include "tsquant/report.h"

namespace tsquant::cli {

namespace {

struct ConvertArgs {
  std::string model, output, form, engine, json;
  bool fold_quantize = true, use_reference_representation = false;
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

void convert_prepared(const ConvertArgs& args, const torch::jit::Module& module) {
  ConvertPt2eOptions options;
  options.form = *find_word(words<OutputForm>(), args.form);
  options.engine = args.engine;
  options.fold_quantize = args.fold_quantize;
  options.use_reference_representation = args.use_reference_representation;
  const QuantizedModel result = convert_pt2e(module, options);
  result.save(args.output);
  if (!args.json.empty()) return write_text(args.json, "report", result.report.to_json());
  std::cout << result.report.summary() << "wrote " << args.output << std::endl;
}

void check_for_compressed(const ConvertArgs& args) {
  if (args.form != "reference" && args.form != "lowered") {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a compressed model has no {} form", args.form), "--form",
                "use reference or lowered");
  }
  for (const auto& [option, given] : {std::pair{"--engine", !args.engine.empty()},
                                      {"--json", !args.json.empty()},
                                      {"--no-fold-quantize", !args.fold_quantize},
                                      {"--use-reference-representation", args.use_reference_representation}}) {
    if (!given) continue;
    throw Error(ErrorCode::kInvalidArgument, "the option is for models that `prepare` wrote", option, "leave it out");
  }
}

void run(const ConvertArgs& args) {
  check_outputs({{"-o", args.output, "model"}, {"--json", args.json, "report"}});
  const auto module = TorchArchive(args.model, model_archive()).load_module(TensorValues::kInFile);
  if (is_prepared(module)) return convert_prepared(args, module);
  Model model = Model::load(args.model);
  if (!has_compressed_weights(model)) {
    throw Error(ErrorCode::kUnsupportedModel, "the model is not prepared and has no compressed weights", args.model,
                "run `tsquant prepare` first, and calibrate or train what it writes");
  }
  check_for_compressed(args);
  if (args.form == "reference" && has_dynamic_activations(model)) {
    std::cout << "activations become float: plain operators do not quantize them" << std::endl;
  }
  const auto kernels = convert_in_place(model, *find_word(words<OutputForm>(), args.form));
  model.save(args.output, extra_files(args, model, kernels));
  std::cout << "wrote " << args.output << std::endl;
}

}  // namespace

void add_convert(CLI::App& app) {
  auto args = std::make_shared<ConvertArgs>();
  auto* command = app.add_subcommand(
      "convert",
      "Turn a prepared model that has seen data, or was trained, into a quantized one; a compressed model "
      "into its other form, without loss");
  command->add_option("model", args->model, "TorchScript file that `prepare` or `compress` wrote")->required();
  command->add_option("-o,--output", args->output, "File to write")->required();
  command
      ->add_option("--form", args->form,
                   "reference: plain operators of LibTorch; lowered: integer kernels, or fused operators that read "
                   "packed weights; prepared models also decomposed and fake_quantize")
      ->check(CLI::IsMember({"reference", "lowered", "decomposed", "fake_quantize"}))
      ->required();
  command->add_option("--engine", args->engine, "Prepared models, lowered form: tsquant, onednn, qnnpack or fbgemm");
  command->add_flag("--fold-quantize,!--no-fold-quantize", args->fold_quantize,
                    "Prepared models: store weights as integers");
  command->add_flag("--use-reference-representation", args->use_reference_representation,
                    "Prepared models, forms reference and decomposed: operators compute with integers, written out in "
                    "plain operators of LibTorch");
  add_json_option(*command, args->json);
  add_library_option(*command);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
