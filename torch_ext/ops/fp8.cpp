// tsquant::quantize_fp8 and dequantize_fp8: one-byte floating-point codes with a scale per tensor or per channel.
#include "numerics/minifloat.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <array>

namespace {

using at::Tensor;

constexpr int64_t kGrain = 16384;

const tsquant::Minifloat& format_of(c10::string_view name) {
  TORCH_CHECK(name == "f8e4m3" || name == "f8e5m2", "Expecting the format f8e4m3 or f8e5m2, but got ", name);
  return name == "f8e4m3" ? tsquant::kE4M3 : tsquant::kE5M2;
}

/// The scale in the shape that broadcasts over `x`.
Tensor broadcast_scale(const Tensor& x, const Tensor& scale, c10::optional<int64_t> axis) {
  TORCH_CHECK(scale.scalar_type() == at::kFloat, "Expecting float32 scales, but got ", scale.scalar_type());
  if (!axis) {
    TORCH_CHECK(scale.numel() == 1, "Expecting one scale per tensor, but got ", scale.numel());
    return scale.reshape({});
  }
  TORCH_CHECK(*axis >= 0 && *axis < x.dim(), "Axis ", *axis, " of a tensor with ", x.dim(), " dimensions");
  TORCH_CHECK(scale.numel() == x.size(*axis), "Expecting ", x.size(*axis), " scales, but got ", scale.numel());
  std::vector<int64_t> shape(x.dim(), 1);
  shape[*axis] = -1;
  return scale.reshape(shape);
}

Tensor quantize_fp8(const Tensor& input, const Tensor& scale, c10::optional<int64_t> axis, c10::string_view format) {
  const auto& layout = format_of(format);
  TORCH_CHECK(input.is_floating_point(), "Expecting a float tensor, but got ", input.scalar_type());
  const Tensor scaled = input.to(at::kFloat).div(broadcast_scale(input, scale, axis)).contiguous();
  Tensor codes = at::empty_like(scaled, scaled.options().dtype(at::kByte));
  const float* from = scaled.data_ptr<float>();
  auto* to = codes.data_ptr<uint8_t>();
  at::parallel_for(0, scaled.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = tsquant::encode(from[i], layout);
  });
  return codes;
}

Tensor dequantize_fp8(const Tensor& input, const Tensor& scale, c10::optional<int64_t> axis, c10::string_view format) {
  const auto& layout = format_of(format);
  TORCH_CHECK(input.scalar_type() == at::kByte, "Expecting uint8 codes, but got ", input.scalar_type());
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code) values[code] = tsquant::decode(static_cast<uint8_t>(code), layout);
  const Tensor codes = input.contiguous();
  Tensor decoded = at::empty_like(codes, codes.options().dtype(at::kFloat));
  const auto* from = codes.data_ptr<uint8_t>();
  auto* to = decoded.data_ptr<float>();
  at::parallel_for(0, codes.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = values[from[i]];
  });
  return decoded.mul_(broadcast_scale(input, scale, axis));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tsquant, library) {
  library.def("quantize_fp8(Tensor input, Tensor scale, int? axis, str format) -> Tensor", TORCH_FN(quantize_fp8));
  library.def("dequantize_fp8(Tensor input, Tensor scale, int? axis, str format) -> Tensor", TORCH_FN(dequantize_fp8));
}
