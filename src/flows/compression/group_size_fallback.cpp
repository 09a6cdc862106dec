#include "flows/compression/group_size_fallback.h"

#include <fmt/format.h>

#include "tsquant/error.h"

namespace tsquant {

void apply_group_size_fallback(std::vector<WeightLayer>& layers) {
  std::vector<std::string> failed;
  for (WeightLayer& layer : layers) {
    const int64_t group_size = layer.spec.group_size;
    if (layer.in_float || group_size == 0) continue;
    const int64_t channels = layer.weight.size(layer.spec.group_axis);
    if (channels % group_size == 0) continue;
    if (layer.point->compression && layer.point->compression->fallback == GroupSizeFallbackMode::kIgnore) {
      layer.in_float = true;
      layer.record.remarks.push_back(fmt::format("{} input channels are no groups of {}", channels, group_size));
      continue;
    }
    failed.push_back(
        fmt::format("{} ({}, {} input channels, groups of {})", layer.node->name, layer.name, channels, group_size));
  }
  if (failed.empty()) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the group size does not divide the input channels of {} weights: {}", failed.size(),
                          fmt::join(failed, "; ")),
              "group_size",
              "choose a divisor, ignore these weights, or set group_size_fallback_mode to ignore or adjust");
}

}  // namespace tsquant
