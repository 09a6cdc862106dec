#pragma once

#include "compression/compressed_weight.h"

namespace tsquant {

/// Each value to the nearest code, the scales from the range alone; what nncf.compress_weights does without data, bit
/// for bit, but for groups of one sign that its zero points would lose (`choose_qparams`). Source: nncf
/// weight_lowering.py.
/// @param weight floating point, finite
/// @param spec format, mode, codebook, and either group_size and group_axis or per_channel and ch_axis; the formula is
///        kNncfCompression whatever it says
/// @throws Error kInvalidArgument as check_spec, and for axes that are no whole number of groups; kCalibration for a
///         weight with NaN or infinite values
CompressedWeight round_to_nearest(const at::Tensor& weight, const QuantizationSpec& spec);

/// Rounds parts of a weight to the codes that they have in the whole, which is looked at only where they depend on it.
class PartRounding {
 public:
  /// @param whole,spec as of `round_to_nearest`
  PartRounding(at::Tensor whole, QuantizationSpec spec);

  /// @param part with whole channels or groups, its axes those of the whole weight
  CompressedWeight round(const at::Tensor& part);

 private:
  at::Tensor whole_;
  QuantizationSpec spec_;
  c10::optional<float> tolerated_;  ///< `largest_half_step` of the whole weight
};

}  // namespace tsquant
