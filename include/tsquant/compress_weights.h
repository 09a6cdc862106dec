#pragma once

#include "tsquant/compress_pt2e.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant {

/// Options of compress_weights; names, order and meaning of the first 17 are those of nncf.compress_weights.
struct CompressWeightsOptions {
  CompressWeightsMode mode = CompressWeightsMode::kInt8Asym;  ///< the primary precision
  /// Share of the parameters of ratio-defining weights in the primary precision. None: 1.
  c10::optional<double> ratio = c10::nullopt;
  /// Neighbours along the summed axis that share a scale; -1: the whole channel. None: by mode.
  c10::optional<int64_t> group_size = c10::nullopt;
  /// Operators and weights that stay in float. Names and patterns also match the state-dict names of weights.
  IgnoredScope ignored_scope = {};
  /// Embeddings and the last matrix multiplication get the primary precision too; convolutions never do.
  bool all_layers = false;
  c10::optional<Dataset> dataset = c10::nullopt;
  c10::optional<SensitivityMetric> sensitivity_metric = c10::nullopt;  ///< see CompressPt2eOptions
  int64_t subset_size = 128;
  bool awq = false;
  bool scale_estimation = false;
  bool gptq = false;
  bool lora_correction = false;
  c10::optional<BackupMode> backup_mode = c10::nullopt;           ///< None: by mode
  CompressionFormat compression_format = CompressionFormat::kDQ;  ///< see CompressPt2eOptions
  AdvancedCompressionParameters advanced_parameters = {};

  CompressionQuality quality = CompressionQuality::kNncf;
  /// Bytes of the result's tensors as a share of those of the float model, above 0 and at most 1: each ratio-defining
  /// weight gets 2, 3, 4 or 8 bits so that the sum of relative errors of layers is smallest. For modes of integers with
  /// fewer than 8 bits, in the place of `ratio`; group size and zero points are those of the mode.
  c10::optional<double> target_size = c10::nullopt;
  /// The same for the mean number of bits that a value of a ratio-defining weight takes, scales included.
  c10::optional<double> target_bits_per_weight = c10::nullopt;
  OutputForm form = OutputForm::kReference;  ///< see CompressPt2eOptions
  bool dynamic_activations = false;          ///< see CompressPt2eOptions
  /// True: decide only. The report says what each weight would get; the model stays as it is. Values of weights are
  /// read where they decide (`ratio`, targets, data), and a part at a time to refuse what the run would refuse.
  bool dry_run = false;
  bool do_copy = true;  ///< false: edit the given model in place instead of a copy
  std::vector<std::string> skip_passes = {};
  std::string dump_dir = "";
  std::string resume_dir = "";  ///< see CompressPt2eOptions
  Progress progress = {};
  std::shared_ptr<StatisticsExchange> exchange = nullptr;  ///< several processes, see CompressPt2eOptions
};

/// Weight compression (nncf.compress_weights). Equal settings through compress_pt2e give the same file.
///
/// ```cpp
/// tsquant::CompressWeightsOptions options;
/// options.mode = tsquant::CompressWeightsMode::kInt4Asym;
/// options.group_size = 64;
/// tsquant::compress_weights(model, options).save("model_int4.pt");
/// ```
/// @throws Error kInvalidArgument naming the option, checked in NNCF's order: modes of 8-bit integers with a ratio, a
///         group size, or an option of mixed or data-aware compression; a ratio outside of 0 to 1; sizes and ranks
///         below 1; a metric of activations or a data-aware algorithm without data; gptq with lora_correction;
///         lora_correction in other formats or modes than 4-bit integers and NF4 (best: all of at most 4 bits); awq or
///         scale_estimation with 8-bit floats; codebooks that are missing or not ascending; group sizes that the format
///         does not allow; otherwise as compress_pt2e
CompressedModel compress_weights(Model& model, const CompressWeightsOptions& options = {});

/// Options from a JSON file: an object whose keys are the names of the fields above, with NNCF's words for values.
/// Comments are allowed. Data, do_copy and progress cannot be given there.
///
/// ```json
/// {"mode": "int4_asym", "group_size": 64, "gptq": true, "advanced_parameters": {"gptq_params": {"block_size": 64}}}
/// ```
/// A file in the form of NNCF's configuration files (nncf_config.h) has this object as "weight_compression".
/// @param base what the file does not speak of stays as it is here
/// @throws Error kInvalidArgument: the file cannot be read, is no JSON, or has a key (with the nearest right one) or a
///         value that is not allowed
CompressWeightsOptions read_compress_options(const std::string& path, CompressWeightsOptions base = {});

}  // namespace tsquant
