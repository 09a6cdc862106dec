#include "cli/algorithm_options.h"

#include <fmt/format.h>

#include "flows/option_names.h"
#include "tsquant/error.h"

namespace tsquant::cli {

namespace {

constexpr const char* kGroup = "Algorithms";

void add_choice(CLI::App& app, const std::string& name, std::string& value, const std::string& help,
                const std::vector<std::string>& allowed) {
  app.add_option(name, value, help)->check(CLI::IsMember(allowed))->group(kGroup)->capture_default_str();
}

void refuse_if(bool given, const std::string& option, const std::string& why, const std::string& advice) {
  if (given) throw Error(ErrorCode::kInvalidArgument, fmt::format("{} has no effect {}", option, why), option, advice);
}

/// Arguments of an algorithm that does not run would be ignored.
void refuse_unused(const AlgorithmArgs& args, bool transformer) {
  if (args.bias_correction == "none") {
    const std::string why = "with --bias-correction none", advice = "leave one of them out";
    refuse_if(args.bias_threshold.has_value(), "--bias-threshold", why, advice);
    refuse_if(args.bias_smallest_shift.has_value(), "--bias-smallest-shift", why, advice);
    refuse_if(args.bias_for_all_nodes, "--bias-for-all-nodes", why, advice);
    refuse_if(!args.bias_reference.empty(), "--bias-reference", why, advice);
  }
  if (args.smooth_quant.value_or(transformer)) return;
  const std::string why = "without SmoothQuant", advice = "add --smooth-quant or --model-type transformer";
  refuse_if(args.smooth_quant_matmul.has_value(), "--smooth-quant-alpha-matmul", why, advice);
  refuse_if(args.smooth_quant_convolution.has_value(), "--smooth-quant-alpha-convolution", why, advice);
}

}  // namespace

void add_algorithm_options(CLI::App& app, AlgorithmArgs& args) {
  app.add_flag_function(
         "--smooth-quant,!--no-smooth-quant", [&](int64_t count) { args.smooth_quant = count > 0; },
         "Move the range of activation channels into the weights that read them; default: for transformers")
      ->group(kGroup);
  const auto alpha = [&](const std::string& kind, c10::optional<double>& value, double by_default) {
    app.add_option("--smooth-quant-alpha-" + kind, value,
                   fmt::format("How much of the range moves, from 0 to 1; negative: layers of this kind are left out; "
                               "default: {:g}",
                               by_default))
        ->group(kGroup);
  };
  alpha("matmul", args.smooth_quant_matmul, SmoothQuantParameters().matmul);
  alpha("convolution", args.smooth_quant_convolution, SmoothQuantParameters().convolution);
  app.add_flag("--channel-alignment", args.channel_alignment, "Align the channel ranges of consecutive layers")
      ->group(kGroup);
  add_choice(app, "--bias-correction", args.bias_correction, "Correct biases for the mean error of the weights",
             {"none", "fast", "accurate"});
  app.add_option("--bias-threshold", args.bias_threshold, "Largest allowed relative change of a bias")
      ->check(CLI::Range(0.0, 1e9))
      ->group(kGroup);
  app.add_option("--bias-smallest-shift", args.bias_smallest_shift,
                 "Smallest shift worth writing, in standard deviations of the rounding noise; 0: every shift")
      ->check(CLI::NonNegativeNumber)
      ->group(kGroup);
  app.add_flag("--bias-for-all-nodes", args.bias_for_all_nodes, "Give quantized layers without a bias one")
      ->group(kGroup);
  add_choice(app, "--bias-reference", args.bias_reference,
             "Mean output that a layer is compared with; default: simulated for fast, the float model's for accurate",
             {"simulated", "collected"});
  const auto estimators = names_of_values(range_estimator_names());
  add_choice(app, "--range-estimator-activations", args.range_estimator_activations, "How ranges are found",
             estimators);
  add_choice(app, "--range-estimator-weights", args.range_estimator_weights, "How ranges are found", estimators);
  add_choice(app, "--statistics", args.statistics, "Activation range per item of a batch, or per batch",
             {"item", "batch"});
  app.add_flag("--keep-activations", args.keep_activations,
               "Reduce the tensors of a sample to statistics after its run instead of at once")
      ->group(kGroup);
}

void apply_algorithm_options(const AlgorithmArgs& args, bool transformer, QuantizePt2eOptions& options) {
  refuse_unused(args, transformer);
  auto& alphas = options.smooth_quant_params;
  if (args.smooth_quant_matmul) alphas.matmul = *args.smooth_quant_matmul;
  if (args.smooth_quant_convolution) alphas.convolution = *args.smooth_quant_convolution;
  options.smooth_quant = args.smooth_quant.value_or(transformer && (alphas.matmul >= 0 || alphas.convolution >= 0));
  options.channel_alignment = args.channel_alignment;
  options.fast_bias_correction =
      args.bias_correction == "none" ? c10::optional<bool>() : c10::optional<bool>(args.bias_correction == "fast");
  options.bias_correction_params.threshold = args.bias_threshold;
  options.bias_correction_params.smallest_shift = args.bias_smallest_shift;
  options.bias_correction_params.apply_for_all_nodes = args.bias_for_all_nodes;
  if (!args.bias_reference.empty()) {
    options.bias_correction_params.reference =
        args.bias_reference == "collected" ? BiasReference::kCollected : BiasReference::kSimulated;
  }
  const auto& estimators = range_estimator_names();
  if (!args.range_estimator_activations.empty()) {
    options.activations_range_estimator_params = estimators.at(args.range_estimator_activations);
  }
  if (!args.range_estimator_weights.empty()) {
    options.weights_range_estimator_params = estimators.at(args.range_estimator_weights);
  }
  if (!args.statistics.empty()) options.batchwise_statistics = args.statistics == "item";
  options.inplace_statistics = !args.keep_activations;
}

void add_statistics_file_options(CLI::App& app, QuantizePt2eOptions& options) {
  const std::string group = "Statistics files";
  app.add_option("--statistics-path", options.statistics_path,
                 "Folder of statistics: read when they are of the same model, data and settings, else written")
      ->group(group);
  app.add_option("--stats-out", options.statistics_out, "Write the statistics of this run to a file")->group(group);
  app.add_option("--stats-in", options.statistics_in, "Read statistics instead of running the data")->group(group);
}

}  // namespace tsquant::cli
