// quantize/dequantize per tensor and per channel on the CPU.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>

#include <cmath>
#include <utility>
#include <vector>

#include "ops/decomposed_checks.h"
#include "ops/dense_layout.h"
#include "ops/quantize_kernels.h"
#include "ops/quantize_scalar.h"
#include "ops/quantized_decomposed.h"

namespace tsquant::decomposed::cpu {
namespace {

// Elements per task: below this a second thread costs more than it saves.
constexpr int64_t kGrain = 32768;
// Zero points that the SIMD loops take.
constexpr int64_t kLargestZeroPoint = int64_t{1} << 22;

struct CodeRange {
  int64_t quant_min, quant_max;
};

template <typename T>
void quantize_run(const float* x, int64_t n, float inverse, int64_t zero_point, CodeRange range, T* out) {
  if constexpr (sizeof(T) == 1) {
    if (std::abs(zero_point) <= kLargestZeroPoint) {
      if constexpr (std::is_signed_v<T>) {
        return quantize_s8(x, n, inverse, zero_point, range.quant_min, range.quant_max, out);
      } else {
        return quantize_u8(x, n, inverse, zero_point, range.quant_min, range.quant_max, out);
      }
    }
  }
  quantize_scalar(x, n, inverse, zero_point, range.quant_min, range.quant_max, out);
}

template <typename T>
void dequantize_run(const T* q, int64_t n, float scale, int64_t zero_point, float* out) {
  if constexpr (sizeof(T) == 1) {
    if (std::abs(zero_point) <= kLargestZeroPoint) {
      if constexpr (std::is_signed_v<T>) {
        return dequantize_s8(q, n, scale, zero_point, out);
      } else {
        return dequantize_u8(q, n, scale, zero_point, out);
      }
    }
  }
  dequantize_scalar(q, n, scale, zero_point, out);
}

template <typename T>
void quantize_columns(const float* x, int64_t rows, int64_t columns, const float* inverse, const int32_t* zero_point,
                      CodeRange range, T* out) {
  if constexpr (std::is_same_v<T, uint8_t>) {
    quantize_columns_u8(x, rows, columns, inverse, zero_point, range.quant_min, range.quant_max, out);
  } else if constexpr (std::is_same_v<T, int8_t>) {
    quantize_columns_s8(x, rows, columns, inverse, zero_point, range.quant_min, range.quant_max, out);
  } else {
    for (int64_t i = 0; i < rows * columns; ++i) {
      const int64_t c = i % columns;
      quantize_scalar(x + i, 1, inverse[c], zero_point[c], range.quant_min, range.quant_max, out + i);
    }
  }
}

template <typename T>
void dequantize_columns(const T* q, int64_t rows, int64_t columns, const float* scale, const int32_t* zero_point,
                        float* out) {
  if constexpr (std::is_same_v<T, uint8_t>) {
    dequantize_columns_u8(q, rows, columns, scale, zero_point, out);
  } else if constexpr (std::is_same_v<T, int8_t>) {
    dequantize_columns_s8(q, rows, columns, scale, zero_point, out);
  } else {
    for (int64_t i = 0; i < rows * columns; ++i) {
      const int64_t c = i % columns;
      dequantize_scalar(q + i, 1, scale[c], zero_point[c], out + i);
    }
  }
}

/// Scales and zero points as the loops want them.
struct ChannelParams {
  std::vector<float> factor;  ///< scale, or its inverse
  std::vector<int32_t> zero_point;
  bool exact = true;  ///< false: these vectors cannot say what the tensors say
};

/// The values of a small tensor of any number type, without the cost of a conversion operator in the usual cases.
std::vector<double> values_of(const Tensor& tensor) {
  const Tensor dense_values = tensor.contiguous();
  const int64_t n = tensor.numel();
  switch (tensor.scalar_type()) {
    case c10::kFloat:
      return {dense_values.data_ptr<float>(), dense_values.data_ptr<float>() + n};
    case c10::kInt:
      return {dense_values.data_ptr<int32_t>(), dense_values.data_ptr<int32_t>() + n};
    case c10::kLong:
      return {dense_values.data_ptr<int64_t>(), dense_values.data_ptr<int64_t>() + n};
    default: {
      const Tensor wide = dense_values.to(c10::kDouble);
      return {wide.data_ptr<double>(), wide.data_ptr<double>() + n};
    }
  }
}

void read_zero_points(const OptionalTensor& zero_points, ChannelParams& params) {
  if (!zero_points.has_value()) {
    params.zero_point.assign(params.factor.size(), 0);
    return;
  }
  for (const double zero_point : values_of(*zero_points)) {
    const bool fits = std::abs(zero_point) <= kLargestZeroPoint && std::nearbyint(zero_point) == zero_point;
    params.exact = params.exact && fits;
    params.zero_point.push_back(fits ? static_cast<int32_t>(zero_point) : 0);
  }
}

/// A double scale is rounded to float32 before it divides, in LibTorch too, so every scale is exact here.
ChannelParams quantize_params(const Tensor& scales, const Tensor& zero_points) {
  ChannelParams params;
  for (const double scale : values_of(scales)) {
    check_divisor_scale(scale);
    params.factor.push_back(inverse_scale(scale));
  }
  read_zero_points(zero_points, params);
  return params;
}

ChannelParams dequantize_params(const Tensor& scales, const OptionalTensor& zero_points) {
  ChannelParams params;
  for (const double scale : values_of(scales)) {
    check_factor_scale(scale);
    params.factor.push_back(static_cast<float>(scale));
    params.exact = params.exact && static_cast<double>(params.factor.back()) == scale;
  }
  read_zero_points(zero_points, params);
  return params;
}

/// A channel with a few elements, such as one 3x3 filter plane, leaves most of a vector unused. Its parameters are
/// repeated per element instead: [outer, channels, inner] becomes [outer, channels * inner, 1].
AxisLayout without_short_runs(AxisLayout layout, ChannelParams& params) {
  constexpr int64_t kShort = 32;
  if (layout.inner == 1 || layout.inner >= kShort) return layout;
  ChannelParams wide;
  wide.factor.reserve(layout.channels * layout.inner);
  wide.zero_point.reserve(layout.channels * layout.inner);
  for (int64_t c = 0; c < layout.channels; ++c) {
    wide.factor.insert(wide.factor.end(), layout.inner, params.factor[c]);
    wide.zero_point.insert(wide.zero_point.end(), layout.inner, params.zero_point[c]);
  }
  params = std::move(wide);
  return {layout.outer, layout.channels * layout.inner, 1};
}

/// Splits [outer, channels, inner] between threads: whole channels when they are long, whole rows when the channels are
/// the fastest dimension. flat(offset, n, channel) or columns(offset, rows).
template <class Flat, class Columns>
void for_each_channel(const AxisLayout& layout, const Flat& flat, const Columns& columns) {
  if (layout.inner == 1) {
    const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(layout.channels, 1));
    at::parallel_for(0, layout.outer, grain,
                     [&](int64_t begin, int64_t end) { columns(begin * layout.channels, end - begin); });
    return;
  }
  const int64_t grain = std::max<int64_t>(1, kGrain / layout.inner);
  at::parallel_for(0, layout.outer * layout.channels, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) flat(i * layout.inner, layout.inner, i % layout.channels);
  });
}

}  // namespace

