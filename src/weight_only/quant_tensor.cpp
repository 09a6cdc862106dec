#include <ATen/ATen.h>

#include "tsquant/weight_only.h"
#include "weight_only/check_arguments.h"
#include "weight_only/double_quant.h"

namespace tsquant {

namespace {

at::Tensor joined(const at::Tensor& left, const at::Tensor& right) { return at::cat({left, right}, 1); }

/// Rounds columns [begin, end) in groups of `size`, which divides their number.
template <typename Quantize>
QuantizedWeight quantize_columns(const at::Tensor& weight, int64_t begin, int64_t end, int64_t size,
                                 const Quantize& quantize) {
  const auto columns = weight.narrow(1, begin, end - begin);
  const auto groups = columns.reshape({-1, size});
  QuantizedWeight result = quantize(groups);
  if (!groups.is_alias_of(columns)) columns.copy_(groups.view(columns.sizes()));
  if (result.scale) result.scale = result.scale->view({weight.size(0), -1});
  if (result.zero_point) result.zero_point = result.zero_point->view({weight.size(0), -1});
  return result;
}

/// (q - z) s, in float32 at least.
void dequantize_columns(const at::Tensor& weight, const at::Tensor& scale, const c10::optional<at::Tensor>& zero_point,
                        int64_t size) {
  const auto values = weight.scalar_type() == at::kDouble ? weight : weight.to(at::kFloat);
  if (zero_point) values.sub_(by_column(*zero_point, weight, size));
  values.mul_(by_column(scale, weight, size));
  if (!values.is_same(weight)) weight.copy_(values);
}

}  // namespace

QuantizedWeight quant_tensor(const at::Tensor& weight, int64_t bits, int64_t group_size, const std::string& scheme,
                             double quantile, const std::string& dtype, bool return_int, bool full_range,
                             const c10::optional<DoubleQuant>& double_quant) {
  if (bits <= 0) return {weight};
  check_matrix(weight, "weight");
  const at::NoGradGuard no_grad;
  const int64_t size = columns_per_group(weight, group_size, "group_size");
  const auto quantize = [&](const at::Tensor& groups) {
    return qdq_weight_actor(groups, bits, scheme, quantile, dtype, return_int, full_range, double_quant.has_value());
  };
  const int64_t columns = weight.size(1), whole = columns / size * size;
  QuantizedWeight result = quantize_columns(weight, 0, whole, size, quantize);
  if (whole < columns) {
    const auto rest = quantize_columns(weight, whole, columns, columns - whole, quantize);
    if (rest.scale) result.scale = joined(*result.scale, *rest.scale);
    if (rest.zero_point) result.zero_point = joined(*result.zero_point, *rest.zero_point);
  }
  result.tensor = weight;
  if (!double_quant) return result;

  const QuantizedScale scale = quantize_scale(*result.scale, *double_quant);
  if (!return_int) {
    dequantize_columns(weight, scale.values, result.zero_point, size);
    result.zero_point = c10::nullopt;
  }
  result.scale = c10::nullopt;
  if (double_quant->return_int) {
    result.scale = scale.codes;
    result.hyper_scale = scale.hyper_scale;
    result.scale_mean = scale.mean;
  } else if (return_int) {
    result.scale = scale.values;
  }
  return result;
}

}  // namespace tsquant
