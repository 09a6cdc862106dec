// Quantization parameters measured on the tensor itself, for dynamic quantization.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "ops/decomposed_checks.h"
#include "ops/quantized_decomposed.h"

namespace tsquant::decomposed::composed {
namespace {

struct Measured {
  float low = 0, high = 0;  ///< zero included, because padding must have a code
};

Measured measure(const Tensor& input, int64_t quant_min, int64_t quant_max, ScalarType dtype) {
  TORCH_CHECK(input.scalar_type() == at::kFloat,
              "Expecting input to have dtype float32, but got dtype: ", input.scalar_type());
  code_bounds(dtype);
  check_code_limits(quant_min, quant_max);
  TORCH_CHECK(quant_min <= 0 && quant_max >= 0 && quant_min < quant_max,
              "Expecting quant_min <= 0 <= quant_max and quant_min < quant_max but received min: ", quant_min,
              " max: ", quant_max);
  TORCH_CHECK(input.numel() > 0, "choose_qparams: the input is empty, there is no range to choose from");
  const auto [low, high] = at::aminmax(input);
  const Measured range{low.item<float>(), high.item<float>()};
  TORCH_CHECK(std::isfinite(range.low) && std::isfinite(range.high), "choose_qparams: the input contains ",
              std::isnan(range.low) ? "NaN" : "infinity");
  return {std::min(range.low, 0.0f), std::max(range.high, 0.0f)};
}

std::tuple<Tensor, Tensor> result(const Tensor& input, float scale, int64_t zero_point) {
  TORCH_CHECK(std::isfinite(scale), "choose_qparams: the range of the input overflows float32");
  return {at::full({1}, static_cast<double>(scale), input.options().dtype(at::kDouble)),
          at::full({1}, zero_point, input.options().dtype(at::kLong))};
}

}  // namespace

// torch.ao's determine_qparams, all in float32:
//   scale = max((high - low) / (quant_max - quant_min), eps), zp = clamp(quant_min - rint(low / scale))
std::tuple<Tensor, Tensor> choose_qparams(const Tensor& input, int64_t quant_min, int64_t quant_max, double eps,
                                          ScalarType dtype) {
  const Measured range = measure(input, quant_min, quant_max, dtype);
  const float steps = static_cast<float>(quant_max - quant_min);
  const float scale = std::max((range.high - range.low) / steps, static_cast<float>(eps));
  const double zero_point = static_cast<double>(quant_min) - std::nearbyint(range.low / scale);
  const auto low = static_cast<double>(quant_min), high = static_cast<double>(quant_max);
  return result(input, scale, static_cast<int64_t>(zero_point > low ? std::min(zero_point, high) : low));
}

//   scale = max(max(-low, high) / ((quant_max - quant_min) / 2), eps), zp = 128 for uint8 whatever the range, else 0
std::tuple<Tensor, Tensor> choose_qparams_symmetric(const Tensor& input, int64_t quant_min, int64_t quant_max,
                                                    double eps, ScalarType dtype) {
  const Measured range = measure(input, quant_min, quant_max, dtype);
  const float steps = static_cast<float>(quant_max - quant_min) / 2;
  const float scale = std::max(std::max(-range.low, range.high) / steps, static_cast<float>(eps));
  return result(input, scale, dtype == at::kByte ? 128 : 0);
}

// scale = max(|row|, 1e-5) / 127, for int8
std::tuple<Tensor, Tensor> choose_qparams_per_token(const Tensor& input, ScalarType dtype) {
  TORCH_CHECK(dtype == at::kChar, "unsupported dtype in choose_qparams_per_token: ", dtype, "; int8 is supported");
  Tensor scales = input.abs().amax(-1, /*keepdim=*/true);
  // 1e-5 / 127 is not a normal float16 number.
  if (scales.scalar_type() == at::kHalf) scales = scales.to(at::kFloat);
  scales = scales.clamp_min(1e-5).div(127);
  return {scales, at::zeros_like(scales)};
}

// XNNPACK's rule: the zero point is rounded at the end of the range where that costs less.
std::tuple<Tensor, Tensor> choose_qparams_per_token_asymmetric(const Tensor& input, ScalarType dtype) {
  TORCH_CHECK(dtype == at::kChar, "unsupported dtype in choose_qparams_per_token_asymmetric: ", dtype,
              "; int8 is supported");
  constexpr int64_t kMin = -128, kMax = 127;
  const Tensor low = input.amin(-1, /*keepdim=*/true).clamp_max(0);
  const Tensor high = input.amax(-1, /*keepdim=*/true).clamp_min(0);
  const Tensor scale = ((high - low) / 255.0).clamp_min(std::numeric_limits<float>::epsilon());
  const Tensor from_min = low / scale, from_max = high / scale;
  const Tensor zero_point = at::where((from_min + kMin) + (from_max + kMax) > 0, kMin - from_min, kMax - from_max);
  return {scale.to(at::kDouble), zero_point.clamp(kMin, kMax).round().to(at::kLong)};
}

}  // namespace tsquant::decomposed::composed
