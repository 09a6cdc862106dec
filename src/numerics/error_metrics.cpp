#include "numerics/error_metrics.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "tsquant/error.h"

namespace tsquant {

namespace {

at::Tensor as_floats(const at::Tensor& x) {
  const auto plain = x.is_quantized() ? x.dequantize() : x;
  return plain.detach().to(at::kFloat).contiguous();
}

/// Keeps NaN, unlike std::max.
double max_keep_nan(double a, double b) { return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b); }

ErrorMetrics measure(const at::Tensor& reference, const at::Tensor& value) {
  ErrorMetrics metrics;
  metrics.add(reference, value);
  return metrics;
}

}  // namespace

void ErrorMetrics::add(const at::Tensor& reference, const at::Tensor& value) {
  if (reference.sizes() != value.sizes()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("cannot compare tensors with {} and {} elements and different shapes", reference.numel(),
                            value.numel()));
  }
  const auto a = as_floats(reference), b = as_floats(value);
  const float* r = a.data_ptr<float>();
  const float* v = b.data_ptr<float>();
  double signal = 0, noise = 0, dot = 0, power = 0, largest = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = r[i], y = v[i], e = x - y;
    signal += x * x;
    power += y * y;
    dot += x * y;
    noise += e * e;
    largest = std::fabs(e) > largest ? std::fabs(e) : largest;
  }
  signal_ += signal;
  noise_ += noise;
  dot_ += dot;
  power_ += power;
  max_abs_error_ = max_keep_nan(max_abs_error_, std::isnan(noise) ? NAN : largest);
  count_ += a.numel();
}

void ErrorMetrics::merge(const ErrorMetrics& other) {
  signal_ += other.signal_;
  noise_ += other.noise_;
  dot_ += other.dot_;
  power_ += other.power_;
  max_abs_error_ = max_keep_nan(max_abs_error_, other.max_abs_error_);
  count_ += other.count_;
}

double ErrorMetrics::sqnr_db() const {
  if (noise_ == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(signal_ / noise_);
}

double ErrorMetrics::cosine() const {
  if (signal_ == 0 && power_ == 0) return 1;
  if (signal_ == 0 || power_ == 0) return 0;
  return dot_ / (std::sqrt(signal_) * std::sqrt(power_));
}

double ErrorMetrics::mean_squared_error() const { return count_ == 0 ? 0 : noise_ / static_cast<double>(count_); }

double sqnr_db(const at::Tensor& reference, const at::Tensor& value) { return measure(reference, value).sqnr_db(); }
double cosine(const at::Tensor& reference, const at::Tensor& value) { return measure(reference, value).cosine(); }
double max_abs_error(const at::Tensor& reference, const at::Tensor& value) {
  return measure(reference, value).max_abs_error();
}

}  // namespace tsquant