Tensor quantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                           ScalarType dtype) {
  check_float_input(input);
  check_quant_range(quant_min, quant_max, dtype);
  check_divisor_scale(scale);
  const Tensor x = dense(input.to(c10::kFloat));
  Tensor out = at::empty_like(x, x.options().dtype(dtype));
  const float inverse = inverse_scale(scale);
  AT_DISPATCH_INTEGRAL_TYPES(dtype, "quantize_per_tensor", [&] {
    const float* from = x.data_ptr<float>();
    scalar_t* to = out.data_ptr<scalar_t>();
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      quantize_run(from + begin, end - begin, inverse, zero_point, {quant_min, quant_max}, to + begin);
    });
  });
  return out;
}

Tensor dequantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min,
                             int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype) {
  if (out_dtype.value_or(c10::kFloat) != c10::kFloat) {
    return composed::dequantize_per_tensor(input, scale, zero_point, quant_min, quant_max, dtype, out_dtype);
  }
  check_code_input(input, dtype);
  check_factor_scale(scale);
  const Tensor q = dense(input);
  Tensor out = at::empty_like(q, q.options().dtype(c10::kFloat));
  AT_DISPATCH_INTEGRAL_TYPES(dtype, "dequantize_per_tensor", [&] {
    const scalar_t* from = q.data_ptr<scalar_t>();
    float* to = out.data_ptr<float>();
    at::parallel_for(0, q.numel(), kGrain, [&](int64_t begin, int64_t end) {
      dequantize_run(from + begin, end - begin, static_cast<float>(scale), zero_point, to + begin);
    });
  });
  return out;
}

