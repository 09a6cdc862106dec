#include <iostream>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::cli {

namespace {

const std::map<std::string, OutputForm> kForms = {{"decomposed", OutputForm::kDecomposed},
                                                  {"reference", OutputForm::kReference},
                                                  {"fake_quantize", OutputForm::kFakeQuantize},
                                                  {"lowered", OutputForm::kLowered}};

struct Args {
  std::string model, output, form = "decomposed", json;
  DataArgs data;
  QuantizerArgs quantizer;
  QuantizePt2eOptions options;
  bool no_fold = false, refuse_training = false;
  std::string statistics, bias_correction = "fast";
  double bias_threshold = 0;
};

void run(Args& args) {
  auto& options = args.options;
  options.form = kForms.at(args.form);
  options.fold_quantize = !args.no_fold;
  CaptureOptions capture;
  if (args.refuse_training) capture.training_mode = TrainingMode::kRefuse;
  if (!args.statistics.empty()) options.batchwise_statistics = args.statistics == "item";
  if (args.bias_correction == "none") options.fast_bias_correction = c10::nullopt;
  if (args.bias_threshold > 0) options.bias_correction_params.threshold = args.bias_threshold;
  options.skip_passes = args.quantizer.skip_passes;
  options.progress = console_progress();
  OpenVINOQuantizer quantizer(quantizer_options(args.quantizer));
  Model model = Model::load(args.model, capture);
  const DataFile data = open_data(args.data);
  QuantizedModel result = quantize_pt2e(model, quantizer, data.dataset, options);
  stop_if_interrupted();
  result.save(args.output);
  if (args.json.empty()) {
    std::cout << result.report.summary() << "wrote " << args.output << std::endl;
  } else {
    write_text(args.json, result.report.to_json());
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto args = std::make_shared<Args>();
  auto* command = app.add_subcommand("quantize", "Quantize a model after training, with calibration data");
  command->add_option("model", args->model, "TorchScript file")->required();
  command->add_option("-o,--output", args->output, "File to write")->required();
  add_data_options(*command, args->data, 1, true);
  add_quantizer_options(*command, args->quantizer);
  std::vector<std::string> forms;
  for (const auto& form : kForms) forms.push_back(form.first);
  command->add_option("--form", args->form, "Operators in the file")
      ->check(CLI::IsMember(forms))
      ->capture_default_str();
  command->add_option("--engine", args->options.engine,
                      "Lowered form: tsquant, onednn, qnnpack or fbgemm; default: the fastest here");
  command->add_option("--subset-size", args->options.subset_size, "Calibration samples (batches)")
      ->capture_default_str();
  command->add_option("--statistics", args->statistics, "Activation range per item of a batch, or per batch")
      ->check(CLI::IsMember({"item", "batch"}));
  command->add_option("--bias-correction", args->bias_correction, "Correct biases for the mean error of the weights")
      ->check(CLI::IsMember({"fast", "none"}))
      ->capture_default_str();
  command->add_option("--bias-threshold", args->bias_threshold, "Largest allowed relative change of a bias");
  command->add_flag("--no-fold", args->no_fold, "Keep float weights followed by quantize and dequantize");
  command->add_flag("--allow-empty", args->options.allow_empty, "Accept a model in which nothing is quantized");
  command->add_flag("--refuse-training", args->refuse_training, "Refuse a model saved in training mode");
  add_process_options(*command);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
