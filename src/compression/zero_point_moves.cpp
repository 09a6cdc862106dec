#include "compression/zero_point_moves.h"

#include <ATen/ATen.h>

#include "numerics/formats.h"
#include "run/single_thread_guard.h"

namespace tsquant {

namespace {

/// A zero point may move once more in each round.
constexpr int kMoveRounds = 2;

}  // namespace

ZeroPointMoves::ZeroPointMoves(const QParams& q, const at::Tensor& hessian, int64_t group_size)
    : has_zero_points_(format_info(q.format).integer && q.dtype == c10::kByte),
      lowest_(q.quant_min),
      highest_(q.quant_max) {
  if (!has_zero_points_) return;
  const SingleThreadGuard deterministic;
  const int64_t inputs = hessian.size(0), groups = inputs / group_size;
  group_rows_ = hessian.reshape({groups, group_size, inputs}).sum(1);
  group_cells_ = group_rows_.to(at::kDouble).reshape({groups, groups, group_size}).sum(2).contiguous();
}

bool ZeroPointMoves::try_group(CodePanel& panel, int64_t group, at::Tensor& sums, at::Tensor& moved) const {
  const int64_t rows = panel.rows, first = group * rows;
  const float* scales = panel.scales.data_ptr<float>() + first;
  auto* zero_points = panel.zero_points.data_ptr<int64_t>() + first;
  const double* cells = group_cells_.data_ptr<double>() + group * panel.groups();
  auto* sum = sums.data_ptr<double>();
  auto* move = moved.data_ptr<float>() + first;
  bool any = false;
  for (int64_t r = 0; r < rows; ++r) {
    // Values fall where the zero point rises.
    const int64_t direction = (sum[first + r] > 0) == (scales[r] > 0) ? -1 : 1;
    const int64_t zero = zero_points[r] + direction;
    const double step = -static_cast<double>(direction) * scales[r];
    if (zero < lowest_ || zero > highest_ || !(step * (step * cells[group] - 2 * sum[first + r]) < 0)) continue;
    zero_points[r] = zero;
    move[r] += static_cast<float>(step);
    for (int64_t k = 0; k < panel.groups(); ++k) sum[k * rows + r] -= step * cells[k];
    any = true;
  }
  return any;
}

void ZeroPointMoves::run(CodePanel& panel) const {
  if (!has_zero_points_) return;
  const auto before = panel.zero_points.clone();
  auto sums =
      panel.products.to(at::kDouble).reshape({panel.groups(), panel.group_size, panel.rows}).sum(1).contiguous();
  auto moved = at::zeros({panel.groups(), panel.rows}, at::kFloat);
  bool any = true;
  for (int round = 0; any && round < kMoveRounds; ++round) {
    any = false;
    for (int64_t group = 0; group < panel.groups(); ++group) any = try_group(panel, group, sums, moved) || any;
  }
  panel.levels.sub_(panel.by_input((panel.zero_points - before).to(at::kFloat)));
  panel.products.addmm_(group_rows_.t(), moved, 1, -1);
}

}  // namespace tsquant
