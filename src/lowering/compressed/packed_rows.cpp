#include "lowering/compressed/packed_rows.h"

#include <ATen/ATen.h>

#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// [..] -> [rows, size]: the first axis numbers the rows.
at::Tensor as_rows(const at::Tensor& x) { return x.dim() == 2 ? x : x.reshape({x.size(0), -1}); }

Format format_named(const std::string& name) {
  if (const FormatRow* row = find_format(name)) return row->format;
  throw Error(ErrorCode::kUnsupportedModel, "there is no format \"" + name + "\"", "", "update tsquant");
}

}  // namespace

c10::optional<PackedRows> pack_rows(const StoredWeight& stored, bool transpose) {
  const QParams q = restore_parameters(stored);
  const auto dims = static_cast<int64_t>(stored.shape.size()), summed = transpose ? 0 : dims - 1;
  if (transpose && dims != 2) return c10::nullopt;
  PackedRows rows;
  rows.format = format_info(q.format).name;
  at::Tensor scale, zero_point;
  if (q.group_size > 0) {
    const bool along_rows = at::maybe_wrap_dim(q.group_axis, dims) == summed && dims == 2;
    if (!along_rows) return c10::nullopt;
    rows.group_size = q.group_size;
    scale = transpose ? q.scale.t() : q.scale;
    zero_point = transpose ? q.zero_point.t() : q.zero_point;
  } else {
    const int64_t outputs = transpose ? 1 : 0;
    if (q.per_channel && q.axis != outputs) return c10::nullopt;
    const int64_t count = stored.shape[static_cast<size_t>(outputs)];
    scale = q.scale.reshape({-1, 1}).expand({count, 1});
    zero_point = q.zero_point.reshape({-1, 1}).expand({count, 1});
  }
  if (dims == 2 && !transpose) {
    rows.size = stored.shape[1];
    rows.weight = stored.codes;  // packed in these rows already
  } else {
    const at::Tensor codes = restored_codes(stored.codes, q.format, stored.shape.back(), q.dtype);
    const at::Tensor in_rows = as_rows(transpose ? codes.t() : codes).contiguous();
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
  if (q.scale.size(1) == 1) {
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
