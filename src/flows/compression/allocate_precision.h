#pragma once

#include <vector>

#include "flows/compression/rank_group.h"
#include "flows/compression/weight_layers.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// With a target of size: gives each ratio-defining weight 2, 3, 4 or 8 bits, so that the sum of relative errors is as
/// small as the bytes allow (allocate_bits.h). The error of a choice is measured: by plain rounding, on the layer's
/// inputs where data were given, else on the weight itself.
/// @param layers whose group sizes divide (group_size_fallback.h)
/// @param float_bytes of the whole model's tensors
/// @throws Error kInvalidArgument when the target is out of reach, naming the smallest one that is not
void allocate_precision(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options, int64_t float_bytes,
                        RankGroup& ranks);

/// Bytes of the codes, scales and zero points that a weight gets with this spec.
int64_t compressed_bytes(const at::Tensor& weight, const QuantizationSpec& spec);

}  // namespace tsquant
