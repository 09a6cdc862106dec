#include <cstdlib>
#include <sstream>

#include "options/struct_fields.h"
#include "options/tables.h"

namespace tsquant {

namespace {

/// "-1,-0.5,0,1" of the command line.
nlohmann::json levels_from_text(const std::string& text) {
  nlohmann::json levels = nlohmann::json::array();
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    char* end = nullptr;
    const double level = std::strtod(part.c_str(), &end);
    if (part.empty() || *end != 0) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no number", part), "--codebook",
                  "write LEVEL,LEVEL,..., as in -1,-.5,0,1");
    }
    levels.push_back(level);
  }
  return levels;
}

/// "0.3" or "30%" of the command line.
nlohmann::json share_from_text(const std::string& text) {
  const bool percent = !text.empty() && text.back() == '%';
  const auto json = nlohmann::json::parse(percent ? text.substr(0, text.size() - 1) : text, nullptr, false);
  if (json.is_number()) return json.get<double>() / (percent ? 100 : 1);
  throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no share", text), "--target-size",
              "write 0.3 or 30%");
}

Flag of_algorithm(const char* name) { return {name, kAlgorithmsGroup}; }
Flag of_precision(const char* name) { return {name, kPrecisionGroup}; }
Flag on_switch(const char* name) { return {name, kAlgorithmsGroup, "", {}, true}; }

template <typename O>
std::string without_adapters(const O& options) {
  if (options.compression_format == CompressionFormat::kFQLora) return "";
  return "the compression format is " + word_of(words<CompressionFormat>(), options.compression_format);
}

/// The adapters of quality best have a closed form.
template <typename O>
std::string without_nncfs_adapters(const O& options) {
  if (!options.lora_correction) return "lora_correction is false";
  return options.quality == CompressionQuality::kBest ? "the quality is best" : "";
}

/// Why layers cannot quantize their inputs: plain operators and trained weights compute in float.
template <typename O>
std::string without_packed_codes(const O& options) {
  if (options.compression_format != CompressionFormat::kDQ) {
    return "the compression format is " + word_of(words<CompressionFormat>(), options.compression_format);
  }
  if (options.form == OutputForm::kLowered) return "";
  return "the form is " + word_of(words<OutputForm>(), options.form);
}

