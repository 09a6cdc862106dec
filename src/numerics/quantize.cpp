#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>

#include "numerics/formats.h"
#include "numerics/groups.h"
#include "numerics/large_output.h"
#include "numerics/qparams.h"
#include "numerics/row_loops.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

c10::ScalarType quantized_type(c10::ScalarType codes) {
  if (codes == c10::kChar) return c10::kQInt8;
  if (codes == c10::kByte) return c10::kQUInt8;
  throw Error(ErrorCode::kInternal, fmt::format("{} is no type of quantized codes", toString(codes)));
}

CodeOptions options_of(const QParams& q) {
  CodeOptions options;
  options.is_signed = q.dtype == c10::kChar;
  options.codebook = q.codebook;
  return options;
}

at::Tensor limited(const at::Tensor& codes, const QParams& q) {
  const auto lowest = q.dtype == c10::kChar ? -128 : 0;
  return q.quant_min > lowest || q.quant_max < lowest + 255 ? codes.clamp(q.quant_min, q.quant_max) : codes;
}

at::Tensor quantize_by_libtorch(const at::Tensor& x, const QParams& q) {
  const auto type = quantized_type(q.dtype);
  const auto quantized = q.per_channel
                             ? at::quantize_per_channel(x, q.scale, q.zero_point, q.axis, type)
                             : at::quantize_per_tensor(x, q.scale.item<double>(), q.zero_point.item<int64_t>(), type);
  return limited(quantized.int_repr(), q);
}

at::Tensor dequantize_by_libtorch(const at::Tensor& codes, const QParams& q) {
  const auto values = codes.to(q.dtype).contiguous();
  if (q.per_channel) {
    return at::_make_per_channel_quantized_tensor(values, q.scale, q.zero_point, q.axis).dequantize();
  }
  return at::_make_per_tensor_quantized_tensor(values, q.scale.item<double>(), q.zero_point.item<int64_t>())
      .dequantize();
}

/// float16 without infinities, as LibTorch packs weights of linear_dynamic_fp16.
at::Tensor saturated_halves(const at::Tensor& x) {
  constexpr double kLargest = 65504;
  return x.clamp(-kLargest, kLargest).to(at::kHalf);
}

at::Tensor whole_scale(const QParams& q) { return q.tensor_scale.defined() ? q.scale * q.tensor_scale : q.scale; }

/// Parameters in a shape that broadcasts over the channels of x.
at::Tensor by_channel(const at::Tensor& parameters, const at::Tensor& x, const QParams& q) {
  std::vector<int64_t> shape(x.dim(), 1);
  if (q.per_channel) shape.at(q.axis) = -1;
  return parameters.reshape(shape);
}

/// Rows [begin, end) of parameters that broadcast over the first dimension, or of one for each of its rows.
at::Tensor rows_of(const at::Tensor& x, int64_t begin, int64_t end) {
  return x.size(0) == 1 ? x : x.narrow(0, begin, end - begin);
}

/// x / scale, and for integers + zero_point, rounded once.
at::Tensor encode_scaled(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& zero_point, const QParams& q) {
  auto scaled = x.div(scale);
  const FormatInfo& info = format_info(q.format);
  // NNCF goes to one-byte floating-point numbers through float16 (fp8_conversion.py).
  const bool halves =
      q.formula == QParamsFormula::kNncfCompression && !info.integer && info.largest > 0 && info.bits == 8;
  if (halves) scaled = scaled.to(at::kHalf);
  if (!info.integer) return encode(scaled, q.format, options_of(q));
  return limited(encode(scaled.add_(zero_point), q.format, options_of(q)), q);
}

/// A part at a time, so that what is in between stays in the cache.
at::Tensor quantize_scaled(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& zero_point,
                           const QParams& q) {
  constexpr int64_t kPart = 1 << 16;
  if (x.numel() <= kPart) return encode_scaled(x, scale, zero_point, q);
  const int64_t rows = std::max<int64_t>(1, kPart * x.size(0) / x.numel());
  auto codes = large_output(x.sizes(), q.dtype);
  at::parallel_for(0, x.size(0), rows, [&](int64_t first, int64_t last) {
    for (int64_t begin = first; begin < last; begin += rows) {
      const int64_t end = std::min(begin + rows, last);
      codes.narrow(0, begin, end - begin)
          .copy_(encode_scaled(x.narrow(0, begin, end - begin), rows_of(scale, begin, end),
                               rows_of(zero_point, begin, end), q));
    }
  });
  return codes;
}

