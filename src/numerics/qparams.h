#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "tsquant/quantization_spec.h"
#include "tsquant/range.h"

namespace tsquant {

/// Quantization parameters of one tensor. Integers: q = clamp(round(x / scale) + zero_point, quant_min, quant_max).
/// Other formats: x is about decode(code) * scale * tensor_scale; quant_min, quant_max and zero_point are those of
/// bytes, 0, 255 and 0.
struct QParams {
  Format format = Format::kInt8;
  QParamsFormula formula = QParamsFormula::kNncf;
  at::Tensor scale;       ///< float32 [1] or [channels]; with groups the shape of x, group_axis divided by group_size
  at::Tensor zero_point;  ///< int64, or float32 (has_float_zero_points), in the shape of scale
  /// Formats with ScaleFormat::kE4M3: float32 [1], a factor of all scales. Undefined: 1.
  at::Tensor tensor_scale = {};
  std::vector<float> codebook = {};  ///< of kCodebook4 and kCodebook8
  int64_t quant_min = -128, quant_max = 127;
  c10::ScalarType dtype = c10::kChar;  ///< of the codes: kChar or kByte; kHalf: values in float16, without scales
  bool per_channel = false;
  int64_t axis = 0;
  int64_t group_size = 0;   ///< 0: no groups; else per_channel is false
  int64_t group_axis = -1;  ///< negative counts from the last axis
  /// Activations: scale and zero_point, here 1 and 0, are computed from each tensor at run time. Scales are at least
  /// `eps`.
  bool is_dynamic = false;
  double eps = 0;
  Range range;  ///< the range that was asked for
};

using QParamTable = std::map<int64_t, QParams>;

/// Range -> scale and zero_point by the spec's formula. Scales are finite; in all formulas but kNncfCompression zero is
/// representable and scales are positive. One implementation for the whole project.
/// @param range without groups [1] or [channels], else as `group_range` gives it
/// @param tolerated asymmetric codes of kNncfCompression: ranges of one sign that are further from 0 are widened to
///        hold it, since clamping their zero point would move values that far. Without it `largest_half_step` of the
///        range; give that of the whole weight with the range of a part.
QParams choose_qparams(const Range& range, const QuantizationSpec& spec, PointKind kind,
                       const c10::optional<float>& tolerated = c10::nullopt);

/// Whether the parameters of one range depend on the other ranges of the weight, by `largest_half_step`.
bool clamps_zero_points(const QuantizationSpec& spec);

/// How far codes of the widest of these ranges may be off. @param spec one that clamps zero points
float largest_half_step(const Range& range, const QuantizationSpec& spec);

/// Whether a range is widened when these are all ranges of the weight. @param spec one that clamps zero points
bool loses_values_of_one_sign(const Range& range, const QuantizationSpec& spec);

/// Whether the range is as small as quantizers allow and the formulas widened it: not one value of the tensor decided
/// the scale. Per channel only when this holds for all channels.
bool has_smallest_scale(const QParams& q, const QuantizationSpec& spec);
/// Channels of a symmetric quantizer whose scale covers less than half of their lower bound, because NNCF's formula
/// looks at the upper one only; an int64 list, empty for other quantizers.
at::Tensor channels_without_negative_side(const QParams& q, const QuantizationSpec& spec);

/// Whether LibTorch's quantized tensors hold these parameters and its kernels compute their codes: integers per tensor
/// or channel with integer zero points, by any formula but kNncfCompression.
bool is_libtorchs(const QParams& q);

/// Whether x = (code - zero_point) * scale with zero points that need not be codes: q = round(x / scale + zero_point),
/// as LibTorch's per_channel_affine_float_qparams computes it. Its tensors of this kind cannot be copied, so graphs
/// hold the codes as bytes.
bool has_float_zero_points(const QParams& q);

/// Whether weights are stored with these parameters, but nothing computes such codes while a model runs: those with
/// floating-point zero points, and float16.
bool is_for_storage(const QParams& q);

/// Codes (dtype of `q`) of a float tensor, per tensor, channel or group.
at::Tensor quantize(const at::Tensor& x, const QParams& q);
at::Tensor dequantize(const at::Tensor& codes, const QParams& q);

}  // namespace tsquant
