#include "flows/compression/finite_weights.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "io/file_mapping.h"
#include "numerics/groups.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

bool is_finite(const at::Tensor& weight) {
  constexpr int64_t kPartValues = 1 << 20;
  if (weight.numel() == 0) return true;
  const int64_t rows = weight.size(0), step = std::max<int64_t>(1, kPartValues * rows / weight.numel());
  bool finite = true;
  for (int64_t begin = 0; finite && begin < rows; begin += step) {
    const auto part = weight.narrow(0, begin, std::min(step, rows - begin)).to(at::kFloat).contiguous();
    const Range range = row_range(part, 1);
    finite = at::isfinite(range.min).item<bool>() && at::isfinite(range.max).item<bool>();
    give_pages_back(weight);
  }
  return finite;
}

}  // namespace

void require_finite_weights(const std::vector<WeightLayer>& layers) {
  for (const WeightLayer& layer : layers) {
    if (layer.in_float || is_finite(layer.weight)) continue;
    throw Error(ErrorCode::kUnsupportedModel, "the weight has NaN or infinite values", layer.name,
                "mend the model, or put this layer into the ignored scope");
  }
}

}  // namespace tsquant
