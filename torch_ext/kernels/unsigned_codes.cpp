#include "kernels/unsigned_codes.h"

#include <ATen/ATen.h>

#include "kernels/code_tensor.h"
#include "ops/quantize_kernels.h"

namespace tsquant::kernels {
namespace {

void flip(const uint8_t* from, int64_t n, uint8_t* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] ^ 0x80;
}

}  // namespace

int64_t unsigned_shift(at::ScalarType type) { return type == at::kQInt8 ? 128 : 0; }

UnsignedCodes unsigned_codes(const at::Tensor& x) {
  UnsignedCodes codes{x, static_cast<const uint8_t*>(x.data_ptr()), x.q_scale(),
                      x.q_zero_point() + unsigned_shift(x.scalar_type())};
  if (x.scalar_type() == at::kQInt8) {
    codes.storage = at::empty({x.numel()}, at::TensorOptions(at::kByte));
    flip(codes.data, x.numel(), codes.storage.data_ptr<uint8_t>());
    codes.data = codes.storage.data_ptr<uint8_t>();
  }
  return codes;
}

void finish_codes(at::Tensor& result) {
  if (result.scalar_type() != at::kQInt8) return;
  auto* codes = static_cast<uint8_t*>(result.data_ptr());
  flip(codes, result.numel(), codes);
}

void check_integer_codes(const at::Tensor& x, const char* what) {
  check_codes_of_either_type(x, what);
  check_target(x.q_scale(), x.q_zero_point(), x.scalar_type());
}

at::Tensor quantize_floats(const at::Tensor& x, double scale, int64_t zero_point, at::ScalarType type) {
  const auto format = x.suggest_memory_format();
  const at::Tensor from = x.contiguous(format);
  at::Tensor result = at::_empty_affine_quantized(x.sizes(), at::TensorOptions(type), scale, zero_point, format);
  const float inverse = inverse_scale(scale);
  if (type == at::kQInt8) {
    quantize_s8(from.data_ptr<float>(), from.numel(), inverse, zero_point, -128, 127,
                static_cast<int8_t*>(result.data_ptr()));
  } else {
    quantize_u8(from.data_ptr<float>(), from.numel(), inverse, zero_point, 0, 255,
                static_cast<uint8_t*>(result.data_ptr()));
  }
  return result;
}

}  // namespace tsquant::kernels
