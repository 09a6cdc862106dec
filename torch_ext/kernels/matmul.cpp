#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/attention.h"
#include "kernels/product_operand.h"
#include "kernels/product_result.h"

namespace tsquant::kernels {
namespace {

constexpr int64_t kMatmulRows = 64;            // that are multiplied at once
constexpr int64_t kMatmulGrain = 1000 * 1000;  // products that one thread should at least get

struct MatmulScratch {
  AlignedBuffer left, right, sums;
};
thread_local MatmulScratch matmul_scratch;

/// A product whose operands have the same batch.
template <typename Value, typename Sum>
struct Matmul {
  const ProductOperand &a, &b;
  const ProductResult& result;
  float factor;  ///< of the sums

  int64_t blocks() const { return (a.rows() + kMatmulRows - 1) / kMatmulRows; }

  /// Blocks [begin, end) of the rows of all matrices.
  void run(int64_t begin, int64_t end) const {
    const int64_t panels = panel_count(b.columns()), steps = panel_steps<Value>(b.rows());
    const int64_t padded = steps * kPanelStep<Value>, wide = panels * kPanelColumns;
    const auto panel_size = static_cast<size_t>(panel_values(b.rows(), b.columns()));
    MatmulScratch& s = matmul_scratch;
    s.left.resize(static_cast<size_t>(kMatmulRows * padded) * sizeof(Value));
    s.right.resize(panel_size * sizeof(Value));
    s.sums.resize(static_cast<size_t>(kMatmulRows * wide) * sizeof(Sum));
    auto *left = s.left.as<Value>(), *right = s.right.as<Value>();
    auto* sums = s.sums.as<Sum>();
    const std::vector<float> factors(static_cast<size_t>(kMatmulRows), factor);
    int64_t packed = -1;
    for (int64_t block = begin; block < end; ++block) {
      const int64_t matrix = block / blocks(), first = block % blocks() * kMatmulRows;
      const int64_t count = std::min(kMatmulRows, a.rows() - first);
      if (matrix != packed) b.pack_right(matrix, right);
      packed = matrix;
      a.pack_left(matrix, first, count, padded, left);
      multiply(PanelProduct<Value, Sum>{left, padded, right, steps, count, panels, sums, wide});
      result.write(matrix, first, SumRows<Sum>{sums, wide, count, b.columns(), factors.data()});
    }
  }

  void run() const {
    const int64_t matrices = c10::multiply_integers(a.batch());
    const int64_t work = std::max<int64_t>(1, std::min(kMatmulRows, a.rows()) * b.rows() * b.columns());
    at::parallel_for(0, matrices * blocks(), std::max<int64_t>(1, kMatmulGrain / work),
                     [&](int64_t begin, int64_t end) { run(begin, end); });
  }
};

at::Tensor product(const at::Tensor& x, const at::Tensor& y, c10::optional<ResultCodes> codes) {
  ProductOperand a(x, "first operand of matmul"), b(y, "second operand of matmul");
  TORCH_CHECK(a.is_codes() && b.is_codes(), "tsquant: both operands of matmul must be codes");
  TORCH_CHECK(a.columns() == b.rows(), "tsquant: the operands of matmul have the shapes ", x.sizes(), " and ",
              y.sizes(), ", whose inner sizes differ");
  auto sizes = common_batch(a, b);
  a.expand(sizes);
  b.expand(sizes);
  sizes.insert(sizes.end(), {a.rows(), b.columns()});
  ProductResult result(x, sizes, x.scalar_type(), codes);
  if (result.tensor().numel() == 0) return result.tensor();
  const auto factor = static_cast<float>(a.scale() * b.scale() * result.inverse_scale());
  if (a.columns() <= kMostExactProducts) {
    Matmul<int16_t, int32_t>{a, b, result, factor}.run();
  } else {
    Matmul<float, float>{a, b, result, factor}.run();
  }
  return result.tensor();
}

}  // namespace

at::Tensor matmul_float(const at::Tensor& a, const at::Tensor& b) { return product(a, b, c10::nullopt); }

at::Tensor matmul(const at::Tensor& a, const at::Tensor& b, double scale, int64_t zero_point) {
  return product(a, b, ResultCodes{scale, zero_point});
}

}  // namespace tsquant::kernels
