#pragma once

namespace tsquant {

/// Function name of the multiply that SmoothQuant puts in front of layers. It has a row of its own in the operator
/// table, so that quantizers stand behind it and none quantizes its inputs.
inline constexpr const char* kSmoothQuantFunction = "smooth_quant";

}  // namespace tsquant
