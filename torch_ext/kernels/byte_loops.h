#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// Parameters of the sum of two code tensors. The float operations and their order are those of
/// dequantize, dequantize, add, [relu,] quantize in LibTorch, so the codes are the same bit for bit.
struct AddParams {
  float scale_a = 1, scale_b = 1;
  float inverse_out = 1;  ///< 1.0f / float(out scale)
  int32_t zero_point_a = 0, zero_point_b = 0, zero_point = 0;
  int32_t low = 0;  ///< zero_point for a fused relu
};

void add_codes(const uint8_t* a, const uint8_t* b, int64_t n, const AddParams& p, uint8_t* out);

/// out[i] = table[x[i]]
void lookup_codes(const uint8_t* x, int64_t n, const uint8_t* table, uint8_t* out);

/// sums[c] = sum over pixels of x[pixel * channels + c]
void sum_pixels(const uint8_t* x, int64_t pixels, int64_t channels, int32_t* sums);

}  // namespace tsquant::kernels