/// The rows that both drivers have, with the same names, words and limits.
template <typename O>
Fields<O> common_rows() {
  const auto off = [](bool O::*algorithm, const char* name) {
    return [=](const O& options) { return options.*algorithm ? std::string() : std::string(name) + " is false"; };
  };
  auto advanced = struct_option(&O::advanced_parameters, "advanced_parameters", "What rarely needs a change");
  for (Field<O>& part : advanced.parts) {
    if (part.name == "advanced_parameters.awq_params") part.unused_when(off(&O::awq, "awq"));
    if (part.name == "advanced_parameters.scale_estimation_params") {
      part.unused_when(off(&O::scale_estimation, "scale_estimation"));
    }
    if (part.name == "advanced_parameters.lora_adapter_rank") part.unused_when(without_adapters<O>);
    if (part.name == "advanced_parameters.gptq_params") part.unused_when(off(&O::gptq, "gptq"));
    if (part.name == "advanced_parameters.lora_correction_params") {
      part.unused_when(off(&O::lora_correction, "lora_correction"));
      for (Field<O>& of_lora : part.parts) {
        const bool always = of_lora.name.find("adapter") != std::string::npos;
        if (!always) of_lora.unused_when(without_nncfs_adapters<O>);
      }
    }
  }
  return {
      option(&O::sensitivity_metric, "sensitivity_metric",
             "With a ratio below 1: what decides which weights get the primary precision")
          .on_flag(of_precision("--sensitivity-metric"))
          .recorded(),
      option(&O::subset_size, "subset_size", "Calibration samples (batches)")
          .at_least(1)
          .on_flag({"--subset-size", kResultGroup})
          .recorded(),
      option(&O::awq, "awq", "Scale input channels (AWQ)").on_flag(on_switch("--awq")).recorded(),
      option(&O::scale_estimation, "scale_estimation", "Scales that keep the outputs of layers")
          .on_flag(on_switch("--scale-estimation"))
          .recorded(),
      option(&O::gptq, "gptq", "Round column by column (GPTQ)").on_flag(on_switch("--gptq")).recorded(),
      option(&O::lora_correction, "lora_correction", "Low-rank matrices beside the weights make up for their error")
          .on_flag(on_switch("--lora-correction"))
          .recorded(),
      advanced.recorded(),
      option(&O::quality, "quality", "Algorithms: as NNCF, or the best of this library")
          .on_flag(of_algorithm("--quality"))
          .recorded(),
      option(&O::compression_format, "compression_format", "Codes, or float weights that can be trained")
          .on_flag(of_precision("--compression-format"))
          .recorded(),
      option(&O::target_size, "target_size", "Bits of each weight so that the result has this share of the float size")
          .above(0)
          .at_most(1)
          .on_flag({"--target-size",
                    kPrecisionGroup,
                    "Bits of each weight so that the result has this share of the float size: 0.3 or 30%",
                    {},
                    nullptr,
                    share_from_text})
          .recorded("none"),
      option(&O::target_bits_per_weight, "target_bits_per_weight",
             "Bits of each weight so that a value takes so many on average, scales included")
          .above(0)
          .at_most(16)
          .on_flag(of_precision("--target-bits-per-weight"))
          .recorded("none"),
      option(&O::form, "form", "Plain operators that unpack codes, fused ones, or weights that can be trained")
          .on_flag({"--form", kResultGroup}),
      option(&O::dynamic_activations, "dynamic_activations",
             "Lowered form: linear layers quantize their inputs to 8 bits while they run")
          .on_flag({"--dynamic-activations", kResultGroup, "", {}, true})
          .unused_when(without_packed_codes<O>)
          .recorded(),
      option(&O::dry_run, "dry_run", "Decide only: print which weight would get which precision")
          .on_flag({"--dry-run", kResultGroup, "", {}, true}),
      option(&O::skip_passes, "skip_passes", "Leave out this rewrite of the graph; repeat it")
          .on_flag({"--skip-pass", kResultGroup})
          .recorded(""),
      option(&O::dump_dir, "dump_dir", "Folder for the graph after each rewrite that changed it, NNN_<name>.ir")
          .on_flag({"--dump-dir", ""}),
      option(&O::resume_dir, "resume_dir", "Folder of results of layers, for continuing after an interruption")
          .on_flag({"--resume-dir", kResultGroup}),
  };
}

}  // namespace

template <>
const Fields<AdvancedAWQParameters>& fields() {
  using P = AdvancedAWQParameters;
  static const Fields<P> table{
      option(&P::subset_size, "subset_size", "AWQ: samples used")
          .at_least(1)
          .on_flag(of_algorithm("--awq-subset-size")),
      option(&P::percent_to_apply, "percent_to_apply", "AWQ: fraction of the input channels that is scaled")
          .above(0)
          .at_most(1)
          .on_flag(of_algorithm("--awq-percent-to-apply")),
      option(&P::alpha_min, "alpha_min", "AWQ: first exponent").on_flag(of_algorithm("--awq-alpha-min")),
      option(&P::alpha_max, "alpha_max", "AWQ: end of the exponents").on_flag(of_algorithm("--awq-alpha-max")),
      option(&P::steps, "steps", "AWQ: exponents tried").at_least(1).on_flag(of_algorithm("--awq-steps")),
      option(&P::prefer_data_aware_scaling, "prefer_data_aware_scaling", "AWQ: use data where there are any")
          .on_flag({"--awq-data-free", kAlgorithmsGroup, "AWQ: scales from the weights alone", {}, false}),
  };
  return table;
}

