// Highway compiles this file once per instruction set; HWY_DYNAMIC_DISPATCH picks one at run time.
#include "ops/quantize_kernels.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/quantize_kernels.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"

// Shared by all instruction sets, so defined in the first pass only.
#ifndef TSQUANT_QUANTIZE_BOUNDS
#define TSQUANT_QUANTIZE_BOUNDS
namespace tsquant {
struct Bounds {
  int64_t zero_point, quant_min, quant_max;
};
}  // namespace tsquant
#endif

HWY_BEFORE_NAMESPACE();
namespace tsquant {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Clamping before rounding equals clamping after it, because the bounds quant_min - zp and quant_max - zp are integers
// that float32 holds exactly; it also keeps the conversion to int32 in range. The comparison is written so that NaN
// takes the lower bound on every instruction set.
template <class D, class V, class VI>
HWY_INLINE VI codes_of(D d, V x, V inverse, V lower, V upper, VI zero_point) {
  const auto scaled = hn::Mul(x, inverse);
  const auto clamped = hn::Min(hn::IfThenElse(hn::Ge(scaled, lower), scaled, lower), upper);
  return hn::Add(hn::NearestInt(clamped), zero_point);
}

template <class D, typename T>
HWY_INLINE void quantize_block(D d, const float* x, float inverse, Bounds b, T* out) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<T, D> dq;
  const auto lower = hn::Set(d, static_cast<float>(b.quant_min - b.zero_point));
  const auto upper = hn::Set(d, static_cast<float>(b.quant_max - b.zero_point));
  const auto zero_point = hn::Set(di, static_cast<int32_t>(b.zero_point));
  const auto codes = codes_of(d, hn::LoadU(d, x), hn::Set(d, inverse), lower, upper, zero_point);
  hn::StoreU(hn::DemoteTo(dq, codes), dq, out);
}

template <typename T>
HWY_INLINE void quantize_flat(const float* x, int64_t n, float inverse, Bounds b, T* out) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (n < lanes) {
    const hn::CappedTag<float, 1> one;
    for (int64_t i = 0; i < n; ++i) quantize_block(one, x + i, inverse, b, out + i);
    return;
  }
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    quantize_block(d, x + i, inverse, b, out + i);
    quantize_block(d, x + i + lanes, inverse, b, out + i + lanes);
    quantize_block(d, x + i + 2 * lanes, inverse, b, out + i + 2 * lanes);
    quantize_block(d, x + i + 3 * lanes, inverse, b, out + i + 3 * lanes);
  }
  for (; i + lanes <= n; i += lanes) quantize_block(d, x + i, inverse, b, out + i);
  // The last, incomplete vector is computed again from the end: the same values land in the same places.
  if (i < n) quantize_block(d, x + n - lanes, inverse, b, out + n - lanes);
}

template <class D, typename T>
HWY_INLINE void dequantize_block(D d, const T* q, float scale, int32_t zero_point, float* out) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<T, D> dq;
  const auto centred = hn::Sub(hn::PromoteTo(di, hn::LoadU(dq, q)), hn::Set(di, zero_point));
  hn::StoreU(hn::Mul(hn::ConvertTo(d, centred), hn::Set(d, scale)), d, out);
}

template <typename T>
HWY_INLINE void dequantize_flat(const T* q, int64_t n, float scale, int32_t zero_point, float* out) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (n < lanes) {
    const hn::CappedTag<float, 1> one;
    for (int64_t i = 0; i < n; ++i) dequantize_block(one, q + i, scale, zero_point, out + i);
    return;
  }
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    dequantize_block(d, q + i, scale, zero_point, out + i);
    dequantize_block(d, q + i + lanes, scale, zero_point, out + i + lanes);
  }
  for (; i + lanes <= n; i += lanes) dequantize_block(d, q + i, scale, zero_point, out + i);
  if (i < n) dequantize_block(d, q + n - lanes, scale, zero_point, out + n - lanes);
}

