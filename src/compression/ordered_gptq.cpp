#include "compression/ordered_gptq.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "tsquant/error.h"

namespace tsquant {

namespace {

/// One block of columns for the rows of a panel, [columns, rows] in the order of the factor.
struct GptqBlock {
  at::Tensor weight;  ///< as earlier columns have changed it
  at::Tensor upper;   ///< U of these columns
  at::Tensor errors;
  const int64_t* columns;  ///< of the weight
};

void quantize_block(CodePanel& panel, const GptqBlock& block, const GroupCodec& codec) {
  const int64_t count = block.weight.size(0), rows = panel.rows;
  auto* weight = block.weight.data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t column = block.columns[i], group = column / panel.group_size;
    const float* w = weight + i * rows;
    const float* scales = panel.scales.data_ptr<float>() + group * rows;
    auto* levels = panel.levels.data_ptr<float>() + column * rows;
    codec.encode_each(w, rows, scales, panel.zero_points.data_ptr<int64_t>() + group * rows,
                      panel.codes.data_ptr<uint8_t>() + column * rows, levels);
    const float* factors = block.upper.data_ptr<float>() + i * count;
    auto* error = block.errors.data_ptr<float>() + i * rows;
    for (int64_t r = 0; r < rows; ++r) error[r] = (w[r] - levels[r] * scales[r]) / factors[i];
    for (int64_t k = i + 1; k < count; ++k) {
      float* later = weight + k * rows;
      for (int64_t r = 0; r < rows; ++r) later[r] -= factors[k] * error[r];
    }
  }
}

}  // namespace

void check_block_size(int64_t block_size) {
  if (block_size >= 1) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("block_size is {}", block_size), "", "give at least 1");
}

void gptq_panel(CodePanel& panel, const DampedFactor& factor, const GroupCodec& codec, int64_t block_size) {
  const auto weight = panel.weight.index_select(0, factor.order);
  for (int64_t first = 0; first < panel.inputs(); first += block_size) {
    const int64_t count = std::min(block_size, panel.inputs() - first), end = first + count;
    const auto upper = factor.upper.narrow(0, first, count);
    GptqBlock block;
    block.weight = weight.narrow(0, first, count);
    block.upper = upper.narrow(1, first, count).contiguous();
    block.errors = at::empty({count, panel.rows}, at::kFloat);
    block.columns = factor.order.data_ptr<int64_t>() + first;
    quantize_block(panel, block, codec);
    const int64_t rest = panel.inputs() - end;
    if (rest > 0) weight.narrow(0, end, rest).addmm_(upper.narrow(1, end, rest).t(), block.errors, 1, -1);
  }
  panel.products = at::Tensor();
}

CompressedWeight ordered_gptq(const at::Tensor& weight, const CompressedWeight& start, const DampedFactor& factor,
                              int64_t block_size) {
  check_block_size(block_size);
  CodePanels panels(weight, start, "ordered_gptq");
  if (factor.order.numel() != panels.inputs() ||
      factor.upper.sizes() != at::IntArrayRef{panels.inputs(), panels.inputs()}) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a factor of {} columns for a weight of {}", factor.order.numel(), panels.inputs()),
                "ordered_gptq", "compute it from the inputs of this layer");
  }
  panels.for_each([&](CodePanel& panel) { gptq_panel(panel, factor, panels.codec(), block_size); });
  return panels.result();
}

}  // namespace tsquant
