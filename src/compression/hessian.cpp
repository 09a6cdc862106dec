#include "compression/hessian.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Rows of one product in float32.
constexpr int64_t kRowsAtOnce = 512;
/// Columns of one block of the matrix.
constexpr int64_t kBlockColumns = 512;

}  // namespace

void Hessian::add(const at::Tensor& inputs) {
  const int64_t dims = inputs.dim();
  if (dims == 0 || !inputs.is_floating_point()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("inputs of type {} and {} dimensions are none of a linear layer",
                            c10::toString(inputs.scalar_type()), dims));
  }
  const int64_t width = inputs.size(-1);
  if (sum_.defined() && width != sum_.size(0)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("inputs with {} channels after inputs with {}", width, sum_.size(0)));
  }
  if (inputs.numel() == 0) return;
  if (!sum_.defined()) sum_ = at::zeros({width, width}, at::kDouble);
  const auto rows = inputs.detach().to(at::kFloat).reshape({-1, width}).contiguous();
  if (!at::isfinite(rows).all().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "the inputs of a layer have NaN or infinite values", "",
                "check the calibration data and the model's outputs for them");
  }
  for (int64_t row = 0; row < rows.size(0); row += kRowsAtOnce) {
    add_rows(rows.narrow(0, row, std::min(kRowsAtOnce, rows.size(0) - row)));
  }
  int64_t items = 1;
  for (int64_t d = 0; d + 2 < dims; ++d) items *= inputs.size(d);
  items_ += items;
}

void Hessian::add_rows(const at::Tensor& rows) {
  const int64_t width = rows.size(1);
  const auto transposed = rows.t();
  for (int64_t column = 0; column < width; column += kBlockColumns) {
    const int64_t count = std::min(kBlockColumns, width - column), above = column + count;
    sum_.narrow(0, 0, above)
        .narrow(1, column, count)
        .add_(at::mm(transposed.narrow(0, 0, above), rows.narrow(1, column, count)));
  }
}

at::Tensor Hessian::value() const& {
  Hessian copy = *this;
  if (sum_.defined()) copy.sum_ = sum_.clone();
  return std::move(copy).value();
}

// What lies below the diagonal becomes the mirror image of what lies above, a block of columns at a time.
at::Tensor Hessian::value() && {
  if (!sum_.defined()) return {};
  const int64_t width = sum_.size(0);
  for (int64_t column = 0; column < width; column += kBlockColumns) {
    const int64_t count = std::min(kBlockColumns, width - column);
    const auto diagonal = sum_.narrow(0, column, count).narrow(1, column, count);
    diagonal.copy_(at::triu(diagonal) + at::triu(diagonal, 1).t());
    if (column == 0) continue;
    sum_.narrow(0, column, count).narrow(1, 0, column).copy_(sum_.narrow(0, 0, column).narrow(1, column, count).t());
  }
  return sum_.mul_(2.0 / static_cast<double>(items_));
}

at::Tensor hessian_of(const std::vector<at::Tensor>& inputs, int64_t subset_size) {
  if (subset_size < 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("subset_size is {}", subset_size), "subset_size",
                "give at least 1");
  }
  Hessian hessian;
  for (size_t i = 0; i < inputs.size() && i < static_cast<size_t>(subset_size); ++i) hessian.add(inputs[i]);
  if (hessian.items() == 0) {
    throw Error(ErrorCode::kCalibration, "no inputs of a layer were collected", "", "give calibration data");
  }
  return std::move(hessian).value();
}

}  // namespace tsquant
