#include "compression/principal_components.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "compression/row_panels.h"
#include "run/single_thread_guard.h"

namespace tsquant {

namespace {

/// More vectors than asked for: the last ones then converge as fast as the others.
constexpr int64_t kSpare = 8;
constexpr int kMostRounds = 300;
constexpr double kStill = 1e-10;

/// Any fixed numbers without structure.
at::Tensor start_vectors(int64_t n, int64_t count) {
  const auto generator = at::detail::createCPUGenerator(1);
  return at::randn({n, count}, generator, at::TensorOptions(at::kDouble));
}

}  // namespace

at::Tensor principal_components(const at::Tensor& matrix, int64_t count) {
  const SingleThreadGuard deterministic;
  const int64_t n = matrix.size(0), vectors = std::min(n, count + kSpare);
  auto basis = std::get<0>(at::linalg_qr(start_vectors(n, vectors)));
  at::Tensor rotation;
  double share = -1;
  for (int round = 0; round < kMostRounds; ++round) {
    const auto image = panel_product(matrix, basis);
    // Eigenvalues ascend.
    const auto [values, inner] = at::linalg_eigh(at::mm(basis.t(), image));
    rotation = inner.narrow(1, vectors - count, count).flip({1});
    const auto before = share;
    share = values.narrow(0, vectors - count, count).sum().item<double>();
    if (vectors == n || !(share - before > kStill * share)) break;
    basis = std::get<0>(at::linalg_qr(image));
  }
  return at::mm(basis, rotation);
}

}  // namespace tsquant
