#pragma once

#include "compression/compressed_weight.h"

namespace tsquant {

/// Each value to the nearest code, the scales from the range alone; what nncf.compress_weights does without data, bit
/// for bit. Source: nncf weight_lowering.py.
/// @param weight floating point, finite
/// @param spec format, mode, codebook, and either group_size and group_axis or per_channel and ch_axis; the formula is
///        kNncfCompression whatever it says
/// @throws Error kInvalidArgument as check_spec, and for axes that are no whole number of groups; kCalibration for a
///         weight with NaN or infinite values
CompressedWeight round_to_nearest(const at::Tensor& weight, const QuantizationSpec& spec);

}  // namespace tsquant
