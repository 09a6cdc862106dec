#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>

#include "tsquant/quantization_spec.h"
#include "tsquant/range.h"

namespace tsquant {

/// Quantization parameters of one tensor: q = clamp(round(x / scale) + zero_point, quant_min, quant_max).
struct QParams {
  at::Tensor scale;       ///< float32 [1] or [channels]
  at::Tensor zero_point;  ///< int64 [1] or [channels]
  int64_t quant_min = -128, quant_max = 127;
  c10::ScalarType dtype = c10::kChar;  ///< kChar or kByte
  bool per_channel = false;
  int64_t axis = 0;
  /// Set: codes are bytes of this floating-point format, x is about decode(code) * scale; zero_point is 0.
  c10::optional<FP8Type> destination_type = c10::nullopt;
  Range range;  ///< the range that was asked for
};

using QParamTable = std::map<int64_t, QParams>;

/// Range -> scale and zero_point. Uses NNCF's formulas (calculate_quantizer_parameters and the FX conversion), or
/// torch.ao's (UniformQuantizationObserverBase) when spec.quant_min/quant_max are set. Zero is always representable,
/// scale is positive and finite. One implementation for the whole project.
QParams choose_qparams(const Range& range, const QuantizationSpec& spec, PointKind kind);

/// Whether the range is as small as quantizers allow and the formulas widened it: not one value of the tensor decided
/// the scale. Per channel only when this holds for all channels.
bool has_smallest_scale(const QParams& q, const QuantizationSpec& spec);
/// Channels of a symmetric quantizer whose scale covers less than half of their lower bound, because NNCF's formula
/// looks at the upper one only; an int64 list, empty for other quantizers.
at::Tensor channels_without_negative_side(const QParams& q, const QuantizationSpec& spec);

/// Integer codes (dtype of `q`) of a float tensor, per tensor or per channel.
at::Tensor quantize(const at::Tensor& x, const QParams& q);
at::Tensor dequantize(const at::Tensor& codes, const QParams& q);

}  // namespace tsquant
