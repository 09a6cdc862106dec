#include "kernels/elementwise.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/byte_loops.h"
#include "kernels/conv_params.h"
#include "ops/quantize_kernels.h"

namespace tsquant::kernels {
namespace {

constexpr int64_t kGrain = 1 << 15;

uint8_t* codes_of(const at::Tensor& t) { return static_cast<uint8_t*>(t.data_ptr()); }

at::MemoryFormat format_of(const at::Tensor& x) {
  const auto format = x.suggest_memory_format();
  return x.is_contiguous(format) ? format : at::MemoryFormat::Contiguous;
}

at::Tensor empty_codes(at::IntArrayRef sizes, double scale, int64_t zero_point, at::MemoryFormat format) {
  return at::_empty_affine_quantized(sizes, at::TensorOptions(at::kQUInt8), scale, zero_point, format);
}

void check_target(double scale, int64_t zero_point) {
  TORCH_CHECK(scale > 0 && std::isfinite(scale), "tsquant: the scale must be positive and finite, it is ", scale);
  TORCH_CHECK(zero_point >= 0 && zero_point <= 255, "tsquant: the zero point of quint8 must lie in [0, 255], it is ",
              zero_point);
}

/// Whether `dims` are the last two of four dimensions, with at least one pixel.
bool averages_pixels(const at::Tensor& x, at::IntArrayRef dims) {
  if (x.dim() != 4 || dims.size() != 2 || x.size(2) * x.size(3) == 0) return false;
  const int64_t a = dims[0] < 0 ? dims[0] + 4 : dims[0], b = dims[1] < 0 ? dims[1] + 4 : dims[1];
  return (a == 2 && b == 3) || (a == 3 && b == 2);
}

}  // namespace

at::Tensor quantize(const at::Tensor& x, double scale, int64_t zero_point, at::ScalarType dtype) {
  if (dtype != at::kQUInt8 || x.scalar_type() != at::kFloat) {
    return at::quantize_per_tensor(x.to(at::kFloat), scale, zero_point, dtype);
  }
  check_target(scale, zero_point);
  const float inverse = inverse_scale(scale);
  const bool image = x.dim() == 4;
  const bool planar = image && x.is_contiguous() && !x.is_contiguous(at::MemoryFormat::ChannelsLast);
  if (!planar) {
    const auto format = image ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    const at::Tensor from = x.contiguous(format);
    at::Tensor result = empty_codes(x.sizes(), scale, zero_point, format);
    const float* in = from.data_ptr<float>();
    at::parallel_for(0, from.numel(), kGrain, [&](int64_t begin, int64_t end) {
      quantize_u8(in + begin, end - begin, inverse, zero_point, 0, 255, codes_of(result) + begin);
    });
    return result;
  }
  at::Tensor result = empty_codes(x.sizes(), scale, zero_point, at::MemoryFormat::ChannelsLast);
  const int64_t channels = x.size(1), plane = x.size(2) * x.size(3);
  const float* in = x.data_ptr<float>();
  at::parallel_for(0, x.size(0) * plane, std::max<int64_t>(1, kGrain / channels), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t n = begin / plane, pixel = begin % plane, count = std::min(end - begin, plane - pixel);
      quantize_interleave_u8(in + n * channels * plane + pixel, channels, plane, count, inverse, zero_point, 0, 255,
                             channels, codes_of(result) + begin * channels);
      begin += count;
    }
  });
  return result;
}

at::Tensor add(const at::Tensor& a, const at::Tensor& b, bool relu, double scale, int64_t zero_point) {
  check_codes(a, "first operand of add");
  check_codes(b, "second operand of add");
  check_target(scale, zero_point);
  if (a.sizes() != b.sizes()) {
    const at::Tensor sum = a.dequantize() + b.dequantize();
    return quantize(relu ? sum.relu() : sum, scale, zero_point, at::kQUInt8);
  }
  const auto format = format_of(a);
  const at::Tensor from_a = a.contiguous(format), from_b = b.contiguous(format);
  at::Tensor result = empty_codes(a.sizes(), scale, zero_point, format);
  AddParams p;
  p.scale_a = static_cast<float>(a.q_scale());
  p.scale_b = static_cast<float>(b.q_scale());
  p.inverse_out = inverse_scale(scale);
  p.zero_point_a = static_cast<int32_t>(a.q_zero_point());
  p.zero_point_b = static_cast<int32_t>(b.q_zero_point());
  p.zero_point = static_cast<int32_t>(zero_point);
  p.low = relu ? p.zero_point : 0;
  at::parallel_for(0, a.numel(), kGrain, [&](int64_t begin, int64_t end) {
    add_codes(codes_of(from_a) + begin, codes_of(from_b) + begin, end - begin, p, codes_of(result) + begin);
  });
  return result;
}

at::Tensor lookup(const at::Tensor& x, const at::Tensor& table, double scale, int64_t zero_point) {
  check_codes(x, "input of lookup");
  check_target(scale, zero_point);
  TORCH_CHECK(table.scalar_type() == at::kByte && table.numel() == 256 && table.is_contiguous(),
              "tsquant::lookup: the table must hold 256 contiguous bytes");
  const auto format = format_of(x);
  const at::Tensor from = x.contiguous(format);
  at::Tensor result = empty_codes(x.sizes(), scale, zero_point, format);
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    lookup_codes(codes_of(from) + begin, end - begin, table.data_ptr<uint8_t>(), codes_of(result) + begin);
  });
  return result;
}

at::Tensor mean(const at::Tensor& x, at::IntArrayRef dims, bool keepdim, double scale, int64_t zero_point) {
  check_codes(x, "input of mean");
  check_target(scale, zero_point);
  if (!averages_pixels(x, dims)) return quantize(x.dequantize().mean(dims, keepdim), scale, zero_point, at::kQUInt8);
  const at::Tensor from = x.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t batch = x.size(0), channels = x.size(1), pixels = x.size(2) * x.size(3);
  std::vector<int64_t> sizes = {batch, channels};
  if (keepdim) sizes.insert(sizes.end(), {1, 1});
  at::Tensor result = empty_codes(sizes, scale, zero_point, at::MemoryFormat::Contiguous);
  std::vector<int32_t> sums(static_cast<size_t>(channels));
  const double offset = static_cast<double>(x.q_zero_point()) * static_cast<double>(pixels);
  const double factor = x.q_scale() / static_cast<double>(pixels) / scale;
  for (int64_t n = 0; n < batch; ++n) {
    sum_pixels(codes_of(from) + n * pixels * channels, pixels, channels, sums.data());
    uint8_t* out = codes_of(result) + n * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double code =
          std::nearbyint((sums[static_cast<size_t>(c)] - offset) * factor) + static_cast<double>(zero_point);
      out[c] = static_cast<uint8_t>(std::min(255.0, std::max(0.0, code)));
    }
  }
  return result;
}

}  // namespace tsquant::kernels
