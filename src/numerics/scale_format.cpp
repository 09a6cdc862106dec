#include "numerics/scale_format.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "numerics/formats.h"

namespace tsquant {

namespace {

at::Tensor next_power_of_two(const at::Tensor& scale) {
  auto exponents = at::ceil(at::log2(scale)).clamp_(-127, 127).contiguous();
  auto* values = exponents.data_ptr<float>();
  for (int64_t i = 0; i < exponents.numel(); ++i) values[i] = std::ldexp(1.0F, static_cast<int>(values[i]));
  return exponents;
}

StoredScale as_e4m3(const at::Tensor& scale) {
  const auto largest = scale.max() / format_info(Format::kF8E4M3).largest;
  const auto tensor_scale = largest.clamp_min(std::numeric_limits<float>::epsilon()).reshape({1});
  const auto codes = encode((scale / tensor_scale).to(at::kHalf), Format::kF8E4M3);
  return {decode(codes, Format::kF8E4M3), tensor_scale};
}

}  // namespace

StoredScale store_scale(const at::Tensor& scale, ScaleFormat format) {
  switch (format) {
    case ScaleFormat::kPowerOfTwo:
      return {next_power_of_two(scale), {}};
    case ScaleFormat::kE4M3:
      return as_e4m3(scale);
    case ScaleFormat::kFloat:
      break;
  }
  return {scale, {}};
}

}  // namespace tsquant