template <>
const Fields<AdvancedScaleEstimationParameters>& fields() {
  using P = AdvancedScaleEstimationParameters;
  static const Fields<P> table{
      option(&P::subset_size, "subset_size", "Scale estimation: samples used")
          .at_least(1)
          .on_flag(of_algorithm("--scale-estimation-subset-size")),
      option(&P::initial_steps, "initial_steps", "Scale estimation: refinements of plain scales")
          .at_least(0)
          .on_flag(of_algorithm("--scale-estimation-initial-steps")),
      option(&P::scale_steps, "scale_steps", "Scale estimation: smaller scales tried")
          .at_least(0)
          .at_most(20)
          .on_flag(of_algorithm("--scale-estimation-scale-steps")),
      option(&P::weight_penalty, "weight_penalty", "Scale estimation: weight of the weights' own error; -1: none")
          .on_flag(of_algorithm("--scale-estimation-weight-penalty")),
  };
  return table;
}

template <>
const Fields<AdvancedGPTQParameters>& fields() {
  using P = AdvancedGPTQParameters;
  static const Fields<P> table{
      option(&P::damp_percent, "damp_percent", "GPTQ: fraction of the mean diagonal that is added")
          .above(0)
          .on_flag(of_algorithm("--gptq-damp-percent")),
      option(&P::block_size, "block_size", "GPTQ: columns between updates")
          .at_least(1)
          .on_flag(of_algorithm("--gptq-block-size")),
      option(&P::subset_size, "subset_size", "GPTQ: samples used")
          .at_least(1)
          .on_flag(of_algorithm("--gptq-subset-size")),
  };
  return table;
}

template <>
const Fields<AdvancedLoraCorrectionParameters>& fields() {
  using P = AdvancedLoraCorrectionParameters;
  static const Fields<P> table{
      option(&P::adapter_rank, "adapter_rank", "Low-rank correction: rank")
          .at_least(1)
          .on_flag(of_algorithm("--lora-rank")),
      option(&P::num_iterations, "num_iterations", "Low-rank correction: alternating fits")
          .at_least(0)
          .on_flag(of_algorithm("--lora-iterations")),
      option(&P::apply_regularization, "apply_regularization", "Low-rank correction: fit the weight's error too")
          .on_flag({"--lora-no-regularization", kAlgorithmsGroup, "Low-rank correction: fit outputs only", {}, false}),
      option(&P::subset_size, "subset_size", "Low-rank correction: samples used")
          .at_least(1)
          .on_flag(of_algorithm("--lora-subset-size")),
      option(&P::use_int8_adapters, "use_int8_adapters", "Low-rank correction: matrices in 8-bit codes")
          .on_flag({"--lora-float-adapters", kAlgorithmsGroup, "Low-rank correction: matrices stay float", {}, false}),
  };
  return table;
}

template <>
const Fields<AdaptiveCodebookParameters>& fields() {
  using P = AdaptiveCodebookParameters;
  static const Fields<P> table{
      option(&P::value_type, "value_type", "Adaptive codebook: what levels are rounded to")
          .on_flag(of_precision("--codebook-value-type")),
      option(&P::across_blocks, "across_blocks", "Adaptive codebook: one for the same layer of all blocks")
          .on_flag({"--codebook-across-blocks", kPrecisionGroup, "", {}, true}),
      option(&P::num_elements, "num_elements", "Adaptive codebook: levels")
          .at_least(2)
          .at_most(16)
          .on_flag(of_precision("--codebook-size")),
  };
  return table;
}

