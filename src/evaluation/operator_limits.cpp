#include "evaluation/operator_limits.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lowering/engines/lowering_context.h"

namespace tsquant {

namespace {

bool is_known(const OperatorTime& time) {
  if (only_moves(time.name) || time.calls <= 0) return false;
  static constexpr std::array kUnknown = {"embedding", "index", "gather", "::lstm", "::gru", "::rnn"};
  return std::none_of(kUnknown.begin(), kUnknown.end(),
                      [&](const char* part) { return time.name.find(part) != std::string::npos; });
}

/// Compressed weights multiply floats unless their inputs become codes, too.
bool multiplies_codes(const OperatorTime& time) {
  return time.is_quantized && time.name != "tsquant::linear_compressed" && time.name != "tsquant::pixel_conv";
}

}  // namespace

double OperatorLimits::limit_ms(const OperatorTime& time) {
  if (!is_known(time)) return -1;
  const double products = 1e3 * (time.work.multiply_adds + time.work.channel_multiply_adds);
  const double bytes = 1e6 * time.megabytes, rate = products > 0 ? multiply_rate(multiplies_codes(time)) : 0;
  double seconds = bytes > 0 ? bytes / read_rate(bytes / time.calls) : 0;
  if (rate > 0) seconds = std::max(seconds, products / rate);
  return seconds * 1e3 / threads_;
}

double OperatorLimits::multiply_rate(bool codes) {
  const auto [found, added] = multiply_rates_.emplace(codes, 0);
  if (added) found->second = call_operator("tsquant::multiply_rate", {codes}).toDouble();
  return found->second;
}

double OperatorLimits::read_rate(double bytes) {
  const int exponent = static_cast<int>(std::ceil(std::log2(std::max(bytes, 64.0))));
  const auto [found, added] = read_rates_.emplace(exponent, 0);
  if (added) found->second = call_operator("tsquant::read_rate", {int64_t{1} << exponent}).toDouble();
  return found->second;
}

}  // namespace tsquant
