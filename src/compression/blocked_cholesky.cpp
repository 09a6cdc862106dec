#include "compression/blocked_cholesky.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "compression/row_panels.h"
#include "run/single_thread_guard.h"

namespace tsquant {

namespace {

constexpr int64_t kCholeskyBlock = 256;

/// Block (row, column) of blocks of a matrix, up to `columns` columns of blocks together.
at::Tensor blocks_at(const at::Tensor& a, int64_t row, int64_t first_column, int64_t end_column) {
  const int64_t n = a.size(0), top = row * kCholeskyBlock, left = first_column * kCholeskyBlock;
  return a.narrow(0, top, std::min(kCholeskyBlock, n - top))
      .narrow(1, left, std::min(end_column * kCholeskyBlock, n) - left);
}

at::Tensor block_at(const at::Tensor& a, int64_t row, int64_t column) { return blocks_at(a, row, column, column + 1); }

}  // namespace

// Block column by block column: what the columns to the left contribute is one product, and each block of rows is
// independent of the others.
bool factorize_cholesky(at::Tensor& a) {
  const SingleThreadGuard deterministic;
  const int64_t blocks = panels_of(a.size(0), kCholeskyBlock);
  for (int64_t k = 0; k < blocks; ++k) {
    const auto left = blocks_at(a, k, 0, k);
    for_each_panel(k == 0 ? 0 : blocks - k,
                   [&](int64_t i) { block_at(a, k + i, k).addmm_(blocks_at(a, k + i, 0, k), left.t(), 1, -1); });
    auto diagonal = block_at(a, k, k);
    const auto [lower, fault] = at::linalg_cholesky_ex(diagonal);
    if (fault.item<int64_t>() != 0 || !at::isfinite(lower).all().item<bool>()) return false;
    diagonal.copy_(lower);
    const auto upper = lower.t();
    for_each_panel(blocks - k - 1, [&](int64_t i) {
      auto below = block_at(a, k + 1 + i, k);
      below.copy_(at::linalg_solve_triangular(upper, below, /*upper=*/true, /*left=*/false));
    });
  }
  return true;
}

// Column by column of blocks: X_kk = L_kk^-1, and X_ik = -L_ii^-1 sum_j L_ij X_jk.
at::Tensor inverse_of_lower(const at::Tensor& lower) {
  const SingleThreadGuard deterministic;
  const int64_t n = lower.size(0), blocks = panels_of(n, kCholeskyBlock);
  const auto result = at::zeros({n, n}, at::kFloat);
  for_each_panel(blocks, [&](int64_t k) {
    const int64_t first = k * kCholeskyBlock, columns = std::min(kCholeskyBlock, n - first);
    const auto x = at::zeros({n - first, columns}, at::kDouble);
    for (int64_t i = k; i < blocks; ++i) {
      auto target = block_at(lower, i, i);
      const int64_t top = i * kCholeskyBlock - first;
      const auto right =
          i == k ? at::eye(columns, at::kDouble) : at::mm(blocks_at(lower, i, k, i), x.narrow(0, 0, top)).neg_();
      x.narrow(0, top, target.size(0)).copy_(at::linalg_solve_triangular(target, right, /*upper=*/false));
    }
    result.narrow(0, first, n - first).narrow(1, first, columns).copy_(x);
  });
  return result;
}

}  // namespace tsquant
