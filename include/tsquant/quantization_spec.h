#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Optional.h>

#include <cstdint>

namespace tsquant {

enum class QuantizationMode {
  kSymmetric,   ///< zero_point is fixed by the dtype: 0 for signed codes
  kAsymmetric,  ///< zero_point is chosen from the range
};

/// Floating-point formats of one byte (NNCF's FP8Type).
enum class FP8Type {
  kE4M3,  ///< 4 exponent bits, 3 mantissa bits, no infinity; largest value 448
  kE5M2,  ///< 5 exponent bits, 2 mantissa bits; largest finite value 57344
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

/// The quantizer configuration of one tensor. Field names follow NNCF's QuantizerConfig and PT2E's QuantizationSpec.
struct QuantizationSpec {
  int64_t num_bits = 8;                                    ///< 2..8
  QuantizationMode mode = QuantizationMode::kSymmetric;    ///< see QuantizationMode
  c10::optional<bool> signedness_to_force = c10::nullopt;  ///< symmetric only: true int8, false uint8, none: by data
  bool per_channel = false;                                ///< one scale per slice along ch_axis
  int64_t ch_axis = 0;        ///< channel axis for per_channel; weights: output channels; activations: 1
  bool narrow_range = false;  ///< drop the lowest signed (highest unsigned) level, e.g. [-127, 127]
  bool half_range = false;    ///< overflow fix: use half of the levels of a weight (7-bit weights in int8)
  /// PT2E-style annotators may fix the codes themselves; when set, these win over the rules above.
  c10::optional<c10::ScalarType> dtype = c10::nullopt;
  c10::optional<int64_t> quant_min = c10::nullopt;
  c10::optional<int64_t> quant_max = c10::nullopt;
  /// Smallest allowed scale of the torch.ao formula; used only when quant_min/quant_max are set.
  double eps = 1.1920928955078125e-07;
  ObserverKind observer = ObserverKind::kDefault;  ///< how the range is found
  /// When set, values are rounded to this floating-point format after scaling, instead of to integers; num_bits,
  /// signedness, narrow_range and half_range then have no meaning.
  c10::optional<FP8Type> destination_type = c10::nullopt;
  /// Fixed parameters (PT2E FixedQParamsQuantizationSpec): no statistics are collected when set.
  c10::optional<double> fixed_scale = c10::nullopt;
  c10::optional<int64_t> fixed_zero_point = c10::nullopt;
};

bool operator==(const QuantizationSpec& a, const QuantizationSpec& b);

enum class PointKind { kActivation, kWeight };

}  // namespace tsquant
