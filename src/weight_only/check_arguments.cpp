#include "weight_only/check_arguments.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "tsquant/error.h"

namespace tsquant {

void check_matrix(const at::Tensor& weight, const std::string& place) {
  if (!weight.defined()) throw Error(ErrorCode::kInvalidArgument, "the tensor is undefined", place);
  if (!weight.device().is_cpu()) {
    throw Error(ErrorCode::kInvalidArgument, "the tensor is on " + weight.device().str(), place, "move it to the CPU");
  }
  if (weight.dim() != 2 || weight.numel() == 0 || !weight.is_floating_point() || weight.layout() != at::kStrided) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a weight is a dense matrix of floating-point numbers, but this is {} {}",
                            toString(weight.scalar_type()), fmt::format("[{}]", fmt::join(weight.sizes(), ", "))),
                place, "give it as [out_features, in_features]; for a convolution weight.flatten(1) is a view of it");
  }
}

void check_quantile(double quantile) {
  if (std::isfinite(quantile) && quantile > 0) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("quantile is {}", quantile), "quantile",
              "give a factor of the range above 0; 1 is all of it");
}

void check_bits(int64_t bits, const std::string& place) {
  if (bits >= 1) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("codes of {} bits", bits), place, "give at least 1");
}

void check_integer_bits(int64_t bits, const std::string& place) {
  if (bits >= 1 && bits <= 8) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("integers of {} bits", bits), place, "choose 1 to 8");
}

int64_t columns_per_group(const at::Tensor& weight, int64_t group_size, const std::string& place) {
  if (group_size < 1 && group_size != -1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a group size of {}", group_size), place,
                "give at least 1, or -1 for whole rows");
  }
  const int64_t columns = weight.size(1);
  return group_size == -1 || group_size > columns ? columns : group_size;
}

at::Tensor by_column(const at::Tensor& parameters, const at::Tensor& weight, int64_t columns_per_group) {
  if (parameters.size(1) == 1) return parameters;
  return parameters.repeat_interleave(columns_per_group, 1).narrow(1, 0, weight.size(1));
}

}  // namespace tsquant