template <class D, typename T>
HWY_INLINE void quantize_column_block(D d, const float* x, const float* inverse, const int32_t* zero_point,
                                      int32_t quant_min, int32_t quant_max, T* out) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<T, D> dq;
  const auto zp = hn::LoadU(di, zero_point);
  const auto lower = hn::ConvertTo(d, hn::Sub(hn::Set(di, quant_min), zp));
  const auto upper = hn::ConvertTo(d, hn::Sub(hn::Set(di, quant_max), zp));
  const auto codes = codes_of(d, hn::LoadU(d, x), hn::LoadU(d, inverse), lower, upper, zp);
  hn::StoreU(hn::DemoteTo(dq, codes), dq, out);
}

template <typename T>
HWY_INLINE void quantize_columns(const float* x, int64_t rows, int64_t columns, const float* inverse,
                                 const int32_t* zero_point, int32_t quant_min, int32_t quant_max, T* out) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r, x += columns, out += columns) {
    int64_t c = 0;
    for (; c + lanes <= columns; c += lanes) {
      quantize_column_block(d, x + c, inverse + c, zero_point + c, quant_min, quant_max, out + c);
    }
    for (; c < columns; ++c) {
      quantize_column_block(one, x + c, inverse + c, zero_point + c, quant_min, quant_max, out + c);
    }
  }
}

template <class D, typename T>
HWY_INLINE void dequantize_column_block(D d, const T* q, const float* scale, const int32_t* zero_point, float* out) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<T, D> dq;
  const auto centred = hn::Sub(hn::PromoteTo(di, hn::LoadU(dq, q)), hn::LoadU(di, zero_point));
  hn::StoreU(hn::Mul(hn::ConvertTo(d, centred), hn::LoadU(d, scale)), d, out);
}

template <typename T>
HWY_INLINE void dequantize_columns(const T* q, int64_t rows, int64_t columns, const float* scale,
                                   const int32_t* zero_point, float* out) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r, q += columns, out += columns) {
    int64_t c = 0;
    for (; c + lanes <= columns; c += lanes) {
      dequantize_column_block(d, q + c, scale + c, zero_point + c, out + c);
    }
    for (; c < columns; ++c) dequantize_column_block(one, q + c, scale + c, zero_point + c, out + c);
  }
}

void quantize_u8_target(const float* x, int64_t n, float inverse, Bounds b, uint8_t* out) {
  quantize_flat(x, n, inverse, b, out);
}
void quantize_s8_target(const float* x, int64_t n, float inverse, Bounds b, int8_t* out) {
  quantize_flat(x, n, inverse, b, out);
}
void dequantize_u8_target(const uint8_t* q, int64_t n, float scale, int32_t zero_point, float* out) {
  dequantize_flat(q, n, scale, zero_point, out);
}
void dequantize_s8_target(const int8_t* q, int64_t n, float scale, int32_t zero_point, float* out) {
  dequantize_flat(q, n, scale, zero_point, out);
}
void quantize_columns_u8_target(const float* x, int64_t rows, int64_t columns, const float* inverse,
                                const int32_t* zero_point, int32_t quant_min, int32_t quant_max, uint8_t* out) {
  quantize_columns(x, rows, columns, inverse, zero_point, quant_min, quant_max, out);
}
void quantize_columns_s8_target(const float* x, int64_t rows, int64_t columns, const float* inverse,
                                const int32_t* zero_point, int32_t quant_min, int32_t quant_max, int8_t* out) {
  quantize_columns(x, rows, columns, inverse, zero_point, quant_min, quant_max, out);
}
void dequantize_columns_u8_target(const uint8_t* q, int64_t rows, int64_t columns, const float* scale,
                                  const int32_t* zero_point, float* out) {
  dequantize_columns(q, rows, columns, scale, zero_point, out);
}
void dequantize_columns_s8_target(const int8_t* q, int64_t rows, int64_t columns, const float* scale,
                                  const int32_t* zero_point, float* out) {
  dequantize_columns(q, rows, columns, scale, zero_point, out);
}

