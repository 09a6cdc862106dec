#pragma once

#include "numerics/qparams.h"

namespace tsquant {

/// Beyond this magnitude `level * range` overflows float32; the same formulas then run in float64.
constexpr double kFloatSafe = 1e30;

/// What NNCF widens narrower ranges to (fake_quantize.py).
constexpr double kSmallestMagnitude = 8e-5, kSmallestWidth = 8e-4;

/// The codes of an integer quantizer.
struct IntegerCodes {
  int64_t low, high;
  c10::ScalarType dtype;  ///< kChar or kByte
};

/// All codes of the spec's format, or those between its quant_min and quant_max.
/// @param is_signed what they are when neither dtype nor quant_min tells
/// @throws Error kInvalidArgument: a dtype that is no byte, or limits outside of the format
IntegerCodes integer_codes(const QuantizationSpec& spec, bool is_signed);

/// float32, or float64 where the range is too large for the formulas.
c10::ScalarType computed_in(const Range& range);

/// Parameters of integers: makes scales positive and finite, and zero points codes.
QParams integer_qparams(const at::Tensor& scale, const at::Tensor& zero_point, const IntegerCodes& codes,
                        const QuantizationSpec& spec, const Range& range);

/// A list of parameters, or, with groups, parameters in the shape of these.
at::Tensor shaped_parameters(const at::Tensor& x, const QuantizationSpec& spec);

/// The largest magnitude that codes of the spec stand for before scaling.
double largest_level(const QuantizationSpec& spec);

/// What all parameters of the spec have in common.
QParams empty_qparams(const QuantizationSpec& spec, const Range& range);

QParams nncf_qparams(const Range& range, const QuantizationSpec& spec);
QParams torch_ao_qparams(const Range& range, const QuantizationSpec& spec);
/// @param tolerated as of `choose_qparams`
QParams compression_qparams(const Range& range, const QuantizationSpec& spec, const c10::optional<float>& tolerated);

/// Formats that are not integers, by NNCF's or torch.ao's formula: the largest magnitude of the range meets the largest
/// level. NNCF leaves FP8 per tensor half of the levels, because the mean range over samples is often smaller than the
/// largest sample (calculate_convert_parameters, whose scale is the reciprocal of ours).
QParams level_qparams(const Range& range, const QuantizationSpec& spec);

}  // namespace tsquant
