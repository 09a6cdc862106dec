#include "compression/scale_refit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace tsquant {

namespace {

/// Numbers of the systems of the rows that are solved together: 32 MB.
constexpr int64_t kSystemNumbers = int64_t{1} << 22;
/// Rounds in which single scales move.
constexpr int kScaleRounds = 2;

/// The normal equations of some rows.
struct NormalEquations {
  at::Tensor matrices;  ///< A, float64 [rows, groups, groups]
  at::Tensor residues;  ///< b - A s, float64 [rows, groups]
};

/// Row r's share of a cell: the sum over a group's inputs of x_jr y_jr.
void add_products(const float* x, const float* y, int64_t inputs, int64_t rows, std::vector<double>& sums) {
  std::fill(sums.begin(), sums.end(), 0.0);
  for (int64_t j = 0; j < inputs; ++j) {
    for (int64_t r = 0; r < rows; ++r) sums[r] += static_cast<double>(x[j * rows + r]) * y[j * rows + r];
  }
}

/// @param levels, products float32 [inputs, rows], contiguous
NormalEquations normal_equations(const at::Tensor& levels, const at::Tensor& products, const at::Tensor& hessian,
                                 int64_t group_size) {
  const int64_t rows = levels.size(1), inputs = levels.size(0), groups = inputs / group_size, cells = groups * groups;
  NormalEquations result;
  result.matrices = at::empty({rows, groups, groups}, at::kDouble);
  result.residues = at::empty({rows, groups}, at::kDouble);
  auto *a = result.matrices.data_ptr<double>(), *b = result.residues.data_ptr<double>();
  const float *level = levels.data_ptr<float>(), *product = products.data_ptr<float>();
  std::vector<double> sums(static_cast<size_t>(rows));
  const auto buffer = at::empty({inputs, rows}, at::kFloat);
  for (int64_t k = 0; k < groups; ++k) {
    const int64_t first = k * group_size;
    add_products(level + first * rows, product + first * rows, group_size, rows, sums);
    for (int64_t r = 0; r < rows; ++r) b[r * groups + k] = sums[r];
    // H_lk c_k for all groups from k on; the others follow by symmetry.
    auto spread = buffer.narrow(0, first, inputs - first);
    at::mm_out(spread, hessian.narrow(0, first, inputs - first).narrow(1, first, group_size),
               levels.narrow(0, first, group_size));
    for (int64_t l = k; l < groups; ++l) {
      add_products(spread.data_ptr<float>() + (l - k) * group_size * rows, level + l * group_size * rows, group_size,
                   rows, sums);
      for (int64_t r = 0; r < rows; ++r) a[r * cells + l * groups + k] = a[r * cells + k * groups + l] = sums[r];
    }
  }
  return result;
}

/// A^-1 times the residues; 0 in rows whose A is singular.
at::Tensor solution_of(const NormalEquations& equations) {
  auto matrices = equations.matrices.clone();
  auto diagonal = matrices.diagonal(0, 1, 2);
  // Groups without a level other than 0 have no say.
  diagonal.copy_(at::where(diagonal > 0, diagonal * (1 + 1e-9), at::ones_like(diagonal)));
  const auto [lower, fault] = at::linalg_cholesky_ex(matrices);
  const auto solvable = (fault == 0).reshape({-1, 1, 1});
  const auto safe = at::where(solvable, lower, at::eye(lower.size(1), at::kDouble));
  const auto solution = at::cholesky_solve(equations.residues.unsqueeze(2), safe);
  return at::where(solvable & at::isfinite(solution).all(1, /*keepdim=*/true), solution, at::zeros_like(solution))
      .squeeze(2)
      .contiguous();
}

/// The scales of one row, and how the error depends on them.
class RowScales {
 public:
  RowScales(const StoredScales& stored, std::vector<float> scales, const double* matrix, double* residues)
      : stored_(stored),
        scales_(std::move(scales)),
        groups_(static_cast<int64_t>(scales_.size())),
        matrix_(matrix),
        residues_(residues) {}

