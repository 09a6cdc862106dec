#include "algorithms/sequential_sum.h"

#include <array>

namespace tsquant {

namespace {

constexpr int64_t kLanes = 8;

/// Independent partial sums, so that the compiler may use vector registers without reordering additions.
template <typename T>
double sum_with_lanes(const T* x, int64_t count, int64_t step) {
  std::array<double, kLanes> lanes{};
  int64_t i = 0;
  if (step == 1) {
    for (; i + kLanes <= count; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane];
    }
  }
  for (; i < count; ++i) lanes[i % kLanes] += x[i * step];
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

double sum_of(const float* x, int64_t count, int64_t step) { return sum_with_lanes(x, count, step); }

double sum_of(const double* x, int64_t count, int64_t step) { return sum_with_lanes(x, count, step); }

void add_rows(double* sums, const float* x, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) sums[column] += x[row * columns + column];
  }
}

}  // namespace tsquant
