#include "kernels/dynamic_products.h"

#include <algorithm>

#include "kernels/compressed_gemm.h"

namespace tsquant::kernels {

RowParameters::RowParameters(const CompressedMatrix& matrix, int64_t width) : matrix_(matrix), width_(width) {
  const int64_t count = matrix.groups() * width;
  for (AlignedBuffer* buffer : {&rows_, &scales_, &zero_floats_}) {
    buffer->resize(static_cast<size_t>(count) * sizeof(float));
  }
  zeros_.resize(static_cast<size_t>(count) * sizeof(int32_t));
  std::fill_n(zeros_.as<int32_t>(), count, matrix.bits() == 8 ? 0 : 1 << (matrix.bits() - 1));
}

void RowParameters::transposed(const float* from, int64_t rows, float* to) const {
  if (rows < width_) std::fill_n(to, matrix_.groups() * width_, 0.0F);
  transpose(from, matrix_.groups(), rows, matrix_.groups(), nullptr, to, width_);
}

void RowParameters::start(int64_t row, int64_t rows) {
  matrix_.read_scales(row, rows, rows_.as<float>());
  transposed(rows_.as<float>(), rows, scales_.as<float>());
  if (matrix_.kind() != LevelKind::kUnsigned) return;
  matrix_.read_zeros(row, rows, rows_.as<float>());
  transposed(rows_.as<float>(), rows, zero_floats_.as<float>());
  const float* from = zero_floats_.as<float>();
  std::transform(from, from + matrix_.groups() * width_, zeros_.as<int32_t>(),
                 [](float zero) { return static_cast<int32_t>(zero); });
}

}  // namespace tsquant::kernels
