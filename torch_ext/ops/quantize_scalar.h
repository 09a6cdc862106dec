// Quantization to code types without a SIMD loop, and with zero points beyond what the SIMD loops take.
#pragma once

#include <cmath>
#include <cstdint>

namespace tsquant {

/// The arithmetic of quantize_kernels.h for any integer type. The sum is in float32, as in LibTorch; the bounds are
/// applied in float first, because a conversion of NaN or of a value out of range is undefined, and once more in
/// integers, because float32 does not hold every int32 bound.
template <typename T>
void quantize_scalar(const float* x, int64_t n, float inverse, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                     T* out) {
  const auto lower = static_cast<float>(quant_min);
  const auto upper = static_cast<float>(quant_max);
  const auto shift = static_cast<float>(zero_point);
  for (int64_t i = 0; i < n; ++i) {
    const float value = std::nearbyint(x[i] * inverse) + shift;
    int64_t code = quant_min;
    if (value >= upper) {
      code = quant_max;
    } else if (value > lower) {
      code = static_cast<int64_t>(value);
      code = code < quant_min ? quant_min : code > quant_max ? quant_max : code;
    }
    out[i] = static_cast<T>(code);
  }
}

/// The difference is exact in integers and rounded once to float32, as in LibTorch.
template <typename T>
void dequantize_scalar(const T* q, int64_t n, float scale, int64_t zero_point, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<int64_t>(q[i]) - zero_point) * scale;
}

}  // namespace tsquant
