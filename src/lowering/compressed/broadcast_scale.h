#pragma once

#include <vector>

#include "compression/compressed_weight.h"

namespace tsquant {

/// Scales in the shape in which they broadcast over the values of a weight.
struct BroadcastScale {
  at::Tensor scale;             ///< float32
  std::vector<int64_t> groups;  ///< of the values, [out, groups, size]; that of the weight without groups
};
BroadcastScale broadcast_scale(const CompressedWeight& weight);

/// The other way: sets `scale`, and the axis or the group that it is for. @param shape of the weight
void set_scale(QParams& q, const at::Tensor& scale, at::IntArrayRef shape, at::IntArrayRef groups);

}  // namespace tsquant
