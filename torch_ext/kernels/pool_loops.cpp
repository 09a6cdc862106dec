// Maxima, averages and sums over rows of codes. Highway compiles this file once per instruction set.
#include <algorithm>

#include "kernels/byte_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/pool_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/code_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {

template <typename T>
struct MaxBlock {
  const uint8_t* const* source;
  int64_t count;
  uint8_t* out;

  template <class D>
  HWY_INLINE void operator()(D d, int64_t i) const {
    auto most = hn::LoadU(d, reinterpret_cast<const T*>(source[0] + i));
    for (int64_t k = 1; k < count; ++k) most = hn::Max(most, hn::LoadU(d, reinterpret_cast<const T*>(source[k] + i)));
    hn::StoreU(most, d, reinterpret_cast<T*>(out + i));
  }
};

void max_target(const uint8_t* const* source, int64_t count, int64_t n, bool is_signed, uint8_t* out) {
  if (is_signed) {
    cover<int8_t>(n, MaxBlock<int8_t>{source, count, out});
  } else {
    cover<uint8_t>(n, MaxBlock<uint8_t>{source, count, out});
  }
}

template <typename T>
struct AverageBlock {
  const uint8_t* const* source;
  int64_t count;
  AverageParams p;  // a copy, because a store of bytes might change what a reference shows
  uint8_t* out;

  /// The result before rounding, in units of its scale.
  template <class D>
  HWY_INLINE hn::Vec<D> scaled(D d, int64_t i) const {
    const hn::RebindToSigned<D> di;
    const auto in_zero_point = hn::Set(di, p.in_zero_point);
    const auto scale = hn::Set(d, p.scale);
    auto sum = hn::Zero(d);
    for (int64_t k = 0; k < count; ++k) {
      sum = hn::Add(sum, rounded(load_values<T>(d, source[k] + i, in_zero_point, scale)));
    }
    for (int k = 0; k < p.divisions; ++k) sum = hn::Div(sum, hn::Set(d, p.divisor[k]));
    return hn::Mul(sum, hn::Set(d, p.inverse_out));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> upper(D d) const {
    return hn::Set(d, static_cast<float>(p.high - p.zero_point));
  }

  template <class D>
  HWY_INLINE void operator()(D d, int64_t i) const {
    const auto lower = hn::Set(d, static_cast<float>(p.low - p.zero_point));
    const hn::RebindToSigned<D> di;
    store_codes<T>(d, scaled(d, i), lower, upper(d), hn::Set(di, p.zero_point), out + i);
  }

#if TSQUANT_X86_VECTORS
  template <class D>
  HWY_INLINE void pair(D d, int64_t i) const {
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    store_code_pair<T>(d, scaled(d, i), scaled(d, i + lanes), upper(d), p.zero_point, p.low, out + i);
  }
#endif
};

void average_target(const uint8_t* const* source, int64_t count, int64_t n, const AverageParams& p, uint8_t* out) {
  if (p.is_signed) {
    cover_pairs(n, AverageBlock<int8_t>{source, count, p, out});
  } else {
    cover_pairs(n, AverageBlock<uint8_t>{source, count, p, out});
  }
}

/// Sums of up to 128 rows fit into 16 bits, signed or not (128 * 255 < 2^15, 128 * 128 = 2^14).
constexpr int64_t kNarrowRows = 128;

#if HWY_TARGET == HWY_SCALAR
template <typename T>
HWY_INLINE int64_t add_columns(const uint8_t*, int64_t, int64_t, int64_t, int32_t*) {
  return 0;
}
HWY_INLINE int64_t sum_vectors(const uint8_t*, int64_t, uint8_t, int64_t*) { return 0; }
#else
/// Whole vectors of columns; returns how many columns are done.
template <typename T>
HWY_INLINE int64_t add_columns(const uint8_t* x, int64_t x_row, int64_t rows, int64_t n, int32_t* sums) {
  const hn::ScalableTag<int16_t> d16;
  const hn::Rebind<T, decltype(d16)> dq;
  const hn::Half<decltype(d16)> half;
  const hn::Rebind<int32_t, decltype(half)> d32;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d16));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    auto sum = hn::Zero(d16);
    for (int64_t row = 0; row < rows; ++row) {
      sum = hn::Add(sum, hn::PromoteTo(d16, hn::LoadU(dq, reinterpret_cast<const T*>(x + row * x_row + i))));
    }
    const auto lower = hn::PromoteTo(d32, hn::LowerHalf(half, sum));
    const auto upper = hn::PromoteTo(d32, hn::UpperHalf(half, sum));
    hn::StoreU(hn::Add(hn::LoadU(d32, sums + i), lower), d32, sums + i);
    hn::StoreU(hn::Add(hn::LoadU(d32, sums + i + lanes / 2), upper), d32, sums + i + lanes / 2);
  }
  return i;
}

/// Adds whole vectors of (code ^ flip) to *total; returns how many codes are done.
HWY_INLINE int64_t sum_vectors(const uint8_t* x, int64_t n, uint8_t flip, int64_t* total) {
  const hn::ScalableTag<uint8_t> d;
  const hn::Repartition<uint64_t, decltype(d)> d64;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto flips = hn::Set(d, flip);
  auto sums = hn::Zero(d64);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) sums = hn::Add(sums, hn::SumsOf8(hn::Xor(hn::LoadU(d, x + i), flips)));
  *total += static_cast<int64_t>(hn::GetLane(hn::SumOfLanes(d64, sums)));
  return i;
}
#endif

template <typename T>
void add_typed(const uint8_t* x, int64_t x_row, int64_t rows, int64_t n, int32_t* sums) {
  for (int64_t first = 0; first < rows; first += kNarrowRows) {
    const int64_t count = std::min(kNarrowRows, rows - first);
    const uint8_t* from = x + first * x_row;
    const int64_t i = add_columns<T>(from, x_row, count, n, sums);
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t c = i; c < n; ++c) sums[c] += static_cast<T>(from[row * x_row + c]);
    }
  }
}

void add_rows_target(const uint8_t* x, int64_t x_row, int64_t rows, int64_t n, bool is_signed, int32_t* sums) {
  is_signed ? add_typed<int8_t>(x, x_row, rows, n, sums) : add_typed<uint8_t>(x, x_row, rows, n, sums);
}

/// Signed codes are summed as code + 128.
int64_t sum_target(const uint8_t* x, int64_t n, bool is_signed) {
  const uint8_t flip = is_signed ? 0x80 : 0;
  int64_t total = 0;
  for (int64_t i = sum_vectors(x, n, flip, &total); i < n; ++i) total += x[i] ^ flip;
  return total - int64_t{flip} * n;
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant::kernels {

HWY_EXPORT(max_target);
HWY_EXPORT(average_target);
HWY_EXPORT(add_rows_target);
HWY_EXPORT(sum_target);

void max_of_rows(const uint8_t* const* source, int64_t count, int64_t n, bool is_signed, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(max_target)(source, count, n, is_signed, out);
}

void average_of_rows(const uint8_t* const* source, int64_t count, int64_t n, const AverageParams& p, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(average_target)(source, count, n, p, out);
}

void add_rows(const uint8_t* x, int64_t x_row, int64_t rows, int64_t n, bool is_signed, int32_t* sums) {
  HWY_DYNAMIC_DISPATCH(add_rows_target)(x, x_row, rows, n, is_signed, sums);
}

int64_t sum_codes(const uint8_t* x, int64_t n, bool is_signed) {
  return HWY_DYNAMIC_DISPATCH(sum_target)(x, n, is_signed);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE
