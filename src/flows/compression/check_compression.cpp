#include "flows/compression/check_compression.h"

#include <fmt/format.h>

#include <algorithm>

#include "flows/compression/trainable_layer.h"
#include "io/output_target.h"
#include "options/check_fields.h"
#include "options/common_fields.h"
#include "options/tables.h"
#include "passes/rewrite_registry.h"
#include "quantizers/openvino/compression_modes.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using Mode = CompressWeightsMode;

[[noreturn]] void refuse(const std::string& what, const std::string& option, const std::string& advice) {
  throw Error(ErrorCode::kInvalidArgument, what, option, advice);
}

std::string mode_name(Mode mode) { return word_of(words<Mode>(), mode); }

/// Options that say nothing when all weights get one scale per channel in 8 bits.
void check_int8(const CompressWeightsOptions& o) {
  const std::string mode = mode_name(o.mode);
  if (o.ratio.value_or(1) != 1 || o.group_size.value_or(-1) != -1) {
    refuse(fmt::format("{} compresses all weights, with one scale per channel", mode),
           o.ratio.value_or(1) != 1 ? "ratio" : "group_size", "leave ratio and group_size out, or choose another mode");
  }
  if (!o.advanced_parameters.statistics_path.empty()) {
    refuse(mode + " needs no statistics", "statistics_path", "leave it out, or choose another mode");
  }
  std::vector<std::string> set;
  const auto note = [&](bool is_set, const char* name) {
    if (is_set) set.emplace_back(name);
  };
  note(o.all_layers, "all_layers");
  note(o.sensitivity_metric.has_value(), "sensitivity_metric");
  note(o.awq, "awq");
  note(o.scale_estimation, "scale_estimation");
  note(o.gptq, "gptq");
  note(o.lora_correction, "lora_correction");
  note(o.backup_mode.has_value(), "backup_mode");
  if (set.empty()) return;
  refuse(fmt::format("{} does not go together with {}", mode, fmt::join(set, ", ")), set.front(),
         "leave them out, or choose another mode");
}

/// What both drivers have.
template <typename Options>
void check_data_needs(const Options& o) {
  check_limits(o);
  if (o.sensitivity_metric.value_or(SensitivityMetric::kWeightQuantizationError) !=
          SensitivityMetric::kWeightQuantizationError &&
      !o.dataset) {
    refuse(fmt::format("{} needs data", word_of(words<SensitivityMetric>(), *o.sensitivity_metric)),
           "sensitivity_metric", "give a dataset, or choose weight_quantization_error");
  }
  const std::pair<bool, const char*> needs[] = {
      {o.scale_estimation, "scale_estimation"}, {o.gptq, "gptq"}, {o.lora_correction, "lora_correction"}};
  for (const auto& [is_on, name] : needs) {
    if (is_on && !o.dataset) refuse(fmt::format("{} needs data", name), name, "give a dataset, or leave it out");
  }
}

template <typename Options>
void check_adapters_have_codes(const Options& o) {
  if (!o.lora_correction || !is_trainable(o)) return;
  refuse("lora_correction needs the compression format dequantize", "compression_format", "leave one of them out");
}

template <typename Options>
void check_algorithms(const Options& o) {
  if (o.gptq && o.lora_correction) {
    refuse("gptq and lora_correction cannot be combined", "lora_correction", "choose one of them");
  }
  const auto& awq = o.advanced_parameters.awq_params;
  if (!(awq.alpha_min <= awq.alpha_max)) {
    refuse(fmt::format("alpha_min {} is above alpha_max {}", awq.alpha_min, awq.alpha_max), "awq_params.alpha_min",
           "exchange them");
  }
  const auto& backend = o.advanced_parameters.backend_params;
  if (!backend.empty()) {
    refuse(fmt::format("unknown backend parameter {}", backend.begin()->first), "backend_params", "there are none");
  }
  if (o.quality == CompressionQuality::kBest && (o.gptq || o.scale_estimation)) {
    refuse("the quality best has its own way to codes and scales", o.gptq ? "gptq" : "scale_estimation",
           "leave gptq and scale_estimation out, or choose the quality nncf");
  }
  if (o.target_size && o.target_bits_per_weight) {
    refuse("target_size and target_bits_per_weight are both set", "target_size", "choose one of them");
  }
  check_unused(o);
  check_skipped(o.skip_passes);
  if (!o.dump_dir.empty()) check_output_folder(o.dump_dir, "dumped graphs");
  if (!o.resume_dir.empty()) check_output_folder(o.resume_dir, "results of layers");
  if (o.form == OutputForm::kDecomposed) {
    refuse(fmt::format("compressed weights have no {} form", word_of(words<OutputForm>(), o.form)), "form",
           "use the reference, lowered or fake_quantize form");
  }
}

