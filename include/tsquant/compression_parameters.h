#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tsquant/format.h"

namespace tsquant {

/// NNCF's CompressWeightsMode, the primary precision: what matrix multiplications' weights are compressed to, as far as
/// `ratio` and the group size allow; the others get the backup precision. Modes named "8 bits" compress all weights,
/// with one scale per channel.
enum class CompressWeightsMode {
  kInt8Asym,          ///< 8 bits with zero points; the default
  kInt8Sym,           ///< 8 bits without zero points
  kInt8,              ///< deprecated by NNCF: kInt8Asym and a warning
  kInt4Sym,           ///< 4-bit integers without zero points, groups of 128 by default
  kInt4Asym,          ///< 4-bit integers with zero points, groups of 128 by default
  kInt3Sym,           ///< not in NNCF: the same with 3 bits
  kInt3Asym,          ///< not in NNCF
  kInt2Sym,           ///< not in NNCF: the same with 2 bits
  kInt2Asym,          ///< not in NNCF
  kNf4,               ///< Format::kNf4, groups of 128 by default
  kE2M1,              ///< Format::kE2M1, groups of 32 by default
  kFp4,               ///< Format::kFp4, groups of 128 by default
  kFp8E4M3,           ///< Format::kF8E4M3, groups of 128 by default
  kMxFp4,             ///< Format::kMxFp4, groups of 32
  kMxFp8E4M3,         ///< Format::kMxF8E4M3, groups of 32
  kNvFp4,             ///< Format::kNvFp4, groups of 16
  kCodebook,          ///< the levels of AdvancedCompressionParameters::codebook, one scale per channel by default
  kAdaptiveCodebook,  ///< levels found for each weight from the data, one scale per channel by default
  kCb4,               ///< Format::kCb4, one scale per channel by default
};

/// NNCF's BackupMode: what becomes of weights that do not get the primary precision.
enum class BackupMode {
  kNone,  ///< they stay as they are
  kInt8Sym,
  kInt8Asym,
  kFp8E4M3,    ///< with the group size of the primary precision
  kMxFp8E4M3,  ///< with groups of 32
};

/// NNCF's SensitivityMetric: which weights get the primary precision when `ratio` is below 1, those with the lowest
/// scores first. All but kHessianInputActivation divide by the error that 8-bit codes make: a weight that per-channel
/// codes hold well is left to them.
enum class SensitivityMetric {
  kWeightQuantizationError,  ///< needs no data; the default without a data set
  kHessianInputActivation,   ///< 8-bit error of the weight times the mean square of the layer's inputs
  kMeanActivationVariance,   ///< variance of the inputs over rows, mean over channels
  kMaxActivationVariance,    ///< the same of the channel that varies most; the default with a data set
  kMeanActivationMagnitude,  ///< largest magnitude of the inputs over rows, mean over channels
};

/// NNCF's CompressionFormat: the form in which compressed weights are left in the model.
enum class CompressionFormat {
  kDQ,      ///< packed codes and the operators that turn them back into values
  kFQ,      ///< float weights behind fake quantizers whose parameters can be trained
  kFQLora,  ///< kFQ of the sum of the weight and the product of two trainable low-rank matrices
};

/// NNCF's GroupSizeFallbackMode: what happens to weights whose input channels are no whole number of groups.
enum class GroupSizeFallbackMode {
  kError,   ///< an Error that lists all of them
  kIgnore,  ///< they stay as they are
  kAdjust,  ///< they get the largest power of two below the group size that divides, or else the backup precision
};

/// Activation-aware scaling of input channels (arXiv:2306.00978) with the search of nncf awq.py.
struct AdvancedAWQParameters {
  int64_t subset_size = 32;         ///< samples used, at least 1
  double percent_to_apply = 0.002;  ///< fraction (not per cent) of the input channels, those with the largest inputs,
                                    ///< whose groups are scaled; at least one channel; above 0 and at most 1
  double alpha_min = 0;             ///< first exponent of the inputs' magnitudes that is tried
  double alpha_max = 1;             ///< end of the exponents, not tried itself; not below alpha_min
  int64_t steps = 100;              ///< exponents tried, alpha_min + k (alpha_max - alpha_min) / steps; at least 1
  bool prefer_data_aware_scaling = true;  ///< false: scales from the weights alone, even when there are data
};

/// Scales that make the error of a layer's output small (nncf scale_estimation.py).
struct AdvancedScaleEstimationParameters {
  int64_t subset_size = 64;    ///< samples used, at least 1
  int64_t initial_steps = 5;   ///< refinements of the scales of plain rounding; 0: none
  int64_t scale_steps = 5;     ///< smaller scales that are tried too: 1, 0.95, 0.9, ... of the plain one; at most 20
  double weight_penalty = -1;  ///< above 0: weight of the error of the weights themselves beside that of the outputs
};

/// GPTQ (arXiv:2210.17323) as in nncf gptq.py.
struct AdvancedGPTQParameters {
  double damp_percent = 0.1;  ///< fraction (not per cent) of the mean diagonal of the Hessian added to it; above 0
  int64_t block_size = 128;   ///< columns between updates of the columns behind them, at least 1
  int64_t subset_size = 128;  ///< samples for the Hessian, at least 1
};

/// Low-rank correction of the error of compressed weights (nncf lora_correction.py).
struct AdvancedLoraCorrectionParameters {
  int64_t adapter_rank = 8;          ///< at least 1; more than a weight has rows or columns: as many as it has
  int64_t num_iterations = 3;        ///< alternating least squares after the first approximation; 0: none
  bool apply_regularization = true;  ///< fit the error of the weight beside that of the outputs
  int64_t subset_size = 128;         ///< samples used, at least 1
  bool use_int8_adapters = true;     ///< both matrices in asymmetric 8-bit codes per row; false: as the weight
};

/// Levels that fit a weight (CompressWeightsMode::kAdaptiveCodebook).
struct AdaptiveCodebookParameters {
  Format value_type = Format::kF8E4M3;  ///< what levels are rounded to: kF8E4M3 or kF8E5M2
  /// One codebook for all weights whose names are equal but for characters that are no letters (the same layer of all
  /// blocks); needs one scale per channel.
  bool across_blocks = false;
  int64_t num_elements = 16;  ///< levels, 2 to 256; a given `codebook` must have as many
};

/// NNCF's name.
using AdvancedAdaptiveCodebookParameters = AdaptiveCodebookParameters;

/// NNCF's AdvancedCompressionParameters: names, defaults and meaning of nncf/quantization/advanced_parameters.py.
struct AdvancedCompressionParameters {
  /// Directory of the statistics of the data: read when it holds those of the same model and data, written otherwise.
  /// Empty: none.
  std::string statistics_path = "";
  int64_t lora_adapter_rank = 256;  ///< of CompressionFormat::kFQLora; at most the smallest dimension of every weight
  GroupSizeFallbackMode group_size_fallback_mode = GroupSizeFallbackMode::kError;
  int64_t min_adjusted_group_size = 32;  ///< smallest group size that kAdjust may choose
  AdvancedAWQParameters awq_params = {};
  /// Together with gptq NNCF estimates scales with 32 samples, 5 initial steps and 10 scale steps whatever is set here;
  /// these fields take effect there as soon as one of them is not at its default.
  AdvancedScaleEstimationParameters scale_estimation_params = {};
  AdvancedGPTQParameters gptq_params = {};
  AdvancedLoraCorrectionParameters lora_correction_params = {};
  /// Levels of kCodebook, and a candidate for kAdaptiveCodebook: at least 2, strictly ascending. Empty: none; CB4 is
  /// then the candidate.
  std::vector<float> codebook = {};
  AdaptiveCodebookParameters adaptive_codebook_params = {};
  std::map<std::string, std::string> backend_params = {};  ///< further options by name; unknown ones are an Error
};

}  // namespace tsquant
