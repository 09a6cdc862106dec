#include "compression/coordinate_descent.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "compression/ordered_gptq.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// One sweep over the columns of a panel.
class Sweep {
 public:
  Sweep(CodePanel& panel, const at::Tensor& hessian, const GroupCodec& codec)
      : panel_(panel),
        hessian_(hessian),
        codec_(codec),
        values_(panel.values()),
        targets_(panel.rows),
        levels_(panel.rows),
        codes_(panel.rows) {}

  /// How many codes changed.
  int64_t run(int64_t block_size) {
    int64_t changed = 0;
    for (int64_t first = 0; first < panel_.inputs(); first += block_size) {
      const int64_t count = std::min(block_size, panel_.inputs() - first);
      const auto steps = at::zeros({count, panel_.rows}, at::kFloat);
      const auto block = hessian_.narrow(0, first, count).narrow(1, first, count).contiguous();
      const int64_t in_block = sweep_block(first, block, steps);
      changed += in_block;
      if (in_block > 0) update_others(first, count, steps);
    }
    return changed;
  }

 private:
  int64_t sweep_block(int64_t first, const at::Tensor& block, const at::Tensor& steps) {
    const int64_t count = block.size(0), rows = panel_.rows;
    int64_t changed = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float* h = block.data_ptr<float>() + i * count;
      float* step = steps.data_ptr<float>() + i * rows;
      const int64_t here = h[i] > 0 ? step_column(first + i, h[i], step) : 0;
      changed += here;
      for (int64_t k = 0; here > 0 && k < count; ++k) {
        float* product = panel_.products.data_ptr<float>() + (first + k) * rows;
        for (int64_t r = 0; r < rows; ++r) product[r] -= h[k] * step[r];
      }
    }
    return changed;
  }

  /// Takes the best codes of one column; `step` is what their values change by.
  int64_t step_column(int64_t column, float curvature, float* step) {
    const int64_t rows = panel_.rows, group = column / panel_.group_size * rows, first = column * rows;
    const float* scales = panel_.scales.data_ptr<float>() + group;
    const float* product = panel_.products.data_ptr<float>() + first;
    auto* values = values_.data_ptr<float>() + first;
    auto* codes = panel_.codes.data_ptr<uint8_t>() + first;
    auto* levels = panel_.levels.data_ptr<float>() + first;
    for (int64_t r = 0; r < rows; ++r) targets_[r] = values[r] + product[r] / curvature;
    codec_.encode_each(targets_.data(), rows, scales, panel_.zero_points.data_ptr<int64_t>() + group, codes_.data(),
                       levels_.data());
    int64_t changed = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const float change = levels_[r] * scales[r] - values[r];
      // The error changes by change^2 H_jj - 2 change D_j.
      if (codes_[r] == codes[r] || !(change * (change * curvature - 2 * product[r]) < 0)) continue;
      step[r] = change;
      values[r] = levels_[r] * scales[r];
      codes[r] = codes_[r];
      levels[r] = levels_[r];
      ++changed;
    }
    return changed;
  }

  /// D of the columns before and after the block.
  void update_others(int64_t first, int64_t count, const at::Tensor& steps) {
    const auto columns = hessian_.narrow(1, first, count);
    const int64_t end = first + count, rest = panel_.inputs() - end;
    if (first > 0) panel_.products.narrow(0, 0, first).addmm_(columns.narrow(0, 0, first), steps, 1, -1);
    if (rest > 0) panel_.products.narrow(0, end, rest).addmm_(columns.narrow(0, end, rest), steps, 1, -1);
  }

  CodePanel& panel_;
  const at::Tensor& hessian_;
  const GroupCodec& codec_;
  at::Tensor values_;
  std::vector<float> targets_, levels_;
  std::vector<uint8_t> codes_;
};

}  // namespace

void check_descent(const DescentOptions& options) {
  check_block_size(options.block_size);
  if (options.sweeps >= 1) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("coordinate descent of {} sweeps", options.sweeps),
              "DescentOptions", "give at least 1");
}

StepErrors descend_panel(CodePanel& panel, const at::Tensor& hessian, const GroupCodec& codec,
                         const DescentOptions& options) {
  const auto before = panel.copy();
  const auto errors_before = panel.errors();
  for (int sweep = 0; sweep < options.sweeps; ++sweep) {
    if (Sweep(panel, hessian, codec).run(options.block_size) == 0) break;
  }
  return keep_better_rows(panel, before, errors_before);
}

CompressedWeight coordinate_descent(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& hessian,
                                    const DescentOptions& options, StepErrors* errors) {
  check_descent(options);
  return improve_panels(
      weight, start, hessian, "coordinate_descent", errors,
      [&](CodePanel& panel, const GroupCodec& codec) { return descend_panel(panel, hessian, codec, options); });
}

}  // namespace tsquant
