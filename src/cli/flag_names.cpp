#include "cli/flag_names.h"

#include <cctype>
#include <string>
#include <utility>
#include <vector>

namespace tsquant::cli {

namespace {

/// What the library says, and the command line's words for it. A name that is the beginning of another comes later.
const std::vector<std::pair<std::string, std::string>> kNames = {
    {" (skip_passes)", ""},
    {" (fast_bias_correction is none or disable_bias_correction is true)", " (--bias-correction none)"},
    {"the ignored scope's name", "--ignore-name"},
    {"the ignored scope's pattern", "--ignore-pattern"},
    {"the ignored scope's type", "--ignore-type"},
    {"the ignored scope's sub-graph end", "an end of --ignore-subgraph"},
    {"the ignored scope's sub-graph", "--ignore-subgraph"},
    {"exchange inputs and outputs", "write it the other way round"},
    {"bias_correction_params.threshold", "--bias-threshold"},
    {"bias_correction_params.smallest_shift", "--bias-smallest-shift"},
    {"bias_correction_params.apply_for_all_nodes", "--bias-for-all-nodes"},
    {"bias_correction_params.reference", "--bias-reference"},
    {"fast_bias_correction", "--bias-correction"},
    {"smooth_quant_params.convolution", "--smooth-quant-alpha-convolution"},
    {"smooth_quant_params.matmul", "--smooth-quant-alpha-matmul"},
    {"smooth_quant", "--smooth-quant"},
    {"channel_alignment", "--channel-alignment"},
    {"activations_quantization_params.per_channel", "--activations-per-channel"},
    {"the fields of activations_quantization_params", "the options --activations-..."},
    {"activations_quantization_params", "--activations-..."},
    {"weights_quantization_params.per_channel", "--weights-per-channel"},
    {"the fields of weights_quantization_params", "the options --weights-..."},
    {"weights_quantization_params", "--weights-..."},
    {"activations_range_estimator_params", "--range-estimator-activations"},
    {"weights_range_estimator_params", "--range-estimator-weights"},
    {"destination_type", "an fp8 format"},
    {"batchwise_statistics", "--statistics item"},
    {"statistics_path", "--statistics-path"},
    {"statistics_out", "--stats-out"},
    {"statistics_in", "--stats-in"},
    {"subset_size", "--subset-size"},
    {"skip_passes", "--skip-pass"},
    {"allow_empty", "--allow-empty"},
    {"fold_quantize", "--no-fold"},
    {"set overflow_fix to disable", "use --overflow-fix disable"},
    {"overflow_fix", "--overflow-fix"},
    {"target_device", "--target-device"},
    {"quantizer_propagation_rule", "--propagation-rule"},
    {"quantize_outputs", "--quantize-outputs"},
    {"model_type", "--model-type"},
    {"set mode to", "use --mode"},
    {"max_drop", "--max-drop"},
    {"max_num_iterations", "--max-iterations"},
    {"ranking_subset_size", "--ranking-subset-size"},
    {"num_ranking_workers", "--ranking-workers"},
    {"tune_hyperparams", "--tune"},
    {"convert_to_mixed_preset", "--convert-to-mixed"},
    {"intermediate_model_dir", "--intermediate-dir"},
    {"validation_dataset", "--validation-data"},
    {"calibration_dataset", "--data"},
    {"num_bits", "the number of bits"},
};

/// Names of one word are replaced only where the place of an error is nothing else.
const std::vector<std::pair<std::string, std::string>> kPlaces = {{"engine", "--engine"}, {"cost", "--cost"}};

bool is_name_part(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '/'; }

/// Replaces whole names only: `smooth_quant` is also the beginning of file names and of operators.
std::string replaced(std::string text, const std::string& name, const std::string& flag) {
  for (size_t at = 0; (at = text.find(name, at)) != std::string::npos;) {
    const size_t end = at + name.size();
    const bool begins = at == 0 || !is_name_part(text[at - 1]) || name.front() == ' ';
    const bool ends = end == text.size() || !is_name_part(text[end]) || (text[end] == '.' && end + 1 == text.size());
    if (begins && ends) text.replace(at, name.size(), flag);
    at += begins && ends ? flag.size() : name.size();
  }
  return text;
}

std::string with_flags(std::string text) {
  for (const auto& [name, flag] : kNames) text = replaced(std::move(text), name, flag);
  return text;
}

/// A place that is a path or an operator's name is the user's, not ours.
std::string place_with_flags(const std::string& place) {
  for (const auto* names : {&kNames, &kPlaces}) {
    for (const auto& [name, flag] : *names) {
      if (place == name) return flag;
    }
  }
  return place;
}

}  // namespace

Error with_flag_names(const Error& error) {
  return Error(error.code(), with_flags(error.message()), place_with_flags(error.place()), with_flags(error.advice()));
}

}  // namespace tsquant::cli
