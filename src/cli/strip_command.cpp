#include <iostream>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "io/archive_info.h"
#include "lowering/lowering.h"
#include "options/words.h"
#include "tsquant/strip.h"

namespace tsquant::cli {

namespace {

const std::map<std::string, StripFormat> kFormats = {
    {"native", StripFormat::kNative}, {"dq", StripFormat::kDq}, {"in_place", StripFormat::kInPlace}};

struct StripArgs {
  std::string model, output, format = "native";
};

/// Compressed weights are read by plain operators now, or are floats; those that were trained may keep quantizers.
void describe_weights(const StripArgs& args, Report& report) {
  const std::string fake_quantize = word_of(words<OutputForm>(), OutputForm::kFakeQuantize);
  const bool keeps_quantizers = report.weights.empty() || report.form == fake_quantize;
  if (args.format == "native" && keeps_quantizers) report.form = fake_quantize;
  if (report.weights.empty()) return;
  if (args.format != "native" || !keeps_quantizers) report.form = word_of(words<OutputForm>(), OutputForm::kReference);
  for (WeightRecord& weight : report.weights) {
    weight.kernel.clear();
    if (args.format != "in_place") continue;
    weight.format = "float";
    weight.group_size = -1;
    weight.compressed_bytes = weight.float_bytes;
  }
}

/// What the file says about itself, with a note of what was done to it; nothing for files that other programs wrote.
std::unordered_map<std::string, std::string> extra_files(const StripArgs& args, const Model& result) {
  const std::string text = read_extra_file(args.model, "tsquant_report.json");
  if (text.empty()) return {};
  Report report = Report::from_json(text);
  report.options["strip"] = args.format;
  describe_weights(args, report);
  report.quantized_bytes = stored_bytes(result);
  report.warnings.insert(report.warnings.end(), result.warnings().begin(), result.warnings().end());
  return {{"tsquant_report.json", report.to_json(/*per_channel=*/false)},
          {"tsquant_form", report.form},
          {"tsquant_engine", report.engine}};
}

void run(const StripArgs& args) {
  check_outputs({{"-o", args.output, "model"}});
  Model model = Model::load(args.model);
  const Model result = strip(model, /*do_copy=*/false, kFormats.at(args.format));
  for (const auto& warning : result.warnings()) log_line("warning: " + warning);
  result.save(args.output, extra_files(args, result));
  std::cout << "wrote " << args.output << std::endl;
}

}  // namespace

void add_strip(CLI::App& app) {
  auto args = std::make_shared<StripArgs>();
  auto* command = app.add_subcommand("strip", "Remove what quantization or quantization-aware training added");
  command->add_option("model", args->model, "TorchScript file with quantizers or compressed weights")->required();
  command->add_option("-o,--output", args->output, "File to write")->required();
  command
      ->add_option("--format", args->format,
                   "native: LibTorch's fake quantizes; dq: integer weights; in_place: weights without quantizers. "
                   "Compressed weights: plain operators, with in_place float weights")
      ->check(CLI::IsMember({"native", "dq", "in_place"}))
      ->capture_default_str();
  add_library_option(*command);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
