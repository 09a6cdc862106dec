#include <ATen/ATen.h>
#include <fmt/format.h>

#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/check_arguments.h"

namespace tsquant {

namespace {

void check_parameters(const at::Tensor& parameters, const at::Tensor& weight, int64_t groups, const char* place) {
  if (parameters.defined() && parameters.dim() == 2 && parameters.size(0) == weight.size(0) &&
      parameters.size(1) == groups) {
    return;
  }
  const auto shape = parameters.defined() ? fmt::format("[{}]", fmt::join(parameters.sizes(), ", ")) : "undefined";
  throw Error(ErrorCode::kInvalidArgument, fmt::format("the parameters of the groups are {}", shape), place,
              fmt::format("give [{}, {}], or another group_size", weight.size(0), groups));
}

/// LibTorch cannot round float16 on CPUs.
void round_scaled(const at::Tensor& weight, const at::Tensor& scale, const c10::optional<at::Tensor>& zero_point) {
  const auto values = weight.scalar_type() == at::kHalf ? weight.to(at::kFloat) : weight;
  values.div_(scale);
  if (zero_point) values.add_(*zero_point);
  values.round_();
  if (!values.is_same(weight)) weight.copy_(values);
}

}  // namespace

at::Tensor quant_weight_w_scale(const at::Tensor& weight, const at::Tensor& scale, const c10::optional<at::Tensor>& zp,
                                int64_t group_size, const std::string& dtype) {
  check_matrix(weight, "weight");
  const at::NoGradGuard no_grad;
  const int64_t size = columns_per_group(weight, group_size, "group_size");
  const int64_t groups = (weight.size(1) + size - 1) / size;
  const auto spread = [&](const at::Tensor& parameters, const char* place) {
    check_parameters(parameters, weight, groups, place);
    return by_column(parameters, weight, size);
  };
  const auto scales = spread(scale, "scale");
  if (float_mapping().count(dtype) > 0) {
    if (zp) throw Error(ErrorCode::kInvalidArgument, "4-bit levels have no zero point", "zp", "leave it out");
    quantize_4bit(weight, 1, dtype, /*return_int=*/true, scales);
  } else {
    round_scaled(weight, scales, zp ? c10::optional<at::Tensor>(spread(*zp, "zp")) : c10::nullopt);
  }
  return group_size == -1 ? weight : weight.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace tsquant