void check_codebooks(const CompressWeightsOptions& o) {
  const auto& codebook = o.advanced_parameters.codebook;
  const auto& adaptive = o.advanced_parameters.adaptive_codebook_params;
  if (!codebook.empty() && o.mode != Mode::kCodebook && o.mode != Mode::kAdaptiveCodebook) {
    refuse(fmt::format("a codebook is set, but the mode is {}", mode_name(o.mode)), "codebook",
           "leave it out, or choose the mode codebook");
  }
  if (o.mode != Mode::kAdaptiveCodebook) return;
  if (!codebook.empty() && adaptive.num_elements != static_cast<int64_t>(codebook.size())) {
    refuse(fmt::format("num_elements is {}, but the codebook has {} levels", adaptive.num_elements, codebook.size()),
           "adaptive_codebook_params.num_elements", "make them equal");
  }
  if (adaptive.across_blocks && o.group_size.value_or(-1) != -1) {
    refuse("across_blocks needs one scale per channel", "adaptive_codebook_params.across_blocks",
           "leave group_size out");
  }
}

/// As in NNCF these are accepted where all weights get the primary precision.
void warn_of_idle_options(const CompressWeightsOptions& o, std::vector<std::string>& warnings) {
  if (o.ratio.value_or(1) != 1 || o.target_size || o.target_bits_per_weight) return;
  if (o.sensitivity_metric) {
    warnings.emplace_back("sensitivity_metric has no effect: with the ratio 1 all layers get the primary precision");
  }
  if (o.backup_mode && o.all_layers &&
      o.advanced_parameters.group_size_fallback_mode == GroupSizeFallbackMode::kError) {
    warnings.emplace_back("backup_mode has no effect: all_layers and the ratio 1 leave no weight for it");
  }
}

/// What the quantizer has decided by its own options: compress_weights gives it those of the user.
void check_quantizers_choices(const Annotations& annotations, const AdvancedCompressionParameters& advanced) {
  const char* const kAdvice = "leave it out, or set it in the quantizer's options (WeightsOnlyOptions)";
  bool any_fallback = false, any_codebook = false, any_adaptive = false;
  for (const auto& point : annotations.points) {
    const auto& choice = point.compression;
    any_fallback |= choice && choice->fallback == advanced.group_size_fallback_mode;
    any_codebook |= point.spec.codebook == advanced.codebook;
    any_adaptive |= choice && choice->adaptive_codebook;
  }
  if (advanced.group_size_fallback_mode != GroupSizeFallbackMode::kError && !any_fallback) {
    refuse("the quantizer gives no weight this group_size_fallback_mode", "group_size_fallback_mode", kAdvice);
  }
  if (!advanced.codebook.empty() && !any_codebook) {
    refuse("the quantizer gives no weight this codebook", "codebook", kAdvice);
  }
  if (any_adaptive) return;
  for (const auto& row : fields<AdaptiveCodebookParameters>()) {
    if (row.get(advanced.adaptive_codebook_params) == row.default_value) continue;
    refuse("no weight gets an adaptive codebook", "adaptive_codebook_params." + row.name,
           "leave it out, or choose the mode adaptive_codebook");
  }
}

bool has_few_bits(Mode mode) { return format_info(openvino::mode_row(mode).format).bits <= 4; }
bool is_integer(Mode mode) { return format_info(openvino::mode_row(mode).format).integer; }

}  // namespace

WeightsOnlyOptions weights_only_options(const CompressWeightsOptions& options) {
  WeightsOnlyOptions what;
  copy_common(options, what);
  copy_common(options.advanced_parameters, what);
  return what;
}