Tensor quantize_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                            int64_t quant_min, int64_t quant_max, ScalarType dtype) {
  check_float_input(input);
  check_quant_range(quant_min, quant_max, dtype);
  axis = check_axis(input, axis, scales, zero_points);
  ChannelParams params = quantize_params(scales, zero_points);
  if (!params.exact) {
    return composed::quantize_per_channel(input, scales, zero_points, axis, quant_min, quant_max, dtype);
  }
  const Tensor x = dense(input.to(c10::kFloat));
  Tensor out = at::empty_like(x, x.options().dtype(dtype));
  const AxisLayout layout = without_short_runs(layout_along(x, axis), params);
  const CodeRange range{quant_min, quant_max};
  AT_DISPATCH_INTEGRAL_TYPES(dtype, "quantize_per_channel", [&] {
    const float* from = x.data_ptr<float>();
    scalar_t* to = out.data_ptr<scalar_t>();
    for_each_channel(
        layout,
        [&](int64_t at, int64_t n, int64_t c) {
          quantize_run(from + at, n, params.factor[c], params.zero_point[c], range, to + at);
        },
        [&](int64_t at, int64_t rows) {
          quantize_columns(from + at, rows, layout.channels, params.factor.data(), params.zero_point.data(), range,
                           to + at);
        });
  });
  return out;
}

Tensor dequantize_per_channel(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                              int64_t axis, int64_t quant_min, int64_t quant_max, ScalarType dtype,
                              OptionalDtype out_dtype) {
  check_code_input(input, dtype);
  check_quant_range(quant_min, quant_max, dtype);
  axis = check_axis(input, axis, scales, zero_points);
  ChannelParams params = dequantize_params(scales, zero_points);
  if (!params.exact || out_dtype.value_or(c10::kFloat) != c10::kFloat) {
    return composed::dequantize_per_channel(input, scales, zero_points, axis, quant_min, quant_max, dtype, out_dtype);
  }
  const Tensor q = dense(input);
  Tensor out = at::empty_like(q, q.options().dtype(c10::kFloat));
  const AxisLayout layout = without_short_runs(layout_along(q, axis), params);
  AT_DISPATCH_INTEGRAL_TYPES(dtype, "dequantize_per_channel", [&] {
    const scalar_t* from = q.data_ptr<scalar_t>();
    float* to = out.data_ptr<float>();
    for_each_channel(
        layout,
        [&](int64_t at, int64_t n, int64_t c) {
          dequantize_run(from + at, n, params.factor[c], params.zero_point[c], to + at);
        },
        [&](int64_t at, int64_t rows) {
          dequantize_columns(from + at, rows, layout.channels, params.factor.data(), params.zero_point.data(), to + at);
        });
  });
  return out;
}

}  // namespace tsquant::decomposed::cpu
