// The inner loops of quantization and dequantization: plain pointers, one thread, SIMD chosen at run time.
//
// Arithmetic, found by comparing with LibTorch's own operators, and the same bit for bit for every finite x with
// |x / scale| < 2^63:
//   inverse  = 1.0f / float(scale)
//   quantize = clamp(rint(x * inverse) + zero_point, quant_min, quant_max)   all float32, ties to even
//   dequantize = (q - zero_point) * float(scale)                             one float32 rounding
// NaN becomes quant_min, as in LibTorch. Values too large for LibTorch's integer conversion, +inf included, become
// quant_max here; LibTorch's overflowing conversion turns them into its smallest code.
#pragma once

#include <cstdint>

namespace tsquant {

/// The factor that quantize_* take.
inline float inverse_scale(double scale) { return 1.0f / static_cast<float>(scale); }

/// One scale for n values. |zero_point| <= 2^22; quant_min <= quant_max, both inside the type of `out`.
/// x and out need no alignment and must not overlap.
void quantize_u8(const float* x, int64_t n, float inverse, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                 uint8_t* out);
void quantize_s8(const float* x, int64_t n, float inverse, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                 int8_t* out);

void dequantize_u8(const uint8_t* q, int64_t n, float scale, int64_t zero_point, float* out);
void dequantize_s8(const int8_t* q, int64_t n, float scale, int64_t zero_point, float* out);

/// One scale per column: x is [rows, columns] with the columns dense, as channels-last data or a channel axis that
/// comes last. `inverse` and `zero_point` have `columns` elements.
void quantize_columns_u8(const float* x, int64_t rows, int64_t columns, const float* inverse, const int32_t* zero_point,
                         int64_t quant_min, int64_t quant_max, uint8_t* out);
void quantize_columns_s8(const float* x, int64_t rows, int64_t columns, const float* inverse, const int32_t* zero_point,
                         int64_t quant_min, int64_t quant_max, int8_t* out);
void dequantize_columns_u8(const uint8_t* q, int64_t rows, int64_t columns, const float* scale,
                           const int32_t* zero_point, float* out);
void dequantize_columns_s8(const int8_t* q, int64_t rows, int64_t columns, const float* scale,
                           const int32_t* zero_point, float* out);

/// Planar floats to interleaved codes (NCHW to NHWC for one image): reads x[c * plane + p] for c < channels and
/// p < pixels, writes out[p * out_channels + c]. `plane` >= pixels is the distance between channels, so a caller can
/// share an image between threads by pixel ranges. out_channels >= channels; the extra channels get the zero point,
/// which stands for the value 0.
void quantize_interleave_u8(const float* x, int64_t channels, int64_t plane, int64_t pixels, float inverse,
                            int64_t zero_point, int64_t quant_min, int64_t quant_max, int64_t out_channels,
                            uint8_t* out);
void quantize_interleave_s8(const float* x, int64_t channels, int64_t plane, int64_t pixels, float inverse,
                            int64_t zero_point, int64_t quant_min, int64_t quant_max, int64_t out_channels,
                            int8_t* out);

/// Name of the instruction set that this machine gets ("AVX3", "AVX2", "SSE4", ...).
const char* quantize_kernel_target();
/// The instruction sets compiled here that this machine can run, as a Highway mask, and a way to choose among them (0:
/// the best again). For tests and benchmarks.
int64_t quantize_kernel_targets();
void restrict_quantize_kernel_targets(int64_t mask);

}  // namespace tsquant