std::vector<std::string> check_compress_weights(const CompressWeightsOptions& o) {
  std::vector<std::string> warnings;
  if (o.mode == Mode::kInt8) warnings.emplace_back("the mode int8 is deprecated: int8_asym is used");
  if (openvino::is_int8(o.mode)) {
    check_int8(o);
    if (o.dataset) warnings.push_back(mode_name(o.mode) + " uses no data: the data set is left aside");
  }
  if (o.ratio && !(*o.ratio >= 0 && *o.ratio <= 1)) {
    refuse(fmt::format("ratio is {}", *o.ratio), "ratio", "use 0 to 1");
  }
  check_data_needs(o);
  if (o.mode == Mode::kAdaptiveCodebook && !o.dataset) {
    refuse("adaptive_codebook needs data", "mode", "give a dataset, or choose cb4");
  }
  check_adapters_have_codes(o);
  const bool takes_adapters = o.mode == Mode::kInt4Sym || o.mode == Mode::kInt4Asym || o.mode == Mode::kNf4 ||
                              (o.quality == CompressionQuality::kBest && has_few_bits(o.mode));
  if (o.lora_correction && !takes_adapters) {
    refuse(fmt::format("lora_correction is for int4_sym, int4_asym and nf4, not for {}", mode_name(o.mode)), "mode",
           "choose one of these, or leave lora_correction out");
  }
  const bool fp8 = o.mode == Mode::kFp8E4M3 || o.mode == Mode::kMxFp8E4M3;
  if (fp8 && (o.awq || o.scale_estimation)) {
    refuse(fmt::format("awq and scale_estimation are for 4 and less bits, not for {}", mode_name(o.mode)),
           o.awq ? "awq" : "scale_estimation", "leave it out");
  }
  const WeightsOnlyOptions what = weights_only_options(o);
  openvino::check_codebook(what);
  check_codebooks(o);
  openvino::check_group_size(what);
  if (o.target_size || o.target_bits_per_weight) {
    const char* option = o.target_size ? "target_size" : "target_bits_per_weight";
    if (o.ratio.value_or(1) != 1)
      refuse(fmt::format("{} and ratio are both set", option), option, "choose one of them");
    if (!is_integer(o.mode) || openvino::is_int8(o.mode)) {
      refuse(fmt::format("{} needs a mode of integers with fewer than 8 bits, not {}", option, mode_name(o.mode)),
             option, "choose int4_sym or int4_asym");
    }
  }
  if (is_trainable(o) && !is_integer(o.mode)) {
    refuse(fmt::format("{} cannot be trained", mode_name(o.mode)), "compression_format", "use dequantize");
  }
  check_algorithms(o);
  warn_of_idle_options(o, warnings);
  return warnings;
}

void check_compress_pt2e(const CompressPt2eOptions& options) {
  check_data_needs(options);
  check_adapters_have_codes(options);
  check_algorithms(options);
}

void check_annotations(const Annotations& annotations, const CompressPt2eOptions& options) {
  const char* target = options.target_size              ? "target_size"
                       : options.target_bits_per_weight ? "target_bits_per_weight"
                                                        : nullptr;
  bool has_choice = false;
  const bool trainable = is_trainable(options);
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kWeight) {
      refuse("the quantizer annotates activations", point.node,
             "use quantize_pt2e, or a quantizer of weights alone (OpenVINOQuantizerOptions::weights_only)");
    }
    if (trainable && !format_info(point.spec.format).integer) {
      refuse(fmt::format("{} cannot be trained", format_info(point.spec.format).name), "compression_format",
             "give the quantizer a mode of integers, or use dequantize");
    }
    has_choice |= point.compression.has_value();
    const bool chooses = point.compression && point.compression->ratio_defining;
    if (target && chooses && !format_info(point.spec.format).integer) {
      refuse(fmt::format("{} is set, but {} is no integer format", target, format_info(point.spec.format).name), target,
             "give the quantizer a mode of integers");
    }
  }
  if (annotations.points.empty()) return;
  check_quantizers_choices(annotations, options.advanced_parameters);
  if (has_choice) return;
  const std::string advice = "leave it out, or give the quantizer a mode of less than 8 bits";
  if (options.ratio != 1) refuse("the quantizer gives all weights one precision, but ratio is set", "ratio", advice);
  if (target) {
    refuse(fmt::format("the quantizer gives all weights one precision, but {} is set", target), target, advice);
  }
  if (options.sensitivity_metric) {
    refuse("the quantizer gives all weights one precision, but a metric is set", "sensitivity_metric", advice);
  }
  const std::pair<bool, const char*> algorithms[] = {{options.awq, "awq"},
                                                     {options.scale_estimation, "scale_estimation"},
                                                     {options.gptq, "gptq"},
                                                     {options.lora_correction, "lora_correction"}};
  for (const auto& [is_on, name] : algorithms) {
    if (is_on) refuse(fmt::format("the quantizer gives all weights one precision, but {} is set", name), name, advice);
  }
}

}  // namespace tsquant
