#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/WrapDimUtils.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/byte_loops.h"
#include "kernels/code_tensor.h"
#include "kernels/pooling.h"
#include "ops/quantize_kernels.h"

namespace tsquant::kernels {
namespace {

std::vector<bool> reduced_dims(const at::Tensor& x, at::IntArrayRef dims) {
  std::vector<bool> reduced(static_cast<size_t>(x.dim()), dims.empty());
  for (const int64_t d : dims) {
    const auto at = static_cast<size_t>(at::maybe_wrap_dim(d, x.dim()));
    if (x.dim() == 0) continue;
    TORCH_CHECK(!reduced[at], "tsquant::mean: dimension ", d, " appears twice in ", dims);
    reduced[at] = true;
  }
  return reduced;
}

/// Memory seen as [outer, reduced, inner].
struct Layout {
  at::Tensor bytes;  ///< dense
  int64_t outer = 1, reduced = 1, inner = 1;
};

/// The reduced dimensions must be neighbours in memory; otherwise the codes are copied so that they come last.
Layout layout_of(const at::Tensor& x, const std::vector<bool>& reduced) {
  Layout layout;
  layout.bytes = dense_bytes(bytes_of(x));
  auto order = memory_order(layout.bytes);
  const auto is_reduced = [&](int64_t d) { return static_cast<bool>(reduced[static_cast<size_t>(d)]); };
  order.erase(std::remove_if(order.begin(), order.end(), [&](int64_t d) { return x.size(d) == 1; }), order.end());
  const auto first = std::find_if(order.begin(), order.end(), is_reduced);
  const auto last = std::find_if_not(first, order.end(), is_reduced);
  if (std::any_of(last, order.end(), is_reduced)) {
    auto wanted = memory_order(layout.bytes);
    std::stable_partition(wanted.begin(), wanted.end(), [&](int64_t d) { return !is_reduced(d); });
    layout.bytes = layout.bytes.permute(wanted).contiguous();
    for (const int64_t d : wanted) (is_reduced(d) ? layout.reduced : layout.outer) *= x.size(d);
    return layout;
  }
  for (auto d = order.begin(); d != order.end(); ++d) {
    (d < first ? layout.outer : d < last ? layout.reduced : layout.inner) *= x.size(*d);
  }
  return layout;
}

/// Turns sums of `count` codes into codes of their mean.
struct Averager {
  using Result = uint8_t;
  double offset, factor;
  int64_t zero_point;
  int32_t low, high;

  uint8_t operator()(int64_t sum) const {
    const double code = std::nearbyint((static_cast<double>(sum) - offset) * factor) + static_cast<double>(zero_point);
    return static_cast<uint8_t>(static_cast<int32_t>(std::min<double>(high, std::max<double>(low, code))));
  }
};

/// Turns sums of codes into the float of their mean.
struct FloatAverager {
  using Result = float;
  double offset, factor;

  float operator()(int64_t sum) const { return static_cast<float>((static_cast<double>(sum) - offset) * factor); }
};

/// Means of columns [first, first + n) of one block [reduced, inner].
template <class Average>
void average_columns(const uint8_t* x, const Layout& l, int64_t n, bool with_sign, const Average& average,
                     typename Average::Result* out) {
  // 2^31 / 255, so that 32-bit sums cannot overflow.
  constexpr int64_t kMostRows = int64_t{1} << 23;
  std::vector<int32_t> sums(static_cast<size_t>(n));
  std::vector<int64_t> totals(static_cast<size_t>(n));
  for (int64_t row = 0; row < l.reduced; row += kMostRows) {
    std::fill(sums.begin(), sums.end(), 0);
    add_rows(x + row * l.inner, l.inner, std::min(kMostRows, l.reduced - row), n, with_sign, sums.data());
    for (size_t c = 0; c < sums.size(); ++c) totals[c] += sums[c];
  }
  for (size_t c = 0; c < totals.size(); ++c) out[c] = average(totals[c]);
}

template <class Average>
void average(const Layout& l, bool with_sign, const Average& average, typename Average::Result* out) {
  const uint8_t* x = codes_of(l.bytes);
  if (l.inner == 1) {
    at::parallel_for(0, l.outer, std::max<int64_t>(1, 8 * kGrain / l.reduced), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = average(sum_codes(x + i * l.reduced, l.reduced, with_sign));
    });
    return;
  }
  constexpr int64_t kColumns = 512;
  const int64_t blocks = (l.inner + kColumns - 1) / kColumns, work = l.reduced * std::min(l.inner, kColumns);
  at::parallel_for(0, l.outer * blocks, std::max<int64_t>(1, 8 * kGrain / work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % blocks * kColumns, at = i / blocks;
      average_columns(x + at * l.reduced * l.inner + first, l, std::min(kColumns, l.inner - first), with_sign, average,
                      out + at * l.inner + first);
    }
  });
}

