#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace tsquant {

/// Calls `work` for 0 to count - 1, several at a time. Each call runs on one thread, its matrix products and
/// decompositions included, so what it computes does not depend on the number of threads: OpenBLAS cuts a matrix by its
/// threads, and the pieces round differently. Calls must write to different places.
///
/// As many threads work as LibTorch is allowed outside of all SingleThreadGuard guards.
/// @throws what `work` threw for the first call that failed
void for_each_panel(int64_t count, const std::function<void(int64_t panel)>& work);

/// How many panels of at most `size` rows make `rows` rows.
inline int64_t panels_of(int64_t rows, int64_t size) { return (rows + size - 1) / size; }

/// a b, float64, panel by panel of a's rows; a and b float32 or float64.
at::Tensor panel_product(const at::Tensor& a, const at::Tensor& b);

}  // namespace tsquant
