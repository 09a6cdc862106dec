#include <ATen/ATen.h>
#include <fmt/format.h>

#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/check_arguments.h"

namespace tsquant {

namespace {

/// For each x the entry of `results` for its level: the first whose middle to the next is not below x; 0 for NaN.
///
/// The codec of numerics/ compares in float32. Here the middles are rounded to the dtype of x, in which a bfloat16 may
/// lie on a middle that it does not quite reach.
template <typename Number>
at::Tensor look_up(const at::Tensor& x, const std::vector<double>& levels, const std::vector<Number>& results) {
  std::vector<double> middles;
  for (size_t i = 1; i < levels.size(); ++i) middles.push_back((levels[i - 1] + levels[i]) / 2);
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto limits = at::tensor(middles, at::kDouble).to(x.scalar_type()).to(x.device(), wide);
  const auto index = at::bucketize(x.to(wide).contiguous(), limits, /*out_int32=*/true);
  const auto table = at::tensor(results, at::kDouble).to(x.device(), x.scalar_type());
  return table.index_select(0, index.flatten()).view_as(index).masked_fill_(x.isnan(), 0);
}

void check_scale(const at::Tensor& scale, const at::Tensor& tensor) {
  if (scale.defined() && scale.is_floating_point() && at::is_expandable_to(scale.sizes(), tensor.sizes())) return;
  throw Error(ErrorCode::kInvalidArgument, "the scale does not broadcast over the tensor", "scale",
              fmt::format("give a floating-point tensor [{}, 1]", tensor.size(0)));
}

}  // namespace

QuantizedWeight quantize_4bit(const at::Tensor& tensor, double quantile, const std::string& dtype, bool return_int,
                              const c10::optional<at::Tensor>& scale, bool double_quant) {
  const auto& levels = float_mapping(dtype);
  check_matrix(tensor, "tensor");
  check_quantile(quantile);
  if (scale) check_scale(*scale, tensor);
  const at::NoGradGuard no_grad;
  const auto s = scale ? scale->to(tensor.device()) : tensor.abs().amax(1, true) * quantile / levels.back();
  tensor.div_(s);
  tensor.copy_(return_int ? look_up(tensor, levels, int_mapping(dtype)) : look_up(tensor, levels, levels));
  if (return_int || double_quant) return {tensor, s};
  return {tensor.mul_(s)};
}

}  // namespace tsquant
