// Compressed weights with random codes for the tests of the operators that run them.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <vector>

#include "call_op.h"
#include "numerics/formats.h"
#include "numerics/pack.h"

namespace tsquant::testing {

/// What a compressed weight is stored as, and what its values are by the codecs of src/numerics.
struct StoredWeight {
  std::string format;
  int64_t rows = 0, size = 0, group_size = -1;
  at::Tensor weight, scale, values;  ///< values: float64 [rows, size]
  at::Tensor zeros;                  ///< how far each value was moved by its zero point, the same shape
  c10::IValue zero_point, codebook, tensor_scale;
};

struct StoredOptions {
  bool asymmetric = false;
  int64_t group_size = -1;
  at::ScalarType scale_type = at::kHalf;
};

/// Codes that stand for a finite number.
inline at::Tensor finite_codes(Format format, const CodeOptions& options) {
  const auto all = at::arange(int64_t{1} << format_info(format).bits).to(at::kByte);
  return all.masked_select(at::isfinite(decode(all, format, options)));
}

inline StoredWeight store(const FormatRow& row, int64_t rows, int64_t size, const StoredOptions& o) {
  StoredWeight w;
  w.format = row.info.name;
  w.rows = rows;
  w.size = size;
  w.group_size = o.group_size;
  const int64_t groups = o.group_size == -1 ? 1 : size / o.group_size;
  CodeOptions options;
  options.is_signed = row.info.integer && !o.asymmetric;
  if (row.info.largest == 0) {
    const int64_t levels = row.info.bits == 4 ? 13 : 200;
    for (int64_t i = 0; i < levels; ++i) options.codebook.push_back(0.37F * static_cast<float>(i - levels / 3));
    w.codebook = at::tensor(options.codebook);
  }
  at::Tensor codes;
  if (row.info.integer) {
    const int64_t half = int64_t{1} << (row.info.bits - 1);
    codes = o.asymmetric ? at::randint(0, 2 * half, {rows, size}, at::kByte)
                         : at::randint(-half, half, {rows, size}, at::kChar);
  } else {
    const auto known = finite_codes(row.format, options);
    codes = known.index({at::randint(0, known.numel(), {rows, size})});
  }
  w.weight = pack(codes, row.format);
  if (row.info.bits == 8 && options.is_signed) w.weight = w.weight.view(at::kChar);
  at::Tensor scale = (at::rand({rows, groups, 1}) + 0.1) * (at::randint(0, 2, {rows, groups, 1}) * 2 - 1);
  if (o.scale_type == at::kByte) {
    w.scale = at::randint(row.info.scale == ScaleFormat::kPowerOfTwo ? 120 : 30, 126, {rows, groups, 1}, at::kByte);
    scale = row.info.scale == ScaleFormat::kPowerOfTwo ? at::pow(2.0, w.scale.to(at::kDouble) - 127)
                                                       : decode(w.scale, Format::kF8E4M3).to(at::kDouble);
    w.tensor_scale = at::tensor({0.75F});
    scale = scale * 0.75;
  } else {
    w.scale = scale.to(o.scale_type);
    scale = w.scale.to(at::kDouble);
  }
  auto levels = decode(codes, row.format, options).to(at::kDouble).reshape({rows, groups, -1});
  // Symmetric integers are multiplied with half of their codes as the zero point, those of 5 to 7 bits as bytes; tables
  // may be stored from their least level.
  double zero = row.info.integer ? std::ldexp(1.0, (row.info.bits > 4 ? 8 : row.info.bits) - 1) : 0;
  if (!row.info.integer && row.info.bits == 4) {
    zero = -decode(finite_codes(row.format, options), row.format, options).min().item<double>();
  }
  auto moved = at::full({rows, groups, 1}, zero, at::kDouble);
  if (o.asymmetric) {
    const auto zeros = at::randint(0, int64_t{1} << row.info.bits, {rows, groups}, at::kByte);
    w.zero_point = pack(zeros, row.format);
    moved = zeros.to(at::kDouble).unsqueeze(-1);
    levels = levels - moved;
  }
  w.values = (levels * scale).reshape({rows, size});
  w.zeros = (moved * scale).abs().expand_as(levels).reshape({rows, size});
  return w;
}

/// tsquant::<name> through the dispatcher.
inline at::Tensor call_compressed(const std::string& name, torch::jit::Stack stack, const std::string& overload = "") {
  c10::Dispatcher::singleton().findSchemaOrThrow(("tsquant::" + name).c_str(), overload.c_str()).callBoxed(&stack);
  return stack.at(0).toTensor();
}

inline at::Tensor linear(const at::Tensor& x, const StoredWeight& w, const c10::IValue& bias = {}) {
  return call_compressed("linear_compressed", {x, w.weight, w.scale, w.zero_point, bias, w.format, w.size, w.group_size,
                                               w.codebook, w.tensor_scale});
}

inline at::Tensor decompress_to(const StoredWeight& w, const std::vector<int64_t>& size, at::ScalarType dtype) {
  return call_compressed("decompress", {w.weight, w.scale, w.zero_point, w.format, size, w.group_size,
                                        static_cast<int64_t>(dtype), w.codebook, w.tensor_scale});
}

inline at::Tensor embedding(const at::Tensor& indices, const StoredWeight& w, at::ScalarType dtype = at::kFloat) {
  return call_compressed("embedding_compressed",
                         {indices, w.weight, w.scale, w.zero_point, w.format, w.size, w.group_size,
                          static_cast<int64_t>(dtype), w.codebook, w.tensor_scale});
}

/// Whether y is x * values.T up to the rounding of float32: every product and sum may be wrong by some units of the
/// last place, so the bound follows the sum of magnitudes.
inline bool is_product(const at::Tensor& y, const at::Tensor& x, const StoredWeight& w) {
  const auto exact = at::matmul(x.to(at::kDouble), w.values.t());
  const auto magnitude = at::matmul(x.to(at::kDouble).abs(), w.values.t().abs());
  // Codes are multiplied as they are stored, and zero points are subtracted from the sums: these are rounded, too.
  const auto zeros = at::matmul(x.to(at::kDouble).abs(), w.zeros.t());
  return ((y.to(at::kDouble) - exact).abs() <= 1e-6 * magnitude + 0x1p-23 * zeros + 1e-30).all().item<bool>();
}

}  // namespace tsquant::testing