  /// Moves all scales together, when that lowers the error.
  void move_all(const double* steps) {
    std::vector<double> moves(scales_.size());
    double gain = 0;
    for (int64_t k = 0; k < groups_; ++k) moves[k] = static_cast<double>(target(k, steps[k])) - scales_[k];
    const auto change = times_matrix(moves);
    for (int64_t k = 0; k < groups_; ++k) gain += moves[k] * (2 * residues_[k] - change[k]);
    if (!(gain > 0)) return;
    for (int64_t k = 0; k < groups_; ++k) {
      scales_[k] = static_cast<float>(scales_[k] + moves[k]);
      residues_[k] -= change[k];
    }
  }

  /// Moves each scale alone, when that lowers the error.
  void move_each() {
    for (int64_t k = 0; k < groups_; ++k) {
      const double* row = matrix_ + k * groups_;
      if (!(row[k] > 0)) continue;
      const double move = static_cast<double>(target(k, residues_[k] / row[k])) - scales_[k];
      if (!(move * (2 * residues_[k] - move * row[k]) > 0)) continue;
      scales_[k] = static_cast<float>(scales_[k] + move);
      for (int64_t l = 0; l < groups_; ++l) residues_[l] -= move * row[l];
    }
  }

  const std::vector<float>& scales() const { return scales_; }

 private:
  /// What can be stored near to the scale after this step; the scale itself when nothing can.
  float target(int64_t group, double step) const {
    const auto scale = static_cast<float>(scales_[group] + step);
    return stored_.codec().usable(scale) ? stored_.nearest(scale) : scales_[group];
  }

  std::vector<double> times_matrix(const std::vector<double>& x) const {
    std::vector<double> result(x.size(), 0);
    for (int64_t k = 0; k < groups_; ++k) {
      if (x[k] == 0) continue;
      for (int64_t l = 0; l < groups_; ++l) result[l] += x[k] * matrix_[k * groups_ + l];
    }
    return result;
  }

  const StoredScales& stored_;
  std::vector<float> scales_;
  int64_t groups_;
  const double* matrix_;
  double* residues_;
};

}  // namespace

ScaleRefit::ScaleRefit(const QParams& q, const at::Tensor& hessian, const RefitOptions& options)
    : hessian_(hessian), stored_(q, options.scale_type) {}

/// @param steps float32 [groups, rows of the panel]: how far scales move
void ScaleRefit::solve_rows(CodePanel& panel, int64_t first, int64_t rows, at::Tensor& steps) const {
  const auto levels = panel.levels.narrow(1, first, rows).contiguous();
  const auto equations =
      normal_equations(levels, panel.products.narrow(1, first, rows).contiguous(), hessian_, panel.group_size);
  const auto solution = solution_of(equations);
  const int64_t groups = panel.groups();
  auto* scales = panel.scales.data_ptr<float>();
  auto* step = steps.data_ptr<float>();
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<float> given(static_cast<size_t>(groups));
    for (int64_t k = 0; k < groups; ++k) given[k] = scales[k * panel.rows + first + r];
    RowScales row(stored_, given, equations.matrices.data_ptr<double>() + r * groups * groups,
                  equations.residues.data_ptr<double>() + r * groups);
    row.move_all(solution.data_ptr<double>() + r * groups);
    for (int round = 0; round < kScaleRounds; ++round) row.move_each();
    for (int64_t k = 0; k < groups; ++k) {
      scales[k * panel.rows + first + r] = row.scales()[k];
      step[k * panel.rows + first + r] = row.scales()[k] - given[k];
    }
  }
}

StepErrors ScaleRefit::run(CodePanel& panel) const {
  const auto before = panel.copy();
  const auto errors_before = panel.errors();
  auto steps = at::empty({panel.groups(), panel.rows}, at::kFloat);
  const int64_t together = std::clamp<int64_t>(kSystemNumbers / (panel.groups() * panel.groups()), 1, panel.rows);
  for (int64_t first = 0; first < panel.rows; first += together) {
    solve_rows(panel, first, std::min(together, panel.rows - first), steps);
  }
  panel.products.addmm_(hessian_, panel.levels * panel.by_input(steps), 1, -1);
  return keep_better_rows(panel, before, errors_before);
}

CompressedWeight refit_scales(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& hessian,
                              const RefitOptions& options, StepErrors* errors) {
  const ScaleRefit refit(start.qparams, hessian, options);
  return improve_panels(weight, start, hessian, "refit_scales", errors,
                        [&](CodePanel& panel, const GroupCodec&) { return refit.run(panel); });
}

}  // namespace tsquant
