#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// What is applied to float results before they are quantized: the rows of activations.inc.
enum class Activation : uint8_t {
  kNone,
#define TSQUANT_ACTIVATION(name, formula) name,
#include "kernels/activations.inc"
#undef TSQUANT_ACTIVATION
};

/// What happens to the exact 32-bit sums. Every kernel performs these float32 operations in this order, so that all of
/// them give the same bits:
///   f = fma(float(sum), multiplier, bias)                     rounded once
///   floats:    y = min(high, max(low, f))                     a NaN stays one
///   middle:    f = min(middle_high, max(middle_low, rne(f))) * middle_multiplier
///   residual:  f = fma(float(other) - other_zero_point, other_multiplier, f)
///   codes:     q = min(high, max(low, int(rne(f)) + zero_point))
///   activated: y = activation(f), where f is a real value as for floats; no bounds
///              y = y * factor                                 when there is one
///              q = int(rne(min(highest, max(lowest, y * inverse_scale)))) + zero_point; a NaN becomes lowest
/// rne rounds to the nearest integer, ties to even. `middle` quantizes the convolution's own result before the residual
/// is added. The caller guarantees that rne(f) + zero_point fits into 32 bits.
struct Epilogue {
  const float* multiplier = nullptr;  ///< per output channel; kSlack more values may be read
  const float* bias = nullptr;        ///< the same
  uint8_t* codes = nullptr;           ///< first pixel and channel of the whole output, or null
  float* floats = nullptr;            ///< the same for float output
  const uint8_t* other = nullptr;     ///< residual codes, laid out like `codes`; may be null
  float other_multiplier = 0, other_zero_point = 0;
  bool middle = false;
  float middle_low = 0, middle_high = 0, middle_multiplier = 1;
  int32_t zero_point = 0, low = 0, high = 255;
  float float_low = 0, float_high = 0;
  Activation activation = Activation::kNone;  ///< another: codes are computed as in `activated`; no residual
  const float* factor = nullptr;              ///< per output channel as `multiplier`, or null
  float inverse_scale = 1, lowest = 0, highest = 255;
  int64_t pixel_stride = 0;  ///< elements between two pixels of the output

  static constexpr int64_t kSlack = 64;
};

}  // namespace tsquant::kernels
