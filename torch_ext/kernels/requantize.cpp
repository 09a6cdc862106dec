#include "kernels/requantize.h"

#include <algorithm>
#include <cmath>

#include "kernels/conv_core.h"
#include "kernels/epilogue.h"

namespace tsquant::kernels {
namespace {

int32_t code_of(double value, const ConvCall& call) {
  const double code = std::nearbyint(value / call.out_scale) + static_cast<double>(call.out_zero_point);
  return static_cast<int32_t>(std::min(255.0, std::max(0.0, code)));
}

}  // namespace

Requantize make_requantize(const ConvSpec& spec, const WeightSums& sums, const ConvCall& call) {
  // Half of the range of int32, so that a residual and the zero point can be added.
  constexpr double kLargestResult = 1e9, kLargestCode = 255, kSumLimit = 2147483648.0;
  Requantize r;
  const size_t channels = sums.plain.size(), padded = channels + Epilogue::kSlack;
  r.multiplier.assign(padded, 0.0f);
  r.bias.assign(padded, 0.0f);
  const float* scales = spec.scales.data_ptr<float>();
  const float* bias = spec.bias.defined() ? spec.bias.data_ptr<float>() : nullptr;
  for (size_t c = 0; c < channels; ++c) {
    const double unit = call.in_scale * scales[c];
    const double multiplier = call.real_results() ? unit : unit / (call.middle ? call.middle_scale : call.out_scale);
    double of_sums = bias != nullptr ? bias[c] / unit : 0.0;
    of_sums -= static_cast<double>(call.in_zero_point) * sums.plain[c];
    r.multiplier[c] = static_cast<float>(multiplier);
    r.bias[c] = static_cast<float>(of_sums * multiplier);
    const double largest = multiplier * (kLargestCode * sums.magnitude[c] + std::fabs(of_sums));
    if (!(kLargestCode * sums.magnitude[c] < kSumLimit)) r.exact = false;
    if (!call.real_results() && !(largest < kLargestResult)) r.safe = false;
  }
  r.float_low = call.clamp ? static_cast<float>(spec.clamp_min) : -std::numeric_limits<float>::infinity();
  r.float_high = call.clamp ? static_cast<float>(spec.clamp_max) : std::numeric_limits<float>::infinity();
  if (call.floats) return r;
  r.zero_point = static_cast<int32_t>(call.out_zero_point);
  if (call.activation != Activation::kNone) return r;  // its bounds are real values
  // Quantization is monotone: clamping the codes gives the same as quantizing the clamped value.
  if (call.clamp && std::isfinite(spec.clamp_min)) r.low = code_of(spec.clamp_min, call);
  if (call.clamp && std::isfinite(spec.clamp_max)) r.high = code_of(spec.clamp_max, call);
  return r;
}

}  // namespace tsquant::kernels