/// Writes `count` interleaved groups of 3 or 4 channels from planes of codes `stride` apart.
void interleave_target(const uint8_t* planes, int64_t stride, int64_t channels, int64_t count, uint8_t* out) {
  const hn::ScalableTag<uint8_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t p = 0;
  for (; p + lanes <= count; p += lanes) {
    const auto a = hn::LoadU(d, planes + p);
    const auto b = hn::LoadU(d, planes + stride + p);
    const auto c = hn::LoadU(d, planes + 2 * stride + p);
    if (channels == 3) {
      hn::StoreInterleaved3(a, b, c, d, out + 3 * p);
    } else {
      hn::StoreInterleaved4(a, b, c, hn::LoadU(d, planes + 3 * stride + p), d, out + 4 * p);
    }
  }
  for (; p < count; ++p) {
    for (int64_t c = 0; c < channels; ++c) out[p * channels + c] = planes[c * stride + p];
  }
}

const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace tsquant
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant {

HWY_EXPORT(quantize_u8_target);
HWY_EXPORT(quantize_s8_target);
HWY_EXPORT(dequantize_u8_target);
HWY_EXPORT(dequantize_s8_target);
HWY_EXPORT(quantize_columns_u8_target);
HWY_EXPORT(quantize_columns_s8_target);
HWY_EXPORT(dequantize_columns_u8_target);
HWY_EXPORT(dequantize_columns_s8_target);
HWY_EXPORT(interleave_target);
HWY_EXPORT(target_name);

namespace {

/// Narrow rows would leave most of a vector unused. Rows that follow each other with the same columns are one wider
/// row, so the parameters are repeated until they span a few vectors.
class WideColumns {
 public:
  WideColumns(int64_t rows, int64_t columns, const float* factor, const int32_t* zero_point)
      : rows_(rows), columns_(columns), factor_(factor), zero_point_(zero_point) {
    constexpr int64_t kWide = 64;
    if (columns <= 0 || columns >= kWide || rows < 2) return;
    const int64_t repeat = std::min(rows, (kWide + columns - 1) / columns);
    for (int64_t k = 0; k < repeat; ++k) {
      factors_.insert(factors_.end(), factor, factor + columns);
      zero_points_.insert(zero_points_.end(), zero_point, zero_point + columns);
    }
    rows_ = rows / repeat;
    columns_ = columns * repeat;
    rest_ = (rows % repeat) * columns;
    factor_ = factors_.data();
    zero_point_ = zero_points_.data();
  }

  /// Calls run(offset, rows, columns, factor, zero_point) for the whole wide rows and for what is left of the last one.
  template <class Run>
  void each(const Run& run) const {
    run(int64_t{0}, rows_, columns_, factor_, zero_point_);
    if (rest_ > 0) run(rows_ * columns_, int64_t{1}, rest_, factor_, zero_point_);
  }

 private:
  int64_t rows_, columns_, rest_ = 0;
  const float* factor_;
  const int32_t* zero_point_;
  std::vector<float> factors_;
  std::vector<int32_t> zero_points_;
};

}  // namespace

void quantize_u8(const float* x, int64_t n, float inverse, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                 uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(quantize_u8_target)(x, n, inverse, {zero_point, quant_min, quant_max}, out);
}

void quantize_s8(const float* x, int64_t n, float inverse, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                 int8_t* out) {
  HWY_DYNAMIC_DISPATCH(quantize_s8_target)(x, n, inverse, {zero_point, quant_min, quant_max}, out);
}

void dequantize_u8(const uint8_t* q, int64_t n, float scale, int64_t zero_point, float* out) {
  HWY_DYNAMIC_DISPATCH(dequantize_u8_target)(q, n, scale, static_cast<int32_t>(zero_point), out);
}

void dequantize_s8(const int8_t* q, int64_t n, float scale, int64_t zero_point, float* out) {
  HWY_DYNAMIC_DISPATCH(dequantize_s8_target)(q, n, scale, static_cast<int32_t>(zero_point), out);
}

void quantize_columns_u8(const float* x, int64_t rows, int64_t columns, const float* inverse, const int32_t* zero_point,
                         int64_t quant_min, int64_t quant_max, uint8_t* out) {
  WideColumns(rows, columns, inverse, zero_point).each([&](int64_t at, int64_t r, int64_t c, auto* f, auto* z) {
    HWY_DYNAMIC_DISPATCH(quantize_columns_u8_target)(x + at, r, c, f, z, quant_min, quant_max, out + at);
  });
}

void quantize_columns_s8(const float* x, int64_t rows, int64_t columns, const float* inverse, const int32_t* zero_point,
                         int64_t quant_min, int64_t quant_max, int8_t* out) {
  WideColumns(rows, columns, inverse, zero_point).each([&](int64_t at, int64_t r, int64_t c, auto* f, auto* z) {
    HWY_DYNAMIC_DISPATCH(quantize_columns_s8_target)(x + at, r, c, f, z, quant_min, quant_max, out + at);
  });
}

void dequantize_columns_u8(const uint8_t* q, int64_t rows, int64_t columns, const float* scale,
                           const int32_t* zero_point, float* out) {
  WideColumns(rows, columns, scale, zero_point).each([&](int64_t at, int64_t r, int64_t c, auto* f, auto* z) {
    HWY_DYNAMIC_DISPATCH(dequantize_columns_u8_target)(q + at, r, c, f, z, out + at);
  });
}

void dequantize_columns_s8(const int8_t* q, int64_t rows, int64_t columns, const float* scale,
                           const int32_t* zero_point, float* out) {
  WideColumns(rows, columns, scale, zero_point).each([&](int64_t at, int64_t r, int64_t c, auto* f, auto* z) {
    HWY_DYNAMIC_DISPATCH(dequantize_columns_s8_target)(q + at, r, c, f, z, out + at);
  });
}

namespace {

template <typename T, class Quantize>
void quantize_interleave(const Quantize& quantize, const float* x, int64_t channels, int64_t plane, int64_t pixels,
                         int64_t pad, int64_t out_channels, T* out) {
  // The codes of one block of pixels stay in the first-level cache between the two steps.
  const int64_t block = std::clamp<int64_t>(8192 / std::max<int64_t>(out_channels, 1), 64, 1024);
  std::vector<T> planes(block * out_channels, static_cast<T>(pad));
  for (int64_t p = 0; p < pixels; p += block) {
    const int64_t count = std::min(block, pixels - p);
    for (int64_t c = 0; c < channels; ++c) quantize(x + c * plane + p, count, planes.data() + c * block);
    T* to = out + p * out_channels;
    if (out_channels == 3 || out_channels == 4) {
      HWY_DYNAMIC_DISPATCH(interleave_target)
      (reinterpret_cast<const uint8_t*>(planes.data()), block, out_channels, count, reinterpret_cast<uint8_t*>(to));
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < out_channels; ++c) to[i * out_channels + c] = planes[c * block + i];
    }
  }
}

}  // namespace

