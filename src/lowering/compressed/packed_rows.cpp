#include "lowering/compressed/packed_rows.h"

#include <ATen/ATen.h>

#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

Format format_named(const std::string& name) {
  if (const FormatRow* row = find_format(name)) return row->format;
  throw Error(ErrorCode::kUnsupportedModel, "there is no format \"" + name + "\"", "", "update tsquant");
}

}  // namespace

c10::optional<PackedRows> pack_rows(const StoredWeight& stored) {
  const QParams q = restore_parameters(stored);
  const auto dims = static_cast<int64_t>(stored.shape.size());
  PackedRows rows;
  rows.format = format_info(q.format).name;
  at::Tensor scale, zero_point;
  if (q.group_size > 0) {
    if (at::maybe_wrap_dim(q.group_axis, dims) != dims - 1) return c10::nullopt;
    rows.group_size = q.group_size;
    scale = q.scale.reshape({-1, q.scale.size(-1)});
    zero_point = q.zero_point.reshape(scale.sizes());
  } else {
    if (q.per_channel && q.axis != 0) return c10::nullopt;
    scale = q.scale.reshape({-1, 1}).expand({stored.shape.front(), 1});
    zero_point = q.zero_point.reshape({-1, 1}).expand({stored.shape.front(), 1});
  }
  if (dims == 2) {
    rows.size = stored.shape[1];
    rows.weight = stored.codes;  // packed in these rows already
  } else {
    const at::Tensor codes = restored_codes(stored.codes, q.format, stored.shape.back(), q.dtype);
    const at::Tensor in_rows = codes.reshape({scale.size(0), -1}).contiguous();
    rows.size = in_rows.size(1);
    rows.weight = stored_codes(in_rows, q.format);
  }
  if (q.group_size == 0) rows.group_size = rows.size;
  rows.scale = scale.to(stored.scale.scalar_type()).contiguous();
  if (stored.zero_point.defined()) {
    rows.zero_point = stored_codes(zero_point.to(at::kByte).contiguous(), q.format);
  }
  if (has_codebook(q.format)) rows.codebook = at::tensor(q.codebook);
  return rows;
}

StoredWeight unpack_rows(const PackedRows& rows, at::IntArrayRef shape, c10::ScalarType dtype) {
  const Format format = format_named(rows.format);
  const bool is_signed = format_info(format).integer && !rows.zero_point.defined();
  std::vector<float> levels;
  if (rows.codebook.defined()) {
    const auto codebook = rows.codebook.contiguous();
    levels.assign(codebook.data_ptr<float>(), codebook.data_ptr<float>() + codebook.numel());
  }
  CompressedWeight weight;
  QParams& q = weight.qparams;
  q = code_parameters(format, is_signed, std::move(levels));
  const at::Tensor codes = restored_codes(rows.weight, format, rows.size, q.dtype);
  q.scale = rows.scale.to(at::kFloat).reshape({codes.size(0), -1});
  q.zero_point = at::zeros(q.scale.sizes(), at::kLong);
  if (rows.zero_point.defined()) {
    q.zero_point =
        restored_codes(rows.zero_point, format, q.scale.size(1), c10::kByte).to(at::kLong).reshape(q.scale.sizes());
  }
  const auto dims = static_cast<int64_t>(shape.size());
  if (dims > 2 && codes.size(0) != shape.front()) {
    auto groups = shape.vec();
    groups.back() = q.scale.size(1);
    q.scale = q.scale.reshape(groups);
    q.zero_point = q.zero_point.reshape(groups);
    q.group_size = rows.group_size;
    q.group_axis = dims - 1;
  } else if (q.scale.size(1) == 1) {
    q.per_channel = true;
    q.axis = 0;
    q.scale = q.scale.reshape({-1});
    q.zero_point = q.zero_point.reshape({-1});
  } else {
    q.group_size = rows.group_size;
    q.group_axis = 1;
  }
  weight.codes = codes.reshape(shape).contiguous();
  StoredWeight stored = store_weight(weight, shape, dtype);
  stored.scale = stored.scale.to(rows.scale.scalar_type());
  return stored;
}

}  // namespace tsquant
