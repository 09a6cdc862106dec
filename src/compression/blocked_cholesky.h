#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant {

/// Puts L with A = L L^T in the place of a symmetric A's lower triangle; what is above is left alone. Blocks are
/// computed by several threads, and their bits are the same for any number.
/// @param a float64 [n, n]
/// @returns false when A is not positive definite; it then holds nothing of use
bool factorize_cholesky(at::Tensor& a);

/// L^-1 as float32 [n, n], 0 above the diagonal. @param lower what factorize_cholesky gives
at::Tensor inverse_of_lower(const at::Tensor& lower);

}  // namespace tsquant
