#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace tsquant {

/// @param place the argument, for messages
/// @throws Error kInvalidArgument unless the tensor is a matrix of floating-point numbers on the CPU, not empty
void check_matrix(const at::Tensor& weight, const std::string& place);
/// @throws Error kInvalidArgument unless the number is finite and above 0
void check_quantile(double quantile);
/// @throws Error kInvalidArgument when it is below 1
void check_bits(int64_t bits, const std::string& place);
/// @throws Error kInvalidArgument unless it is 1 to 8
void check_integer_bits(int64_t bits, const std::string& place);

/// The columns that share a scale. @param group_size -1, or more than the columns: all
/// @throws Error kInvalidArgument for other sizes below 1
int64_t columns_per_group(const at::Tensor& weight, int64_t group_size, const std::string& place);

/// Parameters [out, groups] repeated for each column of the weight, [out, in].
at::Tensor by_column(const at::Tensor& parameters, const at::Tensor& weight, int64_t columns_per_group);

}  // namespace tsquant