void quantize_interleave_u8(const float* x, int64_t channels, int64_t plane, int64_t pixels, float inverse,
                            int64_t zero_point, int64_t quant_min, int64_t quant_max, int64_t out_channels,
                            uint8_t* out) {
  quantize_interleave([&](const float* from, int64_t n,
                          uint8_t* to) { quantize_u8(from, n, inverse, zero_point, quant_min, quant_max, to); },
                      x, channels, plane, pixels, std::clamp(zero_point, quant_min, quant_max), out_channels, out);
}

void quantize_interleave_s8(const float* x, int64_t channels, int64_t plane, int64_t pixels, float inverse,
                            int64_t zero_point, int64_t quant_min, int64_t quant_max, int64_t out_channels,
                            int8_t* out) {
  quantize_interleave([&](const float* from, int64_t n,
                          int8_t* to) { quantize_s8(from, n, inverse, zero_point, quant_min, quant_max, to); },
                      x, channels, plane, pixels, std::clamp(zero_point, quant_min, quant_max), out_channels, out);
}

const char* quantize_kernel_target() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

int64_t quantize_kernel_targets() { return hwy::SupportedTargets() & (HWY_TARGETS); }

void restrict_quantize_kernel_targets(int64_t mask) {
  hwy::SetSupportedTargetsForTest(mask);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace tsquant
#endif  // HWY_ONCE
