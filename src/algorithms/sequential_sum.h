#pragma once

#include <cstdint>

namespace tsquant {

/// Sums whose order of additions is fixed: the same bits for every number of threads. LibTorch splits a sum over all
/// elements among its threads.

/// x[0] + x[step] + ... over `count` values.
double sum_of(const float* x, int64_t count, int64_t step = 1);
double sum_of(const double* x, int64_t count, int64_t step = 1);

/// Adds each of `rows` rows of `columns` values to `sums`.
void add_rows(double* sums, const float* x, int64_t rows, int64_t columns);

}  // namespace tsquant