template <>
const Fields<AdvancedCompressionParameters>& fields() {
  using P = AdvancedCompressionParameters;
  static const Fields<P> table{
      option(&P::statistics_path, "statistics_path",
             "Folder of statistics: read when they are of the same model and data, else written")
          .on_flag({"--statistics-path", kStatisticsGroup})
          .not_in_text(),
      option(&P::lora_adapter_rank, "lora_adapter_rank", "Rank of fake_quantize_with_lora")
          .at_least(1)
          .on_flag(of_precision("--lora-adapter-rank")),
      option(&P::group_size_fallback_mode, "group_size_fallback_mode", "Weights that the group size does not divide")
          .on_flag(of_precision("--group-size-fallback")),
      option(&P::min_adjusted_group_size, "min_adjusted_group_size", "Smallest group size of the fallback adjust")
          .at_least(1)
          .on_flag(of_precision("--min-adjusted-group-size"))
          .unused_when([](const P& advanced) {
            const auto mode = advanced.group_size_fallback_mode;
            return mode == GroupSizeFallbackMode::kAdjust
                       ? ""
                       : "group_size_fallback_mode is " + word_of(words<GroupSizeFallbackMode>(), mode);
          }),
      struct_option(&P::awq_params, "awq_params", "Of AWQ"),
      struct_option(&P::scale_estimation_params, "scale_estimation_params", "Of scale estimation"),
      struct_option(&P::gptq_params, "gptq_params", "Of GPTQ"),
      struct_option(&P::lora_correction_params, "lora_correction_params", "Of the low-rank correction"),
      option(&P::codebook, "codebook", "Levels of --mode codebook, LEVEL,LEVEL,...")
          .on_flag({"--codebook", kPrecisionGroup, "", {}, nullptr, levels_from_text}),
      struct_option(&P::adaptive_codebook_params, "adaptive_codebook_params", "Of adaptive codebooks"),
      option(&P::backend_params, "backend_params", "Further options by name"),
  };
  return table;
}

template <>
const Fields<WeightsOnlyOptions>& fields() {
  using O = WeightsOnlyOptions;
  static const Fields<O> table{
      option(&O::mode, "mode", "Primary precision"),
      option(&O::group_size, "group_size", "Values that share a scale; -1: a channel"),
      option(&O::all_layers, "all_layers", "Embeddings and the last layer get the primary precision too"),
      option(&O::backup_mode, "backup_mode", "Precision of the other weights"),
      option(&O::group_size_fallback_mode, "group_size_fallback_mode", "Weights that the group size does not divide"),
      option(&O::min_adjusted_group_size, "min_adjusted_group_size", "Smallest group size of the fallback adjust")
          .at_least(1),
      option(&O::codebook, "codebook", "Levels of the mode codebook"),
  };
  return table;
}

template <>
const Fields<CompressPt2eOptions>& fields() {
  using O = CompressPt2eOptions;
  static const Fields<O> table = [] {
    Fields<O> rows = common_rows<O>();
    rows.push_back(option(&O::ratio, "ratio", "Share of the parameters in the primary precision")
                       .at_least(0)
                       .at_most(1)
                       .recorded());
    return rows;
  }();
  return table;
}

template <>
const Fields<CompressWeightsOptions>& fields() {
  using O = CompressWeightsOptions;
  static const Fields<O> table = [] {
    Fields<O> rows{
        option(&O::mode, "mode", "Primary precision").on_flag(of_precision("--mode")).recorded(),
        option(&O::ratio, "ratio", "Share of the parameters of layers in the primary precision; default: 1")
            .at_least(0)
            .at_most(1)
            .on_flag(of_precision("--ratio"))
            .recorded(),
        option(&O::group_size, "group_size", "Values that share a scale; -1: a channel; default: by mode")
            .on_flag(of_precision("--group-size"))
            .recorded(),
        option(&O::all_layers, "all_layers", "Embeddings and the last layer get the primary precision too")
            .on_flag({"--all-layers", kPrecisionGroup, "", {}, true})
            .recorded(),
        option(&O::backup_mode, "backup_mode", "Precision of the other weights; default: by mode")
            .on_flag(of_precision("--backup-mode"))
            .recorded(),
        struct_option(&O::ignored_scope, "ignored_scope", "Weights to leave in float").recorded("none"),
    };
    for (auto& row : common_rows<O>()) rows.push_back(std::move(row));
    return rows;
  }();
  return table;
}

}  // namespace tsquant
