#include "observers/tensor_rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Rows at least this long are reduced one by one by the vectorised whole-tensor kernel.
constexpr int64_t kLongRow = 4096;

/// Whole tensors (channels-last ones too) need no copy: the order inside a row does not matter.
at::Tensor flat_items(const at::Tensor& x, int64_t items) {
  const int64_t elements = x.numel() / items;
  const bool item_is_block = items == 1 || x.stride(0) == elements;
  if (item_is_block && x.is_non_overlapping_and_dense()) return x.as_strided({items, elements}, {elements, 1});
  return x.reshape({items, elements}).contiguous();
}

}  // namespace

Rows to_rows(const at::Tensor& x, c10::optional<int64_t> axis, bool per_item) {
  const auto values = x.detach().to(at::kFloat);
  Rows rows;
  rows.items = per_item && values.dim() > 0 ? values.size(0) : 1;
  if (!axis) {
    rows.values = flat_items(values, rows.items);
    return rows;
  }
  const int64_t wrapped = *axis < 0 ? *axis + values.dim() : *axis;
  if (wrapped < 0 || wrapped >= values.dim()) {
    throw Error(ErrorCode::kCalibration,
                fmt::format("channel axis {} does not exist in a tensor of {} dimensions", *axis, values.dim()), "",
                "quantize this tensor per tensor");
  }
  rows.channels = values.size(wrapped);
  if (per_item && wrapped > 0) {
    rows.values = values.movedim(wrapped, 1).reshape({rows.items * rows.channels, -1}).contiguous();
  } else {
    rows.items = 1;
    rows.values = values.movedim(wrapped, 0).reshape({rows.channels, -1}).contiguous();
  }
  return rows;
}

bool RowExtrema::finite() const { return (at::isfinite(min) & at::isfinite(max)).all().item<bool>(); }

RowExtrema row_extrema(const at::Tensor& rows) {
  const int64_t count = rows.size(0);
  if (count > 1 && rows.size(1) < kLongRow) return {at::amin(rows, {1}), at::amax(rows, {1})};
  RowExtrema result{at::empty({count}, at::kFloat), at::empty({count}, at::kFloat)};
  float* min = result.min.data_ptr<float>();
  float* max = result.max.data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) {
    const auto both = at::aminmax(rows.select(0, i));
    min[i] = std::get<0>(both).item<float>();
    max[i] = std::get<1>(both).item<float>();
  }
  return result;
}

NonFinite count_non_finite(const at::Tensor& values) {
  return {at::isnan(values).sum().item<int64_t>(), at::isinf(values).sum().item<int64_t>()};
}

}  // namespace tsquant
