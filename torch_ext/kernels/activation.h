#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/epilogue.h"

namespace tsquant::kernels {

/// Throws c10::Error for a name that activations.inc does not have.
Activation activation_named(const std::string& name);

/// All names of activations.inc.
const std::vector<std::string>& activation_names();

/// The plain C++ form of the formulas.
float activate(Activation activation, float x);

/// The code of an activated result; see epilogue.h.
inline uint8_t activated_code(float f, int64_t channel, const Epilogue& e) {
  f = activate(e.activation, f);
  if (e.factor != nullptr) f *= e.factor[channel];
  f *= e.inverse_scale;
  // A NaN becomes the lowest code.
  if (!(f >= e.lowest)) f = e.lowest;
  if (f > e.highest) f = e.highest;
  return static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(f)) + e.zero_point);
}

}  // namespace tsquant::kernels
