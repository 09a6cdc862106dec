#include "ops/quantize_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/code_tensor.h"
#include "kernels/elementwise.h"

namespace tsquant::kernels {
namespace {

/// The scale of the result and the functions for its type.
struct Quantizer {
  float inverse;
  int64_t zero_point;
  bool is_signed;

  void flat(const float* x, int64_t n, uint8_t* out) const {
    if (is_signed) return quantize_s8(x, n, inverse, zero_point, -128, 127, reinterpret_cast<int8_t*>(out));
    quantize_u8(x, n, inverse, zero_point, 0, 255, out);
  }
  void interleave(const float* x, int64_t channels, int64_t plane, int64_t pixels, uint8_t* out) const {
    if (is_signed) {
      return quantize_interleave_s8(x, channels, plane, pixels, inverse, zero_point, -128, 127, channels,
                                    reinterpret_cast<int8_t*>(out));
    }
    quantize_interleave_u8(x, channels, plane, pixels, inverse, zero_point, 0, 255, channels, out);
  }
};

/// Planes of floats to interleaved codes, without a float copy in between.
void quantize_planes(const at::Tensor& x, const Quantizer& q, uint8_t* out) {
  const int64_t channels = x.size(1), plane = x.numel() / (x.size(0) * channels);
  const float* in = x.data_ptr<float>();
  at::parallel_for(0, x.size(0) * plane, std::max<int64_t>(1, kGrain / channels), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t n = begin / plane, pixel = begin % plane, count = std::min(end - begin, plane - pixel);
      q.interleave(in + n * channels * plane + pixel, channels, plane, count, out + begin * channels);
      begin += count;
    }
  });
}

}  // namespace

at::Tensor quantize(const at::Tensor& x, double scale, int64_t zero_point, at::ScalarType dtype) {
  // A call may carry any number as dtype; LibTorch looks it up without a check.
  TORCH_CHECK(dtype == at::kQUInt8 || dtype == at::kQInt8 || dtype == at::kQInt32,
              "tsquant::quantize: the dtype must be quint8, qint8 or qint32, but is number ", static_cast<int>(dtype));
  const at::Tensor values = x.scalar_type() == at::kFloat ? x : x.to(at::kFloat);
  if ((dtype != at::kQUInt8 && dtype != at::kQInt8) || !x.device().is_cpu()) {
    return at::quantize_per_tensor(values, scale, zero_point, dtype);
  }
  check_target(scale, zero_point, dtype);
  const Quantizer q = {inverse_scale(scale), zero_point, is_signed(dtype)};
  const bool image = x.dim() == 4 || x.dim() == 5;
  const auto last = x.dim() == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
  if (image && values.is_contiguous() && !values.is_contiguous(last) && x.numel() > 0) {
    at::Tensor result = at::_empty_affine_quantized(x.sizes(), at::TensorOptions(dtype), scale, zero_point, last);
    quantize_planes(values, q, codes_of(result));
    return result;
  }
  const at::Tensor from = image                                   ? values.contiguous(last)
                          : values.is_non_overlapping_and_dense() ? values
                                                                  : values.contiguous();
  at::Tensor result = empty_codes(x.sizes(), from.strides(), dtype, scale, zero_point);
  const float* in = from.data_ptr<float>();
  uint8_t* out = codes_of(result);
  at::parallel_for(0, from.numel(), kGrain,
                   [&](int64_t begin, int64_t end) { q.flat(in + begin, end - begin, out + begin); });
  return result;
}

at::Tensor dequantize(const at::Tensor& x) {
  const bool codes = x.is_quantized() && (x.scalar_type() == at::kQUInt8 || x.scalar_type() == at::kQInt8) &&
                     x.qscheme() == at::kPerTensorAffine && x.device().is_cpu();
  if (!codes) return at::dequantize(x);
  const at::Tensor from = dense_bytes(bytes_of(x));
  at::Tensor result = at::empty_strided(x.sizes(), from.strides(), at::kFloat);
  const auto scale = static_cast<float>(x.q_scale());
  const int64_t zero_point = x.q_zero_point();
  const uint8_t* in = codes_of(from);
  float* out = result.data_ptr<float>();
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    if (is_signed(x.scalar_type())) {
      const auto* codes = reinterpret_cast<const int8_t*>(in);
      dequantize_s8(codes + begin, end - begin, scale, zero_point, out + begin);
    } else {
      dequantize_u8(in + begin, end - begin, scale, zero_point, out + begin);
    }
  });
  return result;
}

}  // namespace tsquant::kernels
