#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tsquant::kernels {

/// The kernels compute with unsigned codes. Signed ones differ by 128 in code and zero point: flipping the highest bit
/// of every byte turns one into the other.
struct UnsignedCodes {
  at::Tensor storage;  ///< keeps `data` alive
  const uint8_t* data = nullptr;
  double scale = 1;
  int64_t zero_point = 0;
};

/// @param x dense quint8 or qint8 with one scale
UnsignedCodes unsigned_codes(const at::Tensor& x);

/// What to add to a zero point of `type` to get that of the unsigned codes: 0 or 128.
int64_t unsigned_shift(at::ScalarType type);

/// Turns unsigned codes that a kernel wrote into `result` into those of its type.
void finish_codes(at::Tensor& result);

/// Throws unless `x` is quint8 or qint8 with one scale that is positive and finite and a zero point inside the type.
void check_integer_codes(const at::Tensor& x, const char* what);

/// Floats to codes, the same on every processor; see ops/quantize_kernels.h.
at::Tensor quantize_floats(const at::Tensor& x, double scale, int64_t zero_point, at::ScalarType type);

}  // namespace tsquant::kernels