/// Whether each scale belongs to one piece of the tensor's memory, and all pieces are equally long.
bool has_scales_in_order(const at::Tensor& x, const QParams& q, const c10::optional<Groups>& groups) {
  if (!x.is_contiguous() || x.numel() == 0 || q.zero_point.numel() != q.scale.numel()) return false;
  if (groups) return groups->axis == x.dim() - 1 && q.scale.numel() == x.numel() / groups->size;
  return q.per_channel ? q.axis == 0 && q.scale.numel() == x.size(0) : q.scale.numel() == 1;
}

/// quantize_scaled for integers, a row at a time.
at::Tensor quantize_rows(const at::Tensor& x, const QParams& q) {
  constexpr int64_t kValuesPerTask = 1 << 16;
  const auto scales = q.scale.to(at::kFloat).reshape({-1}).contiguous();
  const auto zero_points = q.zero_point.to(at::kFloat).reshape({-1}).contiguous();
  const bool is_signed = q.dtype == c10::kChar;
  const int64_t levels = int64_t{1} << format_info(q.format).bits, lowest = is_signed ? -levels / 2 : 0;
  const CodeBounds bounds{static_cast<float>(std::max(lowest, q.quant_min)),
                          static_cast<float>(std::min(lowest + levels - 1, q.quant_max))};
  auto codes = large_output(x.sizes(), q.dtype);
  const int64_t rows = scales.numel(), size = x.numel() / rows;
  const auto* values = x.data_ptr<float>();
  const auto *scale = scales.data_ptr<float>(), *zero_point = zero_points.data_ptr<float>();
  auto* to = static_cast<uint8_t*>(codes.data_ptr());
  at::parallel_for(0, rows, std::max<int64_t>(1, kValuesPerTask / size), [&](int64_t begin, int64_t end) {
    encode_rows(values + begin * size, end - begin, size, scale + begin, zero_point + begin, bounds, to + begin * size);
  });
  return codes;
}

at::Tensor dequantize_scaled(const at::Tensor& codes, const at::Tensor& scale, const at::Tensor& zero_point,
                             const QParams& q) {
  auto levels = decode(codes.to(q.dtype), q.format, options_of(q));
  if (format_info(q.format).integer) levels.sub_(zero_point);
  return levels.mul_(scale);
}

}  // namespace

bool is_libtorchs(const QParams& q) {
  return q.group_size == 0 && format_info(q.format).integer && q.formula != QParamsFormula::kNncfCompression &&
         !is_for_storage(q);
}

bool has_float_zero_points(const QParams& q) { return q.zero_point.is_floating_point(); }

bool is_for_storage(const QParams& q) { return has_float_zero_points(q) || q.dtype == c10::kHalf; }

// LibTorch's own kernels compute where they can, so that stored codes equal what the reference form computes at run
// time.
at::Tensor quantize(const at::Tensor& x, const QParams& q) {
  const auto values = x.detach().to(at::kFloat);
  if (q.dtype == c10::kHalf) return saturated_halves(values);
  if (is_libtorchs(q) || has_float_zero_points(q)) return quantize_by_libtorch(values, q);
  c10::optional<Groups> groups;
  if (q.group_size > 0) groups.emplace(x, q.group_size, q.group_axis);
  if (format_info(q.format).integer && has_scales_in_order(values, q, groups)) return quantize_rows(values, q);
  if (!groups) return quantize_scaled(values, by_channel(whole_scale(q), x, q), by_channel(q.zero_point, x, q), q);
  return groups->join(
      quantize_scaled(groups->split(values), groups->broadcast(whole_scale(q)), groups->broadcast(q.zero_point), q));
}

at::Tensor dequantize(const at::Tensor& codes, const QParams& q) {
  if (q.dtype == c10::kHalf) return codes.to(at::kFloat);
  if (is_libtorchs(q)) return dequantize_by_libtorch(codes, q);
  if (q.group_size == 0) {
    return dequantize_scaled(codes, by_channel(whole_scale(q), codes, q), by_channel(q.zero_point, codes, q), q);
  }
  const Groups groups(codes, q.group_size, q.group_axis);
  return groups.join(
      dequantize_scaled(groups.split(codes), groups.broadcast(whole_scale(q)), groups.broadcast(q.zero_point), q));
}

}  // namespace tsquant
