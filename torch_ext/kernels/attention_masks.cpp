#include "kernels/attention_masks.h"

#include <ATen/ATen.h>

#include "kernels/product_operand.h"

namespace tsquant::kernels {
namespace {

/// Dimensions of size 1 repeat; so does a first one that divides the scores'.
bool fits(const at::Tensor& mask, at::IntArrayRef sizes) {
  for (size_t d = 0; d < sizes.size(); ++d) {
    const int64_t size = mask.size(static_cast<int64_t>(d));
    const bool repeats = d == 0 && sizes.size() > 2 && size > 0 && sizes[0] % size == 0;
    if (size != 1 && size != sizes[d] && !repeats) return false;
  }
  return true;
}

}  // namespace

AttentionMasks::AttentionMasks(at::TensorList masks, at::IntArrayRef sizes) : batch_(sizes.begin(), sizes.end() - 2) {
  TORCH_CHECK(static_cast<int64_t>(masks.size()) <= kMostMasks, "tsquant: attention takes at most ", kMostMasks,
              " masks, it is given ", masks.size());
  for (const at::Tensor& given : masks) {
    TORCH_CHECK(given.defined() && given.scalar_type() == at::kFloat && given.device().is_cpu() &&
                    given.layout() == at::kStrided,
                "tsquant: a mask of attention must hold floats on the CPU, it is ", given.toString());
    at::Tensor mask = given;
    while (mask.dim() < static_cast<int64_t>(sizes.size())) mask = mask.unsqueeze(0);
    TORCH_CHECK(mask.dim() == static_cast<int64_t>(sizes.size()) && fits(mask, sizes),
                "tsquant: a mask of attention with the shape ", given.sizes(),
                " does not broadcast to that of the scores, ", sizes);
    if (mask.size(-1) != sizes.back()) {
      auto wide = mask.sizes().vec();
      wide.back() = sizes.back();
      mask = mask.expand(wide);
    }
    masks_.push_back(sizes.back() == 1 || mask.stride(-1) == 1 ? mask : mask.contiguous());
  }
}

void AttentionMasks::point(int64_t matrix, int64_t first, ScoreRows& rows) const {
  for (const at::Tensor& mask : masks_) {
    const int64_t down = mask.size(-2) == 1 ? 0 : mask.stride(-2);
    const int64_t at = matrix_offset(matrix, batch_, mask.sizes(), mask.strides()) + first * down;
    rows.masks[rows.mask_count++] = {mask.data_ptr<float>() + at, down};
  }
}

}  // namespace tsquant::kernels
