#include <ATen/ATen.h>

#include "tsquant/weight_only.h"
#include "weight_only/check_arguments.h"

namespace tsquant {

namespace {

/// LibTorch cannot round float16 on CPUs: it goes through float32.
template <typename Quantize>
QuantizedWeight without_halves(const at::Tensor& weight, const Quantize& quantize) {
  if (weight.scalar_type() != at::kHalf) return quantize(weight);
  QuantizedWeight result = quantize(weight.to(at::kFloat));
  result.tensor = weight.copy_(result.tensor);
  return result;
}

QuantizedWeight quantize_asym(const at::Tensor& weight, int64_t bits, double quantile, bool keep_codes) {
  const auto max_code = static_cast<double>((1 << bits) - 1);
  const auto computed_in = weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  auto low = weight.amin(1, true).to(computed_in).clamp_max_(0).mul_(quantile);
  auto high = weight.amax(1, true).to(computed_in).clamp_min_(0).mul_(quantile);
  const auto empty = (low == 0).logical_and_(high == 0);
  low.masked_fill_(empty, -1);
  high.masked_fill_(empty, 1);
  const auto scale = (high - low) / max_code;
  const auto zero_point = at::round(-low / scale);
  weight.div_(scale).round_().add_(zero_point).clamp_(0, max_code);
  if (keep_codes) return {weight, scale, zero_point};
  return {weight.sub_(zero_point).mul_(scale)};
}

QuantizedWeight quantize_sym(const at::Tensor& weight, int64_t bits, double quantile, bool full_range,
                             bool keep_codes) {
  const double half = 1 << (bits - 1);
  const double min_code = bits == 1 ? 0 : -half, max_code = bits == 1 ? 1 : half - 1;
  const auto high = weight.amax(1, true).abs(), low = weight.amin(1, true).abs();
  auto largest = at::maximum(high, low) * quantile;
  largest.masked_fill_(largest == 0, 1);
  auto scale = largest / (full_range ? half : max_code);
  if (full_range) scale = at::where(high > low, -scale, scale);
  weight.div_(scale).round_().clamp_(min_code, max_code);
  if (keep_codes) return {weight, scale};
  return {weight.mul_(scale)};
}

}  // namespace

QuantizedWeight qdq_weight_asym(const at::Tensor& weight, int64_t bits, double quantile, bool return_int,
                                bool double_quant) {
  check_matrix(weight, "weight");
  check_integer_bits(bits, "bits");
  check_quantile(quantile);
  const at::NoGradGuard no_grad;
  return without_halves(
      weight, [&](const at::Tensor& w) { return quantize_asym(w, bits, quantile, return_int || double_quant); });
}

QuantizedWeight qdq_weight_sym(const at::Tensor& weight, int64_t bits, double quantile, bool return_int,
                               bool full_range, bool double_quant) {
  check_matrix(weight, "weight");
  check_integer_bits(bits, "bits");
  check_quantile(quantile);
  const at::NoGradGuard no_grad;
  return without_halves(weight, [&](const at::Tensor& w) {
    return quantize_sym(w, bits, quantile, full_range, return_int || double_quant);
  });
}

QuantizedWeight qdq_weight_actor(const at::Tensor& weight, int64_t bits, const std::string& scheme, double quantile,
                                 const std::string& dtype, bool return_int, bool full_range, bool double_quant) {
  check_bits(bits, "bits");
  if (float_mapping().count(dtype) > 0) {
    return quantize_4bit(weight, quantile, dtype, return_int, c10::nullopt, double_quant);
  }
  if (scheme == "sym") return qdq_weight_sym(weight, bits, quantile, return_int, full_range, double_quant);
  return qdq_weight_asym(weight, bits, quantile, return_int, double_quant);
}

}  // namespace tsquant
