#include "kernels/dynamic_inputs.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace tsquant::kernels {
namespace {

constexpr int64_t kElementsPerTask = 1 << 15;

}  // namespace

DynamicInputs::DynamicInputs(const float* x, int64_t inputs, int64_t groups, int64_t group_size, int64_t padded)
    : inputs_(inputs),
      groups_(groups),
      padded_(padded),
      codes_(static_cast<size_t>(inputs * groups * padded)),
      scales_(static_cast<size_t>(inputs * groups) * sizeof(float)),
      sums_(static_cast<size_t>(inputs * groups) * sizeof(int32_t)) {
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / (groups * group_size));
  at::parallel_for(0, inputs, grain, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin * groups; group < end * groups; ++group) {
      int8_t* to = codes_.as<int8_t>() + group * padded;
      const DynamicGroup made = quantize_group(x + group * group_size, group_size, to);
      std::fill(to + group_size, to + padded, int8_t{0});
      scales_.as<float>()[group] = made.scale;
      sums_.as<int32_t>()[group] = made.sum;
    }
  });
}

}  // namespace tsquant::kernels