/// Where the means go: the kept dimensions stay in the order that they have in memory.
struct Means {
  std::vector<int64_t> sizes, strides;
};
Means means_of(const at::Tensor& x, const std::vector<bool>& reduced, bool keepdim) {
  const at::Tensor dense = dense_bytes(bytes_of(x));
  auto sizes = x.sizes().vec();
  for (size_t d = 0; d < sizes.size(); ++d) sizes[d] = reduced[d] ? 1 : sizes[d];
  // Where all that is kept lies in order anyway, the strides are those of the input's named layout.
  auto strides = x.suggest_memory_format() == at::MemoryFormat::Contiguous ? dense_strides(sizes, memory_order(dense))
                                                                           : strides_like(dense, sizes);
  if (!keepdim) {
    std::vector<int64_t> kept_sizes, kept_strides;
    for (size_t d = 0; d < sizes.size(); ++d) {
      if (reduced[d]) continue;
      kept_sizes.push_back(sizes[d]);
      kept_strides.push_back(strides[d]);
    }
    sizes = kept_sizes;
    strides = kept_strides;
  }
  return {sizes, strides};
}

}  // namespace

at::Tensor mean(const at::Tensor& x, at::IntArrayRef dims, bool keepdim, double scale, int64_t zero_point) {
  const auto dtype = x.scalar_type();
  check_codes_of_either_type(x, "input of mean");
  check_target(scale, zero_point, dtype);
  const auto reduced = reduced_dims(x, dims);
  const Means means = means_of(x, reduced, keepdim);
  at::Tensor result = empty_codes(means.sizes, means.strides, dtype, scale, zero_point);
  if (result.numel() == 0) return result;
  if (x.numel() == 0) {
    // The mean of nothing is NaN, which becomes the lowest code.
    bytes_of(result).fill_(static_cast<uint8_t>(lowest_code(dtype)));
    return result;
  }
  const Layout layout = layout_of(x, reduced);
  const auto count = static_cast<double>(layout.reduced);
  Averager averager;
  averager.offset = static_cast<double>(x.q_zero_point()) * count;
  // The factors of the reference, which are single precision.
  averager.factor = static_cast<double>(static_cast<float>(x.q_scale())) * inverse_scale(scale) / count;
  averager.zero_point = zero_point;
  averager.low = lowest_code(dtype);
  averager.high = highest_code(dtype);
  average(layout, is_signed(dtype), averager, codes_of(result));
  return result;
}

at::Tensor mean_float(const at::Tensor& x, at::IntArrayRef dims, bool keepdim) {
  check_codes_of_either_type(x, "input of mean_float");
  const auto reduced = reduced_dims(x, dims);
  const Means means = means_of(x, reduced, keepdim);
  at::Tensor result = at::empty_strided(means.sizes, means.strides, at::kFloat);
  if (result.numel() == 0) return result;
  if (x.numel() == 0) return result.fill_(std::numeric_limits<float>::quiet_NaN());
  const Layout layout = layout_of(x, reduced);
  const auto count = static_cast<double>(layout.reduced);
  const FloatAverager averager = {static_cast<double>(x.q_zero_point()) * count,
                                  static_cast<double>(static_cast<float>(x.q_scale())) / count};
  average(layout, is_signed(x.scalar_type()), averager, result.data_ptr<float>());
  return result;
}

}  // namespace tsquant::kernels
