#pragma once

#include <cstdint>
#include <vector>

#include "kernels/conv_spec.h"

namespace tsquant::kernels {

struct ConvCall;

/// From 32-bit sums to codes or floats; see Epilogue for the formula. One value per output channel and some slack.
struct Requantize {
  std::vector<float> multiplier;
  std::vector<float> bias;
  int32_t zero_point = 0, low = 0, high = 255;
  float float_low = 0, float_high = 0;
  bool exact = true;  ///< no sum of products can leave int32
  bool safe = true;   ///< no result leaves the range in which the conversion from float to int32 is defined
};

/// multiplier = s_in * s_w / s_out and bias = (b - s_in * s_w * zero_point * sum(w)) / s_out, per output channel;
/// s_out is 1 for float results and those that are activated. Padding is filled with the input's zero point, so that
/// sum(w) runs over all taps.
Requantize make_requantize(const ConvSpec& spec, const WeightSums& sums, const ConvCall& call);

}  // namespace tsquant::kernels
