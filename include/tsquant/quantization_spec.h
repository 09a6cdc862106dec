#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Optional.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tsquant/format.h"

namespace tsquant {

/// NNCF's QuantizationScheme.
enum class QuantizationScheme {
  kSymmetric,   ///< zero_point is fixed by the dtype: 0 for signed codes
  kAsymmetric,  ///< zero_point is chosen from the range
};

/// Which published formula turns a range into scale and zero point.
enum class QParamsFormula {
  /// nncf.quantize (calculate_quantizer_parameters, and calculate_convert_parameters for floating-point formats).
  /// Symmetric codes map the upper bound of the range on the highest code, asymmetric ranges are moved until zero is a
  /// code, and small ranges are widened.
  kNncf,
  /// torch.ao (UniformQuantizationObserverBase): half of the codes cover the largest magnitude, scales are at least
  /// `eps`. What annotators of PT2E expect.
  kTorchAo,
  /// nncf.compress_weights (weight_lowering.py), weights only. Symmetric: the value of largest magnitude becomes the
  /// lowest code, so that scales are negative where it is positive. Asymmetric: the range as it is, in which zero need
  /// not lie, but for ranges of one sign whose values the clamped zero point would move by more than half of the
  /// weight's largest step: these are widened to hold zero. Codes are divided by their scale, where the other formulas
  /// multiply by its reciprocal.
  kNncfCompression,
};

/// How the range of a tensor is found from data.
enum class ObserverKind {
  /// Weights and per-channel activations: min and max, as in NNCF. Per-tensor activations, the model's inputs among
  /// them: NNCF's mean of the samples' minima and maxima, but from 100 samples on (items with batchwise_statistics) the
  /// range that covers 95 of 100 samples: the 95 % quantiles of their extrema, unless a quantile lies on the other side
  /// of zero than the mean. With fewer samples, an extreme of a model input that at least two samples and one in 20
  /// reach exactly bounds the range. In loops and in models with memory the smallest and largest value of all.
  kDefault,
  kMinMax,                         ///< smallest and largest value seen
  kPerChannelMinMax,               ///< the same for each slice along ch_axis
  kMovingAverageMinMax,            ///< exponential average of per-batch min and max (averaging_constant 0.01)
  kMovingAveragePerChannelMinMax,  ///< the same for each slice along ch_axis
  kHistogram,                      ///< range that minimises the expected squared quantization error
};

/// The fake-quantize modules of torch.ao, each around an observer.
enum class FakeQuantizeType {
  kNone,               ///< the observer alone
  kFakeQuantize,       ///< FakeQuantize
  kFusedMovingAvgObs,  ///< FusedMovingAvgObsFakeQuantize: a moving average in aten::fused_moving_avg_obs_fake_quant
  kFixedQParams,       ///< FixedQParamsFakeQuantize
  kLearnable,          ///< _LearnableFakeQuantize (LSQ): scale and zero_point are parameters
};

/// How a histogram counts and grows.
enum class HistogramRule {
  kTorch2,     ///< torch.ao from 2.3 on
  kTorch1_13,  ///< torch.ao 1.13, with its ranges truncated to integers
};

/// The quantizer configuration of one tensor. Field names follow NNCF's QuantizerConfig and PT2E's QuantizationSpec.
struct QuantizationSpec {
  Format format = Format::kInt8;                             ///< NNCF's num_bits: integer_format(num_bits)
  QuantizationScheme mode = QuantizationScheme::kSymmetric;  ///< integers only, see QuantizationScheme
  c10::optional<bool> signedness_to_force = c10::nullopt;    ///< symmetric only: true int8, false uint8, none: by data
  bool per_channel = false;                                  ///< one scale per slice along ch_axis
  int64_t ch_axis = 0;        ///< channel axis for per_channel; weights: output channels; activations: 1
  bool narrow_range = false;  ///< drop the lowest signed (highest unsigned) level, e.g. [-127, 127]
  bool half_range = false;    ///< overflow fix: use half of the levels of a weight (7-bit weights in int8)
  /// Weights only: this many neighbours along group_axis share a scale, instead of a tensor or a channel; per_channel
  /// and ch_axis then have no meaning. 0: no groups. It must divide the size of the axis.
  int64_t group_size = 0;
  int64_t group_axis = -1;           ///< the axis that is summed over; negative counts from the last, -1
  std::vector<float> codebook = {};  ///< the levels of kCodebook4 and kCodebook8, ascending
  QParamsFormula formula = QParamsFormula::kNncf;
  /// Integers: PT2E-style annotators may fix the type of the codes (int8, uint8) and their limits; float16 is for
  /// weights that are stored so, without scales. They take the place of what format, signedness_to_force and
  /// narrow_range say about codes, in both formulas: set `formula` too where torch.ao's numbers are wanted.
  c10::optional<c10::ScalarType> dtype = c10::nullopt;
  c10::optional<int64_t> quant_min = c10::nullopt;
  c10::optional<int64_t> quant_max = c10::nullopt;
  double eps = 1.1920928955078125e-07;                    ///< kTorchAo: the smallest allowed scale
  ObserverKind observer = ObserverKind::kDefault;         ///< how the range is found
  double averaging_constant = 0.01;                       ///< of the moving averages
  HistogramRule histogram_rule = HistogramRule::kTorch2;  ///< prepare_*: how kHistogram counts
  /// prepare_*: the module that stands in the model; the flows that own the loop observe in the same way.
  FakeQuantizeType fake_quantize = FakeQuantizeType::kNone;
  /// Activations: scale and zero_point are computed from each tensor at run time; no statistics are collected.
  bool is_dynamic = false;
  /// Weights only, torch.ao's per_channel_affine_float_qparams: x = (code - zero_point) * scale with zero points that
  /// are float32 and need not be codes. Rows keep their range as it is, and zero need not lie in it. What embeddings
  /// get; layers cannot compute with such codes.
  bool float_zero_point = false;
  /// Activations, torch.ao's FX flow: quant_min and quant_max are limits of the observer, which chooses scale and
  /// zero_point for them. The reference and the lowered form quantize to all codes of the type, the others to these.
  bool limits_of_observer = false;
  /// Fixed parameters (PT2E FixedQParamsQuantizationSpec): no statistics are collected when set.
  c10::optional<double> fixed_scale = c10::nullopt;
  c10::optional<int64_t> fixed_zero_point = c10::nullopt;
};

bool operator==(const QuantizationSpec& a, const QuantizationSpec& b);

/// Whether scale and zero_point come from what is observed: they are neither fixed nor computed at run time.
inline bool needs_statistics(const QuantizationSpec& spec) { return !spec.fixed_scale && !spec.is_dynamic; }

enum class PointKind { kActivation, kWeight };

/// Refuses fields that contradict each other or the format, whatever the model: what Quantizer::validate and the
/// computation of scales both ask.
/// @param place of the quantizer, for the message
/// @throws Error kInvalidArgument: one of quant_min and quant_max without the other or not in order; a fixed scale that
///         is not positive or lacks beside a fixed zero point; limits or fixed parameters of a format that is not an
///         integer; groups of activations, of another size than the format's, or beside a fixed scale; a codebook
///         that the format does not have, lacks, or cannot number; a negative ch_axis; half_range of anything but a
///         symmetric weight of 3 bits or more; is_dynamic of anything but an asymmetric 8-bit activation per tensor;
///         float_zero_point of anything but an asymmetric integer weight per channel with unsigned codes, kTorchAo;
///         limits_of_observer of a weight, a dynamic activation, or without quant_min and quant_max;
///         with kNncfCompression an activation, narrow_range, half_range, a type or limits of the codes, or a fixed
///         scale
void check_spec(const QuantizationSpec& spec, PointKind kind, const std::string& place);

}  // namespace tsquant
