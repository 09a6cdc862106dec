#pragma once

#include <string>

#include "numerics/qparams.h"

namespace tsquant {

/// "f8e4m3" or "f8e5m2": the format argument of tsquant::quantize_fp8 (NNCF's FP8Type values).
std::string format_name(FP8Type type);

/// Parameters that map the range onto the format's largest value. Per-tensor ranges get half of that: the mean range
/// over samples is often smaller than the largest sample. Source: nncf calculate_convert_parameters, whose scale is the
/// reciprocal of ours.
QParams fp8_qparams(const Range& range, const QuantizationSpec& spec);

/// Codes (uint8) and values by tsquant::quantize_fp8 and dequantize_fp8.
at::Tensor quantize_to_fp8(const at::Tensor& x, const QParams& q);
at::Tensor dequantize_from_fp8(const at::Tensor& codes, const QParams& q);

}  // namespace tsquant
